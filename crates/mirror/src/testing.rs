//! The stage that routes, for the micro-benchmarks alone: no promise is made that any of it stays.
//! Owned by the engine; holds no logic of its own.

use kmirror_client::batch::passthrough::LogAppendTime;
use kmirror_client::batch::{Entry, Outgoing};
use kmirror_client::budget::Budget;

use crate::policy::partitioning::Mapping;
use crate::stage::route::{Plan, Router, Stretch};

/// The routing of one source partition, with its buffers.
#[derive(Debug)]
pub struct Routing {
    router: Router,
    plan: Plan,
}

impl Routing {
    /// Routing by `mapping`, everything else as it is by default.
    #[must_use]
    pub fn new(mapping: Mapping) -> Self {
        let plan = Plan {
            mapping,
            source_partition: 0,
            append_time: LogAppendTime::Refuse,
            null_key: None,
            codec: None,
            small_batch_bytes: 32 << 10,
            batch_bytes: 900 << 10,
            batch_bytes_max: 1 << 20,
        };
        let budget = Budget::new(64 << 20);
        Self { router: Router::new(&budget), plan }
    }

    /// Routes `entries`, all of them from the first record on: the destination partitions and
    /// their batches.
    ///
    /// # Panics
    /// When they cannot be routed.
    pub fn route(&mut self, entries: &[Entry]) -> Vec<(i32, Outgoing)> {
        let next_offset = entries.last().map_or(0, Entry::next_offset);
        let routed = self.router.route(&self.plan, Stretch { from: 0, entries, next_offset });
        assert!(routed.halt.is_none(), "not routed: {:?}", routed.halt);
        let parcels = routed.sections.into_iter().flat_map(|section| section.parcels);
        parcels.map(|parcel| (parcel.partition, parcel.outgoing)).collect()
    }
}
