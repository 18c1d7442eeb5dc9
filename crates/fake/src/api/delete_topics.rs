//! DeleteTopics v1 to v6: by name, or by name or id (v6). The topic is gone when the answer leaves.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

use super::Call;
use crate::state::State;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let mut state = call.shared.state();
    let mut asked = request.topics;
    let named = request.topic_names.into_iter();
    asked.extend(named.map(|name| DeleteTopicState::default().with_name(Some(name))));
    let responses = asked.into_iter().map(|topic| delete(call, &mut state, topic)).collect();
    DeleteTopicsResponse::default().with_responses(responses)
}

fn delete(call: &Call<'_>, state: &mut State, asked: DeleteTopicState) -> DeletableTopicResult {
    let by_id = asked.name.is_none();
    let name = match asked.name {
        Some(name) => Some(name),
        None => state.topic_name(asked.topic_id).map(|name| TopicName(string(name))),
    };
    let id = name.as_ref().and_then(|name| state.topics.get(name.as_str())).map(|topic| topic.id);
    let outcome = match call.forced {
        Some(error) => Err(error),
        None if state.controller != call.broker => Err(ResponseError::NotController),
        None if by_id && id.is_none() => Err(ResponseError::UnknownTopicId),
        None if name.as_ref().is_some_and(|name| state.delete_topic(name)) => Ok(()),
        None => Err(ResponseError::UnknownTopicOrPartition),
    };
    let result = DeletableTopicResult::default().with_error_code(super::code(&outcome));
    let with_id = if call.version() >= 6 { id.unwrap_or(asked.topic_id) } else { asked.topic_id };
    result.with_name(name).with_topic_id(with_id)
}
