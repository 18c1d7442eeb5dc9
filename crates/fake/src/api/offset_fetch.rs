//! OffsetFetch v1 to v9.
//!
//! Served: named partitions, all partitions (v2), require_stable (v7, KIP-447), many groups (v8,
//! KIP-709). Left out: member epochs of KIP-848 (v9 fields are ignored).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};

use super::Call;
use crate::group::Group;
use crate::group::offsets::Committed;
use crate::wire::string;

/// The topics asked for; `None` is all.
type Asked = Option<Vec<(TopicName, Vec<i32>)>>;

type Answered = Vec<(TopicName, Vec<Position>)>;

struct Position {
    partition: i32,
    committed: Option<Committed>,
    error: Option<ResponseError>,
}

pub(crate) fn handle(call: &Call<'_>, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if call.version() >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
            });
            let found = find(call, &group.group_id, topics, stable);
            let answer = OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id)
                .with_error_code(super::code(&found));
            answer.with_topics(found.unwrap_or_default().into_iter().map(batched).collect())
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let topics = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
    });
    let found = find(call, &request.group_id, topics, stable);
    let code = if call.version() >= 2 { super::code(&found) } else { 0 };
    let found = found.unwrap_or_default();
    let topics = found.into_iter().map(|topic| single(call.version(), topic)).collect();
    OffsetFetchResponse::default().with_error_code(code).with_topics(topics)
}

fn find(
    call: &Call<'_>,
    group: &str,
    asked: Asked,
    stable: bool,
) -> Result<Answered, ResponseError> {
    call.check_forced()?;
    let state = call.shared.state();
    super::check_coordinator(call, &state, group)?;
    let empty = Group::default();
    let group = state.groups.find(group).unwrap_or(&empty);
    let asked = asked.unwrap_or_else(|| {
        let mut all: Vec<(TopicName, Vec<i32>)> = Vec::new();
        for (topic, partition) in group.offsets.keys() {
            match all.last_mut().filter(|last| last.0.as_str() == topic) {
                Some(last) => last.1.push(*partition),
                None => all.push((TopicName(string(topic)), vec![*partition])),
            }
        }
        all
    });
    let answered = asked.into_iter().map(|(topic, partitions)| {
        let positions = partitions.into_iter().map(|partition| {
            let place = (topic.to_string(), partition);
            let is_unstable = stable && group.is_undecided(&place);
            Position {
                partition,
                committed: group.offsets.get(&place).filter(|_| !is_unstable).cloned(),
                error: is_unstable.then_some(ResponseError::UnstableOffsetCommit),
            }
        });
        let positions = positions.collect();
        (topic, positions)
    });
    Ok(answered.collect())
}

fn single(version: i16, (name, positions): (TopicName, Vec<Position>)) -> OffsetFetchResponseTopic {
    let partitions = positions.into_iter().map(|position| {
        let response = OffsetFetchResponsePartition::default()
            .with_partition_index(position.partition)
            .with_error_code(position.error.map_or(0, |error| error.code()))
            .with_committed_offset(-1)
            .with_metadata(Some(string("")));
        let Some(committed) = position.committed else { return response };
        let epoch = if version >= 5 { committed.leader_epoch } else { -1 };
        response
            .with_committed_offset(committed.next_offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(string(committed.metadata.unwrap_or_default())))
    });
    OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
}

fn batched((name, positions): (TopicName, Vec<Position>)) -> OffsetFetchResponseTopics {
    let partitions = positions.into_iter().map(|position| {
        let response = OffsetFetchResponsePartitions::default()
            .with_partition_index(position.partition)
            .with_error_code(position.error.map_or(0, |error| error.code()))
            .with_committed_offset(-1)
            .with_metadata(Some(string("")));
        let Some(committed) = position.committed else { return response };
        response
            .with_committed_offset(committed.next_offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(string(committed.metadata.unwrap_or_default())))
    });
    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
}
