//! The producer's task: moves what the state says, and tells it what came. Decides nothing.
//!
//! Bounds: per broker one connection and `in_flight_per_broker` requests; one question for metadata
//! and one for an identity at a time.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kafka_protocol::messages::{ApiKey, InitProducerIdRequest};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::batch::Outgoing;
use crate::broker::Lane;
use crate::client::Client;
use crate::clock;
use crate::cluster::View;
use crate::connection::Connection;
use crate::error::{Chain, Error as ClientError, Subject};
use crate::error_code::ErrorCode;
use crate::name::BrokerId;

use super::Shared;
use super::config::{Acks, Config};
use super::entry::{Identity, Leader};
use super::request::{self, Head, encode};
use super::response::Answer;
use super::state::Request;

/// Versions of InitProducerId used: all that an idempotent producer needs is in each.
const INIT_PRODUCER_ID: std::ops::RangeInclusive<i16> = 0..=4;

/// How many failures in a row to get an identity are told: some seconds of them.
const FAILURES_TOLD: u32 = 5;

/// How much longer than the broker's own time-out an answer is waited for.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the task waits for.
enum Event {
    Pushed,
    Answered { request: u64, broker: BrokerId, answer: Answer },
    Dialled { broker: BrokerId, outcome: Result<(Connection, i16), ClientError> },
    Identified(Result<Identity, ClientError>),
    Viewed,
    Refreshed(Result<(), ClientError>),
    Woken,
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    client: Client,
    config: Config,
    views: watch::Receiver<Arc<View>>,
    connections: HashMap<BrokerId, (Connection, i16)>,
    answers: FuturesUnordered<Boxed<Event>>,
    dials: FuturesUnordered<Boxed<Event>>,
    identity: Option<Boxed<Event>>,
    identity_backoff: Backoff,
    refresh: Option<Boxed<Event>>,
    refresh_backoff: Backoff,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, client: Client, config: Config) -> Self {
        let (initial, max) = config.backoff;
        Self {
            views: client.view_changes(),
            shared,
            client,
            config,
            connections: HashMap::new(),
            answers: FuturesUnordered::new(),
            dials: FuturesUnordered::new(),
            identity: None,
            identity_backoff: Backoff::new(initial, max),
            refresh: None,
            refresh_backoff: Backoff::new(initial, max),
        }
    }

    /// Runs until the task is dropped.
    pub(super) async fn run(mut self) {
        self.view();
        loop {
            let wake = self.act(clock::now());
            let event = self.next(wake).await;
            self.handle(clock::now(), event);
        }
    }

    /// Does all that can be done now; says when there will be more.
    fn act(&mut self, now: Instant) -> Option<Instant> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        self.connections.retain(|broker, (connection, _)| {
            let is_open = !connection.is_closed();
            if !is_open {
                state.handle_closed(*broker);
            }
            is_open
        });
        state.handle_time(now);
        while let Some(request) = state.poll_request(now) {
            self.send(request);
        }
        while let Some(broker) = state.poll_connect(now) {
            self.dial(broker);
        }
        if state.wants_identity() && self.identity.is_none() {
            self.identify();
        }
        if state.wants_metadata() {
            self.ask_metadata();
        } else if self.refresh.is_none() {
            self.refresh_backoff.reset();
        }
        let wake = state.poll_wake(now);
        let (done, is_idle) = (state.poll_done(), state.queued() == 0);
        drop(state);
        for (token, result) in done {
            token.tell(result);
        }
        if is_idle {
            shared.idle.notify_waiters();
        }
        wake
    }

    async fn next(&mut self, wake: Option<Instant>) -> Event {
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.answers.next() => event,
            Some(event) = self.dials.next() => event,
            event = optional(&mut self.identity) => event,
            event = optional(&mut self.refresh) => event,
            Ok(()) = self.views.changed() => Event::Viewed,
            () = self.shared.wake.notified() => Event::Pushed,
            () = timer => Event::Woken,
        }
    }

    fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Pushed | Event::Woken => {}
            Event::Viewed => self.view(),
            Event::Refreshed(outcome) => {
                self.refresh = None;
                self.shared.lock().metadata_asked();
                if let Err(error @ ClientError::ClusterChanged { .. }) = &outcome {
                    tracing::error!(
                        error = %Chain(error),
                        "another cluster answers: nothing is produced"
                    );
                    self.shared.lock().refuse_all(error);
                }
                self.view();
            }
            Event::Answered { request, broker, mut answer } => {
                let mut state = self.shared.lock();
                if let Answer::Response { throttle, .. } = &answer
                    && !throttle.is_zero()
                {
                    state.handle_throttle(now, broker, *throttle);
                }
                state.handle_reply(now, request, |partition| answer.reply(partition));
            }
            Event::Dialled { broker, outcome } => self.dialled(now, broker, outcome),
            Event::Identified(outcome) => {
                self.identity = None;
                self.identified(now, outcome);
            }
        }
    }

    fn identified(&mut self, now: Instant, outcome: Result<Identity, ClientError>) {
        match outcome {
            Ok(identity) => {
                self.identity_backoff.reset();
                self.shared.lock().handle_identity(now, identity);
            }
            Err(error) if is_refusal(&error) => {
                tracing::error!(error = %Chain(&error), "the destination refuses the producer");
                self.shared.lock().refuse(&error);
            }
            Err(error) if self.identity_backoff.failures() == FAILURES_TOLD => {
                tracing::warn!(error = %Chain(&error), "no producer id for some time; asked again");
            }
            Err(error) => tracing::debug!(error = %Chain(&error), "no producer id yet"),
        }
    }

    fn view(&mut self) {
        let view = Arc::clone(&self.views.borrow_and_update());
        self.shared.lock().handle_leaders(clock::now(), |partition| {
            let (broker, epoch) = view.leader(partition)?;
            Some(Leader { broker, epoch })
        });
    }

    fn dialled(
        &mut self,
        now: Instant,
        broker: BrokerId,
        outcome: Result<(Connection, i16), ClientError>,
    ) {
        match outcome {
            Ok((connection, version)) => {
                self.shared.round_trips().insert(broker, connection.round_trip().clone());
                self.connections.insert(broker, (connection, version));
                self.shared.lock().handle_open(broker, version);
            }
            Err(error @ ClientError::UnsupportedVersion { .. }) => {
                tracing::error!(
                    broker = broker.0,
                    error = %Chain(&error),
                    "broker too old to produce to"
                );
                self.shared.lock().refuse_broker(now, broker, &error);
            }
            Err(error) => {
                tracing::debug!(broker = broker.0, error = %Chain(&error), "broker not reached");
                self.shared.lock().handle_unreached(now, broker);
            }
        }
    }

    fn dial(&mut self, broker: BrokerId) {
        let (client, lane) = (self.client.clone(), self.config.lane);
        self.dials.push(Box::pin(async move {
            let outcome = connect(&client, broker, lane).await;
            Event::Dialled { broker, outcome }
        }));
    }

    fn send(&mut self, request: Request<Outgoing>) {
        let Request { id, broker, batches } = request;
        let Some((connection, version)) = self.connections.get(&broker) else {
            // The state only asks for what `handle_open` has told it.
            let answer = Answer::Lost {
                fate: crate::error::Fate::NotWritten,
                code: ErrorCode::NETWORK_EXCEPTION,
            };
            let event = Event::Answered { request: id, broker, answer };
            self.answers.push(Box::pin(std::future::ready(event)));
            return;
        };
        let version = *version;
        let Config { acks, ack_timeout, .. } = self.config;
        let body = encode(Head { version, acks, ack_timeout }, batches);
        let timeout = ack_timeout + ANSWER_MARGIN;
        // The place in the connection's order is taken here, not when the future is polled.
        let pending = match acks {
            Acks::None => connection.send_unanswered(ApiKey::Produce, version, body, timeout),
            Acks::Leader | Acks::All => connection.send(ApiKey::Produce, version, body, timeout),
        };
        self.answers.push(Box::pin(async move {
            let answer = read(pending.await, version, acks);
            Event::Answered { request: id, broker, answer }
        }));
    }

    /// One question at a time; the second in a row waits a little before it is asked.
    fn ask_metadata(&mut self) {
        if self.refresh.is_some() {
            return;
        }
        let is_first = self.refresh_backoff.failures() == 0;
        let delay = self.refresh_backoff.next_delay();
        let client = self.client.clone();
        self.refresh = Some(Box::pin(async move {
            if !is_first {
                clock::sleep(delay).await;
            }
            let outcome = client.refresh(client.view().generation).await;
            if let Err(error) = &outcome {
                tracing::debug!(error = %Chain(error), "metadata not refreshed");
            }
            Event::Refreshed(outcome.map(|_| ()))
        }));
    }

    /// One question at a time; one that follows a failure waits.
    fn identify(&mut self) {
        let is_first = self.identity_backoff.failures() == 0;
        let delay = self.identity_backoff.next_delay();
        let client = self.client.clone();
        self.identity = Some(Box::pin(async move {
            if !is_first {
                clock::sleep(delay).await;
            }
            Event::Identified(init_producer_id(&client).await)
        }));
    }
}

fn read(outcome: Result<Bytes, ClientError>, version: i16, acks: Acks) -> Answer {
    match outcome {
        Ok(_) if acks == Acks::None => Answer::Unasked,
        Ok(body) => Answer::read(body, version),
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "produce request lost");
            Answer::lost(&error)
        }
    }
}

async fn optional(future: &mut Option<Boxed<Event>>) -> Event {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn connect(
    client: &Client,
    broker: BrokerId,
    lane: Lane,
) -> Result<(Connection, i16), ClientError> {
    let connection = client.broker(broker)?.connection(lane).await?;
    let version = connection.version(ApiKey::Produce, request::VERSIONS)?;
    Ok((connection, version))
}

/// Whether an answer says that no identity is granted, as it stands, and not only that something
/// went wrong. Somebody may grant it, so it is asked for again as long as anything waits for it.
fn is_refusal(error: &ClientError) -> bool {
    match error {
        ClientError::Broker { code, .. } => {
            !code.is_retryable() && *code != ErrorCode::UNKNOWN_SERVER_ERROR
        }
        // One broker that answers nonsense is not the cluster's word.
        ClientError::Decode { .. } | ClientError::NotKafka { .. } => false,
        other => !other.is_retryable(),
    }
}

async fn init_producer_id(client: &Client) -> Result<Identity, ClientError> {
    let broker = client.any_broker().await?;
    let answer = broker
        .call(Lane::Control, INIT_PRODUCER_ID, |_| {
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(i32::MAX)
        })
        .await?;
    ErrorCode(answer.body.error_code)
        .check()
        .map_err(|code| ClientError::broker(ApiKey::InitProducerId, Subject::Request, code))?;
    let identity =
        Identity { producer_id: answer.body.producer_id.0, epoch: answer.body.producer_epoch };
    tracing::info!(producer_id = identity.producer_id, "producer id obtained");
    Ok(identity)
}
