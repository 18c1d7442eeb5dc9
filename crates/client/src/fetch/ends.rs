//! Asking a leader where a log begins and ends (ListOffsets versions 1 to 8, and 0 by hand).

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId as WireBrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::admin::offsets_v0;
use crate::broker::{Broker, Lane};
use crate::client::Client;
use crate::name::TopicPartition;

const VERSIONS: std::ops::RangeInclusive<i16> = 1..=8;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// The first offset of a log, and the one after its last. `None` if the leader does not say.
pub(super) async fn ask(client: &Client, partition: &TopicPartition) -> Option<(i64, i64)> {
    let (leader, _) = client.view().leader(partition)?;
    let broker = client.broker(leader).ok()?;
    if let Some(old) = offsets_v0::connection_to_old(&broker).await.ok()? {
        let timeout = client.config().request_timeout;
        let first = offsets_v0::ask(&old, partition, EARLIEST, timeout).await.ok()?;
        let end = offsets_v0::ask(&old, partition, LATEST, timeout).await.ok()?;
        return Some((first, end));
    }
    // One after the other: a partition can be named only once in a request.
    let first = ask_one(&broker, partition, EARLIEST).await?;
    let end = ask_one(&broker, partition, LATEST).await?;
    Some((first, end))
}

async fn ask_one(broker: &Broker, partition: &TopicPartition, timestamp: i64) -> Option<i64> {
    let one = ListOffsetsPartition::default()
        .with_partition_index(partition.partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = StrBytes::from_string(partition.topic.to_string());
    let topic = ListOffsetsTopic::default().with_name(TopicName(topic)).with_partitions(vec![one]);
    let request =
        ListOffsetsRequest::default().with_replica_id(WireBrokerId(-1)).with_topics(vec![topic]);
    let answer = broker.call(Lane::Control, VERSIONS, |_| request).await.ok()?;
    let found = answer.body.topics.iter().flat_map(|topic| &topic.partitions).next()?;
    (found.error_code == 0 && found.offset >= 0).then_some(found.offset)
}
