//! Everything the mirror can be told, with its default, unit and bounds. Owned by whoever builds
//! the [`Mirror`](crate::Mirror); [`Config::validate`] is one table that is run before anything is
//! dialled.

use std::sync::Arc;
use std::time::Duration;

use kmirror_client::config::Config as Cluster;
pub use kmirror_client::group::slot::Slot;
use kmirror_client::group::{self, Assignor};

use crate::error::Error;
use crate::policy::filter::Selection;
use crate::policy::naming::Naming;
use crate::policy::partitioning::Partitioning;
use crate::policy::trouble::{AppendTime, Lost, Reach, Refused, Start};

/// The settings of one mirror. Start from [`Config::new`], set what differs, hand it to
/// [`Mirror::build`](crate::Mirror::build).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// How to reach the cluster that is read.
    pub source: Cluster,
    /// How to reach the cluster that is written.
    pub destination: Cluster,
    /// Which topics.
    pub topics: Selection,
    /// Under which names. Default: the same.
    pub naming: Naming,
    /// To which partitions. Default: [`Partitioning::Auto`].
    pub partitioning: Partitioning,
    /// The operator's word that every source producer used Kafka's default partitioner, which lets
    /// whole batches pass when the destination's partition count divides the source's. Default: no.
    pub source_is_murmur2: bool,
    /// Independent streams: threads, connections and producers. Default 1, at most [`STREAMS_MAX`].
    pub streams: usize,
    /// Memory for everything fetched and not yet acknowledged, all streams together, in bytes.
    /// Default 64 MiB.
    pub memory_bytes: u64,
    /// Who owns which source partition, and where positions are kept.
    pub ownership: Ownership,
    /// How often positions are committed, beside revocation and shutdown. Default 5 s.
    pub commit_interval: Duration,
    /// Where a partition without a position starts. Default [`Start::Earliest`].
    pub start: Start,
    /// End when every partition of every selected topic has reached the end it had at the start,
    /// whichever stream or instance mirrored it, or cannot go on. Default: no.
    pub until_caught_up: bool,
    /// Reading from the source.
    pub fetch: Fetch,
    /// Writing to the destination.
    pub produce: Produce,
    /// Destination topics.
    pub topic: Topic,
    /// What is done with trouble.
    pub trouble: Trouble,
    /// How long a drain may take before it becomes an abort. Default 30 s.
    pub shutdown_timeout: Duration,
    /// Refuse to run when another cluster answers. Default: pin what answers first.
    pub source_cluster_id: Option<Arc<str>>,
    /// As [`source_cluster_id`](Self::source_cluster_id), for the destination.
    pub destination_cluster_id: Option<Arc<str>>,
}

/// Who owns which source partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Ownership {
    /// Every stream of every instance joins one consumer group on the source, whose coordinator
    /// shares the partitions out and keeps the positions, as MirrorMaker does.
    Group(Group),
    /// This process owns every matching partition. Positions are committed to the named group on
    /// the source without being its member, or kept nowhere: then every run begins at
    /// [`Config::start`].
    Alone {
        /// The group whose committed offsets are the positions.
        group_id: Option<Arc<str>>,
    },
}

/// Membership of a consumer group on the source.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Group {
    /// The group's id (`group.id`).
    pub id: Arc<str>,
    /// A name that survives a restart (`group.instance.id`, KIP-345); stream `i` appends `-i`.
    /// Default: none.
    pub instance_id: Option<Arc<str>>,
    /// A slot of this host that gives members their names, unless
    /// [`instance_id`](Self::instance_id) does: a process that was killed takes its old place at
    /// once. Default: none.
    pub slot: Option<Slot>,
    /// Silence after which the coordinator gives a static member up (`session.timeout.ms`).
    /// Default 45 s.
    pub session_timeout: Duration,
    /// The same for a dynamic member. Default 10 s: one that died is in its successor's way for
    /// this long.
    pub session_timeout_dynamic: Duration,
    /// Time a member has to rejoin, hence to flush (`max.poll.interval.ms`). Default 60 s.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats (`heartbeat.interval.ms`). Default 3 s.
    pub heartbeat_interval: Duration,
    /// Ways to share partitions out by name, the preferred one first
    /// (`partition.assignment.strategy`): `cooperative-sticky`, `sticky`, `range`, `roundrobin`.
    /// Default: the first.
    pub assignors: Vec<Arc<str>>,
}

impl Group {
    /// A dynamic member with Kafka's defaults and cooperative rebalancing.
    pub fn new(id: impl Into<Arc<str>>) -> Group {
        Group {
            id: id.into(),
            instance_id: None,
            slot: None,
            session_timeout: Duration::from_secs(45),
            session_timeout_dynamic: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            assignors: vec![Assignor::CooperativeSticky.name().into()],
        }
    }
}

/// Reading from the source.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fetch {
    /// The most a fetch response may hold (`fetch.max.bytes`), reserved from the memory budget
    /// before it is asked for. Default 50 MiB; less where the budget does not hold four responses
    /// for each stream and source broker, or two of brokers that are far away.
    pub bytes_max: u32,
    /// The most of one partition in a response (`max.partition.fetch.bytes`) where many are
    /// fetched; few share the whole response, which a long link needs. Default 2 MiB.
    pub partition_bytes_max: u32,
    /// How long the broker may wait for data (`fetch.max.wait.ms`). Default 500 ms.
    pub wait_max: Duration,
    /// The least the broker waits for (`fetch.min.bytes`). Default 1.
    pub bytes_min: u32,
    /// Only what is committed, or everything (`isolation.level`). Default: what is committed.
    /// Records of aborted transactions never reach the destination with it.
    pub isolation: Isolation,
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch {
            bytes_max: 50 << 20,
            partition_bytes_max: 2 << 20,
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            isolation: Isolation::ReadCommitted,
        }
    }
}

/// Which records of transactions are read (`isolation.level`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// Those of committed transactions, and those outside any.
    #[default]
    ReadCommitted,
    /// All, as Kafka's consumer does by default and so MirrorMaker did.
    ReadUncommitted,
}

impl From<Isolation> for kmirror_client::isolation::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::ReadCommitted => Self::ReadCommitted,
            Isolation::ReadUncommitted => Self::ReadUncommitted,
        }
    }
}

/// Writing to the destination.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Produce {
    /// The most of one produce request (`max.request.size`). Default 4 MiB.
    pub request_bytes_max: u32,
    /// Batches of one partition under way at once, after its first acknowledgement. Default 5,
    /// which is also the most an idempotent producer may have.
    pub in_flight_max: u16,
    /// How long the brokers may take to replicate a batch (`request.timeout.ms`). Default 30 s.
    pub timeout: Duration,
    /// How batches are compressed at the destination. Default: as they are at the source.
    pub compression: Compression,
    /// Uncompressed batches smaller than this, and compressed ones smaller than an eighth of it,
    /// are merged with their neighbours of the same fetch, or while they wait to be sent; over a
    /// long link also larger ones. Default 32 KiB.
    pub small_batch_bytes: u32,
    /// The size merged and rebuilt batches are filled to; split by key, before they are
    /// compressed. Default 900 KiB, below the brokers' default `max.message.bytes`.
    pub batch_bytes: u32,
}

impl Default for Produce {
    fn default() -> Produce {
        Produce {
            request_bytes_max: 4 << 20,
            in_flight_max: 5,
            timeout: Duration::from_secs(30),
            compression: Compression::Keep,
            small_batch_bytes: 32 << 10,
            batch_bytes: 900 << 10,
        }
    }
}

/// How batches are compressed at the destination.
///
/// MirrorMaker compresses again with its producer's codec, by default none, which costs most of its
/// CPU. The mirror keeps each batch as its producer made it unless it is told a codec.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Each batch keeps the codec it has.
    #[default]
    Keep,
    /// Every compressed batch is stored uncompressed.
    None,
    /// Every batch with another codec is compressed again with gzip.
    Gzip,
    /// Every batch with another codec is compressed again with snappy.
    Snappy,
    /// Every batch with another codec is compressed again with lz4.
    Lz4,
    /// Every batch with another codec is compressed again with zstd.
    Zstd,
}

/// Destination topics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Topic {
    /// Create topics that are missing, with the source's partition count. Default: yes.
    pub create: bool,
    /// Give created topics the source's topic configuration, apart from what only makes sense
    /// there. Default: yes.
    pub copy_configs: bool,
    /// Replication factor of created topics. Default: the source's, lowered to the number of the
    /// destination's brokers.
    pub replication_factor: Option<i16>,
    /// Add partitions at the destination when the source has got more, and partition numbers are
    /// kept. Default: yes.
    pub grow: bool,
    /// How often topics are looked at. Default 5 s.
    pub refresh_interval: Duration,
}

impl Default for Topic {
    fn default() -> Topic {
        Topic {
            create: true,
            copy_configs: true,
            replication_factor: None,
            grow: true,
            refresh_interval: Duration::from_secs(5),
        }
    }
}

/// What is done with trouble. Every default loses nothing.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Trouble {
    /// A position the source no longer has.
    pub lost: Lost,
    /// A single record larger than the destination takes.
    pub oversize: Refused,
    /// A record without a key for a compacted destination topic.
    pub null_key: Refused,
    /// A batch the destination refuses for another reason.
    pub rejected: Refused,
    /// How far it reaches when a partition stops because the destination refuses its records.
    pub reach: Reach,
    /// How far it reaches when a partition stops for anything else: its log at the source was
    /// overtaken, cut off, made anew or cannot be read, or its destination topic is another one.
    pub source_reach: Reach,
    /// Times of records from `LogAppendTime` topics.
    pub append_time: AppendTime,
}

/// The most streams one mirror may have.
pub const STREAMS_MAX: usize = 256;

/// The least memory that a mirror gets by with, in bytes.
pub const MEMORY_BYTES_MIN: u64 = 1 << 20;

impl Config {
    /// A mirror of `topics` that owns all their partitions and keeps no positions, with the
    /// defaults named at each field. Set [`ownership`](Self::ownership) to keep positions.
    pub fn new(source: Cluster, destination: Cluster, topics: Selection) -> Config {
        Config {
            source,
            destination,
            topics,
            naming: Naming::default(),
            partitioning: Partitioning::default(),
            source_is_murmur2: false,
            streams: 1,
            memory_bytes: 64 << 20,
            ownership: Ownership::Alone { group_id: None },
            commit_interval: Duration::from_secs(5),
            start: Start::default(),
            until_caught_up: false,
            fetch: Fetch::default(),
            produce: Produce::default(),
            topic: Topic::default(),
            trouble: Trouble::default(),
            shutdown_timeout: Duration::from_secs(30),
            source_cluster_id: None,
            destination_cluster_id: None,
        }
    }

    /// Joins the consumer group `id` on the source.
    #[must_use]
    pub fn with_group(mut self, group: Group) -> Config {
        self.ownership = Ownership::Group(group);
        self
    }

    /// Renames topics.
    #[must_use]
    pub fn with_naming(mut self, naming: Naming) -> Config {
        self.naming = naming;
        self
    }

    /// Sets the number of streams.
    #[must_use]
    pub fn with_streams(mut self, streams: usize) -> Config {
        self.streams = streams;
        self
    }

    /// Sets the memory budget in bytes.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: u64) -> Config {
        self.memory_bytes = bytes;
        self
    }

    /// Ends the mirror once everything that was there at the start has been mirrored.
    #[must_use]
    pub fn with_until_caught_up(mut self) -> Config {
        self.until_caught_up = true;
        self
    }

    /// The consumer group whose offsets are the positions, if any.
    pub fn group_id(&self) -> Option<&Arc<str>> {
        match &self.ownership {
            Ownership::Group(group) => Some(&group.id),
            Ownership::Alone { group_id } => group_id.as_ref(),
        }
    }

    /// Checks every bound and every pair of settings that cannot go together.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first setting that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        for Bound { setting, value, least, most } in [
            bound("streams", self.streams as u64, 1, STREAMS_MAX as u64),
            bound("memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN, u64::MAX),
            bound("commit_interval", millis(self.commit_interval), 1, DAY_MS),
            bound("shutdown_timeout", millis(self.shutdown_timeout), 0, DAY_MS),
            bound("fetch.bytes_max", self.fetch.bytes_max.into(), 1 << 10, 1 << 30),
            bound("fetch.partition_bytes_max", self.fetch.partition_bytes_max.into(), 1, 1 << 30),
            bound("fetch.wait_max", millis(self.fetch.wait_max), 0, HOUR_MS),
            bound("fetch.bytes_min", self.fetch.bytes_min.into(), 0, self.fetch.bytes_max.into()),
            bound(
                "produce.request_bytes_max",
                self.produce.request_bytes_max.into(),
                1024,
                1 << 30,
            ),
            bound("produce.in_flight_max", self.produce.in_flight_max.into(), 1, 5),
            bound("produce.timeout", millis(self.produce.timeout), 1, HOUR_MS),
            bound("produce.small_batch_bytes", self.produce.small_batch_bytes.into(), 0, 1 << 30),
            bound("produce.batch_bytes", self.produce.batch_bytes.into(), 1024, 1 << 30),
            bound("topic.refresh_interval", millis(self.topic.refresh_interval), 10, DAY_MS),
        ] {
            if !(least..=most).contains(&value) {
                let reason = format!("{value} is not between {least} and {most}");
                return Err(Error::Config { setting, reason });
            }
        }
        if self.group_id().is_some_and(|id| id.is_empty()) {
            return Err(wrong("ownership.group.id", "it is empty"));
        }
        if let Ownership::Group(group) = &self.ownership {
            group.validate()?;
        }
        if self.topic.replication_factor.is_some_and(|factor| factor < 1) {
            return Err(wrong("topic.replication_factor", "it is below 1"));
        }
        Ok(())
    }
}

impl Group {
    fn validate(&self) -> Result<(), Error> {
        self.member()?.check().map_err(|error| match error {
            group::Error::Config { setting: "heartbeat_interval", problem } => {
                wrong("group.heartbeat_interval", &problem)
            }
            group::Error::Config { problem, .. } => wrong("group.assignors", &problem),
            source => Error::Group { source },
        })
    }

    /// What every member of the group is configured with.
    pub(crate) fn member(&self) -> Result<group::Config, Error> {
        let mut config = group::Config::new(Arc::clone(&self.id));
        config.session_timeout = self.session_timeout;
        config.session_timeout_dynamic = self.session_timeout_dynamic;
        config.rebalance_timeout = self.rebalance_timeout;
        config.heartbeat_interval = self.heartbeat_interval;
        config.assignors = self.assignors()?;
        Ok(config)
    }

    /// The assignors by their names.
    fn assignors(&self) -> Result<Vec<Assignor>, Error> {
        let assignor = |name: &Arc<str>| {
            let unknown = || wrong("group.assignors", &format!("there is none called {name}"));
            Assignor::from_name(name).ok_or_else(unknown)
        };
        self.assignors.iter().map(assignor).collect()
    }
}

struct Bound {
    setting: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

fn bound(setting: &'static str, value: u64, least: u64, most: u64) -> Bound {
    Bound { setting, value, least, most }
}

fn wrong(setting: &'static str, reason: &str) -> Error {
    Error::Config { setting, reason: reason.to_owned() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::filter::Pattern;

    fn config() -> Config {
        let cluster = || Cluster::new("localhost:9092").unwrap();
        let topics = Selection::new(Pattern::try_new(".*").unwrap());
        Config::new(cluster(), cluster(), topics)
    }

    fn setting(config: &Config) -> &'static str {
        match config.validate() {
            Err(Error::Config { setting, .. }) => setting,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        config().validate().unwrap();
        config().with_group(Group::new("mirror")).validate().unwrap();
    }

    #[test]
    fn an_unknown_assignor_is_refused() {
        let mut group = Group::new("mirror");
        group.assignors = vec!["range".into(), "fair".into()];
        assert_eq!(setting(&config().with_group(group)), "group.assignors");
    }

    #[test]
    fn every_bound_names_its_setting() {
        assert_eq!(setting(&config().with_streams(0)), "streams");
        assert_eq!(setting(&config().with_streams(STREAMS_MAX + 1)), "streams");
        assert_eq!(setting(&config().with_memory_bytes(1)), "memory_bytes");
        assert_eq!(setting(&config().with_group(Group::new(""))), "ownership.group.id");
        let mut changed = config();
        changed.produce.in_flight_max = 6;
        assert_eq!(setting(&changed), "produce.in_flight_max");
        let mut group = Group::new("mirror");
        group.heartbeat_interval = group.session_timeout_dynamic;
        assert_eq!(setting(&config().with_group(group)), "group.heartbeat_interval");
        let mut group = Group::new("mirror");
        group.assignors.clear();
        assert_eq!(setting(&config().with_group(group)), "group.assignors");
    }
}
