//! The two clusters: started for the measurements or already there, and the topics in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::{
    Client, Config, ErrorCode, Isolation, TopicPartition,
    admin::{Admin, At, NewTopic},
    clock,
    connection::AddressMap,
};
use xtask::brokers::{Cluster, Guarded, Home, Options, Version};

use crate::{Error, process::Usage};

/// Flags of a broker that is measured, instead of those that make it start fast.
const BROKER_FLAGS: &[&str] = &["-XX:+UseG1GC", "-Xshare:auto"];
const BROKER_HEAP: &str = "1g";
/// How long a topic may take to be made or to go.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

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
        let mut options =
            Options::new(name, version.clone()).with("log.segment.delete.delay.ms", "1000");
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

    /// Whether `topic` exists and holds `records`.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn holds(&self, topic: &str, partitions: i32, records: u64) -> Result<bool, Error> {
        self.admin.client().watch_all_topics();
        let seen = self.admin.client().view().generation;
        let view = self.admin.client().refresh(seen).await;
        let view = view.map_err(Error::client("ask for the topics"))?;
        let count = view.topic(topic).map(|topic| topic.partitions.len());
        if count != usize::try_from(partitions).ok() {
            return Ok(false);
        }
        Ok(self.length(topic, partitions).await? == records)
    }

    /// Makes `topic` anew and empty, and waits until it can be written to.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn make(&self, topic: &str, partitions: i32) -> Result<(), Error> {
        self.remove(&[topic.into()]).await?;
        let deadline = clock::now() + PATIENCE;
        let new = NewTopic::new(topic)
            .with_partitions(partitions)
            .with_replication_factor(1)
            .with_config("retention.ms", "-1");
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
