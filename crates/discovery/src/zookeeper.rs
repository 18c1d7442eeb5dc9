//! Broker addresses from ZooKeeper: the children of `/brokers/ids` and the JSON each holds.
//!
//! The registration is what Kafka's `kafka.zk.BrokerIdZNode` writes, versions 1 to 5: `host` and
//! `port` alone in 0.8, `endpoints` with a listener map since 0.9/0.10.2. The session is read-only
//! in effect: nothing is created, and it ends with the call.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{StreamExt, TryStreamExt};
use serde::Deserialize;
use zookeeper_client::Client;

use crate::address::{self, Address};

/// One broker as it registered itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// `broker.id`.
    pub id: i32,
    /// The advertised listeners, in the order registered.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// One advertised listener of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name, `PLAINTEXT` or a name of the operator's.
    pub listener: String,
    /// What is spoken there: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: String,
    /// Where it is reached.
    pub address: Address,
}

/// Lists the brokers registered below `connect`, ordered by id.
///
/// `connect` is written as for Kafka's `zookeeper.connect`: `host:port,host:port/chroot`.
/// `timeout` bounds the connect and each answer.
///
/// # Errors
/// See [`Error`]; a registration that cannot be read fails the call, since a mirror that knows
/// half of a cluster is worse than one that does not start.
pub async fn brokers(connect: &str, timeout: Duration) -> Result<Vec<Broker>, Error> {
    let session = Session::open(connect, timeout).await?;
    let children = session.client.list_children(BROKER_IDS);
    let children = match session.bounded(children).await? {
        Ok(children) => children,
        Err(zookeeper_client::Error::NoNode) => {
            return Err(Error::NoCluster { connect: connect.to_owned(), path: BROKER_IDS });
        }
        Err(cause) => return Err(session.unread(BROKER_IDS, cause)),
    };
    if children.len() > BROKERS_MAX {
        let connect = connect.to_owned();
        return Err(Error::TooManyBrokers { connect, count: children.len() });
    }
    let ids = children.iter().filter_map(|child| child.parse::<i32>().ok());
    let brokers: Vec<Option<Broker>> = futures::stream::iter(ids.map(|id| session.broker(id)))
        .buffer_unordered(ASKED_AT_ONCE)
        .try_collect()
        .await?;
    let mut brokers: Vec<_> = brokers.into_iter().flatten().collect();
    if brokers.is_empty() {
        return Err(Error::NoBrokers { connect: connect.to_owned() });
    }
    brokers.sort_by_key(|broker| broker.id);
    Ok(brokers)
}

/// Where an old consumer group stood in one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerOffset {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to be consumed.
    pub next_offset: i64,
}

/// The offsets that a group of ZooKeeper consumers (Kafka before 0.9, `offsets.storage=zookeeper`)
/// kept below `/consumers/GROUP/offsets`, of the partitions that `wanted` says; none if there is no
/// such group. Ordered by topic and partition. `timeout` bounds the connect and each answer: a
/// group may have more partitions than a link brings within one such time.
///
/// # Errors
/// See [`Error`]; an offset that cannot be read fails the call, since starting elsewhere would
/// repeat or skip records.
pub async fn consumer_offsets(
    connect: &str,
    group: &str,
    timeout: Duration,
    wanted: impl Fn(&str, i32) -> bool,
) -> Result<Vec<ConsumerOffset>, Error> {
    // A name with a slash would be another node; the old consumer could not have had it.
    if group.is_empty() || group.contains('/') {
        return Ok(Vec::new());
    }
    let session = Session::open(connect, timeout).await?;
    let root = format!("/consumers/{group}/offsets");
    let topics = session.children(&root).await?;
    let partitions = topics.iter().map(async |topic| {
        let children = session.children(&format!("{root}/{topic}")).await?;
        Ok::<_, Error>((topic.as_str(), children))
    });
    let partitions: Vec<_> =
        futures::stream::iter(partitions).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
    let mut nodes = Vec::new();
    for (topic, children) in &partitions {
        for child in children {
            let path = format!("{root}/{topic}/{child}");
            let Ok(partition) = child.parse() else { return Err(Error::Offset { path }) };
            if wanted(topic, partition) {
                nodes.push((*topic, partition, path));
            }
        }
        if nodes.len() > OFFSETS_MAX {
            return Err(Error::TooManyOffsets { group: group.to_owned() });
        }
    }
    let offsets =
        nodes.into_iter().map(|(topic, partition, path)| session.offset(topic, partition, path));
    let mut offsets: Vec<_> =
        futures::stream::iter(offsets).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
    offsets.sort();
    Ok(offsets)
}

/// The address of each broker's first listener that speaks `protocol`.
///
/// # Errors
/// [`Error::NoListener`] when no broker offers the protocol at all.
pub fn addresses(brokers: &[Broker], protocol: &str) -> Result<Vec<Address>, Error> {
    let speaks = |endpoint: &&Endpoint| endpoint.protocol.eq_ignore_ascii_case(protocol);
    let found: Vec<_> = brokers
        .iter()
        .filter_map(|broker| broker.endpoints.iter().find(speaks))
        .map(|endpoint| endpoint.address.clone())
        .collect();
    if found.is_empty() {
        let mut offered: Vec<_> = brokers
            .iter()
            .flat_map(|broker| &broker.endpoints)
            .map(|e| e.protocol.clone())
            .collect();
        offered.sort_unstable();
        offered.dedup();
        return Err(Error::NoListener {
            protocol: protocol.to_owned(),
            offered: offered.join(", "),
        });
    }
    Ok(found)
}

/// Reads one registration.
///
/// # Errors
/// [`Error::Registration`] for JSON that does not have the shape Kafka writes.
pub fn parse_registration(id: i32, data: &[u8]) -> Result<Broker, Error> {
    let refused = |source: Cause| Error::Registration { id, source };
    let json: Registration =
        serde_json::from_slice(data).map_err(|cause| refused(Box::new(cause)))?;
    let mut endpoints = Vec::with_capacity(json.endpoints.len());
    for text in &json.endpoints {
        let endpoint = json.endpoint(text).map_err(|cause| refused(Box::new(cause)))?;
        endpoints.push(endpoint);
    }
    // Version 1 has no endpoints; later ones repeat the plaintext listener in host and port, or
    // null and -1 where there is none.
    if let (true, Some(host), Ok(port)) =
        (endpoints.is_empty(), &json.host, u16::try_from(json.port))
    {
        let address = Address::try_new(host, port).map_err(|cause| refused(Box::new(cause)))?;
        endpoints.push(Endpoint {
            listener: PLAINTEXT.to_owned(),
            protocol: PLAINTEXT.to_owned(),
            address,
        });
    }
    Ok(Broker { id, endpoints, rack: json.rack })
}

/// What went wrong between us and ZooKeeper.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server of the ensemble could be reached, or the connect string is malformed.
    #[error("connect to zookeeper {connect}")]
    Connect {
        /// The connect string.
        connect: String,
        /// What the ZooKeeper client says.
        source: Cause,
    },
    /// The ensemble did not answer in time.
    #[error("no answer from zookeeper {connect} within {timeout:?}")]
    Timeout {
        /// The connect string.
        connect: String,
        /// The bound of one answer.
        timeout: Duration,
    },
    /// A node could not be read.
    #[error("read {path} from zookeeper {connect}")]
    Read {
        /// The connect string.
        connect: String,
        /// The node, below the chroot.
        path: String,
        /// What the ZooKeeper client says.
        source: Cause,
    },
    /// The ensemble holds no Kafka cluster at that chroot.
    #[error("zookeeper {connect} has no {path}; a chroot such as /kafka may be missing")]
    NoCluster {
        /// The connect string.
        connect: String,
        /// The node that is missing.
        path: &'static str,
    },
    /// A Kafka cluster is there and no broker is alive.
    #[error("no broker is registered in zookeeper {connect}")]
    NoBrokers {
        /// The connect string.
        connect: String,
    },
    /// More brokers than any cluster has: the answer is not believed.
    #[error("zookeeper {connect} lists {count} brokers, more than {BROKERS_MAX}")]
    TooManyBrokers {
        /// The connect string.
        connect: String,
        /// How many children the node has.
        count: usize,
    },
    /// More partitions than any group has: the answer is not believed.
    #[error("group {group} has offsets of more than {OFFSETS_MAX} partitions in zookeeper")]
    TooManyOffsets {
        /// The group.
        group: String,
    },
    /// An offset is not what the old consumer writes.
    #[error("{path} in zookeeper holds no offset")]
    Offset {
        /// The node.
        path: String,
    },
    /// A broker's registration is not what Kafka writes.
    #[error("registration of broker {id} in zookeeper is malformed")]
    Registration {
        /// `broker.id`.
        id: i32,
        /// What is malformed.
        source: Cause,
    },
    /// No broker has a listener that speaks the wanted protocol.
    #[error("no broker has a {protocol} listener, only {offered}")]
    NoListener {
        /// The security protocol asked for.
        protocol: String,
        /// Those there are.
        offered: String,
    },
}

impl Error {
    /// Whether the same question may be answered a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Read { .. }
            | Self::NoBrokers { .. } => true,
            Self::NoCluster { .. }
            | Self::TooManyBrokers { .. }
            | Self::TooManyOffsets { .. }
            | Self::Offset { .. }
            | Self::Registration { .. }
            | Self::NoListener { .. } => false,
        }
    }
}

/// A cause from below, whose type is no part of this interface.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Deserialize)]
struct Registration {
    #[serde(default)]
    host: Option<String>,
    #[serde(default = "no_port")]
    port: i64,
    #[serde(default)]
    endpoints: Vec<String>,
    #[serde(default)]
    listener_security_protocol_map: BTreeMap<String, String>,
    #[serde(default)]
    rack: Option<String>,
}

impl Registration {
    /// `LISTENER://host:port`; the map says what the listener speaks, and before there was a map
    /// (0.9 to 0.10.1) the listener was named after it.
    fn endpoint(&self, text: &str) -> Result<Endpoint, address::Error> {
        let malformed = || address::Error::Host { host: text.escape_debug().take(255).collect() };
        let (listener, address) = text.split_once("://").ok_or_else(malformed)?;
        let protocol = self.listener_security_protocol_map.get(listener);
        Ok(Endpoint {
            listener: listener.to_owned(),
            protocol: protocol.map_or(listener, String::as_str).to_owned(),
            address: Address::parse(address, crate::KAFKA_PORT)?,
        })
    }
}

const BROKER_IDS: &str = "/brokers/ids";
const BROKERS_MAX: usize = 10_000;
const OFFSETS_MAX: usize = 100_000;

/// How many nodes are asked for at once: a long link is waited for once, not once for each node.
const ASKED_AT_ONCE: usize = 64;

const PLAINTEXT: &str = "PLAINTEXT";

fn no_port() -> i64 {
    -1
}

/// A session, and what its errors have to name.
struct Session<'a> {
    client: Client,
    connect: &'a str,
    timeout: Duration,
}

impl<'a> Session<'a> {
    async fn open(connect: &'a str, timeout: Duration) -> Result<Self, Error> {
        let opening = Client::connector()
            .with_session_timeout(timeout)
            .with_readonly(true)
            .with_fail_eagerly()
            .connect(connect);
        match tokio::time::timeout(timeout, opening).await {
            Ok(Ok(client)) => Ok(Self { client, connect, timeout }),
            Ok(Err(cause)) => {
                Err(Error::Connect { connect: connect.to_owned(), source: cause.into() })
            }
            Err(_) => Err(Error::Timeout { connect: connect.to_owned(), timeout }),
        }
    }

    /// Waits for an answer as long as one may take.
    async fn bounded<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let late = |_| Error::Timeout { connect: self.connect.to_owned(), timeout: self.timeout };
        tokio::time::timeout(self.timeout, answer).await.map_err(late)
    }

    fn unread(&self, path: &str, source: zookeeper_client::Error) -> Error {
        let (connect, path) = (self.connect.to_owned(), path.to_owned());
        Error::Read { connect, path, source: source.into() }
    }

    /// The children of a node; none if there is no such node.
    async fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        match self.bounded(self.client.list_children(path)).await? {
            Ok(children) => Ok(children),
            Err(zookeeper_client::Error::NoNode) => Ok(Vec::new()),
            Err(cause) => Err(self.unread(path, cause)),
        }
    }

    /// A broker's registration. The node is ephemeral: it is gone once the broker went away.
    async fn broker(&self, id: i32) -> Result<Option<Broker>, Error> {
        let path = format!("{BROKER_IDS}/{id}");
        match self.bounded(self.client.get_data(&path)).await? {
            Ok((data, _)) => parse_registration(id, &data).map(Some),
            Err(zookeeper_client::Error::NoNode) => Ok(None),
            Err(cause) => Err(self.unread(&path, cause)),
        }
    }

    /// What an old consumer wrote for a partition.
    async fn offset(
        &self,
        topic: &str,
        partition: i32,
        path: String,
    ) -> Result<ConsumerOffset, Error> {
        let data = self.bounded(self.client.get_data(&path)).await?;
        let (data, _) = data.map_err(|cause| self.unread(&path, cause))?;
        let text = std::str::from_utf8(&data).ok().and_then(|text| text.trim().parse().ok());
        let next_offset = text.ok_or(Error::Offset { path })?;
        Ok(ConsumerOffset { topic: topic.to_owned(), partition, next_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(data: &str) -> Vec<(String, String)> {
        let broker = parse_registration(1, data.as_bytes()).unwrap();
        broker.endpoints.into_iter().map(|e| (e.protocol, e.address.to_string())).collect()
    }

    #[test]
    fn a_registration_of_version_1_has_host_and_port() {
        let data = r#"{"version":1,"host":"wn0","port":9092,"jmx_port":-1,"timestamp":"1"}"#;
        assert_eq!(endpoints(data), [("PLAINTEXT".to_owned(), "wn0:9092".to_owned())]);
    }

    #[test]
    fn a_registration_of_version_4_maps_listener_names_to_protocols() {
        let data = r#"{"features":{},"listener_security_protocol_map":{"INTERNAL":"PLAINTEXT",
            "CLIENTS":"SASL_SSL"},"endpoints":["INTERNAL://wn0:9092","CLIENTS://wn0:9093"],
            "rack":"/fd/1","jmx_port":-1,"host":null,"port":-1,"version":4,"timestamp":"1"}"#;
        assert_eq!(
            endpoints(data),
            [
                ("PLAINTEXT".to_owned(), "wn0:9092".to_owned()),
                ("SASL_SSL".to_owned(), "wn0:9093".to_owned())
            ]
        );
    }

    #[test]
    fn a_listener_without_a_map_is_named_after_its_protocol() {
        let data = r#"{"endpoints":["SSL://[::1]:9093"],"host":null,"port":-1,"version":3}"#;
        assert_eq!(endpoints(data), [("SSL".to_owned(), "[::1]:9093".to_owned())]);
    }

    #[test]
    fn a_malformed_registration_is_an_error_that_names_the_broker() {
        for data in ["", "{", r#"{"endpoints":["wn0"]}"#, r#"{"endpoints":["SSL://a b:1"]}"#] {
            let error = parse_registration(7, data.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "registration of broker 7 in zookeeper is malformed",
                "{data}"
            );
        }
    }

    #[test]
    fn only_listeners_of_the_wanted_protocol_are_addresses() {
        let data = r#"{"endpoints":["PLAINTEXT://wn0:9092","SSL://wn0:9093"],"version":3}"#;
        let brokers = [parse_registration(1, data.as_bytes()).unwrap()];
        assert_eq!(crate::join(&addresses(&brokers, "ssl").unwrap()), "wn0:9093");
        assert_eq!(
            addresses(&brokers, "SASL_SSL").unwrap_err().to_string(),
            "no broker has a SASL_SSL listener, only PLAINTEXT, SSL"
        );
    }
}
