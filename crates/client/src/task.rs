//! The only place that starts a task. A task ends with its owner.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// A running task, aborted when this handle is dropped.
///
/// Await it for its result.
#[derive(Debug)]
pub struct Task<T> {
    name: &'static str,
    handle: JoinHandle<T>,
}

/// A task that panicked, or was aborted from outside.
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {name} ended without a result")]
pub struct Ended {
    /// The name the task was started with.
    pub name: &'static str,
}

/// Starts `future` on the current runtime as the task `name`.
#[expect(clippy::disallowed_methods, reason = "this module owns the starting of tasks")]
pub fn spawn<T, F>(name: &'static str, future: F) -> Task<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    Task { name, handle: tokio::spawn(future) }
}

impl<T> Task<T> {
    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.handle.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Ended>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        Pin::new(&mut self.handle).poll(context).map_err(|_| Ended { name })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
