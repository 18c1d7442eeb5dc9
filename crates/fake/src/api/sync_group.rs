//! SyncGroup v0 to v5.
//!
//! Served: static members (v3), the protocol check of v5. The answer waits for the leader's
//! assignment.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Call, Reply};
use crate::clock;
use crate::error::Error;
use crate::group::Outcome;
use crate::group::membership::{Claim, Synced};
use crate::wire::string;

pub(crate) async fn handle(call: Call<'_>) -> Result<Reply, Error> {
    let request = call.decode::<SyncGroupRequest>()?;
    let outcome = sync(&call, request).unwrap_or_else(|error| Outcome::Ready(Err(error)));
    call.shared.deadlines.notify_one();
    let synced = outcome.wait(|| Err(ResponseError::UnknownMemberId)).await;
    let response = SyncGroupResponse::default().with_error_code(super::code(&synced));
    let synced = synced.unwrap_or_default();
    let named = |name: Option<String>| if call.version() >= 5 { name.map(string) } else { None };
    call.encode(
        &response
            .with_protocol_type(named(synced.protocol_type))
            .with_protocol_name(named(synced.protocol))
            .with_assignment(synced.assignment),
    )
}

type Answer = Outcome<Result<Synced, ResponseError>>;

fn sync(call: &Call<'_>, request: SyncGroupRequest) -> Result<Answer, ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, &request.group_id)?;
    let group = state.groups.find_mut(&request.group_id).ok_or(ResponseError::UnknownMemberId)?;
    let differs = |asked: Option<&str>, ours: &Option<String>| {
        asked.is_some_and(|asked| Some(asked) != ours.as_deref())
    };
    if differs(request.protocol_type.as_deref(), &group.protocol_type)
        || differs(request.protocol_name.as_deref(), &group.protocol)
    {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let assignments = request.assignments.into_iter();
    let assignments = assignments.map(|a| (a.member_id.to_string(), a.assignment));
    Ok(group.sync(claim, assignments.collect(), clock::now()))
}
