//! The headers of a record: an ordered list in which a key may come again.
//!
//! Owned by [`batch`](crate::batch). [`Headers`] borrows the encoded list whole, so that a
//! record can be copied into another batch without looking at them; the bytes behind it have
//! been walked once and are always well formed. Keys are bytes: producers that are not Java
//! write keys that are not UTF-8, and a mirror has to keep them.

use super::varint::{Malformed, Reader, put_nullable, put_varlong, varlong_len};
use crate::buffers::Buffer;

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// Its key; UTF-8 by convention only.
    pub key: &'a [u8],
    /// Its value; null and empty differ.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in the order they were written, repeats included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: u32,
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const EMPTY: Self = Self { count: 0, encoded: &[] };

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks them in order.
    #[must_use]
    pub const fn iter(&self) -> Iter<'a> {
        Iter { left: self.count, reader: Reader::new(self.encoded) }
    }

    /// The first header of that key.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<RecordHeader<'a>> {
        self.iter().find(|header| header.key == key)
    }

    /// Reads a count and that many headers from `reader`.
    #[inline]
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = reader.length()?;
        if count == 0 {
            return Ok(Self::EMPTY);
        }
        let from = reader.rest();
        for _ in 0..count {
            let key = reader.length()?;
            reader.take(key)?;
            reader.nullable()?;
        }
        let encoded = &from[..from.len() - reader.rest().len()];
        Ok(Self { count: count as u32, encoded })
    }

    /// Bytes of the count and the headers.
    #[inline]
    pub(super) fn encoded_len(&self) -> usize {
        varlong_len(i64::from(self.count)) + self.encoded.len()
    }

    /// Appends the count and the headers.
    #[inline]
    pub(super) fn write(&self, out: &mut Buffer) {
        put_varlong(out, i64::from(self.count));
        if !self.encoded.is_empty() {
            out.extend_from_slice(self.encoded);
        }
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = RecordHeader<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The iterator of [`Headers::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    left: u32,
    reader: Reader<'a>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        let len = self.reader.length().expect("invariant: headers were walked when read");
        let key = self.reader.take(len).expect("invariant: headers were walked when read");
        let value = self.reader.nullable().expect("invariant: headers were walked when read");
        Some(RecordHeader { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

/// Headers under construction: for a record of our own, or to add some to a record passing
/// through.
///
/// ```
/// use kmirror_client::batch::HeadersBuffer;
///
/// let mut headers = HeadersBuffer::new();
/// headers.push(b"trace", Some(b"7"));
/// headers.push(b"trace", None);
/// let keys: Vec<_> = headers.as_headers().iter().map(|header| header.key).collect();
/// assert_eq!(keys, [b"trace", b"trace"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct HeadersBuffer {
    count: u32,
    encoded: Buffer,
}

impl HeadersBuffer {
    /// No headers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one header.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        put_nullable(&mut self.encoded, Some(key));
        put_nullable(&mut self.encoded, value);
        self.count += 1;
    }

    /// Appends all of `headers`, unread.
    pub fn extend(&mut self, headers: Headers<'_>) {
        self.encoded.extend_from_slice(headers.encoded);
        self.count += headers.count;
    }

    /// Forgets the headers and keeps the memory.
    pub fn clear(&mut self) {
        self.count = 0;
        self.encoded.truncate(0);
    }

    /// The headers so far.
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers { count: self.count, encoded: self.encoded.as_ref() }
    }
}
