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
