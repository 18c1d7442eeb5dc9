//! What the tests of producing and fetching share: a fake cluster, a client, batches and values.

use std::time::Duration;

use kmirror_client::batch::rebuild::Builder;
use kmirror_client::batch::{Codec, Compressor, Decompressor, Entry, Outgoing, Record};
use kmirror_client::{Client, Config, TopicPartition, fetch, produce};
use kmirror_fake::{ApiKey, Cluster};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const TOPIC: &str = "orders";

/// Three brokers and one topic.
pub(crate) async fn cluster(partitions: i32) -> Cluster {
    let builder = Cluster::builder().brokers(3).topic(TOPIC, partitions);
    builder.start().await.expect("the fake starts")
}

pub(crate) async fn client(cluster: &Cluster) -> Client {
    let config = Config::new(&cluster.bootstrap()).expect("addresses");
    let config = config
        .with_request_timeout(Duration::from_secs(2))
        .with_backoff(Duration::from_millis(5), Duration::from_millis(50));
    Client::connect(config).await.expect("the fake answers")
}

pub(crate) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

/// A batch of these values.
pub(crate) fn batch<'a>(values: impl IntoIterator<Item = &'a str>) -> Outgoing {
    compressed(Codec::None, values)
}

pub(crate) fn compressed<'a>(codec: Codec, values: impl IntoIterator<Item = &'a str>) -> Outgoing {
    let mut builder = Builder::new(codec);
    for value in values {
        builder.push(&Record::new(None, Some(value.as_bytes()))).expect("fits");
    }
    builder.finish(&mut Compressor::default()).expect("builds")
}

/// The values in a partition of the fake.
pub(crate) fn stored(cluster: &Cluster, number: i32) -> Vec<String> {
    let records = cluster.records(TOPIC, number).into_iter();
    records.map(|record| text(&record.value.unwrap_or_default())).collect()
}

/// The values of what was fetched.
pub(crate) fn values(entries: &[Entry]) -> Vec<String> {
    let mut decompressor = Decompressor::new(64 << 20);
    let mut values = Vec::new();
    for entry in entries {
        let Entry::Batch(batch) = entry else { panic!("an old message set") };
        for record in batch.records(&mut decompressor).expect("readable") {
            values.push(text(record.expect("readable").value.unwrap_or_default()));
        }
    }
    values
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A producer that does not wait long between tries.
pub(crate) fn producing() -> produce::Config {
    produce::Config {
        backoff: (Duration::from_millis(5), Duration::from_millis(50)),
        ack_timeout: Duration::from_secs(2),
        ..produce::Config::default()
    }
}

/// A fetcher that does not wait long between tries.
pub(crate) fn fetching() -> fetch::Config {
    fetch::Config {
        backoff: (Duration::from_millis(5), Duration::from_millis(50)),
        wait_max: Duration::from_millis(50),
        ..fetch::Config::default()
    }
}

/// Waits for a future, and fails the test if that takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} takes too long"),
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The versions of an API that came to the fake.
pub(crate) fn versions_seen(cluster: &Cluster, api: ApiKey) -> Vec<i16> {
    let requests = cluster.requests().into_iter().filter(|seen| seen.api == api);
    requests.map(|seen| seen.version).collect()
}

/// Stops a broker and starts it again, as soon as its port is free.
pub(crate) async fn restart(cluster: &Cluster, broker: i32) {
    cluster.stop_broker(broker).expect("known");
    soon("the restart", async {
        while cluster.start_broker(broker).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
