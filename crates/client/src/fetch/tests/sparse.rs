//! What a turn costs, and that the broker is told all it must be all the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::time::Instant;
use uuid::Uuid;

use crate::budget::{Budget, Pins};
use crate::error_code::ErrorCode;
use crate::fetch::answer::{Answer, PartitionAnswer};
use crate::fetch::config::Config;
use crate::fetch::event::{Event, Position};
use crate::fetch::link::Style;
use crate::fetch::partition::{Ends, Leader, Partition, Phase, Seen};
use crate::fetch::questions::Claim;
use crate::fetch::session::{Plan, Want};
use crate::fetch::state::State;
use crate::fetch::{window, wire};
use crate::name::{BrokerId, TopicPartition};

use super::batches::Stored;

const BROKERS: [BrokerId; 2] = [BrokerId(1), BrokerId(2)];
const VERSION: i16 = 13;

/// A fetcher's state, and what its brokers know.
struct World {
    state: State,
    now: Instant,
    budget: Budget,
    sessions: BTreeMap<BrokerId, BTreeMap<TopicPartition, Want>>,
    /// Leaders that were asked whether they have what was read, and have not answered.
    claims: Vec<Claim>,
    /// The same of those that were asked for the ends of their logs.
    measures: Vec<Claim>,
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

fn led_by(broker: BrokerId, epoch: i32) -> Seen {
    Seen {
        topic_id: Some(Uuid::from_u128(1)),
        leader: Some(Leader { broker, epoch }),
        exists: true,
        is_forbidden: false,
    }
}

fn answer(partitions: Vec<PartitionAnswer>) -> Answer {
    Answer { throttle: Duration::ZERO, code: ErrorCode::NONE, session_id: 42, partitions }
}

fn of(partition: &TopicPartition, code: ErrorCode, records: Bytes) -> PartitionAnswer {
    PartitionAnswer {
        partition: partition.clone(),
        code,
        ends: Ends { high_watermark: 9, last_stable_offset: 9, log_start_offset: 0 },
        aborted: Vec::new(),
        records,
        cuts_first: false,
    }
}

impl World {
    fn new(config: Config) -> Self {
        Self {
            state: State::new(config, Arc::default(), 1),
            now: crate::clock::now(),
            budget: Budget::new(usize::MAX),
            sessions: BTreeMap::new(),
            claims: Vec::new(),
            measures: Vec::new(),
        }
    }

    fn assign(&mut self, partition: i32, seen: Seen) {
        self.state.assign(&name(partition), Position::at(0));
        self.state.handle_seen(self.now, &name(partition), seen);
    }

    /// Sends the fetch that is due, and does with it what a broker does.
    fn fetch(&mut self, broker: BrokerId, bytes: usize, style: Style) -> Option<Plan> {
        let plan = self.state.plan(self.now, broker, bytes, style);
        let Some(plan) = plan else {
            self.state.handle_nothing(broker);
            return None;
        };
        let session = self.sessions.entry(broker).or_default();
        if plan.session_epoch <= 0 {
            session.clear();
        }
        for (gone, _) in &plan.forgotten {
            assert!(session.remove(gone).is_some(), "what is forgotten was known");
        }
        session.extend(plan.partitions.iter().cloned());
        Some(plan)
    }

    fn answer(&mut self, broker: BrokerId, answer: Answer) {
        let lease = self.budget.try_lease(answer.bytes()).expect("free");
        self.state.handle_answer(self.now, broker, answer, lease);
    }

    /// One batch of each partition that the first broker leads.
    fn fetch_all(&mut self) {
        let (broker, bytes) = self.state.poll_fetch(self.now).expect("due");
        let plan = self.fetch(broker, bytes, wire::style(VERSION)).expect("wanted");
        let batch = Stored::plain(0).with(&["a"]);
        let all = plan.partitions.iter();
        let all = all.map(|(name, _)| of(name, ErrorCode::NONE, batch.clone()));
        self.answer(broker, answer(all.collect()));
    }

    /// What is to be fetched from a broker, gathered from all partitions.
    fn expected(&self, broker: BrokerId, bytes: usize) -> BTreeMap<TopicPartition, Want> {
        let configured = self.state.config.partition_bytes_max;
        let led = self
            .state
            .partitions
            .iter()
            .filter(|(_, entry)| entry.leader.is_some_and(|leader| leader.broker == broker));
        let mut wanted: BTreeMap<_, _> = led
            .filter_map(|(name, entry)| Some((name.clone(), entry.want(self.now, configured)?)))
            .collect();
        let each = window::per_partition(bytes, wanted.len(), configured);
        wanted.values_mut().for_each(|want| want.bytes_max = want.bytes_max.max(each));
        wanted
    }
}

/// The bytes of the request after one of `partitions` moved, and how many its link looked at.
fn request_after_one_moved(partitions: i32) -> (usize, usize) {
    let config = Config::default();
    let mut world = World::new(config.clone());
    (0..partitions).for_each(|partition| world.assign(partition, led_by(BROKERS[0], 5)));
    let mut found = (0, 0);
    for round in 0..3 {
        let (broker, bytes) = world.state.poll_fetch(world.now).expect("due");
        let plan = world.fetch(broker, bytes, wire::style(VERSION)).expect("wanted");
        if round > 0 {
            let request =
                wire::encode(VERSION, &config, config.wait_max, &plan, bytes).expect("encodes");
            assert_eq!((plan.partitions.len(), plan.forgotten.len()), (1, 0));
            assert_eq!(plan.partitions[0].0, name(partitions / 2));
            found.0 = request.len();
        }
        // The metadata say again what they said before.
        world.state.handle_view(world.now, |_| led_by(BROKERS[0], 5));
        let batch = Stored::plain(round).with(&["a"]);
        let moved = of(&name(partitions / 2), ErrorCode::NONE, batch);
        world.answer(broker, answer(vec![moved]));
        assert!(matches!(world.state.poll_event(), Some(Event::Fetched(_))));
        found.1 = world.state.links[&broker].stirred.len();
    }
    found
}

#[test]
fn what_a_turn_looks_at_and_asks_for_does_not_grow_with_idle_partitions() {
    let few = request_after_one_moved(20);
    assert_eq!(few.1, 1, "only the one that moved is looked at");
    assert_eq!(request_after_one_moved(10_000), few);
}

#[test]
fn a_topic_without_an_id_is_asked_for_by_name_until_its_id_is_known() {
    let mut world = World::new(Config::default());
    world.assign(0, led_by(BROKERS[0], 5));
    world.assign(1, Seen { topic_id: None, ..led_by(BROKERS[0], 5) });
    assert!(!world.state.has_topic_ids(BROKERS[0]));
    world.state.handle_seen(world.now, &name(1), led_by(BROKERS[0], 5));
    assert!(world.state.has_topic_ids(BROKERS[0]));
    world.assign(2, Seen { topic_id: None, ..led_by(BROKERS[0], 5) });
    assert!(!world.state.has_topic_ids(BROKERS[0]));
    world.state.remove(&name(2));
    assert!(world.state.has_topic_ids(BROKERS[0]));
}

#[test]
fn a_partition_that_pins_too_much_comes_back_when_it_is_let_go() {
    let mut world = World::new(Config::default());
    (0..2).for_each(|partition| world.assign(partition, led_by(BROKERS[0], 5)));
    let pins = Arc::new(Pins::new(Arc::new(10.into()), Arc::default()));
    world.state.partitions.get_mut(&name(0)).expect("assigned").pins = Arc::clone(&pins);
    let mut all = world.budget.try_lease(100).expect("free");
    let mut share = all.split(1);
    share.pin(&pins);
    let mut turn = || {
        let (broker, bytes) = world.state.poll_fetch(world.now).expect("due");
        let plan = world.fetch(broker, bytes, wire::style(VERSION)).expect("wanted");
        world.answer(broker, answer(Vec::new()));
        plan.partitions.into_iter().map(|(name, _)| name.partition).collect::<Vec<_>>()
    };
    assert_eq!(turn(), [1]);
    assert_eq!(turn(), [0; 0]);
    drop(share);
    assert!(turn().contains(&0));
}

/// Every partition has an event that waits; removing all would take hours if each looked through
/// what waits.
#[test]
fn removing_partitions_costs_the_same_however_many_events_wait() {
    const PARTITIONS: i32 = 50_000;
    let mut world = World::new(Config::default());
    (0..PARTITIONS).for_each(|partition| world.assign(partition, led_by(BROKERS[0], 5)));
    world.fetch_all();
    (1..PARTITIONS).for_each(|partition| drop(world.state.remove(&name(partition))));
    world.assign(0, led_by(BROKERS[0], 5));
    assert!(world.state.poll_event().is_none(), "what is of older assignments is not handed out");
    assert_eq!((world.state.links[&BROKERS[0]].waiting_bytes, world.budget.used()), (0, 0));
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Assign {
        partition: i32,
        broker: usize,
        epoch: i32,
    },
    Remove(i32),
    Pause(i32, bool),
    Move {
        partition: i32,
        broker: Option<usize>,
        epoch: i32,
    },
    Need {
        partition: i32,
        bytes: usize,
    },
    Pass(u64),
    /// A broker answers with data or an error for some; or the session is lost, or the connection.
    Answer {
        code: i16,
        number: usize,
        session_id: i32,
    },
    Evicted,
    Lost,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = || 0i32..8;
    let code = prop::sample::select(vec![0i16, 0, 0, 1, 2, 3, 6, 74, 75, 78]);
    let session_id = prop::sample::select(vec![42, 42, 42, 42, 0]);
    let step = prop_oneof![
        3 => (partition(), 0usize..2, -1i32..4)
            .prop_map(|(partition, broker, epoch)| Step::Assign { partition, broker, epoch }),
        1 => partition().prop_map(Step::Remove),
        2 => (partition(), any::<bool>()).prop_map(|(partition, on)| Step::Pause(partition, on)),
        2 => (partition(), prop::option::of(0usize..2), -1i32..4)
            .prop_map(|(partition, broker, epoch)| Step::Move { partition, broker, epoch }),
        1 => (partition(), 0usize..5000)
            .prop_map(|(partition, bytes)| Step::Need { partition, bytes }),
        2 => (0u64..2000).prop_map(Step::Pass),
        6 => (code, 0usize..4, session_id)
            .prop_map(|(code, number, session_id)| Step::Answer { code, number, session_id }),
        1 => Just(Step::Evicted),
        1 => Just(Step::Lost),
    ];
    prop::collection::vec(step, 1..80)
}

impl World {
    fn step(&mut self, step: Step, on_the_way: &mut Vec<BrokerId>) {
        let now = self.now;
        match step {
            Step::Assign { partition, broker, epoch } => {
                let seen = led_by(BROKERS[broker], epoch);
                self.assign(partition, Seen { topic_id: id_of(partition), ..seen });
            }
            Step::Remove(partition) => drop(self.state.remove(&name(partition))),
            Step::Pause(partition, on) => self.state.set_paused(&name(partition), on),
            Step::Move { partition, broker, epoch } => {
                let leader = broker.map(|broker| Leader { broker: BROKERS[broker], epoch });
                let mut leaders: BTreeMap<_, _> = self
                    .state
                    .partitions
                    .iter()
                    .map(|(name, entry)| (name.clone(), entry.leader))
                    .collect();
                leaders.insert(name(partition), leader);
                self.state.handle_view(now, |found| Seen {
                    leader: leaders[found],
                    topic_id: id_of(found.partition),
                    ..led_by(BROKERS[0], 0)
                });
            }
            Step::Need { partition, bytes } => {
                if let Some(entry) = self.state.change(&name(partition)) {
                    entry.bytes_needed = bytes;
                }
            }
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Answer { code, number, session_id } => {
                let Some(broker) = on_the_way.pop() else { return };
                let asked: Vec<_> = self.sessions[&broker].clone().into_iter().collect();
                let partitions = asked.iter().skip(number).take(2).map(|(name, want)| {
                    let records = Stored::plain(want.fetch_offset).with(&["a"]);
                    of(name, ErrorCode(code), records)
                });
                let partitions = partitions.collect();
                self.answer(broker, Answer { session_id, ..answer(partitions) });
            }
            Step::Evicted => {
                let Some(broker) = on_the_way.pop() else { return };
                let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
                self.answer(broker, Answer { code, ..answer(Vec::new()) });
            }
            Step::Lost => {
                let Some(broker) = on_the_way.pop() else { return };
                self.state.handle_failure(now, broker);
            }
        }
    }

    /// What the driver does in a turn. A leader answers in the turn after it was asked.
    fn act(&mut self) {
        for (number, claim) in std::mem::take(&mut self.claims).iter().enumerate() {
            match number % 2 {
                0 => self.state.handle_proof(self.now, claim, None),
                _ => self.state.handle_unproven(self.now, claim, None),
            }
        }
        for (number, claim) in std::mem::take(&mut self.measures).iter().enumerate() {
            let ends = (number % 2 == 0).then_some((0, 50));
            self.state.handle_ends(self.now, claim, ends);
        }
        self.state.handle_time(self.now);
        while let Some(proof) = self.state.poll_proof(self.now) {
            self.claims.extend(proof.partitions);
        }
        while let Some(measured) = self.state.poll_measure(self.now) {
            self.measures.push(measured);
        }
        self.state.metadata_asked();
        let mut entries = self.state.partitions.values();
        let is_leaderless =
            entries.any(|entry| entry.leader.is_none() && entry.phase != Phase::Stopped);
        assert_eq!(self.state.wants_metadata(), is_leaderless);
        while self.state.poll_event().is_some() {}
    }
}

impl World {
    /// Whether something goes on by which a partition is read, or will be without our being told.
    fn has_prospects(&self, name: &TopicPartition, entry: &Partition) -> bool {
        // Without one the metadata are asked for.
        let Some(leader) = entry.leader else { return true };
        let is_reminded = entry.retry_at.is_some_and(|retry| {
            self.state.timers.iter().any(|(at, of)| of == name && *at > self.now && *at <= retry)
        });
        let link = self.state.links.get(&leader.broker);
        let is_asked = |claims: &[Claim]| {
            claims.iter().any(|claim| {
                claim.partition == *name
                    && claim.generation == entry.generation
                    && claim.leader == leader
            })
        };
        match entry.phase {
            Phase::Stopped => true,
            Phase::Unproven | Phase::Outside => is_reminded,
            Phase::Proving => is_asked(&self.claims),
            Phase::Measuring => is_asked(&self.measures),
            Phase::Fetching => {
                let is_on_the_way = link.is_some_and(|link| {
                    link.is_busy || link.muted_until.is_some_and(|at| at > self.now)
                });
                entry.is_paused || is_reminded || is_on_the_way
            }
        }
    }
}

/// Every other topic has no id.
fn id_of(partition: i32) -> Option<Uuid> {
    (partition % 2 == 0).then_some(Uuid::from_u128(1))
}

/// What a broker is told: nothing of assignments.
fn on_the_wire(wants: &BTreeMap<TopicPartition, Want>) -> Vec<(i32, Want)> {
    let wants = wants.iter();
    wants.map(|(name, want)| (name.partition, Want { generation: 0, ..*want })).collect()
}

proptest! {
    /// Whatever happens: after each request a broker that hears only the changes fetches exactly
    /// what going through all partitions would have asked it for; and no partition is ever without
    /// a fetch, a question, a timer or a trouble.
    #[test]
    fn a_broker_that_hears_only_changes_fetches_what_is_wanted(steps in steps()) {
        let config = Config { partition_bytes_max: 1000, ..Config::default() };
        let mut world = World::new(config);
        let mut on_the_way = Vec::new();
        for step in steps {
            world.step(step, &mut on_the_way);
            world.act();
            let is_wanted = |world: &World, broker| !world.expected(broker, 0).is_empty();
            while let Some((broker, bytes)) = world.state.poll_fetch(world.now) {
                prop_assert!(is_wanted(&world, broker));
                let expected = world.expected(broker, bytes);
                let largest = expected.values().map(|want| want.bytes_max).max();
                prop_assert!(largest.is_some_and(|largest| largest <= bytes.max(1000)));
                world.fetch(broker, bytes, wire::style(VERSION)).expect("wanted");
                let session = &world.state.links[&broker].session;
                let asked = (0..8).map(name).filter_map(|name| {
                    let asked = session.asked(&name)?;
                    Some((name, asked))
                });
                prop_assert_eq!(&asked.collect::<BTreeMap<_, _>>(), &expected);
                prop_assert_eq!(on_the_wire(&world.sessions[&broker]), on_the_wire(&expected));
                on_the_way.push(broker);
            }
            for broker in BROKERS {
                let link = world.state.links.get(&broker);
                let is_free = link.is_some_and(|link| {
                    !link.is_busy && link.muted_until.is_none_or(|at| at <= world.now)
                });
                prop_assert!(!is_free || !is_wanted(&world, broker), "nobody is left out");
            }
            for (name, entry) in &world.state.partitions {
                prop_assert!(world.has_prospects(name, entry), "{name}: {entry:?}");
            }
        }
    }
}
