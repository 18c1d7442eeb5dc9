//! Joined batches against the batches they were joined from.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::rebuild::Builder;
use crate::batch::testing::{build, codec, read, records, sent, with_header};
use crate::batch::{Attributes, Batch, Codec, Compressor, Levels, Record, Stamp};

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
        let joined = recoder().coalesce(&batches).unwrap();
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
        let joined = recoder().coalesce(&batches).unwrap();
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
        let joined = recoder.coalesce(&halves).unwrap();
        prop_assert_eq!(joined.payload(), whole.payload());
        prop_assert_eq!(joined.stamped(Stamp::NONE), whole.stamped(Stamp::NONE));
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
    let alone = recoder().coalesce(std::slice::from_ref(&batch)).unwrap();
    assert_eq!(alone.payload().as_ptr(), batch.payload().as_ptr());
}

#[test]
fn a_batch_that_cannot_be_read_is_named_and_the_next_join_is_clean() {
    let good = one_record();
    let bytes = with_header(sent(&good, Stamp::NONE).bytes(), |header| {
        header.attributes = Attributes::of_codec(Codec::Gzip);
    });
    let bad = Outgoing::passthrough(&Batch::try_new(bytes).unwrap()).unwrap();
    let mut recoder = recoder();
    let error = recoder.coalesce(&[good.clone(), bad]).unwrap_err();
    assert!(matches!(error, Error::Batch { index: 1, .. }));
    let joined = recoder.coalesce(&[good.clone(), good.clone()]).unwrap();
    assert_eq!(read(&joined), [read(&good), read(&good)].concat());
}

#[test]
fn nothing_cannot_be_joined() {
    assert_eq!(recoder().coalesce(&[]).unwrap_err(), Error::Empty);
}
