//! OffsetCommit v2 to v9.
//!
//! Served: members, static members, and groups without members (generation -1). Left out: retention
//! times, which are accepted and ignored; offsets never expire.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Call;
use crate::clock;
use crate::group::membership::Claim;
use crate::group::offsets::Committed;
use crate::state::State;

pub(crate) fn handle(call: &Call<'_>, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut state = call.shared.state();
    let allowed = check(call, &mut state, &request);
    let mut response = OffsetCommitResponse::default();
    for topic in request.topics {
        let mut answered = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let committed = Committed {
                next_offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.map(|text| text.to_string()),
            };
            let place = (topic.name.to_string(), index);
            let outcome = allowed.and_then(|()| {
                state
                    .partition(&topic.name, index)
                    .ok_or(ResponseError::UnknownTopicOrPartition)?;
                state.groups.entry(&request.group_id)?.commit(place, committed)
            });
            answered.push(
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(super::code(&outcome)),
            );
        }
        let topic = OffsetCommitResponseTopic::default().with_name(topic.name);
        response.topics.push(topic.with_partitions(answered));
    }
    response
}

fn check(
    call: &Call<'_>,
    state: &mut State,
    request: &OffsetCommitRequest,
) -> Result<(), ResponseError> {
    call.check_forced()?;
    super::check_coordinator(call, state, &request.group_id)?;
    let generation = request.generation_id_or_member_epoch;
    if generation >= 0 && state.groups.find(&request.group_id).is_none() {
        return Err(ResponseError::IllegalGeneration);
    }
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation,
    };
    state.groups.entry(&request.group_id)?.check_commit(claim, clock::now())
}
