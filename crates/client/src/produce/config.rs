//! How a producer behaves. Plain values with Kafka's own defaults, except where said.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Outgoing;
use crate::broker::Lane;
use crate::name::TopicPartition;

use super::decision::{Decision, OnRejected};
use super::error::{Error, Rejection};

/// Settings of a [`BatchProducer`](super::BatchProducer).
#[derive(Clone)]
pub struct Config {
    /// Who must have written a batch before it is acknowledged. Default [`Acks::All`].
    pub acks: Acks,
    /// Whether the broker removes what a retry sends twice. Needs [`Acks::All`]. Default true.
    pub idempotence: bool,
    /// The most batches of one partition on the way, 1 to 5. Default 5; without idempotence 1
    /// unless set, since a retry would otherwise reorder.
    pub in_flight_per_partition: Option<usize>,
    /// The most requests on the way to one broker. Default 5.
    pub in_flight_per_broker: usize,
    /// The most bytes of batches in one request; one larger batch still goes alone. Default 4 MiB.
    pub request_bytes_max: usize,
    /// The most bytes that wait or are on the way per partition; one larger batch still goes.
    /// Default 4 MiB.
    pub queue_bytes_max: usize,
    /// How long a batch is tried before its partition stops. None (the default) for ever, as
    /// MirrorMaker does it.
    pub delivery_timeout: Option<Duration>,
    /// How long a topic or partition may be missing from the metadata before its batches fail.
    /// None (the default) for ever.
    pub missing_timeout: Option<Duration>,
    /// How long a broker may take to gather the acknowledgements of its followers. Default 30 s.
    pub ack_timeout: Duration,
    /// The pause after a first failure, and its maximum. Default 100 ms to 1 s.
    pub backoff: (Duration, Duration),
    /// Which connection to each broker. Producers of one process each need their own number.
    pub lane: Lane,
    /// What becomes of a batch the broker refuses. Default [`Decision::Stop`].
    pub on_rejected: Arc<dyn OnRejected<Outgoing>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            in_flight_per_partition: None,
            in_flight_per_broker: 5,
            request_bytes_max: 4 << 20,
            queue_bytes_max: 4 << 20,
            delivery_timeout: None,
            missing_timeout: None,
            ack_timeout: Duration::from_secs(30),
            backoff: (Duration::from_millis(100), Duration::from_secs(1)),
            lane: Lane::Produce(0),
            on_rejected: Arc::new(|_: &TopicPartition, _: &Outgoing, _: &Rejection| Decision::Stop),
        }
    }
}

impl Config {
    /// Refuses what Kafka's protocol or this producer cannot do.
    pub(super) fn check(&self) -> Result<(), Error> {
        let problem = match self {
            Config { idempotence: true, acks: Acks::None | Acks::Leader, .. } => {
                "idempotence needs acks=all; set enable.idempotence=false with acks=0 or acks=1"
            }
            Config { in_flight_per_partition: Some(0), .. }
            | Config { in_flight_per_broker: 0, .. } => "at least one request must be in flight",
            Config { in_flight_per_partition: Some(6..), idempotence: true, .. } => {
                "idempotence allows at most 5 batches of a partition in flight"
            }
            Config { request_bytes_max: 0, .. } | Config { queue_bytes_max: 0, .. } => {
                "a size limit of 0 lets nothing pass"
            }
            _ => return Ok(()),
        };
        Err(Error::Config { problem })
    }

    pub(super) fn in_flight_per_partition(&self) -> usize {
        self.in_flight_per_partition.unwrap_or(if self.idempotence { 5 } else { 1 })
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("acks", &self.acks)
            .field("idempotence", &self.idempotence)
            .field("request_bytes_max", &self.request_bytes_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

/// Whose copy counts before a batch is acknowledged (`acks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// Nobody's: a batch counts as written when its bytes have left. Whatever goes wrong behind
    /// that is not seen, and the offset is not known.
    None,
    /// The leader's alone: a batch is lost if the leader fails before its followers have it.
    Leader,
    /// All in-sync replicas'.
    #[default]
    All,
}

impl Acks {
    pub(super) fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}
