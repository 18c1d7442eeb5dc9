//! Where the group's coordinator is, and calls to it.
//!
//! Owned by the group module. Always true: at most one broker is remembered, and it is forgotten as
//! soon as it says that it is not the coordinator, or cannot be reached.
//!
//! FindCoordinator 0 to 4: 1 adds the kind of key, 3 is flexible, 4 takes several keys (one is
//! sent). Later versions only concern other kinds.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest};
use kafka_protocol::protocol::StrBytes;

use super::error::Error;
use super::state::Failure;
use crate::broker::{Answer, Broker, Lane};
use crate::client::Client;
use crate::clock;
use crate::connection::{Api, Connection};
use crate::error::{self, Subject};
use crate::error_code::ErrorCode;
use crate::name::BrokerId;

/// The kind of key that is a consumer group.
const GROUP: i8 = 0;

/// How long a join waits before it looks whether the coordinator is another by now, and how often
/// it looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Finds the coordinator and remembers it.
#[derive(Debug)]
pub(crate) struct Coordinator {
    client: Client,
    group_id: Arc<str>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    broker: Option<BrokerId>,
    /// For joins alone: they may take the whole rebalance time-out, and two members of one group
    /// may share a client, so not even another member's join may stand before ours.
    joining: Option<(BrokerId, Connection)>,
}

impl Coordinator {
    pub(crate) fn new(client: Client, group_id: Arc<str>) -> Self {
        Self { client, group_id, known: Mutex::default() }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn group_id(&self) -> &Arc<str> {
        &self.group_id
    }

    /// Sends a quick request on the coordinator's lane. Finding the coordinator and reaching it are
    /// part of the time: whoever has to know by then must not wait for a broker that hangs.
    pub(crate) async fn call<Q: Api>(
        &self,
        versions: RangeInclusive<i16>,
        timeout: Duration,
        build: impl FnOnce(i16) -> Q,
    ) -> Result<Answer<Q::Response>, error::Error> {
        let asked = async {
            let broker = self.broker().await?;
            broker.call_within(Lane::Coordinator, versions, timeout, build).await
        };
        let answer = tokio::time::timeout(timeout, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(self.unanswered(<Q as Api>::KEY, timeout)));
        answer.inspect_err(|_| self.forget())
    }

    /// Sends a request that waits for the other members, on a connection of its own. It may have to
    /// wait for long, so it is given up when the group has another coordinator: one that hangs, or
    /// is cut off from the others, never answers.
    pub(crate) async fn call_joining<Q: Api>(
        &self,
        versions: RangeInclusive<i16>,
        timeout: Duration,
        build: impl FnOnce(i16) -> Q,
    ) -> Result<Answer<Q::Response>, error::Error> {
        let (id, connection) = self.joining_connection().await?;
        let api = <Q as Api>::KEY;
        let version = connection.version(api, versions)?;
        let request = build(version);
        let answer = tokio::select! {
            answer = connection.call(version, &request, timeout) => answer,
            () = self.moved_from(id) => Err(error::Error::Closed {
                api,
                address: connection.address().clone(),
                reason: "the group has another coordinator".into(),
                written: true,
            }),
        };
        // The broker may still hold the request: what came behind it would wait with it.
        let body = answer.inspect_err(|_| {
            self.forget();
            self.close_joining();
        })?;
        Ok(Answer { version, body })
    }

    /// Closes the connection for joins. A later join opens a new one: an old idle one may have died
    /// unnoticed, and a join waits long before it gives up.
    pub(crate) fn close_joining(&self) {
        if let Some((_, connection)) = self.known().joining.take() {
            connection.close("the join is over");
        }
    }

    /// Looks for the coordinator anew at the next call.
    pub(crate) fn forget(&self) {
        self.known().broker = None;
    }

    /// Forgets the coordinator if `code` says that it is another or in trouble; hands the code
    /// back.
    pub(crate) fn judge(&self, code: ErrorCode) -> Result<(), Failure> {
        if matches!(
            code,
            ErrorCode::NOT_COORDINATOR
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::REQUEST_TIMED_OUT
        ) {
            self.forget();
        }
        code.check().map_err(Failure::Code)
    }

    /// What an error of a call means for a member.
    pub(crate) fn failure(&self, error: error::Error) -> Failure {
        match error {
            error::Error::Broker { code, .. } => Failure::Code(code),
            // One broker that answers nonsense, or is of another cluster, may be gone tomorrow; the
            // client closed the connection.
            error::Error::Decode { .. }
            | error::Error::NotKafka { .. }
            | error::Error::ClusterChanged { .. } => Failure::Unreachable,
            error if error.is_retryable() => Failure::Unreachable,
            source => {
                let group_id = Arc::clone(&self.group_id);
                Failure::Fatal(Error::Request { group_id, source })
            }
        }
    }

    /// Returns when brokers say twice in a row that the coordinator is another one than `joined`:
    /// one that has not heard of a change yet may say so once.
    async fn moved_from(&self, joined: BrokerId) {
        let mut was_another = false;
        loop {
            clock::sleep(LOOK_AGAIN).await;
            // No answer says nothing.
            if let Ok(Ok(id)) = tokio::time::timeout(LOOK_AGAIN, self.find()).await {
                if id != joined && was_another {
                    return;
                }
                was_another = id != joined;
            }
        }
    }

    /// Nobody answered in time: not the coordinator, nor, while it is not known, anybody who knows.
    fn unanswered(&self, api: ApiKey, timeout: Duration) -> error::Error {
        let known = self.known().broker.and_then(|id| self.client.broker(id).ok());
        let address = match known {
            Some(broker) => broker.advertised().clone(),
            None => {
                let first = self.client.config().bootstrap.first().cloned();
                first.expect("invariant: a client was reached by one of its bootstrap servers")
            }
        };
        error::Error::Timeout { api, address, timeout, written: true }
    }

    async fn joining_connection(&self) -> Result<(BrokerId, Connection), error::Error> {
        let broker = self.broker().await?;
        let id = broker.id().unwrap_or(BrokerId(-1));
        let open = self.known().joining.clone();
        if let Some((_, connection)) =
            open.filter(|(of, connection)| *of == id && !connection.is_closed())
        {
            return Ok((id, connection));
        }
        let connection = broker.dial().await.inspect_err(|_| self.forget())?;
        self.known().joining = Some((id, connection.clone()));
        Ok((id, connection))
    }

    async fn broker(&self) -> Result<Broker, error::Error> {
        let known = self.known().broker;
        let id = match known {
            Some(id) => id,
            None => self.find().await?,
        };
        let broker = match self.client.broker(id) {
            // A coordinator newer than our view of the cluster.
            Err(error::Error::UnknownBroker { .. }) => {
                let seen = self.client.view().generation;
                self.client.refresh(seen).await?;
                self.client.broker(id)
            }
            found => found,
        };
        let broker = broker.inspect_err(|_| self.forget())?;
        self.known().broker = Some(id);
        Ok(broker)
    }

    async fn find(&self) -> Result<BrokerId, error::Error> {
        let broker = self.client.any_broker().await?;
        let key = StrBytes::from_string(self.group_id.to_string());
        let answer = broker
            .call(Lane::Control, 0..=4, |version| {
                let request = FindCoordinatorRequest::default();
                match version {
                    0 => request.with_key(key),
                    1..=3 => request.with_key(key).with_key_type(GROUP),
                    _ => request.with_coordinator_keys(vec![key]).with_key_type(GROUP),
                }
            })
            .await?;
        let (code, id) = match answer.body.coordinators.first() {
            Some(found) if answer.version >= 4 => (found.error_code, found.node_id),
            _ if answer.version < 4 => (answer.body.error_code, answer.body.node_id),
            _ => (ErrorCode::COORDINATOR_NOT_AVAILABLE.0, answer.body.node_id),
        };
        let refused = |code| {
            let subject = Subject::Group(Arc::clone(&self.group_id));
            error::Error::broker(ApiKey::FindCoordinator, subject, code)
        };
        ErrorCode(code).check().map_err(refused)?;
        tracing::debug!(group_id = %self.group_id, broker = id.0, "found the group coordinator");
        Ok(BrokerId(id.0))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
