//! The batches of one partition, in order, and what is known about each. Pure: time and answers
//! come in as arguments. Owned by [`State`](super::state::State).
//!
//! Always true:
//! - batches are sent, and sent again, in the order they came; while one must be sent again,
//!   nothing behind it is sent for the first time;
//! - a batch keeps its sequence number until it is known whether the batch was written. Numbers are
//!   given anew only under a higher epoch, with nothing in flight and no batch of unknown outcome;
//! - a batch of unknown outcome is neither replaced nor left out: it may be in the log;
//! - nothing is in flight to two brokers at once, and only one batch until the current leader has
//!   acknowledged one: a broker that knows nothing of the producer accepts any first number, so the
//!   second of two batches could be written without the first (KAFKA-15591).
//!
//! How Kafka's own producer does it: `TransactionManager`, `TxnPartitionEntry`,
//! `RecordAccumulator.shouldStopDrainBatchesForPartition`.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::Fate;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::entry::{Acked, Batch, Done, Entry, Identity, Leader, Limits, Sending, Verdict};
use super::error::{Error, Rejection};
use super::reply::{Reply, Written, sequence_after};

/// The batches of one partition.
pub(super) struct Queue<B, T> {
    partition: TopicPartition,
    entries: VecDeque<Entry<B, T>>,
    next_entry: u64,
    in_flight: usize,
    /// Where the batches in flight went.
    sent_to: Option<BrokerId>,
    leader: Option<Leader>,
    identity: Identity,
    next_sequence: i32,
    /// When the current leader last acknowledged a batch in the order it was sent.
    proven_at: Option<Instant>,
    phase: Phase,
    backoff: Backoff,
    retry_at: Option<Instant>,
    last_code: Option<ErrorCode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Batches are sent for the first time, several at once.
    Flowing,
    /// Batches that were sent are sent again, one at a time, from the first.
    Recovering,
    /// As `Recovering`, and then the numbers are given anew under a higher epoch.
    Renumbering,
    /// An earlier batch failed: nothing is taken until the partition is restarted.
    Stopped,
}

impl<B: Batch, T> Queue<B, T> {
    pub(super) fn new(partition: TopicPartition, backoff: Backoff) -> Self {
        Self {
            partition,
            entries: VecDeque::new(),
            next_entry: 0,
            in_flight: 0,
            sent_to: None,
            leader: None,
            identity: Identity::NONE,
            next_sequence: 0,
            proven_at: None,
            phase: Phase::Flowing,
            backoff,
            retry_at: None,
            last_code: None,
        }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    pub(super) fn leader(&self) -> Option<Leader> {
        self.leader
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.phase == Phase::Stopped
    }

    /// When the next try is due, if one is put off.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Since when the oldest batch waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.queued_at)
    }

    /// Adds a batch at the end and says its number, or gives the token back because the partition
    /// is stopped.
    pub(super) fn push(&mut self, now: Instant, batch: B, token: T) -> Result<u64, (T, Error)> {
        if self.is_stopped() {
            let partition = self.partition.clone();
            return Err((token, Error::Stopped { partition, fate: Fate::NotWritten }));
        }
        let entry = self.entry(now, batch, Some(token));
        let id = entry.id;
        self.entries.push_back(entry);
        Ok(id)
    }

    fn entry(&mut self, queued_at: Instant, batch: B, token: Option<T>) -> Entry<B, T> {
        self.next_entry += 1;
        Entry::new(self.next_entry, queued_at, batch, token)
    }

    /// The leader moved, came or went. A new leader proves itself anew.
    pub(super) fn set_leader(&mut self, leader: Option<Leader>) {
        if self.leader == leader {
            return;
        }
        self.proven_at = None;
        if leader.is_some() && self.leader.is_some() {
            // Whatever was wrong was wrong with the other one.
            self.retry_at = None;
        }
        self.leader = leader;
    }

    /// The first batch that may be sent now, if any.
    pub(super) fn sendable(&self, now: Instant, limits: Limits) -> Option<&B> {
        self.next_index(now, limits).map(|index| &self.entries[index].batch)
    }

    fn next_index(&self, now: Instant, limits: Limits) -> Option<usize> {
        let leader = self.leader?;
        if self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if self.in_flight > 0 && self.sent_to != Some(leader.broker) {
            return None;
        }
        let in_flight_max = match self.phase {
            // `settle` gives new numbers as soon as nothing is in flight.
            Phase::Stopped | Phase::Renumbering => return None,
            Phase::Recovering => 1,
            Phase::Flowing => self.in_flight_max(now, limits),
        };
        if self.in_flight >= in_flight_max {
            return None;
        }
        self.entries.iter().position(|entry| !entry.in_flight)
    }

    /// One at a time until the leader has acknowledged a batch, and again after a pause long enough
    /// for it to have forgotten the producer (`producer.id.expiration.ms`, a day by default).
    fn in_flight_max(&self, now: Instant, limits: Limits) -> usize {
        let proven = self.proven_at.is_some_and(|at| now.duration_since(at) < PROVEN_FOR);
        if proven || !self.identity.is_idempotent() { limits.in_flight } else { 1 }
    }

    /// Takes up the producer's identity if nothing was sent under another one.
    pub(super) fn adopt(&mut self, identity: Identity) {
        let same = self.identity.producer_id == identity.producer_id;
        let numbered = self.entries.iter().any(|entry| entry.sequence.is_some());
        if !same && !numbered {
            self.identity = identity;
            self.next_sequence = 0;
            self.proven_at = None;
        }
    }

    /// Whether it waits for the producer to get a new identity: its epochs are used up, and all
    /// answers are in.
    pub(super) fn wants_identity(&self) -> bool {
        self.identity.epoch == i16::MAX && self.phase == Phase::Renumbering && self.in_flight == 0
    }

    /// Marks the batch that [`Queue::sendable`] showed as sent.
    pub(super) fn send(&mut self, now: Instant, limits: Limits) -> Option<(Sending, &B)> {
        let index = self.next_index(now, limits)?;
        let identity = self.identity;
        self.sent_to = self.leader.map(|leader| leader.broker);
        self.retry_at = None;
        self.in_flight += 1;
        let entry = &mut self.entries[index];
        entry.in_flight = true;
        entry.tried = true;
        let base_sequence = match entry.sequence {
            Some(sequence) => sequence,
            None if identity.is_idempotent() => {
                let sequence = self.next_sequence;
                self.next_sequence = sequence_after(sequence, entry.batch.records_count());
                entry.sequence = Some(sequence);
                sequence
            }
            None => -1,
        };
        Some((Sending { entry: entry.id, identity, base_sequence }, &entry.batch))
    }

    /// Takes the answer to one batch. A rejection that needs a decision is given back, with the
    /// batch it is about; [`Queue::reject`] must follow.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        entry: u64,
        reply: Reply,
        done: &mut Done<T>,
    ) -> Option<(Rejection, &B)> {
        // An entry that is gone was failed when the partition was stopped.
        let index = self.entries.iter().position(|candidate| candidate.id == entry)?;
        assert!(self.entries[index].in_flight, "invariant: only what was sent is answered");
        self.entries[index].in_flight = false;
        self.in_flight -= 1;
        match self.patience(index, reply) {
            Reply::Written(written) => self.written(now, index, written, done),
            Reply::Retry(code) => self.retry(now, code),
            Reply::Unknown(code) => {
                self.entries[index].maybe_written = true;
                self.retry(now, code);
            }
            Reply::OutOfSequence(code) => self.out_of_sequence(now, index, code, done),
            // Only the first may be given up: those before it must be known to be written.
            Reply::Rejected(rejection) if index > 0 => self.retry(now, rejection.code),
            Reply::Rejected(Rejection { code, .. }) if self.may_hide_a_write(code) => {
                self.lose_order(code, done);
            }
            Reply::Rejected(rejection) => {
                return Some((rejection, &self.entries[0].batch));
            }
            Reply::Fenced(code) => {
                // Only a new producer id leads out of it, once the partition is restarted.
                self.identity.epoch = i16::MAX;
                self.stop(done, |partition, fate| Error::Fenced { partition, code, fate });
            }
        }
        None
    }

    /// Whether an earlier try of the first batch may have been written although this one was
    /// refused: a broker looks at the size and the format of a batch before it looks whether it
    /// has it. Another batch in its place, or none, would then be one record twice, or one too
    /// many, and nobody would know. Answers that blamed nothing but the broker itself, until
    /// patience ended, are all there will ever be: what follows them is the caller's to decide.
    fn may_hide_a_write(&self, code: ErrorCode) -> bool {
        self.identity.is_idempotent()
            && code != ErrorCode::UNKNOWN_SERVER_ERROR
            && self.entries.front().is_some_and(|entry| entry.maybe_written)
    }

    /// Turns the answers that never get better into what they are taken for, after a few tries.
    fn patience(&mut self, index: usize, reply: Reply) -> Reply {
        let entry = &mut self.entries[index];
        match reply {
            // It should have told the log's start by now: it lost what it knew of the producer.
            Reply::Retry(code @ ErrorCode::UNKNOWN_PRODUCER_ID) => {
                entry.dubious += 1;
                let is_over = entry.dubious + 1 >= DUBIOUS_MAX;
                if is_over { Reply::OutOfSequence(code) } else { reply }
            }
            Reply::Retry(code @ ErrorCode::CORRUPT_MESSAGE)
            | Reply::Unknown(code @ ErrorCode::UNKNOWN_SERVER_ERROR) => {
                entry.dubious += 1;
                entry.maybe_written |= code == ErrorCode::UNKNOWN_SERVER_ERROR;
                if entry.dubious < DUBIOUS_MAX {
                    return reply;
                }
                Reply::Rejected(Rejection::of(code))
            }
            other => other,
        }
    }

    fn written(&mut self, now: Instant, index: usize, written: Written, done: &mut Done<T>) {
        for earlier in self.entries.range_mut(..index) {
            earlier.overtaken = true;
        }
        let entry = self.entries.remove(index).expect("invariant: the index was just found");
        if index == 0 {
            self.proven_at = Some(now);
        }
        self.backoff.reset();
        self.retry_at = None;
        self.last_code = None;
        match entry.token {
            Some(token) => {
                let base_offset = entry.first.unwrap_or(written).base_offset;
                let log_append_time = written.log_append_time;
                done.push((token, Ok(Acked { base_offset, log_append_time })));
            }
            None => {
                if let Some(next) = self.entries.get_mut(index) {
                    next.first = entry.first.or(Some(written));
                }
            }
        }
        self.recovered();
    }

    /// Recovery is over when no batch that was sent waits to be sent again.
    fn recovered(&mut self) {
        let pending = self.entries.front().is_some_and(|entry| entry.tried);
        if self.phase == Phase::Recovering && !pending {
            self.phase = Phase::Flowing;
        }
    }

    fn retry(&mut self, now: Instant, code: ErrorCode) {
        self.last_code = Some(code);
        self.proven_at = None;
        if self.phase == Phase::Flowing {
            self.phase = Phase::Recovering;
        }
        // The answers to one burst are one failure, not five.
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = Some(now + self.backoff.next_delay());
        }
    }

    /// The broker expected another number. Behind a batch that is not known to be written that is
    /// only natural. For the first batch it means that the broker lost what came before, or was
    /// never given it: the batch is not written, and is sent again under a higher epoch. A broker
    /// that does not know the producer cannot tell whether it has the batch.
    fn out_of_sequence(&mut self, now: Instant, index: usize, code: ErrorCode, done: &mut Done<T>) {
        if index > 0 {
            if self.phase != Phase::Renumbering {
                self.retry(now, code);
            }
            return;
        }
        let entry = &mut self.entries[0];
        entry.dubious += 1;
        let is_untold = entry.maybe_written && code == ErrorCode::UNKNOWN_PRODUCER_ID;
        if entry.overtaken || entry.dubious > DUBIOUS_MAX || is_untold {
            // A later batch is in the log and this one is not, which nothing sent from here heals;
            // or the broker accepts no number at all; or it forgot what it may have written.
            self.lose_order(code, done);
            return;
        }
        entry.maybe_written = false;
        if self.phase != Phase::Renumbering {
            self.retry(now, code);
            self.phase = Phase::Renumbering;
        }
    }

    fn lose_order(&mut self, code: ErrorCode, done: &mut Done<T>) {
        self.stop(done, |partition, fate| Error::OrderLost { partition, code, fate });
    }

    /// Does what is due once the answers are in. True if something changed.
    pub(super) fn settle(&mut self, done: &mut Done<T>) -> bool {
        if self.phase != Phase::Renumbering || self.in_flight > 0 {
            return false;
        }
        if self.entries.iter().any(|entry| entry.maybe_written || entry.overtaken) {
            let code = self.last_code.unwrap_or(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            self.lose_order(code, done);
            return true;
        }
        if self.identity.epoch == i16::MAX {
            // A new producer id is needed first; `adopt` takes it once no number is held.
            self.forget_sequences();
            return false;
        }
        self.renumber();
        true
    }

    fn forget_sequences(&mut self) {
        for entry in &mut self.entries {
            entry.sequence = None;
            entry.tried = false;
        }
    }

    /// A higher epoch makes the broker refuse whatever may still arrive under the old one.
    fn renumber(&mut self) {
        self.forget_sequences();
        if self.identity.is_idempotent() && self.identity.epoch < i16::MAX {
            self.identity.epoch += 1;
        }
        self.next_sequence = 0;
        self.proven_at = None;
        self.phase = Phase::Flowing;
    }

    /// The producer has a new identity: one who waited for it goes on.
    pub(super) fn renew(&mut self, identity: Identity) {
        if self.wants_identity() {
            self.phase = Phase::Flowing;
        }
        self.adopt(identity);
    }

    /// Gives up the first batch, for which a rejection came, and puts others in its place.
    pub(super) fn reject(
        &mut self,
        now: Instant,
        verdict: Verdict<B>,
        rejection: Rejection,
        done: &mut Done<T>,
    ) {
        self.last_code = Some(rejection.code);
        match verdict {
            Verdict::Stop => self.stop_at_first(rejection, done),
            Verdict::Replace(batches) if !batches.is_empty() => self.replace(batches),
            Verdict::Replace(_) | Verdict::Skip => {
                let partition = self.partition.clone();
                let fate = self.entries.front().map_or(Fate::NotWritten, Entry::fate);
                // The batches that replaced one share its fate.
                while let Some(entry) = self.entries.pop_front() {
                    self.in_flight -= usize::from(entry.in_flight);
                    if let Some(token) = entry.token {
                        done.push((token, Err(Error::Rejected { partition, rejection, fate })));
                        break;
                    }
                }
            }
        }
        if !self.is_stopped() {
            // Its number will never be written: all that follow need new ones.
            self.proven_at = None;
            self.phase =
                if self.identity.is_idempotent() { Phase::Renumbering } else { Phase::Recovering };
            self.retry_at = self.retry_at.filter(|at| *at > now);
            self.recovered();
        }
    }

    fn stop_at_first(&mut self, rejection: Rejection, done: &mut Done<T>) {
        let mut rejection = Some(rejection);
        self.stop(done, |partition, fate| match rejection.take() {
            Some(rejection) => Error::Rejected { partition, rejection, fate },
            None => Error::Stopped { partition, fate },
        });
    }

    fn replace(&mut self, batches: Vec<B>) {
        let Some(rejected) = self.entries.pop_front() else { return };
        let Entry { mut token, first, queued_at, overtaken, .. } = rejected;
        for batch in batches.into_iter().rev() {
            let mut entry = self.entry(queued_at, batch, token.take());
            entry.overtaken = overtaken;
            self.entries.push_front(entry);
        }
        if let Some(entry) = self.entries.front_mut() {
            entry.first = first;
        }
    }

    /// Stops if the oldest batch has waited longer than it may.
    pub(super) fn expire(&mut self, now: Instant, limits: Limits, done: &mut Done<T>) {
        let Some(oldest) = self.oldest() else { return };
        let waited = now.duration_since(oldest);
        if limits.delivery_timeout.is_some_and(|timeout| waited >= timeout) {
            let last = self.last_code;
            self.stop(done, |partition, fate| Error::Expired { partition, waited, last, fate });
        }
    }

    /// Fails everything: the first with `error`, the others because of it. What was sent may have
    /// been written, and its answer is no longer waited for.
    pub(super) fn stop(
        &mut self,
        done: &mut Done<T>,
        error: impl FnOnce(TopicPartition, Fate) -> Error,
    ) {
        let mut error = Some(error);
        for entry in self.entries.drain(..) {
            let (fate, partition) = (entry.fate(), self.partition.clone());
            let Some(token) = entry.token else { continue };
            let error = match error.take() {
                Some(first) => first(partition, fate),
                None => Error::Stopped { partition, fate },
            };
            done.push((token, Err(error)));
        }
        self.in_flight = 0;
        self.phase = Phase::Stopped;
    }

    /// Takes back those of the batches `wanted` that are on no wire and known not to be written;
    /// says which. What was never sent has no number and is missed by nobody. Once one that was
    /// sent is gone, all that follow need new numbers: so it stays if those cannot be given.
    pub(super) fn withdraw(&mut self, wanted: &[u64], done: &mut Done<T>) -> Vec<u64> {
        let may_renumber = self.in_flight == 0
            && !self.entries.iter().any(|entry| entry.maybe_written || entry.overtaken);
        let mut withdrawn = Vec::new();
        let mut were_sent = false;
        for entry in std::mem::take(&mut self.entries) {
            let is_free = !entry.tried || may_renumber;
            match entry.token {
                Some(token) if is_free && wanted.contains(&entry.id) => {
                    were_sent |= entry.tried;
                    withdrawn.push(entry.id);
                    let partition = self.partition.clone();
                    done.push((token, Err(Error::Withdrawn { partition })));
                }
                token => self.entries.push_back(Entry { token, ..entry }),
            }
        }
        if were_sent && self.identity.is_idempotent() {
            self.phase = Phase::Renumbering;
        }
        self.recovered();
        withdrawn
    }

    /// Puts `copy`'s copies in the place of those batches that are on no wire.
    pub(super) fn copy_out(&mut self, mut copy: impl FnMut(u64, &B) -> Option<B>) {
        for entry in self.entries.iter_mut().filter(|entry| !entry.in_flight) {
            if let Some(copy) = copy(entry.id, &entry.batch) {
                entry.batch = copy;
            }
        }
    }

    /// What the last try ended with, since a batch was last written.
    pub(super) fn last_code(&self) -> Option<ErrorCode> {
        self.last_code
    }

    /// Takes batches again after a stop, under a higher epoch: what was left in flight can no
    /// longer be written once the first batch of the new epoch is.
    pub(super) fn restart(&mut self) {
        if self.is_stopped() {
            self.retry_at = None;
            self.last_code = None;
            self.backoff.reset();
            self.phase = Phase::Renumbering;
        }
    }
}

/// How long a leader that acknowledged a batch is trusted to remember the producer.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// How often a batch is sent again after an answer that blames the batch or says nothing.
const DUBIOUS_MAX: u32 = 5;
