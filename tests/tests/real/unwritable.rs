//! Destination partitions that cannot be written: they are named, and the healthy topic beside them
//! flows on, however many they are.

use kmirror_tests::{Java, MirrorMaker, clusters::pair, eventually, java::Load, unique};

use crate::arrived;

/// Mirrors a topic whose `stuck` destination partitions refuse every write beside a healthy one.
fn beside(stuck: i32) {
    let mut java = Java::start();
    let prefix = unique(&format!("beside-{stuck}"));
    let (bad, good) = (format!("{prefix}-bad"), format!("{prefix}-good"));
    java.create(&pair().source, &bad, stuck, &[]);
    // One replica can never be two in sync: every write is refused with NOT_ENOUGH_REPLICAS.
    java.create(&pair().destination, &bad, stuck, &[("min.insync.replicas", "2")]);
    java.create(&pair().source, &good, 2, &[]);
    java.create(&pair().destination, &good, 2, &[]);
    let count = 100_000;
    let load = Load { first: 0, count, rate: 0, keys: 10_000, size: 1_000 };
    java.load(&pair().source, &bad, &[], &load);

    let mut mirror = MirrorMaker::new(pair(), &unique("unwritable"), &format!("{prefix}-.*"))
        .with_streams(2)
        .start();
    eventually("the log names a partition that cannot be written", || {
        mirror.tells(&[&bad, "NOT_ENOUGH_REPLICAS"]).then_some(())
    });
    java.load(&pair().source, &good, &[], &load);
    arrived(&mut java, pair(), &good, usize::try_from(count).expect("a number of records"));
    mirror.assert_running();
    mirror.kill();
    assert_eq!(java.length(&pair().destination, &bad), 0);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn sixteen_partitions_that_cannot_be_written_are_named_and_the_others_flow() {
    beside(16);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn three_hundred_partitions_that_cannot_be_written_do_not_stop_the_others() {
    beside(300);
}
