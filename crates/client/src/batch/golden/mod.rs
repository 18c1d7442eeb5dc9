//! Batches that other clients wrote, read here; and ours against theirs, byte for byte.
//!
//! Each line of the `.txt` files names a format, a codec and a timestamp type before the bytes
//! in hexadecimal. All hold the same three records. Tests only.

use bytes::Bytes;

use super::rebuild::Builder;
use super::testing::OwnedRecord;
use super::*;

const JAVA: &str = include_str!("java.txt");
const PYTHON: &str = include_str!("python.txt");
const MARKERS: &str = include_str!("markers.txt");

/// When the broker appended the batches of type `append`.
const APPEND_TIME: i64 = 1_700_000_009_999;

struct Golden {
    name: &'static str,
    magic: i8,
    codec: Codec,
    is_append_time: bool,
    bytes: Bytes,
}

fn goldens(text: &'static str) -> impl Iterator<Item = Golden> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, hex) = line.rsplit_once(' ').unwrap();
        let words: Vec<_> = name.split(' ').collect();
        Golden {
            name,
            magic: words[0][1..].parse().unwrap(),
            codec: Codec::from_name(words[1]).unwrap(),
            is_append_time: words[2] == "append",
            bytes: unhex(hex),
        }
    })
}

fn unhex(hex: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The records in every golden batch, as far as its format can tell them.
fn expected(golden: &Golden) -> Vec<OwnedRecord> {
    let header = |key: &str, value: Option<&str>| {
        (key.as_bytes().to_vec(), value.map(|value| value.as_bytes().to_vec()))
    };
    let headers = vec![
        header("a", Some("1")),
        header("b", None),
        header("a", Some("3")),
        header("\u{e9}", Some("")),
    ];
    let record = |timestamp, key: Option<&str>, value: Option<String>, headers| OwnedRecord {
        timestamp,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(String::into_bytes),
        headers,
    };
    let base = 1_700_000_000_000;
    let mut records = vec![
        record(base, None, Some("first".to_owned()), Vec::new()),
        record(base + 5, Some("k"), None, headers),
        record(base - 3, Some(""), Some("x".repeat(300)), Vec::new()),
    ];
    for record in &mut records {
        if golden.magic < 2 {
            record.headers.clear();
        }
        if golden.is_append_time {
            record.timestamp = APPEND_TIME;
        } else if golden.magic == 0 {
            record.timestamp = -1;
        }
    }
    records
}

fn offsets_and_records(golden: &Golden) -> (Vec<i64>, Vec<OwnedRecord>) {
    let mut decompressor = Decompressor::new(1 << 20);
    let mut entries = split(golden.bytes.clone());
    let entry = entries.next().unwrap().unwrap();
    let found = match &entry {
        Entry::Batch(batch) => batch
            .records(&mut decompressor)
            .unwrap()
            .map(|record| record.map(|record| (record.offset, OwnedRecord::of(&record))).unwrap())
            .unzip(),
        Entry::Legacy(set) => set
            .records(&mut decompressor)
            .unwrap()
            .map(|record| record.map(|record| (record.offset, OwnedRecord::of(&record))).unwrap())
            .unzip(),
    };
    assert!(entries.next().is_none());
    found
}

#[test]
fn batches_of_the_java_client_are_read_as_it_meant_them() {
    for golden in goldens(JAVA) {
        let (offsets, records) = offsets_and_records(&golden);
        assert_eq!(offsets, [42, 43, 44], "{}", golden.name);
        assert_eq!(records, expected(&golden), "{}", golden.name);
    }
}

#[test]
fn batches_of_the_python_client_are_read_as_it_meant_them() {
    for golden in goldens(PYTHON) {
        let (offsets, records) = offsets_and_records(&golden);
        assert_eq!(offsets, [0, 1, 2], "{}", golden.name);
        assert_eq!(records, expected(&golden), "{}", golden.name);
    }
}

fn java_batches() -> impl Iterator<Item = (Golden, Batch)> {
    let goldens = goldens(JAVA).filter(|golden| golden.magic == 2 && !golden.is_append_time);
    goldens.map(|golden| {
        let batch = Batch::try_new(golden.bytes.clone()).unwrap();
        (golden, batch)
    })
}

#[test]
fn a_java_batch_stamped_as_it_was_is_the_java_batch() {
    for (golden, batch) in java_batches() {
        let outgoing = Outgoing::passthrough(&batch).unwrap();
        let stamp = Stamp {
            producer_id: 4242,
            producer_epoch: 3,
            base_sequence: 7,
            is_transactional: true,
        };
        // Base offset and leader epoch are the destination's to set; all else is as it was.
        let stamped = outgoing.stamped(stamp);
        assert_eq!(stamped[header::MAGIC_AT..], batch.bytes()[16..61], "{}", golden.name);
        assert_eq!(outgoing.payload()[..], batch.bytes()[61..], "{}", golden.name);
    }
}

#[test]
fn a_rebuilt_batch_is_what_the_java_client_builds() {
    for (golden, batch) in java_batches() {
        let mut decompressor = Decompressor::new(1 << 20);
        let mut builder = Builder::new(Codec::None);
        for record in batch.records(&mut decompressor).unwrap() {
            builder.push(&record.unwrap()).unwrap();
        }
        let rebuilt = builder.finish(&mut Compressor::default()).unwrap();
        let uncompressed = java_batches().find(|(golden, _)| golden.codec == Codec::None);
        let theirs = Outgoing::passthrough(&uncompressed.unwrap().1).unwrap();
        assert_eq!(rebuilt.stamped(Stamp::NONE), theirs.stamped(Stamp::NONE), "{}", golden.name);
        assert_eq!(rebuilt.payload(), theirs.payload(), "{}", golden.name);
    }
}

#[test]
fn the_markers_of_a_java_broker_are_told_apart() {
    let markers: Vec<_> = MARKERS
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| *name != "#")
        .map(|(name, hex)| (name, Batch::try_new(unhex(hex)).unwrap().marker()))
        .collect();
    assert_eq!(markers, [("abort", Some(Marker::Abort)), ("commit", Some(Marker::Commit))]);
}
