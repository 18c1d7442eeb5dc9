//! How many bytes the next answer of a broker may bring, and how many of each partition. Pure.
//!
//! The bytes are reserved while the broker waits for data, so one that has little must not reserve
//! much: the window grows when answers fill it and shrinks when they do not.
//!
//! On a long link an answer is a round trip away, however fast the link: where few partitions are
//! asked for, each may bring its part of the whole window.

/// How many answers of each broker there is memory for: one that is on its way, and others that
/// are being written while it is. The memory of an answer comes back as a whole.
const ANSWERS: usize = 4;

/// The smallest limit that is made of a small budget and many brokers.
const LIMIT_MIN: usize = 64 << 10;

/// The largest answer of one broker, when the answers of `brokers` share `memory_bytes`.
pub(super) fn limit(memory_bytes: usize, brokers: usize, fetch_bytes_max: usize) -> usize {
    (memory_bytes / ANSWERS / brokers.max(1)).max(LIMIT_MIN).min(fetch_bytes_max)
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

    /// An answer brought `bytes`.
    pub(super) fn answered(&mut self, bytes: usize) {
        if bytes >= self.bytes / 2 {
            self.bytes = self.bytes.saturating_mul(2).min(self.max);
        } else if bytes < self.bytes / 4 {
            self.bytes = (self.bytes / 2).max(self.min);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_what_answers_bring() {
        let mut window = Window::new(1000, 6000);
        window.answered(900);
        window.answered(1900);
        assert_eq!(window.bytes(), 4000);
        window.answered(4000);
        assert_eq!(window.bytes(), 6000);
        window.answered(0);
        window.answered(0);
        window.answered(0);
        assert_eq!(window.bytes(), 1000);
        window.answered(0);
        assert_eq!(window.bytes(), 1000);
        assert_eq!(Window::new(5000, 3000).bytes(), 3000);
    }

    #[test]
    fn brokers_share_the_memory_so_that_each_has_answers_on_the_way_and_at_work() {
        let mib = |count: usize| count << 20;
        assert_eq!(limit(mib(64), 1, mib(16)), mib(16));
        assert_eq!(limit(mib(64), 4, mib(16)), mib(4));
        assert_eq!(limit(mib(512), 4, mib(16)), mib(16), "no more than is configured");
        assert_eq!(limit(mib(64), 100_000, mib(16)), LIMIT_MIN);
        assert_eq!(limit(10, 1, 100), 100);
    }

    #[test]
    fn few_partitions_share_the_whole_window_and_many_have_what_is_configured() {
        assert_eq!(per_partition(16_000, 1, 2000), 16_000);
        assert_eq!(per_partition(16_000, 4, 2000), 4000);
        assert_eq!(per_partition(16_000, 10_000, 2000), 2000);
    }
}
