//! What cannot be mirrored stops its own partition, loudly, with the offsets; the others flow.

use kmirror_tests::{Flow, Java, MirrorMaker, Record, clusters::pair, eventually, unique};

use crate::arrived;

/// Ended in order, but some partitions had stopped.
const HALTED: Option<i32> = Some(4);

fn records(partition: i32, range: std::ops::Range<usize>) -> Vec<Record> {
    range.map(|number| Record::new("k", &number.to_string()).to(partition)).collect()
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_position_that_retention_overtook_stops_that_partition_and_names_what_is_lost() {
    let mut java = Java::start();
    let (topic, group) = (unique("overtaken"), unique("overtaken"));
    java.create(&pair().source, &topic, 2, &[]);
    for partition in [0, 1] {
        java.produce(&pair().source, &topic, &[], &records(partition, 0..100));
    }
    let flow = Flow::new(pair(), &group, &topic);
    let mut mirror = flow.start();
    arrived(&mut java, pair(), &topic, 200);
    assert!(mirror.terminate().success());

    for partition in [0, 1] {
        java.produce(&pair().source, &topic, &[], &records(partition, 100..200));
    }
    java.truncate(&pair().source, &topic, 0, 150);
    let mut mirror = flow.start();
    arrived(&mut java, pair(), &topic, 300);
    let told = eventually("the log names the lost range", || {
        let is_told = mirror.tells(&[&topic, "offsets 100 to 149 are gone from the source"]);
        is_told.then(|| mirror.log())
    });
    assert_eq!(mirror.terminate().code(), HALTED, "{told}");
    let ends = java.ends(&pair().destination, &topic);
    assert_eq!(ends[&0], (0, 100), "nothing was mirrored past the gap");
    assert_eq!(ends[&1], (0, 200), "the other partition flowed");
    let committed = java.committed(&pair().source, &group, &topic);
    assert_eq!(committed[&0], 100, "the position stays before the gap");
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_record_too_large_for_the_destination_stops_its_partition_alone() {
    let mut java = Java::start();
    let topic = unique("oversize");
    java.create(&pair().source, &topic, 2, &[("max.message.bytes", "4000000")]);
    java.create(&pair().destination, &topic, 2, &[("max.message.bytes", "1000000")]);
    let large = Record { value: Some(vec![b'x'; 2_000_000]), ..Record::new("large", "") }.to(0);
    let config = [("max.request.size", "5000000"), ("batch.size", "0")];
    java.produce(&pair().source, &topic, &config, &records(0, 0..10));
    java.produce(&pair().source, &topic, &config, &[large]);
    java.produce(&pair().source, &topic, &config, &records(0, 10..20));
    java.produce(&pair().source, &topic, &config, &records(1, 0..100));
    let mut mirror = Flow::new(pair(), &unique("oversize"), &topic).start();
    arrived(&mut java, pair(), &topic, 110);
    let told = eventually("the log names the record", || {
        let is_told = mirror.tells(&[&topic, "too large", "offset 10"]);
        is_told.then(|| mirror.log())
    });
    assert_eq!(mirror.terminate().code(), HALTED, "{told}");
    let ends = java.ends(&pair().destination, &topic);
    assert_eq!((ends[&0], ends[&1]), ((0, 10), (0, 100)));
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_batch_too_large_for_the_destination_is_divided() {
    let mut java = Java::start();
    let topic = unique("divided");
    java.create(&pair().source, &topic, 1, &[("max.message.bytes", "8000000")]);
    java.create(&pair().destination, &topic, 1, &[("max.message.bytes", "1000000")]);
    let records: Vec<Record> = (0..24_u8)
        .map(|number| {
            let value = vec![b'a' + number; 250_000];
            Record { value: Some(value), ..Record::new(&format!("key-{number}"), "") }.at(1)
        })
        .collect();
    let config = [
        ("max.request.size", "9000000"),
        ("batch.size", "7000000"),
        ("linger.ms", "500"),
        ("buffer.memory", "64000000"),
    ];
    java.produce(&pair().source, &topic, &config, &records);
    let mut mirror = MirrorMaker::new(pair(), &unique("divided"), &topic).start();
    arrived(&mut java, pair(), &topic, records.len());
    assert!(mirror.terminate().success());
    let found = java.dump(&pair().destination, &topic);
    let source = java.dump(&pair().source, &topic);
    kmirror_tests::records::assert_same_partitions(&source, &found);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn the_drop_in_command_ends_as_mirror_maker_does_when_a_record_cannot_be_sent() {
    let mut java = Java::start();
    let topic = unique("abort");
    java.create(&pair().source, &topic, 1, &[("max.message.bytes", "4000000")]);
    java.create(&pair().destination, &topic, 1, &[("max.message.bytes", "1000000")]);
    let large = Record { value: Some(vec![b'x'; 2_000_000]), ..Record::new("large", "") };
    let config = [("max.request.size", "5000000"), ("batch.size", "0")];
    java.produce(&pair().source, &topic, &config, &records(0, 0..10));
    java.produce(&pair().source, &topic, &config, &[large]);
    java.produce(&pair().source, &topic, &config, &records(0, 10..20));

    let mut mirror = MirrorMaker::new(pair(), &unique("abort"), &topic).start();
    assert!(!mirror.wait().success());
    assert!(mirror.log().contains("offset 10"), "the log names the record:\n{}", mirror.log());
    assert_eq!(java.length(&pair().destination, &topic), 10);

    // Told to go on, it leaves that record out, as MirrorMaker does.
    let mut mirror = MirrorMaker::new(pair(), &unique("abort"), &topic)
        .with_flag("--abort.on.send.failure", "false")
        .start();
    arrived(&mut java, pair(), &topic, 30);
    assert!(mirror.terminate().success());
}
