//! Partitions that the destination does not take for now: they say so, hold little, keep nobody
//! from flowing, and go on once they can.

mod common;

use std::time::Duration;

use common::{PATIENCE, Pair, Running, until};
use kmirror::Config;
use kmirror::status::{Partition, State};
use kmirror_fake::Record;

/// What all partitions that cannot be written have together: more than the memory.
const BACKLOG_BYTES: usize = 6 << 20;
const MEMORY_BYTES: u64 = 4 << 20;

/// Each moves as much as the machine can: together they would not be done in time on a busy one.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn config(pair: &Pair) -> Config {
    let mut config = pair.config().with_memory_bytes(MEMORY_BYTES);
    config.fetch.partition_bytes_max = 256 << 10;
    config
}

/// A topic at both ends with a backlog, of which each destination partition wants two replicas.
fn unwritable(pair: &Pair, partitions: i32) {
    pair.topic("stuck", partitions);
    pair.destination.create_topic_with("stuck", partitions, &[("min.insync.replicas", "2")]);
    backlog(pair, partitions);
}

fn backlog(pair: &Pair, partitions: i32) {
    let bytes = BACKLOG_BYTES / partitions as usize;
    let batches = bytes.div_ceil(40_000);
    for partition in 0..partitions {
        for batch in 0..batches {
            let record = Record::new(format!("{partition}/{batch}"), vec![7; bytes / batches]);
            pair.source.produce_direct("stuck", partition, record).unwrap();
        }
    }
}

fn stuck(running: &Running) -> Vec<Partition> {
    let status = running.status();
    let partitions = status.partitions.iter().filter(|partition| &*partition.topic == "stuck");
    partitions.map(|partition| (**partition).clone()).collect()
}

/// A healthy topic flows beside them, and they are named.
async fn a_healthy_topic_flows_beside(partitions: i32) -> (Pair, Running) {
    let _alone = ONE_AT_A_TIME.lock().await;
    let pair = Pair::start(1).await;
    unwritable(&pair, partitions);
    pair.topic("good", 1);
    pair.destination.create_topic("good", 1);
    let running = Running::start(config(&pair)).await;
    let used = || running.status().memory.used_bytes;
    until("the memory is full", || async { used() > MEMORY_BYTES / 2 }).await;
    pair.fill("good", 50, 40);
    // Until all of them are found the others wait with them, for as long as a busy machine takes.
    let all_of_good = async {
        while pair.destination.records("good", 0).len() < 50 * 40 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(6 * PATIENCE, all_of_good).await.expect("good is mirrored");
    until("one is named", || async {
        stuck(&running).iter().any(|partition| {
            let why = partition.why.as_deref().unwrap_or_default();
            let is_named = why.contains("stuck-") && why.contains("NOT_ENOUGH_REPLICAS");
            partition.state == State::Retrying && is_named
        })
    })
    .await;
    let counted = "kmirror_produce_errors_total{kind=\"not_enough_replicas\"}";
    assert!(running.mirror.metrics().contains(counted));
    // Again, now that they are known.
    pair.fill("good", 50, 40);
    pair.arrives("good").await;
    (pair, running)
}

#[tokio::test]
async fn sixteen_unwritable_partitions_keep_nobody_from_flowing_and_lose_and_repeat_nothing() {
    let (pair, running) = a_healthy_topic_flows_beside(16).await;
    until("all are named", || async {
        stuck(&running).iter().all(|partition| partition.state == State::Retrying)
    })
    .await;
    let used = || running.status().memory.used_bytes;
    until("they hold little", || async { used() < MEMORY_BYTES / 2 }).await;
    pair.destination.set_topic_config("stuck", "min.insync.replicas", "1").unwrap();
    pair.arrives("stuck").await;
    assert!(running.stop().await.is_clean());
    pair.arrives("stuck").await;
}

/// The records of these are read once more by whoever goes on behind the record that stopped them.
#[tokio::test]
async fn partitions_that_stopped_and_cannot_be_written_hold_little() {
    const PARTITIONS: i32 = 16;
    let _alone = ONE_AT_A_TIME.lock().await;
    let pair = Pair::start(1).await;
    pair.topic("stuck", PARTITIONS);
    let compacted = [("min.insync.replicas", "2"), ("cleanup.policy", "compact")];
    pair.destination.create_topic_with("stuck", PARTITIONS, &compacted);
    for partition in 0..PARTITIONS {
        let record = Record::new("key", vec![7; 200_000]);
        pair.source.produce_direct("stuck", partition, record).unwrap();
        let last = Record::value("a compacted topic does not take it");
        pair.source.produce_direct("stuck", partition, last).unwrap();
    }
    let running = Running::start(config(&pair)).await;
    until("all have stopped", || async {
        let stuck = stuck(&running);
        let is_halted = |partition: &Partition| partition.state == State::Halted;
        stuck.len() == PARTITIONS as usize && stuck.iter().all(is_halted)
    })
    .await;
    let used = || running.status().memory.used_bytes;
    until("they hold little", || async { used() < MEMORY_BYTES / 4 }).await;
    pair.topic("good", 1);
    pair.destination.create_topic("good", 1);
    pair.fill("good", 50, 40);
    pair.arrives("good").await;
}

#[tokio::test]
async fn a_hundred_unwritable_partitions_keep_nobody_from_flowing() {
    a_healthy_topic_flows_beside(100).await;
}

#[tokio::test]
async fn a_thousand_unwritable_partitions_keep_nobody_from_flowing() {
    a_healthy_topic_flows_beside(1_000).await;
}

#[tokio::test]
async fn partitions_whose_leader_does_not_answer_are_named_and_keep_nobody_from_flowing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let pair = Pair::start(2).await;
    pair.topic("stuck", 16);
    pair.topic("good", 1);
    for topic in ["stuck", "good"] {
        pair.destination.create_topic(topic, pair.source.partition_count(topic));
    }
    (0..16).for_each(|partition| pair.destination.move_leader("stuck", partition, 2).unwrap());
    pair.destination.move_leader("good", 0, 1).unwrap();
    backlog(&pair, 16);
    let running = Running::start(config(&pair)).await;
    let has_begun = || async { !pair.destination.records("stuck", 0).is_empty() };
    until("they begin", has_begun).await;
    pair.destination.freeze_broker(2).unwrap();
    backlog(&pair, 16);
    until("one is named", || async {
        let partitions = stuck(&running);
        partitions.iter().any(|partition| {
            let why = partition.why.as_deref().unwrap_or_default();
            partition.state == State::Retrying && why.contains("broker 2")
        })
    })
    .await;
    pair.fill("good", 50, 40);
    pair.arrives("good").await;
    pair.destination.thaw_broker(2).unwrap();
    pair.arrives("stuck").await;
    assert!(running.stop().await.is_clean());
}
