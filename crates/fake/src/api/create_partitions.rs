//! CreatePartitions v0 to v3: a new count, with or without assignments, or validation only.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::Call;
use crate::state::State;
use crate::wire::string;

pub(crate) fn handle(
    call: &Call<'_>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut state = call.shared.state();
    let results = request.topics.into_iter().map(|topic| {
        let outcome = grow(call, &mut state, &topic, request.validate_only);
        let result = CreatePartitionsTopicResult::default().with_name(topic.name);
        match outcome {
            Ok(()) => result,
            Err((error, reason)) => {
                result.with_error_code(error.code()).with_error_message(Some(string(reason)))
            }
        }
    });
    let results = results.collect();
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(
    call: &Call<'_>,
    state: &mut State,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), (ResponseError, String)> {
    if let Some(error) = call.forced {
        return Err((error, "intercepted".to_owned()));
    }
    if state.controller != call.broker {
        return Err((ResponseError::NotController, "not the controller".to_owned()));
    }
    let assignments = topic.assignments.iter().flatten();
    let assignments: Vec<Vec<i32>> =
        assignments.map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect();
    state.check_growth(&topic.name, topic.count, &assignments)?;
    if validate_only {
        return Ok(());
    }
    state.grow_topic(&topic.name, topic.count, &assignments)
}
