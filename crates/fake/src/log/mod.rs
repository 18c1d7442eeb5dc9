//! One partition's log: batches in offset order, in memory.
//!
//! Owned by the cluster state, which holds the lock. Always true: batches do not overlap and
//! ascend, `start_offset <= stable_offset() <= next_offset`, and nothing is replicated: the high
//! watermark is the log's end.

pub(crate) mod compact;
pub(crate) mod producers;
pub(crate) mod validate;

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use crate::batch::{Batch, Header};
use crate::versions::Release;

use producers::{Producers, Verdict};

/// How far a reader may see (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    Uncommitted,
    Committed,
}

impl Isolation {
    pub(crate) fn from_wire(level: i8) -> Isolation {
        if level == 1 { Isolation::Committed } else { Isolation::Uncommitted }
    }
}

/// A transaction that was rolled back, as a fetch response tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    pub(crate) last_offset: i64,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) leader_epoch: i32,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) base_offset: i64,
    pub(crate) is_duplicate: bool,
    /// The stored batch's `max_timestamp`: the answer for a LogAppendTime topic.
    pub(crate) timestamp_ms: i64,
}

/// How much a read may return.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimit {
    pub(crate) bytes_max: usize,
    /// Return the first batch whole even if it is larger (KIP-74).
    pub(crate) at_least_one: bool,
    pub(crate) isolation: Isolation,
}

/// What a read returned: slices of the stored batches, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadResult {
    pub(crate) segments: Vec<Bytes>,
    pub(crate) size_bytes: usize,
    pub(crate) aborted: Vec<Aborted>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    batches: VecDeque<Batch>,
    start_offset: i64,
    next_offset: i64,
    size_bytes: u64,
    producers: Producers,
    aborted: Vec<Aborted>,
    /// (leader epoch, its first offset), ascending in both (`LeaderEpochFileCache`).
    epochs: Vec<(i32, i64)>,
}

impl Log {
    pub(crate) fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset the next record gets; also the high watermark.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// No transaction below this offset is undecided (the last stable offset).
    pub(crate) fn stable_offset(&self) -> i64 {
        self.producers.first_open_offset().unwrap_or(self.next_offset)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    pub(crate) fn producers_mut(&mut self) -> &mut Producers {
        &mut self.producers
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    /// Where a reader at this isolation must stop.
    pub(crate) fn end_for(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::Uncommitted => self.next_offset,
            Isolation::Committed => self.stable_offset(),
        }
    }

    /// Appends a client's validated batch, unless the producer's state forbids it.
    pub(crate) fn append(
        &mut self,
        batch: Batch,
        leader_epoch: i32,
        release: Release,
    ) -> Result<Appended, ResponseError> {
        let verdict = self.producers.check(batch.header(), release)?;
        if let Verdict::Duplicate { base_offset, timestamp_ms } = verdict {
            return Ok(Appended { base_offset, is_duplicate: true, timestamp_ms });
        }
        let header = self.push(batch, leader_epoch);
        self.producers.record(&header);
        Ok(Appended {
            base_offset: header.base_offset,
            is_duplicate: false,
            timestamp_ms: header.max_timestamp,
        })
    }

    /// Appends a transaction marker and settles the transaction.
    pub(crate) fn append_marker(&mut self, marker: Batch, leader_epoch: i32, commit: bool) {
        let header = self.push(marker, leader_epoch);
        self.settle(&header, commit);
    }

    /// Appends whatever it is, for a test that wants a log no client could write.
    pub(crate) fn append_unchecked(&mut self, batch: Batch, leader_epoch: i32) -> i64 {
        let control = control_type(&batch);
        let header = self.push(batch, leader_epoch);
        match control {
            Some(commit) => self.settle(&header, commit),
            None => self.producers.record(&header),
        }
        header.base_offset
    }

    /// The transactions that were rolled back, in the order they ended.
    pub(crate) fn aborted(&self) -> &[Aborted] {
        &self.aborted
    }

    /// Whether bytes can be read at `offset`.
    pub(crate) fn covers(&self, offset: i64) -> bool {
        (self.start_offset..=self.next_offset).contains(&offset)
    }

    /// Reads from the batch that holds `offset` on. The last batch may be cut at the byte limit, as
    /// a real broker's file slice is; the first is never cut.
    pub(crate) fn read(&self, offset: i64, limit: ReadLimit) -> ReadResult {
        let end = self.end_for(limit.isolation);
        let mut result = ReadResult::default();
        let mut upper = offset;
        for batch in self.batches.range(self.position(offset)..) {
            if batch.header().base_offset >= end {
                break;
            }
            let room = limit.bytes_max.saturating_sub(result.size_bytes);
            let is_first = result.segments.is_empty();
            if batch.size_bytes() > room && is_first && !limit.at_least_one {
                break;
            }
            let take = if is_first { batch.size_bytes() } else { batch.size_bytes().min(room) };
            if take == 0 {
                break;
            }
            push_slices(&mut result.segments, batch, take);
            result.size_bytes += take;
            upper = batch.header().last_offset() + 1;
            if take < batch.size_bytes() {
                break;
            }
        }
        if limit.isolation == Isolation::Committed {
            let overlaps = |a: &&Aborted| a.last_offset >= offset && a.first_offset < upper;
            result.aborted = self.aborted.iter().filter(overlaps).copied().collect();
        }
        result
    }

    /// First offset whose record is at or after `timestamp_ms`, with that record's timestamp.
    pub(crate) fn find_timestamp(&self, timestamp_ms: i64, end: i64) -> Option<Found> {
        for batch in &self.batches {
            let header = batch.header();
            if header.base_offset >= end {
                break;
            }
            if header.max_timestamp < timestamp_ms {
                continue;
            }
            let records = batch.records().ok()?;
            for record in records.map_while(Result::ok) {
                let at = record_timestamp(header, record.timestamp_delta);
                let offset = header.base_offset + record.offset_delta;
                if at >= timestamp_ms && offset >= self.start_offset && offset < end {
                    let leader_epoch = header.leader_epoch;
                    return Some(Found { offset, timestamp_ms: at, leader_epoch });
                }
            }
        }
        None
    }

    /// The record with the greatest timestamp (KIP-734).
    pub(crate) fn max_timestamp(&self) -> Option<Found> {
        let max = self.batches.iter().map(|batch| batch.header().max_timestamp).max()?;
        self.find_timestamp(max, self.next_offset)
    }

    /// Opens a leader epoch at the log's end.
    pub(crate) fn start_epoch(&mut self, epoch: i32) {
        while self.epochs.last().is_some_and(|last| last.0 >= epoch || last.1 >= self.next_offset) {
            self.epochs.pop();
        }
        self.epochs.push((epoch, self.next_offset));
    }

    /// The end offset of the greatest epoch not above `epoch` (KIP-101, KIP-279); -1, -1 unknown.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        let Some(latest) = self.epochs.last() else { return (-1, -1) };
        if epoch == latest.0 {
            return (epoch, self.next_offset);
        }
        if epoch > latest.0 || epoch < 0 {
            return (-1, -1);
        }
        let higher = self.epochs.iter().position(|entry| entry.0 > epoch).unwrap_or(0);
        let floor = if higher == 0 { epoch } else { self.epochs[higher - 1].0 };
        (floor, self.epochs[higher].1)
    }

    /// The leader epoch in which the record at `offset` was written.
    pub(crate) fn epoch_at(&self, offset: i64) -> i32 {
        let older = self.epochs.iter().rev().find(|entry| entry.1 <= offset);
        older.or(self.epochs.first()).map_or(-1, |entry| entry.0)
    }

    /// Moves the start of the log forward, as retention and DeleteRecords do.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start_offset = offset.clamp(self.start_offset, self.next_offset);
        while let Some(first) = self.batches.front() {
            if first.header().last_offset() >= self.start_offset {
                break;
            }
            self.size_bytes -= first.size_bytes() as u64;
            self.batches.pop_front();
        }
        let start = self.start_offset;
        self.aborted.retain(|aborted| aborted.last_offset >= start);
        for entry in &mut self.epochs {
            entry.1 = entry.1.max(start);
        }
        let doubled = self.epochs.iter().filter(|entry| entry.1 <= start).count();
        self.epochs.drain(..doubled.saturating_sub(1));
    }

    /// The offset to delete before so that what stays fits `bytes` and is not older than `unix_ms`.
    pub(crate) fn retention_point(&self, bytes: u64, unix_ms: i64) -> i64 {
        let mut size = self.size_bytes;
        for batch in &self.batches {
            let is_too_old = batch.header().max_timestamp < unix_ms;
            if size <= bytes && !is_too_old {
                return batch.header().base_offset.max(self.start_offset);
            }
            size -= batch.size_bytes() as u64;
        }
        self.next_offset
    }

    /// Cuts the end off, as an unclean leader election does; whole batches only.
    pub(crate) fn truncate(&mut self, offset: i64) {
        while let Some(last) = self.batches.back() {
            if last.header().last_offset() < offset {
                break;
            }
            self.size_bytes -= last.size_bytes() as u64;
            self.next_offset = last.header().base_offset;
            self.batches.pop_back();
        }
        self.start_offset = self.start_offset.min(self.next_offset);
        let end = self.next_offset;
        self.epochs.retain(|entry| entry.1 < end || end == 0);
        self.replay();
    }

    fn push(&mut self, mut batch: Batch, leader_epoch: i32) -> Header {
        if self.epochs.last().is_none_or(|last| last.0 < leader_epoch) {
            self.start_epoch(leader_epoch);
        }
        batch.stamp(self.next_offset, leader_epoch);
        let header = *batch.header();
        self.next_offset = header.last_offset() + 1;
        self.size_bytes += batch.size_bytes() as u64;
        self.batches.push_back(batch);
        header
    }

    fn settle(&mut self, header: &Header, commit: bool) {
        let producer_id = header.producer_id;
        let Some(first_offset) = self.producers.end_transaction(header) else { return };
        if !commit {
            let last_offset = header.last_offset();
            self.aborted.push(Aborted { producer_id, first_offset, last_offset });
        }
    }

    /// Rebuilds what is derived from the batches, as a broker does when it opens a log.
    fn replay(&mut self) {
        self.producers.clear();
        self.aborted.clear();
        let batches = std::mem::take(&mut self.batches);
        for batch in &batches {
            let header = batch.header();
            match control_type(batch) {
                Some(commit) => self.settle(header, commit),
                None => self.producers.record(header),
            }
        }
        self.batches = batches;
    }

    /// Index of the first batch that ends at or after `offset`.
    fn position(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.header().last_offset() < offset)
    }
}

/// The timestamp of a record, in ms.
pub(crate) fn record_timestamp(header: &Header, delta: i64) -> i64 {
    if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.wrapping_add(delta)
    }
}

/// `Some(true)` for a commit marker, `Some(false)` for an abort marker, `None` for data.
fn control_type(batch: &Batch) -> Option<bool> {
    if !batch.header().is_control() {
        return None;
    }
    let first = batch.records().ok()?.next()?.ok()?;
    Some(first.key.is_some_and(|key| key.get(3) == Some(&1)))
}

fn push_slices(segments: &mut Vec<Bytes>, batch: &Batch, take: usize) {
    let head = batch.head();
    segments.push(head.slice(..take.min(head.len())));
    if take > head.len() {
        segments.push(batch.payload().slice(..take - head.len()));
    }
}
