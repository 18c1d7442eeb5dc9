//! What the command line and the files come to: flows between clusters, with every name replaced by
//! what it stands for. Both front ends, MirrorMaker's flags and kmirror's own file, end here.

pub(crate) mod circles;
pub(crate) mod document;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod native;
pub(crate) mod options;
pub(crate) mod units;

use std::time::Duration;

use kmirror_client::config::keys::{Finding, Level};
use kmirror_client::config::properties::Properties;

use crate::exit::Failure;
use document::Settings;
use options::Value;

/// Everything that one process runs.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Where to serve metrics, if anywhere.
    pub(crate) http: Option<String>,
    /// The mirrors.
    pub(crate) flows: Vec<Flow>,
    /// What there is to say about the files. With an error among them there is nothing to run.
    pub(crate) findings: Vec<Finding>,
}

/// One mirror.
#[derive(Debug)]
pub(crate) struct Flow {
    /// What logs and metrics call it.
    pub(crate) name: String,
    /// The cluster that is read; its properties are the consumer's.
    pub(crate) source: Cluster,
    /// The cluster that is written; its properties are the producer's.
    pub(crate) destination: Cluster,
    /// kmirror's own options. They win over properties.
    pub(crate) settings: Settings,
}

impl Flow {
    /// The consumer group whose offsets are the positions.
    pub(crate) fn group(&self) -> &str {
        let property = || filled(&self.source.properties, "group.id");
        self.settings.text("group").or_else(property).unwrap_or(&self.name)
    }
}

/// A cluster and how to reach it.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// Where its brokers are known.
    pub(crate) place: Place,
    /// Kafka's properties: today's names, well-formed values.
    pub(crate) properties: Properties,
    /// What brokers advertise, and what to dial instead.
    pub(crate) address_map: Vec<(String, String)>,
    /// The id it must have.
    pub(crate) cluster_id: Option<String>,
}

/// Where the brokers of a cluster are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// These.
    Servers(String),
    /// Those that ZooKeeper knows.
    Zookeeper {
        /// `host:port,host:port/chroot`.
        connect: String,
        /// The bound of the look-up.
        timeout: Duration,
    },
}

impl Flow {
    /// How long its clusters may take to answer at the start; unbounded if nobody says.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        match self.settings.entry("connect_timeout") {
            Some((Value::Duration(timeout), _)) => Some(*timeout),
            _ => None,
        }
    }

    /// Whether it ends once everything that was there at the start has been mirrored.
    pub(crate) fn ends_once_caught_up(&self) -> bool {
        matches!(self.settings.entry("until_caught_up"), Some((Value::Boolean(true), _)))
    }
}

impl Place {
    /// For whoever reads a log or a check.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Servers(servers) => servers.clone(),
            Self::Zookeeper { connect, .. } => {
                format!("brokers registered in zookeeper {connect}")
            }
        }
    }

    /// What `bootstrap.servers` says, or else `zookeeper.connect`.
    pub(crate) fn from_properties(properties: &Properties) -> Option<Self> {
        if let Some(servers) = filled(properties, "bootstrap.servers") {
            return Some(Self::Servers(servers.to_owned()));
        }
        let timeout = properties.value("zookeeper.connection.timeout.ms");
        let timeout = timeout.and_then(|text| text.parse().ok()).map(Duration::from_millis);
        filled(properties, "zookeeper.connect").map(|connect| Self::Zookeeper {
            connect: connect.to_owned(),
            timeout: timeout.unwrap_or(ZOOKEEPER_TIMEOUT),
        })
    }
}

/// How long a look-up in ZooKeeper may take unless somebody says otherwise.
pub(crate) const ZOOKEEPER_TIMEOUT: Duration = Duration::from_secs(10);

/// The value of a property that is set to something.
pub(crate) fn filled<'value>(properties: &'value Properties, key: &str) -> Option<&'value str> {
    properties.value(key).filter(|value| !value.is_empty())
}

/// Logs notes and warnings; errors become one failure that names them all.
pub(crate) fn report(findings: &[Finding]) -> Result<(), Failure> {
    let mut errors = Vec::new();
    for finding in findings {
        let Finding { level, origin, key, text } = finding;
        match level {
            Level::Note => tracing::info!(%origin, key, meaning = text, "configuration note"),
            Level::Warning => tracing::warn!(%origin, key, meaning = text, "configuration warning"),
            Level::Error => errors.push(finding.to_string()),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Failure::usage(errors.join("\nerror: "))) }
}
