//! Giving records new numbers: offset deltas from 0, timestamp deltas from a new base.
//!
//! Private to [`batch`](crate::batch); what [`rebuild`](super::rebuild),
//! [`coalesce`](super::coalesce) and [`halve`](super::halve) have in common. Key, value and
//! headers of a record follow its two deltas, so a record is renumbered by writing a new
//! length and new deltas and copying the rest in one piece, unread.

use super::compression::Codec;
use super::header::{Attributes, Header, TimestampType};
use super::records::{Error, write_head};
use super::varint::{Malformed, Reader, varlong_len};
use crate::buffers::Buffer;

/// Hands out deltas to the records of a batch in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbering {
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Numbering {
    /// The deltas of the next record: of its timestamp and of its offset. The first record's
    /// timestamp is the base, as in Kafka's `MemoryRecordsBuilder`.
    #[inline]
    pub(super) fn next(&mut self, timestamp: i64) -> (i64, i64) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let offset_delta = i64::from(self.count);
        self.count += 1;
        (timestamp.wrapping_sub(self.base_timestamp), offset_delta)
    }

    pub(super) const fn count(&self) -> i32 {
        self.count
    }

    /// What the numbered records make the header say.
    pub(super) fn header(&self, codec: Codec) -> Header {
        Header {
            attributes: Attributes::of_codec(codec),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            records_count: self.count,
            ..Header::EMPTY
        }
    }
}

/// A record of which only the deltas were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawRecord<'a> {
    pub(super) timestamp: i64,
    /// Key, value and headers.
    fields: &'a [u8],
    /// Bytes it takes where it stands, length included.
    pub(super) len: usize,
}

impl RawRecord<'_> {
    /// Appends the record under its new number.
    #[inline]
    pub(super) fn write(&self, numbering: &mut Numbering, out: &mut Buffer) {
        let (timestamp_delta, offset_delta) = numbering.next(self.timestamp);
        let body_len =
            1 + varlong_len(timestamp_delta) + varlong_len(offset_delta) + self.fields.len();
        write_head(out, body_len, timestamp_delta, offset_delta);
        out.extend_from_slice(self.fields);
    }
}

/// Walks the records of a decompressed body without looking at their fields.
#[derive(Debug, Clone)]
pub(super) struct RawRecords<'a> {
    reader: Reader<'a>,
    header: Header,
    index: u32,
}

impl<'a> RawRecords<'a> {
    pub(super) fn new(header: &Header, body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), header: *header, index: 0 }
    }

    /// Whether the bytes are used up.
    pub(super) const fn is_at_end(&self) -> bool {
        self.reader.is_empty()
    }

    /// The next record; `None` after as many as the header counts, which must use up the body.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<RawRecord<'a>>, Error> {
        let Header { base_offset, records_count: count, .. } = self.header;
        if i64::from(self.index) >= i64::from(count) {
            let bytes = self.reader.rest().len();
            return if bytes == 0 {
                Ok(None)
            } else {
                Err(Error::Trailing { base_offset, count, bytes })
            };
        }
        let index = self.index;
        let record = self.read().map_err(|source| Error::Record { base_offset, index, source })?;
        self.index += 1;
        Ok(Some(record))
    }

    #[inline]
    fn read(&mut self) -> Result<RawRecord<'a>, Malformed> {
        let before = self.reader.rest().len();
        let len = self.reader.length()?;
        let mut fields = Reader::new(self.reader.take(len)?);
        let _attributes = fields.byte()?;
        let timestamp_delta = fields.varlong()?;
        let _offset_delta = fields.varint()?;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let len = before - self.reader.rest().len();
        Ok(RawRecord { timestamp, fields: fields.rest(), len })
    }
}
