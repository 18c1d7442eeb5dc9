//! From a metadata answer to the next view. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};

use super::{BrokerInfo, Generation, Partition, Topic, View};
use crate::connection::Address;
use crate::error_code::ErrorCode;
use crate::name::BrokerId;

/// The view that follows `old` after `response`.
///
/// A partition whose leader epoch went back keeps what the older view had: the answer came from a
/// broker that lags (KIP-320).
pub(super) fn next_view(old: &View, response: &MetadataResponse) -> View {
    let brokers = response
        .brokers
        .iter()
        .filter_map(|broker| {
            let info = BrokerInfo {
                id: BrokerId(broker.node_id.0),
                address: Address::new(broker.host.as_str(), u16::try_from(broker.port).ok()?),
                rack: broker.rack.as_ref().map(|rack| rack.as_str().into()),
            };
            Some((info.id, info))
        })
        .collect();
    let topics = response
        .topics
        .iter()
        .filter_map(|topic| next_topic(old, topic))
        .map(|topic| (Arc::clone(&topic.name), topic))
        .collect();
    View {
        generation: Generation(old.generation.0 + 1),
        cluster_id: response.cluster_id.as_ref().map(|id| id.as_str().into()),
        controller: broker_id(response.controller_id.0),
        brokers,
        topics,
    }
}

fn next_topic(old: &View, topic: &MetadataResponseTopic) -> Option<Arc<Topic>> {
    let name = topic.name.as_ref()?.0.as_str();
    let id = Some(topic.topic_id).filter(|id| !id.is_nil());
    let before = old.topics.get(name).filter(|before| before.id == id);
    if let Some(before) = before.filter(|before| is_unchanged(before, topic)) {
        return Some(Arc::clone(before));
    }
    let partitions: BTreeMap<i32, Partition> = topic
        .partitions
        .iter()
        .map(|partition| {
            let new = read_partition(partition);
            let kept = before
                .and_then(|topic| topic.partitions.get(&new.index))
                .filter(|old| new.leader_epoch >= 0 && old.leader_epoch > new.leader_epoch);
            (new.index, kept.cloned().unwrap_or(new))
        })
        .collect();
    Some(Arc::new(Topic {
        name: before.map_or_else(|| name.into(), |before| Arc::clone(&before.name)),
        id,
        is_internal: topic.is_internal,
        error: ErrorCode(topic.error_code),
        partitions,
    }))
}

/// Whether an answer says what is known already, as it does of most topics most of the time.
fn is_unchanged(before: &Topic, topic: &MetadataResponseTopic) -> bool {
    let is_known = |partition: &MetadataResponsePartition| {
        let before = before.partitions.get(&partition.partition_index);
        before.is_some_and(|before| is_as(before, partition))
    };
    before.is_internal == topic.is_internal
        && before.error.0 == topic.error_code
        && before.partitions.len() == topic.partitions.len()
        && topic.partitions.iter().all(is_known)
}

fn is_as(before: &Partition, partition: &MetadataResponsePartition) -> bool {
    let are_same = |before: &[BrokerId], nodes: &[kafka_protocol::messages::BrokerId]| {
        before.iter().map(|id| id.0).eq(nodes.iter().map(|node| node.0))
    };
    before.leader == broker_id(partition.leader_id.0)
        && before.leader_epoch == partition.leader_epoch
        && before.error.0 == partition.error_code
        && are_same(&before.replicas, &partition.replica_nodes)
        && are_same(&before.in_sync, &partition.isr_nodes)
}

fn read_partition(partition: &MetadataResponsePartition) -> Partition {
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| {
        nodes.iter().map(|node| BrokerId(node.0)).collect()
    };
    Partition {
        index: partition.partition_index,
        leader: broker_id(partition.leader_id.0),
        leader_epoch: partition.leader_epoch,
        replicas: ids(&partition.replica_nodes),
        in_sync: ids(&partition.isr_nodes),
        error: ErrorCode(partition.error_code),
    }
}

/// Kafka writes -1 for nobody.
fn broker_id(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn answer(leader: i32, epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition::default()
            .with_partition_index(0)
            .with_leader_id(leader.into())
            .with_leader_epoch(epoch);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("orders"))))
            .with_partitions(vec![partition]);
        MetadataResponse::default().with_topics(vec![topic])
    }

    fn leader(view: &View) -> Option<(BrokerId, i32)> {
        view.leader(&crate::TopicPartition::new("orders", 0))
    }

    #[test]
    fn a_leader_epoch_never_goes_back() {
        let first = next_view(&View::default(), &answer(1, 5));
        let stale = next_view(&first, &answer(2, 4));
        assert_eq!(leader(&stale), Some((BrokerId(1), 5)));
        let newer = next_view(&stale, &answer(2, 6));
        assert_eq!(leader(&newer), Some((BrokerId(2), 6)));
        assert_eq!(newer.generation, Generation(3));
    }

    #[test]
    fn views_share_a_topic_until_anything_about_it_changes() {
        let with = |change: fn(&mut MetadataResponseTopic)| {
            let mut answer = answer(1, 5);
            change(&mut answer.topics[0]);
            answer
        };
        let first = next_view(&View::default(), &answer(1, 5));
        let same = next_view(&first, &answer(1, 5));
        assert!(Arc::ptr_eq(&first.topics["orders"], &same.topics["orders"]));
        assert_eq!(same.generation, Generation(2));
        let changes: [fn(&mut MetadataResponseTopic); 7] = [
            |topic| topic.partitions[0].leader_id = 2.into(),
            |topic| topic.partitions[0].leader_epoch = 6,
            |topic| topic.partitions[0].error_code = 5,
            |topic| topic.partitions[0].isr_nodes = vec![1.into()],
            |topic| topic.partitions[0].replica_nodes = vec![1.into()],
            |topic| {
                topic.partitions.push(MetadataResponsePartition::default().with_partition_index(1))
            },
            |topic| topic.error_code = 29,
        ];
        for change in changes {
            let next = next_view(&first, &with(change));
            assert_ne!(first.topics["orders"], next.topics["orders"]);
        }
    }

    #[test]
    fn a_partition_without_a_leader_has_none() {
        assert_eq!(leader(&next_view(&View::default(), &answer(-1, 3))), None);
    }
}
