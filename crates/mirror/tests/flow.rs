//! Records get from one cluster to the other as they are: every codec, every layout of partitions,
//! what was there before the start and what comes after it.

mod common;

use common::{CODECS, PATIENCE, Pair, Running, by_key, until, ways};
use kmirror::Ended;
use kmirror::policy::naming::Naming;
use kmirror::policy::partitioning::for_key;
use kmirror_fake::{Action, ApiKey, BatchBuilder, Cluster, Codec, Record, ResponseError};

#[tokio::test]
async fn what_is_there_and_what_comes_is_mirrored_to_the_same_partitions() {
    let pair = Pair::start(3).await;
    pair.topic("orders", 8);
    pair.fill("orders", 10, 20);
    let running = Running::start(pair.config()).await;
    pair.arrives("orders").await;
    pair.fill("orders", 5, 3);
    pair.arrives("orders").await;
    let report = running.stop().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.end, Ended::Drained);
    assert_eq!(report.totals.records, 8 * (10 * 20 + 5 * 3));
}

#[tokio::test]
async fn batches_pass_through_with_their_codec_and_their_bytes() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    for (index, codec) in CODECS.into_iter().enumerate() {
        let record = Record::new(format!("k{index}"), vec![b'x'; 40_000]).with_header("h", "1");
        let batch = BatchBuilder::new([record.clone(), record]).with_codec(codec);
        pair.source.produce_direct("orders", 0, batch).unwrap();
    }
    let mut config = pair.config().with_until_caught_up();
    config.produce.small_batch_bytes = 0;
    let running = Running::start(config).await;
    let mirror = running.mirror.clone();
    let report = running.end().await.unwrap();
    assert_eq!(report.end, Ended::CaughtUp);
    pair.arrives("orders").await;
    assert_eq!(ways(&mirror.status().borrow())[&("passthrough", "whole")], 5);
    let payloads = |cluster: &Cluster| -> Vec<bytes::Bytes> {
        cluster.batches("orders", 0).iter().map(|batch| batch.bytes.slice(61..)).collect()
    };
    assert!(payloads(&pair.source) == payloads(&pair.destination));
}

#[tokio::test]
async fn keys_go_where_kafkas_partitioner_sends_them_whatever_the_counts() {
    for (from, to) in [(8, 12), (12, 4), (3, 1)] {
        let pair = Pair::start(3).await;
        pair.topic("orders", from);
        pair.destination.create_topic("orders", to);
        let mut expected = 0;
        for batch in 0..400 {
            let key = format!("key-{}", batch % 37);
            let at = for_key(key.as_bytes(), from);
            let other = format!("{at}-other-{}", batch % 11);
            let records = [
                Record::new(key.clone(), format!("{batch}-a")),
                Record::new(key, format!("{batch}-b")),
                Record::new(other, format!("{batch}-c")),
            ];
            expected += records.len();
            let batch = BatchBuilder::new(records).with_codec(CODECS[batch % 5]);
            pair.source.produce_direct("orders", at, batch).unwrap();
        }
        let running = Running::start(pair.config()).await;
        let count =
            || (0..to).map(|at| pair.destination.records("orders", at).len()).sum::<usize>();
        until("all records", || async { count() >= expected }).await;
        running.stop().await;
        assert_eq!(by_key(&pair.destination, "orders"), by_key(&pair.source, "orders"));
        for partition in 0..to {
            for record in pair.destination.records("orders", partition) {
                assert_eq!(for_key(&record.key.unwrap(), to), partition, "{from} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn topics_and_partitions_that_appear_are_picked_up_with_their_first_record() {
    let pair = Pair::start(2).await;
    pair.topic("first", 1);
    let running = Running::start(pair.config()).await;
    until("first exists", || async { pair.destination.partition_count("first") == 1 }).await;
    pair.source.create_topic_with("second", 4, &[("retention.ms", "123456")]);
    pair.fill("second", 3, 3);
    pair.arrives("second").await;
    let retention = pair.destination.topic_config("second", "retention.ms");
    assert_eq!(retention.as_deref(), Some("123456"));
    pair.source.grow_topic("second", 6).unwrap();
    pair.fill("second", 2, 2);
    pair.arrives("second").await;
    assert_eq!(pair.destination.partition_count("second"), 6);
    running.stop().await;
}

#[tokio::test]
async fn a_topic_that_the_destination_shows_late_does_not_wait_for_the_next_ordinary_look() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 2, 2);
    // As when another instance made it and this broker has not heard of it yet.
    let made = Action::Error(ResponseError::TopicAlreadyExists);
    let elsewhere = pair.destination.intercept(ApiKey::CreateTopics, move |_| made.clone());
    let mut config = pair.config();
    config.topic.refresh_interval = 4 * PATIENCE;
    let running = Running::start(config).await;
    until("it is asked for", || async { pair.destination.request_count(ApiKey::CreateTopics) > 0 })
        .await;
    let looks = pair.destination.request_count(ApiKey::Metadata);
    until("it is looked for", || async {
        pair.destination.request_count(ApiKey::Metadata) >= looks + 3
    })
    .await;
    pair.destination.create_topic("orders", 2);
    pair.arrives("orders").await;
    assert_eq!(pair.destination.request_count(ApiKey::CreateTopics), 1);
    drop(elsewhere);
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn small_batches_that_wait_become_one() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    for record in 0..500 {
        let record = Record::new(format!("k{}", record % 5), format!("v{record}"));
        pair.source.produce_direct("orders", 0, record).unwrap();
    }
    Running::start(pair.config().with_until_caught_up()).await.end().await.unwrap();
    pair.arrives("orders").await;
    let batches = pair.destination.batches("orders", 0).len();
    assert!(batches <= 10, "{batches} batches");
}

#[tokio::test]
async fn another_codec_is_written_when_it_is_asked_for() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 10, 50);
    let mut config = pair.config().with_until_caught_up();
    config.produce.compression = kmirror::config::Compression::Lz4;
    Running::start(config).await.end().await.unwrap();
    pair.arrives("orders").await;
    for batch in pair.destination.batches("orders", 0) {
        assert_eq!(batch.header.attributes & 0b111, Codec::Lz4 as i16);
    }
}

#[tokio::test]
async fn topics_are_renamed_within_one_cluster_without_feeding_themselves() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 3, 3);
    let mut config = pair.config().with_naming(Naming::Prefix("copy.".into()));
    config.destination = config.source.clone();
    let running = Running::start(config).await;
    until("the copy is complete", || async {
        pair.source.partition_count("copy.orders") == 2
            && (0..2).all(|at| pair.source.records("copy.orders", at).len() == 9)
    })
    .await;
    running.stop().await;
    assert!(!pair.source.topics().iter().any(|topic| topic.starts_with("copy.copy.")));
}

#[tokio::test]
async fn several_streams_share_the_partitions() {
    let pair = Pair::start(3).await;
    for topic in ["a", "b", "c"] {
        pair.topic(topic, 5);
        pair.fill(topic, 4, 4);
    }
    let running = Running::start(pair.config().with_streams(3).with_until_caught_up()).await;
    let mirror = running.mirror.clone();
    running.end().await.unwrap();
    for topic in ["a", "b", "c"] {
        pair.arrives(topic).await;
    }
    let status = mirror.status().borrow().clone();
    let mut streams: Vec<usize> =
        status.partitions.iter().map(|partition| partition.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    assert_eq!(streams, [0, 1, 2]);
    assert_eq!(status.totals.lag_records, 0);
    assert!(mirror.metrics().contains("kmirror_produce_records_total{topic=\"a\""));
}
