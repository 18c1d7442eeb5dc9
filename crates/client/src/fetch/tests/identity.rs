//! A topic that is created anew where brokers have no topic ids, in virtual time.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::fetch::answer::PartitionAnswer;
use crate::fetch::config::Config;
use crate::fetch::event::{Event, Position, Trouble};
use crate::fetch::partition::{Ends, Seen};

use super::answers::{BROKER, OTHER, STYLE, World, led_by, name, of};
use super::batches::{DELETE_HORIZON, GZIP, Stored, old};

const RECREATED: Trouble = Trouble::Recreated { before: None, now: None };

fn without_id(broker: crate::name::BrokerId, epoch: i32) -> Seen {
    Seen { topic_id: None, ..led_by(broker, epoch) }
}

fn batch(base_offset: i64, value: &str) -> Bytes {
    Stored::plain(base_offset).with(&[value])
}

/// The end of a log at `end`.
fn ending(end: i64, answer: PartitionAnswer) -> PartitionAnswer {
    let ends = Ends { high_watermark: end, last_stable_offset: end, log_start_offset: 0 };
    PartitionAnswer { ends, ..answer }
}

fn records(end: i64, records: Bytes) -> PartitionAnswer {
    ending(end, of(0, ErrorCode::NONE, records))
}

/// One partition of a topic without an id, of which the batches at 0 and 1 were read.
fn having_read_two() -> World {
    having_read(batch(1, "b"))
}

/// The same, of which a batch at 0 was read, and this one at 1.
fn having_read(last: Bytes) -> World {
    let mut world = World::new(Config::default());
    world.state.remove(&name(1));
    world.state.assign(&name(0), Position::at(0));
    world.state.handle_seen(world.now, &name(0), without_id(BROKER, 0));
    world.plan(BROKER).expect("due");
    let both = [batch(0, "a"), last].concat();
    assert_eq!(answer(&mut world, records(2, both.into())), None);
    assert!(world.position(0) > 1);
    world
}

/// Where the next fetch begins.
fn asked_from(world: &mut World) -> i64 {
    let plan = world.plan(BROKER).expect("due");
    plan.partitions.first().expect("named").1.fetch_offset
}

fn answer(world: &mut World, answer: PartitionAnswer) -> Option<Trouble> {
    world.answer(BROKER, vec![answer]);
    world.trouble()
}

fn interrupted() -> World {
    interrupted_after(batch(1, "b"))
}

fn interrupted_after(last: Bytes) -> World {
    let mut world = having_read(last);
    world.plan(BROKER).expect("due");
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(answer(&mut world, of(0, code, Bytes::new())), None);
    world.pass(std::time::Duration::from_secs(5));
    world
}

#[test]
fn after_an_interruption_the_last_batch_is_read_again_and_reading_goes_on_behind_it() {
    let mut world = interrupted();
    assert_eq!(asked_from(&mut world), 1);
    let again = [batch(1, "b"), batch(2, "c")].concat();
    world.answer(BROKER, vec![records(3, again.into())]);
    let fetched = std::iter::from_fn(|| world.state.poll_event()).find_map(|event| match event {
        Event::Fetched(fetched) if !fetched.entries.is_empty() => Some(fetched),
        _ => None,
    });
    let fetched = fetched.expect("data");
    assert_eq!((fetched.fetch_offset, fetched.next_offset, fetched.entries.len()), (2, 3, 1));
    assert_eq!(asked_from(&mut world), 3, "once is enough");
}

#[test]
fn another_batch_at_the_place_of_the_last_one_is_another_log() {
    for other in [
        [batch(1, "x"), batch(2, "y")].concat(),
        Stored::plain(0).with(&["x", "y", "z"]).to_vec(),
        Stored::plain(1).with(&["b", "c"]).to_vec(),
    ] {
        let mut world = interrupted();
        assert_eq!(asked_from(&mut world), 1);
        assert_eq!(answer(&mut world, records(3, other.into())), Some(RECREATED));
        assert_eq!(world.position(0), 2, "nothing of it was read");
    }
}

#[test]
fn a_log_that_ends_before_the_last_batch_after_its_partition_was_gone_is_another_one() {
    let mut world = interrupted();
    asked_from(&mut world);
    assert_eq!(answer(&mut world, records(1, Bytes::new())), None);
    assert_eq!(asked_from(&mut world), 2, "does it have the position");
    let refused = ending(1, of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new()));
    assert_eq!(answer(&mut world, refused), None, "its ends are asked for");
    let measured = world.state.poll_measure(world.now).expect("measured");
    world.state.handle_ends(world.now, &measured, Some((0, 1)));
    assert_eq!(world.trouble(), Some(RECREATED));
}

#[test]
fn a_last_batch_that_retention_deleted_is_not_looked_for() {
    let mut world = interrupted();
    asked_from(&mut world);
    assert_eq!(answer(&mut world, of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new())), None);
    let measured = world.state.poll_measure(world.now).expect("measured");
    world.state.handle_ends(world.now, &measured, Some((2, 2)));
    assert_eq!(world.trouble(), None);
    assert_eq!(asked_from(&mut world), 2);
}

/// Of a batch at offset 1 that reaches over two offsets what compaction has left: one record, both
/// as they were, and both with a delete horizon.
fn compacted() -> [Bytes; 3] {
    let whole = Stored::plain(1).with(&["b", "c"]);
    let dated = Stored { attributes: DELETE_HORIZON, ..Stored::plain(1) }.with(&["b", "c"]);
    let mut thinned = batch(1, "b").to_vec();
    thinned[23..27].copy_from_slice(&1i32.to_be_bytes());
    let crc = crc32c::crc32c(&thinned[21..]);
    thinned[17..21].copy_from_slice(&crc.to_be_bytes());
    [thinned.into(), whole, dated]
}

#[test]
fn a_last_batch_that_compaction_took_out_says_nothing() {
    let mut world = interrupted();
    asked_from(&mut world);
    assert_eq!(answer(&mut world, records(6, batch(5, "c"))), None);
    assert_eq!(world.position(0), 6);
}

#[test]
fn a_last_batch_that_compaction_wrote_anew_on_one_replica_and_not_yet_on_another_says_nothing() {
    for read in compacted() {
        for found in compacted() {
            let mut world = interrupted_after(read.clone());
            assert_eq!(asked_from(&mut world), 1);
            let found = [found, batch(3, "d")].concat();
            assert_eq!(answer(&mut world, records(4, found.into())), None);
            assert_eq!(world.position(0), 4);
        }
    }
}

#[test]
fn a_compressed_message_of_the_old_formats_says_nothing_for_compaction_may_have_emptied_it() {
    let [read, found] = ["five", "two"].map(|inside| old(1, GZIP, inside));
    let mut world = interrupted_after(read);
    assert_eq!(asked_from(&mut world), 1);
    assert_eq!(answer(&mut world, records(2, found)), None);
    let mut world = interrupted_after(old(1, 0, "five"));
    assert_eq!(asked_from(&mut world), 1);
    assert_eq!(answer(&mut world, records(2, old(1, 0, "two"))), Some(RECREATED));
}

#[test]
fn whatever_interrupts_reading_has_the_last_batch_read_again() {
    type Interruption = fn(&mut World);
    let interruptions: [(&str, Interruption); 5] = [
        ("a lost fetch", |world| {
            world.plan(BROKER).expect("due");
            world.state.handle_failure(world.now, BROKER);
        }),
        ("a pause", |world| {
            world.state.set_paused(&name(0), true);
            world.state.set_paused(&name(0), false);
        }),
        ("another leader", |world| {
            world.state.handle_seen(world.now, &name(0), without_id(OTHER, -1));
            world.state.handle_seen(world.now, &name(0), without_id(BROKER, -1));
        }),
        ("being gone from the metadata", |world| {
            world.state.handle_seen(world.now, &name(0), Seen::default());
            world.state.handle_seen(world.now, &name(0), without_id(BROKER, -1));
        }),
        ("a new assignment where it stood", |world| {
            world.state.assign(&name(0), Position::at(2));
            world.state.handle_seen(world.now, &name(0), without_id(BROKER, 0));
        }),
    ];
    for (what, interrupt) in interruptions {
        let mut world = having_read_two();
        interrupt(&mut world);
        world.pass(std::time::Duration::from_secs(5));
        while world.state.poll_proof(world.now).is_some() {}
        assert_eq!(asked_from(&mut world), 1, "{what}");
    }
}

#[test]
fn ends_that_go_back_have_the_last_batch_read_again_before_anything_else_is_taken() {
    let mut world = having_read_two();
    world.plan(BROKER).expect("due");
    assert_eq!(answer(&mut world, records(9, batch(2, "c"))), None);
    world.plan(BROKER).expect("due");
    assert_eq!(answer(&mut world, records(5, batch(3, "x"))), None);
    assert_eq!(world.position(0), 3, "not taken");
    assert_eq!(asked_from(&mut world), 2);
}

#[test]
fn a_batch_that_reaches_over_the_position_is_of_another_log() {
    let mut world = having_read_two();
    world.plan(BROKER).expect("due");
    let over = Stored::plain(0).with(&["x", "y", "z"]);
    assert_eq!(answer(&mut world, records(3, over)), Some(RECREATED));
}

/// Whoever leads says again and again that it has not reached the epoch of the position.
fn told_that_the_epoch_is_unknown(position: Position, seen: Seen, times: u32) -> World {
    let mut world = World::new(Config::default());
    world.state.remove(&name(1));
    world.state.assign(&name(0), Position { leader_epoch: Some(6), ..position });
    world.state.handle_seen(world.now, &name(0), seen);
    for _ in 0..times {
        let proof = world.state.poll_proof(world.now).expect("asked");
        assert_eq!(world.trouble(), None);
        world.state.metadata_asked();
        world.state.handle_proof(world.now, &proof.partitions[0], None);
        world.pass(std::time::Duration::from_secs(2));
    }
    world
}

#[test]
fn an_epoch_that_the_leader_does_not_reach_is_of_another_log_if_no_id_says_otherwise() {
    let mut world = told_that_the_epoch_is_unknown(Position::at(10), without_id(BROKER, 2), 10);
    assert!(world.state.wants_metadata(), "the leader may have been replaced");
    assert!(world.state.partitions[&name(0)].standing.expect("stands").is_said());
    assert_eq!(world.trouble(), None, "not yet");
    let mut world = told_that_the_epoch_is_unknown(Position::at(10), without_id(BROKER, 2), 11);
    assert_eq!(world.trouble(), Some(RECREATED));
    let now = led_by(BROKER, 2).topic_id;
    let mut world = told_that_the_epoch_is_unknown(Position::at(10), led_by(BROKER, 2), 11);
    let unproven = Some(Trouble::Recreated { before: None, now });
    assert_eq!(world.trouble(), unproven, "the position may be one of the topic before");
}

#[test]
fn a_leader_that_was_replaced_and_does_not_know_stops_no_partition_whose_topic_has_its_id() {
    let position = Position { topic_id: led_by(BROKER, 2).topic_id, ..Position::at(10) };
    let mut world = told_that_the_epoch_is_unknown(position, led_by(BROKER, 2), 30);
    assert_eq!(world.trouble(), None);
    world.state.handle_seen(world.now, &name(0), led_by(OTHER, 7));
    let proof = world.state.poll_proof(world.now).expect("asked");
    world.state.handle_proof(world.now, &proof.partitions[0], Some((12, 6)));
    let plan = world.plan(OTHER).expect("due");
    assert_eq!(plan.partitions[0].1.fetch_offset, 10);
}

#[test]
fn a_log_that_is_shorter_in_the_same_epoch_is_another_one_and_in_a_newer_one_was_cut_off() {
    for (leader_epoch, expected) in
        [(6, RECREATED), (7, Trouble::Truncated { end_offset: 4, leader_epoch: 6 })]
    {
        let mut world = World::new(Config::default());
        world.state.assign(&name(0), Position { leader_epoch: Some(6), ..Position::at(10) });
        world.state.handle_seen(world.now, &name(0), without_id(BROKER, leader_epoch));
        let proof = world.state.poll_proof(world.now).expect("asked");
        world.state.handle_proof(world.now, &proof.partitions[0], Some((4, 6)));
        assert_eq!(world.trouble(), Some(expected));
    }
}

#[test]
fn a_partition_that_stopped_because_it_was_missing_knows_its_topics_id_when_it_goes_on() {
    let mut world = World::new(Config::default());
    world.plan(BROKER).expect("due");
    world.answer(BROKER, vec![of(0, ErrorCode::NONE, batch(0, "a"))]);
    world.state.stop(&name(0), Trouble::Missing);
    world.state.assign(&name(0), Position::at(1));
    let other = uuid::Uuid::from_u128(2);
    let seen = Seen { topic_id: Some(other), ..led_by(BROKER, 5) };
    world.state.handle_seen(world.now, &name(0), seen);
    assert!(matches!(world.trouble(), Some(Trouble::Recreated { now, .. }) if now == Some(other)));
    // Whoever goes on after that reads the new one.
    world.state.assign(&name(0), Position::at(1));
    world.state.handle_seen(world.now, &name(0), seen);
    assert_eq!(world.trouble(), None);
}

#[test]
fn a_new_leader_that_lags_for_a_moment_is_waited_for_and_its_log_is_still_the_same() {
    let mut world = interrupted();
    let mut asked = Vec::new();
    for _ in 0..3 {
        // It has all that was read, and knows only of one record that its followers have it too.
        asked.push(asked_from(&mut world));
        assert_eq!(answer(&mut world, records(1, Bytes::new())), None);
        assert_eq!(world.state.poll_measure(world.now), None, "it would say what is replicated");
        world.pass(std::time::Duration::from_secs(2));
    }
    assert_eq!(asked, [1, 2, 1]);
    let standing = world.state.partitions[&name(0)].standing.expect("stands");
    assert!(standing.is_said());
    // It has caught up: what it has at the position is not taken before what it has in front of it.
    assert_eq!(asked_from(&mut world), 2);
    assert_eq!(answer(&mut world, records(3, batch(2, "c"))), None);
    assert_eq!((asked_from(&mut world), world.position(0)), (1, 2));
    let again = [batch(1, "b"), batch(2, "c")].concat();
    assert_eq!(answer(&mut world, records(3, again.into())), None);
    assert_eq!((asked_from(&mut world), world.position(0)), (3, 3));
    assert!(world.state.partitions[&name(0)].standing.is_none());
}

#[test]
fn a_position_that_is_refused_each_time_is_told_of_though_what_was_read_last_is_there() {
    let mut world = having_read_two();
    let mut refused = 0;
    let trouble = loop {
        assert_eq!(asked_from(&mut world), 2);
        let refusal = of(0, ErrorCode::OFFSET_OUT_OF_RANGE, Bytes::new());
        assert_eq!(answer(&mut world, refusal), None);
        let measured = world.state.poll_measure(world.now).expect("measured");
        world.state.handle_ends(world.now, &measured, Some((0, 2)));
        if let Some(trouble) = world.trouble() {
            break trouble;
        }
        refused += 1;
        world.pass(std::time::Duration::from_secs(2));
        assert_eq!(asked_from(&mut world), 1);
        assert_eq!(answer(&mut world, records(2, batch(1, "b"))), None);
    };
    assert_eq!(trouble, Trouble::OutOfRange { log_start_offset: 0, log_end_offset: 2 });
    assert_eq!(refused, 10);
}

#[test]
fn a_pause_costs_nothing_that_is_on_the_way() {
    // It is over before the answer comes.
    let mut world = having_read_two();
    world.plan(BROKER).expect("due");
    world.state.set_paused(&name(0), true);
    world.state.set_paused(&name(0), false);
    assert_eq!(answer(&mut world, records(3, batch(2, "c"))), None);
    assert_eq!((world.position(0), asked_from(&mut world)), (3, 3));
    // The answer comes before it is over. Then nothing is fetched, and anything may happen.
    world.state.set_paused(&name(0), true);
    assert_eq!(answer(&mut world, records(4, batch(3, "d"))), None);
    assert_eq!(world.position(0), 4);
    world.state.set_paused(&name(0), false);
    assert_eq!(world.state.partitions[&name(0)].fetch_offset(), 3, "what was read last");
}

#[test]
fn a_partition_that_the_fetch_under_way_leaves_out_was_not_read_meanwhile() {
    for is_sent in [false, true] {
        let mut world = having_read_two();
        world.state.assign(&name(1), Position::at(0));
        world.state.handle_seen(world.now, &name(1), without_id(BROKER, 0));
        world.plan(BROKER).expect("due");
        world.state.set_paused(&name(0), true);
        world.answer(BROKER, vec![]);
        // The next one waits for memory, or is on the way.
        let (broker, bytes) = world.state.poll_fetch(world.now).expect("the other is due");
        if is_sent {
            world.state.plan(world.now, broker, bytes, STYLE).expect("wanted");
        }
        world.state.set_paused(&name(0), false);
        assert_eq!(world.state.partitions[&name(0)].fetch_offset(), 1, "{is_sent}");
    }
}
