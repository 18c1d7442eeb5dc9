//! Small batches in a row that have one destination: they leave as one.

use kmirror_client::batch::Outgoing;
use kmirror_client::batch::coalesce::Joined;
use kmirror_client::batch::rebuild::Recoder;

use super::Plan;
use crate::flow::{Offsets, Parcel, Way};
use crate::stage::small::is_small;

/// The small batches that were routed last to one destination partition. Bounded by the stretch
/// they are from; empty between two.
#[derive(Debug, Default)]
pub(super) struct Run {
    batches: Vec<Outgoing>,
    /// The source offsets of each.
    offsets: Vec<Offsets>,
}

impl Run {
    /// Whether `batch` may become one with them.
    pub(super) fn takes(&self, plan: &Plan, batch: &Outgoing) -> bool {
        let codec = self.batches.first().map(Outgoing::codec);
        is_small(batch, plan.small_batch_bytes) && codec.is_none_or(|codec| codec == batch.codec())
    }

    pub(super) fn push(&mut self, batch: Outgoing, offsets: Offsets) {
        self.batches.push(batch);
        self.offsets.push(offsets);
    }

    /// Ends the run. A batch that stays alone is said to have come in the way `alone`.
    pub(super) fn end(
        &mut self,
        plan: &Plan,
        recoder: &mut Recoder,
        (partition, alone): (i32, Way),
    ) -> Vec<Parcel> {
        let Run { batches, offsets } = std::mem::take(self);
        let fill = plan.batch_bytes.min(plan.batch_bytes_max);
        let mut parcels = Vec::new();
        let (mut batches, mut offsets) = (&batches[..], &offsets[..]);
        while let Some(Joined { batch: outgoing, count }) = recoder.coalesce(batches, fill) {
            let way = if count > 1 { Way::Small } else { alone };
            let ends = Offsets { first: offsets[0].first, last: offsets[count - 1].last };
            parcels.push(Parcel { partition, outgoing, way, offsets: ends });
            (batches, offsets) = (&batches[count..], &offsets[count..]);
        }
        parcels
    }
}
