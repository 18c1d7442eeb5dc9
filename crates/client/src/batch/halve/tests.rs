//! Halves against the batch they were cut from.

use proptest::prelude::*;

use super::*;
use crate::batch::testing::{OwnedRecord, build, codec, read, records};
use crate::batch::{Codec, Levels};

fn recoder() -> Recoder {
    Recoder::new(Levels::default(), 16 << 20)
}

fn of_sizes(codec: Codec, sizes: &[usize]) -> Outgoing {
    let records: Vec<_> = sizes
        .iter()
        .map(|&size| OwnedRecord {
            timestamp: 5,
            key: None,
            value: Some(vec![7; size]),
            headers: Vec::new(),
        })
        .collect();
    build(codec, &records)
}

proptest! {
    #[test]
    fn two_halves_hold_the_records_of_the_whole(records in records(), codec in codec()) {
        prop_assume!(records.len() > 1);
        let [first, second] = recoder().halve(&build(codec, &records)).unwrap();
        prop_assert_eq!(first.codec(), codec);
        prop_assert_eq!(second.codec(), codec);
        prop_assert_eq!([read(&first), read(&second)].concat(), records);
    }

    #[test]
    fn halving_to_the_end_leaves_single_records(records in records(), codec in codec()) {
        let mut recoder = recoder();
        let mut left = vec![build(codec, &records)];
        let mut singles = Vec::new();
        while let Some(batch) = left.pop() {
            match recoder.halve(&batch) {
                Ok([first, second]) => left.extend([second, first]),
                Err(error) => {
                    prop_assert_eq!(error, Error::SingleRecord);
                    singles.push(batch);
                }
            }
        }
        let found: Vec<_> = singles.iter().flat_map(read).collect();
        prop_assert_eq!(found, records);
    }
}

#[test]
fn the_cut_is_where_half_of_the_bytes_are() {
    let counts = |sizes: &[usize]| {
        let [first, second] = recoder().halve(&of_sizes(Codec::None, sizes)).unwrap();
        (first.records_count(), second.records_count())
    };
    assert_eq!(counts(&[100, 100, 100, 100]), (2, 2));
    assert_eq!(counts(&[9000, 100, 100, 100]), (1, 3));
    assert_eq!(counts(&[100, 100, 100, 9000]), (3, 1));
    assert_eq!(counts(&[0, 0]), (1, 1));
}
