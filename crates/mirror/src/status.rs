//! What the mirror shows of itself. Streams write into cells of the [`Board`] (atomics, one cell
//! per source partition); the mirror makes an immutable [`Status`] of them several times a second.
//! What has not changed is shared with the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kmirror_client::{Client, TopicPartition, clock};
use serde::Serialize;

use crate::error::Halt;
use crate::flow::Way;
use crate::metrics::{Counter, Gauge, Metric, Metrics, Seconds};

/// The mirror at one moment.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// When, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// Seconds since the mirror was built.
    pub uptime_seconds: f64,
    /// What it does.
    pub phase: Phase,
    /// Why it mirrors nothing, if no topic of the source matches.
    pub why: Option<String>,
    /// The cluster that is read.
    pub source: Cluster,
    /// The cluster that is written.
    pub destination: Cluster,
    /// The memory budget.
    pub memory: Memory,
    /// Streams that run.
    pub streams: usize,
    /// Streams that were told which partitions are theirs, if only that none is.
    pub streams_assigned: usize,
    /// Sums over all partitions, those that left included.
    pub totals: Totals,
    /// Whether the topics of both clusters were listed.
    pub topics_known: bool,
    /// Every topic that matches.
    pub topics: Vec<Topic>,
    /// Source topics that wait for somebody to change something, and why.
    pub blocked: BTreeMap<Arc<str>, String>,
    /// Every source partition this process owns or owned until it halted.
    pub partitions: Vec<Arc<Partition>>,
    /// Errors by kind since the start.
    pub errors: BTreeMap<String, u64>,
}

/// What the mirror does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// It was built and not yet run.
    Starting,
    /// It mirrors.
    Running,
    /// It finishes what it fetched.
    Draining,
    /// It has ended.
    Stopped,
}

/// One end.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Cluster {
    /// The cluster's id, where its brokers tell.
    pub cluster_id: Option<Arc<str>>,
    /// Its brokers.
    pub brokers: usize,
}

/// The memory budget, in bytes.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// Used now.
    pub used_bytes: u64,
    /// The most that was ever used.
    pub peak_bytes: u64,
    /// The budget.
    pub limit_bytes: u64,
}

/// Sums.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Bytes acknowledged by the destination, as compressed.
    pub bytes: u64,
    /// Records acknowledged by the destination.
    pub records: u64,
    /// Batches acknowledged by the destination.
    pub batches: u64,
    /// Batches made, by path and reason.
    pub paths: Vec<Batches>,
    /// Records left out by policy.
    pub skipped_records: u64,
    /// Offsets between positions and high watermarks.
    pub lag_records: i64,
}

/// Batches of one path and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Batches {
    /// `passthrough`, `coalesce`, `rebuild`, `split` or `legacy`.
    pub path: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub batches: u64,
}

/// A topic that matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Topic {
    /// Its name at the source.
    pub name: Arc<str>,
    /// Its name at the destination.
    pub destination: Arc<str>,
    /// Partitions at the source.
    pub source_partitions: i32,
    /// Partitions at the destination.
    pub destination_partitions: i32,
    /// `ready`, `waiting` or `refused`.
    pub state: &'static str,
    /// Why it is not ready.
    pub why: Option<String>,
}

/// What a partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// It waits for its destination.
    Waiting,
    /// It mirrors.
    Running,
    /// Something failed and is tried again.
    Retrying,
    /// It stopped; a human must look.
    Halted,
    /// It reached the high watermark of the start, and that was all that was asked for.
    Done,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] =
        [State::Waiting, State::Running, State::Retrying, State::Halted, State::Done];

    /// The word in metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Halted => "halted",
            State::Done => "done",
        }
    }
}

/// A source partition of this process.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Partition {
    /// Its topic at the source.
    pub topic: Arc<str>,
    /// Its number at the source.
    pub partition: i32,
    /// The stream that owns it.
    pub stream: usize,
    /// What it does.
    pub state: State,
    /// Why it does not run, in words.
    pub why: Option<String>,
    /// Everything before this source offset is acknowledged by the destination.
    pub next_offset: i64,
    /// The position that was last committed; -1 none yet.
    pub committed_offset: i64,
    /// The source's high watermark when it was last heard; -1 not yet.
    pub high_watermark: i64,
    /// Offsets between `next_offset` and `high_watermark`.
    pub lag_records: i64,
    /// Age of the last acknowledged record while there is lag, else 0.
    pub lag_seconds: f64,
    /// Bytes acknowledged.
    pub bytes: u64,
    /// Records acknowledged.
    pub records: u64,
    /// Batches made, by path and reason.
    pub paths: Vec<Batches>,
}

/// The live figures of one source partition. Written by its stream, read by the mirror: of
/// thousands few have changed since the last time, and only those are gone through.
#[derive(Debug)]
pub struct Cell {
    partition: TopicPartition,
    stream: usize,
    next_offset: AtomicI64,
    committed_offset: AtomicI64,
    high_watermark: AtomicI64,
    /// Timestamp of the newest acknowledged record, milliseconds since 1970; -1 none.
    newest_unix_ms: AtomicI64,
    fetched_bytes: Counter,
    fetched_records: Counter,
    bytes: Counter,
    records: Counter,
    batches: Counter,
    gauges: Gauges,
    /// How many batches went each way. A counter is made with the first.
    ways: Vec<(AtomicU64, OnceLock<Counter>)>,
    metrics: Arc<Metrics>,
    sums: Arc<Sums>,
    state: Mutex<Shown>,
    /// Set after every change, taken before a reading: a change that a reading misses is in the
    /// next one.
    is_changed: AtomicBool,
    /// What was read last. Only the mirror takes this lock.
    seen: Mutex<Option<Arc<Partition>>>,
}

/// The gauges of a partition, which the mirror sets.
#[derive(Debug)]
struct Gauges {
    next_offset: Gauge,
    lag_records: Gauge,
    lag_seconds: Seconds,
}

/// What a partition does, as it is shown.
#[derive(Debug, Clone)]
struct Shown {
    state: State,
    why: Option<String>,
    halt: Option<Halt>,
    is_denied: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Shown { state: State::Waiting, why: None, halt: None, is_denied: false }
    }
}

/// Sums over all partitions there ever were.
#[derive(Debug, Default)]
struct Sums {
    bytes: AtomicU64,
    records: AtomicU64,
    batches: AtomicU64,
    ways: [AtomicU64; Way::ALL.len()],
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

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads it, and brings its gauges up to date. What lags grows older by itself.
    fn read(&self, now_unix_ms: i64) -> Arc<Partition> {
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

/// The status of a mirror that was only built.
pub(crate) fn starting(source: &Client, destination: &Client) -> Status {
    Status {
        at_unix_ms: clock::unix_ms(),
        uptime_seconds: 0.0,
        phase: Phase::Starting,
        why: None,
        source: Cluster::of(source),
        destination: Cluster::of(destination),
        memory: Memory::default(),
        streams: 0,
        streams_assigned: 0,
        totals: Totals::default(),
        topics_known: false,
        topics: Vec::new(),
        blocked: BTreeMap::new(),
        partitions: Vec::new(),
        errors: BTreeMap::new(),
    }
}

impl Cluster {
    /// What `client` knows of its cluster.
    pub(crate) fn of(client: &Client) -> Cluster {
        let view = client.view();
        Cluster { cluster_id: view.cluster_id.clone(), brokers: view.brokers().count() }
    }
}

fn paths(counts: impl Iterator<Item = u64>) -> Vec<Batches> {
    Way::ALL
        .iter()
        .zip(counts)
        .filter(|(_, batches)| *batches > 0)
        .map(|(way, batches)| Batches { path: way.path().name(), reason: way.reason(), batches })
        .collect()
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
