//! The mirrors: how each is started, as its users start it, and with which settings.
//!
//! The Java virtual machine's flags and heaps are those of Kafka's own launchers
//! (`kafka-run-class.sh`, `connect-mirror-maker.sh`), except where said.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::ValueEnum;
use kmirror_client::batch::Codec;
use serde::{Deserialize, Serialize};
use xtask::brokers::{Jars, java};

use crate::{Error, case::Case, peers::FranzGo};

/// A mirror with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mirror {
    /// kmirror with the flags and files of MirrorMaker 1, nothing tuned.
    Kmirror,
    /// MirrorMaker 1 as it comes.
    Mm1,
    /// MirrorMaker 1 with a linger of 20 ms, batches of 256 KiB, the source's codec, 1 GiB of heap.
    Mm1Tuned,
    /// MirrorMaker 2 as it comes, without renaming topics.
    Mm2,
    /// MirrorMaker 2 with the same settings and 5000 records in a poll.
    Mm2Tuned,
    /// A copier of records in Go, on franz-go: linger 20 ms, batches of 1 MB, the source's codec.
    FranzGo,
}

impl Mirror {
    /// Its name, as it is asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kmirror => "kmirror",
            Self::Mm1 => "mm1",
            Self::Mm1Tuned => "mm1-tuned",
            Self::Mm2 => "mm2",
            Self::Mm2Tuned => "mm2-tuned",
            Self::FranzGo => "franz-go",
        }
    }

    /// Whether records stay in the partition that they have at the source, if the destination has
    /// as many. MirrorMaker 1 lets its producer choose.
    #[must_use]
    pub fn keeps_partitions(self) -> bool {
        !matches!(self, Self::Mm1 | Self::Mm1Tuned)
    }

    fn is_tuned(self) -> bool {
        matches!(self, Self::Mm1Tuned | Self::Mm2Tuned)
    }
}

/// The programs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The kmirror binary.
    pub kmirror: PathBuf,
    /// The jars that hold MirrorMaker 1.
    pub mm1: Jars,
    /// The jars that hold MirrorMaker 2.
    pub mm2: Jars,
    /// The copier in Go.
    pub franz_go: FranzGo,
}

/// What is to be mirrored.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// `host:port` of the source.
    pub source: &'a str,
    /// `host:port` of the destination.
    pub destination: &'a str,
    /// The topic, or a pattern for several; names are kept.
    pub topic: &'a str,
    /// Its codec, which tuned mirrors are told to compress with.
    pub codec: Codec,
    /// What else about the load matters to some mirrors.
    pub load: Load,
    /// Threads or tasks.
    pub streams: usize,
    /// A word that nobody used before: the group, and MirrorMaker 2's name for the source.
    pub unique: &'a str,
    /// Where its files are written.
    pub directory: &'a Path,
}

/// What matters to some mirrors about a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The records are larger than clients let pass unless they are told.
    pub is_large: bool,
    /// The destination has another number of partitions.
    pub is_routed: bool,
}

impl Load {
    /// What matters about `case`.
    #[must_use]
    pub fn of(case: &Case) -> Self {
        Self { is_large: case.is_large(), is_routed: !case.keeps_partitions() }
    }
}

impl Job<'_> {
    /// Writes the files and gives the command that mirrors until it is ended.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn command(&self, mirror: Mirror, programs: &Programs) -> Result<Command, Error> {
        match mirror {
            Mirror::Kmirror => {
                let mut command = Command::new(&programs.kmirror);
                command.arg("mirror-maker");
                self.add_files(&mut command, mirror)?;
                Ok(command)
            }
            Mirror::Mm1 | Mirror::Mm1Tuned => {
                let heap = if mirror.is_tuned() { "-Xmx1g" } else { "-Xmx256M" };
                let mut command = launch(&programs.mm1, &[heap], "kafka.tools.MirrorMaker");
                self.add_files(&mut command, mirror)?;
                Ok(command)
            }
            Mirror::Mm2 | Mirror::Mm2Tuned => {
                let main = "org.apache.kafka.connect.mirror.MirrorMaker";
                let mut command = launch(&programs.mm2, &["-Xms256M", "-Xmx2G"], main);
                let text = self.mirror_maker_2(mirror);
                command.arg(self.write("mm2.properties", &text)?);
                Ok(command)
            }
            Mirror::FranzGo => {
                let mut command = Command::new(programs.franz_go.program()?);
                command.arg(self.write("franz-go.json", &self.franz_go())?);
                Ok(command)
            }
        }
    }

    fn add_files(&self, command: &mut Command, mirror: Mirror) -> Result<(), Error> {
        let Self { source, destination, topic, streams, unique, .. } = self;
        let consumer =
            format!("bootstrap.servers={source}\ngroup.id={unique}\nauto.offset.reset=earliest\n");
        let producer = format!("bootstrap.servers={destination}\n{}", self.settings(mirror, ""));
        command.arg("--consumer.config").arg(self.write("consumer.properties", &consumer)?);
        command.arg("--producer.config").arg(self.write("producer.properties", &producer)?);
        command.args(["--whitelist", topic, "--num.streams", &streams.to_string()]);
        Ok(())
    }

    /// Producer settings, each key after `prefix`: the tuning of a tuned mirror, and what any
    /// client needs for large records.
    fn settings(&self, mirror: Mirror, prefix: &str) -> String {
        let mut text = String::new();
        if mirror.is_tuned() {
            let codec = self.codec;
            text.push_str(&format!(
                "{prefix}linger.ms=20\n{prefix}batch.size=262144\n\
                 {prefix}compression.type={codec}\n"
            ));
        }
        if self.load.is_large {
            text.push_str(&format!("{prefix}max.request.size={LARGE_REQUEST_BYTES}\n"));
        }
        text
    }

    fn franz_go(&self) -> String {
        let Load { is_large, is_routed } = self.load;
        let batch_bytes = if is_large { LARGE_REQUEST_BYTES } else { FRANZ_GO_BATCH_BYTES };
        let settings = serde_json::json!({
            "Source": self.source,
            "Destination": self.destination,
            "Topic": format!("^({})$", self.topic),
            "Group": self.unique,
            "Compression": self.codec.name(),
            "ByKey": is_routed,
            "BatchBytes": batch_bytes,
            "Streams": self.streams,
        });
        settings.to_string()
    }

    fn mirror_maker_2(&self, mirror: Mirror) -> String {
        let Self { source, destination, topic, streams, unique: alias, .. } = self;
        let mut text = format!(
            "clusters={alias},destination\n\
             {alias}.bootstrap.servers={source}\n\
             destination.bootstrap.servers={destination}\n\
             {alias}->destination.enabled=true\n\
             {alias}->destination.topics={topic}\n\
             tasks.max={streams}\n\
             replication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy\n"
        );
        for topic in [
            "replication.factor",
            "offset-syncs.topic.replication.factor",
            "checkpoints.topic.replication.factor",
            "heartbeats.topic.replication.factor",
            "offset.storage.replication.factor",
            "status.storage.replication.factor",
            "config.storage.replication.factor",
        ] {
            text.push_str(&format!("{topic}=1\n"));
        }
        text.push_str(&self.settings(mirror, "destination.producer."));
        if mirror.is_tuned() {
            text.push_str(&format!("{alias}.consumer.max.poll.records=5000\n"));
        }
        text
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        Ok(path)
    }
}

/// The largest request where records are larger than clients take unless they are told.
const LARGE_REQUEST_BYTES: u32 = 4 << 20;
/// The largest batch of the copier in Go.
const FRANZ_GO_BATCH_BYTES: u32 = 1_000_000;

/// `java` as `kafka-run-class.sh` starts it, logging warnings as Kafka's `tools-log4j` does.
fn launch(jars: &Jars, heap: &[&str], main: &str) -> Command {
    let mut command = Command::new(java());
    command.args(heap).args(JVM_FLAGS).args(jars.logging_flags("WARN"));
    command.arg("-cp").arg(jars.class_path()).arg(main);
    command
}

/// `KAFKA_JVM_PERFORMANCE_OPTS`.
const JVM_FLAGS: &[&str] = &[
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn job(directory: &Path) -> Job<'_> {
        Job {
            source: "source:9092",
            destination: "destination:9092",
            topic: "a-topic",
            codec: Codec::Lz4,
            load: Load::default(),
            streams: 2,
            unique: "bench7",
            directory,
        }
    }

    #[test]
    fn only_tuned_mirrors_are_tuned() {
        let job = job(Path::new("/"));
        assert!(!job.mirror_maker_2(Mirror::Mm2).contains("linger.ms"));
        let tuned = job.mirror_maker_2(Mirror::Mm2Tuned);
        assert!(tuned.contains("destination.producer.compression.type=lz4\n"));
        assert!(tuned.contains("bench7.consumer.max.poll.records=5000\n"));
        assert_eq!(job.settings(Mirror::Kmirror, ""), "");
    }

    #[test]
    fn large_records_are_let_pass_by_all() {
        let load = Load { is_large: true, is_routed: false };
        let job = Job { load, ..job(Path::new("/")) };
        for mirror in [Mirror::Kmirror, Mirror::Mm1, Mirror::Mm1Tuned] {
            assert!(job.settings(mirror, "").contains("max.request.size=4194304\n"));
        }
        let mm2 = job.mirror_maker_2(Mirror::Mm2);
        assert!(mm2.contains("destination.producer.max.request.size=4194304\n"));
        assert!(job.franz_go().contains("\"BatchBytes\":4194304"));
    }

    #[test]
    fn kmirror_and_mirror_maker_get_the_same_flags() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("mirror");
        job(directory.path()).add_files(&mut command, Mirror::Kmirror).expect("files");
        let arguments: Vec<_> = command.get_args().map(|text| text.to_string_lossy()).collect();
        assert_eq!(arguments[4..], ["--whitelist", "a-topic", "--num.streams", "2"]);
        let consumer = fs::read_to_string(directory.path().join("consumer.properties"));
        assert!(consumer.expect("a file").contains("group.id=bench7\n"));
    }

    #[test]
    fn the_copier_in_go_keeps_partitions_unless_their_number_differs() {
        let same = job(Path::new("/"));
        assert!(same.franz_go().contains("\"ByKey\":false"));
        let routed = Job { load: Load { is_large: false, is_routed: true }, ..same };
        assert!(routed.franz_go().contains("\"ByKey\":true"));
    }
}
