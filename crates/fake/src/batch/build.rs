//! Builds batches: what tests produce with, what compaction rewrites, the markers of transactions.
//!
//! Owned by the batch module. Always true: a built batch passes this crate's own validation unless
//! the caller asked for a field that does not.

use bytes::{BufMut, Bytes, BytesMut};

use super::records::RawRecord;
use super::{Batch, CONTROL, Codec, Header, TRANSACTIONAL};

/// One record, as a test states it or reads it back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null (a tombstone).
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat and need not be UTF-8.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Milliseconds since the epoch; `None` is the cluster's own now.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with key and value.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Record {
        Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
    }

    /// A record with a null key.
    #[must_use]
    pub fn value(value: impl Into<Bytes>) -> Record {
        Record { value: Some(value.into()), ..Record::default() }
    }

    /// A record with a null value.
    #[must_use]
    pub fn tombstone(key: impl Into<Bytes>) -> Record {
        Record { key: Some(key.into()), ..Record::default() }
    }

    /// The same record with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Record {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The same record with this timestamp, in ms since the epoch.
    #[must_use]
    pub fn with_timestamp_ms(mut self, timestamp_ms: i64) -> Record {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl From<Record> for BatchBuilder {
    fn from(record: Record) -> BatchBuilder {
        BatchBuilder::new([record])
    }
}

impl From<Vec<Record>> for BatchBuilder {
    fn from(records: Vec<Record>) -> BatchBuilder {
        BatchBuilder::new(records)
    }
}

/// Says what a batch holds and how; `build` encodes it with base offset 0 and leader epoch -1.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    pub(crate) codec: Codec,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) attributes: i16,
    pub(crate) records: Vec<Record>,
}

impl BatchBuilder {
    /// A plain batch of these records.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = Record>) -> BatchBuilder {
        BatchBuilder {
            codec: Codec::None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            attributes: 0,
            records: records.into_iter().collect(),
        }
    }

    /// Compresses the payload.
    #[must_use]
    pub fn with_codec(mut self, codec: Codec) -> BatchBuilder {
        self.codec = codec;
        self
    }

    /// Writes as this idempotent producer.
    #[must_use]
    pub fn with_producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Sets the transactional bit.
    #[must_use]
    pub fn with_transactional(mut self) -> BatchBuilder {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Sets further attribute bits, legal or not.
    #[must_use]
    pub fn with_attributes(mut self, bits: i16) -> BatchBuilder {
        self.attributes |= bits;
        self
    }

    /// The batch's bytes; records without a timestamp get `now_ms`.
    #[must_use]
    pub fn build(&self, now_ms: i64) -> Bytes {
        self.to_batch(now_ms).to_bytes()
    }

    pub(crate) fn to_batch(&self, now_ms: i64) -> Batch {
        let stamp = |record: &Record| record.timestamp_ms.unwrap_or(now_ms);
        let base_timestamp = self.records.first().map_or(now_ms, stamp);
        let max_timestamp = self.records.iter().map(stamp).max().unwrap_or(-1);
        let mut plain = BytesMut::new();
        for (delta, record) in self.records.iter().enumerate() {
            let raw = RawRecord {
                offset_delta: delta as i64,
                timestamp_delta: stamp(record).wrapping_sub(base_timestamp),
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.clone(),
            };
            write_record(&mut plain, &raw);
        }
        let count = self.records.len() as i32;
        let header = Header {
            base_offset: 0,
            batch_length: 0,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: self.attributes | self.codec.bits(),
            last_offset_delta: (count - 1).max(0),
            base_timestamp,
            max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: count,
        };
        Batch::new(header, pack(self.codec, plain))
    }
}

/// The same batch holding other records: what a cleaner or a recompressing broker writes. The
/// header's offsets, producer fields and base timestamp stay.
pub(crate) fn rewrite(batch: &Batch, codec: Codec, records: &[RawRecord]) -> Batch {
    let mut plain = BytesMut::new();
    for record in records {
        write_record(&mut plain, record);
    }
    let mut header = *batch.header();
    header.attributes = (header.attributes & !super::CODEC_MASK) | codec.bits();
    header.record_count = records.len() as i32;
    Batch::new(header, pack(codec, plain))
}

/// The marker that ends a transaction (KIP-98 control record: version 0, type, coordinator epoch).
pub(crate) fn marker(producer_id: i64, producer_epoch: i16, commit: bool, now_ms: i64) -> Batch {
    let mut key = BytesMut::new();
    key.put_i16(0);
    key.put_i16(i16::from(commit));
    let mut value = BytesMut::new();
    value.put_i16(0);
    value.put_i32(0);
    BatchBuilder::new([Record::new(key.freeze(), value.freeze())])
        .with_producer(producer_id, producer_epoch, -1)
        .with_attributes(TRANSACTIONAL | CONTROL)
        .to_batch(now_ms)
}

fn pack(codec: Codec, plain: BytesMut) -> Bytes {
    match codec {
        Codec::None => plain.freeze(),
        _ => Bytes::from(codec.compress(&plain).expect("invariant: compressing to memory works")),
    }
}

fn write_record(out: &mut BytesMut, record: &RawRecord) {
    let mut body = BytesMut::new();
    body.put_u8(0);
    write_varlong(&mut body, record.timestamp_delta);
    write_varlong(&mut body, record.offset_delta);
    write_bytes(&mut body, record.key.as_ref());
    write_bytes(&mut body, record.value.as_ref());
    write_varlong(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        write_bytes(&mut body, Some(name));
        write_bytes(&mut body, value.as_ref());
    }
    write_varlong(out, body.len() as i64);
    out.extend_from_slice(&body);
}

fn write_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => write_varlong(out, -1),
        Some(bytes) => {
            write_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn write_varlong(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_batch_reads_back_with_duplicate_headers_and_nulls() {
        let record = Record::new("k", "v").with_header("a", "1").with_header("a", "2");
        let records = [record, Record::tombstone("gone"), Record::value("alone")];
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let bytes = BatchBuilder::new(records.clone()).with_codec(codec).build(5);
            let (batch, rest) = Batch::parse(&bytes).unwrap();
            assert!(rest.is_empty());
            batch.check_crc().unwrap();
            let read: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
            assert_eq!(read.len(), 3);
            assert_eq!(read[0].headers.len(), 2);
            assert_eq!(read[1].value, None);
            assert_eq!(read[2].key, None);
            assert_eq!(read[2].offset_delta, 2);
        }
    }
}
