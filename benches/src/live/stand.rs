//! What every measurement stands on: two clusters, the programs, and names that nobody used before.

use std::path::{Path, PathBuf};

use kmirror_client::{TopicPartition, batch::Codec};
use tempfile::TempDir;
use xtask::workspace;

use super::arguments::Common;
use crate::{
    Error,
    ends::End,
    matrix,
    mirrors::{Job, Load, Mirror, Programs},
    run::Running,
};

/// The clusters and the programs.
pub(super) struct Stand {
    pub(super) source: End,
    pub(super) destination: End,
    programs: Programs,
    streams: u16,
    turns: u32,
}

/// A mirror at work and its files, which go after it.
pub(super) struct Launched {
    pub(super) running: Running,
    _directory: TempDir,
}

/// What a mirror is started for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    /// `host:port` as the mirror is told.
    pub(super) source: &'a str,
    /// `host:port` as the mirror is told.
    pub(super) destination: &'a str,
    /// The topic, or a pattern for several.
    pub(super) topic: &'a str,
    /// What tuned mirrors compress with.
    pub(super) codec: Codec,
    /// Its word, from [`Stand::turn`].
    pub(super) unique: &'a str,
}

impl Stand {
    pub(super) fn new((source, destination): (End, End), common: &Common) -> Result<Self, Error> {
        let programs = matrix::programs(common.kmirror.as_ref())?;
        Ok(Self { source, destination, programs, streams: common.streams, turns: 0 })
    }

    /// What kmirror calls itself.
    pub(super) fn version(&self) -> String {
        matrix::version(&self.programs.kmirror)
    }

    /// The peers with their versions.
    pub(super) fn peers(&self, mirrors: &[Mirror]) -> Vec<String> {
        matrix::peers(&self.programs, mirrors.contains(&Mirror::FranzGo))
    }

    /// The number of the next measurement, and a word that no other has.
    pub(super) fn turn(&mut self) -> (u32, String) {
        self.turns += 1;
        (self.turns, format!("live{}x{}", std::process::id(), self.turns))
    }

    /// Starts a mirror.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn launch(&self, mirror: Mirror, order: Order<'_>) -> Result<Launched, Error> {
        let temporary = std::env::temp_dir();
        let directory = tempfile::tempdir().map_err(Error::file("create", &temporary))?;
        let Order { source, destination, topic, codec, unique } = order;
        let streams = self.streams.into();
        let directory_path = directory.path();
        let job = Job {
            source,
            destination,
            topic,
            codec,
            load: Load::default(),
            streams,
            unique,
            directory: directory_path,
        };
        let command = job.command(mirror, &self.programs)?;
        let running = Running::start(mirror, command, directory_path.join("log"))?;
        Ok(Launched { running, _directory: directory })
    }
}

/// Where the report goes.
pub(super) fn directory(asked: Option<&Path>) -> PathBuf {
    asked.map_or_else(|| workspace::target_directory().join("bench"), Path::to_owned)
}

/// The partitions of `topic`.
pub(super) fn partitions(topic: &str, count: i32) -> Vec<TopicPartition> {
    let topic: std::sync::Arc<str> = topic.into();
    (0..count).map(|index| TopicPartition::new(std::sync::Arc::clone(&topic), index)).collect()
}
