//! From a planned cluster, or from the flags that name one, to a client's configuration.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kmirror_client::Config;
use kmirror_client::config::keys::{Role, resolve};
use kmirror_client::config::properties::{Origin, Properties};
use kmirror_client::connection::AddressMap;
use kmirror_discovery::zookeeper;

use crate::exit::Failure;
use crate::plan::{self, Cluster, Place, ZOOKEEPER_TIMEOUT};

/// Which cluster a tool talks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// Brokers to ask first, as host:port,host:port
    #[arg(
        long,
        visible_alias = "broker-list",
        value_name = "HOST:PORT,...",
        required_unless_present = "zookeeper"
    )]
    bootstrap_server: Option<String>,

    /// ZooKeeper servers to look the brokers up in
    #[arg(long, value_name = "HOST:PORT,...[/CHROOT]")]
    zookeeper: Option<String>,

    /// A file with Kafka properties for the connection
    #[arg(
        long,
        visible_aliases = ["producer.config", "consumer.config"],
        value_name = "FILE"
    )]
    command_config: Option<PathBuf>,

    /// One such property; it wins over the file. May be repeated
    #[arg(
        long,
        visible_aliases = ["producer-property", "consumer-property"],
        value_name = "NAME=VALUE",
        value_parser = parse_property
    )]
    command_property: Vec<(String, String)>,

    /// What a broker advertises and what to dial instead; may be repeated
    #[arg(long, value_name = "ADVERTISED=REACHABLE", value_parser = parse_pair)]
    map_address: Vec<(String, String)>,
}

/// Reads `advertised=reachable`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err("must be ADVERTISED=REACHABLE, such as wn0:9092=10.0.0.1:9092".to_owned()),
    }
}

/// Reads `NAME=VALUE`.
pub(crate) fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.to_owned())),
        None => Err("must be NAME=VALUE, such as parse.key=true".to_owned()),
    }
}

impl ClusterArgs {
    /// The cluster they name. Properties of the file are checked by `role`.
    pub(crate) fn cluster(&self, role: Role) -> Result<Cluster, Failure> {
        let mut written = match &self.command_config {
            Some(path) => Properties::read(path).map_err(Failure::usage)?,
            None => Properties::default(),
        };
        for (name, value) in &self.command_property {
            written.set(name, value.as_str(), Origin::new("--command-property"));
        }
        let (properties, findings) = resolve(&written, role);
        plan::report(&findings)?;
        let place = match (&self.bootstrap_server, &self.zookeeper) {
            (Some(servers), _) => Place::Servers(servers.clone()),
            (None, connect) => Place::Zookeeper {
                connect: connect.clone().unwrap_or_default(),
                timeout: ZOOKEEPER_TIMEOUT,
            },
        };
        Ok(Cluster { place, properties, address_map: self.map_address.clone(), cluster_id: None })
    }

    /// The configuration of a client for it.
    pub(crate) async fn client_config(&self, role: Role) -> Result<Config, Failure> {
        client_config(&self.cluster(role)?).await
    }
}

/// The configuration of a client for a cluster; asks ZooKeeper if that is where the brokers are
/// known.
pub(crate) async fn client_config(cluster: &Cluster) -> Result<Config, Failure> {
    let servers = match &cluster.place {
        Place::Servers(servers) => servers.clone(),
        Place::Zookeeper { connect, timeout } => from_zookeeper(connect, *timeout).await?,
    };
    client_of(cluster, &servers)
}

/// The same once the brokers to ask first are known.
pub(crate) fn client_of(cluster: &Cluster, servers: &str) -> Result<Config, Failure> {
    let mut config = Config::new(servers).map_err(Failure::usage)?;
    let mut map = AddressMap::default();
    for (advertised, reachable) in &cluster.address_map {
        map.insert(advertised, reachable).map_err(|error| {
            Failure::usage(error).with_help("map host:port to host:port, or a host to a host")
        })?;
    }
    config = config.with_address_map(map);
    for entry in cluster.properties.iter() {
        config = apply(config, &entry.key, entry.value.trim());
    }
    Ok(config)
}

/// Gives a common property its effect; those of one role have theirs elsewhere.
pub(crate) fn apply(config: Config, key: &str, value: &str) -> Config {
    let (initial, max) = (config.backoff_initial, config.backoff_max);
    match key {
        "client.id" if value.is_empty() => config,
        "client.id" => config.with_client_id(value),
        "request.timeout.ms" => config.with_request_timeout(milliseconds(value)),
        "metadata.max.age.ms" => config.with_metadata_age_max(milliseconds(value)),
        "socket.connection.setup.timeout.ms" => config.with_connect_timeout(milliseconds(value)),
        "connections.max.idle.ms" => config.with_idle_max(match milliseconds(value) {
            Duration::ZERO => Duration::MAX,
            idle => idle,
        }),
        "retry.backoff.ms" => config.with_backoff(milliseconds(value), max),
        "reconnect.backoff.max.ms" => config.with_backoff(initial, milliseconds(value)),
        _ => config,
    }
}

/// A number that the table of keys has checked.
pub(crate) fn milliseconds(value: &str) -> Duration {
    Duration::from_millis(value.parse().unwrap_or(0))
}

/// A failure to read ZooKeeper.
pub(crate) fn unread(error: zookeeper::Error) -> Failure {
    let may_pass = error.is_retryable();
    Failure::runtime(error).that_may_pass(may_pass)
}

async fn from_zookeeper(connect: &str, timeout: Duration) -> Result<String, Failure> {
    let brokers = zookeeper::brokers(connect, timeout).await.map_err(unread)?;
    let found = zookeeper::addresses(&brokers, "PLAINTEXT").map_err(Failure::runtime)?;
    let servers = kmirror_discovery::join(&found);
    tracing::info!(zookeeper = connect, brokers = servers, "brokers looked up in zookeeper");
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use kmirror_client::config::keys::{Handling, Kind};

    use super::*;

    #[test]
    fn every_common_key_that_is_said_to_be_honoured_changes_the_client() {
        let before = format!("{:?}", Config::new("a:1").unwrap());
        for key in Role::Admin.keys().filter(|key| key.handling == Handling::Honoured) {
            if key.name == "bootstrap.servers" {
                continue;
            }
            let value = if key.kind == Kind::Text { "other" } else { "12345" };
            let after = apply(Config::new("a:1").unwrap(), key.name, value);
            assert_ne!(format!("{after:?}"), before, "{}", key.name);
        }
    }

    #[test]
    fn every_default_in_the_table_is_the_clients_default() {
        let before = format!("{:?}", Config::new("a:1").unwrap());
        for key in Role::Admin.keys().filter(|key| !key.default.is_empty()) {
            let after = apply(Config::new("a:1").unwrap(), key.name, key.default);
            assert_eq!(format!("{after:?}"), before, "{}", key.name);
        }
    }
}
