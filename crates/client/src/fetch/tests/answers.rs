//! What answers do to the state, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;
use uuid::Uuid;

use crate::budget::Budget;
use crate::error_code::ErrorCode;
use crate::fetch::answer::{Answer, PartitionAnswer};
use crate::fetch::config::Config;
use crate::fetch::event::{Event, Position, Trouble};
use crate::fetch::link::Style;
use crate::fetch::partition::{Ends, Leader, Seen};
use crate::fetch::session::Plan;
use crate::fetch::state::State;
use crate::name::{BrokerId, TopicPartition};

use super::batches::Stored;

pub(super) const BROKER: BrokerId = BrokerId(1);
pub(super) const OTHER: BrokerId = BrokerId(2);
pub(super) const STYLE: Style = Style { has_total: true, has_sessions: true, has_ids: false };

pub(super) struct World {
    pub(super) state: State,
    pub(super) now: Instant,
    pub(super) budget: Budget,
}

pub(super) fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

pub(super) fn led_by(broker: BrokerId, epoch: i32) -> Seen {
    Seen {
        topic_id: Some(Uuid::from_u128(1)),
        leader: Some(Leader { broker, epoch }),
        exists: true,
        is_forbidden: false,
    }
}

fn ends(high_watermark: i64) -> Ends {
    Ends { high_watermark, last_stable_offset: high_watermark, log_start_offset: 0 }
}

pub(super) fn of(number: i32, code: ErrorCode, records: Bytes) -> PartitionAnswer {
    PartitionAnswer {
        partition: name(number),
        code,
        ends: ends(100),
        aborted: Vec::new(),
        records,
        cuts_first: false,
    }
}

impl World {
    /// Two partitions, led by one broker, at offset 0.
    pub(super) fn new(config: Config) -> Self {
        let now = crate::clock::now();
        let mut world = Self {
            state: State::new(config, Arc::default(), 1),
            now,
            budget: Budget::new(usize::MAX),
        };
        for number in 0..2 {
            world.state.assign(&name(number), Position::at(0));
            world.state.handle_seen(now, &name(number), led_by(BROKER, 5));
        }
        world
    }

    /// Plans the next fetch from the broker, if there is one.
    pub(super) fn plan(&mut self, broker: BrokerId) -> Option<Plan> {
        let (found, bytes) = self.state.poll_fetch(self.now)?;
        assert_eq!(found, broker);
        let plan = self.state.plan(self.now, broker, bytes, STYLE);
        if plan.is_none() {
            self.state.handle_nothing(broker);
        }
        plan
    }

    pub(super) fn answer(&mut self, broker: BrokerId, partitions: Vec<PartitionAnswer>) {
        let answer =
            Answer { throttle: Duration::ZERO, code: ErrorCode::NONE, session_id: 42, partitions };
        let lease = self.budget.try_lease(answer.bytes()).expect("free");
        self.state.handle_answer(self.now, broker, answer, lease);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.state.handle_time(self.now);
    }

    pub(super) fn position(&self, number: i32) -> i64 {
        self.state.position(&name(number)).expect("assigned").next_offset
    }

    pub(super) fn trouble(&mut self) -> Option<Trouble> {
        while let Some(event) = self.state.poll_event() {
            if let Event::Trouble { kind, .. } = event {
                return Some(kind);
            }
        }
        None
    }
}

#[test]
fn only_one_fetch_is_under_way_to_a_broker() {
    let mut world = World::new(Config::default());
    assert_eq!(world.plan(BROKER).expect("due").partitions.len(), 2);
    assert_eq!(world.state.poll_fetch(world.now), None);
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(0).with(&["a", "b"]))]);
    let next = world.plan(BROKER).expect("due");
    assert_eq!((next.session_id, next.session_epoch), (42, 1));
    assert_eq!(next.partitions.len(), 1, "only what moved is named");
    assert_eq!(next.partitions[0].1.fetch_offset, 2);
}

#[test]
fn what_was_not_asked_for_is_ignored() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    let batch = Stored::plain(0).with(&["a"]);
    world.answer(
        BROKER,
        vec![
            of(7, ErrorCode::NONE, batch.clone()),
            of(0, ErrorCode::NONE, batch.clone()),
            of(0, ErrorCode::NONE, batch),
        ],
    );
    let Some(Event::Fetched(fetched)) = world.state.poll_event() else { panic!("no data") };
    assert_eq!((fetched.partition, fetched.next_offset), (name(0), 1));
    assert!(world.state.poll_event().is_none(), "neither the unknown one nor the one twice");
}

#[test]
fn data_that_was_asked_for_under_an_older_assignment_is_ignored() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.state.assign(&name(0), Position::at(0));
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(0).with(&["a"]))]);
    assert!(world.state.poll_event().is_none());
    assert_eq!(world.position(0), 0);
    assert_eq!(world.budget.used(), 0);
}

#[test]
fn data_that_comes_while_a_new_leader_is_asked_is_ignored() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(0).with(&["a"]))]);
    world.state.poll_event().expect("data");
    world.plan(BROKER).expect("due");
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    let proof = world.state.poll_proof(world.now).expect("the new leader is asked");
    assert_eq!((proof.broker, proof.partitions.len()), (OTHER, 1));
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(1).with(&["b"]))]);
    assert!(world.state.poll_event().is_none());
    assert_eq!(world.state.poll_fetch(world.now).map(|(broker, _)| broker), Some(BROKER));
    world.state.handle_proof(world.now, &proof.partitions[0], Some((1, 5)));
    let fetched = world.state.poll_fetch(world.now).expect("proven");
    assert_eq!(fetched.0, OTHER);
}

#[test]
fn a_leader_that_knows_no_epoch_so_old_is_not_taken_for_one_that_lost_data() {
    let mut world = World::new(Config::default());
    let position = Position { leader_epoch: Some(2), ..Position::at(10) };
    world.state.assign(&name(0), position);
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    let proof = world.state.poll_proof(world.now).expect("asked");
    world.state.handle_proof(world.now, &proof.partitions[0], None);
    assert_eq!(world.trouble(), None);
    let plan = world.plan(BROKER).expect("due");
    assert!(plan.partitions.iter().any(|(partition, _)| *partition == name(0)));
}

#[test]
fn a_leader_that_ends_before_the_position_has_lost_data() {
    let mut world = World::new(Config::default());
    let position = Position { leader_epoch: Some(2), ..Position::at(10) };
    world.state.assign(&name(0), position);
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    let proof = world.state.poll_proof(world.now).expect("asked");
    world.state.handle_proof(world.now, &proof.partitions[0], Some((8, 2)));
    assert_eq!(world.trouble(), Some(Trouble::Truncated { end_offset: 8, leader_epoch: 2 }));
    let plan = world.plan(BROKER).expect("the other goes on");
    assert_eq!(plan.partitions.len(), 1);
}

#[test]
fn a_session_error_begins_a_new_session_at_once() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![]);
    world.plan(BROKER).expect("due");
    let answer = Answer {
        throttle: Duration::ZERO,
        code: ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        session_id: 0,
        partitions: Vec::new(),
    };
    let lease = world.budget.try_lease(0).expect("free");
    world.state.handle_answer(world.now, BROKER, answer, lease);
    let plan = world.plan(BROKER).expect("at once");
    assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 2));
}

#[test]
fn a_lost_fetch_begins_a_new_session_after_a_pause() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![]);
    world.plan(BROKER).expect("due");
    world.state.handle_failure(world.now, BROKER);
    assert_eq!(world.state.poll_fetch(world.now), None);
    world.pass(Duration::from_secs(1));
    let plan = world.plan(BROKER).expect("after the pause");
    assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 2));
}

#[test]
fn a_throttled_broker_is_left_alone_but_never_for_ever() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    let answer = Answer {
        throttle: Duration::from_secs(1_000_000),
        code: ErrorCode::NONE,
        session_id: 42,
        partitions: Vec::new(),
    };
    let lease = world.budget.try_lease(0).expect("free");
    world.state.handle_answer(world.now, BROKER, answer, lease);
    world.pass(Duration::from_secs(59));
    assert_eq!(world.state.poll_fetch(world.now), None);
    world.pass(Duration::from_secs(2));
    assert!(world.plan(BROKER).is_some());
}

#[test]
fn a_corrupt_batch_is_fetched_again_as_often_as_configured() {
    let mut world = World::new(Config { corrupt_retries: 2, ..Config::default() });
    let mut damaged = Stored::plain(0).with(&["a"]).to_vec();
    *damaged.last_mut().expect("not empty") ^= 1;
    for attempt in 0..3 {
        let plan = world.plan(BROKER).expect("due");
        let again = attempt == 0 || plan.partitions.iter().any(|(found, _)| *found == name(0));
        assert!(again, "attempt {attempt}");
        let damaged = Bytes::from(damaged.clone());
        world.answer(BROKER, vec![of(0, ErrorCode::NONE, damaged)]);
        world.pass(Duration::from_secs(5));
        // Begins a full session, so that each plan names what is asked.
        world.state.handle_failure(world.now, BROKER);
        world.pass(Duration::from_secs(5));
    }
    assert!(matches!(world.trouble(), Some(Trouble::Corrupt { source: Some(_) })));
    assert_eq!(world.plan(BROKER).expect("the other").partitions.len(), 1);
}

#[test]
fn a_replica_that_lags_does_not_make_a_position_invalid() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]);
    let measured = world.state.poll_measure(world.now).expect("measured");
    assert_eq!(measured.partition, name(0));
    world.state.handle_ends(world.now, &measured, Some((0, 50)));
    assert_eq!(world.trouble(), None);
    world.pass(Duration::from_secs(2));
    world.state.handle_failure(world.now, BROKER);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.plan(BROKER).expect("due").partitions.len(), 2);
}

#[test]
fn a_position_outside_the_log_is_told_with_both_ends() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())]);
    let measured = world.state.poll_measure(world.now).expect("measured");
    world.state.handle_ends(world.now, &measured, Some((7, 50)));
    let expected = Trouble::OutOfRange { log_start_offset: 7, log_end_offset: 50 };
    assert_eq!(world.trouble(), Some(expected));
}

#[test]
fn an_old_broker_is_asked_for_more_when_it_cuts_off_the_first_batch() {
    let config = Config { partition_bytes_max: 100, fetch_bytes_max: 1000, ..Config::default() };
    let mut world = World::new(config);
    world.plan(BROKER).expect("due");
    let large = Stored::plain(0).with(&["x".repeat(5000).as_str()]);
    let cut = PartitionAnswer { cuts_first: true, ..of(0, ErrorCode::NONE, large.slice(..100)) };
    world.answer(BROKER, vec![cut]);
    let (_, bytes) = world.state.poll_fetch(world.now).expect("due");
    assert_eq!(bytes, large.len());
    let style = Style { has_total: false, has_sessions: false, has_ids: false };
    let plan = world.state.plan(world.now, BROKER, bytes, style).expect("due");
    assert_eq!(plan.partitions.len(), 1, "no more than surely fits");
}

#[test]
fn few_partitions_get_all_of_a_window_that_grows_with_full_answers_and_no_further_than_memory() {
    let config =
        Config { partition_bytes_max: 1000, fetch_bytes_max: 1 << 30, ..Config::default() };
    let mut world = World::new(config);
    world.state.memory_bytes = 4 << 20;
    let value = "x".repeat(600_000);
    let mut asked = Vec::new();
    for round in 0..12 {
        let (_, bytes) = world.state.poll_fetch(world.now).expect("due");
        let plan = world.state.plan(world.now, BROKER, bytes, STYLE).expect("due");
        assert!(plan.partitions.iter().all(|(_, want)| want.bytes_max == (bytes / 2).max(1000)));
        asked.push(bytes);
        let batch = Stored::plain(round).with(&[value.as_str()]);
        world.answer(BROKER, vec![of(0, ErrorCode::NONE, batch.clone())]);
        assert!(world.state.poll_event().is_some());
    }
    assert_eq!(asked[..3], [1000, 2000, 4000]);
    assert_eq!(asked.last(), Some(&(512 << 10)), "an eighth of the memory");
    // Another broker takes its half.
    world.state.handle_seen(world.now, &name(1), led_by(OTHER, 6));
    let (_, bytes) = world.state.poll_fetch(world.now).expect("due");
    assert_eq!(bytes, 256 << 10);
    // From far away an answer may bring four times as much.
    world.state.plan(world.now, BROKER, bytes, STYLE).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(12).with(&[value.as_str()]))]);
    world.state.handle_connected(BROKER, Duration::from_millis(50));
    let (_, bytes) = world.state.poll_fetch(world.now).expect("due");
    assert_eq!(bytes, 1 << 20);
}

#[test]
fn without_sessions_partitions_take_turns_at_being_first() {
    let mut world = World::new(Config::default());
    let style = Style { has_total: true, has_sessions: false, has_ids: false };
    let mut first = Vec::new();
    for _ in 0..4 {
        let (broker, bytes) = world.state.poll_fetch(world.now).expect("due");
        let plan = world.state.plan(world.now, broker, bytes, style).expect("due");
        first.push(plan.partitions[0].0.partition);
        world.answer(BROKER, vec![]);
    }
    assert_eq!(first, [1, 0, 1, 0]);
}

#[test]
fn news_of_the_ends_are_told_without_data() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Bytes::new())]);
    let Some(Event::Fetched(fetched)) = world.state.poll_event() else { panic!("no news") };
    assert_eq!((fetched.high_watermark, fetched.entries.len()), (100, 0));
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Bytes::new())]);
    assert!(world.state.poll_event().is_none(), "nothing is new");
}

#[test]
fn a_paused_partition_is_forgotten_by_the_session_and_comes_back() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![]);
    world.state.set_paused(&name(0), true);
    let plan = world.plan(BROKER).expect("due");
    assert_eq!(plan.forgotten.len(), 1);
    world.answer(BROKER, vec![]);
    world.state.set_paused(&name(0), false);
    let plan = world.plan(BROKER).expect("due");
    assert_eq!(plan.partitions.len(), 1);
}

#[test]
fn a_broker_may_not_wait_long_while_a_partition_is_held_back() {
    let mut world = World::new(Config::default());
    let wait_max = Config::default().wait_max;
    world.plan(BROKER).expect("due");
    assert_eq!(world.state.wait(BROKER), wait_max);
    world.answer(BROKER, vec![]);
    world.state.set_paused(&name(0), true);
    world.plan(BROKER).expect("due");
    assert!(world.state.wait(BROKER) <= Duration::from_millis(10));
    world.answer(BROKER, vec![]);
    world.state.set_paused(&name(0), false);
    world.plan(BROKER).expect("due");
    assert_eq!(world.state.wait(BROKER), wait_max);
}

proptest! {
    /// Whatever a broker answers, in whatever order: no panic, positions never go back, and all
    /// memory is given back in the end.
    #[test]
    fn no_answer_panics_or_moves_a_position_back(
        answers in prop::collection::vec(
            (
                0i32..3,
                -2i16..110,
                prop::collection::vec(any::<u8>(), 0..80),
                0i64..6,
                any::<bool>(),
            ),
            1..40,
        ),
    ) {
        let mut world = World::new(Config::default());
        for (number, code, garbage, offset, is_batch) in answers {
            let planned = world.plan(BROKER).is_some();
            let records = if is_batch {
                Stored::plain(offset).with(&["a", "b"])
            } else {
                Bytes::from(garbage)
            };
            let before = [world.position(0), world.position(1)];
            if planned {
                let code = if is_batch { ErrorCode::NONE } else { ErrorCode(code) };
                world.answer(BROKER, vec![of(number, code, records)]);
            }
            prop_assert!(world.position(0) >= before[0] && world.position(1) >= before[1]);
            while let Some(measured) = world.state.poll_measure(world.now) {
                world.state.handle_ends(world.now, &measured, None);
            }
            while world.state.poll_event().is_some() {}
            world.pass(Duration::from_secs(2));
        }
        prop_assert_eq!(world.budget.used(), 0);
    }
}

#[test]
fn a_position_in_a_topic_of_another_id_is_not_read_from() {
    let mut world = World::new(Config::default());
    let (before, now) = (Uuid::from_u128(7), Uuid::from_u128(1));
    let position = Position { topic_id: Some(before), ..Position::at(10) };
    world.state.assign(&name(0), position);
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    assert_eq!(world.trouble(), Some(Trouble::Recreated { before: Some(before), now: Some(now) }));
    world.state.assign(&name(0), Position { topic_id: Some(now), ..position });
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    assert_eq!(world.trouble(), None);
}
