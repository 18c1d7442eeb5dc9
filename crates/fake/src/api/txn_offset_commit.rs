//! TxnOffsetCommit v0 to v4: positions that count when the transaction commits (KIP-98, KIP-447).
//!
//! Served: the group must have been added with AddOffsetsToTxn; from v3 on the member is checked.
//! Left out: the implicit registration of v5 (KIP-890 part 2).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::Call;
use crate::group::membership::Claim;
use crate::group::offsets::Committed;
use crate::state::State;
use crate::transaction::Producer;

pub(crate) fn handle(call: &Call<'_>, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut state = call.shared.state();
    let allowed = check(call, &mut state, &request);
    let producer_id = request.producer_id.0;
    let mut response = TxnOffsetCommitResponse::default();
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
                let group = state.groups.entry(&request.group_id)?;
                group.commit_undecided(producer_id, place, committed)
            });
            answered.push(
                TxnOffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(super::code(&outcome)),
            );
        }
        let topic = TxnOffsetCommitResponseTopic::default().with_name(topic.name);
        response.topics.push(topic.with_partitions(answered));
    }
    response
}

fn check(
    call: &Call<'_>,
    state: &mut State,
    request: &TxnOffsetCommitRequest,
) -> Result<(), ResponseError> {
    call.check_forced()?;
    super::check_coordinator(call, state, &request.group_id)?;
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let transactional_id = &request.transactional_id;
    state.transactions.verify_group(transactional_id, producer, &request.group_id)?;
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    state.groups.entry(&request.group_id)?.check_transactional_commit(claim)
}
