//! What must hold on real Apache Kafka. Every test here is ignored by a plain `cargo test`, because
//! it needs Java, Maven, kcat and the kmirror binary: `cargo xtask test brokers` sees to all of it.
//!
//! A test owns its topics and its consumer group by name, so that the tests share two clusters;
//! those that hurt brokers start clusters of their own.

mod busy;
mod changes;
mod denied;
mod fanout;
mod fidelity;
mod groups;
mod input;
mod launcher;
mod losses;
mod old_source;
mod partitions;
mod passthrough;
mod stops;
mod troubles;
mod walkthrough;

use kmirror_tests::{Java, Pair, eventually};

/// Waits until the destination holds `count` records of `topic`.
fn arrived(java: &mut Java, pair: &Pair, topic: &str, count: usize) {
    let count = i64::try_from(count).expect("a number of records");
    let what = format!("{count} records of {topic} at the destination");
    eventually(&what, || (java.length(&pair.destination, topic) >= count).then_some(()));
}
