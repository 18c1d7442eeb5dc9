//! Waiting times between tries: doubled at each failure, spread by a fifth, never over a maximum.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A series of waiting times.
///
/// ```
/// use std::time::Duration;
/// use kmirror_client::backoff::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
/// let first = backoff.next_delay();
/// assert!(first >= Duration::from_millis(80) && first <= Duration::from_millis(120));
/// for _ in 0..10 {
///     assert!(backoff.next_delay() <= Duration::from_millis(1200));
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    /// Starts a series at `initial` that never passes `max` by more than a fifth.
    pub fn new(initial: Duration, max: Duration) -> Self {
        // Chance is only wanted to keep clients from trying in step; the hasher's keys have it.
        Self::with_seed(initial, max, RandomState::new().hash_one(0u8))
    }

    /// The same with chance given, for a run that must be repeatable.
    pub fn with_seed(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { initial, max, failures: 0, seed: seed | 1 }
    }

    /// The time to wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let doubled = self.initial.saturating_mul(1u32 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.max).mul_f64(0.8 + 0.4 * self.chance())
    }

    /// How often the series has been asked since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again from the initial time, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// A number in 0..1 (xorshift64*, Marsaglia 2003 and Vigna 2016).
    fn chance(&mut self) -> f64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        let high = self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        high as f64 / (1u64 << 53) as f64
    }
}
