//! Transactions written by hand, request by request.

use kmirror_client::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kmirror_client::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kmirror_client::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProduceRequest, TopicName,
    TransactionalId,
};
use kmirror_client::{BrokerId, Client, Lane};
use kmirror_fake::{BatchBuilder, Cluster, Record};

/// Writes one batch of records in a transaction to a partition, then commits or aborts it.
pub(crate) async fn transaction(
    cluster: &Cluster,
    id: &str,
    (topic, partition): (&str, i32),
    (records, commits): (Vec<Record>, bool),
) {
    let config = kmirror_client::Config::new(&cluster.bootstrap()).expect("an address");
    let client = Client::connect(config).await.expect("a client");
    client.watch_topics([topic.into()]);
    let name = || TopicName(topic.to_owned().into());
    let transactional_id = || TransactionalId(id.to_owned().into());
    cluster.move_coordinator(id, 1);
    let broker = client.broker(BrokerId(1)).expect("broker 1");
    let answer = broker
        .call(Lane::Control, 0..=1, |_| {
            InitProducerIdRequest::default()
                .with_transactional_id(Some(transactional_id()))
                .with_transaction_timeout_ms(60_000)
        })
        .await
        .expect("a producer id")
        .body;
    let (producer_id, epoch) = (answer.producer_id, answer.producer_epoch);
    broker
        .call(Lane::Control, 0..=1, |_| {
            let topic = AddPartitionsToTxnTopic::default()
                .with_name(name())
                .with_partitions(vec![partition]);
            AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(transactional_id())
                .with_v3_and_below_producer_id(producer_id)
                .with_v3_and_below_producer_epoch(epoch)
                .with_v3_and_below_topics(vec![topic])
        })
        .await
        .expect("partitions added");
    let batch = BatchBuilder::new(records)
        .with_producer(producer_id.0, epoch, 0)
        .with_transactional()
        .build(1_700_000_000_000);
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(name()).with_partition_data(vec![data]);
    let leader = BrokerId(cluster.leader(topic, partition).expect("a leader").0);
    let answer = client
        .broker(leader)
        .expect("the leader")
        .call(Lane::Control, 9..=9, |_| {
            ProduceRequest::default()
                .with_transactional_id(Some(transactional_id()))
                .with_acks(-1)
                .with_timeout_ms(10_000)
                .with_topic_data(vec![data])
        })
        .await
        .expect("produced");
    assert_eq!(answer.body.responses[0].partition_responses[0].error_code, 0);
    let answer = broker
        .call(Lane::Control, 0..=1, |_| {
            EndTxnRequest::default()
                .with_transactional_id(transactional_id())
                .with_producer_id(producer_id)
                .with_producer_epoch(epoch)
                .with_committed(commits)
        })
        .await
        .expect("ended");
    assert_eq!(answer.body.error_code, 0);
}
