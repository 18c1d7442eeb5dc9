//! The v2 record batch as a broker keeps it: a 61-byte header it may patch and a payload it never
//! touches.
//!
//! Owned by the log. Always true: a `Batch` holds exactly one complete v2 batch, its `head` is
//! the encoding of its `header`, and its payload is a slice of the bytes the client sent (not a
//! copy).

pub(crate) mod build;
pub(crate) mod codec;
pub(crate) mod records;

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use build::{BatchBuilder, Record};
pub use codec::Codec;

/// Bytes of a v2 batch header, from the base offset to the record count (KIP-98).
pub const HEADER_BYTES: usize = 61;

/// Bytes before the batch length's own end: base offset and batch length are not counted in it.
pub(crate) const LENGTH_OFFSET: usize = 12;

/// Where the bytes that the checksum covers begin.
const CRC_START: usize = 21;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Why bytes are not a batch, or a batch is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Fewer bytes than a header or than the length field announces.
    #[error("{available} bytes where a batch needs {needed}")]
    Truncated {
        /// Bytes there are.
        available: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// A batch of another format than v2.
    #[error("magic {magic}")]
    Magic {
        /// The format read.
        magic: i8,
    },
    /// A length field below what a header takes.
    #[error("batch length {length}")]
    Length {
        /// The length read.
        length: i32,
    },
    /// The stored and the computed checksum differ.
    #[error("stored crc {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A codec number nobody has assigned.
    #[error("compression codec {codec}")]
    Codec {
        /// The codec bits.
        codec: i16,
    },
    /// The payload does not decompress.
    #[error("decompress {codec:?}: {reason}")]
    Decompress {
        /// Which codec.
        codec: Codec,
        /// What its decoder said.
        reason: String,
    },
    /// A record inside the payload is malformed.
    #[error("record {index}: {reason}")]
    Record {
        /// The record's index in the batch.
        index: i32,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The fields of a batch header, in wire order (KIP-98, `DefaultRecordBatch`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after this field.
    pub batch_length: i32,
    /// The leader epoch the broker stamped.
    pub leader_epoch: i32,
    /// Format version; always 2 here.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: i16,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas are added to, in ms.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, in ms.
    pub max_timestamp: i64,
    /// The producer's id, or -1.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// The first record's sequence number, or -1.
    pub base_sequence: i32,
    /// Number of records in the payload.
    pub record_count: i32,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Magic`] or [`Error::Length`]; the payload is not looked at.
    pub fn parse(mut bytes: &[u8]) -> Result<Header, Error> {
        if bytes.len() < LENGTH_OFFSET + 5 {
            return Err(Error::Truncated { available: bytes.len(), needed: HEADER_BYTES });
        }
        let magic = i8::from_be_bytes([bytes[16]]);
        if magic != 2 {
            return Err(Error::Magic { magic });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(Error::Truncated { available: bytes.len(), needed: HEADER_BYTES });
        }
        let header = Header {
            base_offset: bytes.get_i64(),
            batch_length: bytes.get_i32(),
            leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        };
        if header.batch_length < (HEADER_BYTES - LENGTH_OFFSET) as i32 {
            return Err(Error::Length { length: header.batch_length });
        }
        Ok(header)
    }

    /// Offset of the last record the batch covers, whether or not it still holds it.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence number of the last record; wraps after `i32::MAX` as Kafka's does.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let sum = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (sum % (i64::from(i32::MAX) + 1)) as i32
    }

    /// The codec of the payload.
    ///
    /// # Errors
    /// [`Error::Codec`] for an unassigned number.
    pub fn codec(&self) -> Result<Codec, Error> {
        Codec::try_from(self.attributes & CODEC_MASK)
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker rather than data.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether `max_timestamp` stands for every record's timestamp.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether an idempotent producer wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    pub(crate) fn with_log_append_time(mut self, set: bool) -> Header {
        let cleared = self.attributes & !LOG_APPEND_TIME;
        self.attributes = if set { cleared | LOG_APPEND_TIME } else { cleared };
        self
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp);
        out.put_i64(self.max_timestamp);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
    }
}

/// One complete batch.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    header: Header,
    head: Bytes,
    payload: Bytes,
}

impl Batch {
    /// Takes the batch at the front of `bytes` and returns it with what follows it.
    pub(crate) fn parse(bytes: &Bytes) -> Result<(Batch, Bytes), Error> {
        let header = Header::parse(bytes)?;
        let size = LENGTH_OFFSET + header.batch_length as usize;
        if bytes.len() < size {
            return Err(Error::Truncated { available: bytes.len(), needed: size });
        }
        let head = bytes.slice(..HEADER_BYTES);
        let payload = bytes.slice(HEADER_BYTES..size);
        Ok((Batch { header, head, payload }, bytes.slice(size..)))
    }

    /// A batch of these fields; length and checksum are computed.
    pub(crate) fn new(mut header: Header, payload: Bytes) -> Batch {
        header.batch_length = (HEADER_BYTES - LENGTH_OFFSET + payload.len()) as i32;
        let mut batch = Batch { header, head: Bytes::new(), payload };
        batch.seal(header);
        batch
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn head(&self) -> &Bytes {
        &self.head
    }

    pub(crate) fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }

    /// Whether the checksum holds.
    pub(crate) fn check_crc(&self) -> Result<(), Error> {
        let computed = self.computed_crc();
        if computed != self.header.crc {
            return Err(Error::Crc { stored: self.header.crc, computed });
        }
        Ok(())
    }

    /// Replaces the fields outside the checksum: what a broker does to every batch it appends.
    pub(crate) fn stamp(&mut self, base_offset: i64, leader_epoch: i32) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
        self.encode_head();
    }

    /// Replaces the header and recomputes the checksum.
    pub(crate) fn seal(&mut self, header: Header) {
        self.header = header;
        self.encode_head();
        self.header.crc = self.computed_crc();
        self.encode_head();
    }

    /// The batch in one piece (a copy).
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_bytes());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.payload);
        out.freeze()
    }

    fn computed_crc(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.head[CRC_START..]), &self.payload)
    }

    fn encode_head(&mut self) {
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        self.header.write(&mut out);
        self.head = out.freeze();
    }
}
