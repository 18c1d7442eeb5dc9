//! The only place that reads a clock. Under tokio's paused time it moves as the test says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The monotonic time now.
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time in milliseconds since 1970, as Kafka's timestamps count it.
///
/// For timestamps that are shown or written; never for time-outs.
#[expect(clippy::disallowed_methods, reason = "this module owns the clock")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Waits for `duration`.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
