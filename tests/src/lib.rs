//! What the suites of `tests/` stand on: real clusters, Kafka's own Java client, kcat, and kmirror
//! as a process. Everything here panics with a sentence when something is missing or late: these
//! are tests, and a test that cannot run has failed.

pub mod busy;
pub mod clusters;
pub mod java;
pub mod kcat;
pub mod kmirror;
pub mod records;

use std::time::Duration;

pub use clusters::{End, Pair};
pub use java::Java;
pub use kmirror::{Flow, Kmirror, MirrorMaker};
pub use records::Record;

/// How long anything may take before a test gives up on it. Generous, because the machines that
/// run the suites have two cores for two clusters, a mirror and the clients.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `ready` answers with something; panics with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    xtask::clock::poll(PATIENCE, Duration::from_millis(100), ready)
        .unwrap_or_else(|| panic!("{what}: not within {} s", PATIENCE.as_secs()))
}

/// A name nobody else uses: `what`, and a number of this process.
#[must_use]
pub fn unique(what: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
