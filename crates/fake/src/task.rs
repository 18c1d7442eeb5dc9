//! The only place where the fake starts tasks: each broker is one task that owns its connections.
//!
//! Always true: aborting a broker's task ends every connection it serves, because the set of them
//! is dropped with it, and dropping the last [`crate::Cluster`] aborts every broker.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// Named tasks; starting a second one under a name ends the first.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<BTreeMap<i32, JoinSet<()>>>,
}

/// The name of the housekeeping task; brokers are named by their ids, which are not negative.
pub(crate) const HOUSEKEEPING: i32 = -1;

impl Tasks {
    pub(crate) fn start(&self, name: i32, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = JoinSet::new();
        set.spawn(future);
        self.lock().insert(name, set);
    }

    pub(crate) fn stop(&self, name: i32) {
        // The set is dropped outside the lock: a task's destructor may use the cluster.
        let stopped = self.lock().remove(&name);
        drop(stopped);
    }

    pub(crate) fn stop_all(&self) {
        let stopped = std::mem::take(&mut *self.lock());
        drop(stopped);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<i32, JoinSet<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
