//! FindCoordinator v0 to v6.
//!
//! Served: groups (key type 0) and transactional ids (1), one key or many (v4, KIP-699). Left out:
//! share groups (type 2, INVALID_REQUEST).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    if call.version() >= 4 {
        let keys = request.coordinator_keys.into_iter();
        let found = keys.map(|key| find(call, key, request.key_type));
        return FindCoordinatorResponse::default().with_coordinators(found.collect());
    }
    let found = find(call, request.key, request.key_type);
    let message = if call.version() >= 1 { found.error_message } else { None };
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(message)
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn find(call: &Call<'_>, key: StrBytes, key_type: i8) -> Coordinator {
    let state = call.shared.state();
    let found = match call.forced {
        Some(error) => Err(error),
        None if !(0..=1).contains(&key_type) => Err(ResponseError::InvalidRequest),
        None => state.coordinator_of(&key).ok_or(ResponseError::CoordinatorNotAvailable),
    };
    let coordinator = Coordinator::default().with_key(key).with_error_code(super::code(&found));
    let node = found.as_ref().ok().and_then(|id| Some((*id, state.nodes.get(id)?)));
    match (node, found) {
        (Some((id, node)), _) => coordinator
            .with_node_id(BrokerId(id))
            .with_host(string(&node.host))
            .with_port(i32::from(node.port)),
        (None, found) => coordinator
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_message(found.err().map(|error| string(error.to_string()))),
    }
}
