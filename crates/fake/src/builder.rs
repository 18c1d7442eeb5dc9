//! Says what a cluster is to be and starts it.
//!
//! Always true: when `start` returns, every broker accepts connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::shared::{Handle, Phase, Settings, Shared};
use crate::state::{Node, State};
use crate::versions::Release;

/// Collects the settings of a [`Cluster`].
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: i32,
    is_in_memory: bool,
    unix_ms: Option<i64>,
    advertised: BTreeMap<i32, (String, u16)>,
    ports: BTreeMap<i32, u16>,
    racks: BTreeMap<i32, String>,
    lowered: Vec<(ApiKey, i16)>,
    topics: Vec<(String, i32)>,
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            brokers: 1,
            is_in_memory: false,
            unix_ms: None,
            advertised: BTreeMap::new(),
            ports: BTreeMap::new(),
            racks: BTreeMap::new(),
            lowered: Vec::new(),
            topics: Vec::new(),
            settings: Settings {
                cluster_id: "kmirror-fake-cluster-0".to_owned(),
                release: Release::default(),
                creates_topics: true,
                partitions: 1,
                replication_factor: 0,
                follower_fetch: false,
                is_strict: false,
                frame_bytes_max: 100 * 1024 * 1024,
                connections_max: 4096,
                storage_bytes_max: 4 << 30,
                pipe_bytes: 256 * 1024,
                initial_rebalance_delay_ms: 0,
                session_timeout_min_ms: 100,
            },
        }
    }
}

impl Builder {
    /// How many brokers; their ids start at 1. Default 1.
    #[must_use]
    pub fn brokers(mut self, count: i32) -> Builder {
        self.brokers = count;
        self
    }

    /// No sockets: connections are made with [`Cluster::dial`] only.
    #[must_use]
    pub fn in_memory(mut self) -> Builder {
        self.is_in_memory = true;
        self
    }

    /// Bytes an in-memory pipe holds in each direction. Default 256 KiB.
    #[must_use]
    pub fn pipe_bytes(mut self, bytes: usize) -> Builder {
        self.settings.pipe_bytes = bytes;
        self
    }

    /// Looks like this release: its API versions and its validation. Default [`Release::V3_9`].
    #[must_use]
    pub fn emulate(mut self, release: Release) -> Builder {
        self.settings.release = release;
        self
    }

    /// Offers an API up to this version only; below its least version, not at all.
    #[must_use]
    pub fn max_version(mut self, api: ApiKey, version: i16) -> Builder {
        self.lowered.push((api, version));
        self
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(mut self, id: impl Into<String>) -> Builder {
        self.settings.cluster_id = id.into();
        self
    }

    /// What metadata says this broker's address is; default is where it listens.
    #[must_use]
    pub fn advertise(mut self, broker: i32, host: impl Into<String>, port: u16) -> Builder {
        self.advertised.insert(broker, (host.into(), port));
        self
    }

    /// The loopback port this broker listens on; default is a free one.
    #[must_use]
    pub fn port(mut self, broker: i32, port: u16) -> Builder {
        self.ports.insert(broker, port);
        self
    }

    /// The rack of this broker.
    #[must_use]
    pub fn rack(mut self, broker: i32, rack: impl Into<String>) -> Builder {
        self.racks.insert(broker, rack.into());
        self
    }

    /// Creates this topic before the cluster starts.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>, partitions: i32) -> Builder {
        self.topics.push((name.into(), partitions));
        self
    }

    /// Whether metadata requests create the topics they ask for. Default true.
    #[must_use]
    pub fn auto_create_topics(mut self, creates: bool) -> Builder {
        self.settings.creates_topics = creates;
        self
    }

    /// `num.partitions`. Default 1.
    #[must_use]
    pub fn default_partitions(mut self, partitions: i32) -> Builder {
        self.settings.partitions = partitions;
        self
    }

    /// `default.replication.factor`. Default is the number of brokers, at most 3.
    #[must_use]
    pub fn replication_factor(mut self, factor: i16) -> Builder {
        self.settings.replication_factor = factor;
        self
    }

    /// Whether consumers may fetch from followers and are sent to one in their rack (KIP-392), as
    /// with `RackAwareReplicaSelector`. Default false: a fetch at a follower is
    /// NOT_LEADER_OR_FOLLOWER.
    #[must_use]
    pub fn follower_fetch(mut self, allowed: bool) -> Builder {
        self.settings.follower_fetch = allowed;
        self
    }

    /// Whether wrong offset deltas in uncompressed batches are refused. Real brokers store them and
    /// serve a corrupt log; so does the fake by default.
    #[must_use]
    pub fn strict_offsets(mut self, strict: bool) -> Builder {
        self.settings.is_strict = strict;
        self
    }

    /// `socket.request.max.bytes`: larger frames close the connection. Default 100 MiB.
    #[must_use]
    pub fn frame_bytes_max(mut self, bytes: usize) -> Builder {
        self.settings.frame_bytes_max = bytes;
        self
    }

    /// Connections a broker keeps; further ones are closed at once. Default 4096.
    #[must_use]
    pub fn connections_max(mut self, count: usize) -> Builder {
        self.settings.connections_max = count;
        self
    }

    /// Bytes all logs may hold; beyond it produce is KAFKA_STORAGE_ERROR. Default 4 GiB.
    #[must_use]
    pub fn storage_bytes_max(mut self, bytes: u64) -> Builder {
        self.settings.storage_bytes_max = bytes;
        self
    }

    /// `group.initial.rebalance.delay.ms`. Default 0.
    #[must_use]
    pub fn initial_rebalance_delay_ms(mut self, ms: i32) -> Builder {
        self.settings.initial_rebalance_delay_ms = ms;
        self
    }

    /// `group.min.session.timeout.ms`. Default 100, where Kafka has 6000, to keep tests short.
    #[must_use]
    pub fn session_timeout_min_ms(mut self, ms: i32) -> Builder {
        self.settings.session_timeout_min_ms = ms;
        self
    }

    /// What the cluster's clock shows at the start; it then follows tokio's clock. Default is now.
    #[must_use]
    pub fn unix_ms(mut self, unix_ms: i64) -> Builder {
        self.unix_ms = Some(unix_ms);
        self
    }

    /// Starts the brokers on the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::Setting`] for a count of brokers below 1; [`Error::Listen`] if a port is taken;
    /// [`Error::Refused`] if a topic could not be created.
    pub async fn start(mut self) -> Result<Cluster, Error> {
        if self.brokers < 1 {
            return Err(Error::Setting { reason: "a cluster has at least one broker" });
        }
        if self.settings.replication_factor == 0 {
            self.settings.replication_factor = self.brokers.min(3) as i16;
        }
        let mut listeners = BTreeMap::new();
        let mut handles = BTreeMap::new();
        let mut nodes = BTreeMap::new();
        for broker in 1..=self.brokers {
            let listener = self.listen(broker).await?;
            let listening = listener.as_ref().and_then(|l| l.local_addr().ok());
            let at = match listening {
                Some(address) => (address.ip().to_string(), address.port()),
                None => (format!("broker-{broker}.fake"), 9092),
            };
            let (host, port) = self.advertised.get(&broker).cloned().unwrap_or(at);
            let rack = self.racks.get(&broker).cloned();
            let overrides = BTreeMap::new();
            nodes.insert(broker, Node { is_alive: true, rack, host, port, overrides });
            let phase = watch::Sender::new(Phase::Running);
            let cuts = watch::Sender::new(0);
            let inbox = Mutex::default();
            handles.insert(broker, Handle { phase, cuts, inbox, listening });
            listeners.insert(broker, listener);
        }
        let clock = Clock::new(self.unix_ms);
        let shared = Shared::new(self.settings, clock, handles, State::new(nodes));
        for (api, version) in self.lowered {
            shared.versions().lower(api, version);
        }
        let cluster = Cluster::new(Arc::new(shared));
        for (name, partitions) in self.topics {
            cluster.try_create_topic(&name, partitions)?;
        }
        cluster.run_housekeeping();
        for (broker, listener) in listeners {
            cluster.run_broker(broker, listener);
        }
        Ok(cluster)
    }

    async fn listen(&self, broker: i32) -> Result<Option<TcpListener>, Error> {
        if self.is_in_memory {
            return Ok(None);
        }
        let port = self.ports.get(&broker).copied().unwrap_or(0);
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        listener.map(Some).map_err(|source| Error::Listen { broker, source })
    }
}
