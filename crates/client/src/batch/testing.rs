//! Records that own their bytes, and ways to make and read batches of them. Tests only.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::rebuild::Builder;
use super::*;

/// What a mirror must keep of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnedRecord {
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub(super) fn of(record: &Record<'_>) -> Self {
        let headers = record
            .headers
            .iter()
            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect();
        Self {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers,
        }
    }

    /// Lends the record to `then`.
    pub(super) fn lend<T>(&self, then: impl FnOnce(&Record<'_>) -> T) -> T {
        let mut headers = HeadersBuffer::new();
        for (key, value) in &self.headers {
            headers.push(key, value.as_deref());
        }
        let record = Record::new(self.key.as_deref(), self.value.as_deref())
            .with_timestamp(self.timestamp)
            .with_headers(headers.as_headers());
        then(&record)
    }
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || vec(any::<u8>(), 0..40);
    // Times near one another and the edges of the range.
    let timestamp = prop_oneof![
        8 => 1_700_000_000_000i64..1_700_000_100_000,
        1 => any::<i64>(),
        1 => Just(-1),
    ];
    // Few different header keys, so that they repeat; some are not UTF-8.
    let key = prop_oneof![Just(b"k".to_vec()), Just(vec![0xff, 0xfe]), Just(vec![]), bytes()];
    (timestamp, option::of(bytes()), option::of(bytes()), vec((key, option::of(bytes())), 0..4))
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}

/// One to thirty records with everything in them that Kafka allows.
pub(super) fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    vec(record(), 1..30)
}

pub(super) fn codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(&Codec::ALL[..])
}

pub(super) fn build(codec: Codec, records: &[OwnedRecord]) -> Outgoing {
    let mut builder = Builder::new(codec);
    for record in records {
        record.lend(|record| builder.push(record)).unwrap();
    }
    builder.finish(&mut Compressor::default()).unwrap()
}

/// The records of `batch`; fails the test unless they count 0, 1, 2 and the header is right.
pub(super) fn read(batch: &Outgoing) -> Vec<OwnedRecord> {
    let received = sent(batch, Stamp::NONE);
    let header = *received.header();
    assert_eq!(header.last_offset_delta, header.records_count - 1);
    let mut decompressor = Decompressor::new(64 << 20);
    let mut records = Vec::new();
    for (index, record) in received.records(&mut decompressor).unwrap().enumerate() {
        let record = record.unwrap();
        assert_eq!(record.offset, index as i64);
        records.push(OwnedRecord::of(&record));
    }
    assert_eq!(records.len(), header.records_count as usize);
    assert_eq!(records.iter().map(|record| record.timestamp).max(), Some(header.max_timestamp));
    assert_eq!(records[0].timestamp, header.base_timestamp);
    records
}

/// What the destination receives: its checksum is verified on the way.
pub(super) fn sent(outgoing: &Outgoing, stamp: Stamp) -> Batch {
    let bytes = [&outgoing.stamped(stamp)[..], &outgoing.payload()[..]].concat();
    Batch::try_new(Bytes::from(bytes)).unwrap()
}

/// The batch with another header, checksum made right.
pub(super) fn with_header(bytes: &Bytes, change: impl FnOnce(&mut Header)) -> Bytes {
    let mut header = Header::parse(bytes).unwrap();
    change(&mut header);
    let mut out = [&header.encode()[..], &bytes[header::LEN..]].concat();
    let crc = crc32c::crc32c(&out[header::CRC_COVERED_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(out)
}
