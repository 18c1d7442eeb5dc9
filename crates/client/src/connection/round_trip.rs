//! How far away a broker is, told by its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest time that a request to a broker and its answer took. Clones share the one value.
///
/// No answer comes sooner than its way takes, and the one that waited for nothing comes about then:
/// so the shortest is near the truth however busy the broker is, as in BBR's filter of round trips
/// (draft-ietf-ccwg-bbr). The dial does not count, for there may be a proxy between.
#[derive(Debug, Clone)]
pub struct RoundTrip {
    nanos: Arc<AtomicU64>,
}

impl RoundTrip {
    /// The round trip from which a broker is far: so much data passes meanwhile that it is worth
    /// larger answers and larger batches. Between machines of one site it is well under this.
    pub const FAR: Duration = Duration::from_millis(4);

    /// The shortest time so far; `None` before the first answer.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        let nanos = self.nanos.load(Ordering::Relaxed);
        (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
    }

    /// An answer came so long after its request had been written.
    pub(crate) fn answered(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(UNKNOWN);
        self.nanos.fetch_min(nanos, Ordering::Relaxed);
    }
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self { nanos: Arc::new(AtomicU64::new(UNKNOWN)) }
    }
}

const UNKNOWN: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_answer_tells_the_distance() {
        let here = RoundTrip::default();
        let shared = here.clone();
        assert_eq!(here.shortest(), None);
        for millis in [30, 2, 90] {
            shared.answered(Duration::from_millis(millis));
        }
        assert_eq!(here.shortest(), Some(Duration::from_millis(2)));
    }
}
