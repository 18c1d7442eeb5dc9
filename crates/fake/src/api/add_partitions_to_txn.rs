//! AddPartitionsToTxn v0 to v3: all partitions or none. v4 and later are between brokers.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::Call;
use crate::clock;
use crate::transaction::Producer;

pub(crate) fn handle(
    call: &Call<'_>,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let mut state = call.shared.state();
    let id = request.v3_and_below_transactional_id;
    let topics = request.v3_and_below_topics;
    let places = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)));
    let places: Vec<(String, i32)> = places.collect();
    let is_known = |topic: &str, index: i32| state.partition(topic, index).is_some();
    let unknown: Vec<bool> = places.iter().map(|(t, index)| !is_known(t, *index)).collect();
    let outcome = call.check_forced().and_then(|()| super::check_coordinator(call, &state, &id));
    let outcome = outcome.and_then(|()| {
        if unknown.contains(&true) {
            return Err(ResponseError::OperationNotAttempted);
        }
        let producer = Producer {
            id: request.v3_and_below_producer_id.0,
            epoch: request.v3_and_below_producer_epoch,
        };
        state.transactions.add_partitions(&id, producer, places, clock::now())
    });
    call.shared.deadlines.notify_one();
    let code = outcome.err().map_or(0, |error| super::fenced_before(call, 2, error).code());
    let mut unknown = unknown.into_iter();
    let results = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|index| {
            let is_unknown = unknown.next().unwrap_or(false);
            let unknown = ResponseError::UnknownTopicOrPartition.code();
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(if is_unknown { unknown } else { code })
        });
        let partitions = partitions.collect();
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name)
            .with_results_by_partition(partitions)
    });
    let results = results.collect();
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results)
}
