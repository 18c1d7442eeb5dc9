//! How far away a broker is, told by its answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The shortest time that a request to a broker and its answer took. Clones share the one value.
///
/// No answer comes sooner than its way takes, and the one that waited for nothing comes about then:
/// so the shortest is near the truth however busy the broker is, as in BBR's filter of round trips
/// (draft-ietf-ccwg-bbr). One or two say little, for a broker that has just started or a machine
/// that has much to do may take long for each. The dial does not count, for there may be a proxy
/// between.
#[derive(Debug, Clone)]
pub struct RoundTrip {
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Seen {
    shortest_nanos: AtomicU64,
    answers: AtomicU64,
}

impl RoundTrip {
    /// The round trip from which a broker is far: so much data passes meanwhile that it is worth
    /// larger answers and larger batches. Between machines of one region it is well under this, and
    /// on a slow machine with much to do an answer from next door was seen to take most of it.
    pub const FAR: Duration = Duration::from_millis(10);

    /// The shortest time so far; `None` before there were enough answers to tell.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        let is_known = self.seen.answers.load(Ordering::Relaxed) >= ANSWERS_MIN;
        let nanos = self.seen.shortest_nanos.load(Ordering::Relaxed);
        is_known.then(|| Duration::from_nanos(nanos))
    }

    /// An answer came so long after its request had been written.
    pub(crate) fn answered(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.seen.shortest_nanos.fetch_min(nanos, Ordering::Relaxed);
        self.seen.answers.fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for RoundTrip {
    fn default() -> Self {
        let seen = Seen { shortest_nanos: AtomicU64::new(u64::MAX), answers: AtomicU64::new(0) };
        Self { seen: Arc::new(seen) }
    }
}

/// How many answers tell the distance.
const ANSWERS_MIN: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_of_several_answers_tells_the_distance() {
        let here = RoundTrip::default();
        let shared = here.clone();
        for millis in [30, 12, 90, 8, 17, 40, 35] {
            shared.answered(Duration::from_millis(millis));
            assert_eq!(here.shortest(), None, "too few to tell");
        }
        shared.answered(Duration::from_millis(50));
        assert_eq!(here.shortest(), Some(Duration::from_millis(8)));
        shared.answered(Duration::from_millis(2));
        assert_eq!(here.shortest(), Some(Duration::from_millis(2)));
    }
}
