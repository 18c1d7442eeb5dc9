//! Why a measurement could not be made.

use std::path::{Path, PathBuf};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Brokers or their jars are missing.
    #[error("prepare the brokers")]
    Brokers(#[from] xtask::brokers::Error),
    /// A cluster did not do as it was asked.
    #[error("{doing}")]
    Client {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: kmirror_client::Error,
    },
    /// A topic could not be made or emptied in time.
    #[error("topic {topic} is not ready after {seconds} s")]
    Topic {
        /// Which topic.
        topic: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A batch could not be produced.
    #[error("produce to {topic}")]
    Produce {
        /// Where to.
        topic: String,
        /// Why not.
        source: kmirror_client::produce::Error,
    },
    /// Records do not fit into a batch.
    #[error("build a batch")]
    Build(#[from] kmirror_client::batch::rebuild::Error),
    /// A partition could not be read.
    #[error("fetch {partition}: {reason}")]
    Fetch {
        /// Which partition.
        partition: String,
        /// What happened.
        reason: String,
    },
    /// A file or directory could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A program could not be started or asked.
    #[error("run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A peer cannot be built here.
    #[error("{name}: {reason}")]
    Peer {
        /// Which one.
        name: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
    /// What a mirror wrote is not what it read.
    #[error("{name} copied wrongly: {difference}")]
    Differs {
        /// The mirror.
        name: &'static str,
        /// What differs.
        difference: String,
    },
    /// Records that were superseded are still in a compacted topic.
    #[error("topic {topic} holds {records} records after {seconds} s instead of {expected}")]
    NotCompacted {
        /// Which topic.
        topic: String,
        /// Records that it holds.
        records: u64,
        /// Records that it should hold.
        expected: u64,
        /// How long was waited.
        seconds: u64,
    },
    /// A report that was kept cannot be read.
    #[error("read the report {}", path.display())]
    Report {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A mirror ended before it had mirrored everything.
    #[error("{name} ended with {status} after {records} records; the end of its log:\n{log}")]
    Ended {
        /// The mirror.
        name: String,
        /// How it ended.
        status: String,
        /// Records at the destination.
        records: u64,
        /// The end of what it printed.
        log: String,
    },
    /// A mirror stopped making progress.
    #[error(
        "{name} made no progress for {seconds} s at {records} of {expected} records; \
         the end of its log:\n{log}"
    )]
    Stalled {
        /// The mirror.
        name: String,
        /// How long nothing came.
        seconds: u64,
        /// Records at the destination.
        records: u64,
        /// Records at the source.
        expected: u64,
        /// The end of what it printed.
        log: String,
    },
    /// Nothing came through a mirror.
    #[error("{name} brought nothing in {seconds} s; the end of its log:\n{log}")]
    Silent {
        /// The mirror, or the way without one.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// The end of what it printed.
        log: String,
    },
    /// A batch that was mirrored cannot be read.
    #[error("read a batch")]
    Records(#[from] kmirror_client::batch::records::Error),
    /// There is no port for the link.
    #[error("listen for connections over the link")]
    Listen(#[source] std::io::Error),
    /// The answer of a ceiling's process could not be read.
    #[error("read the answer of {name}: {text:?}")]
    Answer {
        /// Which ceiling.
        name: String,
        /// What it printed.
        text: String,
        /// Why that is no answer.
        source: serde_json::Error,
    },
}

impl Error {
    /// Names the file for an input or output error.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    /// Names what was being asked of a cluster.
    pub fn client(doing: &'static str) -> impl Fn(kmirror_client::Error) -> Self {
        move |source| Self::Client { doing, source }
    }
}
