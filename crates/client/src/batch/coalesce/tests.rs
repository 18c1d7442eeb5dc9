//! Joined batches against the batches they were joined from.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::header::LEN;
use crate::batch::rebuild::Builder;
use crate::batch::testing::{build, codec, read, records, sent, with_header};
use crate::batch::{Attributes, Batch, Codec, Compressor, Decompressor, Levels, Record, Stamp};

fn recoder() -> Recoder {
    Recoder::new(Levels::default(), 16 << 20)
}

proptest! {
    #[test]
    fn a_joined_batch_holds_the_records_of_all_in_order(
        parts in vec((records(), codec()), 1..6),
    ) {
        let batches: Vec<_> =
            parts.iter().map(|(records, codec)| build(*codec, records)).collect();
        let joined = recoder().coalesce(&batches, usize::MAX).unwrap().batch;
        prop_assert_eq!(joined.codec(), parts[0].1);
        let expected: Vec<_> = parts.into_iter().flat_map(|(records, _)| records).collect();
        prop_assert_eq!(read(&joined), expected);
    }

    #[test]
    fn joining_is_what_one_builder_would_have_made(
        parts in vec(records(), 2..5),
        codec in codec(),
    ) {
        let batches: Vec<_> = parts.iter().map(|records| build(codec, records)).collect();
        let joined = recoder().coalesce(&batches, usize::MAX).unwrap().batch;
        let whole = build(codec, &parts.concat());
        prop_assert_eq!(joined.stamped(Stamp::NONE), whole.stamped(Stamp::NONE));
        prop_assert_eq!(joined.payload(), whole.payload());
    }

    #[test]
    fn halves_joined_again_are_the_whole(records in records(), codec in codec()) {
        prop_assume!(records.len() > 1);
        let whole = build(codec, &records);
        let mut recoder = recoder();
        let halves = recoder.halve(&whole).unwrap();
        let joined = recoder.coalesce(&halves, usize::MAX).unwrap().batch;
        prop_assert_eq!(joined.payload(), whole.payload());
        prop_assert_eq!(joined.stamped(Stamp::NONE), whole.stamped(Stamp::NONE));
    }
}

proptest! {
    /// However it is cut, nothing is lost, and only a batch that is too large by itself is.
    #[test]
    fn a_join_is_within_its_bytes_and_the_next_goes_on_behind_it(
        parts in vec(records(), 1..8),
        codec in codec(),
        bytes_max in 0_usize..2_000,
    ) {
        let batches: Vec<_> = parts.iter().map(|records| build(codec, records)).collect();
        let mut recoder = recoder();
        let mut read_back = Vec::new();
        let mut rest = &batches[..];
        while let Some(Joined { batch, count }) = recoder.coalesce(rest, bytes_max) {
            let body = batch.body(&mut Decompressor::new(16 << 20)).unwrap().len();
            let most = if codec == Codec::None { 1 } else { UNCOMPRESSED_LARGER };
            prop_assert!(count == 1 || LEN + body <= most * bytes_max);
            read_back.extend(read(&batch));
            rest = &rest[count..];
        }
        prop_assert_eq!(read_back, parts.concat());
    }
}

fn one_record() -> Outgoing {
    let mut builder = Builder::new(Codec::None);
    builder.push(&Record::new(Some(b"k"), Some(b"v")).with_timestamp(9)).unwrap();
    builder.finish(&mut Compressor::default()).unwrap()
}

#[test]
fn one_batch_alone_is_not_touched() {
    let batch = one_record();
    let alone = recoder().coalesce(std::slice::from_ref(&batch), 0).unwrap();
    assert_eq!(alone.count, 1);
    assert_eq!(alone.batch.payload().as_ptr(), batch.payload().as_ptr());
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_join_and_comes_back_alone() {
    let good = one_record();
    let bytes = with_header(sent(&good, Stamp::NONE).bytes(), |header| {
        header.attributes = Attributes::of_codec(Codec::Gzip);
    });
    let bad = Outgoing::passthrough(&Batch::try_new(bytes).unwrap()).unwrap();
    let batches = [good.clone(), good.clone(), bad.clone(), good.clone()];
    let mut recoder = recoder();
    let joined = recoder.coalesce(&batches, usize::MAX).unwrap();
    assert_eq!(joined.count, 2);
    assert_eq!(read(&joined.batch), [read(&good), read(&good)].concat());
    let joined = recoder.coalesce(&batches[2..], usize::MAX).unwrap();
    assert_eq!(joined.count, 1);
    assert_eq!(joined.batch.payload(), bad.payload());
}

#[test]
fn nothing_cannot_be_joined() {
    assert!(recoder().coalesce(&[], usize::MAX).is_none());
}
