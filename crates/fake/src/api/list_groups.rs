//! ListGroups v0 to v5: the groups this broker coordinates, by state (v4) and type (v5, all
//! classic).

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    if let Some(error) = call.forced {
        return ListGroupsResponse::default().with_error_code(error.code());
    }
    let state = call.shared.state();
    let names = |filter: &[StrBytes], name: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
    };
    let mut listed = Vec::new();
    for (id, group) in state.groups.iter() {
        let is_ours = state.coordinator_of(id) == Some(call.broker);
        let matches = names(&request.states_filter, group.phase.name())
            && names(&request.types_filter, CLASSIC);
        if !is_ours || !matches {
            continue;
        }
        let mut entry = ListedGroup::default()
            .with_group_id(GroupId(string(id)))
            .with_protocol_type(string(group.protocol_type.clone().unwrap_or_default()));
        if call.version() >= 4 {
            entry.group_state = string(group.phase.name());
        }
        if call.version() >= 5 {
            entry.group_type = string(CLASSIC);
        }
        listed.push(entry);
    }
    ListGroupsResponse::default().with_groups(listed)
}

const CLASSIC: &str = "classic";
