//! The records and batches that are worked on, the same at every run: events as JSON, half of which
//! differs from one to the next.

use std::fmt::Write as _;

use bytes::Bytes;
use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{
    Codec, Compressor, Entry, Header, Levels, Outgoing, Record, Stamp, header, split,
};

/// When the first record was made, in milliseconds since 1970.
const BEGIN: i64 = 1_700_000_000_000;

/// What a batch is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How its payload is compressed.
    pub(crate) codec: Codec,
    /// How many records it has.
    pub(crate) records: usize,
    /// Bytes of each value.
    pub(crate) value_bytes: usize,
}

impl Shape {
    /// `records` records of 1 KiB each.
    pub(crate) const fn kib(codec: Codec, records: usize) -> Self {
        Self { codec, records, value_bytes: 1024 }
    }

    /// Bytes of all values.
    pub(crate) const fn bytes(self) -> usize {
        self.records * self.value_bytes
    }
}

/// A fixed sequence of numbers (splitmix64).
#[derive(Debug, Clone)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const WORDS: [&str; 16] = [
    "account", "added", "basket", "before", "booking", "change", "customer", "delivery", "invoice",
    "morning", "number", "order", "payment", "refund", "street", "window",
];

/// Writes one value of exactly `bytes` bytes into `text`.
fn write_value(chance: &mut Chance, bytes: usize, text: &mut String) {
    text.clear();
    let (id, session, user) = (chance.next(), chance.next(), chance.next() % 1_000_000);
    let written = write!(
        text,
        "{{\"event_id\":\"{id:016x}\",\"session\":\"{session:016x}\",\"user\":{user},\"note\":\""
    );
    written.expect("invariant: writing to a string cannot fail");
    while text.len() < bytes {
        text.push_str(WORDS[(chance.next() % 16) as usize]);
        text.push(' ');
    }
    text.truncate(bytes - 2);
    text.push_str("\"}");
}

/// About `bytes` of JSON.
pub(crate) fn json(bytes: usize) -> Vec<u8> {
    let mut chance = Chance(1);
    let mut text = String::new();
    let mut out = Vec::with_capacity(bytes);
    while out.len() < bytes {
        write_value(&mut chance, 1024, &mut text);
        out.extend_from_slice(text.as_bytes());
    }
    out.truncate(bytes);
    out
}

/// Keys as they are: short, some thousands of them.
pub(crate) fn keys(count: usize) -> Vec<Vec<u8>> {
    let mut chance = Chance(2);
    (0..count).map(|_| format!("customer-{:07}", chance.next() % 5000).into_bytes()).collect()
}

/// A batch as kmirror would produce it.
pub(crate) fn outgoing(shape: Shape, seed: u64) -> Outgoing {
    let mut chance = Chance(seed);
    let mut text = String::new();
    let mut builder = Builder::new(shape.codec);
    for index in 0..shape.records {
        let key = format!("customer-{:07}", chance.next() % 5000);
        write_value(&mut chance, shape.value_bytes, &mut text);
        let record = Record::new(Some(key.as_bytes()), Some(text.as_bytes()))
            .with_timestamp(BEGIN + index as i64 * 3);
        builder.push(&record).expect("invariant: it is far below the limit");
    }
    builder.finish(&mut Compressor::new(Levels::default())).expect("invariant: it has records")
}

/// A batch as a broker sends it.
pub(crate) fn stored(batch: &Outgoing, base_offset: i64) -> Bytes {
    with_header(batch, |header| header.base_offset = base_offset)
}

/// A batch some records of which compaction took.
pub(crate) fn compacted(batch: &Outgoing, base_offset: i64) -> Bytes {
    with_header(batch, |header| {
        header.base_offset = base_offset;
        header.last_offset_delta += 9;
    })
}

fn with_header(batch: &Outgoing, change: impl FnOnce(&mut Header)) -> Bytes {
    let stamp =
        Stamp { producer_id: 31, producer_epoch: 1, base_sequence: 7, is_transactional: false };
    let mut header = Header::parse(&batch.stamped(stamp)).expect("invariant: it has that length");
    change(&mut header);
    let mut out = [&header.encode()[..], &batch.payload()[..]].concat();
    let crc = crc32c::crc32c(&out[header::CRC_COVERED_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(out)
}

/// `count` batches one after the other, as the records of an answer to Fetch.
pub(crate) fn record_set(shape: Shape, count: usize) -> Bytes {
    let batches = (0..count)
        .map(|index| stored(&outgoing(shape, index as u64), (index * shape.records) as i64));
    Bytes::from(batches.flat_map(Vec::from).collect::<Vec<u8>>())
}

/// The entries of `records`.
pub(crate) fn entries(records: Bytes) -> Vec<Entry> {
    split(records).map(|entry| entry.expect("invariant: we made it")).collect()
}
