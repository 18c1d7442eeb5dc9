//! The requests of a member, built from the state machine's actions, and their answers read back.
//!
//! Owned by the group module. Versions and why:
//! - JoinGroup 0 to 9: 1 adds the rebalance time-out, 4 asks for the member id first (KIP-394), 5
//!   adds the instance id (KIP-345), 8 a reason, 9 lets a static leader skip the assignment
//!   (KIP-814);
//! - SyncGroup 0 to 5, Heartbeat 0 to 4: 3 adds the instance id; SyncGroup 5 the assignor's name;
//! - LeaveGroup 0 to 5: 3 names members in a list, by instance id too; 5 adds a reason;
//! - DescribeGroups 0 to 5: nothing after 0 is used.
//!
//! What may be said of a refusal beyond its code is found out here, so that the state machine
//! need not ask.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use super::config::Config;
use super::coordinator::Coordinator;
use super::error::Error;
use super::protocol::{Assignment, PROTOCOL_TYPE, Subscription};
use super::state::{Failure, Identity, Input, Join, Joined};
use crate::error::Chain;
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

/// How much longer than the rebalance may take its answer is waited for.
const REBALANCE_MARGIN: Duration = Duration::from_secs(5);

/// How long leaving is tried in all. Leaving is a courtesy: the session times out anyway.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often leaving is tried while the coordinator moves.
const LEAVE_TRIES: u32 = 3;

/// How long it is asked who else uses the group.
const USERS_TIMEOUT: Duration = Duration::from_secs(5);

/// How many of them are named.
const USERS_NAMED: usize = 4;

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn optional_text(value: Option<&Arc<str>>) -> Option<StrBytes> {
    value.map(|value| text(value))
}

pub(super) fn group(coordinator: &Coordinator) -> GroupId {
    GroupId(text(coordinator.group_id()))
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// How long a request may take that waits for other members.
fn rebalance_time(coordinator: &Coordinator, config: &Config) -> Duration {
    let request_timeout = coordinator.client().config().request_timeout;
    (config.rebalance_timeout + REBALANCE_MARGIN).max(request_timeout)
}

/// Sends JoinGroup.
pub(super) async fn join(coordinator: &Coordinator, config: &Config, join: Join) -> Input {
    let (timeout, attempt) = (rebalance_time(coordinator, config), join.attempt);
    let build = |version| join_request(coordinator, config, join, version);
    let answer = match coordinator.call_joining(0..=9, timeout, build).await {
        Ok(answer) => answer,
        Err(error) => return Input::Joined(attempt, Err(coordinator.failure(error))),
    };
    let body = answer.body;
    if ErrorCode(body.error_code) == ErrorCode::MEMBER_ID_REQUIRED {
        return Input::MemberIdGiven(attempt, body.member_id.as_str().into());
    }
    let refused = match coordinator.judge(ErrorCode(body.error_code)) {
        Err(Failure::Code(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)) => {
            Err(Failure::Fatal(in_use(coordinator, config).await))
        }
        refused => refused,
    };
    Input::Joined(attempt, refused.map(|()| joined(body, answer.version)))
}

fn join_request(
    coordinator: &Coordinator,
    config: &Config,
    join: Join,
    version: i16,
) -> JoinGroupRequest {
    let instance_id = join.identity.instance_id.filter(|_| version >= 5);
    let session_timeout = match instance_id {
        Some(_) => config.session_timeout,
        None => config.session_timeout_dynamic,
    };
    let protocols = join.protocols.into_iter().map(|(name, metadata)| {
        JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(name))
            .with_metadata(metadata)
    });
    let mut request = JoinGroupRequest::default()
        .with_group_id(group(coordinator))
        .with_session_timeout_ms(milliseconds(session_timeout))
        .with_member_id(text(&join.identity.member_id))
        .with_group_instance_id(optional_text(instance_id.as_ref()))
        .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
        .with_protocols(protocols.collect());
    if version >= 1 {
        request.rebalance_timeout_ms = milliseconds(config.rebalance_timeout);
    }
    if version >= 8 {
        request.reason = Some(StrBytes::from_static_str(join.reason));
    }
    request
}

fn joined(body: JoinGroupResponse, version: i16) -> Joined {
    let member =
        |member: kafka_protocol::messages::join_group_response::JoinGroupResponseMember| {
            let id: Arc<str> = member.member_id.as_str().into();
            let instance_id = member.group_instance_id.map(|id| Arc::from(id.as_str()));
            // A member that writes nonsense gets nothing, and does not keep the others from theirs.
            let subscription = Subscription::decode(&member.metadata).unwrap_or_else(|error| {
            tracing::warn!(
                member_id = %id, error = %Chain(&error), "unreadable subscription of a group member"
            );
            Subscription::default()
        });
            (id, instance_id, subscription)
        };
    Joined {
        member_id: body.member_id.as_str().into(),
        generation: body.generation_id,
        assignor: body.protocol_name.as_deref().unwrap_or_default().to_owned(),
        leader_id: body.leader.as_str().into(),
        skip_assignment: body.skip_assignment,
        knows_instances: version >= 5,
        members: body.members.into_iter().map(member).collect(),
    }
}

/// Sends SyncGroup.
pub(super) async fn sync(
    coordinator: &Coordinator,
    config: &Config,
    identity: Identity,
    assignor: &'static str,
    plan: Vec<(Arc<str>, Bytes)>,
) -> Result<Vec<TopicPartition>, Failure> {
    let timeout = rebalance_time(coordinator, config);
    let build = |version: i16| {
        let assignments = plan.into_iter().map(|(member_id, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(&member_id))
                .with_assignment(assignment)
        });
        let mut request = SyncGroupRequest::default()
            .with_group_id(group(coordinator))
            .with_generation_id(identity.generation)
            .with_member_id(text(&identity.member_id))
            .with_assignments(assignments.collect());
        if version >= 3 {
            request.group_instance_id = optional_text(identity.instance_id.as_ref());
        }
        if version >= 5 {
            request.protocol_type = Some(StrBytes::from_static_str(PROTOCOL_TYPE));
            request.protocol_name = Some(StrBytes::from_static_str(assignor));
        }
        request
    };
    let answer = coordinator.call_joining(0..=5, timeout, build).await;
    coordinator.close_joining();
    answer.map_err(|error| coordinator.failure(error)).and_then(|answer| {
        coordinator.judge(ErrorCode(answer.body.error_code))?;
        assigned(coordinator, &answer.body.assignment)
    })
}

fn assigned(coordinator: &Coordinator, bytes: &[u8]) -> Result<Vec<TopicPartition>, Failure> {
    let assignment = Assignment::decode(bytes).map_err(|source| {
        let group_id = Arc::clone(coordinator.group_id());
        Failure::Fatal(Error::Protocol { group_id, source })
    })?;
    Ok(assignment.partitions.into_iter().filter(|given| given.partition >= 0).collect())
}

/// Sends a heartbeat.
pub(super) async fn heartbeat(
    coordinator: &Coordinator,
    timeout: Duration,
    identity: Identity,
) -> Input {
    let build = |version: i16| {
        let request = HeartbeatRequest::default()
            .with_group_id(group(coordinator))
            .with_generation_id(identity.generation)
            .with_member_id(text(&identity.member_id));
        let instance_id = identity.instance_id.filter(|_| version >= 3);
        request.with_group_instance_id(optional_text(instance_id.as_ref()))
    };
    let answer = coordinator.call(0..=4, timeout, build).await;
    let answered = answer.map_err(|error| coordinator.failure(error));
    let judged = answered.and_then(|answer| coordinator.judge(ErrorCode(answer.body.error_code)));
    Input::HeartbeatAnswered(judged)
}

/// Sends LeaveGroup, and again if the coordinator turns out to be another.
pub(super) async fn leave(coordinator: &Coordinator, identity: Identity) -> Input {
    let left = timeout(LEAVE_TIMEOUT, try_to_leave(coordinator, &identity)).await;
    if left.is_err() {
        tracing::debug!("could not leave the group in time; its session will time out");
    }
    Input::Left
}

async fn try_to_leave(coordinator: &Coordinator, identity: &Identity) {
    for _ in 0..LEAVE_TRIES {
        let build = |version| leave_request(coordinator, identity, version);
        let code = match coordinator.call(0..=5, LEAVE_TIMEOUT, build).await {
            Ok(answer) => leave_code(&answer.body),
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "could not leave the group");
                return;
            }
        };
        match coordinator.judge(code) {
            Err(Failure::Code(code)) if code.is_retryable() => {}
            Err(_) => {
                tracing::debug!(%code, "the coordinator did not know the member that left");
                return;
            }
            Ok(()) => return,
        }
    }
}

fn leave_request(
    coordinator: &Coordinator,
    identity: &Identity,
    version: i16,
) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group(coordinator));
    if version < 3 {
        return request.with_member_id(text(&identity.member_id));
    }
    let mut member = MemberIdentity::default()
        .with_member_id(text(&identity.member_id))
        .with_group_instance_id(optional_text(identity.instance_id.as_ref()));
    if version >= 5 {
        member.reason = Some(StrBytes::from_static_str("the member is being closed"));
    }
    request.with_members(vec![member])
}

fn leave_code(body: &LeaveGroupResponse) -> ErrorCode {
    let member = body.members.first().map_or(0, |member| member.error_code);
    ErrorCode(if body.error_code == 0 { member } else { body.error_code })
}

/// Asks for what all members of a group at rest were given; `None` if it is not, or would not say.
pub(super) async fn held(coordinator: &Coordinator) -> Option<BTreeSet<TopicPartition>> {
    let timeout = coordinator.client().config().request_timeout;
    let described = describe(coordinator, timeout).await?;
    if described.group_state.as_str() != "Stable" {
        return None;
    }
    let assignments = described.members.iter().map(|member| &member.member_assignment);
    let readable = assignments.filter_map(|bytes| Assignment::decode(bytes).ok());
    Some(readable.flat_map(|assignment| assignment.partitions).collect())
}

async fn describe(coordinator: &Coordinator, timeout: Duration) -> Option<DescribedGroup> {
    let build = |_| DescribeGroupsRequest::default().with_groups(vec![group(coordinator)]);
    let answer = coordinator.call(0..=5, timeout, build).await;
    let answer = answer.inspect_err(|error| {
        tracing::debug!(error = %Chain(error), "could not see the other members of the group");
    });
    answer.ok()?.body.groups.into_iter().next()
}

/// Why none of our assignors will do, with the names of those who use the group.
async fn in_use(coordinator: &Coordinator, config: &Config) -> Error {
    let described = describe(coordinator, USERS_TIMEOUT).await;
    let users = described.filter(|group| !group.members.is_empty()).map(|group| users(&group));
    let offered: Vec<&str> = config.assignors.iter().map(|assignor| assignor.name()).collect();
    Error::InUse {
        group_id: Arc::clone(coordinator.group_id()),
        users: users.unwrap_or_else(|| "members with other assignors".to_owned()),
        offered: offered.join(","),
    }
}

fn users(group: &DescribedGroup) -> String {
    let name = |member: &DescribedGroupMember| {
        let host = member.client_host.trim_start_matches('/');
        format!("{} on {}", member.client_id.escape_debug(), host.escape_debug())
    };
    let named: Vec<String> = group.members.iter().take(USERS_NAMED).map(name).collect();
    let mut users = named.join(", ");
    if group.members.len() > USERS_NAMED {
        users.push_str(" and others");
    }
    // A group that is not at rest has not settled on an assignor.
    match (group.protocol_type.as_str(), group.protocol_data.as_str()) {
        (PROTOCOL_TYPE, "") => users,
        (PROTOCOL_TYPE, assignor) => format!("{users} with the assignor {assignor}"),
        (other, _) => format!("{users} for {}", other.escape_debug()),
    }
}
