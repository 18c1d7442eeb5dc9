//! Old message sets, plain and compressed, whole and damaged.

use bytes::BytesMut;
use proptest::prelude::*;

use super::encode::{Draft, compressed, plain};
use super::*;
use crate::batch::rebuild::Builder;
use crate::batch::testing::{OwnedRecord, read};
use crate::batch::{Compressor, Entry, split};

const CODECS: [Codec; 3] = [Codec::Gzip, Codec::Snappy, Codec::Lz4];

fn sets(bytes: Bytes) -> Vec<MessageSet> {
    split(bytes)
        .map(|entry| match entry.unwrap() {
            Entry::Legacy(set) => set,
            Entry::Batch(_) => panic!("a legacy set"),
        })
        .collect()
}

/// Offset, timestamp and value of each message.
fn messages(set: &MessageSet) -> Vec<(i64, i64, String)> {
    let mut decompressor = Decompressor::new(1 << 20);
    let records = set.records(&mut decompressor).unwrap();
    records
        .map(|record| {
            let record = record.unwrap();
            assert!(record.headers.is_empty());
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            (record.offset, record.timestamp, value)
        })
        .collect()
}

fn drafts(magic: u8, offsets: &[i64]) -> Vec<Draft> {
    offsets.iter().map(|&offset| Draft::new(magic, offset, &format!("v{offset}"))).collect()
}

fn expected(offsets: &[i64], timestamp: impl Fn(i64) -> i64) -> Vec<(i64, i64, String)> {
    offsets.iter().map(|&offset| (offset, timestamp(offset), format!("v{offset}"))).collect()
}

#[test]
fn a_run_of_plain_messages_is_one_set_with_its_gaps() {
    for (magic, timestamp) in [(0, (|_| -1) as fn(i64) -> i64), (1, |offset| 1000 + offset)] {
        let offsets = [5, 6, 9];
        let sets = sets(plain(&drafts(magic, &offsets)));
        assert_eq!(sets.len(), 1);
        assert_eq!((sets[0].base_offset(), sets[0].next_offset()), (5, 10));
        assert_eq!(messages(&sets[0]), expected(&offsets, timestamp));
    }
}

#[test]
fn offsets_inside_a_compressed_v0_message_are_absolute() {
    for codec in CODECS {
        let offsets = [20, 23, 24];
        let sets = sets(plain(&[compressed(codec, 24, &drafts(0, &offsets))]));
        assert_eq!(messages(&sets[0]), expected(&offsets, |_| -1), "{codec}");
        assert_eq!(sets[0].next_offset(), 25);
    }
}

#[test]
fn offsets_inside_a_compressed_v1_message_count_back_from_its_own() {
    for codec in CODECS {
        // Ten messages at 100 to 109; compaction left 3, 7 and 9.
        let inside = drafts(1, &[3, 7, 9]);
        let sets = sets(plain(&[compressed(codec, 109, &inside)]));
        let found: Vec<_> = messages(&sets[0]).into_iter().map(|message| message.0).collect();
        assert_eq!(found, [103, 107, 109], "{codec}");
        assert_eq!(sets[0].next_offset(), 110);
    }
}

#[test]
fn offset_zero_around_a_v1_set_leaves_the_inner_ones_as_they_are() {
    let sets = sets(plain(&[compressed(Codec::Gzip, 0, &drafts(1, &[0, 1, 2]))]));
    assert_eq!(messages(&sets[0]), expected(&[0, 1, 2], |offset| 1000 + offset));
}

#[test]
fn the_append_time_of_a_compressed_message_is_that_of_all_inside() {
    let mut outer = compressed(Codec::Snappy, 2, &drafts(1, &[0, 1, 2]));
    outer.attributes |= 8;
    outer.timestamp = 77;
    let sets = sets(plain(&[outer]));
    assert_eq!(messages(&sets[0]), expected(&[0, 1, 2], |_| 77));
}

#[test]
fn compressed_messages_and_runs_are_sets_of_their_own() {
    let mut bytes = BytesMut::new();
    for draft in drafts(1, &[0, 1]) {
        draft.write(&mut bytes);
    }
    compressed(Codec::Gzip, 3, &drafts(1, &[0, 1])).write(&mut bytes);
    compressed(Codec::Lz4, 5, &drafts(1, &[0, 1])).write(&mut bytes);
    Draft::new(0, 6, "v6").write(&mut bytes);
    Draft::new(0, 7, "cut off").write(&mut bytes);
    bytes.truncate(bytes.len() - 3);
    let sets = sets(bytes.freeze());
    let ends: Vec<_> = sets.iter().map(MessageSet::next_offset).collect();
    assert_eq!(ends, [2, 4, 6, 7]);
}

#[test]
fn a_damaged_message_is_an_error_after_the_good_ones_before_it() {
    let mut bytes = BytesMut::from(&plain(&drafts(1, &[4, 5]))[..]);
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut entries = split(bytes.freeze());
    assert!(matches!(entries.next(), Some(Ok(Entry::Legacy(set))) if set.next_offset() == 5));
    let error = entries.next().unwrap().unwrap_err();
    assert_eq!(error.offset(), 5);
    assert!(error.is_retryable());
    assert!(entries.next().is_none());
}

#[test]
fn a_checksum_inside_a_compressed_message_is_checked() {
    let mut inside = BytesMut::from(&plain(&drafts(1, &[0]))[..]);
    let last = inside.len() - 1;
    inside[last] ^= 1;
    let value = Compressor::default().compress(Codec::Gzip, &inside).to_vec();
    let outer = Draft { attributes: 1, value: Some(value), ..Draft::new(1, 0, "") };
    let set = sets(plain(&[outer])).remove(0);
    let mut decompressor = Decompressor::new(1 << 20);
    let mut records = set.records(&mut decompressor).unwrap();
    assert!(matches!(
        records.next(),
        Some(Err(Error::Message { source: Malformed::Checksum { .. }, .. }))
    ));
    assert!(records.next().is_none());
}

#[test]
fn what_must_not_be_inside_a_compressed_message_is_refused() {
    let fails = |outer: Draft| {
        let set = sets(plain(&[outer])).remove(0);
        let mut decompressor = Decompressor::new(1 << 20);
        match set.records(&mut decompressor) {
            Err(error) => error,
            Ok(records) => records.last().unwrap().unwrap_err(),
        }
    };
    let inner = |what| Error::Inner { offset: 9, what };
    let twice = compressed(Codec::Gzip, 1, &drafts(1, &[0, 1]));
    assert_eq!(fails(compressed(Codec::Gzip, 9, &[twice])), inner("a message compressed again"));
    let other = Draft { magic: 1, ..compressed(Codec::Gzip, 9, &drafts(0, &[0])) };
    assert_eq!(fails(other), inner("a message of another format"));
    assert_eq!(fails(compressed(Codec::Gzip, 9, &[])), inner("no message"));
    let before = compressed(Codec::Gzip, 9, &drafts(1, &[10]));
    assert_eq!(fails(before), inner("more offsets than it has"));
    let null = Draft { value: None, attributes: 1, ..Draft::new(1, 9, "") };
    assert_eq!(fails(null), inner("no value"));
    let cut = Compressor::default().compress(Codec::Gzip, &[0; 5]).to_vec();
    let cut = Draft { value: Some(cut), attributes: 1, ..Draft::new(1, 9, "") };
    assert_eq!(fails(cut), inner("a broken message"));
}

#[test]
fn zstd_is_no_codec_of_the_old_formats() {
    let draft = Draft { attributes: 4, ..Draft::new(1, 0, "v") };
    let error = split(plain(&[draft])).next().unwrap().unwrap_err();
    let expected = Error::Message { offset: 0, source: Malformed::UnknownCodec { codec_id: 4 } };
    assert_eq!(error, crate::batch::split::Error::Legacy { offset: 0, source: expected });
}

proptest! {
    #[test]
    fn old_messages_become_a_batch_of_today(
        magic in 0..2u8,
        fields in proptest::collection::vec(
            (any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), any::<i64>()), 1..20),
        codec in prop::sample::select(&[Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4][..]),
    ) {
        let drafts: Vec<_> = fields.into_iter().enumerate().map(|(index, (key, value, timestamp))| {
            Draft { magic, attributes: 0, offset: index as i64, timestamp, key, value }
        }).collect();
        let bytes = match codec {
            Codec::None => plain(&drafts),
            codec => plain(&[compressed(codec, drafts.len() as i64 - 1, &drafts)]),
        };
        let sets = sets(bytes);
        prop_assert_eq!(sets.len(), 1);
        let mut decompressor = Decompressor::new(1 << 20);
        let mut builder = Builder::new(Codec::None);
        for record in sets[0].records(&mut decompressor).unwrap() {
            builder.push(&record.unwrap()).unwrap();
        }
        let batch = builder.finish(&mut Compressor::default()).unwrap();
        let expected: Vec<_> = drafts.into_iter().map(|draft| OwnedRecord {
            timestamp: if magic == 0 { -1 } else { draft.timestamp },
            key: draft.key,
            value: draft.value,
            headers: Vec::new(),
        }).collect();
        prop_assert_eq!(read(&batch), expected);
    }

    #[test]
    fn damage_inside_a_compressed_message_never_panics(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        magic in 0..2u8,
    ) {
        let mut inside = BytesMut::from(&plain(&drafts(magic, &[0, 1, 2]))[..]);
        for (index, byte) in changes {
            let at = index.index(inside.len());
            inside[at] = byte;
        }
        let value = Compressor::default().compress(Codec::Snappy, &inside).to_vec();
        let outer = Draft { attributes: 2, value: Some(value), ..Draft::new(magic, 2, "") };
        let mut decompressor = Decompressor::new(1 << 20);
        for set in sets(plain(&[outer])) {
            if let Ok(records) = set.records(&mut decompressor) {
                records.for_each(drop);
            }
        }
    }
}
