//! Heartbeat v0 to v4.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Call;
use crate::clock;
use crate::group::membership::Claim;

pub(crate) fn handle(call: &Call<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(super::code(&beat(call, &request)))
}

fn beat(call: &Call<'_>, request: &HeartbeatRequest) -> Result<(), ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, &request.group_id)?;
    let group = state.groups.find_mut(&request.group_id).ok_or(ResponseError::UnknownMemberId)?;
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    group.heartbeat(claim, clock::now())
}
