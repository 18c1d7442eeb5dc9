//! Making new batches out of records, and the workbench the slow ways share.
//!
//! Owned by [`batch`](crate::batch). What a [`Builder`] ends is a batch as Kafka's
//! `MemoryRecordsBuilder` writes it: records numbered from 0 without gaps, the first record's
//! timestamp as base, the greatest as maximum. Keys, values, headers and timestamps come out as
//! they went in; offsets and record attributes do not, for the destination sets its own.

use super::compression::{Codec, Compressor, Decompressor, Levels};
use super::header::LEN;
use super::outgoing::Outgoing;
use super::records::{self, Record};
use super::renumber::{Numbering, RawRecords};
use super::varint::{Head, varlong_len};
use crate::budget::Budget;
use crate::buffers::Buffer;

/// Bytes of records in one batch at most, uncompressed. No topic takes a batch of that size;
/// the limit is there so that no length field can overflow.
pub const BODY_BYTES_MAX: usize = 1 << 30;

/// Why a record does not go into a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The batch would hold more than [`BODY_BYTES_MAX`], or than its maker wants. It is as it was
    /// before; end it.
    #[error("more bytes of records than one batch may have")]
    TooLarge,
    /// The records to be rebuilt cannot be read.
    #[error("read the records to rebuild")]
    Source(#[from] records::Error),
}

impl Error {
    /// Whether trying again can help: it cannot.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Collects records and ends them as one batch, again and again.
///
/// ```
/// use kmirror_client::batch::rebuild::Builder;
/// use kmirror_client::batch::{Codec, Compressor, Decompressor, Levels, Record};
///
/// let mut compressor = Compressor::new(Levels::default());
/// let mut builder = Builder::new(Codec::Zstd);
/// builder.push(&Record::new(Some(b"key"), Some(b"value")).with_timestamp(1_700_000_000_000))?;
/// builder.push(&Record::new(Some(b"key"), None).with_timestamp(1_700_000_000_005))?;
/// let batch = builder.finish(&mut compressor).expect("two records were pushed");
/// assert_eq!(batch.records_count(), 2);
/// assert!(builder.is_empty());
///
/// let mut decompressor = Decompressor::new(1 << 20);
/// let last = batch.records(&mut decompressor)?.last().expect("it has two records")?;
/// assert_eq!((last.offset, last.value), (1, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Builder {
    codec: Codec,
    numbering: Numbering,
    budget: Budget,
    body: Buffer,
    /// Bytes of records the last batches had: what the next one's buffer starts with, and an eighth
    /// more, since one that is a little larger would double it.
    body_bytes_usual: usize,
    /// Compressed bytes for each byte of records, as the last batches had it.
    ratio: f64,
}

impl Builder {
    /// A builder of batches of that codec.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            numbering: Numbering::default(),
            budget: Budget::new(KEPT_BYTES),
            body: Buffer::default(),
            body_bytes_usual: 0,
            ratio: 1.0,
        }
    }

    /// Takes the memory of its batches from where that of fetched answers comes from, and counts it
    /// in `budget` until they are dropped: while there is too much of it, nothing more is fetched.
    #[must_use]
    pub fn within(mut self, budget: &Budget) -> Self {
        self.budget = budget.clone();
        self
    }

    /// The codec of its batches.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// Another codec for the batch in the making and those after it.
    pub fn set_codec(&mut self, codec: Codec) {
        if codec != self.codec {
            self.codec = codec;
            self.ratio = 1.0;
        }
    }

    /// Adds a record. Its offset is not looked at: the batch numbers its records itself.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; the batch is then as it was.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), Error> {
        let mut numbering = self.numbering;
        let (timestamp_delta, offset_delta) = numbering.next(record.timestamp);
        let body_len = record.body_len(timestamp_delta, offset_delta);
        self.check_room(varlong_len(body_len as i64) + body_len)?;
        if self.numbering.count() == 0 {
            self.begin(self.body_bytes_usual + self.body_bytes_usual / 8);
        }
        record.write(&mut self.body, body_len, timestamp_delta, offset_delta);
        self.numbering = numbering;
        Ok(())
    }

    /// Adds all records of `batch` in order, copying their fields unread.
    ///
    /// # Errors
    /// [`Error::Source`] when the batch cannot be read, [`Error::TooLarge`] when there would be
    /// more than `bytes_max` bytes uncompressed; either way the batch in the making is as it was.
    pub fn append(
        &mut self,
        batch: &Outgoing,
        decompressor: &mut Decompressor,
        bytes_max: usize,
    ) -> Result<(), Error> {
        let body = batch.body(decompressor)?;
        if body.len() > bytes_max.saturating_sub(self.len_bytes_uncompressed()) {
            return Err(Error::TooLarge);
        }
        let mut records = RawRecords::new(batch.header(), body);
        let (numbering, len) = (self.numbering, self.body.len());
        if numbering.count() == 0 && self.body.capacity() == 0 {
            self.begin(body.len().max(self.body_bytes_usual).min(BODY_BYTES_MAX));
        }
        self.body.reserve(body.len().min(BODY_BYTES_MAX) + Head::ROOM);
        let mut result = self.append_raw(&mut records, usize::MAX);
        if result.is_ok() && self.len_bytes_uncompressed() > bytes_max {
            result = Err(Error::TooLarge);
        }
        if result.is_err() {
            self.numbering = numbering;
            self.body.truncate(len);
        }
        result
    }

    /// Adds up to `count` of `records`; on an error some of them may have been added.
    pub(super) fn append_raw(
        &mut self,
        records: &mut RawRecords<'_>,
        count: usize,
    ) -> Result<(), Error> {
        for _ in 0..count {
            let Some(record) = records.next()? else { break };
            self.check_room(record.len + DELTAS_GROWTH_MAX)?;
            record.write(&mut self.numbering, &mut self.body);
        }
        Ok(())
    }

    /// Makes room for a batch of all records of `batches` or as many as fit into `bytes_max`
    /// bytes, as far as their sizes tell.
    pub(super) fn begin_joined(&mut self, batches: &[Outgoing], bytes_max: usize) {
        let bytes_max = bytes_max.min(BODY_BYTES_MAX);
        if self.codec == Codec::None {
            let bytes = batches.iter().map(bytes_renumbered).sum::<usize>();
            self.begin(bytes.min(bytes_max));
        }
    }

    /// Makes room for the first records of a batch that will be about as large as that.
    pub(super) fn begin(&mut self, bytes: usize) {
        let bytes = bytes + Head::ROOM;
        if self.body.capacity() < bytes {
            self.body = self.budget.buffers().take(bytes);
        }
    }

    fn check_room(&self, len: usize) -> Result<(), Error> {
        if len > BODY_BYTES_MAX - self.body.len() { Err(Error::TooLarge) } else { Ok(()) }
    }

    /// How many records the batch in the making holds.
    #[must_use]
    pub const fn records_count(&self) -> i32 {
        self.numbering.count()
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.numbering.count() == 0
    }

    /// Bytes the batch in the making would have uncompressed, header included.
    #[must_use]
    pub fn len_bytes_uncompressed(&self) -> usize {
        LEN + self.body.len()
    }

    /// Bytes the batch in the making will have: exact for [`Codec::None`], for the others
    /// judged by how well the last batches of this builder compressed.
    #[must_use]
    pub fn size_estimate(&self) -> usize {
        match self.codec {
            Codec::None => self.len_bytes_uncompressed(),
            _ => LEN + (self.body.len() as f64 * self.ratio * RATIO_MARGIN) as usize,
        }
    }

    /// Ends the batch and begins the next; `None` if no record was added.
    pub fn finish(&mut self, compressor: &mut Compressor) -> Option<Outgoing> {
        let numbering = std::mem::take(&mut self.numbering);
        if numbering.count() == 0 {
            return None;
        }
        self.body_bytes_usual = self.body.len().max(self.body_bytes_usual / 4 * 3);
        let body = std::mem::take(&mut self.body);
        let payload = match self.codec {
            Codec::None => self.fitted(body),
            codec => {
                let compressed = compressor.compress(codec, body.as_ref());
                self.learn(compressed.len(), body.len());
                self.copied(compressed)
            }
        };
        let payload = self.budget.count(payload);
        Some(Outgoing::assemble(numbering.header(self.codec), payload))
    }

    /// Drops the records added since the last batch, and their memory.
    pub fn clear(&mut self) {
        self.numbering = Numbering::default();
        self.body = Buffer::default();
    }

    /// A batch holds not much more memory than it has bytes: it may wait for long.
    fn fitted(&self, body: Buffer) -> Buffer {
        let fits = body.len() + body.len() / 2 + Head::ROOM;
        if body.capacity() <= fits { body } else { self.copied(body.as_ref()) }
    }

    fn copied(&self, bytes: &[u8]) -> Buffer {
        let mut copy = self.budget.buffers().take(bytes.len());
        copy.extend_from_slice(bytes);
        copy
    }

    /// Up at once, down slowly, as Kafka's `CompressionRatioEstimator`: an estimate too low
    /// costs a refused request, one too high a smaller batch.
    fn learn(&mut self, compressed_len: usize, len: usize) {
        let ratio = compressed_len as f64 / len.max(1) as f64;
        self.ratio = ratio.max(self.ratio - RATIO_STEP_DOWN);
    }
}

/// What a builder keeps to use again when it has no budget to take memory from.
const KEPT_BYTES: usize = 1 << 20;

/// About what an uncompressed batch's records take renumbered among others: each delta grows by a
/// byte or two.
fn bytes_renumbered(batch: &Outgoing) -> usize {
    const GROWTH: usize = 4;
    let records = usize::try_from(batch.records_count()).unwrap_or(0);
    batch.payload().len() + records * GROWTH
}

/// What renumbering may add to a record: ten bytes of timestamp delta, five of offset delta,
/// five of length, less the one byte each has at least.
const DELTAS_GROWTH_MAX: usize = 17;
const RATIO_MARGIN: f64 = 1.05;
const RATIO_STEP_DOWN: f64 = 0.05;

/// All that [`coalesce`](super::coalesce) and [`halve`](super::halve) need, kept from batch to
/// batch. One serves a thread.
#[derive(Debug)]
pub struct Recoder {
    pub(super) builder: Builder,
    pub(super) compressor: Compressor,
    pub(super) decompressor: Decompressor,
}

impl Recoder {
    /// A recoder that compresses as hard as `levels` say and refuses batches of more than
    /// `decompressed_bytes_max`.
    #[must_use]
    pub fn new(levels: Levels, decompressed_bytes_max: usize) -> Self {
        Self {
            builder: Builder::new(Codec::None),
            compressor: Compressor::new(levels),
            decompressor: Decompressor::new(decompressed_bytes_max),
        }
    }

    /// Takes the memory of its batches from where [`Builder::within`] does.
    #[must_use]
    pub fn within(mut self, budget: &Budget) -> Self {
        self.builder = self.builder.within(budget);
        self
    }

    /// Gives what large batches took back to the system.
    pub fn trim(&mut self) {
        self.compressor.trim();
        self.decompressor.trim();
    }
}

#[cfg(test)]
mod tests;
