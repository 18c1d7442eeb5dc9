//! The consumer of records against the fake cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use kmirror_client::batch::{Codec, Decompressor, Record};
use kmirror_client::consumer::{Config, Consumer, Error, Start};
use kmirror_client::producer::{self, Producer};
use kmirror_client::{Client, TopicPartition, group};
use kmirror_fake::{Action, ApiKey, Cluster, ResponseError};

const RECORDS: usize = 500;

async fn client(cluster: &Cluster) -> Client {
    let config = kmirror_client::Config::new(&cluster.bootstrap()).unwrap();
    Client::connect(config).await.unwrap()
}

/// Writes `RECORDS` records, keyed by their number, at as many milliseconds after 1000.
async fn fill(cluster: &Cluster, codec: Codec) {
    let config = producer::Config { codec, batch_bytes: 700, ..producer::Config::default() };
    let mut producer = Producer::try_new(client(cluster).await, config).unwrap();
    for number in 0..RECORDS {
        let text = number.to_string();
        let record = Record::new(Some(text.as_bytes()), Some(text.as_bytes()));
        let record = record.with_timestamp(1000 + i64::try_from(number).unwrap());
        producer.send("orders", None, &record).await.unwrap();
    }
    producer.flush().await.unwrap();
}

fn all_from(cluster: &Cluster, start: Start) -> BTreeMap<TopicPartition, Start> {
    let partitions = 0..cluster.partition_count("orders");
    partitions.map(|index| (TopicPartition::new("orders", index), start)).collect()
}

/// Takes chunks until `count` records have come; their values as numbers, sorted.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<usize> {
    let mut decompressor = Decompressor::new(1 << 20);
    let mut numbers = Vec::new();
    let taking = async {
        while numbers.len() < count {
            let chunk = consumer.next().await.unwrap();
            let number = |record: &Record<'_>| {
                let text = std::str::from_utf8(record.value.unwrap()).unwrap();
                numbers.push(text.parse().unwrap());
            };
            chunk.visit(&mut decompressor, number).unwrap();
        }
    };
    let taken = tokio::time::timeout(Duration::from_secs(20), taking).await;
    assert!(taken.is_ok(), "only {} of {count} records came", numbers.len());
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn what_was_written_is_read_whatever_the_codec() {
    for codec in Codec::ALL {
        let cluster = Cluster::builder().brokers(3).topic("orders", 4).start().await.unwrap();
        fill(&cluster, codec).await;
        let starts = all_from(&cluster, Start::Earliest);
        let mut consumer =
            Consumer::of(client(&cluster).await, Config::default(), starts).await.unwrap();
        let expected: Vec<usize> = (0..RECORDS).collect();
        assert_eq!(take(&mut consumer, RECORDS).await, expected, "{codec:?}");
    }
}

#[tokio::test]
async fn reading_begins_at_an_offset_in_the_middle_of_a_batch() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    fill(&cluster, Codec::None).await;
    let starts = all_from(&cluster, Start::Offset(123));
    let mut consumer =
        Consumer::of(client(&cluster).await, Config::default(), starts).await.unwrap();
    let expected: Vec<usize> = (123..RECORDS).collect();
    assert_eq!(take(&mut consumer, expected.len()).await, expected);
}

#[tokio::test]
async fn reading_begins_at_a_time() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    fill(&cluster, Codec::Lz4).await;
    let starts = all_from(&cluster, Start::Time(1400));
    let mut consumer =
        Consumer::of(client(&cluster).await, Config::default(), starts).await.unwrap();
    let numbers = take(&mut consumer, RECORDS - 400).await;
    assert_eq!(numbers.last(), Some(&(RECORDS - 1)));
    assert!(numbers.contains(&400), "the first record of that time is missing");
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    fill(&cluster, Codec::None).await;
    let group = || group::Config::new("readers").with_topics(["orders"]);
    let fetch = kmirror_client::fetch::Config {
        partition_bytes_max: 2000,
        ..kmirror_client::fetch::Config::default()
    };
    let config = Config { fetch, ..Config::default() };
    let mut first = Consumer::in_group(client(&cluster).await, config.clone(), group()).unwrap();
    let read = take(&mut first, 50).await;
    first.commit().await.unwrap();
    first.leave().await;
    let next = read.len();
    assert!(next < RECORDS);
    assert_eq!(cluster.committed_offset("readers", "orders", 0), i64::try_from(next).ok());
    let mut second = Consumer::in_group(client(&cluster).await, config, group()).unwrap();
    let expected: Vec<usize> = (next..RECORDS).collect();
    assert_eq!(take(&mut second, expected.len()).await, expected);
}

#[tokio::test]
async fn a_position_that_is_gone_starts_anew_where_it_was_told() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    fill(&cluster, Codec::None).await;
    cluster.delete_records("orders", 0, 300).unwrap();
    let starts = all_from(&cluster, Start::Offset(10));
    let mut consumer =
        Consumer::of(client(&cluster).await, Config::default(), starts).await.unwrap();
    let expected: Vec<usize> = (300..RECORDS).collect();
    assert_eq!(take(&mut consumer, expected.len()).await, expected);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_an_error_with_its_name() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    let client = client(&cluster).await;
    let admin = kmirror_client::admin::Admin::new(client).with_timeout(Duration::from_millis(300));
    let wanted = TopicPartition::new("orders", 9);
    let answers = admin
        .list_offsets(
            &BTreeMap::from([(wanted.clone(), kmirror_client::admin::At::Earliest)]),
            kmirror_client::Isolation::ReadCommitted,
        )
        .await
        .unwrap();
    let error = answers[&wanted].clone().unwrap_err();
    let error = Error::Start { partition: wanted, source: error };
    assert_eq!(error.to_string(), "find where to read orders-9");
}

#[tokio::test]
async fn an_offset_outside_the_log_is_an_error_and_not_tried_again_and_again() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    fill(&cluster, Codec::None).await;
    let starts = all_from(&cluster, Start::Offset(9_999));
    let config = Config { start: Start::Offset(9_999), ..Config::default() };
    let mut consumer = Consumer::of(client(&cluster).await, config, starts).await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await.unwrap();
    assert!(matches!(error, Err(Error::Partition { next_offset: 9_999, .. })), "{error:?}");
    assert!(cluster.request_count(ApiKey::ListOffsets) <= 4);
}

/// Calls until something else than an error comes, as an application does that goes on after one.
async fn take_in_spite_of_errors(consumer: &mut Consumer, count: usize) -> usize {
    let mut errors = 0;
    let mut decompressor = Decompressor::new(1 << 20);
    let mut found = 0;
    let taking = async {
        while found < count {
            match consumer.next().await {
                Ok(chunk) => chunk.visit(&mut decompressor, |_| found += 1).unwrap(),
                Err(_) => errors += 1,
            }
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), taking).await.is_ok(), "{found}");
    errors
}

#[tokio::test]
async fn partitions_whose_start_cannot_be_learnt_at_first_are_read_later() {
    for api in [ApiKey::OffsetFetch, ApiKey::ListOffsets] {
        let cluster = Cluster::builder().topic("orders", 2).start().await.unwrap();
        fill(&cluster, Codec::None).await;
        let _rule = cluster.intercept(api, |context| match context.nth {
            0 => Action::Error(ResponseError::TopicAuthorizationFailed),
            _ => Action::Continue,
        });
        let group = group::Config::new("readers").with_topics(["orders"]);
        let config = Config::default();
        let mut consumer = Consumer::in_group(client(&cluster).await, config, group).unwrap();
        let errors = take_in_spite_of_errors(&mut consumer, RECORDS).await;
        assert!(errors > 0, "{api:?}");
    }
}

#[tokio::test]
async fn a_partition_whose_start_cannot_be_learnt_does_not_stop_the_others() {
    let cluster = Cluster::builder().brokers(2).topic("orders", 2).start().await.unwrap();
    fill(&cluster, Codec::None).await;
    let (refusing, _) = cluster.leader("orders", 1).unwrap();
    assert_ne!(cluster.leader("orders", 0).unwrap().0, refusing);
    let _rule = cluster.intercept(ApiKey::ListOffsets, move |context| {
        if context.broker == refusing {
            Action::Error(ResponseError::TopicAuthorizationFailed)
        } else {
            Action::Continue
        }
    });
    let group = group::Config::new("readers").with_topics(["orders"]);
    let mut consumer =
        Consumer::in_group(client(&cluster).await, Config::default(), group).unwrap();
    let count = cluster.records("orders", 0).len();
    assert!(count > 0 && take_in_spite_of_errors(&mut consumer, count).await > 0);
    let asked = cluster.request_count(ApiKey::ListOffsets);
    for _ in 0..2 {
        let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await.unwrap();
        assert!(matches!(next, Err(Error::Start { .. })), "{next:?}");
    }
    assert!(cluster.request_count(ApiKey::ListOffsets) <= asked + 3, "it is asked with pauses");
}

#[tokio::test]
async fn a_member_takes_part_in_its_group_while_no_start_can_be_learnt() {
    let cluster = Cluster::builder().topic("orders", 2).start().await.unwrap();
    let _rule = cluster.intercept(ApiKey::ListOffsets, |_| Action::Ignore);
    let config = || group::Config::new("readers").with_topics(["orders"]);
    let mut consumer =
        Consumer::in_group(client(&cluster).await, Config::default(), config()).unwrap();
    let shared = async {
        while cluster.request_count(ApiKey::ListOffsets) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let client = client(&cluster).await;
        let (mut other, _committer) = group::Membership::join(&client, config()).unwrap();
        loop {
            if let group::Event::Assigned { owned, .. } = other.next().await.unwrap()
                && owned.len() == 1
            {
                return;
            }
        }
    };
    let reads = async {
        loop {
            // The errors that it tells are no matter here.
            let _ = consumer.next().await;
        }
    };
    tokio::select! {
        () = reads => {}
        shared = tokio::time::timeout(Duration::from_secs(25), shared) => shared.unwrap(),
    }
}
