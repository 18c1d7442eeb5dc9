//! JoinGroup v0 to v9.
//!
//! Served: KIP-394 (member id first, v4), static members (KIP-345, v5), skipping the assignment
//! (v9). Left out: the KIP-848 protocol. The answer waits until the join phase ends.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};

use super::{Call, Reply};
use crate::clock::{self, millis};
use crate::error::Error;
use crate::group::Outcome;
use crate::group::join::{Join, Joined};
use crate::wire::string;

pub(crate) async fn handle(call: Call<'_>) -> Result<Reply, Error> {
    let request = call.decode::<JoinGroupRequest>()?;
    let member_id = request.member_id.to_string();
    let outcome = match join(&call, request) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Ready(Joined::failed(error, &member_id)),
    };
    call.shared.deadlines.notify_one();
    let forgotten = || Joined::failed(ResponseError::UnknownMemberId, &member_id);
    let joined = outcome.wait(forgotten).await;
    call.encode(&describe(&call, joined))
}

fn join(call: &Call<'_>, request: JoinGroupRequest) -> Result<Outcome<Joined>, ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, &request.group_id)?;
    let settings = &call.shared.settings;
    let allowed = settings.session_timeout_min_ms..=SESSION_TIMEOUT_MS_MAX;
    if !allowed.contains(&request.session_timeout_ms) {
        return Err(ResponseError::InvalidSessionTimeout);
    }
    let is_known = state.groups.find(&request.group_id).is_some();
    if !is_known && !request.member_id.is_empty() {
        return Err(ResponseError::UnknownMemberId);
    }
    let client_id = call.incoming.client_id.clone().unwrap_or_default();
    let number = state.groups.next_member_number();
    let instance_id = request.group_instance_id.map(|id| id.to_string());
    let prefix = instance_id.clone().unwrap_or_else(|| client_id.clone());
    let rebalance_ms = match call.version() {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    let protocols = request.protocols.into_iter().map(|p| (p.name.to_string(), p.metadata));
    let join = Join {
        member_id: request.member_id.to_string(),
        new_member_id: format!("{prefix}-00000000-0000-4000-8000-{number:012}"),
        requires_known_id: call.version() >= 4 && instance_id.is_none(),
        instance_id,
        client_id,
        client_host: format!("/{}", call.peer_host),
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_ms),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        initial_delay: millis(settings.initial_rebalance_delay_ms),
    };
    let group = state.groups.entry(&request.group_id)?;
    Ok(group.join(join, clock::now()))
}

fn describe(call: &Call<'_>, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        let instance = if call.version() >= 5 { instance.map(string) } else { None };
        JoinGroupResponseMember::default()
            .with_member_id(string(id))
            .with_group_instance_id(instance)
            .with_metadata(metadata)
    });
    let protocol = match joined.protocol {
        Some(protocol) => Some(string(protocol)),
        // Null is allowed from v7 on.
        None if call.version() >= 7 => None,
        None => Some(string("")),
    };
    let protocol_type = if call.version() >= 7 { joined.protocol_type.map(string) } else { None };
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, |error| error.code()))
        .with_generation_id(joined.generation)
        .with_protocol_type(protocol_type)
        .with_protocol_name(protocol)
        .with_leader(string(joined.leader))
        .with_skip_assignment(joined.skips_assignment && call.version() >= 9)
        .with_member_id(string(joined.member_id))
        .with_members(members.collect())
}

/// `group.max.session.timeout.ms`.
const SESSION_TIMEOUT_MS_MAX: i32 = 1_800_000;
