//! What the mirror shows of itself. Streams write into cells of the [`Board`] (atomics, one cell
//! per source partition); the mirror makes an immutable [`Status`] of them several times a second.
//! What has not changed is shared with the one before.

mod board;
mod cell;

use std::collections::BTreeMap;
use std::sync::Arc;

use kmirror_client::{Client, clock};
use serde::Serialize;

pub use board::Board;
pub use cell::Cell;

use crate::flow::Way;

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
