//! A host and a port, checked: what is printed to a terminal or dialled came from elsewhere.

use std::fmt;

/// A host name or IP address with its port. The host holds only characters that can be part
/// of one, so that a hostile answer can neither forge a second entry nor escape to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Checks and keeps a host and a port. An IPv6 address may be given with or without brackets.
    ///
    /// # Errors
    /// [`Error::Host`] for an empty or malformed host, [`Error::Port`] for port 0.
    pub fn try_new(host: &str, port: u16) -> Result<Self, Error> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let malformed = bare.is_empty()
            || bare.len() > HOST_LEN_MAX
            || !bare
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || ".-_:%".contains(letter));
        if malformed {
            return Err(Error::Host { host: host.escape_debug().take(HOST_LEN_MAX).collect() });
        }
        if port == 0 {
            return Err(Error::Port { port: port.to_string() });
        }
        Ok(Self { host: bare.to_owned(), port })
    }

    /// Reads `host:port`, `[v6]:port`, or a host alone, which then has `default_port`.
    ///
    /// # Errors
    /// As [`Address::try_new`], and [`Error::Port`] for a port that is no number.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, Error> {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') && !is_bare_v6(text) => (host, Some(port)),
            _ => (text, None),
        };
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .map_err(|_| Error::Port { port: port.escape_debug().take(16).collect() })?,
        };
        Self::try_new(host, port)
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host is empty, too long, or holds a character no host name has.
    #[error("malformed host name \"{host}\"")]
    Host {
        /// The offending text, escaped.
        host: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("malformed port \"{port}\"")]
    Port {
        /// The offending text, escaped.
        port: String,
    },
}

/// The longest name DNS knows is 253 characters; a scope id may follow an IPv6 address.
const HOST_LEN_MAX: usize = 255;

fn is_bare_v6(text: &str) -> bool {
    !text.starts_with('[') && text.matches(':').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_with_and_without_a_port() {
        for (text, shown) in [
            ("wn0-kafka.internal:9093", "wn0-kafka.internal:9093"),
            (" wn0 ", "wn0:9092"),
            ("[::1]:9094", "[::1]:9094"),
            ("[::1]", "[::1]:9092"),
            ("fe80::1%eth0", "[fe80::1%eth0]:9092"),
        ] {
            assert_eq!(Address::parse(text, 9092).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_host_or_a_port() {
        for text in ["", ":9092", "a b:1", "a,b:1", "a\u{1b}[31m:1", "a:0", "a:65536", "a:x"] {
            assert!(Address::parse(text, 9092).is_err(), "{text:?}");
        }
    }
}
