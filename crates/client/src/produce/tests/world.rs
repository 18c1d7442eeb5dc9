//! One run: the state, the model and a network between them that loses, delays and kills.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};
use crate::produce::Acked;
use crate::produce::decision::Decision;
use crate::produce::entry::{Identity, Leader, Limits};
use crate::produce::error::{Error, Rejection};
use crate::produce::reply::{Reply, Written, classify};
use crate::produce::state::{Request, Rules, State};

use super::model::{Arrival, Faults, Partition, Verdict};
use super::{Item, Random};

const BROKERS: i32 = 3;
const PARTITIONS: i32 = 3;

/// A request in a broker's queue, and where its answer goes.
struct Underway {
    id: u64,
    arrivals: Vec<Arrival>,
    /// False once its connection is dead: it may still be carried out, but nobody hears of it.
    is_heard: bool,
    verdicts: Option<BTreeMap<i32, Verdict>>,
}

/// One connection's requests, in order; the dead ones keep theirs.
#[derive(Default)]
struct Wire {
    requests: VecDeque<Underway>,
}

pub(super) struct World {
    now: Instant,
    pub(super) random: Random,
    faults: Faults,
    pub(super) state: State<Item, u32>,
    pub(super) partitions: BTreeMap<i32, Partition>,
    wires: BTreeMap<i32, Wire>,
    zombies: Vec<(i32, Wire)>,
    pub(super) results: BTreeMap<u32, Result<Acked, Error>>,
}

pub(super) fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

pub(super) fn rules(seed: u64) -> Rules {
    Rules {
        idempotence: true,
        limits: Limits { in_flight: 5, delivery_timeout: None },
        in_flight_per_broker: 5,
        request_bytes_max: 1000,
        missing_timeout: None,
        backoff: (Duration::from_millis(100), Duration::from_secs(1)),
        seed,
    }
}

impl World {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let halve = |_: &TopicPartition, item: &Item, _: &Rejection| {
            let Item { ids, .. } = item.clone();
            let middle = ids.start + (ids.len() as u32).div_ceil(2);
            let halves = [ids.start..middle, middle..ids.end];
            Decision::Replace(
                halves.into_iter().filter(|ids| !ids.is_empty()).map(Item::new).collect(),
            )
        };
        let partitions = (0..PARTITIONS).map(|p| (p, Partition::led_by(p % BROKERS)));
        let mut world = Self {
            now: crate::clock::now(),
            random: Random(seed | 1),
            faults,
            state: State::new(rules(seed), Arc::new(halve)),
            partitions: partitions.collect(),
            wires: BTreeMap::new(),
            zombies: Vec::new(),
            results: BTreeMap::new(),
        };
        world.state.handle_identity(world.now, Identity { producer_id: 7, epoch: 0 });
        world.tell_leaders();
        world
    }

    pub(super) fn push(&mut self, partition: i32, item: Item, token: u32) {
        self.state.push(self.now, &name(partition), item, token);
        self.tell_leaders();
    }

    fn tell_leaders(&mut self) {
        let partitions = &self.partitions;
        self.state.handle_leaders(self.now, |partition| {
            let leader = partitions.get(&partition.partition)?.leader;
            Some(Leader { broker: BrokerId(leader), epoch: -1 })
        });
    }

    /// Runs until nothing is queued. Panics if that takes too long.
    pub(super) fn run(&mut self) {
        for _ in 0..200_000 {
            self.step();
            if self.state.queued() == 0 {
                return;
            }
        }
        panic!("{} batches are still queued", self.state.queued());
    }

    /// One thing happens.
    pub(super) fn step(&mut self) {
        self.state.handle_time(self.now);
        self.act();
        match self.random.below(10) {
            0 if self.state.wants_metadata() => {
                self.state.metadata_asked();
                self.tell_leaders();
            }
            1 => self.misfortune(),
            2 => self.carry_out_zombie(),
            3..6 => self.carry_out(),
            6..9 => self.answer(),
            _ => self.pass_time(),
        }
        let done = self.state.poll_done();
        for (token, result) in done {
            assert!(self.results.insert(token, result).is_none(), "{token} was answered twice");
        }
    }

    fn act(&mut self) {
        while let Some(broker) = self.state.poll_connect(self.now) {
            self.state.handle_open(broker, 9);
        }
        while let Some(request) = self.state.poll_request(self.now) {
            self.send(request);
        }
    }

    fn send(&mut self, request: Request<Item>) {
        let arrivals: Vec<Arrival> = request
            .batches
            .iter()
            .map(|outbound| Arrival {
                partition: outbound.partition.partition,
                producer_id: outbound.sending.identity.producer_id,
                epoch: outbound.sending.identity.epoch,
                sequence: outbound.sending.base_sequence,
                item: outbound.batch.clone(),
            })
            .collect();
        for (index, arrival) in arrivals.iter().enumerate() {
            let again = arrivals[..index].iter().any(|other| other.partition == arrival.partition);
            assert!(!again, "a partition is twice in one request");
        }
        let wire = self.wires.entry(request.broker.0).or_default();
        assert!(wire.requests.len() < 5, "too many requests in flight");
        let underway = Underway { id: request.id, arrivals, is_heard: true, verdicts: None };
        wire.requests.push_back(underway);
    }

    /// The broker works on the oldest request it has not worked on.
    fn carry_out(&mut self) {
        let brokers: Vec<i32> = self.wires.keys().copied().collect();
        let Some(&broker) = brokers.get(self.random.below(brokers.len())) else { return };
        let wire = self.wires.get_mut(&broker).expect("known");
        if let Some(underway) = wire.requests.iter_mut().find(|u| u.verdicts.is_none()) {
            let verdicts =
                work(&mut self.partitions, broker, underway, self.faults, &mut self.random);
            underway.verdicts = Some(verdicts);
        }
    }

    /// A request of a dead connection reaches its broker after all, or is lost.
    fn carry_out_zombie(&mut self) {
        let index = self.random.below(self.zombies.len());
        let Some((broker, wire)) = self.zombies.get_mut(index) else { return };
        let broker = *broker;
        let next = wire.requests.pop_front();
        if let Some(underway) = next {
            if self.random.below(3) == 0 {
                // What follows on the same connection is lost as well.
                self.zombies.remove(index);
                return;
            }
            assert!(!underway.is_heard);
            work(&mut self.partitions, broker, &underway, self.faults, &mut self.random);
        } else {
            self.zombies.remove(index);
        }
    }

    fn answer(&mut self) {
        let brokers: Vec<i32> = self.wires.keys().copied().collect();
        let Some(&broker) = brokers.get(self.random.below(brokers.len())) else { return };
        let wire = self.wires.get_mut(&broker).expect("known");
        if wire.requests.front().is_none_or(|underway| underway.verdicts.is_none()) {
            return;
        }
        let underway = wire.requests.pop_front().expect("there is one");
        let verdicts = underway.verdicts.expect("worked on");
        self.state.handle_reply(self.now, underway.id, |partition| {
            let Verdict { code, base_offset } = verdicts[&partition.partition];
            let written = Written {
                base_offset: (base_offset >= 0).then_some(base_offset),
                log_append_time: None,
            };
            classify(Rejection::of(code), written, Some(0))
        });
    }

    fn misfortune(&mut self) {
        if self.random.chance(self.faults.disconnect) {
            let broker = i32::try_from(self.random.below(BROKERS as usize)).expect("few");
            self.disconnect(broker);
        }
        if self.random.chance(self.faults.move_leader) {
            let partition = i32::try_from(self.random.below(PARTITIONS as usize)).expect("few");
            let leader = i32::try_from(self.random.below(BROKERS as usize)).expect("few");
            self.partitions.get_mut(&partition).expect("known").leader = leader;
        }
    }

    fn disconnect(&mut self, broker: i32) {
        let Some(mut wire) = self.wires.remove(&broker) else { return };
        self.state.handle_unreached(self.now, BrokerId(broker));
        let ids: Vec<u64> = wire.requests.iter().map(|underway| underway.id).collect();
        wire.requests.retain(|underway| underway.verdicts.is_none());
        for underway in &mut wire.requests {
            underway.is_heard = false;
        }
        self.zombies.push((broker, wire));
        for id in ids {
            let lost = |_: &TopicPartition| Reply::Unknown(ErrorCode::NETWORK_EXCEPTION);
            self.state.handle_reply(self.now, id, lost);
        }
    }

    fn pass_time(&mut self) {
        let soon = self.now + Duration::from_millis(20);
        self.now = self.state.poll_wake(self.now).map_or(soon, |wake| wake.max(soon));
    }
}

fn work(
    partitions: &mut BTreeMap<i32, Partition>,
    broker: i32,
    underway: &Underway,
    faults: Faults,
    random: &mut Random,
) -> BTreeMap<i32, Verdict> {
    let arrivals = underway.arrivals.iter();
    arrivals
        .map(|arrival| {
            let partition = partitions.get_mut(&arrival.partition).expect("known");
            (arrival.partition, partition.append(broker, arrival, faults, random))
        })
        .collect()
}
