//! Many members, many faults, in virtual time and from a seed: whatever happens, no partition is
//! ever owned by two live members, and when the faults stop everything is owned again.
//!
//! To repeat a run that failed, set GROUP_CHAOS_SEED to the seed it names; to try more seeds than
//! usual, set GROUP_CHAOS_SEEDS to how many.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use kmirror_client::connection::{Address, Connector, Duplex};
use kmirror_client::group::{
    Assignor, Committer, Config, Event, HandBack, Instance, Membership, OffsetAndMetadata,
};
use kmirror_client::task::{self, Task};
use kmirror_client::{Client, TopicPartition, clock};
use kmirror_fake::{Cluster, Release};

const STEPS: usize = 60;
const SEEDS: u64 = 16;

#[derive(Debug)]
struct Pipes(Arc<Cluster>);

impl Connector for Pipes {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        Box::pin(async move {
            let (read, write) = tokio::io::split(self.0.dial(address.host(), address.port())?);
            Ok(Duplex { read: Box::new(read), write: Box::new(write) })
        })
    }
}

/// xorshift64: the run is its seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Who owns what, by the members' own account.
#[derive(Default)]
struct Ledger {
    owners: BTreeMap<TopicPartition, usize>,
    history: Vec<String>,
}

impl Ledger {
    fn take(&mut self, member: usize, partition: &TopicPartition) {
        if let Some(other) = self.owners.insert(partition.clone(), member) {
            let history = self.history.join("\n");
            panic!("{partition} went to {member} while {other} had it\n{history}");
        }
    }

    fn give(&mut self, member: usize, partitions: &BTreeSet<TopicPartition>, how: &str) {
        self.note(format!("{member} {how} {partitions:?}"));
        self.owners.retain(|p, owner| *owner != member || !partitions.contains(p));
    }

    fn drop_all_of(&mut self, member: usize) {
        self.owners.retain(|_, owner| *owner != member);
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }
}

type Shared = Arc<Mutex<Ledger>>;

struct World {
    cluster: Arc<Cluster>,
    ledger: Shared,
    assignor: Assignor,
    members: BTreeMap<usize, Task<()>>,
    next: usize,
    partitions: i32,
    chance: Chance,
}

/// A member's owner: it flushes slowly, and goes on listening while it does.
async fn live(
    member: usize,
    membership: Membership,
    committer: Committer,
    world: Shared,
    slow: Duration,
) {
    let (mut membership, mut committer) = (membership, committer);
    let mut flushing: Option<(BTreeSet<TopicPartition>, HandBack)> = None;
    loop {
        let event = match &flushing {
            None => membership.next().await,
            Some((partitions, _)) => {
                let position = |p: &TopicPartition| (p.clone(), OffsetAndMetadata::new(1, -1));
                let offsets = partitions.iter().map(position).collect();
                let flush = async {
                    clock::sleep(slow).await;
                    // That it fails is one of the faults; what counts is who owns what.
                    let _ = committer.commit(&offsets).await;
                };
                tokio::select! {
                    event = membership.next() => event,
                    () = flush => {
                        world.lock().unwrap().give(member, partitions, "gives");
                        flushing = None;
                        continue;
                    }
                }
            }
        };
        match event.expect("nothing here ends a membership") {
            Event::Assigned { added, generation, .. } => {
                let mut ledger = world.lock().unwrap();
                ledger.note(format!("{member} gets {added:?} in {generation}"));
                added.iter().for_each(|partition| ledger.take(member, partition));
            }
            Event::Revoking { partitions, hand_back, .. } => {
                flushing = Some((partitions, hand_back))
            }
            Event::Lost { partitions, cause } => {
                world.lock().unwrap().give(member, &partitions, &format!("loses ({cause:?})"));
                flushing = None;
            }
            Event::Refused { error } => panic!("nothing is refused here: {error}"),
        }
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let release = [Release::V1_1, Release::V2_4, Release::V3_9][chance.below(3)];
        let assignor =
            [Assignor::Range, Assignor::Sticky, Assignor::CooperativeSticky][chance.below(3)];
        let builder = Cluster::builder().brokers(3).in_memory().emulate(release);
        let cluster = builder.initial_rebalance_delay_ms(0).topic("t", 6).start().await.unwrap();
        let ledger = Shared::default();
        ledger.lock().unwrap().note(format!("{assignor} on {release:?}"));
        let cluster = Arc::new(cluster);
        let members = BTreeMap::new();
        Self { cluster, ledger, assignor, members, next: 0, partitions: 6, chance }
    }

    async fn start(&mut self) {
        let member = self.next;
        self.next += 1;
        let config = kmirror_client::Config::new(&self.cluster.bootstrap()).unwrap();
        let config = config.with_connector(Arc::new(Pipes(Arc::clone(&self.cluster))));
        let config = config.with_metadata_age_max(Duration::from_secs(2));
        let Ok(client) = Client::connect(config.with_request_timeout(Duration::from_secs(5))).await
        else {
            return;
        };
        let mut config = Config::new("g").with_topics(["t"]).with_assignors([self.assignor]);
        if self.chance.below(2) == 0 {
            config.instance = Instance::Named(format!("static-{member}").into());
        }
        config.session_timeout = Duration::from_secs(10);
        config.rebalance_timeout = Duration::from_secs(30);
        let (membership, committer) = Membership::join(&client, config).unwrap();
        let slow = Duration::from_millis(self.chance.below(3000) as u64);
        let life = live(member, membership, committer, Arc::clone(&self.ledger), slow);
        self.ledger.lock().unwrap().note(format!("{member} starts"));
        self.members.insert(member, task::spawn("member", life));
    }

    fn kill(&mut self) {
        let index = self.chance.below(self.members.len().max(1));
        let Some(member) = self.members.keys().copied().nth(index) else { return };
        self.members.remove(&member);
        let mut ledger = self.ledger.lock().unwrap();
        ledger.note(format!("{member} is killed"));
        ledger.drop_all_of(member);
    }

    async fn step(&mut self) {
        let broker = i32::try_from(1 + self.chance.below(3)).unwrap();
        match self.chance.below(10) {
            0 | 1 if self.members.len() < 6 => self.start().await,
            2 if self.members.len() > 1 => self.kill(),
            3 => self.cluster.move_coordinator("g", broker),
            4 => self.cluster.disconnect_all(broker).unwrap(),
            5 if self.partitions < 20 => {
                self.partitions += 1;
                self.cluster.grow_topic("t", self.partitions).unwrap();
            }
            6 => self.cluster.rebalance_group("g"),
            7 => {
                self.cluster.stop_broker(broker).unwrap();
                clock::sleep(Duration::from_millis(self.chance.below(4000) as u64)).await;
                self.cluster.start_broker(broker).await.unwrap();
            }
            8 => {
                // Connections stay up and nothing is answered, while sessions run out elsewhere.
                self.cluster.freeze_broker(broker).unwrap();
                clock::sleep(Duration::from_millis(self.chance.below(9000) as u64)).await;
                self.cluster.move_coordinator("g", 1 + broker % 3);
                clock::sleep(Duration::from_millis(self.chance.below(9000) as u64)).await;
                self.cluster.thaw_broker(broker).unwrap();
            }
            _ => {}
        }
        let pause = self.chance.below(6000) as u64;
        clock::sleep(Duration::from_millis(pause)).await;
        self.check_alive();
    }

    fn check_alive(&self) {
        for (member, task) in &self.members {
            assert!(!task.is_finished(), "member {member} ended: {}", self.history());
        }
    }

    fn history(&self) -> String {
        self.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).history.join("\n")
    }

    /// The faults are over: soon everything is owned, and fairly.
    async fn settle(&mut self) {
        if self.members.is_empty() {
            self.start().await;
        }
        let deadline = clock::now() + Duration::from_secs(180);
        loop {
            clock::sleep(Duration::from_secs(1)).await;
            self.check_alive();
            let owners = self.ledger.lock().unwrap().owners.clone();
            let all = owners.len() == usize::try_from(self.partitions).unwrap();
            let each = |member: &usize| owners.values().filter(|owner| *owner == member).count();
            let shares: Vec<usize> = self.members.keys().map(each).collect();
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            if all && spread <= 1 {
                return;
            }
            assert!(clock::now() < deadline, "shares {shares:?}\n{}", self.history());
        }
    }
}

#[test]
fn no_partition_has_two_owners_and_everything_is_owned_in_the_end() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let only = number("GROUP_CHAOS_SEED");
    let many = number("GROUP_CHAOS_SEEDS").unwrap_or(SEEDS);
    let seeds = only.map_or(0..many, |seed| seed..seed + 1);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let run = async {
            let mut world = World::new(seed).await;
            world.start().await;
            for _ in 0..STEPS {
                world.step().await;
            }
            world.settle().await;
        };
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run)));
        assert!(outcome.is_ok(), "GROUP_CHAOS_SEED={seed}");
    }
}
