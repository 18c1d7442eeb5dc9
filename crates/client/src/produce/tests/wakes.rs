//! Whatever comes, in whatever order: what is queued always has something that moves it on.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::error::Error as ClientError;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};
use crate::produce::decision::Decision;
use crate::produce::entry::{Identity, Leader};
use crate::produce::error::Rejection;
use crate::produce::reply::{Reply, Written};
use crate::produce::state::{Rules, State};

use super::world::{name, rules};
use super::{Item, Random};

const PARTITIONS: usize = 4;
const BROKERS: usize = 3;

/// The state, and everything it waits for, in no order at all.
struct Rig {
    now: Instant,
    random: Random,
    state: State<Item, u32>,
    leaders: [Option<Leader>; PARTITIONS],
    /// The leaders that the state was told.
    told: [Option<Leader>; PARTITIONS],
    under_way: Vec<(u64, BrokerId)>,
    dials: Vec<BrokerId>,
    pushed: u32,
    answered: Vec<u32>,
}

impl Rig {
    fn new(seed: u64, rules: Rules) -> Self {
        let decide = |_: &TopicPartition, item: &Item, _: &Rejection| {
            let middle = item.ids.start + 1;
            match item.ids.start % 3 {
                0 => Decision::Stop,
                1 => Decision::Skip,
                _ if middle == item.ids.end => Decision::Replace(vec![item.clone()]),
                _ => Decision::Replace(vec![
                    Item::new(item.ids.start..middle),
                    Item::new(middle..item.ids.end),
                ]),
            }
        };
        Self {
            now: crate::clock::now(),
            random: Random(seed | 1),
            state: State::new(rules, Arc::new(decide)),
            leaders: [None; PARTITIONS],
            told: [None; PARTITIONS],
            under_way: Vec::new(),
            dials: Vec::new(),
            pushed: 0,
            answered: Vec::new(),
        }
    }

    /// Something happens, likely or not.
    fn anything(&mut self) {
        match self.random.below(13) {
            0..3 => self.push(),
            3 => self.move_leader(),
            4 => self.tell_leaders(),
            5..8 => self.answer_anything(),
            8 => self.dialled(),
            9 => self.identified(),
            10 => self.trouble(),
            11 => self.withdraw(),
            _ => self.now += Duration::from_millis(self.random.below(500) as u64),
        }
        self.act();
    }

    fn push(&mut self) {
        let partition = self.partition();
        if self.random.chance(300) {
            self.state.restart(self.now, &partition);
        }
        let count = 1 + self.random.below(2) as u32;
        let item = Item::new(self.pushed..self.pushed + count);
        self.state.push(self.now, &partition, item, self.pushed);
        self.pushed += 1;
    }

    /// Some of a partition's batches are taken back, if they can be.
    fn withdraw(&mut self) {
        let partition = self.partition();
        let wanted: Vec<u64> =
            (0..self.pushed.into()).filter(|_| self.random.chance(200)).collect();
        self.state.withdraw(self.now, &partition, &wanted);
    }

    fn partition(&mut self) -> TopicPartition {
        name(i32::try_from(self.random.below(PARTITIONS)).expect("few"))
    }

    fn broker(&mut self) -> BrokerId {
        BrokerId(i32::try_from(self.random.below(BROKERS)).expect("few"))
    }

    fn move_leader(&mut self) {
        let leader = Leader { broker: self.broker(), epoch: -1 };
        let partition = self.random.below(PARTITIONS);
        self.leaders[partition] = (!self.random.chance(300)).then_some(leader);
    }

    fn tell_leaders(&mut self) {
        self.state.metadata_asked();
        self.told = self.leaders;
        let told = self.told;
        self.state.handle_leaders(self.now, |partition| told[number(partition)]);
    }

    fn answer_anything(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let (request, _) = self.under_way.swap_remove(self.random.below(self.under_way.len()));
        let replies = [
            Reply::Written(Written::default()),
            Reply::Retry(ErrorCode::NOT_ENOUGH_REPLICAS),
            Reply::Unknown(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Reply::OutOfSequence(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            Reply::OutOfSequence(ErrorCode::UNKNOWN_PRODUCER_ID),
            Reply::Rejected(Rejection::of(ErrorCode::MESSAGE_TOO_LARGE)),
            Reply::Unknown(ErrorCode::UNKNOWN_SERVER_ERROR),
            Reply::Fenced(ErrorCode::INVALID_PRODUCER_EPOCH),
        ];
        let random = &mut self.random;
        self.state.handle_reply(self.now, request, |_| {
            let any = random.below(2 * replies.len());
            replies.get(any).unwrap_or(&replies[0]).clone()
        });
    }

    fn dialled(&mut self) {
        let Some(broker) = self.dials.pop() else { return };
        match self.random.below(4) {
            0 => self.state.handle_unreached(self.now, broker),
            1 => self.state.handle_open(broker, 3),
            2 if self.random.chance(100) => {
                let error = ClientError::UnknownBroker { id: broker };
                self.state.refuse_broker(self.now, broker, &error);
            }
            _ => self.state.handle_open(broker, 9),
        }
    }

    fn identified(&mut self) {
        if !self.state.wants_identity() {
            return;
        }
        if self.random.chance(300) {
            self.state.refuse(&ClientError::UnknownBroker { id: BrokerId(0) });
        } else {
            let epoch = if self.random.chance(500) { i16::MAX - 2 } else { 0 };
            self.identify(epoch);
        }
    }

    fn identify(&mut self, epoch: i16) {
        let producer_id = 1000 + self.random.below(1_000_000) as i64;
        self.state.handle_identity(self.now, Identity { producer_id, epoch });
    }

    /// A broker throttles, or its connection dies with all that is under way.
    fn trouble(&mut self) {
        let broker = self.broker();
        if self.random.chance(500) {
            self.state.handle_throttle(self.now, broker, Duration::from_millis(300));
        } else if !self.dials.contains(&broker) {
            self.state.handle_closed(broker);
            let (lost, others): (Vec<_>, Vec<_>) =
                self.under_way.drain(..).partition(|(_, to)| *to == broker);
            self.under_way = others;
            for (request, _) in lost {
                let reply = |_: &TopicPartition| Reply::Unknown(ErrorCode::NETWORK_EXCEPTION);
                self.state.handle_reply(self.now, request, reply);
            }
        }
    }

    /// What the driver does after each event.
    fn act(&mut self) {
        self.state.handle_time(self.now);
        while let Some(request) = self.state.poll_request(self.now) {
            self.under_way.push((request.id, request.broker));
        }
        while let Some(broker) = self.state.poll_connect(self.now) {
            let leads = self.told.iter().flatten().any(|leader| leader.broker == broker);
            assert!(leads, "broker {broker} leads nothing and is dialled");
            self.dials.push(broker);
        }
        self.answered.extend(self.state.poll_done().into_iter().map(|(token, _)| token));
    }

    /// From here on all goes well, and nothing happens that was not asked for.
    fn calm(&mut self) {
        let leader = Some(Leader { broker: BrokerId(0), epoch: -1 });
        self.leaders = self.leaders.map(|found| found.or(leader));
        for _ in 0..10_000 {
            self.act();
            if self.state.queued() == 0 {
                return;
            }
            self.go_on();
        }
        panic!("{} batches are never written", self.state.queued());
    }

    fn go_on(&mut self) {
        if let Some(broker) = self.dials.pop() {
            self.state.handle_open(broker, 9);
        } else if let Some((request, broker)) = self.under_way.pop() {
            let leaders = self.leaders;
            self.state.handle_reply(self.now, request, |partition| {
                match leaders[number(partition)] {
                    Some(leader) if leader.broker == broker => Reply::Written(Written::default()),
                    _ => Reply::Unknown(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                }
            });
        } else if self.state.wants_identity() {
            self.identify(0);
        } else if self.state.wants_metadata() {
            self.tell_leaders();
        } else {
            let wake = self.state.poll_wake(self.now);
            let wake = wake.unwrap_or_else(|| panic!("{} batches sleep", self.state.queued()));
            assert!(wake > self.now, "it wakes for nothing");
            self.now = wake;
        }
    }
}

fn number(partition: &TopicPartition) -> usize {
    usize::try_from(partition.partition).expect("from 0")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_that_waits_is_without_something_that_wakes_it(
        seed in any::<u64>(),
        events in 0usize..400,
        is_limited in prop::bool::weighted(0.2),
    ) {
        let mut rules = rules(seed);
        if is_limited {
            rules.limits.delivery_timeout = Some(Duration::from_secs(3));
            rules.missing_timeout = Some(Duration::from_secs(2));
        }
        let mut rig = Rig::new(seed, rules);
        (0..events).for_each(|_| rig.anything());
        rig.calm();
        rig.answered.sort_unstable();
        let pushed: Vec<u32> = (0..rig.pushed).collect();
        prop_assert_eq!(rig.answered, pushed, "each is answered once");
    }
}
