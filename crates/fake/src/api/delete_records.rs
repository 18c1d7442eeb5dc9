//! DeleteRecords v0 to v2: moves the log start; -1 is the high watermark.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Call;
use crate::state::State;

pub(crate) fn handle(call: &Call<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut state = call.shared.state();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let at = (topic.name.as_str(), partition.partition_index);
            let outcome = delete(call, &mut state, at, partition.offset);
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(super::code(&outcome))
                .with_low_watermark(outcome.unwrap_or(-1))
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    state.recount_stored_bytes();
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete(
    call: &Call<'_>,
    state: &mut State,
    (topic, index): (&str, i32),
    offset: i64,
) -> Result<i64, ResponseError> {
    call.check_forced()?;
    state.led_partition(call.broker, (topic, index), -1)?;
    let is_deletable = state.topics.get(topic).is_some_and(|topic| {
        topic.config("cleanup.policy").is_some_and(|policy| policy.contains("delete"))
    });
    if !is_deletable {
        return Err(ResponseError::PolicyViolation);
    }
    let partition =
        state.partition_mut(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let end = partition.log.next_offset();
    let offset = if offset == -1 { end } else { offset };
    if !(0..=end).contains(&offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    partition.log.delete_before(offset);
    partition.wake();
    Ok(partition.log.start_offset())
}
