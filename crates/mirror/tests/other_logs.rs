//! Offsets that mean other records than they did: logs that were overtaken, cut off or made anew at
//! the source, and destination topics that are not the ones that were mirrored to.

mod common;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::BufMut;
use common::{Pair, Running, until};
use kmirror::config::{Group, Ownership};
use kmirror::policy::trouble::{Lost, Start};
use kmirror::status::State;
use kmirror::{Config, Halt};
use kmirror_fake::{Action, ApiKey, Cluster, Record, Release, ResponseError};

const TOPIC: &str = "orders";

/// Numbered records, one batch each.
fn produce(cluster: &Cluster, numbers: std::ops::Range<i64>) {
    for number in numbers {
        cluster.produce_direct(TOPIC, 0, Record::new("k", number.to_string())).unwrap();
    }
}

/// The numbers that a cluster has, in the order of its log.
fn numbers(cluster: &Cluster) -> Vec<i64> {
    let number = |record: &kmirror_fake::StoredRecord| {
        let value = record.value.clone().unwrap();
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    };
    if cluster.partition_count(TOPIC) == 0 {
        return Vec::new();
    }
    cluster.records(TOPIC, 0).iter().map(number).collect()
}

fn all(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

fn chain(ranges: &[std::ops::Range<i64>]) -> Vec<i64> {
    ranges.iter().cloned().flatten().collect()
}

async fn arrive(pair: &Pair, wanted: &[i64]) {
    until(&format!("{wanted:?} are there"), || async {
        let there: BTreeSet<i64> = numbers(&pair.destination).into_iter().collect();
        wanted.iter().all(|number| there.contains(number))
    })
    .await;
    assert_eq!(numbers(&pair.destination), wanted);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Group,
    Alone,
}

fn config(pair: &Pair, owner: Owner, lost: Lost) -> Config {
    let mut config = pair.config();
    config.trouble.lost = lost;
    match owner {
        Owner::Group => config.with_group(Group::new("mirror")),
        Owner::Alone => {
            config.ownership = Ownership::Alone { group_id: Some("mirror".into()) };
            config
        }
    }
}

fn lost(running: &Running) -> i64 {
    let metrics = running.mirror.metrics();
    let name = "kmirror_fetch_lost_offsets_total{topic=\"orders\",partition=\"0\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |count| count.parse().unwrap())
}

fn why(running: &Running) -> String {
    let status = running.status();
    status.partitions.first().and_then(|partition| partition.why.clone()).unwrap_or_default()
}

/// How the destination answers what is produced.
struct Gate(Arc<AtomicU8>);

const OPEN: u8 = 0;
const SHUT: u8 = 1;
const UNSURE: u8 = 2;
const ONCE: u8 = 3;

impl Gate {
    fn of(cluster: &Cluster) -> (Gate, kmirror_fake::Intercept) {
        let mode = Arc::new(AtomicU8::new(OPEN));
        let asked = Arc::clone(&mode);
        let rule =
            cluster.intercept(ApiKey::Produce, move |_| match asked.load(Ordering::SeqCst) {
                SHUT => Action::Error(ResponseError::NotEnoughReplicas),
                ONCE => {
                    asked.store(SHUT, Ordering::SeqCst);
                    Action::Continue
                }
                UNSURE => {
                    asked.store(OPEN, Ordering::SeqCst);
                    Action::Error(ResponseError::TopicAuthorizationFailed)
                }
                _ => Action::Continue,
            });
        (Gate(mode), rule)
    }

    fn set(&self, mode: u8) {
        self.0.store(mode, Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Overtaken,
    Truncated,
    Longer,
    Shorter,
}

const EVENTS: [Event; 4] = [Event::Overtaken, Event::Truncated, Event::Longer, Event::Shorter];

impl Event {
    /// Lets it happen to a log of 20 records, of which a mirror was kept from reading those from
    /// the 10th on if it was overtaken.
    fn happen(self, source: &Cluster) {
        match self {
            Event::Overtaken => {
                source.delete_records(TOPIC, 0, 15).unwrap();
                produce(source, 100..105);
            }
            Event::Truncated => {
                source.truncate(TOPIC, 0, 15).unwrap();
                produce(source, 100..105);
            }
            Event::Longer | Event::Shorter => {
                source.delete_topic(TOPIC).unwrap();
                source.create_topic(TOPIC, 1);
                produce(source, 100..if self == Event::Longer { 130 } else { 105 });
            }
        }
    }

    /// What a mirror makes of it that stood at `position`.
    fn halt(self, position: i64) -> Halt {
        match self {
            Event::Overtaken => Halt::Lost { from: position, before: 15 },
            Event::Truncated => Halt::Truncated { position, end: 15 },
            Event::Longer | Event::Shorter => Halt::Recreated { position },
        }
    }

    /// What the destination holds in the end if the mirror goes on, having mirrored all before
    /// `position`.
    fn outcome(self, position: i64) -> Vec<i64> {
        match self {
            Event::Overtaken => chain(&[0..position, 15..20, 100..105]),
            Event::Truncated | Event::Shorter => chain(&[0..position, 100..105]),
            Event::Longer => chain(&[0..position, 100..130]),
        }
    }
}

/// Where a mirror was when it was stopped: before the gap of a log that was overtaken, else at the
/// end.
fn stopped_at(event: Event) -> i64 {
    if event == Event::Overtaken { 10 } else { 20 }
}

/// A mirror that ran and was stopped, before `event` happened.
async fn stopped_before(pair: &Pair, event: Event, config: Config) {
    let position = stopped_at(event);
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..position);
    let running = Running::start(config).await;
    arrive(pair, &all(0..position)).await;
    assert!(running.stop().await.is_clean());
    assert_eq!(pair.source.committed_offset("mirror", TOPIC, 0), Some(position));
    produce(&pair.source, position..20);
    event.happen(&pair.source);
}

const RELEASES: [Release; 2] = [Release::V2_4, Release::V3_9];

/// Runs a case for sources with and without topic ids, with a group and alone.
async fn each<F: Future<Output = ()>>(case: impl Fn(Release, Owner) -> F) {
    let cases = RELEASES
        .into_iter()
        .flat_map(|release| [Owner::Group, Owner::Alone].map(|owner| case(release, owner)));
    futures::future::join_all(cases).await;
}

async fn halts(running: Running, what: &str) -> Halt {
    until(&format!("it halts: {what}"), || async { running.state() == Some(State::Halted) }).await;
    running.stop().await.halted[0].1.clone()
}

#[tokio::test]
async fn what_happened_to_the_log_while_the_mirror_was_down_is_noticed() {
    for event in EVENTS {
        each(async |release, owner| {
            if (release, event) == (Release::V2_4, Event::Longer) {
                return; // nothing tells: see the guarantees
            }
            let pair = Pair::start_from(1, release).await;
            stopped_before(&pair, event, config(&pair, owner, Lost::Halt)).await;
            let (position, what) = (stopped_at(event), format!("{release:?} {owner:?} {event:?}"));
            let running = Running::start(config(&pair, owner, Lost::Halt)).await;
            assert_eq!(halts(running, &what).await, event.halt(position), "{what}");
            assert_eq!(numbers(&pair.destination), all(0..position), "{what}");

            let running = Running::start(config(&pair, owner, Lost::Continue)).await;
            arrive(&pair, &event.outcome(position)).await;
            assert!(running.stop().await.is_clean());
            // What it goes on with is of the new log, and no trouble any more.
            let running = Running::start(config(&pair, owner, Lost::Halt)).await;
            pair.source.produce_direct(TOPIC, 0, Record::new("k", "1000")).unwrap();
            arrive(&pair, &[event.outcome(position), vec![1000]].concat()).await;
            assert!(running.stop().await.is_clean());
        })
        .await;
    }
}

#[tokio::test]
async fn what_happens_to_the_log_while_the_mirror_runs_is_noticed() {
    for event in EVENTS {
        each(async |release, owner| {
            for policy in [Lost::Halt, Lost::Continue] {
                let pair = Pair::start_from(1, release).await;
                let (position, what) =
                    (stopped_at(event), format!("{release:?} {owner:?} {event:?} {policy:?}"));
                pair.topic(TOPIC, 1);
                produce(&pair.source, 0..position);
                let running = Running::start(config(&pair, owner, policy)).await;
                arrive(&pair, &all(0..position)).await;
                let held = (event == Event::Overtaken).then(|| {
                    let refusal = Action::Error(ResponseError::NotLeaderOrFollower);
                    pair.source.intercept(ApiKey::Fetch, move |_| refusal.clone())
                });
                produce(&pair.source, position..20);
                if release == Release::V2_4 && matches!(event, Event::Longer | Event::Shorter) {
                    // Without ids it has to be seen that the topic is not there.
                    pair.source.delete_topic(TOPIC).unwrap();
                    let asked = || pair.source.request_count(ApiKey::Metadata);
                    let before = asked();
                    until("it is seen to be gone", || async { asked() > before + 3 }).await;
                    pair.topic(TOPIC, 1);
                }
                event.happen(&pair.source);
                drop(held);
                if policy == Lost::Continue {
                    arrive(&pair, &event.outcome(position)).await;
                    let gone = if event == Event::Overtaken { 5 } else { 0 };
                    assert_eq!(lost(&running), gone, "{what}");
                    assert!(running.stop().await.is_clean());
                    continue;
                }
                assert_eq!(halts(running, &what).await, event.halt(position), "{what}");
                assert_eq!(numbers(&pair.destination), all(0..position), "{what}");
            }
        })
        .await;
    }
}

/// Waits longer than a test mostly may.
async fn until_long<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let condition = async {
        while !condition().await {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let patience = std::time::Duration::from_secs(120);
    tokio::time::timeout(patience, condition)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
#[ignore = "a topic counts as missing only after 30 s, and is looked for again 10 s later"]
async fn a_topic_that_comes_back_after_it_was_missing_for_long_is_another_one() {
    each(async |release, owner| {
        let pair = Pair::start_from(1, release).await;
        pair.topic(TOPIC, 1);
        produce(&pair.source, 0..20);
        let running = Running::start(config(&pair, owner, Lost::Continue)).await;
        arrive(&pair, &all(0..20)).await;
        pair.source.delete_topic(TOPIC).unwrap();
        if owner == Owner::Alone {
            until_long("it is missing", || async { why(&running).contains("missing") }).await;
        } else {
            let partitions = || running.status().partitions.len();
            until_long("the group gave it up", || async { partitions() == 0 }).await;
        }
        pair.source.create_topic(TOPIC, 1);
        produce(&pair.source, 100..105);
        let wanted = chain(&[0..20, 100..105]);
        until_long("the new one is there", || async { numbers(&pair.destination) == wanted }).await;
        assert!(running.stop().await.is_clean());
    })
    .await;
}

/// A pair whose source is as old as this, with 20 records of which a mirror got 5 acknowledged and
/// has the others under way.
async fn under_way(release: Release) -> (Pair, Running, Gate, kmirror_fake::Intercept) {
    let pair = Pair::start_from(1, release).await;
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..5);
    let mut config = config(&pair, Owner::Group, Lost::Continue);
    config.produce.small_batch_bytes = 0;
    let running = Running::start(config).await;
    arrive(&pair, &all(0..5)).await;
    let (gate, rule) = Gate::of(&pair.destination);
    gate.set(SHUT);
    produce(&pair.source, 5..20);
    until("all is fetched", || async {
        let fetched = "kmirror_fetch_records_total{topic=\"orders\",partition=\"0\"} 20\n";
        running.mirror.metrics().contains(fetched)
    })
    .await;
    (pair, running, gate, rule)
}

#[tokio::test]
async fn what_was_fetched_is_written_before_a_log_that_was_cut_off_is_read_on() {
    for release in [Release::V2_4, Release::V3_9] {
        let (pair, running, gate, _rule) = under_way(release).await;
        Event::Truncated.happen(&pair.source);
        until("it is noticed", || async { why(&running).contains("cut off") }).await;
        gate.set(OPEN);
        arrive(&pair, &Event::Truncated.outcome(20)).await;
        assert_eq!(lost(&running), 0);
        assert!(running.stop().await.is_clean());
    }
}

#[tokio::test]
async fn what_is_still_in_a_log_that_was_cut_off_is_read_again_if_nobody_knows_its_fate() {
    let (pair, running, gate, _rule) = under_way(Release::V3_9).await;
    Event::Truncated.happen(&pair.source);
    until("it is noticed", || async { why(&running).contains("cut off") }).await;
    gate.set(UNSURE);
    arrive(&pair, &chain(&[0..15, 100..105])).await;
    assert_eq!(lost(&running), 5, "15 to 19 are nowhere any more");
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn what_was_fetched_is_written_before_a_topic_that_was_created_again_is_read() {
    for event in [Event::Longer, Event::Shorter] {
        let (pair, running, gate, _rule) = under_way(Release::V3_9).await;
        event.happen(&pair.source);
        until("it is noticed", || async { why(&running).contains("created again") }).await;
        gate.set(OPEN);
        arrive(&pair, &event.outcome(20)).await;
        assert_eq!(lost(&running), 0);
        assert!(running.stop().await.is_clean());
    }
}

#[tokio::test]
async fn what_is_lost_with_a_topic_that_was_created_again_is_counted() {
    let (pair, running, gate, _rule) = under_way(Release::V3_9).await;
    Event::Longer.happen(&pair.source);
    until("it is noticed", || async { why(&running).contains("created again") }).await;
    gate.set(UNSURE);
    arrive(&pair, &chain(&[0..5, 100..130])).await;
    assert_eq!(lost(&running), 15, "5 to 19 are nowhere any more");
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_log_that_ends_before_the_position_is_read_anew_where_nothing_shows_what_it_is() {
    for policy in [Lost::Halt, Lost::Continue] {
        let pair = Pair::start(1).await;
        pair.topic(TOPIC, 1);
        produce(&pair.source, 0..10);
        pair.source.commit_offset("mirror", TOPIC, 0, 9_999).unwrap();
        let running = Running::start(config(&pair, Owner::Alone, policy)).await;
        if policy == Lost::Continue {
            arrive(&pair, &all(0..10)).await;
            assert!(running.stop().await.is_clean());
            assert_eq!(pair.source.committed_offset("mirror", TOPIC, 0), Some(10));
            continue;
        }
        until("it halts", || async { running.state() == Some(State::Halted) }).await;
        let report = running.stop().await;
        assert_eq!(report.halted[0].1, Halt::Beyond { position: 9_999, end: 10 });
        assert_eq!(pair.source.committed_offset("mirror", TOPIC, 0), Some(9_999));
    }
}

#[tokio::test]
async fn until_caught_up_waits_for_what_a_topic_has_that_was_created_again() {
    let pair = Pair::start(1).await;
    stopped_before(&pair, Event::Shorter, config(&pair, Owner::Alone, Lost::Halt)).await;
    let config = config(&pair, Owner::Alone, Lost::Continue).with_until_caught_up();
    assert!(Running::start(config).await.end().await.unwrap().is_clean());
    assert_eq!(numbers(&pair.destination), Event::Shorter.outcome(20));
}

#[tokio::test]
async fn a_log_that_was_cut_off_while_the_mirror_was_down_is_noticed_after_a_busy_end() {
    let (pair, running, gate, rule) = under_way(Release::V3_9).await;
    gate.set(ONCE);
    until("a position is committed in the middle", || async {
        pair.source.committed_offset("mirror", TOPIC, 0).is_some_and(|at| (6..20).contains(&at))
    })
    .await;
    let position = pair.source.committed_offset("mirror", TOPIC, 0).unwrap();
    running.mirror.stop();
    running.mirror.stop();
    running.end().await.unwrap();
    gate.set(OPEN);
    drop(rule);
    pair.source.truncate(TOPIC, 0, 3).unwrap();
    produce(&pair.source, 100..105);
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert_eq!(report.halted[0].1, Halt::Truncated { position, end: 3 });
}

#[tokio::test]
async fn the_end_of_the_log_is_no_start_for_what_appears_later() {
    let pair = Pair::start(1).await;
    pair.topic("before", 2);
    pair.fill("before", 1, 5);
    let mut config = config(&pair, Owner::Group, Lost::Halt);
    config.start = Start::Latest;
    let running = Running::start(config).await;
    until("the first are mirrored", || async {
        let is_running = |state: State| state == State::Running;
        running.status().partitions.iter().filter(|it| is_running(it.state)).count() == 2
    })
    .await;
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..10);
    arrive(&pair, &all(0..10)).await;
    pair.source.grow_topic("before", 3).unwrap();
    for number in 0..10 {
        pair.source.produce_direct("before", 2, Record::new("k", number.to_string())).unwrap();
    }
    until("the added partition's records are there", || async {
        pair.destination.partition_count("before") == 3
            && pair.destination.records("before", 2).len() == 10
    })
    .await;
    let skipped = (0..2).map(|at| pair.destination.records("before", at).len());
    assert_eq!(skipped.collect::<Vec<_>>(), [0, 0], "what was there at the first look is skipped");
    assert!(running.stop().await.is_clean());
}

/// An answer of version 2: no position is kept of one topic, and that of the other is not told.
fn positions_but_of_secret() -> bytes::Bytes {
    let mut answer = bytes::BytesMut::new();
    answer.put_i32(2);
    for (topic, code) in [(TOPIC, 0), ("secret", 29)] {
        answer.put_i16(i16::try_from(topic.len()).unwrap());
        answer.put_slice(topic.as_bytes());
        answer.put_i32(1);
        answer.put_i32(0);
        answer.put_i64(-1);
        answer.put_i16(0);
        answer.put_i16(code);
    }
    answer.put_i16(0);
    answer.freeze()
}

#[tokio::test]
async fn a_position_that_cannot_be_read_keeps_no_other_partition_from_starting() {
    let pair = Pair::start(1).await;
    pair.topic("secret", 1);
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..5);
    pair.source.lower_max_version(ApiKey::OffsetFetch, 2);
    let answer = positions_but_of_secret();
    let _rule = pair.source.intercept(ApiKey::OffsetFetch, move |_| Action::Reply(answer.clone()));
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    arrive(&pair, &all(0..5)).await;
    until("the other says why", || async {
        running.status().partitions.iter().any(|partition| {
            let why = partition.why.as_deref().unwrap_or_default();
            &*partition.topic == "secret" && why.contains("TOPIC_AUTHORIZATION_FAILED")
        })
    })
    .await;
    running.stop().await;
}

/// A mirror ran, and its destination topic is not there any more.
async fn without_destination() -> Pair {
    let pair = Pair::start(1).await;
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..5);
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    arrive(&pair, &all(0..5)).await;
    assert!(running.stop().await.is_clean());
    pair.destination.delete_topic(TOPIC).unwrap();
    produce(&pair.source, 5..10);
    pair
}

#[tokio::test]
async fn a_destination_topic_that_is_a_new_one_is_not_written_in_the_middle_in_silence() {
    let mut pair = without_destination().await;
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert_eq!(report.halted[0].1, Halt::Replaced { position: 5 });
    assert!(numbers(&pair.destination).is_empty());

    let running = Running::start(config(&pair, Owner::Group, Lost::Continue)).await;
    arrive(&pair, &all(5..10)).await;
    assert!(running.stop().await.is_clean());

    // Accepted once, it is the one that is mirrored to.
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    produce(&pair.source, 10..15);
    arrive(&pair, &all(5..15)).await;
    assert!(running.stop().await.is_clean());

    pair.destination = Cluster::builder().cluster_id("rebuilt").start().await.unwrap();
    let running = Running::start(config(&pair, Owner::Group, Lost::Halt)).await;
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert_eq!(report.halted[0].1, Halt::Replaced { position: 15 });
}

#[tokio::test]
async fn a_destination_topic_that_vanishes_under_a_mirror_halts_its_partitions() {
    let pair = Pair::start(1).await;
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..5);
    let running = Running::start(config(&pair, Owner::Alone, Lost::Halt)).await;
    arrive(&pair, &all(0..5)).await;
    pair.destination.delete_topic(TOPIC).unwrap();
    until("it halts", || async { running.state() == Some(State::Halted) }).await;
    let report = running.stop().await;
    assert_eq!(report.halted[0].1, Halt::Replaced { position: 5 });
}

#[tokio::test]
async fn a_position_that_a_tool_set_is_a_start_like_any_other() {
    let pair = Pair::start(1).await;
    pair.topic(TOPIC, 1);
    produce(&pair.source, 0..10);
    pair.source.commit_offset("mirror", TOPIC, 0, 5).unwrap();
    let running = Running::start(config(&pair, Owner::Alone, Lost::Halt)).await;
    arrive(&pair, &all(5..10)).await;
    assert!(running.stop().await.is_clean());
}
