//! The producer of records against the fake cluster: what follows a failure.

use std::time::Duration;

use kmirror_client::batch::Record;
use kmirror_client::producer::{Config, Error, Producer};
use kmirror_client::{Client, ErrorCode, produce};
use kmirror_fake::{Action, ApiKey, Cluster, ResponseError};

const PATIENCE: Duration = Duration::from_secs(30);

async fn producer(cluster: &Cluster, config: Config) -> Producer {
    let client = kmirror_client::Config::new(&cluster.bootstrap()).unwrap();
    Producer::try_new(Client::connect(client).await.unwrap(), config).unwrap()
}

async fn flush(producer: &mut Producer) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, producer.flush()).await.expect("the flush ends")
}

#[tokio::test]
async fn a_partition_goes_on_after_a_record_that_was_too_large() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    cluster.set_topic_config("orders", "max.message.bytes", "500").unwrap();
    let mut producer = producer(&cluster, Config::default()).await;
    let large = [b'x'; 1000];
    producer.send("orders", Some(0), &Record::new(None, Some(&large))).await.unwrap();
    match flush(&mut producer).await {
        Err(Error::Write { source: produce::Error::Rejected { rejection, .. }, .. }) => {
            assert_eq!(rejection.code, ErrorCode::MESSAGE_TOO_LARGE);
        }
        outcome => panic!("{outcome:?}"),
    }
    for value in [b"a", b"b"] {
        producer.send("orders", Some(0), &Record::new(None, Some(value))).await.unwrap();
        flush(&mut producer).await.unwrap();
    }
    assert_eq!(cluster.records("orders", 0).len(), 2);
}

#[tokio::test]
async fn a_flush_ends_though_nothing_is_ever_acknowledged() {
    let by_default = Config::default().produce.delivery_timeout;
    assert_eq!(by_default, Some(Duration::from_secs(120)));
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    let _rule =
        cluster.intercept(ApiKey::Produce, |_| Action::Error(ResponseError::NotEnoughReplicas));
    let mut config = Config::default();
    config.produce.delivery_timeout = Some(Duration::from_millis(300));
    let mut producer = producer(&cluster, config).await;
    producer.send("orders", Some(0), &Record::new(None, Some(b"a"))).await.unwrap();
    match flush(&mut producer).await {
        Err(Error::Write { source: produce::Error::Expired { .. }, .. }) => {}
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn what_was_added_behind_a_batch_that_failed_is_not_written_either() {
    let cluster = Cluster::builder().topic("orders", 1).start().await.unwrap();
    cluster.set_topic_config("orders", "max.message.bytes", "500").unwrap();
    let held =
        cluster.intercept(ApiKey::Produce, |_| Action::Error(ResponseError::NotEnoughReplicas));
    let config = Config { batch_bytes: 900, ..Config::default() };
    let mut producer = producer(&cluster, config).await;
    let send = async |producer: &mut Producer, value: &[u8]| {
        producer.send("orders", Some(0), &Record::new(None, Some(value))).await
    };
    send(&mut producer, &[b'x'; 1000]).await.unwrap();
    send(&mut producer, b"behind").await.unwrap();
    drop(held);
    let told = async {
        loop {
            // The queue's own task has to come to its turn.
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Err(error) = send(&mut producer, b"b").await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert!(matches!(error, Error::Write { .. }), "{error:?}");
    send(&mut producer, b"after").await.unwrap();
    flush(&mut producer).await.unwrap();
    let values: Vec<_> = cluster.records("orders", 0).into_iter().map(|it| it.value).collect();
    assert_eq!(values, [Some("after".into())]);
}
