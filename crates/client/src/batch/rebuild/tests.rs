//! What a builder makes of records.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::testing::{OwnedRecord, build, codec, read, records, sent, with_header};
use crate::batch::{Attributes, Batch, Stamp};

proptest! {
    #[test]
    fn records_survive_every_codec(records in records(), codec in codec()) {
        let batch = build(codec, &records);
        prop_assert_eq!(batch.codec(), codec);
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn records_of_several_batches_make_one(
        first in records(),
        second in records(),
        codec in codec(),
    ) {
        let mut builder = Builder::new(Codec::None);
        let mut decompressor = Decompressor::new(1 << 20);
        for part in [&first, &second] {
            let source = sent(&build(codec, part), Stamp::NONE);
            for record in source.records(&mut decompressor).unwrap() {
                builder.push(&record.unwrap()).unwrap();
            }
        }
        prop_assert_eq!(builder.size_estimate(), builder.len_bytes_uncompressed());
        let estimate = builder.size_estimate();
        let batch = builder.finish(&mut Compressor::default()).unwrap();
        prop_assert_eq!(batch.len_bytes(), estimate);
        prop_assert_eq!(read(&batch), [first, second].concat());
    }

    #[test]
    fn passing_through_and_rebuilding_agree(records in records(), codec in codec()) {
        let source = sent(&build(codec, &records), Stamp::NONE);
        let passed = Outgoing::passthrough(&source).unwrap();
        let mut builder = Builder::new(codec);
        let mut decompressor = Decompressor::new(1 << 20);
        for record in passed.records(&mut decompressor).unwrap() {
            builder.push(&record.unwrap()).unwrap();
        }
        let rebuilt = builder.finish(&mut Compressor::default()).unwrap();
        prop_assert_eq!(rebuilt.stamped(Stamp::NONE), passed.stamped(Stamp::NONE));
        prop_assert_eq!(rebuilt.payload(), passed.payload());
    }
}

fn plain(timestamp: i64, value: &str) -> OwnedRecord {
    let value = Some(value.as_bytes().to_vec());
    OwnedRecord { timestamp, key: None, value, headers: Vec::new() }
}

#[test]
fn log_append_times_become_the_create_times_of_the_rebuilt_records() {
    let source = sent(&build(Codec::Lz4, &[plain(1, "a"), plain(2, "b")]), Stamp::NONE);
    let source = with_header(source.bytes(), |header| {
        header.attributes = Attributes::from_bits(header.attributes.bits() | 8);
        header.max_timestamp = 77;
    });
    let source = Batch::try_new(source).unwrap();
    let mut builder = Builder::new(Codec::Lz4);
    for record in source.records(&mut Decompressor::new(1 << 20)).unwrap() {
        builder.push(&record.unwrap()).unwrap();
    }
    let batch = builder.finish(&mut Compressor::default()).unwrap();
    assert_eq!(read(&batch), [plain(77, "a"), plain(77, "b")]);
    assert_eq!(batch.header().attributes, Attributes::of_codec(Codec::Lz4));
}

#[test]
fn a_compacted_batch_is_numbered_without_gaps() {
    // Records at deltas 3 and 7 of ten offsets, as the cleaner leaves them.
    let mut body = crate::buffers::Buffer::default();
    for (delta, value) in [(3, b"a"), (7, b"b")] {
        let record = Record::new(None, Some(value));
        record.write(&mut body, record.body_len(0, delta), 0, delta);
    }
    let whole = sent(&build(Codec::None, &[plain(5, "a"), plain(5, "b")]), Stamp::NONE);
    let bytes = Bytes::from([&whole.bytes()[..LEN], body.as_ref()].concat());
    let compacted = Batch::try_new(with_header(&bytes, |header| {
        header.base_offset = 100;
        header.last_offset_delta = 9;
    }))
    .unwrap();
    let mut decompressor = Decompressor::new(1 << 20);
    let mut builder = Builder::new(Codec::None);
    let mut offsets = Vec::new();
    for record in compacted.records(&mut decompressor).unwrap() {
        let record = record.unwrap();
        offsets.push(record.offset);
        builder.push(&record).unwrap();
    }
    assert_eq!(offsets, [103, 107]);
    assert_eq!(compacted.header().next_offset(), 110);
    let batch = builder.finish(&mut Compressor::default()).unwrap();
    assert_eq!(read(&batch), [plain(5, "a"), plain(5, "b")]);
}

#[test]
fn a_builder_serves_again_after_each_batch() {
    let mut compressor = Compressor::default();
    let mut builder = Builder::new(Codec::Snappy);
    assert!(builder.finish(&mut compressor).is_none());
    for round in 0..3 {
        builder.push(&Record::new(None, Some(b"x")).with_timestamp(round)).unwrap();
        assert_eq!(builder.records_count(), 1);
        let batch = builder.finish(&mut compressor).unwrap();
        assert_eq!(read(&batch), [plain(round, "x")]);
    }
    builder.push(&Record::new(None, Some(b"dropped"))).unwrap();
    builder.clear();
    assert!(builder.finish(&mut compressor).is_none());
}

#[test]
fn the_size_of_compressed_batches_is_judged_by_the_last_ones() {
    let mut compressor = Compressor::default();
    let mut builder = Builder::new(Codec::Gzip);
    let value = vec![b'x'; 100_000];
    let mut sizes = Vec::new();
    for _ in 0..2 {
        builder.push(&Record::new(None, Some(&value))).unwrap();
        let estimate = builder.size_estimate();
        sizes.push((estimate, builder.finish(&mut compressor).unwrap().len_bytes()));
    }
    assert!(sizes[1].0 < sizes[0].0, "it learns: {sizes:?}");
    assert!(sizes[1].0 >= sizes[1].1, "and stays careful: {sizes:?}");
}

#[test]
fn a_batch_that_cannot_be_read_leaves_the_builder_as_it_was() {
    let good = build(Codec::None, &[plain(1, "a")]);
    let bad = with_header(sent(&good, Stamp::NONE).bytes(), |header| {
        header.records_count = 2;
        header.last_offset_delta = 1;
    });
    let bad = Outgoing::passthrough(&Batch::try_new(bad).unwrap()).unwrap();
    let mut decompressor = Decompressor::new(1 << 20);
    let mut builder = Builder::new(Codec::None);
    builder.append(&good, &mut decompressor, usize::MAX).unwrap();
    assert!(matches!(builder.append(&bad, &mut decompressor, usize::MAX), Err(Error::Source(_))));
    let batch = builder.finish(&mut Compressor::default()).unwrap();
    assert_eq!(read(&batch), [plain(1, "a")]);
}
