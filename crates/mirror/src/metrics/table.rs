//! The one list of metrics.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A whole number that goes up and down.
    Gauge,
    /// Seconds, with a fraction, that go up and down.
    Seconds,
}

impl Kind {
    /// Prometheus' word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Seconds => "gauge",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Which.
    pub metric: Metric,
    /// Its name, with unit and `_total`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels, in the order values are given.
    pub labels: &'static [&'static str],
    /// What it says; no full stop.
    pub help: &'static str,
    /// What to do if it rises.
    pub rises: &'static str,
}

impl Definition {
    /// The word after `kmirror_`.
    pub fn stage(&self) -> &'static str {
        self.name.split('_').nth(1).unwrap_or_default()
    }
}

macro_rules! metrics {
    ($($metric:ident $name:literal $kind:ident [$($label:literal),*]
        $help:literal, $rises:literal;)*) => {
        /// Names of the metrics in code; the position is that in [`TABLE`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is documented by its row in the table")]
        pub enum Metric { $($metric,)* }

        /// All metrics.
        pub const TABLE: &[Definition] = &[$(Definition {
            metric: Metric::$metric,
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            help: $help,
            rises: $rises,
        },)*];
    };
}

metrics! {
    AssignPartitions "kmirror_assign_partitions" Gauge ["stream"]
        "Source partitions this stream owns",
        "Another instance or stream left; if it falls to 0 there are more streams than partitions.";
    AssignRebalances "kmirror_assign_rebalances_total" Counter ["stream"]
        "Times the group changed what this stream owns",
        "Instances come and go, or miss their heartbeats: look for restarts and for long pauses.";
    FetchBytes "kmirror_fetch_bytes_total" Counter ["topic", "partition"]
        "Bytes of batches read from the source, as compressed there",
        "Traffic. Compare with produce.";
    FetchRecords "kmirror_fetch_records_total" Counter ["topic", "partition"]
        "Records read from the source",
        "Traffic. Compare with produce.";
    FetchLostRecords "kmirror_fetch_lost_offsets_total" Counter ["topic", "partition"]
        "Offsets that were gone from the source before they were mirrored",
        "Data is lost: the mirror is slower than retention. Add streams, or retain for longer.";
    FetchTroubles "kmirror_fetch_troubles_total" Counter ["kind"]
        "Troubles of source partitions, by kind",
        "See the status page for the partition and the reason.";
    RouteBatches "kmirror_route_batches_total" Counter ["topic", "path", "reason"]
        "Batches made for the destination, by the path they took and why",
        "Every path but `passthrough` costs CPU: the reason says what would avoid it.";
    RouteSkippedRecords "kmirror_route_skipped_records_total" Counter ["topic", "reason"]
        "Records left out because the policy says so; each is in the ledger log",
        "Data is left out on purpose. Look into the ledger, mend the producers or the destination.";
    ProduceBytes "kmirror_produce_bytes_total" Counter ["topic", "partition"]
        "Bytes of batches acknowledged by the destination",
        "Traffic.";
    ProduceRecords "kmirror_produce_records_total" Counter ["topic", "partition"]
        "Records acknowledged by the destination",
        "Traffic.";
    ProduceBatches "kmirror_produce_batches_total" Counter ["topic", "partition"]
        "Batches acknowledged by the destination",
        "Traffic. Bytes per batch say how well producers and the coalescer batch.";
    ProduceErrors "kmirror_produce_errors_total" Counter ["kind"]
        "Deliveries that failed, and partitions that stood still for seconds, by kind",
        "The destination refuses or loses batches: see the status page and its brokers' logs.";
    ProduceRestarts "kmirror_produce_restarts_total" Counter ["topic", "partition"]
        "Times a partition went back to its last acknowledged position",
        "Some records are written twice each time. Look for broker failures at the destination.";
    CommitCommits "kmirror_commit_commits_total" Counter ["outcome"]
        "Commits of positions, by outcome (`ok`, `failed`)",
        "If `failed` rises, a restart would repeat more: look at the source's group coordinator.";
    CommitNextOffset "kmirror_commit_next_offset" Gauge ["topic", "partition"]
        "Source offset up to which everything is acknowledged",
        "Progress.";
    CommitLagRecords "kmirror_commit_lag_records" Gauge ["topic", "partition"]
        "Offsets between that position and the source's high watermark",
        "The mirror falls behind: add streams, or see which end is slow.";
    CommitLagSeconds "kmirror_commit_lag_seconds" Seconds ["topic", "partition"]
        "Age of the last acknowledged record while there is lag, else 0",
        "The mirror falls behind in time.";
    ControlTopics "kmirror_control_topics" Gauge ["state"]
        "Topics that match, by state (`ready`, `waiting`, `refused`)",
        "If `waiting` or `refused` stays above 0, the status page says why.";
    ControlCreatedTopics "kmirror_control_created_topics_total" Counter []
        "Topics created at the destination",
        "New topics at the source.";
    ControlAddedPartitions "kmirror_control_added_partitions_total" Counter []
        "Partitions added to topics at the destination",
        "Topics grew at the source.";
    ControlErrors "kmirror_control_errors_total" Counter ["end"]
        "Failed looks at a cluster's topics",
        "The cluster is unreachable or refuses: see the log.";
    MemoryUsed "kmirror_memory_used_bytes" Gauge []
        "Bytes of fetches under way, and of what is fetched or made of it and not yet acknowledged",
        "At the limit the destination is the slower end; fetching waits.";
    MemoryLimit "kmirror_memory_limit_bytes" Gauge []
        "The budget",
        "Set by you.";
    MemoryPeak "kmirror_memory_peak_bytes" Gauge []
        "The most that was ever used",
        "Passes the limit by a larger batch, or by what is made of the answers under way.";
    StatusPartitions "kmirror_status_partitions" Gauge ["state"]
        "Partitions of this process by state",
        "If `halted` is above 0, a human must look: the status page says why.";
}
