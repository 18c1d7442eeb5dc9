//! What a fetcher hands out: data with its memory, and partitions in trouble.

use uuid::Uuid;

use crate::batch::{Entry, split};
use crate::budget::Lease;
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

/// Where a partition is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub next_offset: i64,
    /// The leader epoch of the record before it, if it is known: it lets a truncation be noticed
    /// (KIP-320).
    pub leader_epoch: Option<i32>,
    /// The id of the topic that the offset belongs to, if it is known (from Kafka 2.8): it lets a
    /// topic that was created again be noticed, whose offsets mean other records.
    pub topic_id: Option<Uuid>,
}

impl Position {
    /// A position of which only the offset is known.
    pub fn at(next_offset: i64) -> Self {
        Self { next_offset, leader_epoch: None, topic_id: None }
    }
}

/// The next thing a fetcher has.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Data, or news of a partition's ends.
    Fetched(Fetched),
    /// A partition stopped; the others go on. It goes on when it is assigned again.
    Trouble {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stopped.
        position: Position,
        /// Why.
        kind: Trouble,
    },
}

/// What one answer brought of one partition.
#[derive(Debug)]
pub struct Fetched {
    /// Which partition.
    pub partition: TopicPartition,
    /// The offset that was asked for. The first entry may begin before it.
    pub fetch_offset: i64,
    /// The batches, their checksums verified, in the order of their offsets. Control batches are
    /// left out, and with [`Isolation::ReadCommitted`](crate::Isolation) the data of aborted
    /// transactions. May be empty.
    pub entries: Vec<Entry>,
    /// Where the partition stands after this, also past what was left out.
    pub next_offset: i64,
    /// The leader epoch of what came last; to be committed with the offset.
    pub leader_epoch: Option<i32>,
    /// The id of the topic; `None` from brokers without topic ids (before 2.8).
    pub topic_id: Option<Uuid>,
    /// The end of what is replicated.
    pub high_watermark: i64,
    /// The end of what is decided; `None` from brokers without transactions.
    pub last_stable_offset: Option<i64>,
    /// The first offset that is kept; `None` from brokers that do not tell (before Fetch 5).
    pub log_start_offset: Option<i64>,
    /// The memory of the entries. It stands for a slice of the whole answer, which is freed when
    /// all its partitions' leases are dropped.
    pub lease: Lease,
}

/// Why a partition stopped. What is done about it is the caller's decision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The position is outside the log: what was between was deleted before it was read, or the
    /// log was cut or made anew below the position.
    #[error("position outside the log, which goes from {log_start_offset} to {log_end_offset}")]
    OutOfRange {
        /// The first offset that is there. Offsets from the position to this one are lost.
        log_start_offset: i64,
        /// The offset after the last one that is there.
        log_end_offset: i64,
    },
    /// The log was cut below the position by an unclean leader election, and may since hold other
    /// records at the same offsets.
    #[error("log truncated to {end_offset} in leader epoch {leader_epoch}")]
    Truncated {
        /// The end of what the log still shares with what was read.
        end_offset: i64,
        /// The leader epoch up to which it does.
        leader_epoch: i32,
    },
    /// The topic was deleted and created again: its offsets mean other records. Nothing of the new
    /// one was read.
    #[error("topic created anew")]
    Recreated {
        /// The id it had; `None` where brokers have no topic ids, and it shows by its records or
        /// its leader epochs.
        before: Option<Uuid>,
        /// The id it has, where brokers have ids.
        now: Option<Uuid>,
    },
    /// The topic or partition is not in the metadata.
    #[error("topic or partition missing")]
    Missing,
    /// Grant `Read` and `Describe` on the topic.
    #[error("not authorized to read")]
    Unauthorized,
    /// The bytes at the position are no batch, however often they are fetched. If the broker knows
    /// of it itself there is no `source`.
    #[error("corrupt batch")]
    Corrupt {
        /// What is wrong with them.
        source: Option<split::Error>,
    },
    /// A single batch is larger than an old broker can be asked for.
    #[error("batch of more than {limit} bytes")]
    TooLarge {
        /// What was asked for, in bytes.
        limit: usize,
    },
    /// The broker refuses for a reason that does not pass.
    #[error("refused: {code}")]
    Refused {
        /// The reason.
        code: ErrorCode,
    },
}

impl Trouble {
    /// Whether what is read after this is another log, or lies elsewhere in it.
    pub(super) fn ends_the_log(&self) -> bool {
        match self {
            Trouble::OutOfRange { .. } | Trouble::Truncated { .. } | Trouble::Recreated { .. } => {
                true
            }
            Trouble::Missing
            | Trouble::Unauthorized
            | Trouble::Corrupt { .. }
            | Trouble::TooLarge { .. }
            | Trouble::Refused { .. } => false,
        }
    }
}
