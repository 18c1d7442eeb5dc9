//! Few source partitions into many destination partitions by key: a backlog arrives whole, however
//! many destinations one answer has.

mod common;

use common::{Pair, Running, by_key};
use kmirror::Ended;
use kmirror_fake::{BatchBuilder, Record};

/// Mirrors a backlog of `records` records of as many keys, and compares both ends.
async fn fan_out(from: i32, to: i32, records: usize) {
    let pair = Pair::start(1).await;
    pair.topic("orders", from);
    pair.destination.create_topic("orders", to);
    for partition in 0..from {
        let ids: Vec<usize> =
            (0..records).filter(|id| id % from as usize == partition as usize).collect();
        for ids in ids.chunks(50) {
            let record = |id: &usize| Record::new(format!("key-{id}"), format!("value-{id}"));
            let batch = BatchBuilder::new(ids.iter().map(record));
            pair.source.produce_direct("orders", partition, batch).unwrap();
        }
    }
    let report = Running::start(pair.config().with_until_caught_up()).await.end().await.unwrap();
    assert_eq!((report.end, report.is_clean()), (Ended::CaughtUp, true), "{report:?}");
    assert_eq!(report.totals.records, records as u64);
    assert!(by_key(&pair.destination, "orders") == by_key(&pair.source, "orders"));
}

#[tokio::test]
async fn one_partition_reaches_three_hundred() {
    fan_out(1, 300, 3_000).await;
}

#[tokio::test]
async fn eight_partitions_reach_two_hundred() {
    fan_out(8, 200, 20_000).await;
}

#[tokio::test]
async fn three_partitions_reach_a_thousand() {
    fan_out(3, 1_000, 12_000).await;
}
