//! When a batch may be produced with only its header patched, as far as the batch can tell.
//!
//! Owned by [`batch`](crate::batch). What else must hold - the whole batch goes to one
//! partition, nothing of its records is to change, the destination takes its codec and size -
//! the caller knows. Every refusal names its reason; none of them is a failure, for
//! [`rebuild`](super::rebuild) takes what this file refuses, and control and empty batches
//! carry nothing to mirror. The rules are those of Kafka's `LogValidator`.

use super::header::{Header, MAGIC, TimestampType};

/// Why a batch may not go through with only its header patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a v2 batch; it has to be rebuilt as one.
    #[error("record format v{magic}")]
    Magic {
        /// The format it has.
        magic: i8,
    },
    /// A marker of the source's broker: not data, to be dropped.
    #[error("control batch")]
    Control,
    /// Attribute bits of a Kafka release this library does not know.
    #[error("unknown attribute bits {bits:#06x}")]
    UnknownAttributes {
        /// The bits not known.
        bits: i16,
    },
    /// Codec bits that name no codec.
    #[error("unknown codec {codec_id}")]
    UnknownCodec {
        /// The number in the codec bits.
        codec_id: i8,
    },
    /// Compaction left the shell of a batch: to be dropped, its offsets skipped.
    #[error("no records")]
    Empty,
    /// Compaction took some of the records: the rest must be numbered anew.
    #[error("{records_count} records in a range of {offsets} offsets")]
    Gaps {
        /// Records left.
        records_count: i32,
        /// Offsets the batch covers.
        offsets: i64,
    },
    /// The source's broker set the timestamps. Produced as it is, the records would show
    /// their original create time at the destination, or be refused.
    #[error("timestamps are log append time")]
    LogAppendTime,
}

impl Refusal {
    /// The reason as a metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Magic { .. } => "magic",
            Self::Control => "control",
            Self::UnknownAttributes { .. } => "unknown_attributes",
            Self::UnknownCodec { .. } => "unknown_codec",
            Self::Empty => "empty",
            Self::Gaps { .. } => "gaps",
            Self::LogAppendTime => "log_append_time",
        }
    }
}

/// What to do with a batch whose timestamps the source's broker set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LogAppendTime {
    /// Refuse it: to keep what consumers of the source see it must be rebuilt.
    #[default]
    Refuse,
    /// Clear the flag. Right when the destination's topic sets timestamps of its own, or when
    /// the operator prefers the original create times.
    Clear,
}

/// Judges the batch of `header`.
pub(super) fn check(header: &Header, log_append_time: LogAppendTime) -> Result<(), Refusal> {
    let attributes = header.attributes;
    if header.magic != MAGIC {
        return Err(Refusal::Magic { magic: header.magic });
    }
    if attributes.is_control() {
        return Err(Refusal::Control);
    }
    if attributes.unknown_bits() != 0 {
        return Err(Refusal::UnknownAttributes { bits: attributes.unknown_bits() });
    }
    if attributes.codec().is_none() {
        return Err(Refusal::UnknownCodec { codec_id: attributes.codec_id() });
    }
    if header.records_count < 1 {
        return Err(Refusal::Empty);
    }
    let offsets = i64::from(header.last_offset_delta) + 1;
    if i64::from(header.records_count) != offsets {
        return Err(Refusal::Gaps { records_count: header.records_count, offsets });
    }
    match (attributes.timestamp_type(), log_append_time) {
        (TimestampType::LogAppendTime, LogAppendTime::Refuse) => Err(Refusal::LogAppendTime),
        (TimestampType::CreateTime, _) | (_, LogAppendTime::Clear) => Ok(()),
    }
}
