//! Instances that share the work by Kafka's own consumer group, with each other and with a Java
//! consumer.

use std::thread;

use kmirror_tests::{
    Java, MirrorMaker, Record,
    clusters::pair,
    eventually,
    java::Load,
    records::{arrival, assert_same_partitions},
    unique,
};

use crate::arrived;

const PARTITIONS: i32 = 8;

fn sorted(mut partitions: Vec<i64>) -> Vec<i64> {
    partitions.sort_unstable();
    partitions
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn two_instances_share_and_one_takes_over_when_the_other_stops() {
    let mut java = Java::start();
    let (topic, group) = (unique("shared"), unique("shared"));
    java.create(&pair().source, &topic, PARTITIONS, &[]);
    let load = Load { first: 0, count: 40_000, rate: 3_000, keys: 100, size: 100 };
    let maker = MirrorMaker::new(pair(), &group, &topic);
    let loader = {
        let (topic, load) = (topic.clone(), load.clone());
        thread::spawn(move || Java::start().load(&pair().source, &topic, &[], &load))
    };
    let mut first = maker.start();
    eventually("one member with all partitions", || {
        (java.members(&pair().source, &group) == [8]).then_some(())
    });
    let mut second = maker.start();
    eventually("two members with four partitions each", || {
        (sorted(java.members(&pair().source, &group)) == [4, 4]).then_some(())
    });
    assert!(first.terminate().success());
    eventually("one member with all partitions again", || {
        (java.members(&pair().source, &group) == [8]).then_some(())
    });
    loader.join().expect("the load is acknowledged by the source");
    let count = usize::try_from(load.count).expect("a number of records");
    arrived(&mut java, pair(), &topic, count);
    assert!(second.terminate().success());
    let arrival = arrival(load.count, &java.dump(&pair().destination, &topic));
    assert_eq!(arrival.missing, Vec::<u64>::new());
    assert_eq!(arrival.disordered, Vec::<u64>::new());
    assert_eq!(arrival.repeated, 0, "a handover in order repeats nothing");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_java_consumer_in_the_same_group_gets_its_share_and_gives_it_back() {
    let mut java = Java::start();
    let (topic, group) = (unique("mixed"), unique("mixed"));
    java.create(&pair().source, &topic, PARTITIONS, &[]);
    let mut mirror = MirrorMaker::new(pair(), &group, &topic).start();
    eventually("the mirror with all partitions", || {
        (java.members(&pair().source, &group) == [8]).then_some(())
    });
    // What Java's consumer offers by default since 3.0: range, and cooperative-sticky.
    let config = [("group.id", group.as_str())];
    let (most, _) = java.member(&pair().source, &topic, &config, 15_000);
    assert!((1..8).contains(&most), "the Java member had {most} of 8 partitions");
    eventually("the mirror with all partitions again", || {
        (java.members(&pair().source, &group) == [8]).then_some(())
    });
    let records: Vec<Record> = (0..PARTITIONS)
        .map(|partition| Record::new("k", "after").to(partition).at(1_600_000_000_000))
        .collect();
    java.produce(&pair().source, &topic, &[], &records);
    arrived(&mut java, pair(), &topic, records.len());
    assert!(mirror.terminate().success());
    let source = java.dump(&pair().source, &topic);
    assert_same_partitions(&source, &java.dump(&pair().destination, &topic));
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn positions_are_committed_to_the_group_for_other_tools_to_read() {
    let mut java = Java::start();
    let (topic, group) = (unique("positions"), unique("positions"));
    java.create(&pair().source, &topic, 2, &[]);
    let records: Vec<Record> = (0..100)
        .map(|number: i32| Record::new("k", &number.to_string()).to(number % 2).at(1))
        .collect();
    java.produce(&pair().source, &topic, &[], &records);
    let mut mirror = MirrorMaker::new(pair(), &group, &topic).start();
    arrived(&mut java, pair(), &topic, 100);
    assert!(mirror.terminate().success());
    let committed = java.committed(&pair().source, &group, &topic);
    assert_eq!(committed, [(0, 50), (1, 50)].into());
}
