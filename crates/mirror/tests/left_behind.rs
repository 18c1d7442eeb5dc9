//! What a mirror cannot write down before it ends is in its report, wherever the partition was when
//! the end came, and a hand-over writes what can be written.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Pair, Running, all_arrive, assert_at_least_once_in_order, until};
use kmirror::config::Group;
use kmirror::status::{Partition, State};
use kmirror::{Config, Ended, Report};
use kmirror_fake::{Action, ApiKey, Intercept, ResponseError};

const GROUP: &str = "mirror";

/// Nothing is committed but where it starts, and what is written before a partition is given up.
fn config(pair: &Pair, rebalance_timeout: Duration) -> Config {
    let mut group = Group::new(GROUP);
    group.heartbeat_interval = Duration::from_millis(100);
    group.rebalance_timeout = rebalance_timeout;
    let mut config = pair.config().with_group(group);
    config.commit_interval = Duration::from_secs(600);
    config
}

fn committed(pair: &Pair) -> Vec<Option<i64>> {
    let partitions = 0..pair.source.partition_count("orders");
    partitions.map(|at| pair.source.committed_offset(GROUP, "orders", at)).collect()
}

fn uncommitted(report: &Report) -> Vec<(i32, i64)> {
    report.uncommitted.iter().map(|(at, offset)| (at.partition, *offset)).collect()
}

/// A mirror of which the group took two partitions away, with what was written since it began not
/// committed.
async fn lost(pair: &Pair) -> Running {
    pair.topic("orders", 2);
    let running = Running::start(config(pair, Duration::from_secs(30))).await;
    until("where it starts is kept", || async { committed(pair) == [Some(0); 2] }).await;
    pair.fill("orders", 2, 2);
    pair.arrives("orders").await;
    let is_written = |partition: &Arc<Partition>| partition.next_offset == 4;
    until("it is acknowledged", || async { running.status().partitions.iter().all(is_written) })
        .await;
    for api in [ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetCommit] {
        pair.source.intercept(api, |_| Action::Disconnect).forget();
    }
    let group = pair.source.group(GROUP).expect("a group");
    group.members.iter().for_each(|member| assert!(pair.source.expire_member(GROUP, member)));
    let is_lost = |partition: &Arc<Partition>| partition.state == State::Retrying;
    pair.source
        .intercept(ApiKey::Heartbeat, |_| Action::Error(ResponseError::UnknownMemberId))
        .forget();
    until("it is lost", || async { running.status().partitions.iter().all(is_lost) }).await;
    running
}

#[tokio::test]
async fn what_the_group_took_away_before_it_was_committed_is_in_the_report() {
    let pair = Pair::start(1).await;
    let report = lost(&pair).await.stop().await;
    assert_eq!((report.end, report.is_clean()), (Ended::Drained, false), "{report:?}");
    assert_eq!(uncommitted(&report), [(0, 4), (1, 4)]);
}

#[tokio::test]
async fn what_another_instance_has_taken_over_and_committed_is_not_left_behind() {
    let pair = Pair::start(1).await;
    let running = lost(&pair).await;
    for (partition, offset) in [(0, 4), (1, 9)] {
        pair.source.commit_offset(GROUP, "orders", partition, offset).unwrap();
    }
    let report = running.stop().await;
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test]
async fn a_hand_over_whose_positions_are_refused_once_writes_them_again_and_repeats_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    pair.destination.create_topic("orders", 4);
    let first = Running::start(config(&pair, Duration::from_secs(30))).await;
    until("where it starts is kept", || async { committed(&pair) == [Some(0); 4] }).await;
    pair.fill("orders", 3, 3);
    pair.arrives("orders").await;
    let is_refused = AtomicBool::new(false);
    let _once = pair.source.intercept(ApiKey::OffsetCommit, move |_| {
        if is_refused.swap(true, Ordering::Relaxed) {
            Action::Continue
        } else {
            Action::Error(ResponseError::InvalidCommitOffsetSize)
        }
    });
    let second = Running::start(config(&pair, Duration::from_secs(30))).await;
    until("it has its share", || async {
        let status = second.status();
        let flows = |partition: &&Arc<Partition>| partition.state == State::Running;
        status.partitions.iter().filter(flows).count() == 2
    })
    .await;
    assert_eq!(committed(&pair).iter().filter(|at| **at == Some(9)).count(), 2);
    pair.fill("orders", 1, 1);
    pair.arrives("orders").await;
    assert!(first.stop().await.is_clean());
    assert!(second.stop().await.is_clean());
    pair.arrives("orders").await;
}

/// A mirror of two streams: of two partitions that one of them sent and that may be written, the
/// other waits to begin. As long as the interception lives nothing is acknowledged.
async fn apart(pair: &Pair, config: Config) -> (Running, BTreeSet<i32>, Intercept) {
    pair.topic("orders", 4);
    pair.destination.create_topic("orders", 4);
    pair.fill("orders", 1, 3);
    // The second stream comes when the first has everything and cannot get rid of it in time.
    let late = Arc::new(AtomicBool::new(true));
    let is_late = Arc::clone(&late);
    let first = std::sync::Mutex::new(None);
    let gate = move |connection| {
        let mut first = first.lock().unwrap();
        let is_first = *first.get_or_insert(connection) == connection;
        if is_first || !is_late.load(Ordering::Relaxed) {
            Action::Continue
        } else {
            Action::Disconnect
        }
    };
    pair.source.intercept(ApiKey::JoinGroup, move |context| gate(context.connection)).forget();
    let silent = pair.destination.intercept(ApiKey::Produce, |_| Action::HandleThenDisconnect);
    let running = Running::start(config.with_streams(2)).await;
    until("where it starts is kept", || async { committed(pair) == [Some(0); 4] }).await;
    let is_there = |partition| pair.destination.records("orders", partition).len() == 3;
    until("all is sent", || async { (0..4).all(is_there) }).await;
    late.store(false, Ordering::Relaxed);
    let waiting = || {
        let status = running.status();
        let waits = |partition: &&Arc<Partition>| {
            let why = partition.why.as_deref().unwrap_or_default();
            partition.state == State::Waiting && why.contains("not acknowledged yet")
        };
        status.partitions.iter().filter(waits).map(|at| at.partition).collect::<BTreeSet<_>>()
    };
    until("the other waits", || async { waiting().len() == 2 }).await;
    let waiting = waiting();
    (running, waiting, silent)
}

#[tokio::test]
async fn what_one_stream_sent_and_another_waits_for_is_awaited_and_named_at_the_end() {
    let pair = Pair::start(1).await;
    let config = config(&pair, Duration::from_secs(1));
    let (running, waiting, silent) = apart(&pair, config).await;
    drop(silent);
    let report = running.stop().await;
    assert_eq!(report.unfinished, [], "it was waited for");
    let named: Vec<(i32, i64)> = waiting.into_iter().map(|partition| (partition, 3)).collect();
    assert_eq!(uncommitted(&report), named, "{report:?}");
    assert!(!report.is_clean());
}

#[tokio::test]
async fn catching_up_ends_beside_partitions_that_wait_for_what_is_never_acknowledged() {
    let pair = Pair::start(1).await;
    let mut config = config(&pair, Duration::from_secs(1)).with_until_caught_up();
    config.shutdown_timeout = Duration::from_secs(1);
    let (running, _, _silent) = apart(&pair, config).await;
    let report = running.end().await.unwrap();
    assert_eq!((report.end, report.is_clean()), (Ended::CaughtUp, false), "{report:?}");
    assert_eq!(report.blocked.keys().map(|topic| &**topic).collect::<Vec<_>>(), ["orders"]);
    assert_eq!(report.unfinished.len(), 4, "those that left included");
}

#[tokio::test]
async fn partitions_that_cannot_be_written_are_handed_over_without_waiting_for_the_groups_deadline()
{
    for is_known_before in [true, false] {
        let pair = Pair::start(1).await;
        pair.topic("orders", 2);
        pair.destination.create_topic("orders", 2);
        let first = Running::start(config(&pair, Duration::from_secs(600))).await;
        until("where it starts is kept", || async { committed(&pair) == [Some(0); 2] }).await;
        // It may be written, so it can neither be taken back nor be acknowledged.
        let silent = pair.destination.intercept(ApiKey::Produce, |_| Action::HandleThenDisconnect);
        pair.fill("orders", 1, 3);
        let is_set_aside = |partition: &Arc<Partition>| partition.state == State::Retrying;
        let is_sent = || pair.destination.request_count(ApiKey::Produce) > 0;
        until("it is under way", || async {
            is_sent() && (!is_known_before || first.status().partitions.iter().all(is_set_aside))
        })
        .await;
        let second = Running::start(config(&pair, Duration::from_secs(600))).await;
        until("it has its share", || async { second.status().partitions.len() == 1 }).await;
        drop(silent);
        all_arrive(&pair, "orders").await;
        assert_at_least_once_in_order(&pair, "orders");
        assert!(first.stop().await.unfinished.is_empty());
        assert!(second.stop().await.is_clean());
    }
}
