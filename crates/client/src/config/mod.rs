//! What a client is told: where the cluster is, its time-outs and its sizes.

pub mod keys;
pub mod properties;

use std::sync::Arc;
use std::time::Duration;

use crate::connection::{Address, AddressMap, Connector, Options, RoundTrip, Tcp};
use crate::error::Error;

/// How to reach a cluster. Defaults are those of Kafka's Java clients unless a method says why not.
///
/// ```
/// use kmirror_client::Config;
///
/// let config = Config::new("localhost:9092,localhost:9093")?.with_client_id("reader");
/// assert_eq!(config.bootstrap.len(), 2);
/// assert!(Config::new("localhost").is_err());
/// # Ok::<(), kmirror_client::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Where to ask first (`bootstrap.servers`).
    pub bootstrap: Vec<Address>,
    /// The cluster that is meant. None (the default) means the one that answers first. Brokers of
    /// any other are refused.
    pub cluster_id: Option<Arc<str>>,
    /// The name this client goes by in the broker's logs and quotas (`client.id`).
    pub client_id: Arc<str>,
    /// How long a request may await its answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long the dial may take, and each answer of the handshake
    /// (`socket.connection.setup.timeout.ms`).
    pub connect_timeout: Duration,
    /// How long a connection may be without a request before it is closed
    /// (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// How old the metadata may become (`metadata.max.age.ms`).
    pub metadata_age_max: Duration,
    /// The first wait after a failure (`retry.backoff.ms`).
    pub backoff_initial: Duration,
    /// The longest wait between tries (`reconnect.backoff.max.ms`).
    pub backoff_max: Duration,
    /// The largest frame taken from a broker, in bytes. Kafka's own limit for a request is 100 MiB.
    pub frame_bytes_max: usize,
    /// What brokers advertise, mapped to what can be reached from here.
    pub address_map: AddressMap,
    /// How connections are dialled.
    pub connector: Arc<dyn Connector>,
}

impl Config {
    /// A configuration with the defaults for the comma-separated `host:port` list `bootstrap`.
    ///
    /// # Errors
    /// [`Error::Config`] when the list is empty or holds something else.
    pub fn new(bootstrap: &str) -> Result<Self, Error> {
        let bootstrap = bootstrap
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<Address>, _>>()
            .map_err(|error| Error::Config { problem: format!("bootstrap.servers: {error}") })?;
        if bootstrap.is_empty() {
            let problem = "bootstrap.servers is empty: name at least one host:port".to_owned();
            return Err(Error::Config { problem });
        }
        Ok(Self {
            bootstrap,
            cluster_id: None,
            client_id: "kmirror".into(),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            idle_max: Duration::from_secs(540),
            metadata_age_max: Duration::from_secs(300),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            frame_bytes_max: 128 * 1024 * 1024,
            address_map: AddressMap::default(),
            connector: Arc::new(Tcp::default()),
        })
    }

    /// Sets which cluster is meant; none means the one that answers first.
    #[must_use]
    pub fn with_cluster_id(mut self, id: Option<Arc<str>>) -> Self {
        self.cluster_id = id;
        self
    }

    /// Sets the name in the broker's logs and quotas.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl Into<Arc<str>>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Sets how long a request may await its answer.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sets how long dial and handshake may take.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how long a connection may be without a request.
    #[must_use]
    pub fn with_idle_max(mut self, idle: Duration) -> Self {
        self.idle_max = idle;
        self
    }

    /// Sets how old the metadata may become.
    #[must_use]
    pub fn with_metadata_age_max(mut self, age: Duration) -> Self {
        self.metadata_age_max = age;
        self
    }

    /// Sets the first and the longest wait between tries.
    #[must_use]
    pub fn with_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.backoff_initial = initial;
        self.backoff_max = max;
        self
    }

    /// Sets what to dial for what brokers advertise.
    #[must_use]
    pub fn with_address_map(mut self, map: AddressMap) -> Self {
        self.address_map = map;
        self
    }

    /// Sets how connections are dialled.
    #[must_use]
    pub fn with_connector(mut self, connector: Arc<dyn Connector>) -> Self {
        self.connector = connector;
        self
    }

    /// What one connection needs of this.
    pub(crate) fn connection_options(&self) -> Options {
        Options {
            client_id: Arc::clone(&self.client_id),
            connect_timeout: self.connect_timeout,
            frame_bytes_max: self.frame_bytes_max,
            idle_max: self.idle_max,
            connector: Arc::clone(&self.connector),
            round_trip: RoundTrip::default(),
        }
    }
}
