//! LeaveGroup v0 to v5.
//!
//! Served: one member, or many by id or instance (v3, KIP-345). The reason (v5) is not kept.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Call;
use crate::clock;

pub(crate) fn handle(call: &Call<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    let members = request.members.iter();
    let asked: Vec<(&str, Option<&str>)> = if call.version() >= 3 {
        members.map(|member| (&*member.member_id, member.group_instance_id.as_deref())).collect()
    } else {
        vec![(&request.member_id, None)]
    };
    let outcomes = match leave(call, &request.group_id, &asked) {
        Ok(outcomes) => outcomes,
        Err(error) => return response.with_error_code(error.code()),
    };
    if call.version() < 3 {
        return response.with_error_code(outcomes.first().map_or(0, super::code));
    }
    let left = request.members.into_iter().zip(outcomes).map(|(member, outcome)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(super::code(&outcome))
    });
    response.with_members(left.collect())
}

fn leave(
    call: &Call<'_>,
    group: &str,
    asked: &[(&str, Option<&str>)],
) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, group)?;
    let unknown = || vec![Err(ResponseError::UnknownMemberId); asked.len()];
    let Some(group) = state.groups.find_mut(group) else { return Ok(unknown()) };
    let now = clock::now();
    let outcomes = asked.iter().map(|(id, instance)| group.leave(id, *instance, now)).collect();
    call.shared.deadlines.notify_one();
    Ok(outcomes)
}
