//! Small batches in a row that have one destination: they leave as one.

use kmirror_client::batch::Outgoing;

use super::{Plan, Router};
use crate::flow::{Offsets, Parcel, Routed, Way};
use crate::stage::small::bytes_among_others;

/// The small batches routed last. Bounded by the stretch they are from; empty between two.
#[derive(Debug, Default)]
pub(super) struct Run {
    batches: Vec<Outgoing>,
    /// The source offsets of each.
    offsets: Vec<Offsets>,
    /// The bytes they have together.
    bytes: usize,
}

impl Run {
    /// Whether `batch` can still become one with them.
    pub(super) fn takes(&self, plan: &Plan, batch: &Outgoing) -> bool {
        let codec = self.batches.first().map(Outgoing::codec);
        let fill = plan.batch_bytes.min(plan.batch_bytes_max);
        codec.is_none_or(|codec| codec == batch.codec())
            && self.bytes + bytes_among_others(batch) <= fill
    }

    pub(super) fn push(&mut self, batch: Outgoing, offsets: Offsets) {
        self.bytes += bytes_among_others(&batch);
        self.batches.push(batch);
        self.offsets.push(offsets);
    }
}

impl Router {
    /// Ends the run: as one batch, or one by one if it cannot be read. Its reader will say why.
    pub(super) fn flush_run(&mut self, plan: &Plan, partition: i32, routed: &mut Routed) {
        let Run { batches, offsets, .. } = std::mem::take(&mut self.run);
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return };
        if batches.len() > 1 {
            match self.recoder.coalesce(&batches) {
                Ok(outgoing) => {
                    let offsets = Offsets { first: first.first, last: last.last };
                    let parcel = Parcel { partition, outgoing, way: Way::Small, offsets };
                    self.section(plan, parcel, routed);
                    return;
                }
                Err(error) => tracing::debug!(partition, %error, "batches not put together"),
            }
        }
        for (outgoing, offsets) in batches.into_iter().zip(offsets) {
            let parcel = Parcel { partition, outgoing, way: Way::Whole, offsets };
            self.section(plan, parcel, routed);
        }
    }
}
