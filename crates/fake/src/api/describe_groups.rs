//! DescribeGroups v0 to v6. Left out: authorized operations.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};

use super::Call;
use crate::group::{Group, Phase};
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let state = call.shared.state();
    let groups = request.groups.into_iter().map(|id| {
        let allowed =
            call.check_forced().and_then(|()| super::check_coordinator(call, &state, &id));
        match (allowed, state.groups.find(&id)) {
            (Err(error), _) => dead(id).with_error_code(error.code()),
            (Ok(()), Some(group)) => describe(call, id, group),
            // KIP-1043: from v6 on an unknown group is an error.
            (Ok(()), None) if call.version() >= 6 => {
                dead(id).with_error_code(ResponseError::GroupIdNotFound.code())
            }
            (Ok(()), None) => dead(id),
        }
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn dead(id: GroupId) -> DescribedGroup {
    DescribedGroup::default().with_group_id(id).with_group_state(string("Dead"))
}

fn describe(call: &Call<'_>, id: GroupId, group: &Group) -> DescribedGroup {
    let is_stable = group.phase == Phase::Stable;
    let protocol = group.protocol.as_deref().filter(|_| is_stable);
    let members = group.members.iter().map(|(id, member)| {
        let instance = if call.version() >= 4 { member.instance_id.clone() } else { None };
        DescribedGroupMember::default()
            .with_member_id(string(id))
            .with_group_instance_id(instance.map(string))
            .with_client_id(string(&member.client_id))
            .with_client_host(string(&member.client_host))
            .with_member_metadata(member.metadata(protocol))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_id(id)
        .with_group_state(string(group.phase.name()))
        .with_protocol_type(string(group.protocol_type.clone().unwrap_or_default()))
        .with_protocol_data(string(protocol.unwrap_or_default()))
        .with_members(members.collect())
}
