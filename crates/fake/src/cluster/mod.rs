//! The handle a test holds: how to reach the cluster and how long it lives.
//!
//! Always true: dropping the last clone ends every task and connection of the cluster.

pub(crate) mod data;
mod faults;
pub(crate) mod groups;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::broker::{self, INBOX_MAX};
use crate::builder::Builder;
use crate::housekeeping;
use crate::shared::{Phase, Shared};
use crate::task::HOUSEKEEPING;

/// An in-process Kafka cluster. Clones are handles to the same cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub(crate) shared: Arc<Shared>,
    owner: Arc<Owner>,
}

/// Ends the tasks with the last handle; the tasks themselves hold only `Shared`.
#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.tasks.stop_all();
    }
}

impl Cluster {
    /// A cluster of one broker, unless told otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Cluster {
        let owner = Arc::new(Owner(Arc::clone(&shared)));
        Cluster { shared, owner }
    }

    /// The brokers' advertised addresses as `bootstrap.servers` takes them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let state = self.shared.state();
        let addresses: Vec<String> =
            state.nodes.values().map(|node| format!("{}:{}", node.host, node.port)).collect();
        addresses.join(",")
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.shared.settings.cluster_id
    }

    /// Every broker's id, running or not.
    #[must_use]
    pub fn brokers(&self) -> Vec<i32> {
        self.shared.handles.keys().copied().collect()
    }

    /// The advertised host and port of a broker.
    #[must_use]
    pub fn address(&self, broker: i32) -> Option<(String, u16)> {
        let state = self.shared.state();
        state.nodes.get(&broker).map(|node| (node.host.clone(), node.port))
    }

    /// Where a broker listens; `None` in memory.
    #[must_use]
    pub fn listening(&self, broker: i32) -> Option<SocketAddr> {
        self.shared.handles.get(&broker)?.listening
    }

    /// The cluster's wall clock, in ms since the epoch.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        self.shared.clock.unix_ms()
    }

    /// Opens a connection without a socket to the broker with this advertised or listening address.
    ///
    /// # Errors
    /// `NotFound` if there is no such broker, `ConnectionRefused` if it is stopped or has too many
    /// connections waiting.
    pub fn dial(&self, host: &str, port: u16) -> io::Result<DuplexStream> {
        let is_here = |(host_at, port_at): (String, u16)| host_at == host && port_at == port;
        let broker = self.brokers().into_iter().find(|id| {
            let listening = self.listening(*id).map(|at| (at.ip().to_string(), at.port()));
            self.address(*id).is_some_and(is_here) || listening.is_some_and(is_here)
        });
        let broker = broker.ok_or(io::ErrorKind::NotFound)?;
        let handle = &self.shared.handles[&broker];
        if *handle.phase.borrow() == Phase::Stopped {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(self.shared.settings.pipe_bytes);
        let inbox = handle.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = inbox.as_ref().is_some_and(|inbox| inbox.try_send(far).is_ok());
        if sent { Ok(near) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }

    /// Ends every task now instead of when the last handle is dropped.
    pub fn shut_down(&self) {
        self.owner.0.tasks.stop_all();
    }

    pub(crate) fn run_housekeeping(&self) {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.start(HOUSEKEEPING, housekeeping::run(shared));
    }

    pub(crate) fn run_broker(&self, id: i32, listener: Option<TcpListener>) {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        let handle = &self.shared.handles[&id];
        *handle.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.start(id, broker::run(shared, id, listener, inbox));
    }
}
