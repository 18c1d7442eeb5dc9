//! One batch out of several small ones.
//!
//! Owned by [`batch`](crate::batch). A Produce request takes one batch for each partition, so a
//! source whose producers do not linger would be mirrored one record at a time; joined, its
//! batches travel together. Uncompressed records are renumbered and otherwise copied as they
//! are, compressed ones are decompressed and compressed again once. The records of the result
//! are those of the batches, in order.

use super::compression::Codec;
use super::outgoing::Outgoing;
use super::rebuild::Recoder;

/// By how much a joined batch may be larger uncompressed: records of a kilobyte that repeat
/// themselves compress a hundredfold, and whoever reads the batch has to hold it all.
const UNCOMPRESSED_LARGER: usize = 4;

/// Several batches in one.
#[derive(Debug)]
pub struct Joined {
    /// The batch.
    pub batch: Outgoing,
    /// How many it was made of; 1 if the first could not be joined with the next.
    pub count: usize,
}

impl Recoder {
    /// Joins `batches`, from the first on, into one of the first one's codec: as many as have
    /// `bytes_max` bytes together and, if they are compressed, four times that uncompressed.
    /// `None` if there are no batches.
    ///
    /// It ends before one that is too much or cannot be read. One alone comes back as it is, its
    /// checksum still the source's, whatever its size and whether it can be read or not.
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
    /// let joined = recoder.coalesce(&batches, 1 << 20).expect("there are batches");
    /// assert_eq!((joined.count, joined.batch.records_count()), (3, 3));
    /// ```
    pub fn coalesce(&mut self, batches: &[Outgoing], bytes_max: usize) -> Option<Joined> {
        let [first, behind @ ..] = batches else { return None };
        let alone = Joined { batch: first.clone(), count: 1 };
        if behind.is_empty() {
            return Some(alone);
        }
        let Recoder { builder, compressor, decompressor } = self;
        builder.clear();
        builder.set_codec(first.codec());
        builder.begin_joined(batches, bytes_max);
        let (compressed_max, uncompressed_max) = match first.codec() {
            Codec::None => (usize::MAX, bytes_max),
            _ => (bytes_max, bytes_max.saturating_mul(UNCOMPRESSED_LARGER)),
        };
        let mut bytes = 0_usize;
        let joined = |batch: &&Outgoing| {
            bytes += batch.len_bytes();
            bytes <= compressed_max && builder.append(batch, decompressor, uncompressed_max).is_ok()
        };
        let count = batches.iter().take_while(joined).count();
        if count < 2 {
            builder.clear();
            return Some(alone);
        }
        let batch = builder.finish(compressor)?;
        Some(Joined { batch, count })
    }
}

#[cfg(test)]
mod tests;
