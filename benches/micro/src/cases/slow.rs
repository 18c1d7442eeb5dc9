//! Batches whose records are written anew: gaps of compaction, routing by key, joining, halving.
//!
//! What a turn made is kept until the next one is done, as it is kept in a mirror until it is
//! acknowledged: a buffer that is given away cannot be used again at once.

use std::hint::black_box;

use kmirror::policy::partitioning::Mapping;
use kmirror::testing::Routing;
use kmirror_client::batch::rebuild::Recoder;
use kmirror_client::batch::{Codec, Levels, Outgoing};

use super::{Case, Work};
use crate::data::{self, Shape};

const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// Destination partitions of what is routed by key.
const PARTITIONS: i32 = 12;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(Codec::ALL.map(|codec| gaps(Shape::kib(codec, 256))));
    cases.push(gaps(Shape { codec: Codec::None, records: 2000, value_bytes: 100 }));
    cases.extend(Codec::ALL.map(|codec| keys(Shape::kib(codec, 256))));
    cases.push(keys(Shape { codec: Codec::None, records: 2000, value_bytes: 100 }));
    for codec in [Codec::None, Codec::Lz4] {
        cases.push(coalesce(Shape::kib(codec, 200)));
        cases.push(coalesce(Shape { codec, records: 1000, value_bytes: 100 }));
    }
    cases.extend([Codec::None, Codec::Lz4].map(|codec| halve(Shape::kib(codec, 256))));
    cases
}

fn named(part: &str, shape: Shape) -> String {
    format!("{part}/{}/{}x{}B", shape.codec, shape.records, shape.value_bytes)
}

/// Work that keeps what it makes until it has made the next.
fn keeping<T: 'static>(mut make: impl FnMut() -> T + 'static) -> Work {
    let mut kept = None;
    Box::new(move || drop(black_box(&mut kept).replace(make())))
}

/// A compacted batch, rebuilt.
pub(crate) fn gaps(shape: Shape) -> Case {
    Case::new(named("gaps", shape), (shape.bytes(), shape.records), move || {
        let entries = data::entries(data::compacted(&data::outgoing(shape, 1), 5000));
        let mut routing = Routing::new(Mapping::Fixed(0));
        keeping(move || {
            let routed = routing.route(black_box(&entries));
            assert_eq!(routed.len(), 1);
            routed
        })
    })
}

/// Four batches of a source partition, spread over the destination's by their keys.
pub(crate) fn keys(shape: Shape) -> Case {
    let (bytes, records) = (4 * shape.bytes(), 4 * shape.records);
    Case::new(named("keys", Shape { records, ..shape }), (bytes, records), move || {
        let entries = data::entries(data::record_set(shape, 4));
        let mut routing = Routing::new(Mapping::Keys(PARTITIONS));
        keeping(move || {
            let routed = routing.route(black_box(&entries));
            assert_eq!(routed.len(), PARTITIONS as usize);
            routed
        })
    })
}

/// Batches of one record each, joined.
pub(crate) fn coalesce(shape: Shape) -> Case {
    Case::new(named("coalesce", shape), (shape.bytes(), shape.records), move || {
        let single = |index| data::outgoing(Shape { records: 1, ..shape }, index as u64);
        let batches: Vec<Outgoing> = (0..shape.records).map(single).collect();
        let mut recoder = Recoder::new(Levels::default(), DECOMPRESSED_BYTES_MAX);
        keeping(move || {
            let joined = recoder.coalesce(black_box(&batches), 1 << 20);
            let joined = joined.expect("invariant: there are batches");
            assert_eq!(joined.count, batches.len());
            joined.batch
        })
    })
}

fn halve(shape: Shape) -> Case {
    Case::new(named("halve", shape), (shape.bytes(), shape.records), move || {
        let whole = data::outgoing(shape, 1);
        let mut recoder = Recoder::new(Levels::default(), DECOMPRESSED_BYTES_MAX);
        keeping(move || recoder.halve(black_box(&whole)).expect("invariant: we made it"))
    })
}
