//! Asking a leader where its log ends for an epoch (OffsetForLeaderEpoch, KIP-320).
//!
//! Versions 3 and 4: 3 lets those ask who may describe the topic. Before it (brokers 2.2 and older)
//! only those may who may act for the cluster, so such brokers are not asked, as Java's consumer
//! does not ask them.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId as WireBrokerId, OffsetForLeaderEpochRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::broker::Lane;
use crate::client::Client;
use crate::error::Error;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::questions::Claim;

const VERSIONS: RangeInclusive<i16> = 3..=4;

/// What a leader says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    pub(super) code: ErrorCode,
    /// The end of its log for the epoch asked, and the epoch that ends there; `None` if it knows
    /// no epoch so old.
    pub(super) end: Option<(i64, i32)>,
}

/// Asks one leader about several partitions.
pub(super) async fn ask(
    client: &Client,
    broker: BrokerId,
    claims: &[Claim],
) -> Result<HashMap<TopicPartition, Proven>, Error> {
    let request = request(claims);
    let broker = client.broker(broker)?;
    let answer = broker.call(Lane::Control, VERSIONS, |_| request).await?;
    let mut proven = HashMap::new();
    for topic in answer.body.topics {
        for end in topic.partitions {
            let name = TopicPartition::new(topic.topic.as_str(), end.partition);
            let is_known = end.end_offset >= 0 && end.leader_epoch >= 0;
            let found = Proven {
                code: ErrorCode(end.error_code),
                end: is_known.then_some((end.end_offset, end.leader_epoch)),
            };
            proven.insert(name, found);
        }
    }
    Ok(proven)
}

fn request(claims: &[Claim]) -> OffsetForLeaderEpochRequest {
    let runs = claims.chunk_by(|one, other| one.partition.topic == other.partition.topic);
    let topics = runs.map(|run| {
        let partitions = run.iter().map(|claim| {
            OffsetForLeaderPartition::default()
                .with_partition(claim.partition.partition)
                .with_current_leader_epoch(claim.leader.epoch)
                .with_leader_epoch(claim.position.leader_epoch.unwrap_or(-1))
        });
        let topic = StrBytes::from_string(run[0].partition.topic.to_string());
        OffsetForLeaderTopic::default()
            .with_topic(TopicName(topic))
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(WireBrokerId(-1))
        .with_topics(topics.collect())
}
