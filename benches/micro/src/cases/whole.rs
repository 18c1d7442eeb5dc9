//! Batches that go through whole: cut out of an answer, verified, their headers patched.

use std::hint::black_box;

use kmirror_client::batch::{Batch, Codec, Outgoing, Stamp, header, split};

use super::Case;
use crate::data::{self, Shape};

pub(super) fn cases() -> Vec<Case> {
    vec![
        cut("split/64x16KiB", Shape::kib(Codec::None, 16), 64),
        cut("split/1000xone", Shape { codec: Codec::None, records: 1, value_bytes: 100 }, 1000),
        pass(1),
        pass(16),
        pass(1024),
    ]
}

fn cut(name: &str, shape: Shape, count: usize) -> Case {
    let bytes = (shape.bytes() + header::LEN) * count;
    Case::new(name, (bytes, count), move || {
        let records = data::record_set(shape, count);
        Box::new(move || {
            let cut = split(black_box(records.clone())).filter(Result::is_ok).count();
            assert_eq!(cut, count);
        })
    })
}

/// From the bytes of a batch of so many KiB to what is written to the destination.
pub(crate) fn pass(kib: usize) -> Case {
    let shape = Shape::kib(Codec::None, kib);
    let bytes = shape.bytes();
    Case::new(format!("pass/{kib}KiB"), (bytes, 0), move || {
        let bytes = data::stored(&data::outgoing(shape, 1), 5000);
        let stamp =
            Stamp { producer_id: 9, producer_epoch: 0, base_sequence: 3, is_transactional: false };
        Box::new(move || {
            let batch = Batch::try_new(black_box(bytes.clone())).expect("invariant: we made it");
            let outgoing = Outgoing::passthrough(&batch).expect("invariant: it may pass");
            black_box((outgoing.stamped(stamp), outgoing.payload()));
        })
    })
}
