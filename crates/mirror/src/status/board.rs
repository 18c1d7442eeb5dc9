//! All cells of a mirror, and the counts that belong to no partition. Owned by the mirror; its
//! streams begin and end cells.
//!
//! Bound: a cell for each source partition that a stream has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmirror_client::{TopicPartition, clock};

use super::cell::{Cell, Gauges, Sums};
use super::{Memory, Partition, State, Totals, paths};
use crate::error::Halt;
use crate::flow::Way;
use crate::metrics::{Metric, Metrics};

/// All cells of a mirror, and the counts that belong to no partition.
#[derive(Debug)]
pub struct Board {
    metrics: Arc<Metrics>,
    sums: Arc<Sums>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cells: BTreeMap<TopicPartition, Arc<Cell>>,
    errors: BTreeMap<String, u64>,
    skipped: u64,
}

impl Board {
    /// An empty board that counts into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Board {
        Board { metrics, sums: Arc::default(), inner: Mutex::default() }
    }

    /// The registry.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// A cell for a partition that `stream` begins; replaces an older one.
    pub(crate) fn begin(&self, partition: &TopicPartition, stream: usize) -> Arc<Cell> {
        let metrics = &self.metrics;
        let number = partition.partition.to_string();
        let values = [&*partition.topic, &number];
        let of = |metric| metrics.counter(metric, values);
        let cell = Arc::new(Cell {
            partition: partition.clone(),
            stream,
            next_offset: AtomicI64::new(0),
            committed_offset: AtomicI64::new(-1),
            high_watermark: AtomicI64::new(-1),
            newest_unix_ms: AtomicI64::new(-1),
            fetched_bytes: of(Metric::FetchBytes),
            fetched_records: of(Metric::FetchRecords),
            bytes: of(Metric::ProduceBytes),
            records: of(Metric::ProduceRecords),
            batches: of(Metric::ProduceBatches),
            gauges: Gauges {
                next_offset: metrics.gauge(Metric::CommitNextOffset, values),
                lag_records: metrics.gauge(Metric::CommitLagRecords, values),
                lag_seconds: metrics.seconds(Metric::CommitLagSeconds, values),
            },
            ways: Way::ALL.iter().map(|_| Default::default()).collect(),
            metrics: Arc::clone(metrics),
            sums: Arc::clone(&self.sums),
            state: Mutex::default(),
            is_changed: AtomicBool::new(true),
            seen: Mutex::default(),
        });
        self.inner().cells.insert(partition.clone(), Arc::clone(&cell));
        cell
    }

    /// Forgets a partition that left this process.
    pub(crate) fn end(&self, cell: &Arc<Cell>) {
        let mut inner = self.inner();
        let current = inner.cells.get(&cell.partition);
        if current.is_some_and(|current| Arc::ptr_eq(current, cell)) {
            inner.cells.remove(&cell.partition);
            let number = cell.partition.partition.to_string();
            self.metrics.forget_gauges([&*cell.partition.topic, &number]);
        }
    }

    /// Removes the series of topics that are neither planned nor shown.
    pub(crate) fn retain_topics(&self, is_planned: impl Fn(&str) -> bool) {
        let inner = self.inner();
        let shown: BTreeSet<&str> = inner.cells.keys().map(|shown| &*shown.topic).collect();
        self.metrics.retain_topics(|topic| is_planned(topic) || shown.contains(topic));
    }

    /// Counts an error.
    pub(crate) fn error(&self, kind: &str) {
        *self.inner().errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// Counts an error of the destination.
    pub(crate) fn produce_error(&self, kind: &str) {
        self.metrics.counter(Metric::ProduceErrors, [kind]).inc();
        self.error(kind);
    }

    /// Counts records left out.
    pub(crate) fn skipped(&self, topic: &str, reason: &str, records: u64) {
        self.metrics.counter(Metric::RouteSkippedRecords, [topic, reason]).inc_by(records);
        self.inner().skipped += records;
    }

    /// Partitions that stopped, and why.
    pub(crate) fn halted(&self) -> Vec<(TopicPartition, Halt)> {
        let halt = |cell: &Arc<Cell>| Some((cell.partition.clone(), cell.shown().halt.clone()?));
        self.inner().cells.values().filter_map(halt).collect()
    }

    /// Topics with partitions that the source does not let be read, and whether those are all there
    /// are here.
    pub(crate) fn denied(&self) -> (BTreeSet<Arc<str>>, bool) {
        let inner = self.inner();
        let mut topics = BTreeSet::new();
        let mut are_all = true;
        for cell in inner.cells.values() {
            if cell.shown().is_denied {
                topics.insert(Arc::clone(&cell.partition.topic));
            } else {
                are_all = false;
            }
        }
        (topics, are_all)
    }

    /// Whether any record was acknowledged.
    pub(crate) fn has_mirrored(&self) -> bool {
        self.sums.records.load(Ordering::Relaxed) > 0
    }

    /// Reads all cells, and brings the gauges up to date.
    pub(crate) fn read(&self) -> Reading {
        let now = clock::unix_ms();
        let inner = self.inner();
        let partitions: Vec<Arc<Partition>> =
            inner.cells.values().map(|cell| cell.read(now)).collect();
        let mut totals = Totals {
            bytes: self.sums.bytes.load(Ordering::Relaxed),
            records: self.sums.records.load(Ordering::Relaxed),
            batches: self.sums.batches.load(Ordering::Relaxed),
            paths: paths(self.sums.ways.iter().map(|made| made.load(Ordering::Relaxed))),
            skipped_records: inner.skipped,
            ..Totals::default()
        };
        let errors = inner.errors.clone();
        drop(inner);
        for partition in &partitions {
            totals.lag_records += partition.lag_records;
        }
        self.publish(&partitions);
        Reading { partitions, totals, errors }
    }

    /// Brings the gauges of the memory up to date.
    pub(crate) fn publish_memory(&self, memory: Memory) {
        let gauge = |metric, bytes: u64| {
            self.metrics.gauge(metric, []).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        };
        gauge(Metric::MemoryUsed, memory.used_bytes);
        gauge(Metric::MemoryLimit, memory.limit_bytes);
        gauge(Metric::MemoryPeak, memory.peak_bytes);
    }

    fn publish(&self, partitions: &[Arc<Partition>]) {
        let mut states = BTreeMap::new();
        for partition in partitions {
            *states.entry(partition.state).or_insert(0_i64) += 1;
        }
        for state in State::ALL {
            let count = states.get(&state).copied().unwrap_or(0);
            self.metrics.gauge(Metric::StatusPartitions, [state.name()]).set(count);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The board at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) totals: Totals,
    pub(crate) errors: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(Arc::new(Metrics::new()))
    }

    #[test]
    fn a_partition_shows_its_lag_and_the_paths_its_batches_took() {
        let board = board();
        let cell = board.begin(&TopicPartition::new("orders", 3), 0);
        cell.set_state(State::Running, None);
        cell.set_next_offset(90);
        cell.set_high_watermark(100);
        cell.made(Way::Whole);
        cell.made(Way::Gaps);
        cell.acknowledged(2048, 10, clock::unix_ms() - 5_000);
        let reading = board.read();
        let partition = &reading.partitions[0];
        assert_eq!((partition.lag_records, partition.bytes, partition.records), (10, 2048, 10));
        assert!((4.0..60.0).contains(&partition.lag_seconds), "{}", partition.lag_seconds);
        let names: Vec<_> = partition.paths.iter().map(|made| (made.path, made.reason)).collect();
        assert_eq!(names, [("passthrough", "whole"), ("rebuild", "gaps")]);
        assert!(board.metrics().text().contains("kmirror_commit_lag_records{"));
    }

    #[test]
    fn a_reading_shares_what_has_not_changed_and_misses_no_change() {
        let board = board();
        let changes: [fn(&Cell); 6] = [
            |cell| cell.set_high_watermark(1),
            |cell| cell.set_next_offset(1),
            |cell| cell.set_committed_offset(1),
            |cell| cell.made(Way::Whole),
            |cell| cell.acknowledged(100, 1, 0),
            |cell| cell.set_state(State::Running, None),
        ];
        let cell = board.begin(&TopicPartition::new("orders", 3), 0);
        let mut before = board.read().partitions.remove(0);
        for change in changes {
            change(&cell);
            let after = board.read().partitions.remove(0);
            assert_ne!(format!("{before:?}"), format!("{after:?}"));
            let again = board.read().partitions.remove(0);
            assert!(Arc::ptr_eq(&again, &after) || after.lag_records > 0);
            before = after;
        }
    }

    #[test]
    fn what_lags_grows_older_without_a_change() {
        let board = board();
        let cell = board.begin(&TopicPartition::new("orders", 3), 0);
        cell.acknowledged(100, 1, clock::unix_ms() - 5_000);
        cell.set_high_watermark(10);
        let before = board.read().partitions[0].lag_seconds;
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(board.read().partitions[0].lag_seconds > before);
    }

    #[test]
    fn totals_outlive_partitions_that_leave() {
        let board = board();
        let cell = board.begin(&TopicPartition::new("orders", 3), 0);
        cell.made(Way::Whole);
        cell.acknowledged(100, 1, 0);
        board.end(&cell);
        let reading = board.read();
        assert!(reading.partitions.is_empty());
        assert_eq!((reading.totals.bytes, reading.totals.batches), (100, 1));
        assert_eq!(reading.totals.paths[0].batches, 1);
    }
}
