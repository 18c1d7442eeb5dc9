//! DescribeProducers v0 (KIP-664): what a partition remembers of its producers.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::Call;
use crate::state::State;

pub(crate) fn handle(
    call: &Call<'_>,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let state = call.shared.state();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let found = describe(call, &state, (&topic.name, *index));
            PartitionResponse::default()
                .with_partition_index(*index)
                .with_error_code(super::code(&found))
                .with_active_producers(found.unwrap_or_default())
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn describe(
    call: &Call<'_>,
    state: &State,
    at: (&str, i32),
) -> Result<Vec<ProducerState>, ResponseError> {
    call.check_forced()?;
    let partition = state.led_partition(call.broker, at, -1)?;
    let known = partition.log.producers().iter().map(|(id, entry)| {
        ProducerState::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(i32::from(entry.epoch))
            .with_last_sequence(entry.last_sequence())
            .with_last_timestamp(entry.last_timestamp_ms)
            .with_current_txn_start_offset(entry.transaction_start.unwrap_or(-1))
    });
    Ok(known.collect())
}
