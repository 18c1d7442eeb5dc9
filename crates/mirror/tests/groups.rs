//! Sharing the work through the consumer group on the source, and resuming where it was left.

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Pair, Running, all_arrive, until};
use kmirror::Config;
use kmirror::config::{Group, Ownership};
use kmirror_fake::{Action, ApiKey, ResponseError};

fn grouped(pair: &Pair) -> Config {
    let mut group = Group::new("mirror");
    group.heartbeat_interval = Duration::from_millis(100);
    pair.config().with_group(group)
}

fn committed(pair: &Pair, topic: &str) -> Vec<Option<i64>> {
    let partitions = 0..pair.source.partition_count(topic);
    partitions.map(|at| pair.source.committed_offset("mirror", topic, at)).collect()
}

#[tokio::test]
async fn positions_are_committed_and_a_clean_restart_repeats_nothing() {
    let pair = Pair::start(2).await;
    pair.topic("orders", 4);
    pair.fill("orders", 5, 5);
    let running = Running::start(grouped(&pair)).await;
    pair.arrives("orders").await;
    until("positions are committed", || async { committed(&pair, "orders") == [Some(25); 4] })
        .await;
    pair.fill("orders", 1, 3);
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
    assert_eq!(committed(&pair, "orders"), [Some(28); 4], "committed at the end");
    pair.fill("orders", 2, 2);
    let running = Running::start(grouped(&pair)).await;
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
    pair.arrives("orders").await;
}

#[tokio::test]
async fn two_instances_share_the_partitions_and_hand_them_over_without_repeats() {
    let pair = Pair::start(3).await;
    pair.topic("orders", 8);
    pair.fill("orders", 3, 3);
    let first = Running::start(grouped(&pair)).await;
    pair.arrives("orders").await;
    let second = Running::start(grouped(&pair).with_streams(2)).await;
    until("both have partitions", || async {
        let owned = |running: &Running| running.status().partitions.len();
        owned(&second) > 0 && owned(&first) > 0 && owned(&first) + owned(&second) == 8
    })
    .await;
    for _ in 0..10 {
        pair.fill("orders", 2, 2);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    pair.arrives("orders").await;
    assert!(first.stop().await.is_clean());
    until("the second has all", || async { second.status().partitions.len() == 8 }).await;
    pair.fill("orders", 2, 2);
    pair.arrives("orders").await;
    assert!(second.stop().await.is_clean());
}

#[tokio::test]
async fn topics_that_appear_are_joined_through_the_group() {
    let pair = Pair::start(1).await;
    pair.topic("first", 2);
    let running = Running::start(grouped(&pair)).await;
    pair.fill("first", 2, 2);
    pair.arrives("first").await;
    pair.topic("second", 3);
    pair.fill("second", 2, 2);
    pair.arrives("second").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn partitions_that_are_added_are_joined_through_the_group() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    let running = Running::start(grouped(&pair).with_streams(2)).await;
    pair.fill("orders", 2, 2);
    pair.arrives("orders").await;
    pair.source.grow_topic("orders", 3).unwrap();
    pair.fill("orders", 2, 2);
    pair.arrives("orders").await;
    until("the status shows them", || async { running.status().partitions.len() == 3 }).await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_forced_rebalance_under_load_loses_nothing() {
    let pair = Pair::start(2).await;
    pair.topic("orders", 6);
    let running = Running::start(grouped(&pair).with_streams(2)).await;
    pair.fill("orders", 2, 2);
    pair.arrives("orders").await;
    for _ in 0..5 {
        pair.source.rebalance_group("mirror");
        pair.fill("orders", 3, 3);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn alone_with_a_group_id_keeps_positions_without_joining() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 2, 5);
    let config = || {
        let mut config = pair.config().with_until_caught_up();
        config.ownership = Ownership::Alone { group_id: Some(Arc::from("mirror")) };
        config
    };
    assert!(Running::start(config()).await.end().await.unwrap().is_clean());
    assert_eq!(committed(&pair, "orders"), [Some(10); 2]);
    pair.fill("orders", 1, 5);
    let report = Running::start(config()).await.end().await.unwrap();
    assert_eq!(report.totals.records, 10, "only what is new");
    pair.arrives("orders").await;
}

#[tokio::test]
async fn a_partition_on_its_way_back_stays_when_another_assignment_comes() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    let mut config = grouped(&pair);
    config.commit_interval = Duration::from_secs(600);
    let running = Running::start(config).await;
    pair.fill("orders", 5, 5);
    pair.arrives("orders").await;
    // Nobody tells where the partitions stand: they are assigned again and cannot go on yet.
    let refused = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&refused);
    let silence = pair.source.intercept(ApiKey::OffsetFetch, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Action::Error(ResponseError::CoordinatorLoadInProgress)
    });
    for member in &pair.source.group("mirror").unwrap().members {
        assert!(pair.source.expire_member("mirror", member));
    }
    until("the positions are asked for", || async { refused.load(Ordering::Relaxed) > 0 }).await;
    pair.source.grow_topic("orders", 5).unwrap();
    until("the new one is assigned", || async { running.status().partitions.len() == 5 }).await;
    drop(silence);
    pair.fill("orders", 5, 5);
    // It compares every record, each once and in order.
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_member_that_is_expelled_and_comes_back_repeats_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    let mut config = grouped(&pair);
    // What was written is not committed by far when the member is expelled.
    config.commit_interval = Duration::from_secs(600);
    let running = Running::start(config).await;
    for _ in 0..5 {
        pair.fill("orders", 5, 5);
        pair.arrives("orders").await;
        let group = pair.source.group("mirror").unwrap();
        for member in &group.members {
            assert!(pair.source.expire_member("mirror", member));
        }
        pair.fill("orders", 5, 5);
    }
    // It compares every record, each once and in order.
    pair.arrives("orders").await;
    // It may not be back in the group yet, and then cannot commit.
    assert!(running.stop().await.unfinished.is_empty());
    pair.arrives("orders").await;
}

/// Kills every request to the source's coordinator that `client` sends.
fn without_coordinator(pair: &Pair, client: &'static str) -> Vec<kmirror_fake::Intercept> {
    let apis =
        [ApiKey::FindCoordinator, ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::OffsetCommit];
    let cut = |api| {
        pair.source.intercept(api, move |request| match request.client_id {
            Some(id) if id == client => Action::Disconnect,
            _ => Action::Continue,
        })
    };
    apis.into_iter().map(cut).collect()
}

#[tokio::test]
async fn who_lost_a_partition_writes_no_more_of_it_than_what_was_on_the_wire() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    let config = |client: &'static str| {
        let mut config = grouped(&pair);
        let Ownership::Group(group) = &mut config.ownership else { unreachable!() };
        group.session_timeout_dynamic = Duration::from_millis(1_500);
        config.source = config.source.with_client_id(client);
        config.destination = config.destination.with_client_id(client);
        // Each record is a batch, and one is written after the other.
        config.produce.small_batch_bytes = 0;
        config
    };
    let first = Running::start(config("first")).await;
    pair.fill("orders", 1, 1);
    pair.arrives("orders").await;
    let slow = pair.destination.intercept(ApiKey::Produce, |request| match request.client_id {
        Some("first") => Action::Delay(Duration::from_millis(200)),
        _ => Action::Continue,
    });
    pair.fill("orders", 100, 1);
    let cut = without_coordinator(&pair, "first");
    until("it knows that it lost it", || async {
        let why = first.status().partitions.first().and_then(|partition| partition.why.clone());
        why.is_some_and(|why| why.contains("lost"))
    })
    .await;
    let second = Running::start(config("second")).await;
    let records = || pair.destination.records("orders", 0);
    let last = pair.source.records("orders", 0).pop().unwrap().value;
    until("the second got to the end", || async {
        records().iter().any(|record| record.value == last)
    })
    .await;
    assert!(second.stop().await.is_clean());
    // Whatever the first still has to write it could write now, before what comes later.
    drop((slow, cut));
    pair.fill("orders", 1, 1);
    all_arrive(&pair, "orders").await;
    first.stop().await;
    let sources = pair.source.records("orders", 0).into_iter().enumerate();
    let places: HashMap<_, usize> = sources.map(|(place, record)| (record.value, place)).collect();
    let places: Vec<usize> = records().iter().map(|record| places[&record.value]).collect();
    let taken_over = places.windows(2).position(|pair| pair[1] < pair[0]).map_or(0, |at| at + 1);
    let behind = &places[taken_over..];
    let repeated = behind.len() - (places.iter().max().unwrap() + 1 - behind[0]);
    assert!(repeated <= 5, "more than five were on the wire: {places:?}");
}
