//! The cluster's time, in one place: tokio's clock, so that a test with paused time owns it.
//!
//! Always true: wall-clock time is a fixed start plus the time tokio says has passed.

use std::time::Duration;

use tokio::time::Instant;

/// Where the cluster's wall clock started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
    start_unix_ms: i64,
}

impl Clock {
    /// A clock showing `unix_ms` now; the machine's time without it.
    pub(crate) fn new(unix_ms: Option<i64>) -> Clock {
        Clock { start: now(), start_unix_ms: unix_ms.unwrap_or_else(machine_unix_ms) }
    }

    /// Milliseconds since the epoch.
    pub(crate) fn unix_ms(&self) -> i64 {
        let passed = now().saturating_duration_since(self.start);
        self.start_unix_ms.saturating_add(passed.as_millis() as i64)
    }
}

/// This instant, for deadlines.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A duration of so many milliseconds; negative is none.
pub(crate) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the fake reads the machine's clock"
)]
fn machine_unix_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis() as i64)
}
