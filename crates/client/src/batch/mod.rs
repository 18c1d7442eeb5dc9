//! Record batches: the unit a mirror moves.
//!
//! A Fetch response is [`split()`] into verified batches. A batch that may go to the destination
//! as it is becomes an [`Outgoing`] by patching its header ([`passthrough`]); its payload stays
//! the slice of the response it was, and is neither copied nor decompressed. The others take a
//! slower way: [`rebuild`] makes new batches out of records, [`coalesce`] one batch of several
//! small ones, [`halve`] two of one that is too large, and [`legacy`] reads what brokers wrote
//! before format v2.
//!
//! Two things always hold. Bytes that came from a wire never make this module panic, and never
//! make it allocate more than the limit the caller set. And a checksum is verified before the
//! bytes under it are believed, and patched rather than recomputed where they do not change.

pub mod coalesce;
pub mod compression;
pub mod halve;
pub mod header;
pub mod headers;
pub mod legacy;
mod outgoing;
pub mod passthrough;
mod patch;
pub mod rebuild;
pub mod records;
mod renumber;
pub mod split;
mod varint;

pub use self::compression::{Codec, Compressor, Decompressor, Levels};
pub use self::header::{Attributes, Header, TimestampType};
pub use self::headers::{Headers, HeadersBuffer, RecordHeader};
pub use self::outgoing::{Outgoing, Stamp};
pub use self::passthrough::Refusal;
pub use self::records::{Record, Records};
pub use self::split::{Entry, Split, split};

use bytes::Bytes;

/// One complete batch of format v2 whose checksum is right.
///
/// ```
/// use bytes::Bytes;
/// use kmirror_client::batch::{Batch, Decompressor, split};
///
/// /// The values of all records in a Fetch response without old formats.
/// fn values(records: Bytes) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
///     let mut decompressor = Decompressor::new(64 << 20);
///     let mut values = Vec::new();
///     for entry in split(records) {
///         if let split::Entry::Batch(batch) = entry? {
///             for record in batch.records(&mut decompressor)? {
///                 values.push(record?.value.unwrap_or_default().to_vec());
///             }
///         }
///     }
///     Ok(values)
/// }
/// # assert!(values(Bytes::new()).unwrap().is_empty());
/// ```
#[derive(Debug, Clone)]
pub struct Batch {
    header: Header,
    bytes: Bytes,
}

impl Batch {
    /// Checks `bytes`, which must be one v2 batch and nothing else.
    ///
    /// # Errors
    /// What [`split()`] finds wrong with it; [`split::Error::Length`] also when bytes are
    /// missing or left over.
    pub fn try_new(bytes: Bytes) -> Result<Self, split::Error> {
        let (offset, length) = match split::frame(&bytes)? {
            split::Framed::Whole(frame) if frame.len == bytes.len() => {
                if frame.magic == header::MAGIC {
                    return split::verify(bytes);
                }
                return Err(split::Error::Magic { offset: frame.offset, magic: frame.magic });
            }
            split::Framed::Whole(frame) => (frame.offset, frame.len),
            split::Framed::Cut(needed) => (0, needed.unwrap_or_default()),
        };
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        Err(split::Error::Length { offset, length })
    }

    /// A batch `split` has checked.
    fn from_verified(header: Header, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The whole batch, header included.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What follows the header: the records, compressed if the batch is. Shares the bytes.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(header::LEN..)
    }

    /// The records, decompressed into `decompressor`'s buffer if need be.
    ///
    /// # Errors
    /// [`records::Error::UnknownCodec`], and [`records::Error::Decompress`] also when the
    /// payload is larger decompressed than the decompressor allows.
    pub fn records<'a>(
        &'a self,
        decompressor: &'a mut Decompressor,
    ) -> Result<Records<'a>, records::Error> {
        let base_offset = self.header.base_offset;
        let attributes = self.header.attributes;
        let codec = attributes
            .codec()
            .ok_or(records::Error::UnknownCodec { base_offset, codec_id: attributes.codec_id() })?;
        let body = decompressor
            .decompress(codec, &self.bytes[header::LEN..])
            .map_err(|source| records::Error::Decompress { base_offset, codec, source })?;
        Ok(Records::new(&self.header, body))
    }

    /// What a control batch says; `None` for a batch of data. A control batch that cannot be
    /// read counts as [`Marker::Other`]: it carries no data either way.
    #[must_use]
    pub fn marker(&self) -> Option<Marker> {
        if !self.header.attributes.is_control() {
            return None;
        }
        // Brokers write markers uncompressed; the key is a version and a type, two bytes each.
        let mut records = Records::new(&self.header, &self.bytes[header::LEN..]);
        let key = records.next().and_then(Result::ok).and_then(|record| record.key);
        Some(match key {
            Some([_, _, 0, 0, ..]) => Marker::Abort,
            Some([_, _, 0, 1, ..]) => Marker::Commit,
            _ => Marker::Other,
        })
    }
}

/// What the control record of a control batch says (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// The producer's open transaction on this partition was aborted.
    Abort,
    /// The producer's open transaction on this partition was committed.
    Commit,
    /// Anything else, such as the notes of a KRaft quorum.
    Other,
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
