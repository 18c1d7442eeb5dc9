//! Where records go when the two topics differ in their number of partitions: each key where
//! Kafka's own partitioner puts it, in the order it had.

use std::collections::BTreeMap;

use kmirror_tests::{
    Java, MirrorMaker, Record, clusters::pair, kcat, records::assert_same_keys, unique,
};

use crate::arrived;

const KEYS: usize = 200;

fn keyed(count: usize) -> Vec<Record> {
    let record = |number: usize| {
        Record::new(&format!("key-{}", number % KEYS), &number.to_string()).at(1_600_000_000_000)
    };
    (0..count).map(record).collect()
}

/// The partition of each key.
fn places(records: &[Record]) -> BTreeMap<Vec<u8>, i32> {
    let mut places = BTreeMap::new();
    for record in records {
        let partition = record.partition.expect("a record that was read has a partition");
        if let Some(key) = &record.key {
            let before = places.insert(key.clone(), partition);
            assert!(
                before.is_none_or(|before| before == partition),
                "{key:?} is in two partitions"
            );
        }
    }
    places
}

/// Where Kafka's producer puts each key among `partitions`: asked of Kafka's producer itself.
fn oracle(java: &mut Java, partitions: i32) -> BTreeMap<Vec<u8>, i32> {
    let topic = unique("oracle");
    java.create(&pair().destination, &topic, partitions, &[]);
    java.produce(&pair().destination, &topic, &[], &keyed(KEYS));
    places(&java.dump(&pair().destination, &topic))
}

fn mirror(source: i32, destination: i32, write: impl FnOnce(&mut Java, &str)) {
    let mut java = Java::start();
    let topic = unique(&format!("from-{source}-to-{destination}"));
    java.create(&pair().source, &topic, source, &[]);
    java.create(&pair().destination, &topic, destination, &[]);
    write(&mut java, &topic);
    let written = java.dump(&pair().source, &topic);
    let mut mirror =
        MirrorMaker::new(pair(), &unique("partitions"), &topic).with_streams(2).start();
    arrived(&mut java, pair(), &topic, written.len());
    assert!(mirror.terminate().success());
    let found = java.dump(&pair().destination, &topic);
    assert_same_keys(&written, &found);
    if source == destination {
        assert_eq!(places(&written), places(&found));
    } else {
        assert_eq!(oracle(&mut java, destination), places(&found));
    }
}

fn by_java(java: &mut Java, topic: &str) {
    for codec in ["none", "lz4", "zstd"] {
        java.produce(&pair().source, topic, &[("compression.type", codec)], &keyed(1_000));
    }
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn eight_partitions_into_twelve_put_each_key_where_kafka_does() {
    mirror(8, 12, by_java);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn twelve_partitions_into_four_put_each_key_where_kafka_does() {
    mirror(12, 4, by_java);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn eight_partitions_into_eight_keep_each_key_where_it_is() {
    mirror(8, 8, by_java);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn keys_that_librdkafka_placed_go_where_kafka_puts_them() {
    mirror(8, 12, |_, topic| {
        let config = [("partitioner", "consistent_random"), ("compression.codec", "lz4")];
        kcat::produce(&pair().source, topic, &config, &keyed(1_000));
    });
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn records_without_keys_are_spread_and_none_is_lost() {
    let mut java = Java::start();
    let topic = unique("keyless");
    java.create(&pair().source, &topic, 2, &[]);
    java.create(&pair().destination, &topic, 6, &[]);
    let records: Vec<Record> = (0..2_000)
        .map(|number: i32| Record { key: None, ..Record::new("", &number.to_string()) })
        .map(|record| record.at(1))
        .collect();
    for part in records.chunks(20) {
        java.produce(&pair().source, &topic, &[], part);
    }
    let mut mirror = MirrorMaker::new(pair(), &unique("partitions"), &topic).start();
    arrived(&mut java, pair(), &topic, records.len());
    assert!(mirror.terminate().success());
    let found = java.dump(&pair().destination, &topic);
    assert_same_keys(&java.dump(&pair().source, &topic), &found);
    let used = java.ends(&pair().destination, &topic);
    assert!(used.values().all(|(first, end)| end > first), "every partition has some: {used:?}");
}
