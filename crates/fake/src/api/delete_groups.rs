//! DeleteGroups v0 to v2: empty groups only.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Call;

pub(crate) fn handle(call: &Call<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut state = call.shared.state();
    let results = request.groups_names.into_iter().map(|id| {
        let outcome = call
            .check_forced()
            .and_then(|()| super::check_coordinator(call, &state, &id))
            .and_then(|()| state.groups.delete(&id));
        DeletableGroupResult::default().with_group_id(id).with_error_code(super::code(&outcome))
    });
    let results = results.collect();
    DeleteGroupsResponse::default().with_results(results)
}
