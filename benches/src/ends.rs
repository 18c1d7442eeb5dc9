//! The two clusters: started for the measurements or already there, and the topics in them.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::{
    Client, Config, ErrorCode, Isolation, TopicPartition,
    admin::{Admin, At, ConfigChange, NewTopic, Resource},
    clock,
    connection::AddressMap,
};
use xtask::brokers::{Cluster, Guarded, Home, Options, Version};

use crate::{
    Error,
    case::Case,
    process::Usage,
    survey::{self, Digest, Stored},
};

/// Flags of a broker that is measured, instead of those that make it start fast.
const BROKER_FLAGS: &[&str] = &["-XX:+UseG1GC", "-Xshare:auto"];
const BROKER_HEAP: &str = "1g";
/// How long a topic may take to be made or to go.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Entries of a topic's configuration: names and values.
pub type Configs<'a> = &'a [(&'a str, &'a str)];

/// One cluster.
#[derive(Debug)]
pub struct End {
    /// `host:port` of its brokers.
    pub bootstrap: String,
    /// Its version, as asked for; brokers that were already there are called so.
    pub version: String,
    admin: Admin,
    cluster: Option<Guarded>,
}

impl End {
    /// Starts a cluster of one broker that ends with this process.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(name: &str, version: &Version) -> Result<Self, Error> {
        Self::start_with(&Self::options(name, version), None).await
    }

    /// How the broker of a measurement is started.
    #[must_use]
    pub fn options(name: &str, version: &Version) -> Options {
        let mut options = Options::new(name, version.clone())
            .with("log.segment.delete.delay.ms", "1000")
            .with("log.cleaner.dedupe.buffer.size", "67108864");
        BROKER_HEAP.clone_into(&mut options.heap);
        options.jvm_flags = BROKER_FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        options
    }

    /// Starts a cluster of one broker that ends with this process. If it advertises a port other
    /// than its own, it is asked and made ready at its own nevertheless.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_with(options: &Options, advertised: Option<u16>) -> Result<Self, Error> {
        let cluster = Cluster::start(&Home::from_environment(), options)?.guarded()?;
        let bootstrap = cluster.bootstrap.clone();
        let map = match advertised {
            Some(port) => format!("127.0.0.1:{port}={bootstrap}").parse::<AddressMap>(),
            None => Ok(AddressMap::default()),
        };
        let map = map.expect("invariant: two addresses are a map");
        let admin = connect(&bootstrap, map).await?;
        Ok(Self { bootstrap, version: options.version.to_string(), admin, cluster: Some(cluster) })
    }

    /// Uses brokers that already run.
    ///
    /// # Errors
    /// When they do not answer.
    pub async fn use_running(bootstrap: &str) -> Result<Self, Error> {
        let admin = connect(bootstrap, AddressMap::default()).await?;
        let version = "already running".to_owned();
        Ok(Self { bootstrap: bootstrap.to_owned(), version, admin, cluster: None })
    }

    /// Processor time that its brokers have used, if they were started here.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let brokers = self.cluster.as_ref()?.brokers();
        brokers.map(|node| Some(Usage::of(node.pid?).ok()?.cpu)).sum()
    }

    /// How many records `topic` holds, or has held: the sum of its partitions' ends.
    ///
    /// # Errors
    /// When a partition's leader does not answer.
    pub async fn length(&self, topic: &str, partitions: i32) -> Result<u64, Error> {
        let failed = Error::client("ask for the end of the topic");
        let wanted: BTreeMap<TopicPartition, At> =
            (0..partitions).map(|index| (TopicPartition::new(topic, index), At::Latest)).collect();
        let ends = self.admin.list_offsets(&wanted, Isolation::ReadUncommitted).await;
        let mut length = 0;
        for end in ends.map_err(&failed)?.into_values() {
            length += end.map_err(&failed)?.offset.unwrap_or(0).unsigned_abs();
        }
        Ok(length)
    }

    /// Whether it was started here and ends with this process.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.cluster.is_some()
    }

    /// What `topic` holds now, fetched with that many threads.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn stored(
        &self,
        topic: &str,
        partitions: i32,
        threads: usize,
    ) -> Result<Stored, Error> {
        let (bootstrap, topic) = (self.bootstrap.clone(), topic.to_owned());
        let count = move || survey::count(&bootstrap, &topic, partitions, threads);
        tokio::task::spawn_blocking(count).await.expect("invariant: counting does not panic")
    }

    /// Digests the records of the topic of `case`, which has that many partitions here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn digest(&self, case: &Case, partitions: i32) -> Result<Digest, Error> {
        let (bootstrap, topic) = (self.bootstrap.clone(), case.topic());
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let digest = move || Digest::of(&bootstrap, &topic, partitions, threads);
        tokio::task::spawn_blocking(digest).await.expect("invariant: digesting does not panic")
    }

    /// Whether `topic` exists with that many partitions.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn has(&self, topic: &str, partitions: i32) -> Result<bool, Error> {
        self.admin.client().watch_all_topics();
        let seen = self.admin.client().view().generation;
        let view = self.admin.client().refresh(seen).await;
        let view = view.map_err(Error::client("ask for the topics"))?;
        let count = view.topic(topic).map(|topic| topic.partitions.len());
        Ok(count == usize::try_from(partitions).ok())
    }

    /// Takes the entries called so out of the configuration of `topic`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn reset_configs(&self, topic: &str, configs: Configs<'_>) -> Result<(), Error> {
        let failed = Error::client("change the configuration of the topic");
        let delete = |(name, _): &(&str, &str)| ((*name).to_owned(), ConfigChange::Delete);
        let changes = configs.iter().map(delete).collect();
        let topic = Resource::Topic(topic.into());
        self.admin.alter_configs(&topic, &changes).await.map_err(failed)
    }

    /// Makes `topic` anew and empty with those entries in its configuration, and waits until it
    /// can be written to.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn make(
        &self,
        topic: &str,
        partitions: i32,
        configs: Configs<'_>,
    ) -> Result<(), Error> {
        self.remove(&[topic.into()]).await?;
        let deadline = clock::now() + PATIENCE;
        let new = NewTopic::new(topic)
            .with_partitions(partitions)
            .with_replication_factor(1)
            .with_config("retention.ms", "-1");
        let with = |new: NewTopic, (name, value): &(&str, &str)| new.with_config(*name, *value);
        let new = configs.iter().fold(new, with);
        while !self.create(&new).await? || self.length(topic, partitions).await? > 0 {
            if clock::now() > deadline {
                let seconds = PATIENCE.as_secs();
                return Err(Error::Topic { topic: topic.to_owned(), seconds });
            }
            clock::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether the topic is there now, created or not yet gone.
    async fn create(&self, new: &NewTopic) -> Result<bool, Error> {
        let failed = Error::client("create the topic");
        let results = self.admin.create_topics(std::slice::from_ref(new)).await.map_err(&failed)?;
        for error in results.into_values().filter_map(Result::err) {
            if error.code() != Some(ErrorCode::TOPIC_ALREADY_EXISTS) {
                return Err(failed(error));
            }
        }
        Ok(true)
    }

    /// Removes topics; those that do not exist are none the less gone.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn remove(&self, topics: &[Arc<str>]) -> Result<(), Error> {
        let failed = Error::client("delete the topic");
        for error in self.admin.delete_topics(topics).await.map_err(&failed)?.into_values() {
            match error {
                Err(error) if error.code() != Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every topic whose name contains `part`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn remove_named(&self, part: &str) -> Result<(), Error> {
        self.admin.client().watch_all_topics();
        let seen = self.admin.client().view().generation;
        let view = self.admin.client().refresh(seen).await;
        let view = view.map_err(Error::client("ask for the topics"))?;
        let names: Vec<Arc<str>> = view
            .topics()
            .filter(|topic| topic.name.contains(part))
            .map(|topic| Arc::clone(&topic.name))
            .collect();
        if names.is_empty() { Ok(()) } else { self.remove(&names).await }
    }
}

async fn connect(bootstrap: &str, map: AddressMap) -> Result<Admin, Error> {
    let failed = Error::client("reach the brokers");
    let config = Config::new(bootstrap).map_err(&failed)?.with_client_id("kmirror-bench");
    let config = config.with_address_map(map);
    Ok(Admin::new(Client::connect(config).await.map_err(&failed)?))
}
