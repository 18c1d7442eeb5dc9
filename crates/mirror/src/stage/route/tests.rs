//! Routing of hand-made batches: which way each takes, and that records come out as they went in.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kmirror_client::batch::{Batch, Stamp};
use proptest::prelude::*;

use super::*;
use crate::policy::partitioning::for_key;

type Plain = (Option<Vec<u8>>, Option<Vec<u8>>);

fn plan(mapping: Mapping) -> Plan {
    Plan {
        mapping,
        source_partition: 3,
        append_time: LogAppendTime::Refuse,
        null_key: None,
        codec: None,
        small_batch_bytes: 32 << 10,
        batch_bytes: 900 << 10,
        batch_bytes_max: usize::MAX,
    }
}

fn keyed(key: &str, value: &str) -> Plain {
    (Some(key.into()), Some(value.into()))
}

/// The bytes of a batch at `base_offset`, before `change` has a say about its header.
fn batch_with(
    codec: Codec,
    base_offset: i64,
    records: &[Plain],
    change: impl Fn(&mut BytesMut),
) -> Entry {
    let mut builder = Builder::new(codec);
    for (index, (key, value)) in records.iter().enumerate() {
        let record = Record::new(key.as_deref(), value.as_deref());
        builder.push(&record.with_timestamp(1_000 + index as i64)).unwrap();
    }
    let outgoing = builder.finish(&mut Compressor::default()).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&outgoing.stamped(Stamp::NONE));
    bytes.put_slice(outgoing.payload());
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Entry::Batch(Batch::try_new(bytes.freeze()).unwrap())
}

fn batch(base_offset: i64, records: &[Plain]) -> Entry {
    batch_with(Codec::None, base_offset, records, |_| {})
}

fn route(plan: &Plan, from: i64, entries: &[Entry]) -> Routed {
    let next_offset = entries.last().map_or(from, Entry::next_offset);
    let budget = Budget::new(64 << 20);
    Router::new(&budget).route(plan, Stretch { from, entries, next_offset })
}

fn ways(routed: &Routed) -> Vec<Way> {
    routed.sections.iter().flat_map(|section| &section.parcels).map(|parcel| parcel.way).collect()
}

/// Records by destination partition, in order.
fn delivered(routed: &Routed) -> BTreeMap<i32, Vec<Plain>> {
    let mut delivered: BTreeMap<i32, Vec<Plain>> = BTreeMap::new();
    let mut decompressor = Decompressor::new(1 << 30);
    for parcel in routed.sections.iter().flat_map(|section| &section.parcels) {
        let to = delivered.entry(parcel.partition).or_default();
        for record in parcel.outgoing.records(&mut decompressor).unwrap() {
            let record = record.unwrap();
            to.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
        }
    }
    delivered
}

fn payload(entry: &Entry) -> Bytes {
    match entry {
        Entry::Batch(batch) => batch.payload(),
        Entry::Legacy(_) => unreachable!("these tests make no such sets"),
    }
}

#[test]
fn a_plain_batch_passes_with_its_payload_untouched() {
    for codec in Codec::ALL {
        let entry = batch_with(codec, 70, &[keyed("a", "1"), keyed("b", "2")], |_| {});
        let routed = route(&plan(Mapping::Fixed(5)), 70, std::slice::from_ref(&entry));
        assert_eq!(ways(&routed), [Way::Whole]);
        let parcel = &routed.sections[0].parcels[0];
        assert_eq!(parcel.outgoing.payload().as_ptr(), payload(&entry).as_ptr(), "{codec}");
        assert_eq!((parcel.partition, parcel.offsets), (5, Offsets { first: 70, last: 71 }));
        assert_eq!((routed.end(), routed.decompressed, routed.records), (Some(72), 0, 2));
    }
}

#[test]
fn small_batches_in_a_row_become_one() {
    for codec in Codec::ALL {
        let entries = [3, 4, 5].map(|at| batch_with(codec, at, &[keyed("a", "1")], |_| {}));
        let routed = route(&plan(Mapping::Fixed(0)), 3, &entries);
        assert_eq!(ways(&routed), [Way::Small], "{codec}");
        assert_eq!(delivered(&routed)[&0], vec![keyed("a", "1"); 3]);
        let parcel = &routed.sections[0].parcels[0];
        assert_eq!((parcel.offsets, routed.end()), (Offsets { first: 3, last: 5 }, Some(6)));
        assert_eq!(parcel.outgoing.codec(), codec);
        assert_eq!((routed.records, routed.decompressed), (3, 0));
    }
}

#[test]
fn a_row_ends_where_a_batch_differs_and_order_is_kept() {
    let large = "x".repeat(40 << 10);
    let records = [keyed("a", "1"), keyed("b", "2"), keyed("c", &large), keyed("d", "4")];
    let of = |at: i64| records[at as usize].clone();
    let mut entries: Vec<Entry> = (0..4).map(|at| batch(at, &[of(at)])).collect();
    entries.push(batch_with(Codec::Lz4, 4, &[of(0)], |_| {}));
    entries.push(batch_with(Codec::Lz4, 5, &[of(1)], |_| {}));
    // Offset 7 is missing behind this one, so its records are written anew.
    entries.push(batch_with(Codec::Lz4, 6, &[of(0)], |bytes| {
        bytes[23..27].copy_from_slice(&1_i32.to_be_bytes());
    }));
    entries.push(batch_with(Codec::Lz4, 8, &[of(3)], |_| {}));
    let routed = route(&plan(Mapping::Fixed(0)), 0, &entries);
    let expected = [Way::Small, Way::Whole, Way::Whole, Way::Small, Way::Gaps, Way::Whole];
    assert_eq!(ways(&routed), expected);
    let order = [of(0), of(1), of(2), of(3), of(0), of(1), of(0), of(3)];
    assert_eq!(delivered(&routed)[&0], order);
    let ends: Vec<i64> = routed.sections.iter().map(|section| section.next_offset).collect();
    assert_eq!(ends, [2, 3, 4, 6, 8, 9]);
}

#[test]
fn a_row_is_no_larger_than_new_batches_are_made() {
    let entries: Vec<Entry> =
        (0..100).map(|at| batch(at, &[keyed("a", &"x".repeat(500))])).collect();
    let mut plan = plan(Mapping::Fixed(0));
    plan.batch_bytes = 5_000;
    let routed = route(&plan, 0, &entries);
    assert!((10..20).contains(&routed.sections.len()), "{}", routed.sections.len());
    let sizes = routed.sections.iter().flat_map(|section| &section.parcels);
    assert!(sizes.clone().all(|parcel| parcel.outgoing.len_bytes() <= 5_000));
    assert_eq!(sizes.map(|parcel| parcel.outgoing.records_count()).sum::<i32>(), 100);
}

#[test]
fn a_row_of_compressed_batches_is_bounded_uncompressed_too() {
    let entries: Vec<Entry> = (0..100)
        .map(|at| batch_with(Codec::Zstd, at, &[keyed("a", &"x".repeat(2_000))], |_| {}))
        .collect();
    for mapping in [Mapping::Fixed(0), Mapping::Keys(4)] {
        let plan = Plan { batch_bytes: 12_500, ..plan(mapping) };
        let routed = route(&plan, 0, &entries);
        let parcels = routed.sections.iter().flat_map(|section| &section.parcels);
        let counts: Vec<i32> = parcels.map(|parcel| parcel.outgoing.records_count()).collect();
        assert_eq!(counts, [24, 24, 24, 24, 4]);
        assert_eq!(routed.end(), Some(100));
    }
}

#[test]
fn a_batch_that_cannot_be_read_passes_alone() {
    let good = |at| batch_with(Codec::Zstd, at, &[keyed("a", "1")], |_| {});
    // Uncompressed bytes that say they are zstd.
    let bad = batch_with(Codec::None, 2, &[keyed("a", "1")], |bytes| bytes[22] |= 4);
    let entries = [good(0), good(1), bad, good(3), good(4)];
    let routed = route(&plan(Mapping::Fixed(0)), 0, &entries);
    assert_eq!(ways(&routed), [Way::Small, Way::Whole, Way::Small]);
    assert_eq!((routed.end(), routed.halt), (Some(5), None));
}

#[test]
fn a_batch_that_begins_before_the_position_loses_its_first_records() {
    let entry = batch(10, &[keyed("a", "1"), keyed("b", "2"), keyed("c", "3")]);
    let routed = route(&plan(Mapping::Fixed(0)), 11, &[entry]);
    assert_eq!(ways(&routed), [Way::Resume]);
    assert_eq!(delivered(&routed)[&0], [keyed("b", "2"), keyed("c", "3")]);
    assert_eq!(routed.sections[0].parcels[0].offsets, Offsets { first: 11, last: 12 });
}

#[test]
fn a_batch_with_gaps_is_rebuilt_and_the_position_passes_the_gap() {
    let entry = batch_with(Codec::Lz4, 10, &[keyed("a", "1"), keyed("b", "2")], |bytes| {
        bytes[23..27].copy_from_slice(&7_i32.to_be_bytes());
    });
    let routed = route(&plan(Mapping::Fixed(0)), 10, &[entry]);
    assert_eq!(ways(&routed), [Way::Gaps]);
    assert_eq!(routed.end(), Some(18));
    let outgoing = &routed.sections[0].parcels[0].outgoing;
    assert_eq!((outgoing.codec(), outgoing.header().last_offset_delta), (Codec::Lz4, 1));
}

#[test]
fn control_and_empty_batches_make_nothing_and_the_position_passes_them() {
    let control = batch_with(Codec::None, 10, &[keyed("a", "1")], |bytes| bytes[22] |= 0b11_0000);
    let routed = route(&plan(Mapping::Fixed(0)), 10, std::slice::from_ref(&control));
    assert!(ways(&routed).is_empty());
    assert_eq!(routed.end(), Some(11));
    let routed = route(&plan(Mapping::Keys(4)), 10, &[control]);
    assert!(ways(&routed).is_empty());
    assert_eq!(routed.end(), Some(11));
}

#[test]
fn append_times_are_kept_visible_unless_the_plan_clears_them() {
    let entry = batch_with(Codec::None, 0, &[keyed("a", "1"), keyed("b", "2")], |bytes| {
        bytes[22] |= 0b1000;
        bytes[35..43].copy_from_slice(&9_000_i64.to_be_bytes());
    });
    let mut plan = plan(Mapping::Fixed(0));
    let routed = route(&plan, 0, std::slice::from_ref(&entry));
    assert_eq!(ways(&routed), [Way::AppendTime]);
    let mut decompressor = Decompressor::new(1 << 20);
    let outgoing = &routed.sections[0].parcels[0].outgoing;
    for record in outgoing.records(&mut decompressor).unwrap() {
        assert_eq!(record.unwrap().timestamp, 9_000);
    }
    plan.append_time = LogAppendTime::Clear;
    assert_eq!(ways(&route(&plan, 0, &[entry])), [Way::Whole]);
}

#[test]
fn another_codec_is_only_made_when_it_is_asked_for() {
    let mut plan = plan(Mapping::Fixed(0));
    plan.codec = Some(Codec::Zstd);
    let entries = [
        batch_with(Codec::Gzip, 0, &[keyed("a", "1")], |_| {}),
        batch_with(Codec::Zstd, 1, &[keyed("b", "2")], |_| {}),
    ];
    let routed = route(&plan, 0, &entries);
    assert_eq!(ways(&routed), [Way::Codec, Way::Whole]);
    assert_eq!(routed.sections[0].parcels[0].outgoing.codec(), Codec::Zstd);
}

#[test]
fn a_batch_above_the_destinations_limit_is_cut_and_one_record_is_left_to_it() {
    let big = "x".repeat(1_000);
    let records: Vec<Plain> = (0..8).map(|index| keyed(&index.to_string(), &big)).collect();
    let mut plan = plan(Mapping::Fixed(0));
    plan.batch_bytes_max = 2_500;
    let routed = route(&plan, 0, &[batch(0, &records)]);
    assert_eq!(ways(&routed), [Way::Limit; 4]);
    assert_eq!(routed.sections.len(), 1);
    assert_eq!(delivered(&routed)[&0], records);
    let offsets: Vec<_> = routed.sections[0].parcels.iter().map(|parcel| parcel.offsets).collect();
    assert_eq!(offsets[1], Offsets { first: 2, last: 3 });
    plan.batch_bytes_max = 100;
    assert_eq!(ways(&route(&plan, 0, &[batch(0, &records)])), [Way::Limit; 8]);
}

#[test]
fn a_record_without_a_key_halts_or_is_skipped_when_the_destination_is_compacted() {
    let entries = [
        batch(0, &[keyed("a", "1")]),
        batch(1, &[keyed("b", "2"), (None, Some(b"lost".to_vec())), keyed("c", "3")]),
    ];
    for mapping in [Mapping::Fixed(0), Mapping::Keys(1)] {
        let mut plan = plan(mapping);
        plan.null_key = Some(Refused::Halt);
        let routed = route(&plan, 0, &entries);
        assert_eq!(routed.halt, Some(Halt::NullKey { offset: 2 }));
        assert_eq!(routed.end(), Some(1), "what comes before is mirrored");
        plan.null_key = Some(Refused::Skip);
        let routed = route(&plan, 0, &entries);
        assert_eq!(routed.halt, None);
        assert_eq!(routed.skipped[0].offset, 2);
        let expected = [keyed("a", "1"), keyed("b", "2"), keyed("c", "3")];
        assert_eq!(delivered(&routed)[&0], expected);
    }
}

#[test]
fn a_batch_of_one_key_passes_whole_when_keys_are_hashed() {
    let entry = batch_with(Codec::Lz4, 0, &[keyed("a", "1"), keyed("a", "2")], |_| {});
    let routed = route(&plan(Mapping::Keys(12)), 0, std::slice::from_ref(&entry));
    assert_eq!(ways(&routed), [Way::OneDestination]);
    let parcel = &routed.sections[0].parcels[0];
    assert_eq!(parcel.partition, for_key(b"a", 12));
    assert_eq!(parcel.outgoing.payload().as_ptr(), payload(&entry).as_ptr());
}

#[test]
fn batches_without_keys_stay_together_and_are_spread() {
    let entries: Vec<Entry> = (0..200)
        .map(|index| batch(index * 2, &[(None, Some(vec![1])), (None, Some(vec![2]))]))
        .collect();
    let routed = route(&plan(Mapping::Keys(4)), 0, &entries);
    assert_eq!(ways(&routed), [Way::Small; 4]);
    let delivered = delivered(&routed);
    assert_eq!(delivered.len(), 4);
    assert!(delivered.values().all(|records| records.len() > 40));
}

#[test]
fn rows_to_each_destination_keep_their_order_with_what_is_split() {
    let (one, two) = ("a", (0..).map(|n| n.to_string()).find(|key| differs("a", key)).unwrap());
    let both = [keyed(one, "2"), keyed(&two, "3")];
    let large = "x".repeat(40 << 10);
    let entries = [
        batch(0, &[keyed(one, "0")]),
        batch(1, &[keyed(&two, "1")]),
        batch(2, &[keyed(one, "1")]),
        batch(3, &both),
        batch(5, &[keyed(one, "4")]),
        batch(6, &[keyed(one, &large)]),
        batch(7, &[keyed(&two, "5")]),
    ];
    let routed = route(&plan(Mapping::Keys(4)), 0, &entries);
    let [first, second] = [one, &two].map(|key| for_key(key.as_bytes(), 4));
    let to_first = ["0", "1", "2", "4", &large].map(|value| keyed(one, value));
    assert_eq!(delivered(&routed)[&first], to_first);
    assert_eq!(delivered(&routed)[&second], ["1", "3", "5"].map(|value| keyed(&two, value)));
    let small = ways(&routed).iter().filter(|way| **way == Way::Small).count();
    assert_eq!(small, 1, "{:?}", ways(&routed));
}

fn differs(one: &str, other: &str) -> bool {
    for_key(one.as_bytes(), 4) != for_key(other.as_bytes(), 4)
}

#[test]
fn a_record_that_cannot_be_read_halts_after_what_comes_before_it() {
    let broken = batch_with(Codec::None, 1, &[keyed("a", "1")], |bytes| bytes[61] = 0x7f);
    let entries = [batch(0, &[keyed("a", "0")]), broken, batch(2, &[keyed("a", "2")])];
    let routed = route(&plan(Mapping::Keys(4)), 0, &entries);
    assert!(matches!(routed.halt, Some(Halt::Corrupt { offset: 1, .. })), "{:?}", routed.halt);
    assert_eq!(routed.end(), Some(1));
    assert_eq!(delivered(&routed).len(), 1);
}

proptest! {
    /// Whatever the batches and wherever it resumes: every record from the position on arrives
    /// once, where its key says, in its order.
    #[test]
    fn keys_decide_and_order_is_kept(
        batches in prop::collection::vec(
            (prop::collection::vec((0_u8..20, any::<bool>(), 0_usize..200), 1..12), 0_u8..5),
            1..12,
        ),
        count in 1_i32..9,
        skip in 0_i64..20,
        batch_bytes in 200_usize..2_000,
    ) {
        let mut entries = Vec::new();
        let mut expected: Vec<Plain> = Vec::new();
        let mut offset = 0;
        for (records, codec) in batches {
            let plain: Vec<Plain> = records
                .iter()
                .enumerate()
                .map(|(index, (key, has_key, length))| {
                    let mut value = format!("{}-", offset + index as i64).into_bytes();
                    value.resize(value.len() + length, b'v');
                    (has_key.then(|| vec![*key]), Some(value))
                })
                .collect();
            let codec = Codec::from_id(i8::try_from(codec).unwrap()).unwrap();
            entries.push(batch_with(codec, offset, &plain, |_| {}));
            offset += plain.len() as i64;
            expected.extend(plain);
        }
        let from = skip.min(offset);
        let mut plan = plan(Mapping::Keys(count));
        plan.batch_bytes = batch_bytes;
        let routed = route(&plan, from, &entries);
        prop_assert_eq!(routed.halt.clone(), None);
        prop_assert!(from == offset || routed.end() == Some(offset));
        let delivered = delivered(&routed);
        let expected = &expected[usize::try_from(from).unwrap()..];
        let total: usize = delivered.values().map(Vec::len).sum();
        prop_assert_eq!(total, expected.len());
        for (partition, records) in &delivered {
            let here: Vec<&Plain> = records.iter().collect();
            let order: Vec<&Plain> =
                expected.iter().filter(|record| here.contains(record)).collect();
            prop_assert_eq!(&here, &order, "partition {}", partition);
            for key in records.iter().filter_map(|(key, _)| key.as_ref()) {
                prop_assert_eq!(for_key(key, count), *partition);
            }
        }
    }
}
