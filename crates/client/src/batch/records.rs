//! The records of a batch, one by one, without copying or allocating any.
//!
//! Owned by [`batch`](crate::batch). The iterator borrows the decompressed payload; it never
//! trusts the record count further than to know when to stop, and after its first error it
//! ends. Semantics are those of Kafka's `DefaultRecord`: a LogAppendTime batch gives all of its
//! records the batch's `max_timestamp`, null and empty differ, record attributes are ignored.

use super::compression::{self, Codec};
use super::header::{Header, TimestampType};
use super::headers::Headers;
pub use super::varint::Malformed;
use super::varint::{Head, Reader, nullable_len, put_nullable, varlong_len};
use crate::buffers::Buffer;

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition it was read from.
    pub offset: i64,
    /// Milliseconds since 1970, -1 none.
    pub timestamp: i64,
    /// Its key; null and empty differ.
    pub key: Option<&'a [u8]>,
    /// Its value; null is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers in order, repeats included.
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// A record of that key and value, without timestamp and headers, at offset 0.
    #[must_use]
    pub const fn new(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { offset: 0, timestamp: -1, key, value, headers: Headers::EMPTY }
    }

    /// This record with another timestamp, in milliseconds since 1970.
    #[must_use]
    pub const fn with_timestamp(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    /// This record with other headers.
    #[must_use]
    pub const fn with_headers(self, headers: Headers<'a>) -> Self {
        Self { headers, ..self }
    }

    /// Bytes of the record in a batch without its own length field.
    #[inline]
    pub(super) fn body_len(&self, timestamp_delta: i64, offset_delta: i64) -> usize {
        1 + varlong_len(timestamp_delta)
            + varlong_len(offset_delta)
            + nullable_len(self.key)
            + nullable_len(self.value)
            + self.headers.encoded_len()
    }

    /// Appends the record with its length in front; `body_len` is that of [`Self::body_len`].
    #[inline]
    pub(super) fn write(
        &self,
        out: &mut Buffer,
        body_len: usize,
        timestamp_delta: i64,
        offset_delta: i64,
    ) {
        write_head(out, body_len, timestamp_delta, offset_delta);
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        self.headers.write(out);
    }
}

/// Appends what comes before a record's fields: the length of the record, no attributes, and the
/// deltas.
#[inline]
pub(super) fn write_head(
    out: &mut Buffer,
    body_len: usize,
    timestamp_delta: i64,
    offset_delta: i64,
) {
    let mut head = Head::new();
    head.varlong(body_len as i64);
    head.byte(0);
    head.varlong(timestamp_delta);
    head.varlong(offset_delta);
    head.append_to(out);
}

/// Why the records of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The codec bits name no codec.
    #[error("batch at offset {base_offset} is compressed with unknown codec {codec_id}")]
    UnknownCodec {
        /// Base offset of the batch.
        base_offset: i64,
        /// The number in its codec bits.
        codec_id: i8,
    },
    /// The payload does not decompress.
    #[error("decompress {codec} batch at offset {base_offset}")]
    Decompress {
        /// Base offset of the batch.
        base_offset: i64,
        /// Its codec.
        codec: Codec,
        /// What the codec says.
        source: compression::Error,
    },
    /// A record's bytes make no sense.
    #[error("record {index} of the batch at offset {base_offset}")]
    Record {
        /// Base offset of the batch.
        base_offset: i64,
        /// Which of its records, from 0.
        index: u32,
        /// What is wrong.
        source: Malformed,
    },
    /// There is more in the payload than the records the header counts.
    #[error("{bytes} bytes follow the {count} records of the batch at offset {base_offset}")]
    Trailing {
        /// Base offset of the batch.
        base_offset: i64,
        /// Records the header counts.
        count: i32,
        /// Bytes behind them.
        bytes: usize,
    },
}

impl Error {
    /// Whether reading the same bytes again can help: it cannot, they passed their checksum.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// The records of one batch; the iterator of [`Batch::records`](super::Batch::records).
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
    header: Header,
    index: u32,
    ended: bool,
}

impl<'a> Records<'a> {
    /// The records in `body`, which is the decompressed payload of the batch of `header`.
    pub(super) fn new(header: &Header, body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), header: *header, index: 0, ended: false }
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, Malformed> {
        let len = self.reader.length()?;
        let mut fields = Reader::new(self.reader.take(len)?);
        let _attributes = fields.byte()?;
        let timestamp_delta = fields.varlong()?;
        let offset_delta = fields.varint()?;
        let key = fields.nullable()?;
        let value = fields.nullable()?;
        let headers = Headers::read(&mut fields)?;
        if !fields.is_empty() {
            return Err(Malformed::LeftOver { left: fields.rest().len() });
        }
        let offset = self
            .header
            .base_offset
            .checked_add(i64::from(offset_delta))
            .ok_or(Malformed::OffsetOverflow)?;
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            // Wrapping as Kafka's addition does: encoder and decoder stay each other's inverse.
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Ok(Record { offset, timestamp, key, value, headers })
    }

    fn end(&mut self) -> Option<Result<Record<'a>, Error>> {
        self.ended = true;
        let bytes = self.reader.rest().len();
        (bytes != 0).then_some(Err(Error::Trailing {
            base_offset: self.header.base_offset,
            count: self.header.records_count,
            bytes,
        }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if i64::from(self.index) >= i64::from(self.header.records_count) {
            return self.end();
        }
        let index = self.index;
        self.index += 1;
        Some(self.read().map_err(|source| {
            self.ended = true;
            Error::Record { base_offset: self.header.base_offset, index, source }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes seven bytes at least, whatever the count says.
        const RECORD_BYTES_MIN: usize = 7;
        (0, Some(self.reader.rest().len() / RECORD_BYTES_MIN + 1))
    }
}
