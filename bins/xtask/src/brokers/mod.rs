//! Real Apache Kafka on a plain machine: one launcher for the developer's command line
//! (`cargo xtask brokers`) and for the suites that need real brokers.
//!
//! A [`Cluster`] is started from [`Options`], described by a value that can be written to a state
//! file, and stopped by whoever holds that value. A started process has its own process group, its
//! own directory and its own log; nothing outside that directory is written, except the cache of
//! jars. Broker ports lie below the range that the kernel hands to outgoing connections, so that a
//! broker that was killed always finds its port free again.

mod cluster;
mod config;
mod container;
mod jars;
mod ports;
mod probe;
mod process;
mod state;
mod version;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use cluster::{Cluster, Guarded, Node};
pub use jars::Jars;
pub use process::java;
pub use state::State;
pub use version::{Mode, Version};

/// Where the broker processes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Java on this machine, jars fetched by Maven.
    #[default]
    Jars,
    /// A container each, started by podman.
    Podman,
    /// A container each, started by docker.
    Docker,
    /// Brokers that are already running and that are left as they are.
    External,
}

/// What cluster to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the cluster: names its directory and its containers. `source`, `destination`.
    pub name: String,
    /// The version of Kafka.
    pub version: Version,
    /// Number of brokers, 1 to 9.
    pub nodes: u16,
    /// ZooKeeper or KRaft; by default what the version is known for.
    pub mode: Option<Mode>,
    /// Broker properties, over those that the launcher chooses.
    pub properties: BTreeMap<String, String>,
    /// Where the processes come from.
    pub runtime: Runtime,
    /// The container image, if not the published one of the version.
    pub image: Option<String>,
    /// The heap of each broker, as Java writes it: `256m`.
    pub heap: String,
    /// Flags for each broker's Java virtual machine; by default those that start fastest.
    pub jvm_flags: Vec<String>,
    /// How long the cluster may take to answer.
    pub deadline: Duration,
}

impl Options {
    /// One broker of `version`, with a small heap, called `name`.
    #[must_use]
    pub fn new(name: &str, version: Version) -> Self {
        Self {
            name: name.to_owned(),
            version,
            nodes: 1,
            mode: None,
            properties: BTreeMap::new(),
            runtime: Runtime::Jars,
            image: None,
            heap: "256m".to_owned(),
            jvm_flags: vec![
                "-XX:+UseSerialGC".to_owned(),
                "-XX:TieredStopAtLevel=1".to_owned(),
                "-Xshare:auto".to_owned(),
            ],
            deadline: Duration::from_secs(120),
        }
    }

    /// The same with `nodes` brokers.
    #[must_use]
    pub fn with_nodes(mut self, nodes: u16) -> Self {
        self.nodes = nodes;
        self
    }

    /// The same with one broker property set.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.properties.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The mode asked for, or that of the version.
    ///
    /// # Errors
    /// When the version cannot run in the mode asked for.
    pub fn resolved_mode(&self) -> Result<Mode, Error> {
        let mode = self.mode.unwrap_or_else(|| self.version.default_mode());
        if self.version.supports(mode) {
            return Ok(mode);
        }
        Err(Error::Mode { version: self.version.clone(), mode })
    }
}

/// Where things are kept: a directory for the cache of jars and for running clusters.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// The directory that `KMIRROR_BROKERS_DIR` names, or `brokers` in the build directory.
    #[must_use]
    pub fn from_environment() -> Self {
        if let Some(directory) = std::env::var_os("KMIRROR_BROKERS_DIR") {
            return Self(directory.into());
        }
        Self(crate::workspace::target_directory().join("brokers"))
    }

    /// That directory.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where the jars of each version are.
    #[must_use]
    pub fn jars(&self) -> PathBuf {
        self.0.join("jars")
    }

    /// Where running clusters keep their data and logs.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The state file that the command line uses when none is named.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }
}

/// Why brokers could not be started, found or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the number of a Kafka release.
    #[error("{text:?} is not a version of Kafka such as 3.9.1 (0.10.0 or later)")]
    Version {
        /// What was given.
        text: String,
    },
    /// The version does not have that mode.
    #[error("kafka {version} does not run in {mode:?} mode")]
    Mode {
        /// The version asked for.
        version: Version,
        /// The mode asked for.
        mode: Mode,
    },
    /// No container image is published for the version.
    #[error("there is no published image of kafka {version}: name one with --image, or use jars")]
    NoImage {
        /// The version asked for.
        version: Version,
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
    /// A program could not be started.
    #[error("start {program}: is it installed?")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} ended with {status}\n{output}")]
    Failed {
        /// The program and what it was doing.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A broker ended, or did not answer in time.
    #[error("{name} did not become ready: {reason}; the end of {}:\n{log}", path.display())]
    NotReady {
        /// The process.
        name: String,
        /// What was seen.
        reason: String,
        /// Its log file.
        path: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// No port was free.
    #[error("no free port between {first} and {last}")]
    NoPort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },
    /// A node that the cluster does not have.
    #[error("cluster {cluster} has no node {node}")]
    NoNode {
        /// The cluster.
        cluster: String,
        /// The node asked for.
        node: u16,
    },
    /// The state file is not one.
    #[error("{} is not a state file of this tool", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// Brokers named by the user do not answer.
    #[error("no broker answers at {bootstrap}")]
    NoAnswer {
        /// The addresses tried.
        bootstrap: String,
    },
}

impl Error {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
