//! The live figures of one source partition: a cell of atomics. Owned by the
//! [`Board`](super::Board).
//!
//! Always true: its stream writes, the mirror reads, and neither waits for the other.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kmirror_client::TopicPartition;

use super::{Partition, State, paths};
use crate::error::Halt;
use crate::flow::Way;
use crate::metrics::{Counter, Gauge, Metric, Metrics, Seconds};

/// The live figures of one source partition. Written by its stream, read by the mirror: of
/// thousands few have changed since the last time, and only those are gone through.
#[derive(Debug)]
pub struct Cell {
    pub(super) partition: TopicPartition,
    pub(super) stream: usize,
    pub(super) next_offset: AtomicI64,
    pub(super) committed_offset: AtomicI64,
    pub(super) high_watermark: AtomicI64,
    /// Timestamp of the newest acknowledged record, milliseconds since 1970; -1 none.
    pub(super) newest_unix_ms: AtomicI64,
    pub(super) fetched_bytes: Counter,
    pub(super) fetched_records: Counter,
    pub(super) bytes: Counter,
    pub(super) records: Counter,
    pub(super) batches: Counter,
    pub(super) gauges: Gauges,
    /// How many batches went each way. A counter is made with the first.
    pub(super) ways: Vec<(AtomicU64, OnceLock<Counter>)>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) sums: Arc<Sums>,
    pub(super) state: Mutex<Shown>,
    /// Set after every change, taken before a reading: a change that a reading misses is in the
    /// next one.
    pub(super) is_changed: AtomicBool,
    /// What was read last. Only the mirror takes this lock.
    pub(super) seen: Mutex<Option<Arc<Partition>>>,
}

/// The gauges of a partition, which the mirror sets.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) next_offset: Gauge,
    pub(super) lag_records: Gauge,
    pub(super) lag_seconds: Seconds,
}

/// What a partition does, as it is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) state: State,
    pub(super) why: Option<String>,
    pub(super) halt: Option<Halt>,
    pub(super) is_denied: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Shown { state: State::Waiting, why: None, halt: None, is_denied: false }
    }
}

/// Sums over all partitions there ever were.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) bytes: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) ways: [AtomicU64; Way::ALL.len()],
}

impl Cell {
    /// Everything before this source offset is acknowledged.
    pub(crate) fn set_next_offset(&self, offset: i64) {
        self.next_offset.store(offset, Ordering::Relaxed);
        self.changed();
    }

    /// This position was committed.
    pub(crate) fn set_committed_offset(&self, offset: i64) {
        self.committed_offset.store(offset, Ordering::Relaxed);
        self.changed();
    }

    /// The source said where its log ends.
    pub(crate) fn set_high_watermark(&self, offset: i64) {
        self.high_watermark.store(offset, Ordering::Relaxed);
        self.changed();
    }

    /// Counts what the source gave.
    pub(crate) fn fetched(&self, bytes: u64, records: u64) {
        self.fetched_bytes.inc_by(bytes);
        self.fetched_records.inc_by(records);
    }

    /// Counts a batch the destination acknowledged.
    pub(crate) fn acknowledged(&self, bytes: u64, records: u64, newest_unix_ms: i64) {
        self.bytes.inc_by(bytes);
        self.records.inc_by(records);
        self.batches.inc();
        self.newest_unix_ms.fetch_max(newest_unix_ms, Ordering::Relaxed);
        self.sums.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sums.records.fetch_add(records, Ordering::Relaxed);
        self.sums.batches.fetch_add(1, Ordering::Relaxed);
        self.changed();
    }

    /// Counts a batch made.
    pub(crate) fn made(&self, way: Way) {
        let (own, shared) = &self.ways[way as usize];
        own.fetch_add(1, Ordering::Relaxed);
        let values = [&*self.partition.topic, way.path().name(), way.reason()];
        shared.get_or_init(|| self.metrics.counter(Metric::RouteBatches, values)).inc();
        self.sums.ways[way as usize].fetch_add(1, Ordering::Relaxed);
        self.changed();
    }

    /// Says what the partition does now.
    pub(crate) fn set_state(&self, state: State, why: Option<String>) {
        self.show(Shown { state, why, ..Shown::default() });
    }

    /// Says that the source does not let the partition be read; it is tried again.
    pub(crate) fn deny(&self, why: String) {
        let state = State::Retrying;
        self.show(Shown { state, why: Some(why), is_denied: true, ..Shown::default() });
    }

    /// Says that the partition stopped.
    pub(crate) fn halt(&self, halt: Halt) {
        let why = Some(halt.to_string());
        self.show(Shown { state: State::Halted, why, halt: Some(halt), ..Shown::default() });
    }

    /// What the partition does.
    pub(crate) fn state(&self) -> State {
        self.shown().state
    }

    /// Why it waits or is tried again, if it does and says so.
    pub(crate) fn held_up(&self) -> Option<String> {
        let shown = self.shown();
        let is_held_up = matches!(shown.state, State::Waiting | State::Retrying);
        shown.why.clone().filter(|_| is_held_up)
    }

    fn show(&self, shown: Shown) {
        *self.shown() = shown;
        self.changed();
    }

    fn changed(&self) {
        self.is_changed.store(true, Ordering::Release);
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads it, and brings its gauges up to date. What lags grows older by itself.
    pub(super) fn read(&self, now_unix_ms: i64) -> Arc<Partition> {
        let is_changed = self.is_changed.swap(false, Ordering::Acquire);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some(partition) if !is_changed && partition.lag_records == 0 => Arc::clone(partition),
            _ => Arc::clone(seen.insert(Arc::new(self.snapshot(now_unix_ms)))),
        }
    }

    fn snapshot(&self, now_unix_ms: i64) -> Partition {
        let Shown { state, why, .. } = self.shown().clone();
        let next_offset = self.next_offset.load(Ordering::Relaxed);
        let high_watermark = self.high_watermark.load(Ordering::Relaxed);
        let lag_records =
            if high_watermark < 0 { 0 } else { (high_watermark - next_offset).max(0) };
        let newest = self.newest_unix_ms.load(Ordering::Relaxed);
        let behind = lag_records > 0 && newest >= 0;
        let lag_seconds = if behind { (now_unix_ms - newest).max(0) as f64 / 1000.0 } else { 0.0 };
        self.gauges.next_offset.set(next_offset);
        self.gauges.lag_records.set(lag_records);
        self.gauges.lag_seconds.set(lag_seconds);
        Partition {
            topic: Arc::clone(&self.partition.topic),
            partition: self.partition.partition,
            stream: self.stream,
            state,
            why,
            next_offset,
            committed_offset: self.committed_offset.load(Ordering::Relaxed),
            high_watermark,
            lag_records,
            lag_seconds,
            bytes: self.bytes.get(),
            records: self.records.get(),
            paths: paths(self.ways.iter().map(|(own, _)| own.load(Ordering::Relaxed))),
        }
    }
}
