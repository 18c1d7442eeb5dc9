//! What arrives is what was written: a Java consumer and kcat read at the destination exactly what
//! a Java consumer reads at the source, whatever client, codec and batching wrote it.

use kmirror_tests::{
    Java, MirrorMaker, Record,
    clusters::pair,
    eventually,
    java::{Load, Step},
    kcat,
    records::{assert_same_partitions, by_partition},
    unique,
};

use crate::arrived;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
const PARTITIONS: i32 = 3;

/// Mirrors `topics`, whose records are already at the source, and compares them as two clients
/// read them.
fn mirror_and_compare(java: &mut Java, topics: &[String]) {
    let pair = pair();
    let whitelist = topics.join("|");
    // MirrorMaker reads what is not committed unless it is told otherwise.
    let mut mirror = MirrorMaker::new(pair, &unique("fidelity"), &whitelist)
        .with_streams(2)
        .with_consumer("isolation.level", pair.source.isolation())
        .start();
    for topic in topics {
        let source = java.dump(&pair.source, topic);
        assert!(!source.is_empty(), "{topic} has records");
        arrived(java, pair, topic, source.len());
        let destination = java.dump(&pair.destination, topic);
        assert_same_partitions(&source, &destination);
        let by_kcat = kcat::consume(&pair.destination, topic);
        assert_eq!(by_partition(&kcat::consume(&pair.source, topic)), by_partition(&by_kcat));
    }
    assert!(mirror.terminate().success());
    for topic in topics {
        let source = java.dump(&pair.source, topic);
        let destination = java.dump(&pair.destination, topic);
        assert_eq!(source.len(), destination.len(), "nothing of {topic} was repeated");
    }
}

/// Records of many sizes; those of a key are told apart by their number.
fn various(count: usize) -> Vec<Record> {
    let record = |number: usize| {
        let padding = "abcdefghij".repeat(number % 50);
        Record::new(&format!("key-{}", number % 17), &format!("{number} {padding}"))
            .at(1_600_000_000_000 + i64::try_from(number).expect("a small number") * 1000)
            .with_header("number", Some(number.to_string().as_bytes()))
    };
    (0..count).map(record).collect()
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn java_records_arrive_unchanged_whatever_the_codec_and_batching() {
    let mut java = Java::start();
    let mut topics = Vec::new();
    for codec in CODECS {
        let singles = [("linger.ms", "0"), ("batch.size", "1")];
        let large = [("linger.ms", "50"), ("batch.size", "500000")];
        for (name, batching) in [("singles", singles), ("large", large)] {
            let topic = unique(&format!("java-{codec}-{name}"));
            java.create(&pair().source, &topic, PARTITIONS, &[]);
            let config = [&batching[..], &[("compression.type", codec)]].concat();
            java.produce(&pair().source, &topic, &config, &various(300));
            topics.push(topic);
        }
    }
    mirror_and_compare(&mut java, &topics);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn librdkafka_records_arrive_unchanged_whatever_the_codec_and_batching() {
    let mut java = Java::start();
    let mut topics = Vec::new();
    for codec in CODECS {
        for (name, linger) in [("singles", "0"), ("large", "200")] {
            let topic = unique(&format!("kcat-{codec}-{name}"));
            java.create(&pair().source, &topic, PARTITIONS, &[]);
            let config = [("compression.codec", codec), ("linger.ms", linger)];
            let records: Vec<Record> =
                various(300).into_iter().map(|one| Record { headers: Vec::new(), ..one }).collect();
            kcat::produce(&pair().source, &topic, &config, &records);
            topics.push(topic);
        }
    }
    mirror_and_compare(&mut java, &topics);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn null_and_empty_keys_values_and_headers_stay_what_they_are() {
    let mut java = Java::start();
    let topic = unique("nulls");
    java.create(&pair().source, &topic, 1, &[]);
    let empty = || Some(Vec::new());
    let value = || Some(b"v".to_vec());
    let mut records = Vec::new();
    for key in [None, empty(), Some(b"k".to_vec())] {
        for value in [None, empty(), value()] {
            records.push(Record { key: key.clone(), value, ..Record::default() }.at(1));
        }
    }
    let headers = Record::new("h", "v")
        .with_header("again", Some(b"1"))
        .with_header("other", None)
        .with_header("again", Some(b""))
        .with_header("", Some(b"no name"))
        .with_header("again", Some(b"3"));
    records.push(headers.at(0));
    records.push(Record::new("binary", "v").at(2).with_header("bytes", Some(b"\x00\x01\x7f")));
    for codec in CODECS {
        java.produce(&pair().source, &topic, &[("compression.type", codec)], &records);
    }
    mirror_and_compare(&mut java, &[topic]);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn timestamps_stay_whether_old_out_of_order_or_set_by_the_broker() {
    let mut java = Java::start();
    let created = unique("create-time");
    java.create(&pair().source, &created, 1, &[]);
    let appended = unique("append-time");
    java.create(&pair().source, &appended, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let records: Vec<Record> = [1_000, 0, 1_700_000_000_000, 5, 1_600_000_000_000]
        .iter()
        .map(|at| Record::new("k", &at.to_string()).at(*at))
        .collect();
    for topic in [&created, &appended] {
        for config in [&[("linger.ms", "50")], &[("batch.size", "1")]] {
            java.produce(&pair().source, topic, config, &records);
        }
    }
    // The broker's own times are what every consumer of the source sees; at the destination they
    // are what the mirror must show, for as long as that topic keeps the time of creation.
    java.create(&pair().destination, &appended, 1, &[("message.timestamp.type", "CreateTime")]);
    mirror_and_compare(&mut java, &[created, appended]);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn aborted_transactions_never_arrive_and_committed_ones_do_in_order() {
    let mut java = Java::start();
    let topic = unique("transactions");
    java.create(&pair().source, &topic, 2, &[]);
    let mut steps = Vec::new();
    for number in 0..60 {
        let aborted = number % 3 == 1;
        steps.push(Step::Begin);
        for part in 0..5 {
            let word = if aborted { "aborted" } else { "committed" };
            let record = Record::new(&format!("key-{part}"), &format!("{number} {word}"));
            steps.push(Step::Send(record.at(1_600_000_000_000)));
        }
        steps.push(if aborted { Step::Abort } else { Step::Commit });
    }
    for codec in ["none", "lz4"] {
        let id = unique("transactional");
        let config = [("transactional.id", id.as_str()), ("compression.type", codec)];
        java.produce_steps(&pair().source, &topic, &config, &steps);
    }
    mirror_and_compare(&mut java, std::slice::from_ref(&topic));
    let arrived = java.dump(&pair().destination, &topic);
    assert_eq!(arrived.len(), 2 * 40 * 5);
    assert!(
        arrived.iter().all(|one| one.value.as_deref().is_some_and(|v| v.ends_with(b" committed")))
    );
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn what_compaction_left_arrives_with_its_gaps_closed() {
    let mut java = Java::start();
    let topic = unique("compacted");
    let config = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
        ("delete.retention.ms", "600000"),
    ];
    java.create(&pair().source, &topic, 1, &config);
    for round in 0..5 {
        let records: Vec<Record> = (0..200)
            .map(|number| {
                Record::new(&format!("key-{}", number % 40), &format!("{round} {number}"))
            })
            .collect();
        java.produce(&pair().source, &topic, &[("compression.type", "lz4")], &records);
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    let tombstones: Vec<Record> = (0..10)
        .map(|number| Record { value: None, ..Record::new(&format!("key-{number}"), "") })
        .collect();
    java.produce(&pair().source, &topic, &[], &tombstones);
    eventually("compaction at the source", || {
        // A record after a pause closes the segment, so that it may be compacted.
        java.produce(&pair().source, &topic, &[], &[Record::new("last", "v")]);
        (java.dump(&pair().source, &topic).len() < 300).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    java.create(&pair().destination, &topic, 1, &[]);
    mirror_and_compare(&mut java, std::slice::from_ref(&topic));
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn batches_near_the_largest_message_size_arrive() {
    let mut java = Java::start();
    let topic = unique("large");
    java.create(&pair().source, &topic, 2, &[]);
    let records: Vec<Record> = (0..12)
        .map(|number| {
            let mut noise = number * 7 + 1;
            let mut byte = || {
                noise = noise * 1_103_515_245_u64 % 2_147_483_647;
                u8::try_from(noise % 96 + 32).expect("a printable byte")
            };
            let value = (0..900_000).map(|_| byte()).collect();
            Record { value: Some(value), ..Record::new(&format!("key-{number}"), "") }.at(1)
        })
        .collect();
    let config = [("max.request.size", "2000000"), ("batch.size", "1000000"), ("linger.ms", "20")];
    for codec in ["none", "zstd"] {
        let config = [&config[..], &[("compression.type", codec)]].concat();
        java.produce(&pair().source, &topic, &config, &records);
    }
    mirror_and_compare(&mut java, &[topic]);
}

#[test]
#[ignore = "needs real brokers: cargo xtask test brokers"]
fn a_million_bytes_of_tiny_batches_under_way_lose_and_repeat_nothing() {
    let mut java = Java::start();
    let topic = unique("tiny");
    java.create(&pair().source, &topic, 4, &[]);
    let load = Load { first: 0, count: 10_000, rate: 0, keys: 50, size: 100 };
    java.load(&pair().source, &topic, &[("linger.ms", "0"), ("batch.size", "1")], &load);
    mirror_and_compare(&mut java, &[topic]);
}
