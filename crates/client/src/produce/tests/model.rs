//! A cluster reduced to what decides order and duplicates: leaders, logs and what a broker
//! remembers of producers. Written from Kafka's `ProducerAppendInfo`, not from the producer here.

use std::collections::{BTreeMap, VecDeque};

use crate::error_code::ErrorCode;

use super::{Item, Random};

/// A batch as it arrives at a broker.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) partition: i32,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
    pub(super) item: Item,
}

/// What the broker says of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) code: ErrorCode,
    pub(super) base_offset: i64,
}

/// One partition, as all its replicas agree on it.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) leader: i32,
    pub(super) log: Vec<u32>,
    producers: BTreeMap<i64, Producer>,
}

/// What is remembered of a producer: the last five batches of its newest epoch.
#[derive(Debug)]
struct Producer {
    epoch: i16,
    batches: VecDeque<(i32, i32, i64)>,
}

/// The faults of one run, each in a thousand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Faults {
    /// Refused before it is appended.
    pub(super) refuse: u32,
    /// Appended, and answered with an error nevertheless.
    pub(super) append_and_fail: u32,
    /// The connection dies, with what is under way.
    pub(super) disconnect: u32,
    /// The leader moves.
    pub(super) move_leader: u32,
}

impl Partition {
    pub(super) fn led_by(leader: i32) -> Self {
        Self { leader, ..Self::default() }
    }

    /// Appends a batch as a leader does.
    pub(super) fn append(
        &mut self,
        broker: i32,
        arrival: &Arrival,
        faults: Faults,
        random: &mut Random,
    ) -> Verdict {
        let fail = |code| Verdict { code, base_offset: -1 };
        if self.leader != broker {
            return fail(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if random.chance(faults.refuse) {
            return fail(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        if arrival.item.is_too_large {
            return fail(ErrorCode::MESSAGE_TOO_LARGE);
        }
        let verdict = self.append_checked(arrival);
        if random.chance(faults.append_and_fail) {
            let codes = [
                ErrorCode::REQUEST_TIMED_OUT,
                ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                // The partition moved away while the batch waited for the followers.
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ];
            let base_offset = verdict.base_offset;
            return Verdict { code: codes[random.below(codes.len())], base_offset };
        }
        verdict
    }

    fn append_checked(&mut self, arrival: &Arrival) -> Verdict {
        let Arrival { producer_id, epoch, sequence, item, .. } = arrival;
        let last = sequence_plus(*sequence, item.sequences - 1);
        if let Some(known) = self.producers.get_mut(producer_id) {
            if *epoch < known.epoch {
                return Verdict { code: ErrorCode::INVALID_PRODUCER_EPOCH, base_offset: -1 };
            }
            if *epoch == known.epoch {
                let same = |batch: &&(i32, i32, i64)| batch.0 == *sequence && batch.1 == last;
                if let Some(duplicate) = known.batches.iter().find(same) {
                    return Verdict { code: ErrorCode::NONE, base_offset: duplicate.2 };
                }
                let next = known.batches.back().map_or(0, |batch| sequence_plus(batch.1, 1));
                if *sequence != next {
                    let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                    return Verdict { code, base_offset: -1 };
                }
            } else if *sequence != 0 {
                let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                return Verdict { code, base_offset: -1 };
            } else {
                known.epoch = *epoch;
                known.batches.clear();
            }
        }
        // A producer nobody remembers may start at any number.
        let fresh = || Producer { epoch: *epoch, batches: VecDeque::new() };
        let producer = self.producers.entry(*producer_id).or_insert_with(fresh);
        let base_offset = self.log.len() as i64;
        producer.batches.push_back((*sequence, last, base_offset));
        if producer.batches.len() > 5 {
            producer.batches.pop_front();
        }
        self.log.extend(item.ids.clone());
        Verdict { code: ErrorCode::NONE, base_offset }
    }
}

/// Sequence numbers are counted in 31 bits.
fn sequence_plus(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (1 << 31)) as i32
}
