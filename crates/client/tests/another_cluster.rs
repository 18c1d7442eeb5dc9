//! Another cluster behind the addresses of the one that was meant: nothing goes there.

use std::time::Duration;

use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{Codec, Compressor, Outgoing, Record};
use kmirror_client::produce::{self, BatchProducer};
use kmirror_client::{Client, Config, Error, Fate, TopicPartition};
use kmirror_fake::{ApiKey, Cluster};

const PATIENCE: Duration = Duration::from_secs(30);

async fn cluster(id: &str, brokers: i32) -> Cluster {
    let builder = Cluster::builder().brokers(brokers).cluster_id(id).topic("orders", 1);
    builder.start().await.expect("a fake cluster")
}

/// Another cluster of one broker, on a port that was used before.
async fn on_port(id: &str, port: u16) -> Cluster {
    let starting = async {
        loop {
            let builder = Cluster::builder().cluster_id(id).topic("orders", 1).port(1, port);
            match builder.start().await {
                Ok(cluster) => return cluster,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    soon("the port is free again", starting).await
}

fn config(bootstrap: &str) -> Config {
    let backoff = (Duration::from_millis(10), Duration::from_millis(100));
    Config::new(bootstrap).expect("addresses").with_backoff(backoff.0, backoff.1)
}

fn batch(value: &str) -> Outgoing {
    let mut builder = Builder::new(Codec::None);
    builder.push(&Record::new(None, Some(value.as_bytes()))).expect("fits");
    builder.finish(&mut Compressor::default()).expect("builds")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

#[tokio::test]
async fn another_cluster_behind_a_brokers_address_gets_no_records() {
    let one = cluster("one", 1).await;
    let port = one.listening(1).expect("it listens").port();
    let client = Client::connect(config(&one.bootstrap())).await.expect("it answers");
    let producer = BatchProducer::try_new(client.clone(), produce::Config::default());
    let producer = producer.expect("sound");
    let orders = TopicPartition::new("orders", 0);
    let first = producer.send(&orders, batch("a")).await;
    soon("the first", first).await.expect("written");
    one.shut_down();
    let two = on_port("two", port).await;
    let second = producer.send(&orders, batch("b")).await;
    match soon("the second", second).await {
        Err(produce::Error::Refused { source, fate: Fate::NotWritten }) => {
            assert!(matches!(source, Error::ClusterChanged { .. }), "{source}");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(two.request_count(ApiKey::Produce), 0);
    assert!(two.records("orders", 0).is_empty());
    assert_eq!(client.view().cluster_id.as_deref(), Some("one"));
    let error = client.refresh(client.view().generation).await.unwrap_err();
    let expected = "the broker at 127.0.0.1";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(error.to_string().ends_with("is of cluster two, not one"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn one_broker_whose_address_went_to_another_cluster_does_not_keep_the_others_from_serving() {
    let one = cluster("one", 2).await;
    let port = one.listening(2).expect("it listens").port();
    let client = Client::connect(config(&one.bootstrap())).await.expect("it answers");
    one.stop_broker(2).expect("known");
    // The other cluster's broker has another id, but the same address.
    let _two = on_port("two", port).await;
    for _ in 0..4 {
        let view = soon("a view", client.refresh(client.view().generation)).await;
        assert_eq!(view.expect("the first broker tells").cluster_id.as_deref(), Some("one"));
    }
    assert!(soon("a broker", client.any_broker()).await.is_ok());
}

#[tokio::test]
async fn a_client_that_was_told_its_cluster_takes_no_other() {
    let one = cluster("one", 1).await;
    let told = |id: &str| config(&one.bootstrap()).with_cluster_id(Some(id.into()));
    assert!(Client::connect(told("one")).await.is_ok());
    let error = Client::connect(told("two")).await.unwrap_err();
    assert!(matches!(error, Error::ClusterChanged { .. }), "{error}");
}
