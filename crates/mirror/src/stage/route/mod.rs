//! The middle stage, a pure function: fetched batches in, parcels for destination partitions out.
//! It takes the shortest way that is legal for each batch: its header patched
//! ([`Path::Passthrough`]) if the destination may have it as it is, its records written anew
//! otherwise.
//!
//! Always true:
//! - where a partition has one destination, small batches that came in a row become one, so that
//!   what is remembered of a batch is little beside the batch; nothing waits for more to come;
//! - control and empty batches make no parcel, but the position passes them;
//! - records before the position are left out;
//! - parcels of one destination partition are in the order of their source offsets;
//! - when a batch cannot be routed, everything before it is, and nothing of it or after it.
//!
//! [`Path::Passthrough`]: crate::flow::Path::Passthrough

mod keys;
mod run;

use kmirror_client::batch::passthrough::LogAppendTime;
use kmirror_client::batch::rebuild::{Builder, Recoder};
use kmirror_client::batch::{
    Codec, Compressor, Decompressor, Entry, Levels, Outgoing, Record, Refusal, legacy, records,
};
use kmirror_client::budget::Budget;

use crate::error::{Halt, chain};
use crate::flow::{Offsets, Parcel, Routed, Section, Skipped, Way};
use crate::policy::partitioning::Mapping;
use crate::policy::trouble::Refused;
use run::Run;

/// The most a batch may have decompressed: a bound against bombs, far above what brokers take.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// What route has to know of one source partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Where records go; never [`Mapping::Missing`] while the partition is fetched.
    pub(crate) mapping: Mapping,
    /// The partition's own number.
    pub(crate) source_partition: i32,
    /// What becomes of append times.
    pub(crate) append_time: LogAppendTime,
    /// What is done with a record without a key, if the destination refuses them.
    pub(crate) null_key: Option<Refused>,
    /// The codec every batch has to have, if not its own.
    pub(crate) codec: Option<Codec>,
    /// Batches of fewer bytes become one with their neighbours.
    pub(crate) small_batch_bytes: usize,
    /// The size new batches are filled to.
    pub(crate) batch_bytes: usize,
    /// The destination's limit, when known.
    pub(crate) batch_bytes_max: usize,
}

/// A fetched stretch of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    /// The position it was fetched for: records before it are left out.
    pub(crate) from: i64,
    /// What was fetched, in order.
    pub(crate) entries: &'a [Entry],
    /// The position after it.
    pub(crate) next_offset: i64,
}

/// The buffers routing needs; one serves a stream.
#[derive(Debug)]
pub(crate) struct Router {
    decompressor: Decompressor,
    compressor: Compressor,
    recoder: Recoder,
    builder: Builder,
    run: Run,
    keys: keys::Scratch,
}

impl Router {
    /// A router whose batches are counted in `budget`'s buffers, as what they are made of is.
    pub(crate) fn new(budget: &Budget) -> Router {
        let recoder = Recoder::new(Levels::default(), DECOMPRESSED_BYTES_MAX);
        Router {
            decompressor: Decompressor::new(DECOMPRESSED_BYTES_MAX),
            compressor: Compressor::new(Levels::default()),
            recoder: recoder.within(budget),
            builder: Builder::new(Codec::None).within(budget),
            run: Run::default(),
            keys: keys::Scratch::new(budget),
        }
    }

    /// Routes a stretch.
    pub(crate) fn route(&mut self, plan: &Plan, stretch: Stretch<'_>) -> Routed {
        let mut routed = Routed::default();
        let outcome = match plan.mapping {
            Mapping::Fixed(partition) => self.fixed(plan, partition, stretch, &mut routed),
            Mapping::Keys(count) => self.keyed(plan, count, stretch, &mut routed),
            Mapping::Missing => unreachable!("invariant: only mapped partitions are fetched"),
        };
        match outcome {
            Ok(()) if routed.end() < Some(stretch.next_offset) => {
                routed
                    .sections
                    .push(Section { next_offset: stretch.next_offset, parcels: Vec::new() });
            }
            Ok(()) => {}
            Err(halt) => routed.halt = Some(halt),
        }
        self.decompressor.trim();
        self.compressor.trim();
        self.recoder.trim();
        routed
    }

    /// Every record of the partition goes to `partition`.
    fn fixed(
        &mut self,
        plan: &Plan,
        partition: i32,
        stretch: Stretch<'_>,
        routed: &mut Routed,
    ) -> Result<(), Halt> {
        let mut entries = stretch.entries.iter().filter(|entry| entry.next_offset() > stretch.from);
        let to = (partition, stretch.from);
        let outcome = entries.try_for_each(|entry| self.fixed_entry(plan, to, entry, routed));
        self.end_run(plan, partition, routed);
        outcome
    }

    fn fixed_entry(
        &mut self,
        plan: &Plan,
        (partition, from): (i32, i64),
        entry: &Entry,
        routed: &mut Routed,
    ) -> Result<(), Halt> {
        let whole = match judge(plan, from, entry)? {
            Judgement::Nothing => return Ok(()),
            Judgement::Whole(outgoing) => self.checked(plan, entry, outgoing, routed)?,
            Judgement::Rebuild(way) => Err(way),
        };
        let next_offset = entry.next_offset();
        match whole {
            Ok(outgoing) => {
                routed.records += i64::from(outgoing.records_count());
                let offsets = Offsets { first: entry.base_offset(), last: next_offset - 1 };
                if !self.run.takes(plan, &outgoing) {
                    self.end_run(plan, partition, routed);
                }
                if self.run.takes(plan, &outgoing) {
                    self.run.push(outgoing, offsets);
                } else {
                    let parcel = Parcel { partition, outgoing, way: Way::Whole, offsets };
                    self.section(plan, parcel, routed);
                }
            }
            Err(way) => {
                self.end_run(plan, partition, routed);
                let to = Rebuild { plan, partition, from, way };
                let mut parcels = Vec::new();
                self.rebuild(&to, entry, routed, &mut parcels)?;
                routed.sections.push(Section { next_offset, parcels });
            }
        }
        Ok(())
    }

    /// A batch that could pass whole, unless the destination wants keys and a record has none.
    fn checked(
        &mut self,
        plan: &Plan,
        entry: &Entry,
        outgoing: Outgoing,
        routed: &mut Routed,
    ) -> Result<Result<Outgoing, Way>, Halt> {
        let Some(policy) = plan.null_key else { return Ok(Ok(outgoing)) };
        let mut missing = false;
        each_record(&mut self.decompressor, entry, |record| {
            if record.key.is_none() && policy == Refused::Halt {
                return Err(Halt::NullKey { offset: record.offset });
            }
            missing |= record.key.is_none();
            Ok(())
        })?;
        routed.decompressed += 1;
        Ok(if missing { Err(Way::Skip) } else { Ok(outgoing) })
    }

    /// Writes an entry's records into new batches.
    fn rebuild(
        &mut self,
        to: &Rebuild<'_>,
        entry: &Entry,
        routed: &mut Routed,
        parcels: &mut Vec<Parcel>,
    ) -> Result<(), Halt> {
        let Rebuild { plan, partition, from, way } = *to;
        let mut finished = Vec::new();
        let Router { decompressor, compressor, builder, .. } = self;
        builder.clear();
        builder.set_codec(plan.codec.unwrap_or_else(|| codec_of(entry)));
        let mut offsets = None;
        each_record(decompressor, entry, |record| {
            if record.offset < from {
                return Ok(());
            }
            routed.records += 1;
            if let Some(skipped) = without_key(plan, record)? {
                routed.skipped.push(skipped);
                return Ok(());
            }
            if builder.size_estimate() >= plan.batch_bytes {
                finished.extend(builder.finish(compressor).zip(offsets.take()));
            }
            grow(&mut offsets, record.offset);
            builder.push(record).map_err(|error| unreadable(record.offset, &error))
        })?;
        finished.extend(builder.finish(compressor).zip(offsets));
        routed.decompressed += 1;
        for (outgoing, offsets) in finished {
            self.emit(plan, Parcel { partition, outgoing, way, offsets }, parcels);
        }
        Ok(())
    }

    /// Ends the row of small batches.
    fn end_run(&mut self, plan: &Plan, partition: i32, routed: &mut Routed) {
        for parcel in self.run.end(plan, &mut self.recoder, (partition, Way::Whole)) {
            self.section(plan, parcel, routed);
        }
    }

    /// Adds a section of that parcel alone.
    fn section(&mut self, plan: &Plan, parcel: Parcel, routed: &mut Routed) {
        let next_offset = parcel.offsets.last + 1;
        let mut parcels = Vec::with_capacity(1);
        self.emit(plan, parcel, &mut parcels);
        routed.sections.push(Section { next_offset, parcels });
    }

    /// Adds a parcel, cut to what the destination is known to take. A single record that is too
    /// large goes as it is: whether it is refused is for the destination to say.
    fn emit(&mut self, plan: &Plan, parcel: Parcel, parcels: &mut Vec<Parcel>) {
        if parcel.outgoing.len_bytes() <= plan.batch_bytes_max {
            parcels.push(parcel);
            return;
        }
        match self.recoder.halve(&parcel.outgoing) {
            Ok([first, second]) => {
                let records = parcel.outgoing.records_count();
                let (before, after) = parcel.offsets.split(records, first.records_count());
                let (partition, way) = (parcel.partition, Way::Limit);
                let first = Parcel { partition, outgoing: first, way, offsets: before };
                self.emit(plan, first, parcels);
                let second = Parcel { partition, outgoing: second, way, offsets: after };
                self.emit(plan, second, parcels);
            }
            Err(_) => parcels.push(parcel),
        }
    }
}

/// Where and why an entry is rebuilt.
#[derive(Debug, Clone, Copy)]
struct Rebuild<'a> {
    plan: &'a Plan,
    partition: i32,
    from: i64,
    way: Way,
}

/// What may become of an entry, as far as everything but its records' contents says.
enum Judgement {
    /// It holds nothing to mirror.
    Nothing,
    /// It may go as it is.
    Whole(Outgoing),
    /// Its records have to be written anew, for this reason.
    Rebuild(Way),
}

fn judge(plan: &Plan, from: i64, entry: &Entry) -> Result<Judgement, Halt> {
    let Entry::Batch(batch) = entry else { return Ok(Judgement::Rebuild(Way::Format)) };
    let refusal = match Outgoing::passthrough_with(batch, plan.append_time) {
        Ok(_) if batch.header().base_offset < from => return Ok(Judgement::Rebuild(Way::Resume)),
        Ok(outgoing) if plan.codec.is_some_and(|codec| codec != outgoing.codec()) => {
            return Ok(Judgement::Rebuild(Way::Codec));
        }
        Ok(outgoing) => return Ok(Judgement::Whole(outgoing)),
        Err(refusal) => refusal,
    };
    Ok(match refusal {
        Refusal::Control | Refusal::Empty => Judgement::Nothing,
        Refusal::Gaps { .. } => Judgement::Rebuild(Way::Gaps),
        Refusal::LogAppendTime => Judgement::Rebuild(Way::AppendTime),
        Refusal::UnknownCodec { .. } => {
            return Err(unreadable(batch.header().base_offset, &refusal));
        }
        _ => Judgement::Rebuild(Way::Header),
    })
}

/// Whether the policy leaves `record` out.
fn without_key(plan: &Plan, record: &Record<'_>) -> Result<Option<Skipped>, Halt> {
    match plan.null_key {
        Some(_) if record.key.is_some() => Ok(None),
        None => Ok(None),
        Some(Refused::Halt) => Err(Halt::NullKey { offset: record.offset }),
        Some(Refused::Skip) => Ok(Some(Skipped {
            offset: record.offset,
            reason: "null_key",
            bytes: record.value.map_or(0, <[u8]>::len),
        })),
    }
}

/// Reads every record of an entry, whatever its format.
fn each_record(
    decompressor: &mut Decompressor,
    entry: &Entry,
    then: impl FnMut(&Record<'_>) -> Result<(), Halt>,
) -> Result<(), Halt> {
    Opened::open(decompressor, entry)?.each(then)
}

/// The records of an entry, decompressed once and read as often as need be.
struct Opened<'a> {
    base_offset: i64,
    records: Format<'a>,
}

enum Format<'a> {
    Batch(records::Records<'a>),
    Legacy(legacy::Records<'a>),
}

impl<'a> Opened<'a> {
    fn open(decompressor: &'a mut Decompressor, entry: &'a Entry) -> Result<Self, Halt> {
        let base_offset = entry.base_offset();
        let records = match entry {
            Entry::Batch(batch) => batch
                .records(decompressor)
                .map(Format::Batch)
                .map_err(|error| unreadable(base_offset, &error))?,
            Entry::Legacy(set) => set
                .records(decompressor)
                .map(Format::Legacy)
                .map_err(|error| unreadable(base_offset, &error))?,
        };
        Ok(Self { base_offset, records })
    }

    fn each(&self, mut then: impl FnMut(&Record<'_>) -> Result<(), Halt>) -> Result<(), Halt> {
        match &self.records {
            Format::Batch(records) => {
                for record in records.clone() {
                    then(&record.map_err(|error| unreadable(self.base_offset, &error))?)?;
                }
            }
            Format::Legacy(records) => {
                for record in records.clone() {
                    then(&record.map_err(|error| unreadable(self.base_offset, &error))?)?;
                }
            }
        }
        Ok(())
    }
}

/// A batch whose checksum is right and whose records still cannot be read.
fn unreadable(offset: i64, error: &dyn std::error::Error) -> Halt {
    Halt::Corrupt { offset, reason: chain(error) }
}

/// Takes one more offset into a range.
fn grow(offsets: &mut Option<Offsets>, offset: i64) {
    let first = offsets.map_or(offset, |offsets| offsets.first);
    *offsets = Some(Offsets { first, last: offset });
}

fn codec_of(entry: &Entry) -> Codec {
    match entry {
        Entry::Batch(batch) => batch.header().attributes.codec().unwrap_or_default(),
        Entry::Legacy(set) => set.codec(),
    }
}

#[cfg(test)]
mod tests;
