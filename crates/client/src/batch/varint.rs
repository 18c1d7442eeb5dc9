//! Zigzag varints and length-prefixed fields, as records are made of them.
//!
//! Private to [`batch`](crate::batch). Reading checks every length against what is left; a
//! failed read leaves the reader where it was useless to go on, so callers give up the batch.
//! The encoding is that of Kafka's `ByteUtils.readVarint`/`writeVarlong`.

use crate::buffers::Buffer;

/// Why a field of a record is unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes ended inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A varint is longer than its type allows.
    #[error("a varint is longer than its type allows")]
    VarintTooLong,
    /// A length or count that must not be negative is.
    #[error("a length or count is {value}")]
    NegativeLength {
        /// What the field says.
        value: i32,
    },
    /// The record's own length and that of its fields differ.
    #[error("{left} bytes are left over after the last field of a record")]
    LeftOver {
        /// Bytes between the last field and the end of the record.
        left: usize,
    },
    /// The record's offset does not fit an offset.
    #[error("the offset of a record overflows")]
    OffsetOverflow,
}

/// Reads fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<i32, Malformed> {
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| Malformed::VarintTooLong)?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    #[inline]
    pub(super) fn varlong(&mut self) -> Result<i64, Malformed> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A length that may not be negative.
    #[inline]
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        let value = self.varint()?;
        usize::try_from(value).map_err(|_| Malformed::NegativeLength { value })
    }

    /// A field whose length comes first; -1 says null.
    #[inline]
    pub(super) fn nullable(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            value => {
                let len =
                    usize::try_from(value).map_err(|_| Malformed::NegativeLength { value })?;
                self.take(len).map(Some)
            }
        }
    }

    #[inline]
    fn unsigned(&mut self, bytes_max: usize) -> Result<u64, Malformed> {
        // Most deltas of small batches take one byte, most lengths two at most.
        match *self.rest {
            [first, ref rest @ ..] if first < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first))
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.rest = rest;
                Ok(u64::from(first & 0x7f) | u64::from(second) << 7)
            }
            _ => self.unsigned_slow(bytes_max),
        }
    }

    #[cold]
    fn unsigned_slow(&mut self, bytes_max: usize) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().enumerate().take(bytes_max) {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte of a 64-bit number has room for one bit.
            if index == 9 && bits > 1 {
                return Err(Malformed::VarintTooLong);
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < bytes_max {
            Malformed::Truncated
        } else {
            Malformed::VarintTooLong
        })
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes `value` takes as a zigzag varint.
#[inline]
pub(super) const fn varlong_len(value: i64) -> usize {
    match zigzag(value) {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        raw => (64 - raw.leading_zeros() as usize).div_ceil(7),
    }
}

/// Appends `value` as a zigzag varint; an `i32` takes the same bytes as a varint and a varlong.
#[inline]
pub(super) fn put_varlong(out: &mut Buffer, value: i64) {
    match zigzag(value) {
        raw @ 0..0x80 => out.extend_from_slice(&[raw as u8]),
        raw @ 0x80..0x4000 => out.extend_from_slice(&[raw as u8 | 0x80, (raw >> 7) as u8]),
        _ => put_long(out, value),
    }
}

fn put_long(out: &mut Buffer, value: i64) {
    let mut head = Head::new();
    head.varlong(value);
    head.append_to(out);
}

/// A few numbers that are appended together: one look for room instead of one for each.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Head {
    /// Three numbers of 64 bits and two bytes.
    pub(super) const ROOM: usize = 32;

    #[inline]
    pub(super) const fn new() -> Self {
        Self { bytes: [0; Self::ROOM], len: 0 }
    }

    #[inline]
    pub(super) const fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) const fn varlong(&mut self, value: i64) {
        let mut raw = zigzag(value);
        while raw >= 0x80 {
            self.byte(raw as u8 | 0x80);
            raw >>= 7;
        }
        self.byte(raw as u8);
    }

    #[inline]
    pub(super) fn append_to(&self, out: &mut Buffer) {
        // All of the room and then back: a copy of a fixed size takes a few instructions.
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// Bytes of a field whose length comes first.
#[inline]
pub(super) const fn nullable_len(field: Option<&[u8]>) -> usize {
    match field {
        None => 1,
        Some(bytes) => varlong_len(bytes.len() as i64) + bytes.len(),
    }
}

/// The length that comes before a field; -1 for null.
#[inline]
pub(super) const fn length_of(field: Option<&[u8]>) -> i64 {
    match field {
        None => -1,
        Some(bytes) => bytes.len() as i64,
    }
}

/// Appends a field whose length comes first; `None` as null.
#[inline]
pub(super) fn put_nullable(out: &mut Buffer, field: Option<&[u8]>) {
    put_varlong(out, length_of(field));
    if let Some(bytes) = field {
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(value in any::<i64>(), small in any::<i32>()) {
            let mut out = Buffer::default();
            put_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_len(value));
            put_varlong(&mut out, i64::from(small));
            let mut reader = Reader::new(out.as_ref());
            prop_assert_eq!(reader.varlong(), Ok(value));
            prop_assert_eq!(reader.varint(), Ok(small));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let mut reader = Reader::new(&bytes);
            while reader.nullable().is_ok() && reader.varlong().is_ok() {}
        }
    }

    #[test]
    fn numbers_have_the_bytes_kafka_gives_them() {
        for (value, bytes) in [
            (0i64, &[0u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[126]),
            (-64, &[127]),
            (64, &[128, 1]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Buffer::default();
            put_varlong(&mut out, value);
            assert_eq!(out.as_ref(), bytes, "{value}");
        }
    }

    #[test]
    fn a_varint_beyond_its_type_is_refused() {
        let six = [0x80u8, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert_eq!(Reader::new(&six).varint(), Err(Malformed::VarintTooLong));
        let wide = [0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(Reader::new(&wide).varint(), Err(Malformed::VarintTooLong));
        let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&long).varlong(), Err(Malformed::VarintTooLong));
        assert_eq!(Reader::new(&[0x80]).varlong(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_length_beyond_the_bytes_is_refused() {
        let mut out = Buffer::default();
        put_varlong(&mut out, i64::from(i32::MAX));
        assert_eq!(Reader::new(out.as_ref()).nullable(), Err(Malformed::Truncated));
        let mut out = Buffer::default();
        put_varlong(&mut out, -2);
        assert_eq!(
            Reader::new(out.as_ref()).nullable(),
            Err(Malformed::NegativeLength { value: -2 })
        );
    }
}
