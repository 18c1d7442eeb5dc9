//! A batch that may be produced, and its stamp.
//!
//! Owned by [`batch`](crate::batch). An [`Outgoing`] always has base offset 0, no leader epoch,
//! attributes that say nothing but the codec, as many records as offsets, and a checksum that
//! is right exactly if that of the batch it was made from was. The payload is a slice of the
//! fetch response or a buffer made by [`rebuild`](super::rebuild); it is copied by
//! [`Outgoing::copied`] alone. Producer id, epoch and sequence are written at the last moment by
//! [`Outgoing::stamped`]: they may change between two attempts to send, the batch does not.

use bytes::Bytes;

use super::Batch;
use super::compression::{self, Codec, Decompressor};
use super::header::{Attributes, CRC_COVERED_FROM, Header, LEN, LENGTH_OVERHEAD};
use super::passthrough::{self, LogAppendTime, Refusal};
use super::patch::Shift;
use super::records::{self, Records};
use crate::budget::Budget;
use crate::crc;

/// The producer's mark on a batch: what makes sending it twice harmless (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Id the destination gave the producer, -1 none.
    pub producer_id: i64,
    /// Its epoch, -1 none.
    pub producer_epoch: i16,
    /// Sequence number of the batch's first record in its partition, -1 none.
    pub base_sequence: i32,
    /// Whether the batch belongs to the producer's transaction.
    pub is_transactional: bool,
}

impl Stamp {
    /// The mark of a producer that is not idempotent.
    pub const NONE: Self =
        Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, is_transactional: false };

    /// The stamp of the batch after one of `records_count` records. Sequence numbers go from
    /// the greatest `i32` to 0, as in Kafka's `DefaultRecordBatch.incrementSequence`; a stamp
    /// without a sequence stays as it is.
    #[must_use]
    pub const fn after(self, records_count: i32) -> Self {
        if self.base_sequence < 0 {
            return self;
        }
        let sum = self.base_sequence as i64 + records_count as i64;
        Self { base_sequence: (sum % (i32::MAX as i64 + 1)) as i32, ..self }
    }
}

/// A batch ready to be stamped and produced.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// As it is produced, without a stamp; but the checksum is that of `origin`.
    header: Header,
    origin: Origin,
    payload: Bytes,
}

/// What the header said, where the checksum covers it and it is produced otherwise. The checksum
/// is patched once, with the stamp: a batch that is joined with others never is.
#[derive(Debug, Clone, Copy)]
struct Origin {
    attributes: Attributes,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

impl Origin {
    const fn of(header: &Header) -> Self {
        let Header { attributes, producer_id, producer_epoch, base_sequence, .. } = *header;
        Self { attributes, producer_id, producer_epoch, base_sequence }
    }
}

impl Outgoing {
    /// Makes a fetched batch fit to be produced by patching its header alone. The payload is
    /// shared, not copied; the checksum is patched, not recomputed, so that it still protects
    /// the payload from the producer at the source to the disk of the destination.
    ///
    /// # Errors
    /// The [`Refusal`] says why the batch needs more than that. Batches whose timestamps are
    /// log append times are refused; see [`Outgoing::passthrough_with`].
    ///
    /// ```
    /// use bytes::Bytes;
    /// use kmirror_client::batch::{
    ///     Batch, Codec, Compressor, Outgoing, Record, Stamp, rebuild::Builder,
    /// };
    ///
    /// # fn fetched() -> Batch {
    /// #     let mut builder = Builder::new(Codec::None);
    /// #     builder.push(&Record::new(None, Some(b"hello"))).unwrap();
    /// #     let batch = builder.finish(&mut Compressor::default()).unwrap();
    /// #     let bytes = [&batch.stamped(Stamp::NONE)[..], &batch.payload()[..]].concat();
    /// #     Batch::try_new(Bytes::from(bytes)).unwrap()
    /// # }
    /// let batch: Batch = fetched();
    /// let outgoing = Outgoing::passthrough(&batch)?;
    /// let stamp =
    ///     Stamp { producer_id: 9, producer_epoch: 0, base_sequence: 0, is_transactional: false };
    /// let wire = [&outgoing.stamped(stamp)[..], &outgoing.payload()[..]].concat();
    /// assert_eq!(wire.len(), outgoing.len_bytes());
    /// # let again = Batch::try_new(Bytes::from(wire)).unwrap();
    /// # assert_eq!(again.header().producer_id, 9);
    /// # Ok::<(), kmirror_client::batch::Refusal>(())
    /// ```
    pub fn passthrough(batch: &Batch) -> Result<Self, Refusal> {
        Self::passthrough_with(batch, LogAppendTime::Refuse)
    }

    /// [`Outgoing::passthrough`] with a say in what becomes of log append times.
    ///
    /// # Errors
    /// As [`Outgoing::passthrough`].
    pub fn passthrough_with(
        batch: &Batch,
        log_append_time: LogAppendTime,
    ) -> Result<Self, Refusal> {
        let source = batch.header();
        passthrough::check(source, log_append_time)?;
        let codec = source
            .attributes
            .codec()
            .ok_or(Refusal::UnknownCodec { codec_id: source.attributes.codec_id() })?;
        let header = Header {
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: Attributes::of_codec(codec),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            ..*source
        };
        Ok(Self { header, origin: Origin::of(source), payload: batch.payload() })
    }

    /// A batch of our own making: `header` says codec, count and timestamps, the rest is set
    /// here.
    pub(super) fn assemble(header: Header, payload: Bytes) -> Self {
        let batch_length = LEN - LENGTH_OVERHEAD + payload.len();
        let mut header = Header {
            batch_length: i32::try_from(batch_length)
                .expect("invariant: builders end a batch before 2 GiB"),
            last_offset_delta: header.records_count - 1,
            ..header
        };
        let covered = &header.encode()[CRC_COVERED_FROM..];
        header.crc = crc::checksum_of_two(covered, &payload);
        Self { header, origin: Origin::of(&header), payload }
    }

    /// The header with the producer's mark on it: the first 61 bytes to write, the
    /// [`payload`](Self::payload) being the rest. Pure, and about a tenth of a microsecond
    /// whatever the size of the batch.
    #[must_use]
    pub fn stamped(&self, stamp: Stamp) -> [u8; LEN] {
        let mut header = Header {
            attributes: self.header.attributes.with_transactional(stamp.is_transactional),
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            ..self.header
        };
        let Origin { attributes, producer_id, producer_epoch, base_sequence } = self.origin;
        let origin =
            Header { attributes, producer_id, producer_epoch, base_sequence, ..self.header };
        let shift = Shift::over_payload(self.payload.len());
        header.crc = shift.patched(self.header.crc, &origin.encode(), &header.encode());
        header.encode()
    }

    /// The records, as they go on the wire: compressed if the batch is.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The header without a stamp. Its checksum is that of the batch this one was made from: only
    /// [`stamped`](Self::stamped) patches it.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The same batch in memory of its own, counted in `budget` as a copy.
    #[must_use]
    pub fn copied(&self, budget: &Budget) -> Self {
        let mut buffer = budget.buffers().take(self.payload.len());
        buffer.extend_from_slice(&self.payload);
        Self { payload: budget.count(buffer), ..self.clone() }
    }

    /// Bytes of the whole batch, header included: what the destination's `max.message.bytes`
    /// is held against.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        LEN + self.payload.len()
    }

    /// How many records it holds; 1 at least.
    #[must_use]
    pub const fn records_count(&self) -> i32 {
        self.header.records_count
    }

    /// How the payload is compressed.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.header.attributes.codec().expect("invariant: an outgoing batch has a known codec")
    }

    /// The records inside, offsets counted from 0.
    ///
    /// # Errors
    /// As [`Batch::records`].
    pub fn records<'a>(
        &'a self,
        decompressor: &'a mut Decompressor,
    ) -> Result<Records<'a>, records::Error> {
        let body = self.body(decompressor)?;
        Ok(Records::new(&self.header, body))
    }

    /// The decompressed payload.
    pub(super) fn body<'a>(
        &'a self,
        decompressor: &'a mut Decompressor,
    ) -> Result<&'a [u8], records::Error> {
        let codec = self.codec();
        decompressor.decompress(codec, &self.payload).map_err(|source: compression::Error| {
            records::Error::Decompress { base_offset: self.header.base_offset, codec, source }
        })
    }
}
