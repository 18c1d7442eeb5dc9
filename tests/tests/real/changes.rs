//! The source changes under a running mirror: topics and partitions come and go.

use kmirror_tests::{
    Java, MirrorMaker, Record, clusters::pair, records::assert_same_partitions, unique,
};

use crate::arrived;

fn records(partition: i32, count: usize) -> Vec<Record> {
    let record = |number: usize| Record::new("k", &number.to_string()).to(partition);
    (0..count).map(record).collect()
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_topic_and_partitions_that_come_later_are_mirrored_from_their_first_record() {
    let mut java = Java::start();
    let prefix = unique("later");
    let (first, later) = (format!("{prefix}-first"), format!("{prefix}-later"));
    java.create(&pair().source, &first, 1, &[]);
    java.produce(&pair().source, &first, &[], &records(0, 10));
    let pattern = format!("{prefix}-.*");
    let mut mirror = MirrorMaker::new(pair(), &unique("changes"), &pattern)
        .with_consumer("metadata.max.age.ms", "2000")
        .start();
    arrived(&mut java, pair(), &first, 10);

    java.create(&pair().source, &later, 3, &[("max.message.bytes", "2000000")]);
    java.produce(&pair().source, &later, &[], &records(2, 10));
    arrived(&mut java, pair(), &later, 10);
    let config = java.topic_config(&pair().destination, &later);
    assert_eq!(config["max.message.bytes"], "2000000", "the topic's own settings came along");

    java.grow(&pair().source, &first, 3);
    for partition in [1, 2] {
        java.produce(&pair().source, &first, &[], &records(partition, 10));
    }
    arrived(&mut java, pair(), &first, 30);
    assert!(mirror.terminate().success());
    for topic in [first, later] {
        let source = java.dump(&pair().source, &topic);
        assert_same_partitions(&source, &java.dump(&pair().destination, &topic));
    }
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_topic_that_is_deleted_at_the_source_does_not_hold_up_the_others() {
    let mut java = Java::start();
    let prefix = unique("deleted");
    let (doomed, other) = (format!("{prefix}-doomed"), format!("{prefix}-other"));
    for topic in [&doomed, &other] {
        java.create(&pair().source, topic, 2, &[]);
        java.produce(&pair().source, topic, &[], &records(0, 10));
    }
    let group = unique("changes");
    let mut mirror = MirrorMaker::new(pair(), &group, &format!("{prefix}-.*"))
        .with_consumer("metadata.max.age.ms", "2000")
        .with_flag("--offset.commit.interval.ms", "500")
        .start();
    for topic in [&doomed, &other] {
        arrived(&mut java, pair(), topic, 10);
    }
    java.delete(&pair().source, &doomed);
    java.produce(&pair().source, &other, &[], &records(1, 20));
    arrived(&mut java, pair(), &other, 30);
    kmirror_tests::eventually("positions of the topic that is left", || {
        let committed = java.committed(&pair().source, &group, &other);
        (committed.get(&1) == Some(&20)).then_some(())
    });
    assert_eq!(java.dump(&pair().destination, &doomed).len(), 10, "what was mirrored stays");
    mirror.terminate();
}
