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

/// A text that is no address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidAddress {
    /// It is no `host:port`.
    #[error("{text:?} is not host:port")]
    Malformed {
        /// The text.
        text: String,
    },
    /// It names a listener that is not plain. Leaving that out of account would send everything
    /// unencrypted, or to a listener that does not understand it.
    #[error("{text:?} asks for {protocol}, and only PLAINTEXT listeners are spoken to")]
    NotPlain {
        /// The text.
        text: String,
        /// What it asks for.
        protocol: String,
    },
}

impl InvalidAddress {
    fn malformed(text: &str) -> Self {
        Self::Malformed { text: text.to_owned() }
    }
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
        let invalid = || InvalidAddress::malformed(text);
        // Kafka's own files may write PLAINTEXT://host:port in a bootstrap list.
        let (protocol, address) = text.trim().split_once("://").unwrap_or(("", text.trim()));
        if SECURE.iter().any(|secure| protocol.eq_ignore_ascii_case(secure)) {
            let (text, protocol) = (text.to_owned(), protocol.to_uppercase());
            return Err(InvalidAddress::NotPlain { text, protocol });
        }
        let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
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

/// What Kafka calls the ways of talking that are not plain. Other words before an address name a
/// listener, which says nothing of how it talks.
const SECURE: [&str; 3] = ["SSL", "SASL_PLAINTEXT", "SASL_SSL"];

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
            (Err(error @ InvalidAddress::NotPlain { .. }), _)
            | (_, Err(error @ InvalidAddress::NotPlain { .. })) => Err(error),
            _ => Err(InvalidAddress::malformed(&format!("{advertised}={reachable}"))),
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
                entry.split_once('=').ok_or_else(|| InvalidAddress::malformed(entry))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_asks_for_tls_or_sasl_is_refused_and_a_plain_one_is_not() {
        for protocol in ["SSL", "ssl", "SASL_SSL", "sasl_plaintext"] {
            let refused = format!("{protocol}://wn0:9092").parse::<Address>();
            let refused = refused.expect_err("not plain").to_string();
            assert!(refused.contains(&protocol.to_uppercase()), "{refused}");
            assert!(AddressMap::default().insert("wn0:9092", "SSL://other:9092").is_err());
        }
        for plain in ["PLAINTEXT://wn0:9092", "plaintext://wn0:9092", "INTERNAL://wn0:9092"] {
            assert_eq!(plain.parse(), Ok(Address::new("wn0", 9092)));
        }
        for malformed in ["wn0", "://", "PLAINTEXT://", "PLAINTEXT://wn0", "a://b://c:1"] {
            assert!(malformed.parse::<Address>().is_err(), "{malformed}");
        }
    }
}
