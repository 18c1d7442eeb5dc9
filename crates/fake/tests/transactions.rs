//! Transactions: what is visible when, who is fenced, what happens to offsets and timeouts.

mod support;

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kmirror_fake::{Cluster, Release, ResponseError};
use support::{Client, batch, fetch_request, name, string};

/// A transactional producer that speaks in raw requests.
struct Producer {
    client: Client,
    id: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl Producer {
    async fn init(cluster: &Cluster) -> Producer {
        let mut client = Client::coordinator(cluster, "tx");
        let response = client.call(4, init(60_000)).await;
        assert_eq!(response.error_code, 0);
        let (id, epoch) = (response.producer_id, response.producer_epoch);
        Producer { client, id, epoch, sequence: 0 }
    }

    async fn add(&mut self) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(name("t"));
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(tx())
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic.with_partitions(vec![0])]);
        let response = self.client.call(3, request).await;
        response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    async fn produce(&mut self, cluster: &Cluster, value: &str) -> i16 {
        let records = batch(&[value])
            .with_producer(self.id.0, self.epoch, self.sequence)
            .with_transactional()
            .build(cluster.unix_ms());
        let mut leader = Client::leader(cluster, "t", 0);
        let code = leader.produce_transactional("tx", ("t", 0), records).await.error_code;
        if code == 0 {
            self.sequence += 1;
        }
        code
    }

    async fn end(&mut self, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(tx())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        self.client.call(3, request).await.error_code
    }
}

fn init(timeout_ms: i32) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(tx()))
        .with_transaction_timeout_ms(timeout_ms)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

fn tx() -> TransactionalId {
    TransactionalId(string("tx"))
}

async fn cluster() -> Cluster {
    Cluster::builder().in_memory().brokers(3).topic("t", 1).start().await.unwrap()
}

fn values(records: Vec<kmirror_fake::StoredRecord>) -> Vec<String> {
    let text = |record: kmirror_fake::StoredRecord| {
        String::from_utf8(record.value.unwrap().to_vec()).unwrap()
    };
    records.into_iter().map(text).collect()
}

#[tokio::test]
async fn a_committed_reader_stops_at_the_open_transaction_and_skips_the_aborted_one() {
    let cluster = cluster().await;
    let mut producer = Producer::init(&cluster).await;
    assert_eq!(producer.add().await, 0);
    assert_eq!(producer.produce(&cluster, "aborted").await, 0);
    cluster.produce_direct("t", 0, batch(&["plain"])).unwrap();
    assert_eq!(cluster.offsets("t", 0).unwrap().stable, 0);
    let committed = || fetch_request("t", &[(0, 0)]).with_isolation_level(1);
    let mut reader = Client::leader(&cluster, "t", 0);
    let before = reader.call(11, committed()).await.responses.remove(0).partitions.remove(0);
    assert!(before.records.unwrap_or_default().is_empty());
    assert_eq!((before.last_stable_offset, before.high_watermark), (0, 2));
    assert_eq!(producer.end(false).await, 0);
    let after = reader.call(11, committed()).await.responses.remove(0).partitions.remove(0);
    assert_eq!((after.last_stable_offset, after.high_watermark), (3, 3));
    let aborted = after.aborted_transactions.unwrap();
    assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (producer.id, 0));
    assert_eq!(values(cluster.committed_records("t", 0)), ["plain"]);
    assert_eq!(values(cluster.records("t", 0)), ["aborted", "plain"]);
    let uncommitted = reader.call(11, fetch_request("t", &[(0, 0)])).await;
    assert_eq!(uncommitted.responses[0].partitions[0].aborted_transactions, None);
}

#[tokio::test]
async fn a_commit_makes_records_visible_and_may_be_repeated() {
    let cluster = cluster().await;
    let mut producer = Producer::init(&cluster).await;
    producer.add().await;
    producer.produce(&cluster, "one").await;
    assert_eq!(values(cluster.committed_records("t", 0)), [""; 0]);
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(producer.end(true).await, 0);
    assert_eq!(producer.end(false).await, ResponseError::InvalidTxnState.code());
    assert_eq!(values(cluster.committed_records("t", 0)), ["one"]);
    let marker = cluster.batches("t", 0).pop().unwrap();
    assert!(marker.header.is_control() && marker.header.is_transactional());
    assert_eq!(producer.add().await, 0);
    assert_eq!(producer.produce(&cluster, "two").await, 0);
}

#[tokio::test]
async fn a_partition_that_was_not_added_is_refused_since_3_6_and_hangs_before() {
    for (release, code) in
        [(Release::V3_9, ResponseError::InvalidTxnState.code()), (Release::V3_2, 0)]
    {
        let builder = Cluster::builder().in_memory().emulate(release).topic("t", 1);
        let cluster = builder.start().await.unwrap();
        let mut producer = Producer::init(&cluster).await;
        assert_eq!(producer.produce(&cluster, "loose").await, code, "{release:?}");
    }
}

#[tokio::test]
async fn a_second_init_aborts_and_fences_the_first() {
    let cluster = cluster().await;
    let mut first = Producer::init(&cluster).await;
    first.add().await;
    first.produce(&cluster, "lost").await;
    let second = Producer::init(&cluster).await;
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    assert_eq!(cluster.offsets("t", 0).unwrap().stable, 2);
    let fenced = first.produce(&cluster, "zombie").await;
    assert_eq!(fenced, ResponseError::InvalidProducerEpoch.code());
    assert_eq!(first.add().await, ResponseError::ProducerFenced.code());
    assert_eq!(first.end(true).await, ResponseError::ProducerFenced.code());
    assert_eq!(values(cluster.committed_records("t", 0)), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let cluster = cluster().await;
    let mut client = Client::coordinator(&cluster, "tx");
    let response = client.call(4, init(500)).await;
    let (id, epoch) = (response.producer_id, response.producer_epoch);
    let mut producer = Producer { client, id, epoch, sequence: 0 };
    producer.add().await;
    producer.produce(&cluster, "late").await;
    tokio::time::sleep(Duration::from_millis(510)).await;
    assert!(!cluster.transaction("tx").unwrap().is_ongoing);
    assert_eq!(cluster.offsets("t", 0).unwrap().stable, 2);
    assert_eq!(producer.end(true).await, ResponseError::ProducerFenced.code());
}

#[tokio::test]
async fn offsets_in_a_transaction_count_when_it_commits() {
    let cluster = cluster().await;
    for (commit, expected) in [(false, None), (true, Some(9))] {
        let mut producer = Producer::init(&cluster).await;
        let group = || GroupId(string("g"));
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(tx())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_group_id(group());
        assert_eq!(producer.client.call(3, add).await.error_code, 0);
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(9);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name("t"));
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(tx())
            .with_group_id(group())
            .with_producer_id(producer.id)
            .with_producer_epoch(producer.epoch)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        let response = Client::coordinator(&cluster, "g").call(3, request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
        assert_eq!(cluster.committed_offset("g", "t", 0), None);
        assert_eq!(fetch_stable(&cluster).await, ResponseError::UnstableOffsetCommit.code());
        assert_eq!(producer.end(commit).await, 0);
        assert_eq!(cluster.committed_offset("g", "t", 0), expected);
        assert_eq!(fetch_stable(&cluster).await, 0);
    }
}

async fn fetch_stable(cluster: &Cluster) -> i16 {
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("t"))
        .with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(string("g")))
        .with_require_stable(true)
        .with_topics(Some(vec![topic]));
    let response = Client::coordinator(cluster, "g").call(7, request).await;
    response.topics[0].partitions[0].error_code
}
