//! A fetcher whose topics are deleted and created anew where brokers have no topic ids: old and new
//! are never mixed.

use std::collections::BTreeMap;

use kmirror_client::budget::Budget;
use kmirror_client::fetch::{Fetcher, Position, Trouble};
use kmirror_client::{Client, Config};
use kmirror_fake::{ApiKey, BatchBuilder, Cluster, Record, Release};

use crate::fetch::{numbers, read, trouble, write};
use crate::support::{TOPIC, client, fetching, partition, until};

const RECREATED: Trouble = Trouble::Recreated { before: None, now: None };

/// One broker of a release without topic ids, and a topic that is read up to its fifth record.
async fn having_read_five() -> (Cluster, Fetcher) {
    let builder = Cluster::builder().emulate(Release::V2_4).auto_create_topics(false);
    let cluster = builder.topic(TOPIC, 1).start().await.expect("starts");
    write(&cluster, 0, 0..5);
    let fetcher = Fetcher::new(client(&cluster).await, fetching(), Budget::new(8 << 20));
    fetcher.assign(&partition(0), Position::at(0));
    let found = read(&fetcher, BTreeMap::from([(0, 5)])).await;
    assert_eq!(found[&0], numbers(0..5));
    (cluster, fetcher)
}

/// Deletes the topic; its reader hears of it, as it does of brokers that let go of a partition.
async fn delete(cluster: &Cluster) {
    cluster.delete_topic(TOPIC).expect("deleted");
    let before = cluster.request_count(ApiKey::Metadata);
    until("it is looked for", || cluster.request_count(ApiKey::Metadata) > before).await;
}

#[tokio::test]
async fn a_topic_created_anew_without_an_id_is_not_read_as_if_it_were_the_old_one() {
    for count in [0, 3, 5, 10, 100] {
        let (cluster, fetcher) = having_read_five().await;
        delete(&cluster).await;
        cluster.create_topic(TOPIC, 1);
        write(&cluster, 0, 100..100 + count);
        let (_, position, kind) = trouble(&fetcher).await;
        assert_eq!((position.next_offset, kind), (5, RECREATED), "{count} records");
        fetcher.assign(&partition(0), Position::at(0));
        write(&cluster, 0, 200..201);
        let end = count as i64 + 1;
        let found = read(&fetcher, BTreeMap::from([(0, end)])).await;
        assert_eq!(found[&0][..count], numbers(100..100 + count), "from its first record on");
    }
}

#[tokio::test]
async fn the_same_in_one_batch_that_reaches_over_the_position_is_noticed_at_once() {
    let (cluster, fetcher) = having_read_five().await;
    cluster.delete_topic(TOPIC).expect("deleted");
    cluster.create_topic(TOPIC, 1);
    let records = (100..110).map(|value| Record::value(value.to_string()));
    cluster.produce_direct(TOPIC, 0, BatchBuilder::new(records)).expect("written");
    let (_, position, kind) = trouble(&fetcher).await;
    assert_eq!((position.next_offset, kind), (5, RECREATED));
}

#[tokio::test]
async fn a_position_of_an_epoch_that_the_topic_never_had_is_of_the_one_before() {
    let (cluster, fetcher) = having_read_five().await;
    let position = Position { leader_epoch: Some(4), ..Position::at(3) };
    fetcher.assign(&partition(0), position);
    assert_eq!(trouble(&fetcher).await, (partition(0), position, RECREATED));
    drop(cluster);
}

#[tokio::test]
async fn a_log_that_goes_on_is_read_on_after_every_kind_of_interruption() {
    let (cluster, fetcher) = having_read_five().await;
    for round in 1..6usize {
        match round {
            1 => cluster.disconnect_all(1).expect("known"),
            2 => crate::support::restart(&cluster, 1).await,
            3 => cluster.move_leader(TOPIC, 0, 1).expect("moves"),
            4 => cluster.delete_records(TOPIC, 0, round as i64 * 5).expect("deleted"),
            _ => {
                fetcher.pause(&partition(0));
                fetcher.resume(&partition(0));
            }
        }
        write(&cluster, 0, round * 5..round * 5 + 5);
        let found = read(&fetcher, BTreeMap::from([(0, round as i64 * 5 + 5)])).await;
        assert_eq!(found[&0], numbers(round * 5..round * 5 + 5), "round {round}");
    }
}

/// Version 2 of the question wants the right to act for the cluster.
#[tokio::test]
async fn a_broker_that_lets_no_consumer_ask_for_epochs_is_not_asked() {
    let (cluster, fetcher) = having_read_five().await;
    cluster.lower_max_version(ApiKey::OffsetForLeaderEpoch, 2);
    cluster.disconnect_all(1).expect("known");
    fetcher.assign(&partition(0), Position { leader_epoch: Some(0), ..Position::at(2) });
    let found = read(&fetcher, BTreeMap::from([(0, 5)])).await;
    assert_eq!(found[&0], numbers(2..5));
    assert_eq!(cluster.request_count(ApiKey::OffsetForLeaderEpoch), 0);
}

#[tokio::test]
async fn no_more_is_asked_for_than_a_frame_may_hold() {
    let cluster = Cluster::builder().topic(TOPIC, 1).start().await.expect("starts");
    for _ in 0..20 {
        let record = Record::value("x".repeat(10_000));
        cluster.produce_direct(TOPIC, 0, BatchBuilder::new([record])).expect("written");
    }
    let mut config = Config::new(&cluster.bootstrap()).expect("addresses");
    config.frame_bytes_max = 50_000;
    let client = Client::connect(config).await.expect("the fake answers");
    let fetcher = Fetcher::new(client, fetching(), Budget::new(8 << 20));
    fetcher.assign(&partition(0), Position::at(0));
    let found = read(&fetcher, BTreeMap::from([(0, 20)])).await;
    assert_eq!(found[&0].len(), 20);
}

/// Whether the leader changed before the records were written or after, the new topic's epochs are
/// below the old one's, and at first nobody believes them.
#[tokio::test]
async fn a_topic_created_anew_under_another_leader_is_found_and_noticed() {
    for (moved_first, count) in [(true, 3), (true, 100), (false, 3), (false, 100)] {
        let builder = Cluster::builder().brokers(3).emulate(Release::V2_4);
        let cluster = builder.auto_create_topics(false).topic(TOPIC, 1).start().await;
        let cluster = cluster.expect("starts");
        let move_around = || {
            for round in 0..6 {
                cluster.move_leader(TOPIC, 0, 1 + round % 3).expect("moves");
            }
        };
        if moved_first {
            move_around();
        }
        write(&cluster, 0, 0..5);
        if !moved_first {
            move_around();
        }
        let fetcher = Fetcher::new(client(&cluster).await, fetching(), Budget::new(8 << 20));
        fetcher.assign(&partition(0), Position::at(0));
        read(&fetcher, BTreeMap::from([(0, 5)])).await;
        let (before, epoch) = cluster.leader(TOPIC, 0).expect("known");
        cluster.delete_topic(TOPIC).expect("deleted");
        cluster.create_topic(TOPIC, 1);
        write(&cluster, 0, 100..100 + count);
        cluster.move_leader(TOPIC, 0, 1 + before % 3).expect("moves");
        assert!(cluster.leader(TOPIC, 0).expect("known").1 < epoch);
        let (_, position, kind) = trouble(&fetcher).await;
        assert_eq!((position.next_offset, kind), (5, RECREATED), "{moved_first} {count}");
    }
}
