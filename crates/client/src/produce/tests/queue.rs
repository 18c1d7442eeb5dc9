//! What becomes of batches when order can only be kept by stopping, and other single cases.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::Fate;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};
use crate::produce::entry::{Done, Identity, Leader, Limits, Sending, Verdict};
use crate::produce::error::{Error, Rejection};
use crate::produce::queue::Queue;
use crate::produce::reply::{Reply, Written};

use super::Item;

const LIMITS: Limits = Limits { in_flight: 5, delivery_timeout: None };

struct Lane {
    queue: Queue<Item, u32>,
    now: Instant,
    done: Done<u32>,
}

impl Lane {
    /// A partition whose leader has acknowledged a batch.
    fn proven() -> Self {
        let backoff = Backoff::with_seed(Duration::from_millis(10), Duration::from_millis(50), 1);
        let queue = Queue::new(TopicPartition::new("orders", 0), backoff);
        let mut lane = Self { queue, now: crate::clock::now(), done: Vec::new() };
        lane.queue.set_leader(Some(Leader { broker: BrokerId(1), epoch: 0 }));
        lane.queue.adopt(Identity { producer_id: 7, epoch: 0 });
        lane.push(0);
        let first = lane.send();
        lane.answer(first, written());
        assert!(matches!(lane.done.pop(), Some((0, Ok(_)))));
        lane
    }

    fn push(&mut self, token: u32) {
        let item = Item::new(token..token + 1);
        assert!(self.queue.push(self.now, item, token).is_ok());
    }

    fn try_send(&mut self) -> Option<Sending> {
        self.queue.send(self.now, LIMITS).map(|(sending, _)| sending)
    }

    fn send(&mut self) -> Sending {
        self.try_send().expect("something to send")
    }

    fn answer(&mut self, sending: Sending, reply: Reply) {
        let asked = self.queue.handle(self.now, sending.entry, reply, &mut self.done);
        assert!(asked.is_none());
        self.queue.settle(&mut self.done);
    }

    fn reject(&mut self, sending: Sending, verdict: Verdict<Item>) {
        let code = ErrorCode::MESSAGE_TOO_LARGE;
        let reply = Reply::Rejected(Rejection::of(code));
        let asked = self.queue.handle(self.now, sending.entry, reply, &mut self.done);
        let (rejection, _) = asked.expect("asked about");
        self.queue.reject(self.now, verdict, rejection, &mut self.done);
        self.queue.settle(&mut self.done);
    }

    fn wait(&mut self) {
        self.now += Duration::from_secs(1);
    }

    fn errors(&mut self) -> Vec<(u32, Error)> {
        let errors = self.done.drain(..).filter_map(|(token, done)| Some((token, done.err()?)));
        errors.collect()
    }
}

fn written() -> Reply {
    Reply::Written(Written { base_offset: Some(1), log_append_time: None })
}

const OUT_OF_ORDER: Reply = Reply::OutOfSequence(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
const LOST: Reply = Reply::Unknown(ErrorCode::NETWORK_EXCEPTION);
const MOVED: Reply = Reply::Retry(ErrorCode::NOT_LEADER_OR_FOLLOWER);

#[test]
fn five_batches_are_under_way_once_the_leader_has_acknowledged_one() {
    let mut lane = Lane::proven();
    (1..8).for_each(|token| lane.push(token));
    let sent: Vec<i32> =
        std::iter::from_fn(|| lane.try_send()).map(|sending| sending.base_sequence).collect();
    assert_eq!(sent, [1, 2, 3, 4, 5]);
}

#[test]
fn a_new_leader_gets_one_batch_until_it_has_acknowledged_it() {
    let mut lane = Lane::proven();
    (1..8).for_each(|token| lane.push(token));
    let first = lane.send();
    lane.queue.set_leader(Some(Leader { broker: BrokerId(2), epoch: 1 }));
    assert_eq!(lane.try_send(), None, "not while the old one has something");
    lane.answer(first, written());
    // What the old leader acknowledged says nothing of the new one, but its log has it.
    lane.queue.set_leader(Some(Leader { broker: BrokerId(3), epoch: 2 }));
    let second = lane.send();
    assert_eq!(lane.try_send(), None);
    lane.answer(second, written());
    assert_eq!(std::iter::from_fn(|| lane.try_send()).count(), 5);
}

#[test]
fn a_leader_that_was_idle_for_long_gets_one_batch_first() {
    let mut lane = Lane::proven();
    (1..4).for_each(|token| lane.push(token));
    lane.now += Duration::from_secs(3600);
    lane.send();
    assert_eq!(lane.try_send(), None);
}

#[test]
fn batches_of_unknown_outcome_are_sent_again_one_by_one_with_their_numbers() {
    let mut lane = Lane::proven();
    (1..4).for_each(|token| lane.push(token));
    let sent: Vec<Sending> = std::iter::from_fn(|| lane.try_send()).collect();
    for sending in &sent {
        lane.answer(*sending, LOST);
    }
    lane.wait();
    for sending in &sent {
        let again = lane.send();
        assert_eq!(again.base_sequence, sending.base_sequence);
        assert_eq!(again.identity, sending.identity);
        assert_eq!(lane.try_send(), None);
        lane.answer(again, written());
    }
    assert!(lane.queue.is_empty());
}

#[test]
fn a_batch_that_the_leader_lost_is_sent_again_under_a_higher_epoch() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.answer(first, OUT_OF_ORDER);
    assert_eq!(lane.try_send(), None, "the outcome of the second is not known");
    lane.answer(second, OUT_OF_ORDER);
    lane.wait();
    let again = lane.send();
    assert_eq!((again.identity.epoch, again.base_sequence), (1, 0));
    lane.answer(again, written());
    assert_eq!(lane.send().base_sequence, 1);
    assert!(lane.errors().is_empty());
}

#[test]
fn numbers_are_not_given_anew_while_a_batch_may_have_been_written() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.answer(first, OUT_OF_ORDER);
    lane.answer(second, LOST);
    let errors = lane.errors();
    assert!(matches!(errors[0], (1, Error::OrderLost { fate: Fate::NotWritten, .. })));
    assert!(matches!(errors[1], (2, Error::Stopped { fate: Fate::Unknown, .. })));
    assert!(lane.queue.is_stopped());
}

#[test]
fn a_batch_that_a_later_one_overtook_stops_the_partition() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.answer(first, MOVED);
    lane.answer(second, written());
    lane.wait();
    let again = lane.send();
    lane.answer(again, OUT_OF_ORDER);
    let errors = lane.errors();
    assert!(matches!(errors[..], [(1, Error::OrderLost { .. })]), "{errors:?}");
}

#[test]
fn a_refused_batch_that_may_have_been_written_is_neither_replaced_nor_left_out() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let first = lane.send();
    lane.answer(first, LOST);
    lane.wait();
    let again = lane.send();
    // Nobody is asked what to do about it.
    lane.answer(again, Reply::Rejected(Rejection::of(ErrorCode::MESSAGE_TOO_LARGE)));
    let errors = lane.errors();
    let code = ErrorCode::MESSAGE_TOO_LARGE;
    assert!(matches!(errors[0], (1, Error::OrderLost { code: said, .. }) if said == code));
    assert!(matches!(errors[1], (2, Error::Stopped { fate: Fate::NotWritten, .. })));
}

#[test]
fn a_producer_that_is_forgotten_while_a_batch_may_be_written_stops_its_partition() {
    let mut lane = Lane::proven();
    lane.push(1);
    let first = lane.send();
    lane.answer(first, LOST);
    lane.wait();
    let again = lane.send();
    lane.answer(again, Reply::OutOfSequence(ErrorCode::UNKNOWN_PRODUCER_ID));
    let errors = lane.errors();
    assert!(matches!(errors[..], [(1, Error::OrderLost { fate: Fate::Unknown, .. })]));
}

#[test]
fn a_new_identity_is_asked_for_when_all_answers_are_in_and_not_before() {
    let mut lane = Lane::proven();
    lane.queue.adopt(Identity { producer_id: 8, epoch: i16::MAX });
    lane.push(1);
    let proof = lane.send();
    lane.answer(proof, written());
    (2..4).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.reject(first, Verdict::Skip);
    assert!(!lane.queue.wants_identity());
    lane.answer(second, OUT_OF_ORDER);
    assert!(lane.queue.wants_identity());
}

#[test]
fn a_rejection_behind_a_batch_that_waits_is_not_decided_about_yet() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.answer(first, MOVED);
    let reply = Reply::Rejected(Rejection::of(ErrorCode::MESSAGE_TOO_LARGE));
    lane.answer(second, reply);
    lane.wait();
    let again = lane.send();
    assert_eq!(again.entry, first.entry);
    lane.answer(again, written());
    let again = lane.send();
    lane.reject(again, Verdict::Skip);
    assert_eq!(lane.errors().len(), 1);
    lane.push(3);
    let third = lane.send();
    assert_eq!((third.identity.epoch, third.base_sequence), (1, 0), "the gap is closed");
}

#[test]
fn a_new_producer_id_is_taken_when_the_epochs_are_used_up() {
    let mut lane = Lane::proven();
    lane.push(1);
    let first = lane.send();
    lane.answer(first, Reply::Fenced(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert!(matches!(lane.errors()[..], [(1, Error::Fenced { .. })]));
    lane.queue.restart();
    lane.queue.settle(&mut lane.done);
    lane.push(2);
    assert!(lane.queue.wants_identity());
    assert_eq!(lane.try_send(), None);
    lane.queue.renew(Identity { producer_id: 8, epoch: 0 });
    let sent = lane.send();
    let identity = Identity { producer_id: 8, epoch: 0 };
    assert_eq!((sent.identity, sent.base_sequence), (identity, 0));
}

#[test]
fn answers_to_what_was_given_up_are_ignored() {
    let mut lane = Lane::proven();
    (1..3).for_each(|token| lane.push(token));
    let (first, second) = (lane.send(), lane.send());
    lane.reject(first, Verdict::Stop);
    assert_eq!(lane.errors().len(), 2);
    lane.queue.restart();
    lane.queue.settle(&mut lane.done);
    lane.push(3);
    lane.answer(second, OUT_OF_ORDER);
    let third = lane.send();
    assert_eq!((third.identity.epoch, third.base_sequence), (1, 0));
    lane.answer(third, written());
    assert!(lane.errors().is_empty());
}

#[test]
fn a_broker_that_blames_the_batch_for_ever_is_believed_in_the_end() {
    for code in [ErrorCode::CORRUPT_MESSAGE, ErrorCode::UNKNOWN_SERVER_ERROR] {
        let mut lane = Lane::proven();
        lane.push(1);
        for _ in 0..4 {
            let sending = lane.send();
            let reply = match code {
                ErrorCode::CORRUPT_MESSAGE => Reply::Retry(code),
                _ => Reply::Unknown(code),
            };
            lane.answer(sending, reply);
            lane.wait();
        }
        let sending = lane.send();
        let reply = Reply::Unknown(ErrorCode::UNKNOWN_SERVER_ERROR);
        let asked = lane.queue.handle(lane.now, sending.entry, reply, &mut lane.done);
        assert!(asked.is_some(), "{code}");
    }
}

#[test]
fn a_broker_that_forgot_the_producer_and_never_tells_the_logs_start_gets_a_higher_epoch() {
    let mut lane = Lane::proven();
    lane.push(1);
    for _ in 0..10 {
        let sending = lane.send();
        if sending.identity.epoch > 0 {
            assert_eq!(sending.base_sequence, 0);
            return;
        }
        lane.answer(sending, Reply::Retry(ErrorCode::UNKNOWN_PRODUCER_ID));
        lane.wait();
    }
    panic!("asked for ever");
}

#[test]
fn a_broker_that_takes_no_number_at_all_stops_the_partition() {
    let mut lane = Lane::proven();
    lane.push(1);
    for _ in 0..100 {
        let Some(sending) = lane.try_send() else { break };
        lane.answer(sending, OUT_OF_ORDER);
        lane.wait();
    }
    assert!(matches!(lane.errors()[..], [(1, Error::OrderLost { .. })]));
}

#[test]
fn what_was_never_sent_is_taken_back_and_missed_by_nobody() {
    let mut lane = Lane::proven();
    (1..8).for_each(|token| lane.push(token));
    let sent: Vec<Sending> = std::iter::from_fn(|| lane.try_send()).collect();
    let last_sent = sent[4].entry;
    let all: Vec<u64> = (0..20).collect();
    let withdrawn = lane.queue.withdraw(&all, &mut lane.done);
    assert_eq!(withdrawn, [last_sent + 1, last_sent + 2]);
    assert!(matches!(lane.done[..], [(6, Err(Error::Withdrawn { .. })), (7, Err(_))]));
    lane.done.clear();
    sent.into_iter().for_each(|sending| lane.answer(sending, written()));
    assert_eq!(lane.done.len(), 5);
    lane.push(8);
    assert_eq!(lane.send().base_sequence, 6, "the numbers of those taken back were never given");
}

#[test]
fn what_was_refused_for_now_is_taken_back_and_what_may_be_written_stays() {
    let all: Vec<u64> = (0..20).collect();
    let refused = Reply::Retry(ErrorCode::NOT_ENOUGH_REPLICAS);
    let unknown = Reply::Unknown(ErrorCode::REQUEST_TIMED_OUT);
    for (reply, taken_back) in [(refused, 3), (unknown, 1)] {
        let mut lane = Lane::proven();
        (1..4).for_each(|token| lane.push(token));
        let (first, second) = (lane.send(), lane.send());
        lane.answer(first, reply);
        assert_eq!(lane.queue.withdraw(&all, &mut lane.done).len(), 1, "one is on the wire");
        lane.push(4);
        lane.answer(second, Reply::Retry(ErrorCode::NOT_ENOUGH_REPLICAS));
        assert_eq!(lane.queue.withdraw(&all, &mut lane.done).len(), taken_back);
        lane.queue.settle(&mut lane.done);
        lane.now += Duration::from_secs(1);
        if taken_back == 3 {
            lane.push(5);
            let again = lane.send();
            assert_eq!((again.base_sequence, again.identity.epoch), (0, 1), "a new epoch");
        } else {
            let again = lane.send();
            assert_eq!((again.base_sequence, again.identity.epoch), (1, 0), "the same number");
        }
    }
}
