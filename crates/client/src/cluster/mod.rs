//! What is known of a cluster: immutable views, each newer than the one before.
//!
//! A [`View`] never changes; the refresh loop puts a new one in its place, with a higher
//! [`Generation`]. Whoever finds a view wrong asks for one that is newer than what they saw.

mod merge;
pub(crate) mod pin;
pub(crate) mod refresh;

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::connection::Address;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

/// The age of a view: a higher one is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// The cluster as one metadata answer showed it.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which view this is.
    pub generation: Generation,
    /// The cluster's id, where the broker tells (from 0.10.1).
    pub cluster_id: Option<Arc<str>>,
    /// The controller, where one is known.
    pub controller: Option<BrokerId>,
    pub(crate) brokers: BTreeMap<BrokerId, BrokerInfo>,
    /// Views share the topics that have not changed.
    pub(crate) topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// How many answers in a row told an older leader epoch; none of most partitions.
    pub(crate) rewinds: BTreeMap<TopicPartition, u32>,
}

/// A broker as the metadata show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Its node id.
    pub id: BrokerId,
    /// The address it advertises.
    pub address: Address,
    /// Where it stands, if it says so.
    pub rack: Option<Arc<str>>,
}

/// A topic as the metadata show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, which a topic created again under the same name does not share (from 2.8).
    pub id: Option<Uuid>,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Why the broker says nothing more of it, or [`ErrorCode::NONE`].
    pub error: ErrorCode,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, Partition>,
}

/// A partition as the metadata show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// Its leader, if it has one.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; -1 where the broker does not tell, or not reliably (before 2.4).
    pub leader_epoch: i32,
    /// Where it is kept.
    pub replicas: Vec<BrokerId>,
    /// Which replicas are in sync.
    pub in_sync: Vec<BrokerId>,
    /// What is wrong with it, or [`ErrorCode::NONE`].
    pub error: ErrorCode,
}

impl View {
    /// The brokers, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerInfo> {
        self.brokers.values()
    }

    /// One broker.
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerInfo> {
        self.brokers.get(&id)
    }

    /// The topics asked for, by name, those with an error included.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values().map(|topic| &**topic)
    }

    /// One topic; `None` if nobody asked for it or it does not exist.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name).map(|topic| &**topic)
    }

    /// One partition.
    pub fn partition(&self, partition: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.partition)
    }

    /// A partition's leader and the leader's epoch (-1: not told).
    pub fn leader(&self, partition: &TopicPartition) -> Option<(BrokerId, i32)> {
        let partition = self.partition(partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }
}
