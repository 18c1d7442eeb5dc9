//! What all brokers of one cluster share.
//!
//! Owned by [`crate::Cluster`] and by every task it started. Always true: no lock in here is held
//! across an await, and rules and journal have locks of their own so that they may use the cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc, watch};

use crate::api::fetch::session::Sessions;
use crate::clock::Clock;
use crate::intercept::Rules;
use crate::journal::Journal;
use crate::state::State;
use crate::task::Tasks;
use crate::versions::{Release, Versions};

/// What a broker does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// Connections stay open, nothing is answered.
    Frozen,
    Stopped,
}

/// What was decided when the cluster was built.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) cluster_id: String,
    pub(crate) release: Release,
    pub(crate) creates_topics: bool,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    pub(crate) follower_fetch: bool,
    pub(crate) is_strict: bool,
    pub(crate) frame_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) storage_bytes_max: u64,
    pub(crate) pipe_bytes: usize,
    pub(crate) initial_rebalance_delay_ms: i32,
    pub(crate) session_timeout_min_ms: i32,
}

/// One broker's handles: how to reach and steer its task.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) phase: watch::Sender<Phase>,
    /// Counts up when every connection is to be closed.
    pub(crate) cuts: watch::Sender<u64>,
    /// Where in-memory connections are handed in; replaced when the broker starts again.
    pub(crate) inbox: Mutex<Option<mpsc::Sender<DuplexStream>>>,
    /// Where the listener listens, if the cluster has sockets.
    pub(crate) listening: Option<std::net::SocketAddr>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) handles: BTreeMap<i32, Handle>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) journal: Journal,
    pub(crate) tasks: Tasks,
    /// Wakes the housekeeping task: a deadline may have moved closer.
    pub(crate) deadlines: Notify,
    state: Mutex<State>,
    versions: Mutex<Versions>,
    sessions: Mutex<Sessions>,
    next_connection: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        clock: Clock,
        handles: BTreeMap<i32, Handle>,
        state: State,
    ) -> Shared {
        let versions = Versions::of(settings.release);
        Shared {
            settings,
            clock,
            handles,
            rules: Arc::default(),
            journal: Journal::default(),
            tasks: Tasks::default(),
            deadlines: Notify::new(),
            state: Mutex::new(state),
            versions: Mutex::new(versions),
            sessions: Mutex::default(),
            next_connection: AtomicU64::new(1),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_connection(&self) -> u64 {
        self.next_connection.fetch_add(1, Ordering::Relaxed)
    }
}
