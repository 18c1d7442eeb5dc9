//! Clusters that are not what they were: another behind the addresses, a permission granted late.

mod common;

use std::time::Duration;

use common::{PATIENCE, Pair, Running, until};
use kmirror::Error;
use kmirror::config::Group;
use kmirror::error::End;
use kmirror_fake::{Action, ApiKey, BatchBuilder, Cluster, Record, ResponseError};

/// A mirror through a group, quick to end.
fn config(pair: &Pair) -> kmirror::Config {
    let mut group = Group::new("mirror");
    group.heartbeat_interval = Duration::from_millis(100);
    let mut config = pair.config().with_group(group);
    config.shutdown_timeout = Duration::from_millis(500);
    config
}

#[tokio::test]
async fn another_destination_ends_the_mirror_and_gets_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 5);
    let port = pair.destination.listening(1).expect("it listens").port();
    let running = Running::start(config(&pair)).await;
    pair.arrives("orders").await;
    until("the position is committed", || async {
        pair.source.committed_offset("mirror", "orders", 0) == Some(5)
    })
    .await;
    pair.destination.shut_down();
    let other = another(port).await;
    pair.fill("orders", 2, 5);
    match running.end().await {
        Err(Error::ClusterChanged { end: End::Destination, expected, found }) => {
            assert_eq!((&*expected, &*found), ("destination", "other"));
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(other.request_count(ApiKey::Produce), 0);
    assert!(other.records("orders", 0).is_empty());
    assert_eq!(pair.source.committed_offset("mirror", "orders", 0), Some(5));
}

#[tokio::test]
async fn another_source_ends_the_mirror_and_nothing_is_read_from_it_or_committed_there() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 5);
    let port = pair.source.listening(1).expect("it listens").port();
    let running = Running::start(config(&pair)).await;
    pair.arrives("orders").await;
    pair.source.shut_down();
    let other = another(port).await;
    let batch = BatchBuilder::new([Record::new("key", "of another cluster")]);
    other.produce_direct("orders", 0, batch).expect("produced");
    match running.end().await {
        Err(Error::ClusterChanged { end: End::Source, expected, found }) => {
            assert_eq!((&*expected, &*found), ("source", "other"));
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(other.request_count(ApiKey::Fetch), 0);
    assert_eq!(other.committed_offset("mirror", "orders", 0), None);
    assert_eq!(pair.destination.records("orders", 0).len(), 5);
}

#[tokio::test]
async fn a_permission_to_produce_that_is_granted_late_is_enough() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 2, 5);
    let rule = pair.destination.intercept(ApiKey::InitProducerId, |_| {
        Action::Error(ResponseError::ClusterAuthorizationFailed)
    });
    let running = Running::start(pair.config()).await;
    until("it is refused again and again", || async {
        pair.destination.request_count(ApiKey::InitProducerId) > 2
    })
    .await;
    drop(rule);
    pair.arrives("orders").await;
    assert!(running.stop().await.is_clean());
}

/// Another cluster on the port, as soon as that is free.
async fn another(port: u16) -> Cluster {
    let starting = async {
        loop {
            let builder = Cluster::builder().cluster_id("other").topic("orders", 1).port(1, port);
            match builder.start().await {
                Ok(cluster) => return cluster,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, starting).await.expect("the port is free again")
}
