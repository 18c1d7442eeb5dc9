//! A backlog that is routed by key from few partitions into many: all of it arrives, and what has
//! arrived is committed, however many destination partitions one answer touches.

use kmirror_tests::{Flow, Java, clusters::pair, java::Load, records::arrival, unique};

/// Mirrors `count` keyed records from `source` partitions into `destination` and ends by itself;
/// a partition that stands still would keep it from that.
fn fan_out(source: i32, destination: i32, count: u64) {
    let mut java = Java::start();
    let topic = unique(&format!("fan-{source}-to-{destination}"));
    java.create(&pair().source, &topic, source, &[]);
    java.create(&pair().destination, &topic, destination, &[]);
    let load = Load { first: 0, count, rate: 0, keys: count / 2, size: 100 };
    java.load(&pair().source, &topic, &[], &load);

    let group = unique("fan-out");
    let flow = Flow::new(pair(), &group, &topic).with("until_caught_up", "true");
    let mut mirror = flow.with("streams", "2").start();
    let status = mirror.wait();
    assert!(status.success(), "ends with {status}:\n{}", mirror.log());

    let arrival = arrival(count, &java.dump(&pair().destination, &topic));
    assert_eq!(arrival.missing, Vec::<u64>::new());
    assert_eq!(arrival.disordered, Vec::<u64>::new(), "the order of each key");
    assert_eq!(arrival.repeated, 0);
    let committed: i64 = java.committed(&pair().source, &group, &topic).values().sum();
    assert_eq!(u64::try_from(committed), Ok(count), "all of it is committed");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn one_partition_into_three_hundred_arrives_whole() {
    fan_out(1, 300, 3_000);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn eight_partitions_into_two_hundred_arrive_whole() {
    fan_out(8, 200, 20_000);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn three_partitions_into_a_thousand_arrive_whole() {
    fan_out(3, 1_000, 20_000);
}
