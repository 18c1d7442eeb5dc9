//! ListOffsets v1 to v10.
//!
//! Served: earliest (-2), latest (-1, at either isolation), first at or after a time, greatest
//! timestamp (-3, KIP-734), local earliest (-4). Left out: tiered storage (-5 is answered unknown).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Call;
use crate::log::{Found, Isolation};
use crate::state::State;

pub(crate) fn handle(call: &Call<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    let state = call.shared.state();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = find(call, &state, (&topic.name, asked), isolation);
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(super::code(&found))
                .with_timestamp(-1)
                .with_offset(-1);
            let Ok(Some(found)) = found else { return response };
            let epoch = if call.version() >= 4 { found.leader_epoch } else { -1 };
            response
                .with_timestamp(found.timestamp_ms)
                .with_offset(found.offset)
                .with_leader_epoch(epoch)
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find(
    call: &Call<'_>,
    state: &State,
    (topic, asked): (&str, &ListOffsetsPartition),
    isolation: Isolation,
) -> Result<Option<Found>, ResponseError> {
    call.check_forced()?;
    let at = (topic, asked.partition_index);
    let partition = state.led_partition(call.broker, at, asked.current_leader_epoch)?;
    let log = &partition.log;
    let without_time =
        |offset: i64| Some(Found { offset, timestamp_ms: -1, leader_epoch: log.epoch_at(offset) });
    Ok(match asked.timestamp {
        LATEST => {
            let found = without_time(log.end_for(isolation));
            found.map(|found| Found { leader_epoch: partition.leader_epoch, ..found })
        }
        EARLIEST | EARLIEST_LOCAL => without_time(log.start_offset()),
        MAX_TIMESTAMP => log.max_timestamp(),
        time if time >= 0 => log.find_timestamp(time, log.end_for(isolation)),
        _ => None,
    })
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
