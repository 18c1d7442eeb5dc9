//! One broker: accepts connections and answers the requests on each, one after the other.
//!
//! Owned by the broker's task. Always true: answers leave in the order of their requests, a
//! connection's requests never overlap (as `SocketServer` mutes a channel), and a stopped broker
//! has no connection left.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::api::{self, Call};
use crate::error::Error;
use crate::intercept::Action;
use crate::journal::Seen;
use crate::shared::{Phase, Shared};
use crate::wire::gather::{Frame, Gather};
use crate::wire::header::Incoming;
use crate::wire::{read_frame, response_header};

/// In-memory connections waiting to be accepted.
pub(crate) const INBOX_MAX: usize = 64;

/// Serves until the task is aborted.
pub(crate) async fn run(
    shared: Arc<Shared>,
    broker: i32,
    listener: Option<TcpListener>,
    mut inbox: mpsc::Receiver<DuplexStream>,
) {
    let mut connections = JoinSet::new();
    let mut cuts = shared.handles[&broker].cuts.subscribe();
    loop {
        while connections.try_join_next().is_some() {}
        tokio::select! {
            accepted = accept(listener.as_ref()) => {
                // An accept error is the peer's or a passing lack of descriptors; later ones may
                // work.
                let Ok(stream) = accepted else { continue };
                if connections.len() < shared.settings.connections_max {
                    let peer = stream.peer_addr();
                    let host = peer.map_or_else(|_| "?".to_owned(), |at| at.ip().to_string());
                    let connection = Connection::new(&shared, broker, host);
                    connections.spawn(connection.serve(stream));
                }
            }
            piped = inbox.recv() => {
                let Some(stream) = piped else { return };
                if connections.len() < shared.settings.connections_max {
                    let connection = Connection::new(&shared, broker, "pipe".to_owned());
                    connections.spawn(connection.serve(stream));
                }
            }
            _ = cuts.changed() => connections.abort_all(),
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    let Some(listener) = listener else { return std::future::pending().await };
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Connection {
    shared: Arc<Shared>,
    broker: i32,
    id: u64,
    peer_host: String,
    wake: Arc<Notify>,
    phase: watch::Receiver<Phase>,
}

/// What becomes of the connection after a request.
enum Next {
    Go,
    Close,
}

impl Connection {
    fn new(shared: &Arc<Shared>, broker: i32, peer_host: String) -> Connection {
        Connection {
            broker,
            id: shared.next_connection(),
            peer_host,
            wake: Arc::default(),
            phase: shared.handles[&broker].phase.subscribe(),
            shared: Arc::clone(shared),
        }
    }

    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
        let mut stream = BufReader::new(stream);
        loop {
            match self.serve_one(&mut stream).await {
                Ok(Next::Go) => {}
                Ok(Next::Close) => break,
                Err(error) => {
                    tracing::debug!(broker = self.broker, connection = self.id, ?error, "closing");
                    break;
                }
            }
        }
        // The peer must see the end even if it keeps its own half open.
        let _ = stream.shutdown().await;
    }

    async fn serve_one<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        stream: &mut BufReader<S>,
    ) -> Result<Next, Error> {
        let bytes_max = self.shared.settings.frame_bytes_max;
        let Some(frame) = read_frame(stream, bytes_max).await? else { return Ok(Next::Close) };
        self.thawed().await;
        let incoming = Incoming::parse(frame)?;
        self.record(&incoming);
        let action = self.shared.rules.decide(self.broker, self.id, &incoming);
        match action {
            Action::Disconnect => Ok(Next::Close),
            Action::Ignore => Ok(Next::Go),
            Action::Garbage(bytes) => {
                self.write(stream, Frame::raw(bytes)).await?;
                Ok(Next::Go)
            }
            Action::Reply(body) => {
                let (api, version) = (incoming.api, incoming.version);
                let header = response_header(api, version, incoming.correlation_id)?;
                let mut reply = Gather::new(header);
                reply.push(body);
                self.write(stream, reply.into_frame()).await?;
                Ok(Next::Go)
            }
            action => self.answer(stream, incoming, action).await,
        }
    }

    async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &mut self,
        stream: &mut BufReader<S>,
        incoming: Incoming,
        action: Action,
    ) -> Result<Next, Error> {
        if let Action::Delay(delay) = action {
            tokio::time::sleep(delay).await;
        }
        let forced = if let Action::Error(error) = action { Some(error) } else { None };
        let call = Call {
            shared: &self.shared,
            broker: self.broker,
            peer_host: &self.peer_host,
            wake: &self.wake,
            incoming,
            forced,
        };
        let reply = api::handle(call).await?;
        if let Action::DelayReply(delay) = action {
            tokio::time::sleep(delay).await;
        }
        if action == Action::HandleThenDisconnect {
            return Ok(Next::Close);
        }
        let Some(mut frame) = reply.map(Gather::into_frame) else { return Ok(Next::Go) };
        if let Action::Truncate(bytes) = action {
            let bytes = bytes.min(bytes::Buf::remaining(&frame));
            let cut = bytes::Buf::copy_to_bytes(&mut frame, bytes);
            self.write(stream, Frame::raw(cut)).await?;
            return Ok(Next::Close);
        }
        self.write(stream, frame).await?;
        Ok(Next::Go)
    }

    async fn write<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut BufReader<S>,
        mut frame: Frame,
    ) -> Result<(), Error> {
        self.thawed().await;
        stream.write_all_buf(&mut frame).await?;
        stream.flush().await?;
        Ok(())
    }

    /// Waits while the broker is frozen.
    async fn thawed(&mut self) {
        // The sender lives as long as the cluster, which outlives its connections.
        let _ = self.phase.wait_for(|phase| *phase != Phase::Frozen).await;
    }

    fn record(&self, incoming: &Incoming) {
        self.shared.journal.record(Seen {
            broker: self.broker,
            connection: self.id,
            api: incoming.api,
            version: incoming.version,
            correlation_id: incoming.correlation_id,
            client_id: incoming.client_id.clone(),
            size_bytes: incoming.size_bytes,
        });
    }
}
