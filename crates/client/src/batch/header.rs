//! The 61 bytes in front of every record batch of format v2, and their attribute bits.
//!
//! Owned by [`batch`](crate::batch). A [`Header`] is plain data: parsing reads the fields and
//! judges none of them, and [`Header::encode`] is the exact inverse of [`Header::parse`].
//! Layout and bits are those of Kafka's `DefaultRecordBatch` (KIP-98, KIP-534).

use super::compression::Codec;

/// Bytes of a v2 batch before its first record.
pub const LEN: usize = 61;

/// Bytes of a batch that its length field does not count: the base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;

/// Where the bytes covered by the batch's CRC-32C begin; they run to the end of the batch.
pub const CRC_COVERED_FROM: usize = 21;

/// Where the magic byte stands, in every record format Kafka ever had.
pub const MAGIC_AT: usize = 16;

/// The record format this header belongs to.
pub const MAGIC: i8 = 2;

/// Why bytes are no batch header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer bytes than a header has.
    #[error("a batch header takes {LEN} bytes, {present} present")]
    Truncated {
        /// Bytes there were.
        present: usize,
    },
}

/// The header of a record batch, field by field, in the order of the wire.
///
/// ```
/// use kmirror_client::batch::{Header, header};
///
/// let header = Header { base_offset: 7, records_count: 2, ..Header::EMPTY };
/// let bytes: [u8; header::LEN] = header.encode();
/// assert_eq!(Header::parse(&bytes)?, header);
/// # Ok::<(), header::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the batch's first record, or of what was its first before compaction.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch, -1 unknown. Not covered by the CRC.
    pub partition_leader_epoch: i32,
    /// Record format; [`MAGIC`] for this layout.
    pub magic: i8,
    /// CRC-32C of everything from [`CRC_COVERED_FROM`] on.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus the base offset; survives compaction.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are relative to, in milliseconds since 1970. With
    /// [`Attributes::has_delete_horizon`] it holds the horizon; the deltas are relative to it
    /// all the same.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, in milliseconds since 1970; with
    /// [`TimestampType::LogAppendTime`] the timestamp of every one of them.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, -1 none.
    pub producer_id: i64,
    /// Epoch of the idempotent producer, -1 none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, -1 none.
    pub base_sequence: i32,
    /// How many records the payload holds. Never a reason to allocate.
    pub records_count: i32,
}

impl Header {
    /// A header of no records: base offset 0, nobody's leader epoch, no producer.
    pub const EMPTY: Self = Self {
        base_offset: 0,
        batch_length: (LEN - LENGTH_OVERHEAD) as i32,
        partition_leader_epoch: -1,
        magic: MAGIC,
        crc: 0,
        attributes: Attributes::from_bits(0),
        last_offset_delta: -1,
        base_timestamp: -1,
        max_timestamp: -1,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 0,
    };

    /// Reads the header from the first [`LEN`] of `bytes`.
    ///
    /// # Errors
    /// [`Error::Truncated`] when there are fewer. No field is judged.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let raw: &[u8; LEN] =
            bytes.first_chunk().ok_or(Error::Truncated { present: bytes.len() })?;
        Ok(Self {
            base_offset: i64::from_be_bytes(field(raw, 0)),
            batch_length: i32::from_be_bytes(field(raw, 8)),
            partition_leader_epoch: i32::from_be_bytes(field(raw, 12)),
            magic: i8::from_be_bytes(field(raw, MAGIC_AT)),
            crc: u32::from_be_bytes(field(raw, 17)),
            attributes: Attributes::from_bits(i16::from_be_bytes(field(raw, CRC_COVERED_FROM))),
            last_offset_delta: i32::from_be_bytes(field(raw, 23)),
            base_timestamp: i64::from_be_bytes(field(raw, 27)),
            max_timestamp: i64::from_be_bytes(field(raw, 35)),
            producer_id: i64::from_be_bytes(field(raw, 43)),
            producer_epoch: i16::from_be_bytes(field(raw, 51)),
            base_sequence: i32::from_be_bytes(field(raw, 53)),
            records_count: i32::from_be_bytes(field(raw, 57)),
        })
    }

    /// The header's bytes, every field as it stands.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut raw = [0; LEN];
        raw[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        raw[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        raw[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        raw[16..17].copy_from_slice(&self.magic.to_be_bytes());
        raw[17..21].copy_from_slice(&self.crc.to_be_bytes());
        raw[21..23].copy_from_slice(&self.attributes.bits().to_be_bytes());
        raw[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        raw[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        raw[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        raw[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        raw[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        raw[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        raw[57..61].copy_from_slice(&self.records_count.to_be_bytes());
        raw
    }

    /// Offset of the batch's last record, whether compaction kept that record or not.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset to read after this batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }
}

/// The `N` bytes at `at`; the caller names a field of the fixed layout.
fn field<const N: usize>(raw: &[u8; LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}

/// Who set the timestamps of a batch's records (KIP-32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer: each record has its own.
    CreateTime,
    /// The broker that appended the batch: all records have the batch's `max_timestamp`.
    LogAppendTime,
}

/// The attribute bits of a batch.
///
/// ```
/// use kmirror_client::batch::{Attributes, Codec, TimestampType};
///
/// let attributes = Attributes::from_bits(0b0001_1100);
/// assert_eq!(attributes.codec(), Some(Codec::Zstd));
/// assert_eq!(attributes.timestamp_type(), TimestampType::LogAppendTime);
/// assert!(attributes.is_transactional() && !attributes.is_control());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;
    const KNOWN: i16 = 0b0111_1111;

    /// The bits as they stand on the wire.
    #[must_use]
    pub const fn from_bits(bits: i16) -> Self {
        Self(bits)
    }

    /// Attributes that say nothing but the codec.
    #[must_use]
    pub const fn of_codec(codec: Codec) -> Self {
        Self(codec.id() as i16)
    }

    /// The bits as they stand on the wire.
    #[must_use]
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// The number in the codec bits, 0 to 7; some stand for no codec.
    #[must_use]
    pub const fn codec_id(self) -> i8 {
        (self.0 & Self::CODEC) as i8
    }

    /// The codec of the payload; `None` when Kafka has none of that number.
    #[must_use]
    pub const fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }

    /// Who set the timestamps.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction (KIP-98).
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch is a control batch: markers of the broker, never data (KIP-98).
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp holds the time after which tombstones may go (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The bits no Kafka release has given a meaning.
    #[must_use]
    pub const fn unknown_bits(self) -> i16 {
        self.0 & !Self::KNOWN
    }

    /// These attributes with the transactional bit set or cleared.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        let bits = self.0 & !Self::TRANSACTIONAL;
        Self(if transactional { bits | Self::TRANSACTIONAL } else { bits })
    }

    /// These attributes with the given timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        let bits = self.0 & !Self::LOG_APPEND_TIME;
        Self(match kind {
            TimestampType::CreateTime => bits,
            TimestampType::LogAppendTime => bits | Self::LOG_APPEND_TIME,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn encoding_undoes_parsing(raw in proptest::collection::vec(any::<u8>(), LEN)) {
            let header = Header::parse(&raw).unwrap();
            prop_assert_eq!(&header.encode()[..], &raw[..]);
        }
    }

    #[test]
    fn a_short_header_is_refused() {
        assert_eq!(Header::parse(&[0; 60]), Err(Error::Truncated { present: 60 }));
    }

    #[test]
    fn offsets_at_the_edge_of_the_range_do_not_overflow() {
        let header = Header { base_offset: i64::MAX, last_offset_delta: 5, ..Header::EMPTY };
        assert_eq!(header.next_offset(), i64::MAX);
    }

    #[test]
    fn every_attribute_bit_is_told_apart() {
        for bit in 0..16 {
            let attributes = Attributes::from_bits((1u16 << bit) as i16);
            assert_eq!(attributes.codec_id() != 0, bit < 3);
            assert_eq!(attributes.timestamp_type() == TimestampType::LogAppendTime, bit == 3);
            assert_eq!(attributes.is_transactional(), bit == 4);
            assert_eq!(attributes.is_control(), bit == 5);
            assert_eq!(attributes.has_delete_horizon(), bit == 6);
            assert_eq!(attributes.unknown_bits() != 0, bit > 6);
        }
    }
}
