//! Cutting the records field of a Fetch response into batches.
//!
//! Owned by [`batch`](crate::batch). Nothing is copied: each entry is a slice of the response.
//! Every length is checked against what is there before it is used, and every entry handed out
//! has passed its checksum. A broker cuts its answer at a byte limit, so the last entry may be
//! incomplete; that is an end, not an error. Follows Kafka's `ByteBufferLogInputStream`.

use bytes::Bytes;

use super::Batch;
use super::header::{CRC_COVERED_FROM, Header, LEN, LENGTH_OVERHEAD, MAGIC, MAGIC_AT};
use super::legacy::{self, MessageSet};
use crate::crc;

/// What a Fetch response is made of.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A batch of format v2.
    Batch(Batch),
    /// Messages of format v0 or v1, which only a source with old segments has.
    Legacy(MessageSet),
}

impl Entry {
    /// Offset of the first record, as far as the entry says; a compressed legacy set says only
    /// its last.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.header().base_offset,
            Self::Legacy(set) => set.base_offset(),
        }
    }

    /// The offset to read after this entry.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        match self {
            Self::Batch(batch) => batch.header().next_offset(),
            Self::Legacy(set) => set.next_offset(),
        }
    }

    /// Bytes of the entry.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.bytes().len(),
            Self::Legacy(set) => set.bytes().len(),
        }
    }
}

/// Why the bytes at some place are no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The length field is shorter than any batch of the format.
    #[error("batch at offset {offset} claims a length of {length}")]
    Length {
        /// The offset the bytes claim.
        offset: i64,
        /// The length they claim.
        length: i32,
    },
    /// The magic byte names no record format.
    #[error("batch at offset {offset} has record format {magic}")]
    Magic {
        /// The offset the bytes claim.
        offset: i64,
        /// The magic byte.
        magic: i8,
    },
    /// The checksum does not match: the bytes changed since they were produced.
    #[error("batch at offset {offset} has checksum {computed:#010x} instead of {stored:#010x}")]
    Checksum {
        /// The offset the bytes claim.
        offset: i64,
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The checksum matches and the header still contradicts itself.
    #[error(
        "batch at offset {offset} counts {records_count} records up to delta {last_offset_delta}"
    )]
    Header {
        /// The offset the bytes claim.
        offset: i64,
        /// Its record count.
        records_count: i32,
        /// Its last offset delta.
        last_offset_delta: i32,
    },
    /// A message of format v0 or v1 is broken.
    #[error("message at offset {offset}")]
    Legacy {
        /// The offset the bytes claim.
        offset: i64,
        /// What is wrong with it.
        source: legacy::Error,
    },
}

impl Error {
    /// Whether fetching the same offset again can help. A checksum that fails may have been
    /// damaged on the way; the other errors would have failed the checksum if so, or stand
    /// before it can be trusted, and a second look costs one request either way.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Length { .. } | Self::Magic { .. } | Self::Checksum { .. } => true,
            Self::Header { .. } => false,
            Self::Legacy { source, .. } => source.is_retryable(),
        }
    }

    /// The offset the broken bytes claim; garbage may claim any.
    #[must_use]
    pub const fn offset(&self) -> i64 {
        match self {
            Self::Length { offset, .. }
            | Self::Magic { offset, .. }
            | Self::Checksum { offset, .. }
            | Self::Header { offset, .. }
            | Self::Legacy { offset, .. } => *offset,
        }
    }
}

/// The entry a Fetch response was cut in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Bytes of it that are there.
    pub present_bytes: usize,
    /// Bytes it has in all, if its length field is there.
    pub needed_bytes: Option<usize>,
}

/// Cuts `records` into entries.
///
/// ```
/// use bytes::Bytes;
/// use kmirror_client::batch::split;
///
/// // Eleven bytes are no batch yet: the response was cut.
/// let mut entries = split(Bytes::from_static(&[0; 11]));
/// assert!(entries.next().is_none());
/// assert_eq!(entries.partial().unwrap().present_bytes, 11);
/// ```
#[must_use]
pub fn split(records: Bytes) -> Split {
    Split { rest: records, partial: None, ended: false }
}

/// The iterator of [`split`]. Ends after its first error, for nothing behind broken bytes can
/// be found again.
#[derive(Debug, Clone)]
pub struct Split {
    rest: Bytes,
    partial: Option<Partial>,
    ended: bool,
}

impl Split {
    /// What the bytes ended in the middle of; known once the iterator has ended.
    #[must_use]
    pub const fn partial(&self) -> Option<Partial> {
        self.partial
    }

    fn entry(&mut self) -> Result<Option<Entry>, Error> {
        let frame = match frame(&self.rest)? {
            Framed::Whole(frame) => frame,
            Framed::Cut(needed_bytes) => {
                let present_bytes = self.rest.len();
                self.partial =
                    (present_bytes != 0).then_some(Partial { present_bytes, needed_bytes });
                return Ok(None);
            }
        };
        if frame.magic < MAGIC {
            let (set, len) = MessageSet::take_run(&self.rest)
                .map_err(|source| Error::Legacy { offset: frame.offset, source })?;
            let _ = self.rest.split_to(len);
            return Ok(Some(Entry::Legacy(set)));
        }
        // What follows broken bytes is not looked at again, so it may be taken first.
        let batch = verify(self.rest.split_to(frame.len))?;
        Ok(Some(Entry::Batch(batch)))
    }
}

impl Iterator for Split {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.entry().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The frame every entry has, of whatever format: offset, length, magic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) offset: i64,
    /// Bytes of the whole entry, all of them present.
    pub(super) len: usize,
    pub(super) magic: i8,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Framed {
    Whole(Frame),
    /// The bytes end before the entry does; it takes so many in all, if that is known.
    Cut(Option<usize>),
}

/// Looks at the entry `bytes` begin with.
pub(super) fn frame(bytes: &[u8]) -> Result<Framed, Error> {
    let Some((offset, rest)) = bytes.split_first_chunk::<8>() else {
        return Ok(Framed::Cut(None));
    };
    let Some((length, _)) = rest.split_first_chunk::<4>() else {
        return Ok(Framed::Cut(None));
    };
    let offset = i64::from_be_bytes(*offset);
    let length = i32::from_be_bytes(*length);
    let body = usize::try_from(length).map_err(|_| Error::Length { offset, length })?;
    if body < legacy::MESSAGE_BYTES_MIN {
        return Err(Error::Length { offset, length });
    }
    let len = body + LENGTH_OVERHEAD;
    let Some(&magic) = bytes.get(MAGIC_AT) else {
        return Ok(Framed::Cut(Some(len)));
    };
    let magic = i8::from_be_bytes([magic]);
    if !(0..=MAGIC).contains(&magic) {
        return Err(Error::Magic { offset, magic });
    }
    if magic == MAGIC && len < LEN {
        return Err(Error::Length { offset, length });
    }
    if bytes.len() < len {
        return Ok(Framed::Cut(Some(len)));
    }
    Ok(Framed::Whole(Frame { offset, len, magic }))
}

/// Checks the v2 batch that `bytes` are, all of them.
pub(super) fn verify(bytes: Bytes) -> Result<Batch, Error> {
    let header = Header::parse(&bytes).expect("invariant: the frame is as long as a header");
    let computed = crc::checksum(&bytes[CRC_COVERED_FROM..]);
    let offset = header.base_offset;
    if computed != header.crc {
        return Err(Error::Checksum { offset, stored: header.crc, computed });
    }
    // Offsets past the greatest i64 cannot be; last_offset would saturate and repeat itself.
    let next_offset = offset.checked_add(i64::from(header.last_offset_delta) + 1);
    if header.records_count < 0
        || header.last_offset_delta < 0
        || offset < 0
        || next_offset.is_none()
    {
        return Err(Error::Header {
            offset,
            records_count: header.records_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    Ok(Batch::from_verified(header, bytes))
}
