//! Messages of the formats v0 and v1, which brokers wrote before Kafka 0.11 and still serve
//! from topics whose `message.format.version` was never raised.
//!
//! Owned by [`batch`](crate::batch). They are only read here, as the same [`Record`]s v2
//! batches have, so that [`rebuild`](super::rebuild) makes v2 batches out of them. The outer
//! CRC-32 of every message is verified when a response is split, that of messages inside a
//! compressed one when they are read. Follows Kafka's `AbstractLegacyRecordBatch`.

#[cfg(test)]
pub(in crate::batch) mod encode;
mod message;

use bytes::Bytes;

use super::compression::{self, Codec, Decompressor};
use super::records::Record;
use super::split::{Framed, frame};
pub use message::Malformed;
use message::Message;
#[cfg(test)]
pub(in crate::batch) use message::crc32;

/// Bytes of the smallest message after its offset and length: v0, null key and value.
pub const MESSAGE_BYTES_MIN: usize = 14;

/// Why messages cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message contradicts itself.
    #[error("read message at offset {offset}")]
    Message {
        /// The offset the message claims, relative if it is inside a compressed one of v1.
        offset: i64,
        /// What is wrong.
        source: Malformed,
    },
    /// The set inside a compressed message does not decompress.
    #[error("decompress {codec} message at offset {offset}")]
    Decompress {
        /// Offset of the message around it.
        offset: i64,
        /// Its codec.
        codec: Codec,
        /// What the codec says.
        source: compression::Error,
    },
    /// A compressed message holds none, a broken one, or one that must not be in there.
    #[error("message at offset {offset} holds {what}")]
    Inner {
        /// Offset of the message around it.
        offset: i64,
        /// What it holds.
        what: &'static str,
    },
}

impl Error {
    /// Whether fetching again can help: a failed checksum may be damage on the way.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Message { source: Malformed::Checksum { .. }, .. })
    }
}

/// One compressed message, or a run of uncompressed ones; every checksum verified.
#[derive(Debug, Clone)]
pub struct MessageSet {
    bytes: Bytes,
    base_offset: i64,
    last_offset: i64,
    codec: Codec,
}

impl MessageSet {
    /// Takes the set `bytes` begin with: one message if it is compressed, all that follow each
    /// other if they are not. Returns it with its length. The first message must be whole; a
    /// broken one behind it ends the run and is found when it comes first.
    pub(super) fn take_run(bytes: &Bytes) -> Result<(Self, usize), Error> {
        let mut set =
            Self { bytes: Bytes::new(), base_offset: 0, last_offset: 0, codec: Codec::None };
        let mut len = 0;
        while let Ok(Framed::Whole(next)) = frame(&bytes[len..])
            && next.magic < super::header::MAGIC
        {
            let message = match Message::read(&bytes[len..len + next.len]) {
                Ok(message) => message,
                Err(source) if len == 0 => {
                    return Err(Error::Message { offset: next.offset, source });
                }
                Err(_) => break,
            };
            if message.codec != Codec::None && len != 0 {
                break;
            }
            if len == 0 {
                set.base_offset = message.offset;
                set.codec = message.codec;
            }
            set.last_offset = message.offset;
            len += next.len;
            if message.codec != Codec::None {
                break;
            }
        }
        set.bytes = bytes.slice(..len);
        Ok((set, len))
    }

    /// The bytes of the set as fetched.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Offset of the first message; of a compressed one its own, which is that of the last
    /// message inside.
    #[must_use]
    pub const fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset of the last message.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.last_offset
    }

    /// The offset to read after this set.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.last_offset.saturating_add(1)
    }

    /// How the set is compressed.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The messages as records: v0 has no timestamps (-1), neither has headers.
    ///
    /// # Errors
    /// [`Error::Decompress`] and [`Error::Inner`] for a compressed set.
    pub fn records<'a>(&'a self, decompressor: &'a mut Decompressor) -> Result<Records<'a>, Error> {
        if self.codec == Codec::None {
            return Ok(Records { rest: &self.bytes, wrapper: None });
        }
        let offset = self.last_offset;
        let outer =
            Message::read(&self.bytes).map_err(|source| Error::Message { offset, source })?;
        let value = outer.value.ok_or(Error::Inner { offset, what: "no value" })?;
        let body = if outer.magic == 0 {
            decompressor.decompress_v0(self.codec, value)
        } else {
            decompressor.decompress(self.codec, value)
        };
        let body =
            body.map_err(|source| Error::Decompress { offset, codec: self.codec, source })?;
        let wrapper = Wrapper {
            magic: outer.magic,
            offset,
            base_offset: base_offset(&outer, body)?,
            append_time: outer.is_append_time.then_some(outer.timestamp),
        };
        Ok(Records { rest: body, wrapper: Some(wrapper) })
    }
}

/// What is added to the offsets inside a compressed message.
///
/// In v0 they are absolute. In v1 they count from 0 and the message around them has the offset
/// of the last, so that compaction can take some out and leave the others where they are
/// (KIP-31). Old versions of librdkafka produced the message around them with offset 0, and
/// what is inside it then counts as it is.
fn base_offset(outer: &Message<'_>, body: &[u8]) -> Result<i64, Error> {
    let offset = outer.offset;
    let mut last = None;
    let mut rest = body;
    while !rest.is_empty() {
        match frame(rest) {
            Ok(Framed::Whole(inner)) => {
                last = Some(inner.offset);
                rest = &rest[inner.len..];
            }
            _ => return Err(Error::Inner { offset, what: "a broken message" }),
        }
    }
    let last = last.ok_or(Error::Inner { offset, what: "no message" })?;
    if outer.magic == 0 || offset == 0 {
        return Ok(0);
    }
    match offset.checked_sub(last) {
        Some(base) if base >= 0 => Ok(base),
        _ => Err(Error::Inner { offset, what: "more offsets than it has" }),
    }
}

/// What a compressed message says about those inside.
#[derive(Debug, Clone, Copy)]
struct Wrapper {
    magic: i8,
    offset: i64,
    base_offset: i64,
    /// The one timestamp of all, if the broker set it.
    append_time: Option<i64>,
}

/// The iterator of [`MessageSet::records`]; ends after its first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    wrapper: Option<Wrapper>,
}

impl<'a> Records<'a> {
    fn read(&mut self) -> Result<Record<'a>, Error> {
        let framed = match frame(self.rest) {
            Ok(Framed::Whole(framed)) => framed,
            _ => {
                let offset = self.wrapper.map_or(0, |wrapper| wrapper.offset);
                return Err(Error::Inner { offset, what: "a broken message" });
            }
        };
        let (bytes, rest) = self.rest.split_at(framed.len);
        self.rest = rest;
        let message = Message::read(bytes)
            .map_err(|source| Error::Message { offset: framed.offset, source })?;
        match self.wrapper {
            None => Ok(message.record(message.offset, message.timestamp)),
            Some(wrapper) => wrapper.record(&message),
        }
    }
}

impl Wrapper {
    fn record<'a>(&self, message: &Message<'a>) -> Result<Record<'a>, Error> {
        let inner = |what| Error::Inner { offset: self.offset, what };
        if message.codec != Codec::None {
            return Err(inner("a message compressed again"));
        }
        if message.magic != self.magic {
            return Err(inner("a message of another format"));
        }
        let offset = self
            .base_offset
            .checked_add(message.offset)
            .ok_or_else(|| inner("an offset that overflows"))?;
        Ok(message.record(offset, self.append_time.unwrap_or(message.timestamp)))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = self.read();
        if item.is_err() {
            self.rest = &[];
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests;
