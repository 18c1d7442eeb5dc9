//! Batches arrive as they left: what the destination's broker stores after a batch's header is,
//! byte for byte, what the source's broker stores.

use kmirror_tests::{Java, MirrorMaker, Record, clusters::pair, unique};

use crate::arrived;

const HEADER: usize = 61;
/// Where a stored batch says how long the rest of it is, and which codec it has.
const LENGTH: std::ops::Range<usize> = 8..12;
const BEFORE_LENGTH_COUNTS: usize = 12;
const ATTRIBUTES: usize = 22;

/// Codec and payload of each batch of a partition.
fn batches(mut stored: &[u8]) -> Vec<(u8, &[u8])> {
    let mut batches = Vec::new();
    while stored.len() > HEADER {
        let length = stored[LENGTH].try_into().map(u32::from_be_bytes).expect("four bytes");
        if length == 0 {
            break; // the rest of a preallocated segment
        }
        let end = BEFORE_LENGTH_COUNTS + usize::try_from(length).expect("a length");
        batches.push((stored[ATTRIBUTES] & 7, &stored[HEADER..end]));
        stored = &stored[end..];
    }
    batches
}

/// Values that no codec makes much smaller, so that each batch is large enough to stay alone.
fn noise(count: u64) -> Vec<Record> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..count)
        .map(|number| {
            let value = (0..2_000).map(|_| byte()).collect();
            Record { value: Some(value), ..Record::new(&format!("key-{number}"), "") }
        })
        .collect()
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn the_bytes_of_a_batch_pass_untouched_whatever_its_codec() {
    let mut java = Java::start();
    let topic = unique("passthrough");
    java.create(&pair().source, &topic, 1, &[]);
    let records = noise(400);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let config = [("compression.type", codec), ("linger.ms", "100"), ("batch.size", "200000")];
        java.produce(&pair().source, &topic, &config, &records);
    }
    let mut mirror = MirrorMaker::new(pair(), &unique("passthrough"), &topic).start();
    arrived(&mut java, pair(), &topic, 5 * records.len());
    assert!(mirror.terminate().success());
    let stored = [&pair().source, &pair().destination].map(|end| end.stored(&topic, 0));
    let [Some(source), Some(destination)] = stored else {
        panic!("this test must see the brokers' files: run them on this machine");
    };
    let (source, destination) = (batches(&source), batches(&destination));
    let codecs = |batches: &[(u8, &[u8])]| batches.iter().map(|one| one.0).collect::<Vec<_>>();
    assert_eq!(codecs(&source), codecs(&destination));
    assert!((0..5).all(|codec| codecs(&source).contains(&codec)), "{:?}", codecs(&source));
    for (index, (sent, found)) in source.iter().zip(&destination).enumerate() {
        assert!(sent.1 == found.1, "batch {index} with codec {} was changed", sent.0);
    }
}
