//! Two fake clusters with a mirror between them, and ways to look at both without sleeping and
//! hoping.
#![expect(dead_code, unreachable_pub, reason = "every suite includes it and uses a part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kmirror::policy::filter::{Pattern, Selection};
use kmirror::shutdown::{self, Trigger};
use kmirror::status::Status;
use kmirror::{Config, Error, Mirror, Report};
use kmirror_fake::{BatchBuilder, Cluster, Codec, Record, Release, StoredRecord};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Both ends.
pub struct Pair {
    pub source: Cluster,
    pub destination: Cluster,
    /// How often [`Pair::fill`] was called: no record has the content of another.
    rounds: AtomicUsize,
}

impl Pair {
    /// Two clusters of `brokers` brokers.
    pub async fn start(brokers: i32) -> Pair {
        Pair::start_from(brokers, Release::default()).await
    }

    /// The same with a source that looks like `release`.
    pub async fn start_from(brokers: i32, release: Release) -> Pair {
        let cluster = |id: &str, release| {
            let builder = Cluster::builder().brokers(brokers).cluster_id(id).emulate(release);
            async { builder.auto_create_topics(false).start().await.expect("a fake cluster") }
        };
        let source = cluster("source", release).await;
        let destination = cluster("destination", Release::default()).await;
        Pair { source, destination, rounds: AtomicUsize::new(0) }
    }

    /// A mirror of everything, quick to notice changes.
    pub fn config(&self) -> Config {
        let client = |cluster: &Cluster| {
            kmirror_client::Config::new(&cluster.bootstrap()).expect("an address")
        };
        let topics = Selection::new(Pattern::try_new(".*").expect("a pattern"));
        let mut config = Config::new(client(&self.source), client(&self.destination), topics);
        config.topic.refresh_interval = Duration::from_millis(100);
        config.commit_interval = Duration::from_millis(100);
        config.fetch.wait_max = Duration::from_millis(50);
        config
    }

    /// Creates a topic at the source.
    pub fn topic(&self, name: &str, partitions: i32) {
        self.source.create_topic(name, partitions);
    }

    /// Produces `batches` batches of `records` records with keys to every partition of a topic.
    pub fn fill(&self, topic: &str, batches: usize, records: usize) {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        for partition in 0..self.source.partition_count(topic) {
            for batch in 0..batches {
                let codec = CODECS[batch % CODECS.len()];
                let records = (0..records).map(|record| {
                    let id = format!("{topic}/{partition}/{round}/{batch}/{record}");
                    Record::new(format!("key-{}", (batch + record) % 17), id)
                });
                let batch = BatchBuilder::new(records).with_codec(codec);
                self.source.produce_direct(topic, partition, batch).expect("produced");
            }
        }
    }

    /// Waits until the destination holds every record of the source's topic, then compares them
    /// partition by partition: same content, same order.
    pub async fn arrives(&self, topic: &str) {
        let partitions = self.source.partition_count(topic);
        until(&format!("{topic} is mirrored"), || async {
            self.destination.partition_count(topic) == partitions
                && (0..partitions).all(|partition| {
                    let wanted = self.source.committed_records(topic, partition).len();
                    self.destination.records(topic, partition).len() >= wanted
                })
        })
        .await;
        for partition in 0..partitions {
            let wanted = contents(&self.source.committed_records(topic, partition));
            let found = contents(&self.destination.records(topic, partition));
            assert_same(&found, &wanted, &format!("{topic}-{partition}"));
        }
    }
}

/// Says where two logs differ without printing them whole.
pub fn assert_same(found: &[Content], wanted: &[Content], what: &str) {
    let differs = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    assert_eq!((found.len(), differs), (wanted.len(), None), "{what}");
}

/// All codecs.
pub const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// What a mirror has to keep of a record.
pub type Content =
    (i64, Option<bytes::Bytes>, Option<bytes::Bytes>, Vec<(bytes::Bytes, Option<bytes::Bytes>)>);

pub fn contents(records: &[StoredRecord]) -> Vec<Content> {
    let content = |record: &StoredRecord| {
        let StoredRecord { timestamp_ms, key, value, headers, .. } = record.clone();
        (timestamp_ms, key, value, headers)
    };
    records.iter().map(content).collect()
}

/// Values of the records by key, in the order of the log, over several partitions; within one key
/// the order is that of the partition that holds it.
pub fn by_key(cluster: &Cluster, topic: &str) -> BTreeMap<bytes::Bytes, Vec<bytes::Bytes>> {
    let mut keys: BTreeMap<bytes::Bytes, Vec<bytes::Bytes>> = BTreeMap::new();
    for partition in 0..cluster.partition_count(topic) {
        for record in cluster.committed_records(topic, partition) {
            keys.entry(record.key.unwrap_or_default())
                .or_default()
                .push(record.value.unwrap_or_default());
        }
    }
    keys
}

/// How many batches took each path for each reason.
pub fn ways(status: &Status) -> BTreeMap<(&'static str, &'static str), u64> {
    status.totals.paths.iter().map(|made| ((made.path, made.reason), made.batches)).collect()
}

/// Every record of the source is at the destination, and ignoring repeats of what was there before,
/// in the source's order: what at-least-once promises.
pub fn assert_at_least_once_in_order(pair: &Pair, topic: &str) {
    for partition in 0..pair.source.partition_count(topic) {
        let wanted = contents(&pair.source.committed_records(topic, partition));
        let place: BTreeMap<_, usize> =
            wanted.iter().enumerate().map(|(at, record)| (&record.2, at)).collect();
        let mut reached = 0;
        for record in contents(&pair.destination.records(topic, partition)) {
            let at = place[&record.2];
            assert!(at <= reached, "{topic}-{partition} skips from {reached} to {at}");
            assert_eq!(record, wanted[at]);
            reached = reached.max(at + 1);
        }
        assert_eq!(reached, wanted.len(), "{topic}-{partition}");
    }
}

/// Waits until the last record of every partition is at the destination.
pub async fn all_arrive(pair: &Pair, topic: &str) {
    until("everything is there", || async {
        pair.destination.partition_count(topic) == pair.source.partition_count(topic)
            && (0..pair.source.partition_count(topic)).all(|partition| {
                let last = pair.source.committed_records(topic, partition).last().cloned();
                let there = pair.destination.records(topic, partition);
                last.is_none_or(|last| there.iter().any(|record| record.value == last.value))
            })
    })
    .await;
}

/// A mirror at work.
pub struct Running {
    pub mirror: Arc<Mirror>,
    pub trigger: Trigger,
    task: tokio::task::JoinHandle<Result<Report, Error>>,
}

impl Running {
    pub async fn start(config: Config) -> Running {
        let mirror = Arc::new(Mirror::build(config).await.expect("a mirror"));
        let (trigger, shutdown) = shutdown::channel();
        let running = Arc::clone(&mirror);
        #[expect(clippy::disallowed_methods, reason = "a test owns its tasks")]
        let task = tokio::spawn(async move { running.run(shutdown).await });
        Running { mirror, trigger, task }
    }

    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.mirror.status().borrow())
    }

    /// What the first partition does; nothing as long as there is none.
    pub fn state(&self) -> Option<kmirror::status::State> {
        self.status().partitions.first().map(|partition| partition.state)
    }

    /// Drains it.
    pub async fn stop(self) -> Report {
        self.trigger.drain();
        self.end().await.expect("a clean end")
    }

    /// Waits for its own end.
    pub async fn end(self) -> Result<Report, Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").expect("no panic")
    }
}

/// Polls until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    #[expect(clippy::disallowed_methods, reason = "a test measures real time")]
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
