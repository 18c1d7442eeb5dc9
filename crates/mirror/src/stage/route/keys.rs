//! Routing by key: every record goes where Kafka's default partitioner sends its key. Records are
//! read to know their keys, and written anew only if a batch has more than one destination.

use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{Codec, Compressor, Entry, Outgoing};
use kmirror_client::budget::Budget;

use super::run::Run;
use super::{
    Judgement, Opened, Plan, Router, Stretch, codec_of, grow, judge, unreadable, without_key,
};
use crate::error::Halt;
use crate::flow::{Offsets, Parcel, Routed, Section, Way};
use crate::policy::partitioning::{for_batch, for_key};

/// Buffers of routing by key.
#[derive(Debug)]
pub(super) struct Scratch {
    budget: Budget,
    /// One for each destination partition; empty between two stretches.
    builders: Vec<Builder>,
    /// The source offsets in each builder.
    offsets: Vec<Option<Offsets>>,
    /// Small batches whose records all go to one destination partition, for each of them; empty
    /// where its builder is not.
    runs: Vec<Run>,
    /// Destinations of the records of the entry in hand; [`LEFT_OUT`] for those that are not
    /// mirrored.
    targets: Vec<i32>,
}

/// What the batches in the making may have together, uncompressed, whatever the number of
/// destinations: they are beside the budget.
const BUILT_BYTES_MAX: usize = 4 << 20;
/// The target of a record that is before the position or skipped.
const LEFT_OUT: i32 = -1;
/// The target of a record without a key, until the batch's is known.
const UNKEYED: i32 = -2;

/// Where the records of one entry go.
enum Spread {
    /// All of them to one partition.
    One(i32),
    /// To several, or some of them nowhere.
    Several,
    /// There are none.
    None,
}

impl Router {
    /// Every record goes where its key says among `count` partitions. The whole stretch is one
    /// section, since batches for all destinations are filled across its entries.
    pub(super) fn keyed(
        &mut self,
        plan: &Plan,
        count: i32,
        stretch: Stretch<'_>,
        routed: &mut Routed,
    ) -> Result<(), Halt> {
        let partitions = usize::try_from(count).unwrap_or(0);
        self.keys.resize(partitions);
        let mut parcels = Vec::new();
        let mut done = stretch.from;
        let mut outcome = Ok(());
        for entry in stretch.entries.iter().filter(|entry| entry.next_offset() > stretch.from) {
            outcome = self.keyed_entry(plan, stretch.from, entry, (routed, &mut parcels));
            if outcome.is_err() {
                break;
            }
            done = entry.next_offset();
        }
        self.end_runs(plan, &mut parcels);
        self.end_built(plan, &mut parcels);
        if !parcels.is_empty() {
            routed.sections.push(Section { next_offset: done, parcels });
        }
        outcome
    }

    fn keyed_entry(
        &mut self,
        plan: &Plan,
        from: i64,
        entry: &Entry,
        (routed, parcels): (&mut Routed, &mut Vec<Parcel>),
    ) -> Result<(), Halt> {
        let (whole, mut way) = match judge(plan, from, entry)? {
            Judgement::Nothing => return Ok(()),
            Judgement::Whole(outgoing) => (Some(outgoing), Way::Keys),
            Judgement::Rebuild(way) => (None, way),
        };
        let Router { decompressor, compressor, keys, .. } = self;
        let opened = Opened::open(decompressor, entry)?;
        let spread = keys.aim(plan, (from, entry), &opened, routed)?;
        match (spread, whole) {
            (Spread::None, _) => return Ok(()),
            (Spread::One(partition), Some(outgoing)) => {
                let offsets = Offsets { first: entry.base_offset(), last: entry.next_offset() - 1 };
                let way = Way::OneDestination;
                self.keyed_whole(plan, Parcel { partition, outgoing, way, offsets }, parcels);
                return Ok(());
            }
            (Spread::One(_), None) => {}
            (Spread::Several, _) if matches!(way, Way::Gaps | Way::Resume) => way = Way::Keys,
            (Spread::Several, _) => {}
        }
        let codec = plan.codec.unwrap_or_else(|| codec_of(entry));
        let finished = keys.deal(plan, codec, &opened, compressor);
        // What is in the rows came before what was dealt.
        self.end_runs(plan, parcels);
        for (partition, outgoing, offsets) in finished? {
            self.emit(plan, Parcel { partition, outgoing, way, offsets }, parcels);
        }
        if self.keys.len_bytes_uncompressed() > BUILT_BYTES_MAX {
            self.end_built(plan, parcels);
        }
        Ok(())
    }

    /// A batch that may pass as it is to the one destination of all its records.
    fn keyed_whole(&mut self, plan: &Plan, parcel: Parcel, parcels: &mut Vec<Parcel>) {
        let Parcel { partition, outgoing, way, offsets } = parcel;
        let Ok(index) = usize::try_from(partition) else { return };
        self.end_batch(plan, index, parcels);
        if !self.keys.runs[index].takes(plan, &outgoing) {
            self.end_run_of(plan, index, parcels);
        }
        if self.keys.runs[index].takes(plan, &outgoing) {
            self.keys.runs[index].push(outgoing, offsets);
        } else {
            self.emit(plan, Parcel { partition, outgoing, way, offsets }, parcels);
        }
    }

    fn end_runs(&mut self, plan: &Plan, parcels: &mut Vec<Parcel>) {
        (0..self.keys.runs.len()).for_each(|index| self.end_run_of(plan, index, parcels));
    }

    /// Ends the row of small batches for a destination.
    fn end_run_of(&mut self, plan: &Plan, index: usize, parcels: &mut Vec<Parcel>) {
        let alone = (partition_of(index), Way::OneDestination);
        for parcel in self.keys.runs[index].end(plan, &mut self.recoder, alone) {
            self.emit(plan, parcel, parcels);
        }
    }

    fn end_built(&mut self, plan: &Plan, parcels: &mut Vec<Parcel>) {
        (0..self.keys.builders.len()).for_each(|index| self.end_batch(plan, index, parcels));
    }

    /// Ends the batch in the making for a destination.
    fn end_batch(&mut self, plan: &Plan, index: usize, parcels: &mut Vec<Parcel>) {
        let offsets = self.keys.offsets[index].take();
        let batch = self.keys.builders[index].finish(&mut self.compressor);
        if let Some((outgoing, offsets)) = batch.zip(offsets) {
            let (partition, way) = (partition_of(index), Way::Keys);
            self.emit(plan, Parcel { partition, outgoing, way, offsets }, parcels);
        }
    }
}

fn partition_of(index: usize) -> i32 {
    i32::try_from(index).expect("invariant: there are as many as the count of partitions says")
}

impl Scratch {
    pub(super) fn new(budget: &Budget) -> Self {
        let budget = budget.clone();
        Self {
            budget,
            builders: Vec::new(),
            offsets: Vec::new(),
            runs: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Prepares for that many destination partitions.
    fn resize(&mut self, partitions: usize) {
        let Self { budget, builders, offsets, runs, .. } = self;
        builders.resize_with(partitions, || Builder::new(Codec::None).within(budget));
        offsets.resize(partitions, None);
        runs.resize_with(partitions, Run::default);
    }

    /// What the batches in the making have together.
    fn len_bytes_uncompressed(&self) -> usize {
        self.builders.iter().map(Builder::len_bytes_uncompressed).sum()
    }

    /// First pass over an entry: finds each record's destination, and any reason to halt, before
    /// anything of it is written.
    fn aim(
        &mut self,
        plan: &Plan,
        (from, entry): (i64, &Entry),
        opened: &Opened<'_>,
        routed: &mut Routed,
    ) -> Result<Spread, Halt> {
        let targets = &mut self.targets;
        let count = i32::try_from(self.builders.len()).unwrap_or(i32::MAX);
        targets.clear();
        let mut skipped = Vec::new();
        let (mut one, mut several, mut unkeyed, mut left_out) = (None, false, false, false);
        opened.each(|record| {
            let target = if record.offset < from {
                left_out = true;
                LEFT_OUT
            } else if let Some(record) = without_key(plan, record)? {
                skipped.push(record);
                LEFT_OUT
            } else if let Some(key) = record.key {
                let target = for_key(key, count);
                several |= *one.get_or_insert(target) != target;
                target
            } else {
                unkeyed = true;
                UNKEYED
            };
            targets.push(target);
            Ok(())
        })?;
        routed.decompressed += 1;
        routed.records += targets.iter().filter(|target| **target != LEFT_OUT).count() as i64;
        left_out |= !skipped.is_empty();
        routed.skipped.append(&mut skipped);
        // Records without a key go with the others of their batch if those agree.
        let shared = match one {
            Some(target) if !several => target,
            _ => for_batch(plan.source_partition, entry.base_offset(), count),
        };
        targets.iter_mut().filter(|target| **target == UNKEYED).for_each(|target| *target = shared);
        Ok(match one {
            None if !unkeyed => Spread::None,
            _ if several || left_out => Spread::Several,
            _ => Spread::One(shared),
        })
    }

    /// Second pass: writes each record to its destination's builder. Returns the batches that
    /// are full, as many bytes as they have uncompressed: there are as many builders as
    /// destinations, and what they hold is not compressed yet.
    fn deal(
        &mut self,
        plan: &Plan,
        codec: Codec,
        opened: &Opened<'_>,
        compressor: &mut Compressor,
    ) -> Result<Vec<(i32, Outgoing, Offsets)>, Halt> {
        let Scratch { builders, offsets, targets, .. } = self;
        let mut targets = targets.iter();
        let mut finished = Vec::new();
        opened.each(|record| {
            let target = *targets.next().expect("invariant: both passes read the same records");
            let Ok(index) = usize::try_from(target) else { return Ok(()) };
            let builder = &mut builders[index];
            if builder.is_empty() {
                builder.set_codec(codec);
            } else if builder.len_bytes_uncompressed() >= plan.batch_bytes {
                let batch = builder.finish(compressor).zip(offsets[index].take());
                finished.extend(batch.map(|(outgoing, offsets)| (target, outgoing, offsets)));
                builder.set_codec(codec);
            }
            grow(&mut offsets[index], record.offset);
            builder.push(record).map_err(|error| unreadable(record.offset, &error))
        })?;
        Ok(finished)
    }
}
