//! Walks the records of a decompressed payload, as `DefaultRecord` lays them out.
//!
//! Owned by the batch module. Always true: no length is trusted before it is compared with what
//! remains, nothing is copied, and an iterator ends after its first error.

use std::ops::Range;

use bytes::Bytes;

use super::{Batch, Error};

/// The most a batch may decompress to; real brokers have no such limit, this one has little memory.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One record as it lies in a batch: offsets and timestamps are still deltas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) offset_delta: i64,
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where a record's parts lie; enough to validate it without touching a reference count.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) offset_delta: i64,
    pub(crate) timestamp_delta: i64,
    pub(crate) key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers_start: usize,
    header_count: usize,
}

/// The records of one batch, decompressed, in order.
pub(crate) struct Records {
    plain: Bytes,
    position: usize,
    index: i32,
    count: i32,
    broken: bool,
}

impl Batch {
    /// The records, decompressed.
    pub(crate) fn records(&self) -> Result<Records, Error> {
        let plain = self.header().codec()?.decompress(self.payload(), DECOMPRESSED_BYTES_MAX)?;
        let count = self.header().record_count;
        Ok(Records { plain, position: 0, index: 0, count, broken: false })
    }
}

impl Records {
    /// The next record's layout; `None` after the last or after an error.
    pub(crate) fn next_span(&mut self) -> Option<Result<Span, Error>> {
        if self.broken {
            return None;
        }
        let result = if self.index < self.count {
            read_span(&mut Cursor { bytes: &self.plain, at: self.position })
        } else if self.position < self.plain.len() {
            Err("records remain after the last one")
        } else {
            return None;
        };
        let index = self.index;
        self.index += 1;
        match result {
            Ok((span, end)) => {
                self.position = end;
                Some(Ok(span))
            }
            Err(reason) => {
                self.broken = true;
                Some(Err(Error::Record { index, reason }))
            }
        }
    }

    fn materialise(&self, span: &Span) -> RawRecord {
        let slice = |range: &Option<Range<usize>>| range.clone().map(|at| self.plain.slice(at));
        let mut cursor = Cursor { bytes: &self.plain, at: span.headers_start };
        let headers = (0..span.header_count)
            .map_while(|_| {
                let name = cursor.bytes_range().ok()?;
                let value = cursor.bytes_range().ok()?;
                Some((slice(&name).unwrap_or_default(), slice(&value)))
            })
            .collect();
        RawRecord {
            offset_delta: span.offset_delta,
            timestamp_delta: span.timestamp_delta,
            key: slice(&span.key),
            value: slice(&span.value),
            headers,
        }
    }
}

impl Iterator for Records {
    type Item = Result<RawRecord, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.next_span()?;
        Some(span.map(|span| self.materialise(&span)))
    }
}

fn read_span(cursor: &mut Cursor<'_>) -> Result<(Span, usize), &'static str> {
    let length = usize::try_from(cursor.varint()?).map_err(|_| "negative length")?;
    if length > cursor.remaining() {
        return Err("length exceeds what remains");
    }
    let end = cursor.at + length;
    let mut body = Cursor { bytes: &cursor.bytes[..end], at: cursor.at };
    if body.remaining() == 0 {
        return Err("no attributes");
    }
    body.at += 1;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = body.bytes_range()?;
    let value = body.bytes_range()?;
    let header_count = usize::try_from(body.varint()?).map_err(|_| "negative header count")?;
    // A header takes two bytes at the least.
    if header_count > body.remaining() / 2 {
        return Err("header count exceeds what remains");
    }
    let headers_start = body.at;
    for _ in 0..header_count {
        body.bytes_range()?.ok_or("null header key")?;
        body.bytes_range()?;
    }
    if body.remaining() != 0 {
        return Err("bytes remain after the headers");
    }
    let span = Span { offset_delta, timestamp_delta, key, value, headers_start, header_count };
    Ok((span, end))
}

/// A position in a payload.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn bytes_range(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "negative length")?;
        if length > self.remaining() {
            return Err("length exceeds what remains");
        }
        let start = self.at;
        self.at += length;
        Ok(Some(start..self.at))
    }

    fn varint(&mut self) -> Result<i64, &'static str> {
        let value = self.varlong()?;
        if i32::try_from(value).is_err() {
            return Err("varint exceeds 32 bits");
        }
        Ok(value)
    }

    fn varlong(&mut self) -> Result<i64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("varint is cut short")?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("varint is too long")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{BatchBuilder, Record};

    proptest! {
        #[test]
        fn no_mutated_payload_panics(at in 0_usize..200, byte: u8) {
            let record = Record::new("some key", "some value").with_header("name", "value");
            let built = BatchBuilder::new(vec![record; 4]).build(7);
            let mut bytes = built.to_vec();
            let at = crate::batch::HEADER_BYTES + at % (bytes.len() - crate::batch::HEADER_BYTES);
            bytes[at] = byte;
            let (batch, _) = Batch::parse(&Bytes::from(bytes)).unwrap();
            prop_assert!(batch.records().unwrap().count() <= 5);
        }
    }
}
