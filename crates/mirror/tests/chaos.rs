//! Many small misfortunes in an order drawn from a seed, on both clusters and the group, while
//! records come in: nothing is lost, order is kept. A failure names its seed; `KMIRROR_SEED` runs
//! only that one.

mod common;

use std::time::Duration;

use common::{Pair, Running, all_arrive, assert_at_least_once_in_order};
use kmirror::config::Group;
use kmirror_fake::{Action, ApiKey, Cluster, ResponseError};

const TOPIC: &str = "orders";
const GROUP: &str = "mirror";
const MISFORTUNES: usize = 40;

/// xorshift64*: a repeatable choice.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).expect("31 bits") % bound
    }
}

fn once(cluster: &Cluster, api: ApiKey, action: Action) {
    let mut action = Some(action);
    cluster.intercept_once(api, move |_| action.take().unwrap_or(Action::Continue)).forget();
}

fn misfortune(pair: &Pair, chance: &mut Chance) {
    let cluster = [&pair.source, &pair.destination][chance.below(2)];
    let brokers = cluster.brokers();
    let broker = brokers[chance.below(brokers.len())];
    let partition = i32::try_from(chance.below(6)).expect("a small number");
    let there = cluster.partition_count(TOPIC) > partition;
    match chance.below(17) {
        0 if there => cluster.move_leader(TOPIC, partition, broker).expect("a broker"),
        1 => cluster.disconnect_all(broker).expect("a broker"),
        2 => once(&pair.destination, ApiKey::Produce, Action::HandleThenDisconnect),
        3 => once(&pair.destination, ApiKey::Produce, Action::Disconnect),
        4 => once(
            &pair.destination,
            ApiKey::Produce,
            Action::Error(ResponseError::NotEnoughReplicasAfterAppend),
        ),
        5 => once(&pair.destination, ApiKey::Produce, Action::Truncate(chance.below(40))),
        6 => once(&pair.source, ApiKey::Fetch, Action::Truncate(chance.below(400))),
        7 => once(&pair.source, ApiKey::Fetch, Action::Error(ResponseError::UnknownLeaderEpoch)),
        8 => pair.source.evict_fetch_sessions(),
        9 => pair.source.rebalance_group(GROUP),
        10 => pair.source.move_coordinator(GROUP, broker),
        11 => once(&pair.source, ApiKey::OffsetCommit, Action::HandleThenDisconnect),
        12 => once(&pair.source, ApiKey::Heartbeat, Action::Disconnect),
        13 => once(cluster, ApiKey::Metadata, Action::Disconnect),
        14 if there => {
            // As after a day of silence: the leader no longer knows its producers.
            for id in 0..32 {
                let _ = pair.destination.forget_producer(TOPIC, partition, id);
            }
        }
        15 => {
            let members = pair.source.group(GROUP).map(|group| group.members).unwrap_or_default();
            if let Some(member) = members.first() {
                pair.source.expire_member(GROUP, member);
            }
        }
        _ => once(&pair.destination, ApiKey::Produce, Action::Ignore),
    }
}

async fn endure(seed: u64) {
    let mut chance = Chance(seed | 1);
    let pair = Pair::start(3).await;
    pair.topic(TOPIC, 6);
    let mut group = Group::new(GROUP);
    group.heartbeat_interval = Duration::from_millis(100);
    let config = || {
        let mut config = pair.config().with_group(group.clone()).with_streams(2);
        // A request that is never answered is given up soon enough for a test.
        let patience = Duration::from_secs(2);
        config.destination = config.destination.with_request_timeout(patience);
        config.source = config.source.with_request_timeout(patience);
        config.produce.timeout = patience;
        config
    };
    let mut running = Running::start(config()).await;
    for round in 0..MISFORTUNES {
        pair.fill(TOPIC, 1 + chance.below(4), 1 + chance.below(6));
        misfortune(&pair, &mut chance);
        tokio::time::sleep(Duration::from_millis(u64::try_from(chance.below(40)).expect("small")))
            .await;
        if round == MISFORTUNES / 2 {
            running.stop().await;
            running = Running::start(config()).await;
        }
    }
    all_arrive(&pair, TOPIC).await;
    assert_at_least_once_in_order(&pair, TOPIC);
    let report = running.stop().await;
    assert!(report.halted.is_empty(), "{report:?}");
}

#[tokio::test]
async fn misfortunes_in_any_order_lose_nothing_and_keep_the_order() {
    let seeds = match std::env::var("KMIRROR_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => vec![1, 2, 3, 4],
    };
    for seed in seeds {
        eprintln!("seed {seed}");
        endure(seed).await;
    }
}
