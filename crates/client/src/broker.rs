//! One broker of the cluster, reached over lanes.
//!
//! A lane is a connection for one purpose, so that a request that takes long (a join, a long poll)
//! never stands before one of another purpose. A lane is dialled when it is first used and again
//! after it died; after a failed dial it waits a growing time before the next.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, MetadataRequest};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::clock;
use crate::cluster::pin::Pin;
use crate::cluster::refresh;
use crate::config::Config;
use crate::connection::{Address, Api, Connection, Options, RoundTrip};
use crate::error::Error;
use crate::name::BrokerId;

/// The purpose of a connection. A broker has one connection for each lane in use; the lanes of one
/// client are bounded by its number of fetch sessions and producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Metadata, administration, offsets: quick requests.
    Control,
    /// Heartbeats and offset commits.
    Coordinator,
    /// The long polls of the fetch session of this number.
    Fetch(u16),
    /// The writes of the producer of this number.
    Produce(u16),
}

/// A version that was agreed on and the answer in it.
#[derive(Debug, Clone)]
pub struct Answer<R> {
    /// The version of the request and of the answer.
    pub version: i16,
    /// The answer.
    pub body: R,
}

/// A handle to one broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: Option<BrokerId>,
    advertised: Address,
    config: Config,
    pin: Pin,
    /// How far it is, as its answers on all lanes tell.
    round_trip: RoundTrip,
    lanes: Mutex<HashMap<Lane, Arc<LaneSlot>>>,
}

/// One lane's connection. The lock is held while it is dialled, so that it is dialled once.
type LaneSlot = tokio::sync::Mutex<LaneState>;

#[derive(Debug)]
struct LaneState {
    connection: Option<Connection>,
    backoff: Backoff,
    failure: Option<DialFailure>,
}

/// The last dial, when it failed.
#[derive(Debug)]
struct DialFailure {
    at: Instant,
    error: Error,
    /// When the next dial may be tried.
    not_before: Instant,
}

impl Broker {
    /// A broker at an address; `id` is `None` for a bootstrap server whose id is not known yet.
    pub(crate) fn new(
        id: Option<BrokerId>,
        advertised: Address,
        config: &Config,
        pin: &Pin,
    ) -> Self {
        let (config, pin, round_trip) = (config.clone(), pin.clone(), RoundTrip::default());
        let inner = Inner { id, advertised, config, pin, round_trip, lanes: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Its node id; `None` for a bootstrap server.
    pub fn id(&self) -> Option<BrokerId> {
        self.inner.id
    }

    /// The address it advertises.
    pub fn advertised(&self) -> &Address {
        &self.inner.advertised
    }

    /// The connection of a lane, dialled if need be.
    ///
    /// # Errors
    /// As [`Connection::open`], and [`Error::ClusterChanged`].
    pub async fn connection(&self, lane: Lane) -> Result<Connection, Error> {
        let slot = self.slot(lane);
        let asked_at = clock::now();
        // Held across the dial on purpose: whoever comes meanwhile shares this dial's outcome.
        let mut state = slot.lock().await;
        if let Some(connection) = state.connection.as_ref().filter(|open| !open.is_closed()) {
            return Ok(connection.clone());
        }
        state.connection = None;
        match &state.failure {
            Some(failure) if failure.at > asked_at => return Err(failure.error.clone()),
            Some(failure) => tokio::time::sleep_until(failure.not_before).await,
            None => {}
        }
        match self.dial().await {
            Ok(connection) => {
                state.backoff.reset();
                state.failure = None;
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                let at = clock::now();
                let not_before = at + state.backoff.next_delay();
                state.failure = Some(DialFailure { at, error: error.clone(), not_before });
                Err(error)
            }
        }
    }

    /// A connection outside the lanes, for a request that others must not wait behind. Another
    /// cluster may have come behind the address since it was learnt: nothing is sent before the
    /// broker has said of which it is.
    pub(crate) async fn dial(&self) -> Result<Connection, Error> {
        let Inner { config, advertised, pin, round_trip, .. } = &*self.inner;
        let address = config.address_map.reachable(advertised);
        let round_trip = round_trip.clone();
        let options = Options { round_trip, ..config.connection_options() };
        let connection = Connection::open(&address, &options).await?;
        if pin.is_set() {
            let greeted = self.greet(&connection, config.connect_timeout).await;
            greeted.map_err(|error| match error {
                Error::ClusterChanged { .. } => error,
                source => Error::Connect { address, source: Arc::new(source) },
            })?;
        }
        Ok(connection)
    }

    /// Makes sure that it answers within `timeout`, and is of the cluster that is meant. If it does
    /// not answer, the connection is closed, with all else that waits on it.
    pub(crate) async fn greet(
        &self,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<(), Error> {
        let version = connection.version(ApiKey::Metadata, refresh::VERSIONS)?;
        // No topics at all: brokers, and the cluster's id.
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(version < 4);
        let answer = connection.call(version, &request, timeout).await?;
        let cluster_id = answer.cluster_id.as_ref().map(|id| id.as_str());
        self.inner.pin.check(connection.address(), cluster_id)
    }

    /// Sends the request that `build` makes for the highest version both speak, and awaits the
    /// answer for the configured request time-out.
    ///
    /// # Errors
    /// No connection, no common version, no answer, or one that cannot be read. Error codes inside
    /// the answer are the caller's to look at.
    pub async fn call<Q: Api>(
        &self,
        lane: Lane,
        versions: RangeInclusive<i16>,
        build: impl FnOnce(i16) -> Q,
    ) -> Result<Answer<Q::Response>, Error> {
        self.call_within(lane, versions, self.inner.config.request_timeout, build).await
    }

    /// The same for a request that may take `timeout`: joins and long polls.
    ///
    /// # Errors
    /// As [`Broker::call`].
    pub async fn call_within<Q: Api>(
        &self,
        lane: Lane,
        versions: RangeInclusive<i16>,
        timeout: Duration,
        build: impl FnOnce(i16) -> Q,
    ) -> Result<Answer<Q::Response>, Error> {
        let connection = self.connection(lane).await?;
        let version = connection.version(<Q as Api>::KEY, versions)?;
        let body = connection.call(version, &build(version), timeout).await?;
        Ok(Answer { version, body })
    }

    fn slot(&self, lane: Lane) -> Arc<LaneSlot> {
        let mut lanes = self.inner.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = lanes.entry(lane).or_insert_with(|| {
            let config = &self.inner.config;
            Arc::new(LaneSlot::new(LaneState {
                connection: None,
                backoff: Backoff::new(config.backoff_initial, config.backoff_max),
                failure: None,
            }))
        });
        Arc::clone(slot)
    }
}
