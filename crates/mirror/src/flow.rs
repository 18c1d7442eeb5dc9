//! The values that flow from stage to stage, by value: `Assignment`, then what the client fetched,
//! then [`Routed`], then [`Produced`]. Nothing can be committed that was not produced, since only
//! [`Produced`] carries a [`Span`] to acknowledge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kmirror_client::TopicPartition;
use kmirror_client::batch::Outgoing;
use kmirror_client::budget::Lease;

use crate::error::Halt;
use crate::positions::progress::Hold;
use crate::stage::commit::Span;
use crate::status::Cell;

/// Which life of a partition within a stream a value belongs to. A rewind, a move or a halt begins
/// a new one; values of older ones are dropped wherever they turn up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(pub u64);

/// How a batch got from the source's form to the destination's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Path {
    /// Its header was patched; nothing was decompressed for writing.
    Passthrough,
    /// Several tiny ones became one.
    Coalesce,
    /// Its records were written into new batches.
    Rebuild,
    /// It was cut to what the destination takes.
    Split,
    /// It came in a format older than Kafka 0.11's.
    Legacy,
}

impl Path {
    /// The word in metrics and the status.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Path::Passthrough => "passthrough",
            Path::Coalesce => "coalesce",
            Path::Rebuild => "rebuild",
            Path::Split => "split",
            Path::Legacy => "legacy",
        }
    }
}

macro_rules! ways {
    ($($(#[$doc:meta])* $name:ident => $path:ident, $reason:literal;)*) => {
        /// A [`Path`] and the reason it was taken: what batches are counted by.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Way { $($(#[$doc])* $name,)* }

        impl Way {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [Way] = &[$(Way::$name,)*];

            /// The path.
            pub(crate) fn path(self) -> Path {
                match self { $(Way::$name => Path::$path,)* }
            }

            /// The word for the reason.
            pub(crate) fn reason(self) -> &'static str {
                match self { $(Way::$name => $reason,)* }
            }
        }
    };
}

ways! {
    /// The whole partition has one destination.
    Whole => Passthrough, "whole";
    /// Keys were read, and all of the batch's have one destination.
    OneDestination => Passthrough, "one_destination";
    /// Several small batches came in a row, or waited.
    Small => Coalesce, "small";
    /// Its offsets have gaps, as compaction leaves them.
    Gaps => Rebuild, "gaps";
    /// It begins before the position.
    Resume => Rebuild, "resume";
    /// Its records have several destinations.
    Keys => Rebuild, "keys";
    /// Its times are the source's append time, which the destination would not show.
    AppendTime => Rebuild, "append_time";
    /// Another codec was asked for.
    Codec => Rebuild, "codec";
    /// Its header says something that cannot be passed on.
    Header => Rebuild, "header";
    /// Records that the destination would never take were left out.
    Skip => Rebuild, "skip";
    /// It is larger than the destination's known limit.
    Limit => Split, "limit";
    /// The destination answered that it is too large.
    Refused => Split, "refused";
    /// Its format is version 0 or 1.
    Format => Legacy, "format";
}

impl Way {
    /// Whether the batch is in memory of its own, counted in the budget by itself, and not in that
    /// of the answer it came in.
    pub(crate) fn is_copy(self) -> bool {
        self.path() != Path::Passthrough
    }
}

/// Source offsets, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// The first.
    pub(crate) first: i64,
    /// The last.
    pub(crate) last: i64,
}

impl Offsets {
    /// Where the first `count` of `records` records are, and where the others. As narrow as can be
    /// said: exact if they fill the range, and every gap in it widens both by its length.
    pub(crate) fn split(self, records: i32, count: i32) -> (Offsets, Offsets) {
        let last = self.last - i64::from(records - count);
        let first = self.first + i64::from(count);
        (Offsets { last, ..self }, Offsets { first, ..self })
    }
}

/// One batch for one destination partition.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// The destination partition's number.
    pub(crate) partition: i32,
    /// The batch.
    pub(crate) outgoing: Outgoing,
    /// How it came to be.
    pub(crate) way: Way,
    /// The source offsets its records are among.
    pub(crate) offsets: Offsets,
}

/// What became of consecutive source offsets: all parcels that must be acknowledged before the
/// position may pass `next_offset`.
#[derive(Debug)]
pub(crate) struct Section {
    /// The source offset after the last one covered.
    pub(crate) next_offset: i64,
    /// The parcels; none when nothing of it is mirrored.
    pub(crate) parcels: Vec<Parcel>,
}

/// A fetched stretch of one source partition, ready to be produced.
#[derive(Debug, Default)]
pub(crate) struct Routed {
    /// In the order of their offsets.
    pub(crate) sections: Vec<Section>,
    /// Records the policy left out.
    pub(crate) skipped: Vec<Skipped>,
    /// Records that are mirrored or left out on purpose.
    pub(crate) records: i64,
    /// Entries whose records were read.
    pub(crate) decompressed: u32,
    /// Why nothing after the last section could be routed.
    pub(crate) halt: Option<Halt>,
}

impl Routed {
    /// How far it reaches, if anywhere.
    pub(crate) fn end(&self) -> Option<i64> {
        self.sections.last().map(|section| section.next_offset)
    }
}

/// A record that is not mirrored because the policy says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Its source offset.
    pub(crate) offset: i64,
    /// Why: `null_key`, `oversize`, `rejected`.
    pub(crate) reason: &'static str,
    /// The bytes of key and value.
    pub(crate) bytes: usize,
}

/// One life of a source partition within a stream: from an assignment or a rewind to the next. What
/// belongs to an ended life is dropped wherever it turns up.
#[derive(Debug)]
pub(crate) struct Life {
    /// The source partition.
    pub(crate) partition: TopicPartition,
    /// Which life.
    pub(crate) generation: Generation,
    /// Its figures.
    pub(crate) cell: Arc<Cell>,
    /// Kept until the last of its records under way has come back; nothing is read without it.
    pub(crate) hold: Option<Arc<Hold>>,
    ended: AtomicBool,
}

impl Life {
    /// A life that begins.
    pub(crate) fn new(partition: TopicPartition, generation: Generation, cell: Arc<Cell>) -> Life {
        Life { partition, generation, cell, hold: None, ended: AtomicBool::new(false) }
    }

    /// The same with the hold on its partition.
    #[must_use]
    pub(crate) fn holding(self, hold: Option<Arc<Hold>>) -> Life {
        Life { hold, ..self }
    }

    /// Ends it, for good.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether it goes on.
    pub(crate) fn is_current(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

/// What is acknowledged, and freed, once a parcel is written.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// Whose it is.
    pub(crate) life: Arc<Life>,
    /// The section it is a parcel of.
    pub(crate) span: Span,
    /// Of the answer it is still in, if it is: freed with the last parcel of the answer.
    pub(crate) lease: Option<Arc<Lease>>,
}

/// A destination partition without progress.
#[derive(Debug, Clone)]
pub(crate) struct Stall {
    /// Which.
    pub(crate) destination: TopicPartition,
    /// A word for the reason, for counting.
    pub(crate) kind: String,
    /// Why, in words.
    pub(crate) why: String,
    /// For how long.
    pub(crate) waited: Duration,
}

/// What became of a parcel: the news the produce stage has for the stream.
#[derive(Debug)]
pub(crate) enum Produced {
    /// It is written, or left out by policy: its spans may be acknowledged.
    Acknowledged {
        /// Whose it was.
        life: Arc<Life>,
        /// What to acknowledge.
        spans: Vec<Span>,
    },
    /// Something of this life may be missing or out of order at the destination: it has to begin
    /// again from its position.
    Restart {
        /// Whose.
        life: Arc<Life>,
        /// Why.
        why: String,
    },
    /// Nothing of its lane has been acknowledged for seconds.
    Stalled {
        /// Whose.
        life: Arc<Life>,
        /// Where to, why, and for how long.
        stall: Stall,
    },
    /// The destination will never take it.
    Halted {
        /// Whose.
        life: Arc<Life>,
        /// Why.
        halt: Halt,
    },
}
