//! One message of format v0 or v1, field by field.
//!
//! Private to [`legacy`](super). The layout is that of Kafka's `LegacyRecord`: offset, length,
//! CRC-32 of the rest, magic, attributes, in v1 a timestamp, key and value.

use flate2::Crc;

use crate::batch::compression::Codec;
use crate::batch::headers::Headers;
use crate::batch::records::Record;

/// Where the bytes covered by a message's CRC-32 begin, counted from its offset field.
const CRC_COVERED_FROM: usize = 16;
const CODEC: u8 = 0b111;
const LOG_APPEND_TIME: u8 = 1 << 3;

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The checksum does not match: the bytes changed since they were produced.
    #[error("checksum {computed:#010x} instead of {stored:#010x}")]
    Checksum {
        /// The checksum in the message.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// Its fields do not add up to its length.
    #[error("the fields do not add up to the length")]
    Length,
    /// The codec bits name none that the format knows.
    #[error("unknown codec {codec_id}")]
    UnknownCodec {
        /// The number in the codec bits.
        codec_id: i8,
    },
}

/// A message whose checksum is right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) offset: i64,
    pub(super) magic: i8,
    pub(super) codec: Codec,
    pub(super) is_append_time: bool,
    /// Milliseconds since 1970, -1 none.
    pub(super) timestamp: i64,
    key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads the message that `bytes` are, all of them.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(bytes);
        let offset = i64::from_be_bytes(fields.take()?);
        let _length: [u8; 4] = fields.take()?;
        let stored = u32::from_be_bytes(fields.take()?);
        let computed = crc32(&bytes[CRC_COVERED_FROM..]);
        if stored != computed {
            return Err(Malformed::Checksum { stored, computed });
        }
        let [magic, attributes] = fields.take()?;
        let timestamp = if magic == 0 { -1 } else { i64::from_be_bytes(fields.take()?) };
        let key = fields.nullable()?;
        let value = fields.nullable()?;
        if !fields.0.is_empty() {
            return Err(Malformed::Length);
        }
        let codec_id = (attributes & CODEC) as i8;
        let codec = Codec::from_id(codec_id)
            .filter(|&codec| codec != Codec::Zstd)
            .ok_or(Malformed::UnknownCodec { codec_id })?;
        Ok(Self {
            offset,
            magic: magic as i8,
            codec,
            is_append_time: magic != 0 && attributes & LOG_APPEND_TIME != 0,
            timestamp,
            key,
            value,
        })
    }

    pub(super) fn record(&self, offset: i64, timestamp: i64) -> Record<'a> {
        Record { offset, timestamp, key: self.key, value: self.value, headers: Headers::EMPTY }
    }
}

/// The checksum of the old formats.
pub(in crate::batch) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The fields not read yet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let len = i32::from_be_bytes(self.take()?);
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| Malformed::Length)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Length)?;
        self.0 = rest;
        Ok(Some(taken))
    }
}
