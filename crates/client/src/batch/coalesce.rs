//! One batch out of several small ones.
//!
//! Owned by [`batch`](crate::batch). A Produce request takes one batch for each partition, so a
//! source whose producers do not linger would be mirrored one record at a time; joined, its
//! batches travel together. Uncompressed records are renumbered and otherwise copied as they
//! are, compressed ones are decompressed and compressed again once. The records of the result
//! are those of the batches, in order.

use super::outgoing::Outgoing;
use super::rebuild::{self, Recoder};

/// Why batches cannot be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is none to join.
    #[error("no batches to join")]
    Empty,
    /// One of them cannot be read, or all of them are too much for one.
    #[error("join batch {index}")]
    Batch {
        /// Which one of those given, from 0.
        index: usize,
        /// What is wrong.
        source: rebuild::Error,
    },
}

impl Error {
    /// Whether trying again can help: it cannot. Producing the batches one by one may.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl Recoder {
    /// Joins `batches` into one of the first one's codec. One batch alone comes back as it is,
    /// its checksum still the source's.
    ///
    /// The result may be a few bytes per record larger than its parts were together; add up
    /// [`Outgoing::len_bytes`] and leave that much of the destination's limit free.
    ///
    /// # Errors
    /// [`Error`]; the batches are untouched and can be produced one by one.
    ///
    /// ```
    /// use kmirror_client::batch::rebuild::{Builder, Recoder};
    /// use kmirror_client::batch::{Codec, Compressor, Levels, Record};
    ///
    /// let mut builder = Builder::new(Codec::None);
    /// let mut single = |value: &'static [u8]| {
    ///     builder.push(&Record::new(None, Some(value))).unwrap();
    ///     builder.finish(&mut Compressor::default()).unwrap()
    /// };
    /// let batches = [single(b"one"), single(b"two"), single(b"three")];
    ///
    /// let mut recoder = Recoder::new(Levels::default(), 16 << 20);
    /// let joined = recoder.coalesce(&batches)?;
    /// assert_eq!(joined.records_count(), 3);
    /// # Ok::<(), kmirror_client::batch::coalesce::Error>(())
    /// ```
    pub fn coalesce(&mut self, batches: &[Outgoing]) -> Result<Outgoing, Error> {
        let first = match batches {
            [] => return Err(Error::Empty),
            [single] => return Ok(single.clone()),
            [first, ..] => first,
        };
        self.builder.clear();
        self.builder.set_codec(first.codec());
        self.builder.begin_joined(batches);
        for (index, batch) in batches.iter().enumerate() {
            if let Err(source) = self.builder.append(batch, &mut self.decompressor) {
                self.builder.clear();
                return Err(Error::Batch { index, source });
            }
        }
        self.builder.finish(&mut self.compressor).ok_or(Error::Empty)
    }
}

#[cfg(test)]
mod tests;
