//! Consumer groups: joining, syncing, leaving, expiring, static members, offsets.

mod support;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kmirror_fake::{Cluster, ResponseError};
use support::{Client, name, string};

async fn cluster() -> Cluster {
    let cluster = Cluster::builder().in_memory().brokers(3).topic("t", 2).start();
    cluster.await.unwrap()
}

fn join(member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(string("range"))
        .with_metadata(Bytes::from_static(b"meta"));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(1000)
        .with_rebalance_timeout_ms(2000)
        .with_member_id(string(member))
        .with_group_instance_id(instance.map(string))
        .with_protocol_type(string("consumer"))
        .with_protocols(vec![protocol])
}

fn sync(joined: &JoinGroupResponse, to: &[&str]) -> SyncGroupRequest {
    let assignments = to.iter().map(|member| {
        SyncGroupRequestAssignment::default()
            .with_member_id(string(member))
            .with_assignment(Bytes::from((*member).to_owned()))
    });
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(assignments.collect())
}

fn beat(joined: &JoinGroupResponse) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
}

fn group() -> GroupId {
    GroupId(string("g"))
}

/// Joins as a new dynamic member, with the round trip for the id.
async fn join_new(client: &mut Client) -> JoinGroupResponse {
    let invited = client.call(7, join("", None)).await;
    assert_eq!(invited.error_code, ResponseError::MemberIdRequired.code());
    client.call(7, join(&invited.member_id, None)).await
}

/// A group of one that is stable.
async fn stable_one(cluster: &Cluster) -> (Client, JoinGroupResponse) {
    let mut client = Client::coordinator(cluster, "g");
    let joined = join_new(&mut client).await;
    let member = joined.member_id.to_string();
    let synced = client.call(5, sync(&joined, &[&member])).await;
    assert_eq!(synced.assignment, member);
    (client, joined)
}

#[tokio::test]
async fn a_member_joins_syncs_beats_and_leaves() {
    let cluster = cluster().await;
    let (mut client, joined) = stable_one(&cluster).await;
    assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
    assert_eq!(cluster.group("g").unwrap().state, "Stable");
    assert_eq!(client.call(4, beat(&joined)).await.error_code, 0);
    let stale = client.call(4, beat(&joined).with_generation_id(0)).await;
    assert_eq!(stale.error_code, ResponseError::IllegalGeneration.code());
    let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
    let leave = LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member]);
    assert_eq!(client.call(4, leave).await.members[0].error_code, 0);
    assert_eq!(cluster.group("g").unwrap().state, "Empty");
    let gone = client.call(4, beat(&joined)).await;
    assert_eq!(gone.error_code, ResponseError::UnknownMemberId.code());
}

#[tokio::test]
async fn a_second_member_makes_the_first_rejoin_and_the_leader_assigns_both() {
    let cluster = cluster().await;
    let (mut first, joined) = stable_one(&cluster).await;
    let mut second = Client::coordinator(&cluster, "g");
    let invited = second.call(7, join("", None)).await;
    let second_joins = second.call(7, join(&invited.member_id, None));
    let first_rejoins = async {
        let rebalancing = ResponseError::RebalanceInProgress.code();
        while first.call(4, beat(&joined)).await.error_code != rebalancing {
            tokio::task::yield_now().await;
        }
        first.call(7, join(&joined.member_id, None)).await
    };
    let (of_second, of_first) = tokio::join!(second_joins, first_rejoins);
    assert_eq!((of_first.generation_id, of_second.generation_id), (2, 2));
    assert_eq!(of_first.leader, joined.member_id);
    assert_eq!((of_first.members.len(), of_second.members.len()), (2, 0));
    let both = [of_first.member_id.to_string(), of_second.member_id.to_string()];
    let to: Vec<&str> = both.iter().map(String::as_str).collect();
    let (of_second, of_first) =
        tokio::join!(second.call(5, sync(&of_second, &[])), first.call(5, sync(&of_first, &to)));
    assert_eq!(
        (of_first.assignment, of_second.assignment),
        (both[0].clone().into(), both[1].clone().into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_gone_after_its_session_timeout() {
    let cluster = cluster().await;
    let (_client, _) = stable_one(&cluster).await;
    tokio::time::sleep(Duration::from_millis(990)).await;
    assert_eq!(cluster.group("g").unwrap().members.len(), 1);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(cluster.group("g").unwrap().state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_goes_on_without_those_who_do_not_join_in_time() {
    let cluster = cluster().await;
    let (_first, _) = stable_one(&cluster).await;
    let mut second = Client::coordinator(&cluster, "g");
    let joined = join_new(&mut second).await;
    assert_eq!((joined.generation_id, &joined.leader), (2, &joined.member_id));
    assert_eq!(cluster.group("g").unwrap().members.len(), 1);
}

#[tokio::test]
async fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    let cluster = cluster().await;
    let mut client = Client::coordinator(&cluster, "g");
    let joined = client.call(7, join("", Some("i"))).await;
    assert_eq!(joined.error_code, 0);
    let member = joined.member_id.to_string();
    client.call(5, sync(&joined, &[&member])).await;
    let again = client.call(7, join("", Some("i"))).await;
    assert_eq!((again.error_code, again.generation_id), (0, joined.generation_id));
    assert_ne!(again.member_id, joined.member_id);
    let old = beat(&joined).with_group_instance_id(Some(string("i")));
    let fenced = client.call(4, old).await;
    assert_eq!(fenced.error_code, ResponseError::FencedInstanceId.code());
    let kept = client.call(5, sync(&again, &[])).await;
    assert_eq!(kept.assignment, member);
}

#[tokio::test]
async fn members_without_a_common_protocol_do_not_meet() {
    let cluster = cluster().await;
    let (_first, _) = stable_one(&cluster).await;
    let mut other = join("", None);
    other.protocols[0].name = string("sticky");
    let refused = Client::coordinator(&cluster, "g").call(7, other).await;
    assert_eq!(refused.error_code, ResponseError::InconsistentGroupProtocol.code());
}

#[tokio::test]
async fn only_the_coordinator_answers_and_it_can_move() {
    let cluster = cluster().await;
    let (_client, joined) = stable_one(&cluster).await;
    let old = cluster.coordinator("g").unwrap();
    let new = old % 3 + 1;
    cluster.move_coordinator("g", new);
    let there = Client::new(&cluster, old).call(4, beat(&joined)).await;
    assert_eq!(there.error_code, ResponseError::NotCoordinator.code());
    let here = Client::new(&cluster, new).call(4, beat(&joined)).await;
    assert_eq!(here.error_code, 0);
}

fn commit(generation: i32, member: &str, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(string("note")));
    let topic = OffsetCommitRequestTopic::default().with_name(name("t"));
    OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(string(member))
        .with_topics(vec![topic.with_partitions(vec![partition])])
}

#[tokio::test]
async fn only_members_of_this_generation_commit_and_anybody_to_an_empty_group() {
    let cluster = cluster().await;
    let mut client = Client::coordinator(&cluster, "g");
    let code = |response: OffsetCommitResponse| response.topics[0].partitions[0].error_code;
    assert_eq!(code(client.call(8, commit(-1, "", 5)).await), 0);
    assert_eq!(cluster.committed_offset("g", "t", 1), Some(5));
    let (_member, joined) = stable_one(&cluster).await;
    let stranger = code(client.call(8, commit(-1, "", 6)).await);
    assert_eq!(stranger, ResponseError::UnknownMemberId.code());
    let stale = code(client.call(8, commit(joined.generation_id - 1, &joined.member_id, 6)).await);
    assert_eq!(stale, ResponseError::IllegalGeneration.code());
    assert_eq!(code(client.call(8, commit(joined.generation_id, &joined.member_id, 7)).await), 0);
    assert_eq!(cluster.committed_offset("g", "t", 1), Some(7));
}

#[tokio::test]
async fn a_group_is_deleted_only_when_it_is_empty() {
    let cluster = cluster().await;
    let (mut client, joined) = stable_one(&cluster).await;
    let delete = || DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    let refused = client.call(2, delete()).await.results[0].error_code;
    assert_eq!(refused, ResponseError::NonEmptyGroup.code());
    assert!(cluster.expire_member("g", &joined.member_id));
    assert_eq!(client.call(2, delete()).await.results[0].error_code, 0);
    let gone = client.call(2, delete()).await.results[0].error_code;
    assert_eq!(gone, ResponseError::GroupIdNotFound.code());
}

#[tokio::test]
async fn a_join_that_waits_ends_when_the_broker_stops() {
    let cluster = cluster().await;
    let (_first, _) = stable_one(&cluster).await;
    let mut second = Client::coordinator(&cluster, "g");
    let invited = second.call(7, join("", None)).await;
    let waiting = second.try_call(7, join(&invited.member_id, None));
    let stop = async {
        while cluster.group("g").unwrap().state != "PreparingRebalance" {
            tokio::task::yield_now().await;
        }
        cluster.stop_broker(cluster.coordinator("g").unwrap()).unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert!(answer.is_err());
}
