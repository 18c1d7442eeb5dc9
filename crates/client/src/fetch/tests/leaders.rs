//! What leaders that move, lag or are no longer leaders say, in virtual time.

use std::time::Duration;

use crate::error_code::ErrorCode;
use crate::fetch::answer::Answer;
use crate::fetch::config::Config;
use crate::fetch::event::{Position, Trouble};
use crate::fetch::partition::Phase;
use crate::fetch::questions::Claim;

use super::answers::{BROKER, OTHER, World, led_by, name, of};
use super::batches::Stored;

/// A partition that stands at offset 10 of leader epoch 5 is asked of its leader.
fn proving(world: &mut World) -> Claim {
    world.state.assign(&name(0), Position { leader_epoch: Some(5), ..Position::at(10) });
    world.state.handle_seen(world.now, &name(0), led_by(BROKER, 5));
    asked(world)
}

fn asked(world: &mut World) -> Claim {
    let mut proof = world.state.poll_proof(world.now).expect("asked");
    proof.partitions.remove(0)
}

fn phase(world: &World) -> Phase {
    world.state.partitions[&name(0)].phase
}

#[test]
fn what_a_former_leader_has_proves_nothing_of_the_new_one() {
    let mut world = World::new(Config::default());
    let old = proving(&mut world);
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    let new = asked(&mut world);
    world.state.handle_proof(world.now, &old, Some((10, 5)));
    assert_eq!(phase(&world), Phase::Proving, "the new leader has not answered");
    world.state.handle_proof(world.now, &new, Some((8, 5)));
    assert_eq!(world.trouble(), Some(Trouble::Truncated { end_offset: 8, leader_epoch: 5 }));
}

#[test]
fn what_a_former_leader_lacks_stops_nothing() {
    let mut world = World::new(Config::default());
    let old = proving(&mut world);
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    let new = asked(&mut world);
    world.state.handle_proof(world.now, &old, Some((8, 5)));
    assert_eq!(world.trouble(), None);
    world.state.handle_proof(world.now, &new, Some((12, 5)));
    assert_eq!(phase(&world), Phase::Fetching);
}

#[test]
fn data_of_a_former_leader_is_not_taken_once_the_new_one_is_proven() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    let batch = Stored { leader_epoch: 5, ..Stored::plain(0) }.with(&["a"]);
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, batch)]);
    world.plan(BROKER).expect("due");
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    let new = asked(&mut world);
    world.state.handle_proof(world.now, &new, Some((1, 5)));
    let late = Stored { leader_epoch: 5, ..Stored::plain(1) }.with(&["b"]);
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, late)]);
    assert_eq!(world.position(0), 1);
}

#[test]
fn an_error_of_a_former_leader_stops_nothing() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    world.answer(BROKER, vec![of(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, Vec::new().into())]);
    assert_eq!(world.trouble(), None);
}

#[test]
fn the_ends_of_a_former_leaders_log_are_not_those_of_the_new_one() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Vec::new().into())]);
    let old = world.state.poll_measure(world.now).expect("measured");
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 6));
    world.state.handle_ends(world.now, &old, Some((7, 50)));
    assert_eq!(world.trouble(), None);
    assert!(world.state.poll_proof(world.now).is_none(), "no epoch to ask about");
    assert_eq!(phase(&world), Phase::Fetching);
}

#[test]
fn a_question_goes_to_the_leader_that_there_is_whatever_became_of_the_one_that_was_asked() {
    for next in [None, Some(-1), Some(7)] {
        let mut world = World::new(Config::default());
        let old = proving(&mut world);
        let mut seen = led_by(OTHER, next.unwrap_or_default());
        seen.leader = seen.leader.filter(|_| next.is_some());
        world.state.handle_seen(world.now, &name(0), seen);
        world.state.handle_unproven(world.now, &old, None);
        world.state.handle_seen(world.now, &name(0), led_by(OTHER, 8));
        let new = asked(&mut world);
        assert_eq!(new.leader, led_by(OTHER, 8).leader.expect("led"), "after {next:?}");
    }
}

#[test]
fn a_leader_that_refuses_to_say_what_it_has_stops_the_partition() {
    let refusals = [
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Trouble::Unauthorized),
        (
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            Trouble::Refused { code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED },
        ),
    ];
    for (code, expected) in refusals {
        let mut world = World::new(Config::default());
        let claim = proving(&mut world);
        world.state.handle_unproven(world.now, &claim, Some(code));
        assert_eq!(world.trouble(), Some(expected));
    }
}

#[test]
fn ends_that_nobody_tells_make_the_leader_be_looked_up_again() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Vec::new().into())]);
    let measured = world.state.poll_measure(world.now).expect("measured");
    world.state.metadata_asked();
    assert!(!world.state.wants_metadata());
    world.state.handle_ends(world.now, &measured, None);
    assert!(world.state.wants_metadata());
}

#[test]
fn a_name_that_no_request_can_hold_stops_its_partition_and_no_other() {
    let mut world = World::new(Config::default());
    let long = crate::TopicPartition::new("x".repeat(40_000), 0);
    world.state.assign(&long, Position::at(0));
    world.state.handle_seen(world.now, &long, led_by(BROKER, 5));
    let code = ErrorCode::INVALID_TOPIC_EXCEPTION;
    assert_eq!(world.trouble(), Some(Trouble::Refused { code }));
    let plan = world.plan(BROKER).expect("the others are fetched");
    assert_eq!(plan.partitions.len(), 2);
}

#[test]
fn after_an_answer_that_did_not_come_less_is_asked_for() {
    let config = Config { partition_bytes_max: 200_000, ..Config::default() };
    let mut world = World::new(config);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let (broker, bytes) = world.state.poll_fetch(world.now).expect("due");
        asked.push(bytes);
        world.state.plan(world.now, broker, bytes, super::answers::STYLE).expect("wanted");
        world.state.handle_lost(world.now, broker);
        world.pass(Duration::from_secs(5));
    }
    assert_eq!(asked, [200_000, 100_000, 65_536, 65_536]);
}

#[test]
fn a_partition_that_stands_still_for_seconds_is_told_of_once() {
    type Trouble = fn(&mut World);
    let troubles: [(&str, Trouble); 4] = [
        ("without a leader", |world| {
            let seen = crate::fetch::partition::Seen { leader: None, ..led_by(BROKER, 5) };
            world.state.handle_seen(world.now, &name(0), seen);
        }),
        ("refused", |world| {
            world.plan(BROKER).expect("due");
            let code = ErrorCode::KAFKA_STORAGE_ERROR;
            world.answer(BROKER, vec![of(0, code, Vec::new().into())]);
        }),
        ("not proven", |world| {
            let claim = proving(world);
            world.state.handle_unproven(world.now, &claim, None);
        }),
        ("not measured", |world| {
            world.plan(BROKER).expect("due");
            let code = ErrorCode::OFFSET_OUT_OF_RANGE;
            world.answer(BROKER, vec![of(0, code, Vec::new().into())]);
            let measured = world.state.poll_measure(world.now).expect("measured");
            world.state.handle_ends(world.now, &measured, None);
        }),
    ];
    for (what, trouble) in troubles {
        let mut world = World::new(Config::default());
        trouble(&mut world);
        let is_said =
            |world: &World| world.state.partitions[&name(0)].standing.expect("stands").is_said();
        world.pass(Duration::from_secs(4));
        assert!(!is_said(&world), "{what}");
        assert!(world.state.poll_wake(world.now).is_some(), "{what}: there is a timer");
        world.pass(Duration::from_secs(1));
        assert!(is_said(&world), "{what}");
        assert!(!world.state.say_standing(world.now + Duration::from_secs(60), &name(0)));
    }
}

#[test]
fn a_partition_that_is_read_stands_no_longer() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    let code = ErrorCode::KAFKA_STORAGE_ERROR;
    world.answer(BROKER, vec![of(0, code, Vec::new().into())]);
    world.pass(Duration::from_secs(2));
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, Stored::plain(0).with(&["a"]))]);
    assert!(world.state.partitions[&name(0)].standing.is_none());
}

#[test]
fn a_broker_that_cannot_be_fetched_from_is_told_of_once_until_it_can() {
    let mut world = World::new(Config::default());
    for (passed, is_said) in [(0, false), (3, false), (3, true), (3, false)] {
        world.pass(Duration::from_secs(passed));
        world.plan(BROKER).expect("due");
        world.state.handle_failure(world.now, BROKER);
        assert_eq!(world.state.say_failure(world.now, BROKER, &"gone"), is_said);
    }
    world.pass(Duration::from_secs(2));
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![]);
    world.plan(BROKER).expect("due");
    // The time that an answer was waited for counts.
    world.pass(Duration::from_secs(30));
    world.state.handle_lost(world.now, BROKER);
    assert!(world.state.say_failure(world.now, BROKER, &"no answer"));
}

#[test]
fn a_broker_that_refuses_every_fetch_is_asked_less_and_less_often() {
    for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::FETCH_SESSION_ID_NOT_FOUND] {
        let mut world = World::new(Config::default());
        let begun = world.now;
        for _ in 0..20 {
            while world.state.poll_fetch(world.now).is_none() {
                world.pass(Duration::from_millis(10));
            }
            world.state.plan(world.now, BROKER, 1000, super::answers::STYLE).expect("wanted");
            let answer =
                Answer { throttle: Duration::ZERO, code, session_id: 0, partitions: Vec::new() };
            let lease = world.budget.try_lease(0).expect("free");
            world.state.handle_answer(world.now, BROKER, answer, lease);
        }
        assert!(world.now - begun > Duration::from_secs(5), "{code}");
    }
}

#[test]
fn disputes_about_a_position_that_was_fetched_from_in_between_do_not_add_up() {
    let mut world = World::new(Config::default());
    for dispute in 0..40 {
        world.plan(BROKER).expect("due");
        world.answer(BROKER, vec![of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Vec::new().into())]);
        let measured = world.state.poll_measure(world.now).expect("measured");
        world.state.handle_ends(world.now, &measured, Some((0, 50)));
        assert_eq!(world.trouble(), None, "dispute {dispute}");
        world.pass(Duration::from_secs(2));
        world.plan(BROKER).expect("due");
        // Nothing is there yet, but nothing is wrong either.
        world.answer(BROKER, vec![of(0, ErrorCode::NONE, Vec::new().into())]);
        assert_eq!(world.position(0), 0);
    }
}
