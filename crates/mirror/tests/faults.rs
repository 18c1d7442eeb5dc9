//! What brokers and networks do to a mirror: it goes on, loses nothing, keeps the order, and says
//! what it cannot mend.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Pair, Running, all_arrive, assert_at_least_once_in_order, until};
use kmirror::policy::trouble::{Lost, Reach};
use kmirror::status::State;
use kmirror::{Error, Halt};
use kmirror_fake::{Action, ApiKey, BatchBuilder, Cluster, Codec, Record, ResponseError};

fn move_leaders(cluster: &Cluster, topic: &str, round: usize) {
    let brokers = cluster.brokers();
    for partition in 0..cluster.partition_count(topic) {
        let to = brokers[(round + partition as usize) % brokers.len()];
        cluster.move_leader(topic, partition, to).unwrap();
    }
}

fn deny_reading(cluster: &Cluster) -> kmirror_fake::Intercept {
    cluster.intercept(ApiKey::Fetch, |_| Action::Error(ResponseError::TopicAuthorizationFailed))
}

#[tokio::test]
async fn a_mirror_of_which_no_topic_is_granted_ends_and_names_them() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    let _denied = deny_reading(&pair.source);
    let error = Running::start(pair.config()).await.end().await.unwrap_err();
    assert!(matches!(&error, Error::Denied { topics } if topics.contains("orders")), "{error}");
}

#[tokio::test]
async fn a_topic_that_is_no_longer_granted_is_in_the_report() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 2, 2);
    let running = Running::start(pair.config()).await;
    pair.arrives("orders").await;
    let denied = deny_reading(&pair.source);
    until("it is noticed", || async { running.state() == Some(State::Retrying) }).await;
    drop(denied);
    let report = running.stop().await;
    assert!(!report.is_clean());
    assert_eq!(report.blocked.keys().map(|topic| &**topic).collect::<Vec<_>>(), ["orders"]);
}

#[tokio::test]
async fn a_topic_the_destination_refuses_to_create_is_in_the_report() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.topic("payments", 1);
    pair.destination.create_topic("payments", 1);
    pair.fill("payments", 1, 1);
    let refusal = Action::Error(ResponseError::TopicAuthorizationFailed);
    let _refused = pair.destination.intercept(ApiKey::CreateTopics, move |_| refusal.clone());
    let running = Running::start(pair.config()).await;
    pair.arrives("payments").await;
    let report = running.stop().await;
    assert_eq!(report.blocked.keys().map(|topic| &**topic).collect::<Vec<_>>(), ["orders"]);
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_when_leaders_move_at_both_ends() {
    let pair = Pair::start(3).await;
    pair.topic("orders", 6);
    let running = Running::start(pair.config()).await;
    for round in 0..12 {
        pair.fill("orders", 5, 5);
        move_leaders(&pair.source, "orders", round);
        if pair.destination.partition_count("orders") > 0 {
            move_leaders(&pair.destination, "orders", round + 1);
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn dropped_connections_repeat_nothing() {
    let pair = Pair::start(2).await;
    pair.topic("orders", 4);
    let running = Running::start(pair.config()).await;
    for round in 0..10 {
        pair.fill("orders", 10, 5);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let cluster = if round % 2 == 0 { &pair.source } else { &pair.destination };
        for broker in cluster.brokers() {
            cluster.disconnect_all(broker).unwrap();
        }
    }
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn answers_lost_after_the_write_repeat_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 3);
    pair.destination.create_topic("orders", 3);
    let count = Arc::new(AtomicUsize::new(0));
    let _rule = pair.destination.intercept(ApiKey::Produce, move |_| {
        match count.fetch_add(1, Ordering::Relaxed) % 5 {
            3 => Action::HandleThenDisconnect,
            4 => Action::Disconnect,
            _ => Action::Continue,
        }
    });
    let running = Running::start(pair.config()).await;
    for _ in 0..30 {
        pair.fill("orders", 2, 3);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn errors_that_pass_are_waited_for() {
    let passing = [
        ResponseError::NotLeaderOrFollower,
        ResponseError::NotEnoughReplicas,
        ResponseError::KafkaStorageError,
        ResponseError::RequestTimedOut,
        ResponseError::NotEnoughReplicasAfterAppend,
    ];
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.destination.create_topic("orders", 2);
    let count = Arc::new(AtomicUsize::new(0));
    let produced = Arc::clone(&count);
    let _produce = pair.destination.intercept(ApiKey::Produce, move |_| {
        let count = produced.fetch_add(1, Ordering::Relaxed);
        if count.is_multiple_of(2) {
            Action::Error(passing[(count / 2) % 5])
        } else {
            Action::Continue
        }
    });
    let _fetch = pair.source.intercept(ApiKey::Fetch, move |_| {
        let count = count.fetch_add(1, Ordering::Relaxed);
        let errors = [ResponseError::NotLeaderOrFollower, ResponseError::KafkaStorageError];
        if count.is_multiple_of(3) { Action::Error(errors[count % 2]) } else { Action::Continue }
    });
    let running = Running::start(pair.config()).await;
    pair.fill("orders", 20, 4);
    all_arrive(&pair, "orders").await;
    running.stop().await;
    assert_at_least_once_in_order(&pair, "orders");
}

#[tokio::test]
async fn brokers_that_stop_and_come_back_lose_nothing() {
    let pair = Pair::start(3).await;
    pair.topic("orders", 6);
    let running = Running::start(pair.config()).await;
    pair.fill("orders", 3, 3);
    pair.arrives("orders").await;
    for broker in [1, 2, 3] {
        for cluster in [&pair.source, &pair.destination] {
            cluster.stop_broker(broker).unwrap();
        }
        pair.fill("orders", 4, 4);
        tokio::time::sleep(Duration::from_millis(150)).await;
        for cluster in [&pair.source, &pair.destination] {
            cluster.start_broker(broker).await.unwrap();
        }
    }
    all_arrive(&pair, "orders").await;
    running.stop().await;
    assert_at_least_once_in_order(&pair, "orders");
}

#[tokio::test]
async fn one_partition_that_is_refused_stops_alone_and_the_others_flow() {
    let pair = Pair::start(1).await;
    pair.topic("bad", 1);
    pair.topic("good", 2);
    for topic in ["bad", "good"] {
        let partitions = pair.source.partition_count(topic);
        pair.destination.create_topic(topic, partitions);
    }
    pair.destination.set_topic_config("bad", "max.message.bytes", "200").unwrap();
    pair.source.produce_direct("bad", 0, Record::new("k", vec![7; 1_000])).unwrap();
    let running = Running::start(pair.config()).await;
    until("bad has halted", || async {
        running.status().partitions.iter().any(|partition| partition.state == State::Halted)
    })
    .await;
    pair.fill("good", 10, 10);
    pair.arrives("good").await;
    let status = running.status();
    let bad = status.partitions.iter().find(|partition| &*partition.topic == "bad").unwrap();
    assert!(bad.why.as_deref().unwrap().contains("too large"), "{bad:?}");
    let report = running.stop().await;
    assert_eq!(report.halted.len(), 1);
}

#[tokio::test]
async fn a_halt_ends_the_mirror_when_its_reach_says_so() {
    let pair = Pair::start(1).await;
    pair.topic("bad", 1);
    pair.destination.create_topic_with("bad", 1, &[("max.message.bytes", "200")]);
    pair.source.produce_direct("bad", 0, Record::new("k", vec![7; 1_000])).unwrap();
    let mut config = pair.config();
    config.trouble.reach = Reach::Mirror;
    match Running::start(config).await.end().await {
        Err(Error::Halted { partition, source: Halt::Oversize { first: 0, .. } }) => {
            assert_eq!(&*partition.topic, "bad");
        }
        other => panic!("{other:?}"),
    }
}

/// A mirror that has read 5 of 10 records of one partition and is kept from reading on.
async fn held_in_the_middle(pair: &Pair, lost: Lost) -> Running {
    pair.topic("orders", 1);
    for record in 0..5 {
        pair.source.produce_direct("orders", 0, Record::new("k", format!("{record}"))).unwrap();
    }
    let mut config = pair.config();
    config.trouble.lost = lost;
    let running = Running::start(config).await;
    pair.arrives("orders").await;
    running
}

#[tokio::test]
async fn retention_that_overtakes_the_mirror_is_named_exactly() {
    for policy in [Lost::Halt, Lost::Continue] {
        let pair = Pair::start(1).await;
        let running = held_in_the_middle(&pair, policy).await;
        let holds = pair
            .source
            .intercept(ApiKey::Fetch, |_| Action::Error(ResponseError::NotLeaderOrFollower));
        for record in 5..20 {
            let record = Record::new("k", format!("{record}"));
            pair.source.produce_direct("orders", 0, record).unwrap();
        }
        pair.source.delete_records("orders", 0, 12).unwrap();
        drop(holds);
        if policy == Lost::Continue {
            until("the rest", || async { pair.destination.records("orders", 0).len() == 13 }).await;
            let metrics = running.mirror.metrics();
            let line = "kmirror_fetch_lost_offsets_total{topic=\"orders\",partition=\"0\"} 7";
            assert!(metrics.contains(line), "{metrics}");
            assert!(running.stop().await.is_clean());
        } else {
            until("it halts", || async { running.state() == Some(State::Halted) }).await;
            let report = running.stop().await;
            assert_eq!(report.halted[0].1, Halt::Lost { from: 5, before: 12 });
            assert_eq!(report.halted[0].1.to_string(), "offsets 5 to 11 are gone from the source");
        }
    }
}

#[tokio::test]
async fn a_source_log_that_was_cut_off_halts_the_partition() {
    let pair = Pair::start(2).await;
    let running = held_in_the_middle(&pair, Lost::Halt).await;
    pair.source.truncate("orders", 0, 3).unwrap();
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert!(
        matches!(report.halted[0].1, Halt::Truncated { position: 5, .. }),
        "{:?}",
        report.halted
    );
}

#[tokio::test]
async fn a_topic_created_again_halts_its_partitions() {
    let pair = Pair::start(1).await;
    let running = held_in_the_middle(&pair, Lost::Halt).await;
    pair.source.delete_topic("orders").unwrap();
    pair.topic("orders", 1);
    pair.fill("orders", 10, 1);
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert_eq!(report.halted[0].1.kind(), "recreated", "{:?}", report.halted);
    assert_eq!(pair.destination.records("orders", 0).len(), 5, "nothing is mixed");
}

#[tokio::test]
async fn a_slow_destination_is_waited_for_within_the_memory_budget() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 8);
    pair.destination.create_topic("orders", 8);
    for partition in 0..8 {
        for batch in 0..40 {
            let record = Record::new(format!("{batch}"), vec![1; 50_000]);
            pair.source.produce_direct("orders", partition, record).unwrap();
        }
    }
    let _slow = pair
        .destination
        .intercept(ApiKey::Produce, |_| Action::DelayReply(Duration::from_millis(20)));
    let mut config = pair.config().with_memory_bytes(2 << 20).with_until_caught_up();
    config.fetch.bytes_max = 1 << 20;
    config.fetch.partition_bytes_max = 200_000;
    let running = Running::start(config).await;
    let mirror = running.mirror.clone();
    assert!(running.end().await.unwrap().is_clean());
    pair.arrives("orders").await;
    let memory = mirror.status().borrow().memory;
    assert!(memory.peak_bytes <= memory.limit_bytes, "{memory:?}");
}

#[tokio::test]
async fn what_grows_when_it_is_rebuilt_holds_up_fetching() {
    const GROWN: usize = 100_000;
    const BUDGET: u64 = 1 << 20;
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    for batch in 0..200 {
        let record = Record::new(format!("{batch}"), vec![1; GROWN]);
        let batch = BatchBuilder::new([record]).with_codec(Codec::Zstd);
        pair.source.produce_direct("orders", 0, batch).unwrap();
    }
    let slow =
        pair.destination.intercept(ApiKey::Produce, |_| Action::DelayReply(Duration::from_secs(1)));
    let mut config = pair.config().with_memory_bytes(BUDGET);
    config.fetch.bytes_max = 1 << 10;
    config.fetch.partition_bytes_max = 1 << 10;
    config.produce.compression = kmirror::config::Compression::None;
    let running = Running::start(config).await;
    let memory = || running.status().memory;
    until("copies fill the budget", || async { memory().used_bytes > BUDGET }).await;
    drop(slow);
    pair.arrives("orders").await;
    let memory = memory();
    let of_two_answers = 20 * GROWN as u64;
    assert!(memory.peak_bytes <= BUDGET + of_two_answers, "{memory:?}");
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_fault_of_the_source_does_not_end_a_mirror_that_refusals_end() {
    let pair = Pair::start(1).await;
    pair.topic("overtaken", 1);
    pair.topic("good", 1);
    pair.fill("overtaken", 10, 1);
    pair.fill("good", 10, 1);
    pair.source.delete_records("overtaken", 0, 5).unwrap();
    pair.source.commit_offset("mirror", "overtaken", 0, 2).unwrap();
    let config = |source_reach| {
        let mut config = pair.config().with_group(kmirror::config::Group::new("mirror"));
        config.trouble.reach = Reach::Mirror;
        config.trouble.source_reach = source_reach;
        config
    };
    let running = Running::start(config(Reach::Partition)).await;
    pair.arrives("good").await;
    let report = running.stop().await;
    assert_eq!(report.halted.len(), 1);
    assert_eq!(report.halted[0].1, Halt::Lost { from: 2, before: 5 });
    let ended = Running::start(config(Reach::Mirror)).await.end().await;
    assert!(matches!(&ended, Err(Error::Halted { .. })), "{ended:?}");
}
