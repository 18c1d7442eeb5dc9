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
use crate::name::{BrokerId, TopicPartition};

/// From this version on the leader epoch can be relied on: older brokers tell a stale one while
/// partitions are reassigned, and fence whoever believes it (KAFKA-9212).
const EPOCHS_FROM: i16 = 9;

/// How many answers in a row must tell an older leader epoch before it is believed. They come from
/// different brokers as far as there are any, so that one that lags is outvoted.
const REWINDS_BELIEVED: u32 = 5;

/// The longest name that every request can carry; Kafka's own limit is 249.
const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// The view that follows `old` after `response`, which came in `version`.
///
/// A partition whose leader epoch went back keeps what the older view had: the answer came from a
/// broker that lags (KIP-320). When one answer after the other says so, the topic was created
/// again, on brokers too old to give it another id.
pub(super) fn next_view(old: &View, response: &MetadataResponse, version: i16) -> View {
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
    let mut rewinds = BTreeMap::new();
    let topics = response
        .topics
        .iter()
        .filter_map(|topic| next_topic(old, topic, version, &mut rewinds))
        .map(|topic| (Arc::clone(&topic.name), topic))
        .collect();
    View {
        generation: Generation(old.generation.0 + 1),
        cluster_id: response.cluster_id.as_ref().map(|id| id.as_str().into()),
        controller: broker_id(response.controller_id.0),
        brokers,
        topics,
        rewinds,
    }
}

fn next_topic(
    old: &View,
    topic: &MetadataResponseTopic,
    version: i16,
    rewinds: &mut BTreeMap<TopicPartition, u32>,
) -> Option<Arc<Topic>> {
    let name = topic.name.as_ref()?.0.as_str();
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let id = Some(topic.topic_id).filter(|id| !id.is_nil());
    let before = old.topics.get(name).filter(|before| before.id == id);
    if let Some(before) = before.filter(|before| is_unchanged(before, topic, version)) {
        return Some(Arc::clone(before));
    }
    let partitions: BTreeMap<i32, Partition> = topic
        .partitions
        .iter()
        .map(|partition| {
            let new = read_partition(partition, version);
            let kept = before
                .and_then(|topic| topic.partitions.get(&new.index))
                .filter(|old| new.leader_epoch >= 0 && old.leader_epoch > new.leader_epoch);
            let Some(kept) = kept else { return (new.index, new) };
            let partition = TopicPartition::new(name, new.index);
            let times = old.rewinds.get(&partition).map_or(1, |times| times + 1);
            if times >= REWINDS_BELIEVED {
                return (new.index, new);
            }
            rewinds.insert(partition, times);
            (new.index, kept.clone())
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
fn is_unchanged(before: &Topic, topic: &MetadataResponseTopic, version: i16) -> bool {
    let is_known = |partition: &MetadataResponsePartition| {
        let before = before.partitions.get(&partition.partition_index);
        before.is_some_and(|before| is_as(before, partition, version))
    };
    before.is_internal == topic.is_internal
        && before.error.0 == topic.error_code
        && before.partitions.len() == topic.partitions.len()
        && topic.partitions.iter().all(is_known)
}

fn is_as(before: &Partition, partition: &MetadataResponsePartition, version: i16) -> bool {
    let are_same = |before: &[BrokerId], nodes: &[kafka_protocol::messages::BrokerId]| {
        before.iter().map(|id| id.0).eq(nodes.iter().map(|node| node.0))
    };
    before.leader == broker_id(partition.leader_id.0)
        && before.leader_epoch == leader_epoch(partition, version)
        && before.error.0 == partition.error_code
        && are_same(&before.replicas, &partition.replica_nodes)
        && are_same(&before.in_sync, &partition.isr_nodes)
}

fn read_partition(partition: &MetadataResponsePartition, version: i16) -> Partition {
    let ids = |nodes: &[kafka_protocol::messages::BrokerId]| {
        nodes.iter().map(|node| BrokerId(node.0)).collect()
    };
    Partition {
        index: partition.partition_index,
        leader: broker_id(partition.leader_id.0),
        leader_epoch: leader_epoch(partition, version),
        replicas: ids(&partition.replica_nodes),
        in_sync: ids(&partition.isr_nodes),
        error: ErrorCode(partition.error_code),
    }
}

fn leader_epoch(partition: &MetadataResponsePartition, version: i16) -> i32 {
    if version >= EPOCHS_FROM { partition.leader_epoch } else { -1 }
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

    const NEWEST: i16 = 12;

    fn leader(view: &View) -> Option<(BrokerId, i32)> {
        view.leader(&crate::TopicPartition::new("orders", 0))
    }

    #[test]
    fn a_leader_epoch_never_goes_back() {
        let first = next_view(&View::default(), &answer(1, 5), NEWEST);
        let stale = next_view(&first, &answer(2, 4), NEWEST);
        assert_eq!(leader(&stale), Some((BrokerId(1), 5)));
        let newer = next_view(&stale, &answer(2, 6), NEWEST);
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
        let first = next_view(&View::default(), &answer(1, 5), NEWEST);
        let same = next_view(&first, &answer(1, 5), NEWEST);
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
            let next = next_view(&first, &with(change), NEWEST);
            assert_ne!(first.topics["orders"], next.topics["orders"]);
        }
    }

    #[test]
    fn a_partition_without_a_leader_has_none() {
        assert_eq!(leader(&next_view(&View::default(), &answer(-1, 3), NEWEST)), None);
    }

    #[test]
    fn a_leader_epoch_that_went_back_is_believed_when_one_answer_after_the_other_says_so() {
        let mut view = next_view(&View::default(), &answer(1, 5), NEWEST);
        for _ in 1..REWINDS_BELIEVED {
            view = next_view(&view, &answer(2, 0), NEWEST);
            assert_eq!(leader(&view), Some((BrokerId(1), 5)));
        }
        let recreated = next_view(&view, &answer(2, 0), NEWEST);
        assert_eq!(leader(&recreated), Some((BrokerId(2), 0)));
        assert!(recreated.rewinds.is_empty());
    }

    #[test]
    fn a_broker_that_lags_is_outvoted_however_often_it_answers() {
        let mut view = next_view(&View::default(), &answer(1, 5), NEWEST);
        for turn in 0..4 * REWINDS_BELIEVED {
            let (leads, epoch) = if turn % 3 == 0 { (1, 5) } else { (2, 4) };
            view = next_view(&view, &answer(leads, epoch), NEWEST);
            assert_eq!(leader(&view), Some((BrokerId(1), 5)));
        }
    }

    #[test]
    fn leader_epochs_of_brokers_before_2_4_are_not_believed() {
        let view = next_view(&View::default(), &answer(1, 5), 8);
        assert_eq!(leader(&view), Some((BrokerId(1), -1)));
        let moved = next_view(&view, &answer(2, 4), 8);
        assert_eq!(leader(&moved), Some((BrokerId(2), -1)));
        let same = next_view(&moved, &answer(2, 9), 8);
        assert!(Arc::ptr_eq(&moved.topics["orders"], &same.topics["orders"]));
    }

    #[test]
    fn a_name_that_no_request_can_carry_is_left_out() {
        let mut long = answer(1, 5);
        let name = StrBytes::from_string("x".repeat(NAME_BYTES_MAX + 1));
        long.topics[0].name = Some(TopicName(name));
        let view = next_view(&View::default(), &long, NEWEST);
        assert!(view.topics.is_empty());
    }
}
