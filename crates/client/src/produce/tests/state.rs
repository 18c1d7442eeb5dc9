//! Which brokers are dialled, how often, and what each is given.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Address;
use crate::error::{Error as ClientError, Fate};
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};
use crate::produce::decision::Decision;
use crate::produce::entry::{Identity, Leader};
use crate::produce::error::{Error, Rejection};
use crate::produce::reply::{Reply, Written};
use crate::produce::state::State;

use super::Item;
use super::world::{name, rules};

const OLD: BrokerId = BrokerId(1);
const NEW: BrokerId = BrokerId(2);

fn with_identity(now: Instant) -> State<Item, u32> {
    let stop = |_: &TopicPartition, _: &Item, _: &Rejection| Decision::Stop;
    let mut state = State::new(rules(1), Arc::new(stop));
    state.handle_identity(now, Identity { producer_id: 7, epoch: 0 });
    state
}

fn push(state: &mut State<Item, u32>, now: Instant, partition: i32, token: u32) {
    state.push(now, &name(partition), Item::new(token..token + 1), token);
}

fn lead(state: &mut State<Item, u32>, now: Instant, broker: BrokerId) {
    state.handle_leaders(now, |_| Some(Leader { broker, epoch: -1 }));
}

fn written(state: &mut State<Item, u32>, now: Instant, request: u64) {
    state.handle_reply(now, request, |_| Reply::Written(Written::default()));
}

#[test]
fn a_broker_that_leads_nothing_any_more_is_not_dialled() {
    let now = crate::clock::now();
    let mut state = with_identity(now);
    push(&mut state, now, 0, 0);
    lead(&mut state, now, OLD);
    assert_eq!(state.poll_connect(now), Some(OLD));
    lead(&mut state, now, NEW);
    state.handle_unreached(now, OLD);
    assert_eq!(state.poll_connect(now), Some(NEW));
    state.handle_open(NEW, 9);
    let request = state.poll_request(now).expect("to the new leader");
    written(&mut state, now, request.id);
    state.metadata_asked();
    let later = now + Duration::from_secs(3600);
    state.handle_time(later);
    assert_eq!(state.poll_connect(later), None);
    assert_eq!(state.poll_wake(later), None);
    assert!(!state.wants_metadata());
}

#[test]
fn a_leader_that_is_gone_is_dialled_less_and_less_often() {
    let mut now = crate::clock::now();
    let end = now + Duration::from_secs(60);
    let mut state = with_identity(now);
    push(&mut state, now, 0, 0);
    lead(&mut state, now, OLD);
    let mut dials = 0;
    while now < end {
        state.handle_time(now);
        if let Some(broker) = state.poll_connect(now) {
            dials += 1;
            state.handle_unreached(now, broker);
            state.metadata_asked();
        }
        now = state.poll_wake(now).expect("it waits for the next dial");
    }
    // The longest wait is a second, less a fifth at most.
    assert!((50..90).contains(&dials), "{dials} dials in a minute");
}

#[test]
fn a_broker_of_0_11_has_one_batch_of_a_partition_at_a_time() {
    for (version, under_way) in [(3, 1), (4, 4)] {
        let now = crate::clock::now();
        let mut state = with_identity(now);
        push(&mut state, now, 0, 0);
        lead(&mut state, now, OLD);
        assert_eq!(state.poll_connect(now), Some(OLD));
        // Four more than the first wait before it is known how old the broker is.
        (1..5).for_each(|token| push(&mut state, now, 0, token));
        state.handle_open(OLD, version);
        let first = state.poll_request(now).expect("the first");
        written(&mut state, now, first.id);
        let sent = std::iter::from_fn(|| state.poll_request(now)).count();
        assert_eq!(sent, under_way, "Produce {version}");
    }
}

fn refusal() -> ClientError {
    ClientError::UnknownBroker { id: OLD }
}

#[test]
fn a_refused_identity_fails_what_waits_for_one_and_nothing_else() {
    let now = crate::clock::now();
    let mut state = with_identity(now);
    (0..2).for_each(|partition| push(&mut state, now, partition, partition.unsigned_abs()));
    lead(&mut state, now, OLD);
    state.poll_connect(now);
    state.handle_open(OLD, 9);
    let request = state.poll_request(now).expect("both");
    // One of the two is fenced, and then waits for a new identity.
    state.handle_reply(now, request.id, |partition| match partition.partition {
        0 => Reply::Fenced(ErrorCode::PRODUCER_FENCED),
        _ => Reply::Retry(ErrorCode::NOT_ENOUGH_REPLICAS),
    });
    state.restart(now, &name(0));
    push(&mut state, now, 0, 2);
    assert!(state.wants_identity());
    state.poll_done();
    state.refuse(&refusal());
    let done = state.poll_done();
    let is_refused = |error: &Error| matches!(error, Error::Refused { fate: Fate::NotWritten, .. });
    assert!(matches!(&done[..], [(2, Err(error))] if is_refused(error)), "{done:?}");
    assert_eq!(state.queued(), 1);
}

#[test]
fn a_refused_identity_is_asked_for_again_by_what_comes_after_a_restart() {
    let now = crate::clock::now();
    let stop = |_: &TopicPartition, _: &Item, _: &Rejection| Decision::Stop;
    let mut state = State::new(rules(1), Arc::new(stop));
    push(&mut state, now, 0, 0);
    lead(&mut state, now, OLD);
    state.refuse(&refusal());
    assert!(!state.wants_identity(), "nothing waits for it");
    state.restart(now, &name(0));
    push(&mut state, now, 0, 1);
    assert!(state.wants_identity());
    state.handle_identity(now, Identity { producer_id: 7, epoch: 0 });
    state.poll_connect(now);
    state.handle_open(OLD, 9);
    assert!(state.poll_request(now).is_some());
}

#[test]
fn a_broker_that_is_too_old_fails_its_own_partitions_alone() {
    let now = crate::clock::now();
    let mut state = with_identity(now);
    (0..2).for_each(|partition| push(&mut state, now, partition, partition.unsigned_abs()));
    state.handle_leaders(now, |partition| {
        let broker = if partition.partition == 0 { OLD } else { NEW };
        Some(Leader { broker, epoch: -1 })
    });
    let api = kafka_protocol::messages::ApiKey::Produce;
    let address = Address::new("old", 9092);
    let error = ClientError::UnsupportedVersion { api, address, min: 3, max: 12 };
    state.refuse_broker(now, OLD, &error);
    let done = state.poll_done();
    assert!(matches!(done[..], [(0, Err(Error::Refused { .. }))]), "{done:?}");
    assert_eq!(state.queued(), 1);
}
