//! Splitting, passing through and stamping, seen from outside.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::header::LEN;
use super::passthrough::LogAppendTime;
use super::rebuild::Builder;
use super::split::{Error, Partial};
use super::testing::{sent, with_header};
use super::*;

/// A batch of those records as a source would serve it: at an offset, by an idempotent
/// producer, of a leader epoch.
fn fetched(codec: Codec, base_offset: i64, values: &[&[u8]]) -> Bytes {
    let mut builder = Builder::new(codec);
    for (index, value) in values.iter().enumerate() {
        let record = Record::new(Some(b"key"), Some(value));
        builder.push(&record.with_timestamp(1_000 + index as i64)).unwrap();
    }
    let batch = builder.finish(&mut Compressor::default()).unwrap();
    let stamp =
        Stamp { producer_id: 4000, producer_epoch: 3, base_sequence: 17, is_transactional: true };
    let header = Header {
        base_offset,
        partition_leader_epoch: 5,
        ..Header::parse(&batch.stamped(stamp)).unwrap()
    };
    Bytes::from([&header.encode()[..], &batch.payload()[..]].concat())
}

fn only_batch(bytes: &Bytes) -> Batch {
    Batch::try_new(bytes.clone()).unwrap()
}

fn is_slice_of(part: &Bytes, whole: &Bytes) -> bool {
    whole.as_ptr_range().contains(&part.as_ptr())
}

#[test]
fn a_response_is_split_without_copying() {
    let first = fetched(Codec::None, 100, &[b"a", b"b"]);
    let second = fetched(Codec::Lz4, 102, &[b"c"]);
    let response = Bytes::from([&first[..], &second[..], &first[..30]].concat());
    let mut entries = split(response.clone());
    let mut offsets = Vec::new();
    for entry in entries.by_ref() {
        let Entry::Batch(batch) = entry.unwrap() else { panic!("a v2 batch") };
        assert!(is_slice_of(batch.bytes(), &response));
        assert!(is_slice_of(&batch.payload(), &response));
        offsets.push((batch.header().base_offset, batch.header().next_offset()));
    }
    assert_eq!(offsets, [(100, 102), (102, 103)]);
    let partial = Partial { present_bytes: 30, needed_bytes: Some(first.len()) };
    assert_eq!(entries.partial(), Some(partial));
}

#[test]
fn an_entry_may_be_cut_at_any_byte() {
    let batch = fetched(Codec::Gzip, 7, &[b"value"]);
    for end in 0..batch.len() {
        let mut entries = split(batch.slice(..end));
        assert!(entries.next().is_none(), "{end}");
        assert_eq!(entries.partial().map_or(0, |partial| partial.present_bytes), end);
    }
    let mut whole = split(batch);
    assert!(whole.next().unwrap().is_ok());
    assert!(whole.next().is_none());
    assert_eq!(whole.partial(), None);
}

#[test]
fn any_flipped_bit_under_the_checksum_is_found_and_its_offset_named() {
    let batch = fetched(Codec::None, 9, &[b"value"]);
    for at in header::CRC_COVERED_FROM..batch.len() {
        let mut damaged = BytesMut::from(&batch[..]);
        damaged[at] ^= 1;
        let mut entries = split(damaged.freeze());
        let error = entries.next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Checksum { offset: 9, .. }), "{at}");
        assert!(error.is_retryable());
        assert!(entries.next().is_none(), "nothing comes after an error");
    }
}

#[test]
fn garbage_names_the_offset_it_claims() {
    let batch = fetched(Codec::None, 9, &[b"value"]);
    let with = |at: usize, bytes: &[u8]| {
        let mut damaged = BytesMut::from(&batch[..]);
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        split(damaged.freeze()).next().unwrap().unwrap_err()
    };
    assert_eq!(with(16, &[3]), Error::Magic { offset: 9, magic: 3 });
    assert_eq!(with(16, &[0xff]), Error::Magic { offset: 9, magic: -1 });
    assert_eq!(with(8, &[0, 0, 0, 13]), Error::Length { offset: 9, length: 13 });
    assert_eq!(with(8, &[0, 0, 0, 48]), Error::Length { offset: 9, length: 48 });
    assert_eq!(with(8, &[0xff; 4]), Error::Length { offset: 9, length: -1 });
}

#[test]
fn a_header_that_contradicts_itself_is_no_batch() {
    let batch = fetched(Codec::None, 9, &[b"value"]);
    for change in [
        (|header| header.records_count = -1) as fn(&mut Header),
        |header| header.last_offset_delta = -1,
        |header| header.base_offset = -5,
        |header| header.base_offset = i64::MAX,
    ] {
        let error = split(with_header(&batch, change)).next().unwrap().unwrap_err();
        assert!(matches!(error, Error::Header { .. }));
    }
}

#[test]
fn a_passed_batch_keeps_its_payload_and_loses_its_producer() {
    for codec in Codec::ALL {
        let source = only_batch(&fetched(codec, 100, &[b"a", b"b", b"c"]));
        let outgoing = Outgoing::passthrough(&source).unwrap();
        assert!(is_slice_of(outgoing.payload(), source.bytes()));
        assert_eq!(outgoing.codec(), codec);
        assert_eq!(outgoing.len_bytes(), source.bytes().len());
        let sent = sent(&outgoing, Stamp::NONE);
        let expected = Header {
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: Attributes::of_codec(codec),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            crc: sent.header().crc,
            ..*source.header()
        };
        assert_eq!(sent.header(), &expected);
    }
}

#[test]
fn a_batch_is_stamped_anew_as_often_as_need_be() {
    let source = only_batch(&fetched(Codec::Snappy, 100, &[b"a", b"b"]));
    let outgoing = Outgoing::passthrough(&source).unwrap();
    let first =
        Stamp { producer_id: 7, producer_epoch: 0, base_sequence: 0, is_transactional: false };
    let fenced = Stamp { producer_epoch: 1, is_transactional: true, ..first };
    for stamp in [first, fenced, Stamp::NONE, first] {
        let header = *sent(&outgoing, stamp).header();
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (stamp.producer_id, stamp.producer_epoch, stamp.base_sequence)
        );
        assert_eq!(header.attributes.is_transactional(), stamp.is_transactional);
    }
}

#[test]
fn damage_after_the_fetch_is_found_at_the_destination() {
    let bytes = fetched(Codec::None, 100, &[b"a", b"b"]);
    let source = only_batch(&bytes);
    let outgoing = Outgoing::passthrough(&source).unwrap();
    let mut wire = [&outgoing.stamped(Stamp::NONE)[..], &outgoing.payload()[..]].concat();
    *wire.last_mut().unwrap() ^= 0x40;
    let error = Batch::try_new(Bytes::from(wire)).unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }));
}

#[test]
fn every_refusal_has_its_cause() {
    let batch = fetched(Codec::None, 0, &[b"a", b"b"]);
    let refused = |change: fn(&mut Header)| {
        let batch = only_batch(&with_header(&batch, change));
        Outgoing::passthrough(&batch).unwrap_err()
    };
    let gaps = refused(|header| header.last_offset_delta = 4);
    assert_eq!(gaps, Refusal::Gaps { records_count: 2, offsets: 5 });
    let huge = refused(|header| header.last_offset_delta = i32::MAX);
    assert_eq!(huge, Refusal::Gaps { records_count: 2, offsets: 1 << 31 });
    assert_eq!(refused(|header| header.records_count = 0), Refusal::Empty);
    let control = refused(|header| header.attributes = Attributes::from_bits(0x20));
    assert_eq!(control, Refusal::Control);
    let unknown = refused(|header| header.attributes = Attributes::from_bits(0x180));
    assert_eq!(unknown, Refusal::UnknownAttributes { bits: 0x180 });
    let codec = refused(|header| header.attributes = Attributes::from_bits(5));
    assert_eq!(codec, Refusal::UnknownCodec { codec_id: 5 });
    let append_time = refused(|header| header.attributes = Attributes::from_bits(8));
    assert_eq!(append_time, Refusal::LogAppendTime);
    assert_eq!(append_time.reason(), "log_append_time");
}

#[test]
fn flags_of_the_source_are_cleared() {
    let batch = fetched(Codec::None, 0, &[b"a"]);
    // Transactional, delete horizon, log append time.
    let batch = with_header(&batch, |header| header.attributes = Attributes::from_bits(0x58));
    let outgoing = Outgoing::passthrough_with(&only_batch(&batch), LogAppendTime::Clear).unwrap();
    assert_eq!(sent(&outgoing, Stamp::NONE).header().attributes.bits(), 0);
}

#[test]
fn sequences_wrap_to_zero() {
    let stamp = Stamp { base_sequence: i32::MAX - 1, producer_id: 1, ..Stamp::NONE };
    assert_eq!(stamp.after(1).base_sequence, i32::MAX);
    assert_eq!(stamp.after(2).base_sequence, 0);
    assert_eq!(stamp.after(5).base_sequence, 3);
    assert_eq!(Stamp::NONE.after(5), Stamp::NONE);
}

#[test]
fn control_batches_say_what_became_of_the_transaction() {
    let marker = |key: &'static [u8]| {
        let mut builder = Builder::new(Codec::None);
        builder.push(&Record::new(Some(key), Some(&[0; 6]))).unwrap();
        let batch = builder.finish(&mut Compressor::default()).unwrap();
        let bytes = sent(&batch, Stamp::NONE).bytes().clone();
        let control = |header: &mut Header| header.attributes = Attributes::from_bits(0x30);
        only_batch(&with_header(&bytes, control)).marker()
    };
    assert_eq!(marker(&[0, 0, 0, 0]), Some(Marker::Abort));
    assert_eq!(marker(&[0, 0, 0, 1]), Some(Marker::Commit));
    assert_eq!(marker(&[0, 0, 0, 9]), Some(Marker::Other));
    assert_eq!(marker(&[]), Some(Marker::Other));
    assert_eq!(only_batch(&fetched(Codec::None, 0, &[b"a"])).marker(), None);
}

#[test]
fn log_append_time_is_the_timestamp_of_all_records() {
    let batch = fetched(Codec::None, 0, &[b"a", b"b"]);
    let batch = only_batch(&with_header(&batch, |header| {
        header.attributes = Attributes::from_bits(8);
        header.max_timestamp = 9_999;
    }));
    let mut decompressor = Decompressor::new(1 << 20);
    for record in batch.records(&mut decompressor).unwrap() {
        assert_eq!(record.unwrap().timestamp, 9_999);
    }
}

#[test]
fn a_count_that_lies_allocates_nothing_and_is_an_error() {
    let batch = fetched(Codec::None, 0, &[b"a", b"b"]);
    let mut decompressor = Decompressor::new(1 << 20);
    let more = only_batch(&with_header(&batch, |header| header.records_count = i32::MAX));
    let mut records = more.records(&mut decompressor).unwrap();
    assert!(records.size_hint().1.unwrap() < 10);
    assert!(records.by_ref().take(2).all(|record| record.is_ok()));
    assert!(matches!(records.next(), Some(Err(records::Error::Record { index: 2, .. }))));
    assert!(records.next().is_none());
    let fewer = only_batch(&with_header(&batch, |header| header.records_count = 1));
    let last = fewer.records(&mut decompressor).unwrap().last();
    assert!(matches!(last, Some(Err(records::Error::Trailing { count: 1, .. }))));
}

#[test]
fn a_batch_alone_is_taken_whole_or_not_at_all() {
    let bytes = fetched(Codec::None, 3, &[b"a"]);
    assert!(Batch::try_new(bytes.clone()).is_ok());
    assert!(Batch::try_new(bytes.slice(..bytes.len() - 1)).is_err());
    assert!(Batch::try_new(Bytes::from([&bytes[..], &[0]].concat())).is_err());
    assert!(Batch::try_new(Bytes::new()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        magic in 0..3u8,
        length in any::<u8>(),
        checksum in any::<bool>(),
    ) {
        if bytes.len() > LEN {
            bytes[8..12].copy_from_slice(&[0, 0, 0, length]);
            bytes[16] = magic;
            let end = (usize::from(length) + 12).min(bytes.len());
            if checksum && end > LEN {
                let crc = match magic {
                    2 => crc32c::crc32c(&bytes[21..end]).to_be_bytes(),
                    _ => legacy::crc32(&bytes[16..end]).to_be_bytes(),
                };
                let at = if magic == 2 { 17 } else { 12 };
                bytes[at..at + 4].copy_from_slice(&crc);
            }
        }
        let mut decompressor = Decompressor::new(1 << 16);
        for entry in split(Bytes::from(bytes)) {
            match entry {
                Ok(Entry::Batch(batch)) => {
                    let _ = Outgoing::passthrough(&batch);
                    let _ = batch.marker();
                    if let Ok(records) = batch.records(&mut decompressor) {
                        records.flatten().for_each(|record| record.headers.iter().for_each(drop));
                    }
                }
                Ok(Entry::Legacy(set)) => {
                    if let Ok(records) = set.records(&mut decompressor) {
                        records.for_each(drop);
                    }
                }
                Err(_) => {}
            }
        }
    }
}
