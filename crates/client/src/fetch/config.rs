//! How a fetcher behaves. Plain values; Kafka's own defaults except where said.

use std::time::Duration;

use crate::broker::Lane;
use crate::isolation::Isolation;

/// Settings of a [`Fetcher`](super::Fetcher).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which records are wanted (`isolation.level`). Default [`Isolation::ReadCommitted`], unlike
    /// Kafka's consumer: a mirror must not forward what was taken back.
    pub isolation: Isolation,
    /// The most bytes of one answer (`fetch.max.bytes`), and so the largest lease taken from the
    /// budget, unless one batch alone is larger. Less where several answers would not fit into an
    /// equal part of the budget for each fetcher that reads, and no more than seven eighths of the
    /// largest frame that is taken ([`frame_bytes_max`](crate::Config::frame_bytes_max)). Default
    /// 50 MiB.
    pub fetch_bytes_max: usize,
    /// The most bytes of one partition in an answer (`max.partition.fetch.bytes`), where many are
    /// asked for; few share the whole answer. Default 2 MiB.
    pub partition_bytes_max: usize,
    /// How many bytes of other partitions one partition's data, handed out and not given back yet,
    /// may keep from being freed before no more is fetched of it. An answer is freed as a whole, so
    /// without this one partition that is stuck could keep all the memory. Default 32 MiB; the
    /// fetcher takes an eighth of the budget if that is less, but one answer at least.
    pub pinned_bytes_max: usize,
    /// How long the broker may wait for `bytes_min` (`fetch.max.wait.ms`). Default 500 ms.
    pub wait_max: Duration,
    /// The fewest bytes worth an answer (`fetch.min.bytes`). Default 1.
    pub bytes_min: usize,
    /// Which connection and fetch session to each broker. Fetchers of one process each need their
    /// own number.
    pub lane: Lane,
    /// How often a batch with a wrong checksum is fetched again. Default 3.
    pub corrupt_retries: u32,
    /// How long a topic may be missing from the metadata before it is reported. Default 30 s.
    pub missing_after: Duration,
    /// The pause after a first failure, and its maximum. Default 100 ms to 1 s.
    pub backoff: (Duration, Duration),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            isolation: Isolation::ReadCommitted,
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 2 << 20,
            pinned_bytes_max: 32 << 20,
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            lane: Lane::Fetch(0),
            corrupt_retries: 3,
            missing_after: Duration::from_secs(30),
            backoff: (Duration::from_millis(100), Duration::from_secs(1)),
        }
    }
}
