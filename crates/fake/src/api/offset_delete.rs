//! OffsetDelete v0 (KIP-496): positions of topics nobody in the group is subscribed to.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Call;

pub(crate) fn handle(call: &Call<'_>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let mut state = call.shared.state();
    let allowed = call
        .check_forced()
        .and_then(|()| super::check_coordinator(call, &state, &request.group_id));
    let group = allowed.and_then(|()| {
        state.groups.find_mut(&request.group_id).ok_or(ResponseError::GroupIdNotFound)
    });
    let group = match group {
        Ok(group) => group,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let place = (topic.name.to_string(), partition.partition_index);
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(super::code(&group.delete_offset(&place)))
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}
