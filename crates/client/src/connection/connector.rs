//! How a connection is dialled: a trait, and plain TCP.
//!
//! The in-memory pipes of the fake cluster, connections with faults and TLS are other connectors.

use std::fmt;
use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::connection::Address;

/// The two halves of a dialled connection.
pub struct Duplex {
    /// Bytes from the broker.
    pub read: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// Bytes to the broker. Vectored writes are used where it supports them.
    pub write: Box<dyn AsyncWrite + Send + Sync + Unpin>,
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Duplex")
    }
}

/// Makes connections.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Connects to `address`, which the address map has been applied to.
    ///
    /// The caller bounds the time it takes.
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>>;
}

/// Plain TCP: every address that the name resolves to is tried in turn (KIP-302).
#[derive(Debug, Clone)]
pub struct Tcp {
    /// How long one address may take before the next is tried.
    pub attempt_timeout: Duration,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { attempt_timeout: Duration::from_secs(10) }
    }
}

impl Connector for Tcp {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for ip in lookup_host((address.host(), address.port())).await? {
                match tokio::time::timeout(self.attempt_timeout, TcpStream::connect(ip)).await {
                    Ok(Ok(stream)) => return duplex(stream),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
            }
            Err(last)
        })
    }
}

/// Sends small requests at once: the driver gathers what belongs together itself.
fn duplex(stream: TcpStream) -> io::Result<Duplex> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok(Duplex { read: Box::new(read), write: Box::new(write) })
}
