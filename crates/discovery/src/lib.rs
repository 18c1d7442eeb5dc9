//! Finds the addresses of Kafka brokers and ZooKeeper servers where operators keep them:
//! in ZooKeeper itself, in Ambari, and in the files of an HDInsight node.
//!
//! Nothing here speaks the Kafka protocol; the result is always a list of [`Address`]es.
//! Every wait is bounded by the caller's timeout and every answer by a size, because what is
//! read comes from the network or from files that others write.

pub mod address;
pub mod ambari;
pub mod hdinsight;
pub mod http;
pub mod zookeeper;

pub use address::Address;

/// The port Kafka brokers listen on where the place asked names hosts only.
pub const KAFKA_PORT: u16 = 9092;

/// The port ZooKeeper servers listen on where the place asked names hosts only.
pub const ZOOKEEPER_PORT: u16 = 2181;

/// Joins addresses with commas, as `bootstrap.servers` and `zookeeper.connect` are written.
///
/// ```
/// use kmirror_discovery::{Address, join};
/// let hosts = [Address::try_new("wn0", 9092)?, Address::try_new("wn1", 9092)?];
/// assert_eq!(join(&hosts), "wn0:9092,wn1:9092");
/// # Ok::<(), kmirror_discovery::address::Error>(())
/// ```
#[must_use]
pub fn join(addresses: &[Address]) -> String {
    addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",")
}
