//! A long link in one process: a proxy before a broker that hands every byte on after half the
//! round trip, in each direction, and changes nothing else.
//!
//! Bandwidth is not limited, nothing is lost, and the windows of TCP play no part: it shows what
//! waiting costs, not what a thin or lossy line does. A connection is usable one round trip after
//! it was made, as with a real handshake. What is under way is bounded for each connection and
//! direction, generously: [`UNDER_WAY_BYTES_MAX`].

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use kmirror_client::{
    clock,
    task::{self, Task},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{Error, floor::block_on};

/// The most bytes on the way: what 10 Gbit/s carry in 100 ms.
pub const UNDER_WAY_BYTES_MAX: usize = 128 << 20;
/// The most pieces on the way, so that small ones are bounded too.
const PIECES_MAX: usize = 1 << 16;
/// The largest piece.
const PIECE_BYTES: usize = 256 << 10;
/// The most connections; more than any mirror opens.
const CONNECTIONS_MAX: usize = 1024;

/// A port that is taken before it is known where it leads.
#[derive(Debug)]
pub struct Entrance(StdListener);

impl Entrance {
    /// Takes a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> Result<Self, Error> {
        StdListener::bind((Ipv4Addr::LOCALHOST, 0)).map(Self).map_err(Error::Listen)
    }

    /// Which port.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn port(&self) -> Result<u16, Error> {
        self.0.local_addr().map(|address| address.port()).map_err(Error::Listen)
    }

    /// Leads to `target` from now on, `round_trip` away.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub fn lead_to(self, target: SocketAddr, round_trip: Duration) -> Result<Proxy, Error> {
        let port = self.port()?;
        self.0.set_nonblocking(true).map_err(Error::Listen)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = self.0;
        let run = move || {
            block_on(async {
                tokio::select! {
                    _ = stopped => Ok(()),
                    outcome = serve(listener, target, round_trip) => outcome.map_err(Error::Listen),
                }
            })
        };
        Ok(Proxy { port, stop: Some(stop), thread: Some(thread::spawn(run)) })
    }
}

/// A link at work, in a thread of its own; it is cut when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Proxy {
    /// `host:port` of its near end.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(thread::JoinHandle::join) {
            eprintln!("{error}");
        }
    }
}

async fn serve(listener: StdListener, target: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections: Vec<Task<()>> = Vec::new();
    loop {
        let (near, _) = listener.accept().await?;
        connections.retain(|connection| !connection.is_finished());
        if connections.len() < CONNECTIONS_MAX {
            connections.push(task::spawn("link", async move {
                // A broken connection is for its two ends to notice, as on a real link.
                let _ = connect(near, target, round_trip).await;
            }));
        }
    }
}

async fn connect(near: TcpStream, target: SocketAddr, round_trip: Duration) -> io::Result<()> {
    let usable = clock::now() + round_trip;
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let delay = round_trip / 2;
    tokio::try_join!(
        carry(near_read, far_write, (delay, usable)),
        carry(far_read, near_write, (delay, usable)),
    )?;
    Ok(())
}

/// A piece on its way.
struct Piece {
    due: Instant,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Carries bytes until there are no more, each `delay` late; before `usable` none sets out.
async fn carry(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    (delay, usable): (Duration, Instant),
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let set_out = move || clock::now().max(usable) + delay;
    tokio::try_join!(take_in(from, sender, set_out), hand_on(to, receiver))?;
    Ok(())
}

async fn take_in(
    mut from: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Piece>,
    set_out: impl Fn() -> Instant,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(UNDER_WAY_BYTES_MAX));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_BYTES);
        if (&mut from).take(PIECE_BYTES as u64).read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let (due, bytes) = (set_out(), buffer.split().freeze());
        let permits = u32::try_from(bytes.len()).expect("invariant: a piece is small");
        let room = Arc::clone(&room).acquire_many_owned(permits).await;
        let room = room.expect("invariant: the room is never closed");
        if sender.send(Piece { due, bytes, _room: room }).await.is_err() {
            return Ok(());
        }
    }
}

async fn hand_on(
    mut to: impl AsyncWrite + Unpin,
    mut receiver: mpsc::Receiver<Piece>,
) -> io::Result<()> {
    while let Some(piece) = receiver.recv().await {
        tokio::time::sleep_until(piece.due).await;
        to.write_all(&piece.bytes).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(100);

    /// A server that greets, then sends back everything it reads.
    async fn echo(listener: TcpListener) {
        let (stream, _) = listener.accept().await.expect("a connection");
        let (mut read, mut write) = stream.into_split();
        write.write_all(b"hello").await.expect("written");
        tokio::io::copy(&mut read, &mut write).await.expect("copied");
    }

    async fn linked() -> (TcpStream, Proxy, Task<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let target = listener.local_addr().expect("an address");
        let server = task::spawn("echo", echo(listener));
        let entrance = Entrance::open().expect("a port");
        let proxy = entrance.lead_to(target, ROUND_TRIP).expect("a proxy");
        let stream = TcpStream::connect(proxy.address()).await.expect("a connection");
        (stream, proxy, server)
    }

    #[tokio::test]
    async fn each_direction_takes_half_a_round_trip() {
        let begin = clock::now();
        let (mut stream, _proxy, _server) = linked().await;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        assert_eq!(&greeting, b"hello");
        // One round trip for the handshake, half of one for the greeting.
        assert!(begin.elapsed() >= ROUND_TRIP * 3 / 2, "{:?}", begin.elapsed());
        let asked = clock::now();
        stream.write_all(b"x").await.expect("written");
        stream.read_exact(&mut greeting[..1]).await.expect("an answer");
        assert!(asked.elapsed() >= ROUND_TRIP, "{:?}", asked.elapsed());
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_none_waits_for_the_one_before() {
        let (stream, _proxy, _server) = linked().await;
        let (mut read, mut write) = stream.into_split();
        let sent: Vec<u8> = (0..8_000_000u32).map(|index| (index % 251) as u8).collect();
        let expected = [b"hello".as_slice(), &sent].concat();
        let begin = clock::now();
        let writing = task::spawn("write", async move {
            for piece in sent.chunks(10_007) {
                write.write_all(piece).await.expect("written");
            }
            write.shutdown().await.expect("shut down");
        });
        let mut received = Vec::new();
        read.read_to_end(&mut received).await.expect("everything");
        writing.await.expect("written");
        assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        // 800 pieces, one after the other, would take 800 round trips.
        assert!(begin.elapsed() < ROUND_TRIP * 200, "{:?}", begin.elapsed());
    }

    #[tokio::test]
    async fn a_link_that_is_dropped_is_cut() {
        let (mut stream, proxy, _server) = linked().await;
        stream.read_exact(&mut [0; 5]).await.expect("a greeting");
        drop(proxy);
        let left = stream.read(&mut [0; 1]).await;
        assert!(matches!(left, Ok(0) | Err(_)), "{left:?}");
    }
}
