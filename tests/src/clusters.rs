//! The two clusters of a test: those that the environment names, which `cargo xtask test` starts
//! once for all suites, or clusters of the test's own, which end with it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
};

use xtask::brokers::{Cluster, Guarded, Home, Node, Options, State, Version};

/// One end: the source or the destination.
#[derive(Debug)]
pub struct End {
    /// `host:port` of its brokers.
    pub bootstrap: String,
    /// Its version of Kafka.
    pub version: Version,
    /// `host:port` of its ZooKeeper, where it has one.
    pub zookeeper: Option<String>,
    /// The cluster itself, if this process started it and may hurt it.
    cluster: Option<Mutex<Guarded>>,
    /// Where its brokers keep their data, if they run on this machine.
    data: Vec<PathBuf>,
}

/// A source and a destination.
#[derive(Debug)]
pub struct Pair {
    /// Where records come from.
    pub source: End,
    /// Where they must arrive.
    pub destination: End,
}

/// The clusters that the environment names; without any, a source of Kafka 3.9.1 and a
/// destination of 4.3.0 that live as long as this process.
///
/// # Panics
/// When the clusters cannot be started.
pub fn pair() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let source = End::from_environment("SOURCE");
        let destination = End::from_environment("DESTINATION");
        match (source, destination) {
            (Some(source), Some(destination)) => Pair { source, destination },
            (None, None) => Pair::start("3.9.1", "4.3.0", 1, &[]),
            _ => panic!("set both KMIRROR_SOURCE and KMIRROR_DESTINATION, or neither"),
        }
    })
}

impl Pair {
    /// Starts clusters of the test's own, `nodes` brokers each, with broker `properties`.
    ///
    /// # Panics
    /// When they cannot be started.
    #[must_use]
    pub fn start(source: &str, destination: &str, nodes: u16, properties: &[(&str, &str)]) -> Self {
        Self {
            source: End::start("source", source, nodes, properties),
            destination: End::start("destination", destination, nodes, properties),
        }
    }
}

impl End {
    fn from_environment(name: &str) -> Option<Self> {
        let variable = |suffix: &str| std::env::var(format!("KMIRROR_{name}{suffix}")).ok();
        let version = variable("_VERSION").unwrap_or_else(|| "3.9.1".to_owned());
        Some(Self {
            bootstrap: variable("")?,
            version: version.parse().expect("KMIRROR_*_VERSION is a version of Kafka"),
            zookeeper: variable("_ZOOKEEPER"),
            cluster: None,
            data: data_from_environment(&name.to_lowercase()),
        })
    }

    /// Starts a cluster of the test's own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, version: &str, nodes: u16, properties: &[(&str, &str)]) -> Self {
        let version: Version = version.parse().expect("a version of Kafka");
        let mut options = Options::new(name, version.clone()).with_nodes(nodes);
        for (key, value) in properties {
            options = options.with(key, value);
        }
        let started = Cluster::start(&Home::from_environment(), &options);
        let cluster = started.and_then(Cluster::guarded).unwrap_or_else(|error| panic!("{error}"));
        Self {
            bootstrap: cluster.bootstrap.clone(),
            version,
            zookeeper: cluster.zookeeper.clone(),
            data: cluster.brokers().map(Node::data).collect(),
            cluster: Some(Mutex::new(cluster)),
        }
    }

    /// Does something to the cluster: kill, freeze, restart a broker.
    ///
    /// # Panics
    /// When this process did not start the cluster, or it cannot be done.
    pub fn hurt(&self, act: impl FnOnce(&mut Cluster) -> Result<(), xtask::brokers::Error>) {
        let cluster = self.cluster.as_ref().expect("a cluster that this test started");
        let mut cluster = cluster.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        act(&mut cluster).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The isolation level at which its consumers see committed records only; Kafka 0.10 has no
    /// transactions and no such level.
    #[must_use]
    pub fn isolation(&self) -> &'static str {
        if self.version.at_least(0, 11) { "read_committed" } else { "read_uncommitted" }
    }

    /// The bytes of a partition's segments, as the first broker that has it stores them; nothing if
    /// the brokers do not run on this machine.
    ///
    /// # Panics
    /// When the files cannot be read.
    #[must_use]
    pub fn stored(&self, topic: &str, partition: i32) -> Option<Vec<u8>> {
        let places = self.data.iter().map(|data| data.join(format!("{topic}-{partition}")));
        let directory = places.into_iter().find(|place| place.exists())?;
        let files = fs::read_dir(directory).expect("a partition's directory can be read");
        let mut segments: Vec<PathBuf> = files
            .map(|file| file.expect("a partition's directory can be read").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .collect();
        segments.sort();
        let read = |path: &PathBuf| fs::read(path).expect("a segment can be read");
        Some(segments.iter().flat_map(read).collect())
    }

    /// Client properties that reach this end.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("bootstrap.servers".to_owned(), self.bootstrap.clone())])
    }
}

/// Where the brokers of a cluster that somebody else started keep their data, by the state file.
fn data_from_environment(name: &str) -> Vec<PathBuf> {
    let Some(path) = std::env::var_os("KMIRROR_BROKERS_STATE") else { return Vec::new() };
    let state = State::read(Path::new(&path)).unwrap_or_else(|error| panic!("{error}"));
    let clusters = state.map(|state| state.clusters).unwrap_or_default();
    clusters.get(name).map_or_else(Vec::new, |cluster| cluster.brokers().map(Node::data).collect())
}
