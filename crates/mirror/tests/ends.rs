//! Ends: none comes early, none hides what is left, and what was acknowledged is written down
//! whatever ends the mirror.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Pair, Running, until};
use kmirror::config::{Group, Ownership};
use kmirror::policy::filter::{Pattern, Selection};
use kmirror::policy::trouble::Reach;
use kmirror::status::{Partition, State};
use kmirror::{Config, Ended, Error, Halt, Mirror, shutdown};
use kmirror_fake::{Action, ApiKey, Intercept, Record, ResponseError};

const GROUP: &str = "mirror";

fn grouped(pair: &Pair) -> Config {
    let mut group = Group::new(GROUP);
    group.heartbeat_interval = Duration::from_millis(100);
    pair.config().with_group(group)
}

fn alone(pair: &Pair) -> Config {
    let mut config = pair.config();
    config.ownership = Ownership::Alone { group_id: Some(GROUP.into()) };
    config
}

fn committed(pair: &Pair, topic: &str) -> Vec<Option<i64>> {
    let partitions = 0..pair.source.partition_count(topic);
    partitions.map(|at| pair.source.committed_offset(GROUP, topic, at)).collect()
}

/// xorshift64*: a repeatable choice.
fn chance(seed: &AtomicU64, bound: u64) -> u64 {
    let mut state = seed.load(Ordering::Relaxed) | 1;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    seed.store(state, Ordering::Relaxed);
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
}

/// How often a test of chance is run: `KMIRROR_ROUNDS`, or a few times.
fn rounds(few: u64) -> u64 {
    std::env::var("KMIRROR_ROUNDS").map_or(few, |rounds| rounds.parse().expect("a number"))
}

/// Joins take their time, so that partitions move while others are caught up already.
fn slow_joins(pair: &Pair, seed: &Arc<AtomicU64>) -> Intercept {
    let seed = Arc::clone(seed);
    pair.source.intercept(ApiKey::JoinGroup, move |_| {
        Action::Delay(Duration::from_millis(chance(&seed, 120)))
    })
}

#[tokio::test]
async fn catching_up_is_never_short_whatever_the_streams_and_however_late_they_join() {
    for round in 0..rounds(4) {
        let seed = Arc::new(AtomicU64::new(round + 1));
        let pair = Pair::start(1).await;
        pair.topic("orders", 3);
        pair.destination.create_topic("orders", 3);
        for record in 0..300 {
            let record = Record::new(format!("k{record}"), format!("v{record}"));
            pair.source.produce_direct("orders", 0, record).unwrap();
        }
        let _slow = slow_joins(&pair, &seed);
        let mut config = grouped(&pair).with_until_caught_up();
        config = config.with_streams(1 + usize::try_from(round % 4).unwrap());
        config.produce.small_batch_bytes = 0;
        config.fetch.bytes_max = 1 << 10;
        config.fetch.partition_bytes_max = 1 << 10;
        let report = Running::start(config).await.end().await.unwrap();
        let found = pair.destination.records("orders", 0).len();
        assert_eq!((report.end, report.is_clean(), found), (Ended::CaughtUp, true, 300), "{round}");
        assert_eq!(committed(&pair, "orders"), [Some(300), Some(0), Some(0)]);
    }
}

#[tokio::test]
async fn catching_up_waits_for_what_another_instance_mirrors() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    pair.destination.create_topic("orders", 4);
    let mut config = grouped(&pair);
    config.source = config.source.with_client_id("slow");
    let other = Running::start(config).await;
    until("it has all", || async { other.status().partitions.len() == 4 }).await;
    let refusals = Arc::new(AtomicU64::new(0));
    let refused = Arc::clone(&refusals);
    let held = pair.source.intercept(ApiKey::Fetch, move |context| match context.client_id {
        Some("slow") => {
            refused.fetch_add(1, Ordering::Relaxed);
            Action::Error(ResponseError::NotLeaderOrFollower)
        }
        _ => Action::Continue,
    });
    // A fetch that waited at the broker already would bring the records.
    until("it is refused", || async { refusals.load(Ordering::Relaxed) > 0 }).await;
    pair.fill("orders", 3, 3);
    let running = Running::start(grouped(&pair).with_until_caught_up()).await;
    let mirror = Arc::clone(&running.mirror);
    until("it is done with its part", || async {
        let status = running.status();
        let is_done = |partition: &Arc<Partition>| partition.state == State::Done;
        !status.partitions.is_empty() && status.partitions.iter().all(is_done)
    })
    .await;
    drop(held);
    let report = running.end().await.unwrap();
    assert_eq!((report.end, report.is_clean()), (Ended::CaughtUp, true), "{report:?}");
    assert!(mirror.status().borrow().partitions.len() < 4, "the other one has some");
    assert_eq!(committed(&pair, "orders"), [Some(9); 4]);
    pair.arrives("orders").await;
    other.stop().await;
}

/// The group's coordinator does not answer, and gives its members up meanwhile.
fn lose_members(pair: &Pair) -> Vec<Intercept> {
    let apis = [
        ApiKey::FindCoordinator,
        ApiKey::Heartbeat,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
    ];
    let away = apis.map(|api| pair.source.intercept(api, |_| Action::Disconnect)).into();
    for member in members(pair) {
        assert!(pair.source.expire_member(GROUP, &member));
    }
    away
}

fn members(pair: &Pair) -> Vec<String> {
    pair.source.group(GROUP).map(|group| group.members).unwrap_or_default()
}

#[tokio::test]
async fn partitions_that_come_back_to_another_stream_repeat_nothing() {
    for round in 0..rounds(2) {
        let seed = Arc::new(AtomicU64::new(round + 1));
        let pair = Pair::start(1).await;
        pair.topic("orders", 6);
        pair.destination.create_topic("orders", 6);
        let delays = Arc::clone(&seed);
        let _slow = pair.destination.intercept(ApiKey::Produce, move |_| {
            Action::DelayReply(Duration::from_millis(chance(&delays, 60)))
        });
        let mut config = grouped(&pair).with_streams(2);
        // Of what is written little is committed when the partitions are lost.
        config.commit_interval = Duration::from_secs(600);
        config.produce.small_batch_bytes = 0;
        let running = Running::start(config).await;
        for _ in 0..2 {
            until("both have a share", || async {
                let status = running.status();
                let of = |stream| {
                    let is_its = |at: &&Arc<Partition>| at.stream == stream;
                    let flow = |at: &&Arc<Partition>| at.state == State::Running;
                    status.partitions.iter().filter(is_its).filter(flow).count()
                };
                (of(0), of(1)) == (3, 3)
            })
            .await;
            let before = members(&pair);
            pair.fill("orders", 4, 2);
            let away = lose_members(&pair);
            pair.fill("orders", 2, 2);
            tokio::time::sleep(Duration::from_millis(chance(&seed, 200))).await;
            drop(away);
            pair.fill("orders", 2, 2);
            until("others are members", || async {
                let now = members(&pair);
                now.len() == 2 && !now.iter().any(|member| before.contains(member))
            })
            .await;
        }
        // It compares every record, each once and in order.
        pair.arrives("orders").await;
        // It may not have its partitions back yet, and then cannot commit.
        assert!(running.stop().await.unfinished.is_empty());
        pair.arrives("orders").await;
    }
}

#[tokio::test]
async fn partitions_that_are_handed_over_unflushed_within_a_process_repeat_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    pair.destination.create_topic("orders", 4);
    let mut group = Group::new(GROUP);
    group.heartbeat_interval = Duration::from_millis(100);
    group.rebalance_timeout = Duration::from_secs(1);
    let config = pair.config().with_group(group).with_streams(2);
    // The second stream comes when the first has everything and cannot get rid of it in time.
    let late = Arc::new(AtomicBool::new(true));
    let is_late = Arc::clone(&late);
    let first = std::sync::Mutex::new(None);
    let _gate = pair.source.intercept(ApiKey::JoinGroup, move |context| {
        let mut first = first.lock().unwrap();
        let is_first = *first.get_or_insert(context.connection) == context.connection;
        if is_first || !is_late.load(Ordering::Relaxed) {
            Action::Continue
        } else {
            Action::Disconnect
        }
    });
    let slow = pair
        .destination
        .intercept(ApiKey::Produce, |_| Action::DelayReply(Duration::from_millis(2_500)));
    let running = Running::start(config).await;
    until("one has all", || async { running.status().partitions.len() == 4 }).await;
    pair.fill("orders", 10, 3);
    until("it is under way", || async { pair.destination.request_count(ApiKey::Produce) > 0 })
        .await;
    late.store(false, Ordering::Relaxed);
    until("they share", || async {
        let status = running.status();
        let streams: std::collections::BTreeSet<_> =
            status.partitions.iter().map(|partition| partition.stream).collect();
        streams.len() == 2
    })
    .await;
    drop(slow);
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
    pair.arrives("orders").await;
}

/// One record that the destination never takes.
fn oversize(pair: &Pair, topic: &str) {
    pair.destination.create_topic_with(topic, 1, &[("max.message.bytes", "1000")]);
    let record = Record::new("key", vec![b'x'; 5_000]);
    pair.source.produce_direct(topic, 0, record).unwrap();
}

#[tokio::test]
async fn a_mirror_that_ends_by_a_halt_commits_what_was_acknowledged_so_restarts_repeat_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("bad", 1);
    pair.topic("good", 2);
    pair.fill("bad", 1, 3);
    pair.fill("good", 10, 5);
    oversize(&pair, "bad");
    for _ in 0..4 {
        let mut config = grouped(&pair).with_streams(2);
        config.commit_interval = Duration::from_secs(60);
        config.trouble.reach = Reach::Mirror;
        let running = Running::start(config).await;
        let error = running.end().await.unwrap_err();
        let is_oversize =
            matches!(&error, Error::Halted { source: Halt::Oversize { first: 3, .. }, .. });
        assert!(is_oversize, "{error}");
    }
    assert_eq!(pair.destination.records("bad", 0).len(), 3, "up to the record that is refused");
    assert_eq!(committed(&pair, "bad"), [Some(3)]);
    for partition in 0..2 {
        let found = pair.destination.records("good", partition).len();
        let committed = pair.source.committed_offset(GROUP, "good", partition);
        assert_eq!(committed, Some(i64::try_from(found).unwrap()), "nothing is repeated");
    }
}

#[tokio::test]
async fn a_stream_that_the_group_refuses_ends_the_mirror_and_the_others_commit() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 4);
    pair.destination.create_topic("orders", 4);
    let mut config = grouped(&pair).with_streams(2);
    config.commit_interval = Duration::from_secs(600);
    let running = Running::start(config).await;
    until("both have a share", || async {
        let status = running.status();
        status.partitions.iter().filter(|partition| partition.stream == 0).count() == 2
            && status.partitions.len() == 4
    })
    .await;
    pair.fill("orders", 3, 3);
    pair.arrives("orders").await;
    let heartbeats = Arc::new(AtomicU64::new(0));
    let _refused = pair.source.intercept(ApiKey::Heartbeat, move |_| {
        match heartbeats.fetch_add(1, Ordering::Relaxed) {
            0 => Action::Error(ResponseError::FencedInstanceId),
            _ => Action::Continue,
        }
    });
    let error = running.end().await.unwrap_err();
    assert!(matches!(error, Error::Group { .. }), "{error}");
    let written = committed(&pair, "orders").into_iter().filter(|at| *at == Some(9)).count();
    assert!(written >= 2, "{:?}", committed(&pair, "orders"));
}

#[tokio::test]
async fn a_last_commit_that_fails_is_in_the_report_and_the_end_is_not_clean() {
    for group in [true, false] {
        let pair = Pair::start(1).await;
        pair.topic("orders", 2);
        pair.fill("orders", 2, 2);
        let mut config = if group { grouped(&pair) } else { alone(&pair) };
        config.shutdown_timeout = Duration::from_secs(1);
        let refusal = Action::Error(ResponseError::TopicAuthorizationFailed);
        let _refused = pair.source.intercept(ApiKey::OffsetCommit, move |_| refusal.clone());
        let running = Running::start(config).await;
        pair.arrives("orders").await;
        let report = running.stop().await;
        assert_eq!(report.end, Ended::Drained);
        assert!(!report.is_clean(), "{report:?}");
        let unwritten: Vec<(i32, i64)> =
            report.uncommitted.iter().map(|(at, offset)| (at.partition, *offset)).collect();
        assert_eq!(unwritten, [(0, 4), (1, 4)]);
    }
}

#[tokio::test]
async fn catching_up_ends_beside_a_topic_that_cannot_be_mirrored_and_names_it() {
    for is_created in [true, false] {
        let pair = Pair::start(1).await;
        pair.topic("orders", 2);
        pair.topic("payments", 1);
        pair.destination.create_topic("payments", 1);
        pair.fill("payments", 2, 2);
        pair.fill("orders", 2, 2);
        let refusal = Action::Error(ResponseError::TopicAuthorizationFailed);
        let _refused = pair.destination.intercept(ApiKey::CreateTopics, move |_| refusal.clone());
        let mut config = grouped(&pair).with_until_caught_up();
        config.topic.create = is_created;
        let report = Running::start(config).await.end().await.unwrap();
        assert_eq!((report.end, report.is_clean()), (Ended::CaughtUp, false), "{is_created}");
        assert_eq!(report.blocked.keys().map(|topic| &**topic).collect::<Vec<_>>(), ["orders"]);
        pair.arrives("payments").await;
    }
}

#[tokio::test]
async fn catching_up_ends_when_the_destination_grants_no_producer_and_says_so() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    pair.fill("orders", 2, 2);
    let refusal = Action::Error(ResponseError::ClusterAuthorizationFailed);
    let _refused = pair.destination.intercept(ApiKey::InitProducerId, move |_| refusal.clone());
    let mut config = grouped(&pair).with_until_caught_up();
    config.shutdown_timeout = Duration::from_secs(1);
    let report = Running::start(config).await.end().await.unwrap();
    assert_eq!(report.end, Ended::CaughtUp);
    assert!(report.blocked.contains_key("orders"), "{report:?}");
    assert_eq!(committed(&pair, "orders"), [Some(0)]);
}

#[tokio::test]
async fn catching_up_waits_for_what_is_held_up_for_a_while() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.topic("payments", 1);
    pair.destination.create_topic("payments", 1);
    pair.fill("payments", 2, 2);
    pair.fill("orders", 2, 2);
    let count = AtomicU64::new(0);
    let _refused = pair.destination.intercept(ApiKey::CreateTopics, move |_| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0..5 => Action::Error(ResponseError::NotController),
            _ => Action::Continue,
        }
    });
    let report = Running::start(grouped(&pair).with_until_caught_up()).await.end().await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    pair.arrives("orders").await;
}

#[tokio::test]
async fn the_first_position_is_written_at_once_and_an_idle_one_again_at_a_clean_end() {
    for group in [true, false] {
        let pair = Pair::start(1).await;
        pair.topic("orders", 2);
        pair.fill("orders", 2, 2);
        let config = || {
            let mut config = if group { grouped(&pair) } else { alone(&pair) };
            config.commit_interval = Duration::from_secs(600);
            config.start = kmirror::policy::trouble::Start::Latest;
            config
        };
        let running = Running::start(config()).await;
        until("where it starts is kept", || async { committed(&pair, "orders") == [Some(4); 2] })
            .await;
        let before = pair.source.request_count(ApiKey::OffsetCommit);
        assert!(running.stop().await.is_clean());
        assert!(pair.source.request_count(ApiKey::OffsetCommit) > before, "group: {group}");
    }
}

#[tokio::test]
async fn a_position_that_was_kept_is_written_again_when_it_is_taken_over() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 2, 2);
    pair.source.commit_offset(GROUP, "orders", 0, 4).unwrap();
    let mut config = grouped(&pair);
    config.commit_interval = Duration::from_secs(600);
    let running = Running::start(config).await;
    until("it is written", || async { pair.source.request_count(ApiKey::OffsetCommit) > 0 }).await;
    assert_eq!(committed(&pair, "orders"), [Some(4)]);
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_write_of_positions_that_failed_is_tried_again_before_the_next_interval() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    let count = AtomicU64::new(0);
    let _refused = pair.source.intercept(ApiKey::OffsetCommit, move |_| {
        match count.fetch_add(1, Ordering::Relaxed) {
            0 => Action::Error(ResponseError::InvalidCommitOffsetSize),
            _ => Action::Continue,
        }
    });
    let mut config = grouped(&pair);
    config.commit_interval = Duration::from_secs(600);
    let running = Running::start(config).await;
    until("it is written", || async { committed(&pair, "orders") == [Some(0)] }).await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_mirror_is_run_once() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    let mirror = Mirror::build(pair.config().with_until_caught_up()).await.unwrap();
    let (_trigger, shutdown) = shutdown::channel();
    mirror.run(shutdown.clone()).await.unwrap();
    let error = mirror.run(shutdown).await.unwrap_err();
    assert!(matches!(error, Error::RunTwice), "{error}");
}

#[tokio::test]
async fn catching_up_ends_beside_a_name_that_the_source_does_not_show_and_names_it() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 2, 2);
    let mut config = grouped(&pair).with_until_caught_up();
    config.topics = Selection::new(Pattern::try_new("orders|paymnts").unwrap());
    let report = Running::start(config).await.end().await.unwrap();
    assert_eq!((report.end, report.is_clean()), (Ended::CaughtUp, false));
    assert_eq!(report.blocked.keys().map(|topic| &**topic).collect::<Vec<_>>(), ["paymnts"]);
    pair.arrives("orders").await;
}
