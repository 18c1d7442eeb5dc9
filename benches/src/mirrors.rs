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
use serde::Serialize;
use xtask::brokers::{Jars, Logging, java};

use crate::Error;

/// A mirror with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
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
        }
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
}

/// What is to be mirrored.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// `host:port` of the source.
    pub source: &'a str,
    /// `host:port` of the destination.
    pub destination: &'a str,
    /// The topic; it keeps its name.
    pub topic: &'a str,
    /// Its codec, which tuned mirrors are told to compress with.
    pub codec: Codec,
    /// Threads or tasks.
    pub streams: usize,
    /// A word that nobody used before: the group, and MirrorMaker 2's name for the source.
    pub unique: &'a str,
    /// Where its files are written.
    pub directory: &'a Path,
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
        }
    }

    fn add_files(&self, command: &mut Command, mirror: Mirror) -> Result<(), Error> {
        let Self { source, destination, topic, streams, unique, .. } = self;
        let consumer =
            format!("bootstrap.servers={source}\ngroup.id={unique}\nauto.offset.reset=earliest\n");
        let producer = format!("bootstrap.servers={destination}\n{}", self.tuning(mirror, ""));
        command.arg("--consumer.config").arg(self.write("consumer.properties", &consumer)?);
        command.arg("--producer.config").arg(self.write("producer.properties", &producer)?);
        command.args(["--whitelist", topic, "--num.streams", &streams.to_string()]);
        Ok(())
    }

    /// Producer settings of a tuned mirror, each key after `prefix`; of others none.
    fn tuning(&self, mirror: Mirror, prefix: &str) -> String {
        if !mirror.is_tuned() {
            return String::new();
        }
        let codec = self.codec;
        format!(
            "{prefix}linger.ms=20\n{prefix}batch.size=262144\n{prefix}compression.type={codec}\n"
        )
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
        text.push_str(&self.tuning(mirror, "destination.producer."));
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

/// `java` as `kafka-run-class.sh` starts it, with quiet logging.
fn launch(jars: &Jars, heap: &[&str], main: &str) -> Command {
    let directory = jars.directory().display();
    let logging = match jars.version().logging() {
        Logging::Log4j1 => format!("-Dlog4j.configuration=file:{directory}/log4j.properties"),
        Logging::Log4j2 => format!("-Dlog4j2.configurationFile={directory}/log4j2.properties"),
    };
    let mut command = Command::new(java());
    command.args(heap).args(JVM_FLAGS).arg(logging).arg("-cp").arg(jars.class_path()).arg(main);
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
        assert_eq!(job.tuning(Mirror::Kmirror, ""), "");
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
}
