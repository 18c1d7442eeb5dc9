//! Each codec on 128 KiB of JSON, and the hash of keys.

use std::hint::black_box;
use std::num::NonZeroU32;

use kmirror_client::batch::{Codec, Compressor, Decompressor, Levels};
use kmirror_client::partitioner::partition_for_key;

use super::Case;
use crate::data;

const BYTES: usize = 128 << 10;
const KEYS: usize = 1000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![hash()];
    // None hands on what it was given: some fifty instructions, and three more are over 5 %.
    let codecs = Codec::ALL.into_iter().filter(|codec| *codec != Codec::None);
    cases.extend(codecs.clone().map(compress));
    cases.extend(codecs.map(decompress));
    cases
}

fn hash() -> Case {
    Case::new("hash/16B", (KEYS * 16, KEYS), || {
        let keys = data::keys(KEYS);
        let twelve = NonZeroU32::new(12).expect("invariant: 12 is not 0");
        Box::new(move || {
            for key in &keys {
                black_box(partition_for_key(black_box(key), twelve));
            }
        })
    })
}

fn compress(codec: Codec) -> Case {
    Case::new(format!("compress/{codec}"), (BYTES, 0), move || {
        let input = data::json(BYTES);
        let mut compressor = Compressor::new(Levels::default());
        Box::new(move || {
            black_box(compressor.compress(codec, black_box(&input)));
        })
    })
}

fn decompress(codec: Codec) -> Case {
    Case::new(format!("decompress/{codec}"), (BYTES, 0), move || {
        let mut compressor = Compressor::new(Levels::default());
        let input = compressor.compress(codec, &data::json(BYTES)).to_vec();
        let mut decompressor = Decompressor::new(16 << 20);
        Box::new(move || {
            let output = decompressor.decompress(codec, black_box(&input));
            assert_eq!(output.map(<[u8]>::len), Ok(BYTES));
        })
    })
}
