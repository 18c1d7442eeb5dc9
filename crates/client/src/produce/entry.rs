//! What a partition's queue is made of: batches, who sends them, to whom, and what came of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Fate;
use crate::name::BrokerId;

use super::error::Error;
use super::reply::Written;

/// What the queue must know of a batch.
pub(super) trait Batch {
    /// How many sequence numbers it takes.
    fn records_count(&self) -> i32;
    /// How large it is in a request.
    fn len_bytes(&self) -> usize;
    /// The lowest version of Produce that may carry it.
    fn version_min(&self) -> i16;
}

/// Who we are to a partition's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
}

impl Identity {
    /// Of a producer that is not idempotent.
    pub(super) const NONE: Identity = Identity { producer_id: -1, epoch: -1 };

    pub(super) fn is_idempotent(self) -> bool {
        self.producer_id >= 0
    }
}

/// Where a partition is produced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) broker: BrokerId,
    /// -1 where the cluster does not tell.
    pub(super) epoch: i32,
}

/// What was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// The offset of the first record; none if the broker no longer knows it.
    pub base_offset: Option<i64>,
    /// When the broker stamped the records, in Unix milliseconds, if the topic says it shall.
    pub log_append_time: Option<i64>,
}

/// One batch handed out to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// By which the answer is told apart.
    pub(super) entry: u64,
    pub(super) identity: Identity,
    /// -1 without idempotence.
    pub(super) base_sequence: i32,
}

/// The results of deliveries, with the token each was queued with.
pub(super) type Done<T> = Vec<(T, Result<Acked, Error>)>;

/// Limits a queue obeys.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) in_flight: usize,
    pub(super) delivery_timeout: Option<Duration>,
}

/// A batch in its partition's queue, and what is known of it.
pub(super) struct Entry<B, T> {
    pub(super) id: u64,
    pub(super) batch: B,
    /// None for all but the last of the batches that replace one.
    pub(super) token: Option<T>,
    /// Where the first of the batches that replace one was written.
    pub(super) first: Option<Written>,
    pub(super) queued_at: Instant,
    pub(super) sequence: Option<i32>,
    pub(super) in_flight: bool,
    /// It has been sent before.
    pub(super) tried: bool,
    /// A try ended without anybody knowing whether it wrote.
    pub(super) maybe_written: bool,
    /// A later batch was acknowledged.
    pub(super) overtaken: bool,
    /// Tries that ended with an answer that does not get better by asking for ever.
    pub(super) dubious: u32,
}

impl<B, T> Entry<B, T> {
    pub(super) fn new(id: u64, queued_at: Instant, batch: B, token: Option<T>) -> Self {
        Self {
            id,
            batch,
            token,
            first: None,
            queued_at,
            sequence: None,
            in_flight: false,
            tried: false,
            maybe_written: false,
            overtaken: false,
            dubious: 0,
        }
    }

    /// Whether it can be in the log, should it be given up now.
    pub(super) fn fate(&self) -> Fate {
        if self.maybe_written || self.in_flight { Fate::Unknown } else { Fate::NotWritten }
    }
}

/// A decision about a rejected batch, as the queue takes it.
pub(super) enum Verdict<B> {
    Stop,
    Skip,
    Replace(Vec<B>),
}
