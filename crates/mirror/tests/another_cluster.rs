//! Another cluster behind the addresses of the destination while the mirror runs.

mod common;

use std::time::Duration;

use common::{PATIENCE, Pair, Running, until};
use kmirror::Error;
use kmirror::config::Group;
use kmirror::error::End;
use kmirror_fake::{ApiKey, Cluster};

#[tokio::test]
async fn another_destination_ends_the_mirror_and_gets_nothing() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 5);
    let mut group = Group::new("mirror");
    group.heartbeat_interval = Duration::from_millis(100);
    let mut config = pair.config().with_group(group);
    config.shutdown_timeout = Duration::from_millis(500);
    let port = pair.destination.listening(1).expect("it listens").port();
    let running = Running::start(config).await;
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
