//! How many bytes the next answer of a broker may bring, and how many of each partition. Pure.
//!
//! The bytes are reserved while the broker waits for data, so one that has little must not reserve
//! much: the window grows when answers fill it and shrinks when they do not.
//!
//! On a long link an answer is a round trip away, however fast the link: there the memory is for
//! fewer and larger ones, and where few partitions are asked for, each may bring its part of the
//! whole window. On a slow link a large answer would take so long that nobody waits for its end.

use std::time::Duration;

use crate::connection::RoundTrip;

/// How many answers of each broker there is memory for: one that is on its way, and others that
/// are being written while it is. The memory of an answer comes back as a whole, and for a moment
/// it and the batches made of it are both there: many small ones need less than few large ones.
const ANSWERS: usize = 8;

/// The same for brokers that are [far](RoundTrip::FAR): what is on its way is all that a round trip
/// brings.
const ANSWERS_FROM_FAR: usize = 2;

/// The smallest limit that is made of a small budget and many brokers, or by answers that do not
/// come.
const LIMIT_MIN: usize = 64 << 10;

/// An answer that took longer is too large for its link.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The largest answer of a broker `round_trip` away, when the answers of `brokers` share
/// `memory_bytes`.
pub(super) fn limit(
    memory_bytes: usize,
    brokers: usize,
    round_trip: Duration,
    fetch_bytes_max: usize,
) -> usize {
    let answers = if round_trip < RoundTrip::FAR { ANSWERS } else { ANSWERS_FROM_FAR };
    (memory_bytes / answers / brokers.max(1)).max(LIMIT_MIN).min(fetch_bytes_max)
}

/// The most of one partition in an answer of `bytes` that `partitions` share. Never less than is
/// configured: the broker divides what there is among them.
pub(super) fn per_partition(bytes: usize, partitions: usize, configured: usize) -> usize {
    (bytes / partitions.max(1)).max(configured)
}

/// The window of one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    bytes: usize,
    min: usize,
    max: usize,
}

impl Window {
    /// A window that begins at `min`, or at `max` if that is less.
    pub(super) fn new(min: usize, max: usize) -> Self {
        let min = min.min(max);
        Self { bytes: min, min, max }
    }

    pub(super) fn bytes(self) -> usize {
        self.bytes
    }

    /// An answer brought `bytes`, so long after it had been asked for.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration) {
        if took > ANSWER_TIME_MAX || bytes < self.bytes / 4 {
            self.bytes = (self.bytes / 2).max(self.min.min(self.bytes));
        } else if bytes >= self.bytes / 2 && took < ANSWER_TIME_MAX / 2 {
            self.bytes = self.bytes.saturating_mul(2).min(self.max);
        }
    }

    /// An answer did not come whole. It may have been too large for the time that there is: the
    /// same would be asked for in vain again and again.
    pub(super) fn lost(&mut self) {
        self.bytes = (self.bytes / 2).max(LIMIT_MIN.min(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn a_window_follows_what_answers_bring() {
        let mut window = Window::new(1000, 6000);
        window.answered(900, SOON);
        window.answered(1900, SOON);
        assert_eq!(window.bytes(), 4000);
        window.answered(4000, SOON);
        assert_eq!(window.bytes(), 6000);
        window.answered(0, SOON);
        window.answered(0, SOON);
        window.answered(0, SOON);
        assert_eq!(window.bytes(), 1000);
        window.answered(0, SOON);
        assert_eq!(window.bytes(), 1000);
        assert_eq!(Window::new(5000, 3000).bytes(), 3000);
    }

    #[test]
    fn over_a_slow_link_a_window_stays_where_answers_do_not_take_long() {
        let mut window = Window::new(1 << 20, 32 << 20);
        let bytes_per_second = 3 << 20;
        for _ in 0..20 {
            let bytes = window.bytes();
            window.answered(bytes, Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64));
        }
        assert_eq!(window.bytes(), 4 << 20);
        window.answered(4 << 20, Duration::from_secs(20));
        window.answered(2 << 20, Duration::from_secs(10));
        window.answered(1 << 20, Duration::from_secs(5));
        assert_eq!(window.bytes(), 1 << 20);
    }

    #[test]
    fn answers_that_are_lost_become_small_enough_for_the_slowest_link() {
        let timeout = Duration::from_secs(30);
        let bytes_per_second = 10 << 10;
        let mut window = Window::new(2 << 20, 32 << 20);
        window.answered(2 << 20, SOON);
        let mut took = timeout;
        for _ in 0..20 {
            took = Duration::from_secs_f64(window.bytes() as f64 / f64::from(bytes_per_second));
            if took < timeout {
                window.answered(window.bytes(), took);
            } else {
                window.lost();
            }
        }
        assert!(took < timeout, "{took:?}");
        // The link is as fast as before again.
        for _ in 0..9 {
            window.answered(window.bytes(), SOON);
        }
        assert_eq!(window.bytes(), 32 << 20);
        let mut small = Window::new(1000, 1000);
        small.lost();
        assert_eq!(small.bytes(), 1000);
    }

    #[test]
    fn brokers_share_the_memory_so_that_each_has_answers_on_the_way_and_at_work() {
        let mib = |count: usize| count << 20;
        assert_eq!(limit(mib(64), 1, SOON, mib(50)), mib(8));
        assert_eq!(limit(mib(64), 4, SOON, mib(50)), mib(2));
        assert_eq!(limit(mib(512), 4, SOON, mib(16)), mib(16), "no more than is configured");
        assert_eq!(limit(mib(64), 100_000, SOON, mib(16)), LIMIT_MIN);
        assert_eq!(limit(10, 1, SOON, 100), 100);
    }

    #[test]
    fn far_brokers_answers_are_larger() {
        let (mib, far) = (|count: usize| count << 20, Duration::from_millis(50));
        assert_eq!(limit(mib(64), 1, far, mib(50)), mib(32));
        assert_eq!(limit(mib(64), 2, far, mib(50)), mib(16));
    }

    #[test]
    fn few_partitions_share_the_whole_window_and_many_have_what_is_configured() {
        assert_eq!(per_partition(16_000, 1, 2000), 16_000);
        assert_eq!(per_partition(16_000, 4, 2000), 4000);
        assert_eq!(per_partition(16_000, 10_000, 2000), 2000);
    }
}
