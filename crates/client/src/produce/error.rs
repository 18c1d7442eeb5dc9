//! Why a batch was not, or may not have been, written. One error per delivery.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error as ClientError, Fate};
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

/// Why a delivery failed.
///
/// Every variant answers [`Error::fate`]: whether the batch can be in the log.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker refused the batch for what it is; sending it again would not help. Split it,
    /// change it, leave it out, or change the destination's configuration.
    #[error("produce to {partition}: {}", .rejection)]
    Rejected {
        /// Where to.
        partition: TopicPartition,
        /// What the broker said.
        rejection: Rejection,
        /// Whether an earlier try of the same batch may have been written.
        fate: Fate,
    },

    /// An earlier batch of the partition failed, so this one was not tried any further: it would
    /// have been out of order. Restart the partition and send again from the first that failed.
    #[error("produce to {partition} stopped by an earlier failure")]
    Stopped {
        /// Where to.
        partition: TopicPartition,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// The batch was not acknowledged within the delivery time-out.
    #[error("produce to {partition} unacknowledged after {waited:?}")]
    Expired {
        /// Where to.
        partition: TopicPartition,
        /// How long it was tried.
        waited: Duration,
        /// What the last try ended with, if the broker said anything.
        last: Option<ErrorCode>,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// The topic or partition does not exist on the destination, for longer than is tolerated.
    #[error("{partition} is missing on the destination for {waited:?}")]
    MissingPartition {
        /// Where to.
        partition: TopicPartition,
        /// For how long.
        waited: Duration,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// The broker's record of this producer and ours disagree in a way that no retry can heal
    /// without breaking order or writing twice. Restart the partition from the last position that
    /// is known to be written.
    #[error("produce to {partition}: the order of batches can no longer be proven ({code})")]
    OrderLost {
        /// Where to.
        partition: TopicPartition,
        /// What the broker said.
        code: ErrorCode,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// Another producer took over this producer's identity.
    #[error("produce to {partition}: fenced by another producer ({code})")]
    Fenced {
        /// Where to.
        partition: TopicPartition,
        /// What the broker said.
        code: ErrorCode,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// The destination refuses this producer: it is too old, it is another cluster than the one
    /// that answered at first, or it grants no identity. For the latter grant `IdempotentWrite` on
    /// the cluster, or set `enable.idempotence=false` knowingly. It is asked again for batches that
    /// come after a restart.
    #[error("the destination refuses the producer")]
    Refused {
        /// Why.
        source: ClientError,
        /// Whether it may have been written.
        fate: Fate,
    },

    /// It was taken back before it was written.
    #[error("produce to {partition} withdrawn")]
    Withdrawn {
        /// Where to.
        partition: TopicPartition,
    },

    /// The configuration asks for something that cannot be.
    #[error("configuration of the producer: {problem}")]
    Config {
        /// What is wrong.
        problem: &'static str,
    },

    /// The producer was closed, or its task ended, before the batch was acknowledged.
    #[error("the producer was closed")]
    Closed {
        /// Whether it may have been written.
        fate: Fate,
    },
}

impl Error {
    /// Whether sending the same batch again, to a restarted partition, may succeed without anybody
    /// changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Stopped { .. }
            | Error::Expired { .. }
            | Error::MissingPartition { .. }
            | Error::OrderLost { .. }
            | Error::Fenced { .. }
            | Error::Withdrawn { .. } => true,
            Error::Refused { source, .. } => source.is_retryable(),
            Error::Rejected { .. } | Error::Config { .. } | Error::Closed { .. } => false,
        }
    }

    /// Whether the batch can be in the log.
    pub fn fate(&self) -> Fate {
        match self {
            Error::Rejected { fate, .. }
            | Error::Stopped { fate, .. }
            | Error::Expired { fate, .. }
            | Error::MissingPartition { fate, .. }
            | Error::OrderLost { fate, .. }
            | Error::Fenced { fate, .. }
            | Error::Refused { fate, .. }
            | Error::Closed { fate } => *fate,
            Error::Withdrawn { .. } | Error::Config { .. } => Fate::NotWritten,
        }
    }
}

/// A broker's refusal of one batch, with all it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The error code.
    pub code: ErrorCode,
    /// The broker's words, from Produce version 8.
    pub message: Option<Arc<str>>,
    /// The records at fault, from Produce version 8 and not for every code.
    pub records: Vec<RecordError>,
}

impl Rejection {
    /// A rejection of which only the code is known.
    pub fn of(code: ErrorCode) -> Self {
        Self { code, message: None, records: Vec::new() }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(message) = &self.message {
            write!(f, " ({message})")?;
        }
        if let Some(first) = self.records.first() {
            write!(f, ", record {} of the batch", first.index)?;
        }
        Ok(())
    }
}

/// One record a broker refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// The broker's words.
    pub message: Option<Arc<str>>,
}
