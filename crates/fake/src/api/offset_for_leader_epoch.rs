//! OffsetForLeaderEpoch v2 to v4 (KIP-101, KIP-279, KIP-320).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Call;
use crate::state::State;

pub(crate) fn handle(
    call: &Call<'_>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let state = call.shared.state();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = find(call, &state, &topic.topic, asked);
            let code = super::code(&found);
            let (epoch, end_offset) = found.unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_error_code(code)
                .with_partition(asked.partition)
                .with_leader_epoch(epoch)
                .with_end_offset(end_offset)
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    let topics = topics.collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn find(
    call: &Call<'_>,
    state: &State,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    call.check_forced()?;
    let at = (topic, asked.partition);
    let partition = state.led_partition(call.broker, at, asked.current_leader_epoch)?;
    Ok(partition.log.end_of_epoch(asked.leader_epoch))
}
