//! Where a broker is, and the map from what it advertises to what can be reached.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A host and a port. IPv6 addresses are shown and read in brackets.
///
/// ```
/// use kmirror_client::connection::Address;
///
/// let address: Address = "wn0-kafka:9092".parse()?;
/// assert_eq!((address.host(), address.port()), ("wn0-kafka", 9092));
/// assert_eq!("[::1]:9092".parse::<Address>()?.host(), "::1");
/// assert!("wn0-kafka".parse::<Address>().is_err());
/// # Ok::<(), kmirror_client::connection::InvalidAddress>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: Arc<str>,
    port: u16,
}

/// A text that is no `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not host:port")]
pub struct InvalidAddress {
    /// The text.
    pub text: String,
}

impl Address {
    /// The address `host:port`.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// The host's name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress { text: text.to_owned() };
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(invalid)?;
        // Kafka's own files may write PLAINTEXT://host:port in a bootstrap list.
        let host = host.rsplit_once("://").map_or(host, |(_, host)| host);
        let bare = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(invalid)?,
            None if host.contains(':') => return Err(invalid()),
            None => host,
        };
        if bare.is_empty() {
            return Err(invalid());
        }
        let port = port.parse().map_err(|_| invalid())?;
        Ok(Self::new(bare, port))
    }
}

/// A map from the addresses that brokers advertise to addresses that can be reached from here.
///
/// ```
/// use kmirror_client::connection::{Address, AddressMap};
///
/// let map: AddressMap = "wn0:9092=127.0.0.1:19092, wn1=127.0.0.2".parse()?;
/// assert_eq!(map.reachable(&Address::new("wn0", 9092)), Address::new("127.0.0.1", 19092));
/// assert_eq!(map.reachable(&Address::new("wn1", 9092)), Address::new("127.0.0.2", 9092));
/// assert_eq!(map.reachable(&Address::new("wn2", 9092)), Address::new("wn2", 9092));
/// # Ok::<(), kmirror_client::connection::InvalidAddress>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap {
    addresses: BTreeMap<Address, Address>,
    hosts: BTreeMap<Arc<str>, Arc<str>>,
}

impl AddressMap {
    /// Adds one address: whole, or a host whose ports all stay as they are.
    ///
    /// # Errors
    /// When one side has a port and the other has none, or a side is no address.
    pub fn insert(&mut self, advertised: &str, reachable: &str) -> Result<(), InvalidAddress> {
        match (advertised.parse::<Address>(), reachable.parse::<Address>()) {
            (Ok(advertised), Ok(reachable)) => {
                self.addresses.insert(advertised, reachable);
                Ok(())
            }
            (Err(_), Err(_)) if is_host(advertised) && is_host(reachable) => {
                self.hosts.insert(advertised.trim().into(), reachable.trim().into());
                Ok(())
            }
            _ => Err(InvalidAddress { text: format!("{advertised}={reachable}") }),
        }
    }

    /// Where to dial for what a broker advertises; the same address where the map says nothing.
    pub fn reachable(&self, advertised: &Address) -> Address {
        if let Some(address) = self.addresses.get(advertised) {
            return address.clone();
        }
        match self.hosts.get(advertised.host()) {
            Some(host) => Address::new(Arc::clone(host), advertised.port()),
            None => advertised.clone(),
        }
    }
}

impl FromStr for AddressMap {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let mut map = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (advertised, reachable) =
                entry.split_once('=').ok_or_else(|| InvalidAddress { text: entry.to_owned() })?;
            map.insert(advertised, reachable)?;
        }
        Ok(map)
    }
}

/// Whether a text can be a host without a port.
fn is_host(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.contains([':', '/', ' '])
}
