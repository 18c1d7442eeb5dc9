//! How a connection is dialled: a trait, and plain TCP.
//!
//! The in-memory pipes of the fake cluster, connections with faults and TLS are other connectors.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use socket2::{SockRef, TcpKeepalive};
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

/// Plain TCP. Of the addresses that a name has (KIP-302) the next one is dialled as soon as the
/// one before has failed, or has said nothing for a quarter of a second; the first that accepts is
/// taken.
///
/// It may accept and still be no broker that answers, so the next dial begins behind it.
#[derive(Debug, Clone, Default)]
pub struct Tcp {
    /// Which address was taken last. Bounded by the names dialled that have several.
    taken: Arc<Mutex<HashMap<Address, SocketAddr>>>,
}

impl Connector for Tcp {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        Box::pin(async move {
            let found = lookup_host((address.host(), address.port())).await?.collect();
            let found = self.in_turn(address, found);
            let has_others = found.len() > 1;
            let (taken, stream) = first_of(found, TcpStream::connect).await?;
            if has_others {
                self.taken().insert(address.clone(), taken);
            }
            duplex(stream)
        })
    }
}

impl Tcp {
    /// The addresses of a name in the order in which they are dialled: the resolver's the first
    /// time, later their own, which does not change from look-up to look-up.
    fn in_turn(&self, name: &Address, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if found.len() > 1 {
            let mut taken = self.taken();
            if let Some(last) = taken.get(name) {
                found.sort_unstable();
                let next = found.partition_point(|address| address <= last) % found.len();
                found.rotate_left(next);
            }
            // Counts if the time is over before any is taken.
            taken.insert(name.clone(), found[0]);
        }
        found
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Address, SocketAddr>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an address may say nothing before the next is dialled as well (RFC 8305).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Dials one address after the other, none waiting for long for those before it. At most all are
/// dialled at once.
async fn first_of<S, F: Future<Output = io::Result<S>>>(
    addresses: Vec<SocketAddr>,
    dial: impl Fn(SocketAddr) -> F,
) -> io::Result<(SocketAddr, S)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut left = addresses.into_iter();
    let mut dialled = FuturesUnordered::new();
    loop {
        let next = left.next().map(|address| {
            let dial = dial(address);
            async move { (address, dial.await) }
        });
        dialled.extend(next);
        let outcome = if left.len() == 0 {
            dialled.next().await
        } else {
            match tokio::time::timeout(NEXT_AFTER, dialled.next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            }
        };
        match outcome {
            Some((address, Ok(stream))) => return Ok((address, stream)),
            Some((_, Err(error))) => last = error,
            None => return Err(last),
        }
    }
}

/// How long nothing may go over a connection before the system asks whether the other end is still
/// there. Address translators and load balancers forget a connection that is silent for longer
/// than a few minutes, without telling either end.
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// The pause between two such questions.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Sends small requests at once: the driver gathers what belongs together itself.
fn duplex(stream: TcpStream) -> io::Result<Duplex> {
    stream.set_nodelay(true)?;
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    let (read, write) = stream.into_split();
    Ok(Duplex { read: Box::new(read), write: Box::new(write) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: u8 = 1;
    const REFUSING: u8 = 2;
    const ACCEPTING: u8 = 3;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9092))
    }

    async fn dial(address: SocketAddr) -> io::Result<()> {
        if address == at(SILENT) {
            return std::future::pending().await;
        }
        if address == at(REFUSING) { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_says_nothing_keeps_no_other_from_being_dialled() {
        let all = vec![at(SILENT), at(REFUSING), at(ACCEPTING)];
        let in_time = tokio::time::timeout(Duration::from_secs(1), first_of(all, dial));
        assert_eq!(in_time.await.expect("in time").expect("accepted").0, at(ACCEPTING));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_refuse_are_told_by_the_last_ones_words() {
        let refused = first_of(vec![at(REFUSING)], dial).await.expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let nothing = first_of(Vec::new(), dial).await.expect_err("no address");
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn each_dial_begins_behind_the_address_that_was_taken_last() {
        let (tcp, name) = (Tcp::default(), Address::new("broker", 9092));
        let resolved = || vec![at(7), at(5), at(6)];
        assert_eq!(tcp.in_turn(&name, resolved()), resolved());
        tcp.taken().insert(name.clone(), at(5));
        assert_eq!(tcp.in_turn(&name, resolved()), [at(6), at(7), at(5)]);
        // Nobody accepted in time; the resolver has turned its answer meanwhile.
        assert_eq!(tcp.in_turn(&name, vec![at(6), at(7), at(5)]), [at(7), at(5), at(6)]);
        assert_eq!(tcp.in_turn(&name, vec![at(1)]), [at(1)]);
    }

    #[tokio::test]
    async fn the_system_probes_a_silent_connection() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("free");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("accepted");
        let descriptor = SockRef::from(&stream).try_clone().expect("open");
        let _duplex = duplex(stream).expect("set up");
        assert!(descriptor.keepalive().expect("asked"));
    }
}
