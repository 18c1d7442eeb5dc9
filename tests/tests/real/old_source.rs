//! A source of Kafka 2.4 as managed clusters run it: no topic ids, and an authorizer that grants
//! what a consumer needs and nothing that only brokers need.

use std::time::Duration;

use kmirror_tests::{
    End, Flow, Java, MirrorMaker, Pair, Record, eventually, java::Load, records::arrival,
    records::assert_same_partitions, unique,
};
use xtask::clock;

use crate::arrived;

/// Ended in order, but some partitions had stopped.
const HALTED: Option<i32> = Some(4);

/// Brokers talk to each other as a user of their own, so that what everybody else is denied does
/// not concern them.
const GUARDED: &[(&str, &str)] = &[
    ("listeners", "PLAINTEXT://127.0.0.1:{port},INNER://127.0.0.1:{second_port}"),
    ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,INNER:SASL_PLAINTEXT"),
    ("inter.broker.listener.name", "INNER"),
    ("sasl.enabled.mechanisms", "PLAIN"),
    ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
    (
        "listener.name.inner.plain.sasl.jaas.config",
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"broker\" password=\"broker\" user_broker=\"broker\";",
    ),
    ("super.users", "User:broker"),
    ("authorizer.class.name", "kafka.security.auth.SimpleAclAuthorizer"),
    ("allow.everyone.if.no.acl.found", "true"),
];

/// A guarded source of `nodes` brokers that nobody but its brokers may act as a cluster on.
fn guarded(java: &mut Java, nodes: u16) -> Pair {
    let source = End::start("source", "2.4.1", nodes, GUARDED);
    java.deny_cluster(&source, "cluster_action");
    Pair { source, destination: End::start("destination", "4.3.0", 1, &[]) }
}

fn records(values: std::ops::Range<usize>) -> Vec<Record> {
    values.map(|number| Record::new("k", &number.to_string()).to(0)).collect()
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_position_with_a_leader_epoch_is_resumed_without_the_rights_of_a_broker() {
    let mut java = Java::start();
    let pair = guarded(&mut java, 1);
    let topic = unique("resumed");
    java.create(&pair.source, &topic, 1, &[]);
    let maker = MirrorMaker::new(&pair, &unique("resumed"), &topic);
    for round in 0..3 {
        java.produce(&pair.source, &topic, &[], &records(100 * round..100 * (round + 1)));
        let mut mirror = maker.start();
        arrived(&mut java, &pair, &topic, 100 * (round + 1));
        assert!(mirror.terminate().success());
    }
    let written = java.dump(&pair.source, &topic);
    assert_same_partitions(&written, &java.dump(&pair.destination, &topic));
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_topic_created_anew_under_the_mirror_is_never_mixed_with_the_old_one() {
    let mut java = Java::start();
    let pair = guarded(&mut java, 1);
    for goes_on in [false, true] {
        let topic = unique("anew");
        java.create(&pair.source, &topic, 1, &[]);
        java.produce(&pair.source, &topic, &[], &records(0..5));
        let policy = if goes_on { "'continue'" } else { "'halt'" };
        let flow = Flow::new(&pair, &unique("anew"), &topic).with("on_lost", policy);
        let mut mirror = flow.start();
        arrived(&mut java, &pair, &topic, 5);

        java.delete(&pair.source, &topic);
        eventually("the topic is created anew", || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                Java::start().create(&pair.source, &topic, 1, &[]);
            }))
            .ok()
        });
        java.produce(&pair.source, &topic, &[], &records(100..110));
        let values = |java: &mut Java| -> Vec<String> {
            let found = java.dump(&pair.destination, &topic);
            let value = |record: &Record| record.value.clone().unwrap_or_default();
            found.iter().map(|record| String::from_utf8_lossy(&value(record)).into()).collect()
        };
        let old = (0..5).map(|number| number.to_string());
        if goes_on {
            arrived(&mut java, &pair, &topic, 15);
            mirror.terminate();
            let new = (100..110).map(|number| number.to_string());
            assert_eq!(values(&mut java), old.chain(new).collect::<Vec<_>>());
        } else {
            eventually("the log says that the topic is a new one", || {
                mirror.tells(&[&topic, "created again"]).then_some(())
            });
            assert_eq!(mirror.terminate().code(), HALTED, "{}", mirror.log());
            assert_eq!(values(&mut java), old.collect::<Vec<_>>());
        }
    }
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn partitions_that_are_reassigned_flow_on() {
    const COUNT: u64 = 40_000;
    let mut java = Java::start();
    let pair = guarded(&mut java, 2);
    let topic = unique("moved");
    java.create(&pair.source, &topic, 2, &[]);
    let mut mirror = MirrorMaker::new(&pair, &unique("moved"), &topic).with_streams(2).start();
    std::thread::scope(|scope| {
        let loader = scope.spawn(|| {
            let load = Load { first: 0, count: COUNT, rate: 2_000, keys: 100, size: 200 };
            Java::start().load(&pair.source, &topic, &[("enable.idempotence", "true")], &load);
        });
        arrived(&mut java, &pair, &topic, 1);
        for broker in [1, 2, 1, 2] {
            for partition in [0, 1] {
                java.move_to(&pair.source, &topic, partition, broker);
            }
        }
        loader.join().expect("the load is acknowledged by the source");
    });
    let healed = clock::now();
    arrived(&mut java, &pair, &topic, usize::try_from(COUNT).expect("a number of records"));
    assert!(healed.elapsed() < Duration::from_secs(30), "nothing waits for a metadata refresh");
    assert!(mirror.terminate().success());
    let arrival = arrival(COUNT, &java.dump(&pair.destination, &topic));
    assert_eq!(arrival.missing, Vec::<u64>::new());
    assert_eq!(arrival.repeated, 0);
}
