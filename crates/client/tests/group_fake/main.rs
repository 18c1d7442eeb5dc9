//! Memberships against the in-process cluster, in virtual time: faults, fences and time-outs.
//!
//! Time is paused: waiting costs nothing, and a time-out that should not happen would show as a
//! late clock, not as a slow test.

mod joins;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use kmirror_client::admin::Admin;
use kmirror_client::connection::{Address, Connector, Duplex};
use kmirror_client::group::{
    Assignor, Committer, Config, Error, Event, HandBack, Instance, LostCause, Membership,
    OffsetAndMetadata,
};
use kmirror_client::{Client, ErrorCode, TopicPartition, clock};
use kmirror_fake::{Action, ApiKey, Cluster, Release, ResponseError};

const GROUP: &str = "mirror";

#[derive(Debug)]
struct Pipes(Arc<Cluster>);

impl Connector for Pipes {
    fn connect<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Duplex>> {
        Box::pin(async move {
            let (read, write) = tokio::io::split(self.0.dial(address.host(), address.port())?);
            Ok(Duplex { read: Box::new(read), write: Box::new(write) })
        })
    }
}

/// A cluster of two brokers with topic `t` of four partitions.
async fn cluster(release: Release) -> Arc<Cluster> {
    let builder = Cluster::builder().brokers(2).in_memory().emulate(release);
    let builder = builder.initial_rebalance_delay_ms(0).topic("t", 4).topic("u", 1);
    Arc::new(builder.start().await.unwrap())
}

async fn client(cluster: &Arc<Cluster>) -> Client {
    let config = kmirror_client::Config::new(&cluster.bootstrap()).unwrap();
    let config = config.with_connector(Arc::new(Pipes(Arc::clone(cluster))));
    Client::connect(config.with_metadata_age_max(Duration::from_secs(1))).await.unwrap()
}

fn config() -> Config {
    Config::new(GROUP).with_topics(["t"])
}

/// Static and eager: its subscription is the same each time it starts, which is what the cluster
/// compares before it lets a static member back without a rebalance.
fn named(name: &str) -> Config {
    eager().with_instance(Instance::Named(name.into()))
}

fn eager() -> Config {
    config().with_assignors([Assignor::Range])
}

async fn join(cluster: &Arc<Cluster>, config: Config) -> (Membership, Committer) {
    Membership::join(&client(cluster).await, config).unwrap()
}

fn parts(numbers: impl IntoIterator<Item = i32>) -> BTreeSet<TopicPartition> {
    numbers.into_iter().map(|number| TopicPartition::new("t", number)).collect()
}

fn at(
    partitions: &BTreeSet<TopicPartition>,
    next: i64,
) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    partitions.iter().map(|p| (p.clone(), OffsetAndMetadata::new(next, -1))).collect()
}

/// The next event; none within ten virtual minutes is a failure.
async fn next(membership: &mut Membership) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(600), membership.next()).await;
    event.expect("an event comes").expect("the membership goes on")
}

async fn assigned(membership: &mut Membership) -> (u64, BTreeSet<TopicPartition>) {
    match next(membership).await {
        Event::Assigned { epoch, added, .. } => (epoch, added),
        other => panic!("expected an assignment, got {other:?}"),
    }
}

async fn revoking(membership: &mut Membership) -> (BTreeSet<TopicPartition>, HandBack) {
    match next(membership).await {
        Event::Revoking { partitions, hand_back, .. } => (partitions, hand_back),
        other => panic!("expected a revocation, got {other:?}"),
    }
}

async fn lost(membership: &mut Membership) -> (BTreeSet<TopicPartition>, LostCause) {
    match next(membership).await {
        Event::Lost { partitions, cause } => (partitions, cause),
        other => panic!("expected a loss, got {other:?}"),
    }
}

/// Nothing happens to the membership for a minute.
async fn undisturbed(membership: &mut Membership) {
    let event = tokio::time::timeout(Duration::from_secs(60), membership.next()).await;
    assert!(event.is_err(), "expected nothing, got {event:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_of_every_broker_generation_joins_commits_and_leaves() {
    let releases =
        [Release::V0_11, Release::V1_1, Release::V2_4, Release::V3_2, Release::V3_9, Release::V4_0];
    for release in releases {
        let cluster = cluster(release).await;
        let (mut membership, mut committer) = join(&cluster, named("one")).await;
        let (_, added) = assigned(&mut membership).await;
        assert_eq!(added, parts(0..4), "{release:?}");
        let report = committer.commit(&at(&added, 7)).await.unwrap();
        assert!(report.is_complete(), "{release:?}: {report:?}");
        assert_eq!(cluster.committed_offset(GROUP, "t", 3), Some(7));
        let read = membership.committed().of(added.clone()).await.unwrap();
        assert_eq!(read.offsets, at(&added, 7), "{release:?}");
        membership.leave().await;
        assert!(cluster.group(GROUP).unwrap().members.is_empty(), "{release:?}");
        let ended = committer.commit(&at(&added, 8)).await;
        assert!(matches!(ended, Err(Error::Ended { .. })), "{release:?}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_share_a_client_do_not_wait_for_each_others_joins() {
    let cluster = cluster(Release::V3_9).await;
    let client = client(&cluster).await;
    let started = clock::now();
    let (mut first, _) = Membership::join(&client, eager()).unwrap();
    assigned(&mut first).await;
    let (mut second, _) = Membership::join(&client, eager()).unwrap();
    revoking(&mut first).await.1.done();
    let shares = (assigned(&mut first).await.1, assigned(&mut second).await.1);
    assert_eq!((shares.0.len(), shares.1.len()), (2, 2));
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_slow_join_holds_up_neither_commits_nor_what_is_owned() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    // Shorter than the session: a join that has not arrived keeps nobody alive.
    let slow = Action::Delay(Duration::from_secs(8));
    let _rule = cluster.intercept_once(ApiKey::JoinGroup, move |_| slow.clone());
    cluster.rebalance_group(GROUP);
    clock::sleep(Duration::from_secs(4)).await;
    let before = clock::now();
    let report = committer.commit(&at(&added, 3)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert!(before.elapsed() < Duration::from_millis(100));
    assert_eq!(assigned(&mut membership).await.1, parts([]), "it kept everything");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_expelled_says_so_and_comes_back_in_a_higher_epoch() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (first, added) = assigned(&mut membership).await;
    let member = cluster.group(GROUP).unwrap().members.remove(0);
    assert!(cluster.expire_member(GROUP, &member));
    // The refusal of a commit is as good as a heartbeat's.
    let report = committer.commit(&at(&added, 9)).await.unwrap();
    assert_eq!(report.not_owned, added);
    assert_eq!(cluster.committed_offset(GROUP, "t", 0), None);
    assert_eq!(lost(&mut membership).await, (added, LostCause::Expelled));
    let (second, again) = assigned(&mut membership).await;
    assert!(second > first);
    assert_eq!(again, parts(0..4));
    assert!(committer.commit(&at(&again, 9)).await.unwrap().is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_is_followed_without_a_rebalance() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    let other = if cluster.coordinator(GROUP) == Some(1) { 2 } else { 1 };
    cluster.move_coordinator(GROUP, other);
    let before = clock::now();
    let report = committer.commit(&at(&added, 5)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert!(before.elapsed() < Duration::from_secs(2));
    undisturbed(&mut membership).await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_coordinator_that_returns_in_time_costs_nothing() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, named("one")).await;
    let (_, added) = assigned(&mut membership).await;
    let coordinator = cluster.coordinator(GROUP).unwrap();
    cluster.stop_broker(coordinator).unwrap();
    let committing =
        kmirror_client::task::spawn(
            "commit",
            async move { committer.commit(&at(&added, 5)).await },
        );
    clock::sleep(Duration::from_secs(8)).await;
    cluster.start_broker(coordinator).await.unwrap();
    let report = committing.await.unwrap().unwrap();
    assert!(report.is_complete(), "{report:?}");
    undisturbed(&mut membership).await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_out_of_reach_for_the_session_costs_the_partitions() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, _committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    let before = clock::now();
    // Frozen, not stopped: connections stay open and nothing is answered.
    cluster.brokers().into_iter().for_each(|broker| cluster.freeze_broker(broker).unwrap());
    assert_eq!(lost(&mut membership).await, (added.clone(), LostCause::SessionTimedOut));
    assert!(before.elapsed() <= Duration::from_secs(13), "took {:?}", before.elapsed());
    cluster.brokers().into_iter().for_each(|broker| cluster.thaw_broker(broker).unwrap());
    assert_eq!(assigned(&mut membership).await.1, added);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_not_handed_back_in_time_are_lost_and_cannot_be_committed() {
    let cluster = cluster(Release::V3_9).await;
    let (mut first, mut committer) = join(&cluster, eager()).await;
    let (_, added) = assigned(&mut first).await;
    let (mut second, _) = join(&cluster, eager()).await;
    let (partitions, hand_back) = revoking(&mut first).await;
    assert_eq!(partitions, added);
    assert!(committer.commit(&at(&added, 4)).await.unwrap().is_complete());
    assert_eq!(lost(&mut first).await, (added.clone(), LostCause::HandBackTimedOut));
    let (_, share) = assigned(&mut second).await;
    assert_eq!(share.len(), 2);
    let (_, kept) = assigned(&mut first).await;
    assert_eq!(kept.len(), 2, "it was never expelled");
    let report = committer.commit(&at(&added, 5)).await.unwrap();
    assert_eq!(report.not_owned, share, "what the second has is not the first's to commit");
    hand_back.done();
    for partition in &added {
        let expected = if share.contains(partition) { 4 } else { 5 };
        let committed = cluster.committed_offset(GROUP, "t", partition.partition);
        assert_eq!(committed, Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_static_member_is_back_at_once_and_nobody_else_notices() {
    for release in [Release::V2_4, Release::V3_9] {
        let cluster = cluster(release).await;
        let (mut one, _) = join(&cluster, named("one")).await;
        assigned(&mut one).await;
        let (mut two, _) = join(&cluster, named("two")).await;
        revoking(&mut one).await.1.done();
        assert_eq!(assigned(&mut one).await.1.len(), 2);
        let (_, share) = assigned(&mut two).await;
        assert_eq!(share.len(), 2);

        let generation = cluster.group(GROUP).unwrap().generation;
        drop(two);
        clock::sleep(Duration::from_secs(1)).await;
        let before = clock::now();
        let (mut two, mut committer) = join(&cluster, named("two")).await;
        assert_eq!(assigned(&mut two).await.1, share, "{release:?}");
        assert!(before.elapsed() < Duration::from_secs(1), "took {:?}", before.elapsed());
        assert!(committer.commit(&at(&share, 6)).await.unwrap().is_complete());
        undisturbed(&mut one).await;
        undisturbed(&mut two).await;
        assert_eq!(cluster.group(GROUP).unwrap().generation, generation, "{release:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_static_leader_finds_what_was_created_while_it_was_away() {
    let cluster = cluster(Release::V3_9).await;
    let (mut member, _) = join(&cluster, named("one")).await;
    assigned(&mut member).await;
    drop(member);
    cluster.grow_topic("t", 6).unwrap();
    let before = clock::now();
    let (mut member, _) = join(&cluster, named("one")).await;
    assert_eq!(assigned(&mut member).await.1, parts(0..4));
    let (partitions, hand_back) = revoking(&mut member).await;
    assert_eq!(partitions, parts(0..4));
    hand_back.done();
    assert_eq!(assigned(&mut member).await.1, parts(0..6));
    assert!(before.elapsed() < Duration::from_secs(2), "took {:?}", before.elapsed());
    cluster.grow_topic("t", 7).unwrap();
    revoking(&mut member).await.1.done();
    assert_eq!(assigned(&mut member).await.1, parts(0..7));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_another_uses_ends_the_membership() {
    let cluster = cluster(Release::V3_9).await;
    let (mut one, _) = join(&cluster, named("same")).await;
    let (_, added) = assigned(&mut one).await;
    let (mut other, _) = join(&cluster, named("same")).await;
    assert_eq!(assigned(&mut other).await.1, added);
    assert_eq!(lost(&mut one).await, (added, LostCause::Failed));
    let fenced = one.next().await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    assert!(matches!(one.next().await, Err(Error::Ended { .. })));
    undisturbed(&mut other).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_waits_out_what_passes_and_gives_up_when_its_time_is_up() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    let passing = [
        Action::Error(ResponseError::CoordinatorLoadInProgress),
        Action::Error(ResponseError::NotCoordinator),
        Action::Disconnect,
        Action::HandleThenDisconnect,
        Action::Continue,
    ];
    let mut script = passing.into_iter();
    let rule =
        cluster.intercept(ApiKey::OffsetCommit, move |_| script.next().unwrap_or(Action::Continue));
    let report = committer.commit(&at(&added, 5)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    drop(rule);

    let never = Action::Error(ResponseError::CoordinatorLoadInProgress);
    let _rule = cluster.intercept(ApiKey::OffsetCommit, move |_| never.clone());
    let before = clock::now();
    let outcome = committer.commit(&at(&added, 6)).await;
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(32), "took {took:?}");
    assert_eq!(cluster.committed_offset(GROUP, "t", 0), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_a_rebalance_refuses_is_repeated_in_the_new_generation() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    let before = cluster.group(GROUP).unwrap().generation;
    let refusal = Action::Error(ResponseError::RebalanceInProgress);
    let _rule = cluster.intercept(ApiKey::OffsetCommit, move |context| {
        let request: OffsetCommitRequest = context.decode().unwrap();
        let is_old = request.generation_id_or_member_epoch == before;
        if is_old { refusal.clone() } else { Action::Continue }
    });
    cluster.rebalance_group(GROUP);
    let report = committer.commit(&at(&added, 5)).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(cluster.committed_offset(GROUP, "t", 0), Some(5));
    assert_eq!(assigned(&mut membership).await.1, parts([]), "it kept everything");
}

#[tokio::test(start_paused = true)]
async fn refusals_that_stay_are_told_once_and_end_it() {
    let cluster = cluster(Release::V3_9).await;
    let refusal = Action::Error(ResponseError::InvalidSessionTimeout);
    let _rule = cluster.intercept(ApiKey::JoinGroup, move |_| refusal.clone());
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let refused = membership.next().await;
    let expected = ErrorCode::INVALID_SESSION_TIMEOUT;
    assert!(
        matches!(&refused, Err(Error::Refused { code, .. }) if *code == expected),
        "{refused:?}"
    );
    assert!(matches!(membership.next().await, Err(Error::Ended { .. })));
    assert!(matches!(committer.commit(&BTreeMap::new()).await, Err(Error::Ended { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_busy_owner_keeps_its_session() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    // Nobody asks for events for half an hour.
    clock::sleep(Duration::from_secs(1800)).await;
    assert!(committer.commit(&at(&added, 1)).await.unwrap().is_complete());
    undisturbed(&mut membership).await;
}

#[tokio::test(start_paused = true)]
async fn what_brokers_answer_while_they_start_is_waited_out() {
    let cluster = cluster(Release::V3_9).await;
    let mut script = [
        Action::Error(ResponseError::CoordinatorNotAvailable),
        Action::Disconnect,
        Action::Garbage(vec![0xff; 64].into()),
    ]
    .into_iter();
    let finding = cluster
        .intercept(ApiKey::FindCoordinator, move |_| script.next().unwrap_or(Action::Continue));
    let mut script = [
        Action::Error(ResponseError::CoordinatorLoadInProgress),
        Action::Error(ResponseError::NotCoordinator),
        Action::Disconnect,
        Action::Truncate(3),
    ]
    .into_iter();
    let joining =
        cluster.intercept(ApiKey::JoinGroup, move |_| script.next().unwrap_or(Action::Continue));
    let mut script =
        [Action::Error(ResponseError::RebalanceInProgress), Action::Disconnect].into_iter();
    let syncing =
        cluster.intercept(ApiKey::SyncGroup, move |_| script.next().unwrap_or(Action::Continue));
    let before = clock::now();
    let (mut membership, _) = join(&cluster, config()).await;
    assert_eq!(assigned(&mut membership).await.1, parts(0..4));
    assert!(before.elapsed() < Duration::from_secs(60), "took {:?}", before.elapsed());
    drop((finding, joining, syncing));
    undisturbed(&mut membership).await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_subscription_moves_whole_topics() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, _committer) = join(&cluster, config()).await;
    assigned(&mut membership).await;
    membership.subscribe(["u".into()].into()).await.unwrap();
    let (partitions, hand_back) = revoking(&mut membership).await;
    assert_eq!(partitions, parts(0..4));
    hand_back.done();
    assert_eq!(assigned(&mut membership).await.1, [TopicPartition::new("u", 0)].into());
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_granted_later_is_waited_for_and_asked_for_once_more_when_it_is_taken_away()
{
    let cluster = cluster(Release::V3_9).await;
    let refused = |api| {
        let refusal = Action::Error(ResponseError::GroupAuthorizationFailed);
        cluster.intercept(api, move |_| refusal.clone())
    };
    let rules = (refused(ApiKey::FindCoordinator), refused(ApiKey::JoinGroup));
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let told = |event| match event {
        Event::Refused { error: Error::Refused { code, .. } } => {
            assert_eq!(code, ErrorCode::GROUP_AUTHORIZATION_FAILED);
        }
        other => panic!("expected a refusal, got {other:?}"),
    };
    told(next(&mut membership).await);
    undisturbed(&mut membership).await;
    drop(rules);
    let (_, added) = assigned(&mut membership).await;
    let rule = refused(ApiKey::Heartbeat);
    told(next(&mut membership).await);
    drop(rule);
    undisturbed(&mut membership).await;
    assert!(committer.commit(&at(&added, 1)).await.unwrap().is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_group_of_others_is_named_with_its_members_and_their_assignor() {
    let cluster = cluster(Release::V3_9).await;
    let (mut theirs, _) = join(&cluster, eager()).await;
    assigned(&mut theirs).await;
    let (mut ours, _) = join(&cluster, config()).await;
    let in_use = ours.next().await.unwrap_err();
    assert!(matches!(in_use, Error::InUse { .. }), "{in_use:?}");
    let told = in_use.to_string();
    for part in [GROUP, "kmirror on ", "range", "cooperative-sticky", "choose another group.id"] {
        assert!(told.contains(part), "{told}");
    }
    undisturbed(&mut theirs).await;
}

/// Leaves; not within a minute is a failure.
async fn left(membership: Membership) {
    let left = tokio::time::timeout(Duration::from_secs(60), membership.leave()).await;
    left.expect("leaving ends");
}

#[tokio::test(start_paused = true)]
async fn leaving_waits_neither_for_news_to_be_taken_nor_for_a_coordinator_that_hangs() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, _committer) = join(&cluster, config()).await;
    assigned(&mut membership).await;
    for _ in 0..8 {
        cluster.rebalance_group(GROUP);
        clock::sleep(Duration::from_secs(5)).await;
    }
    let before = clock::now();
    left(membership).await;
    assert!(before.elapsed() < Duration::from_secs(1), "took {:?}", before.elapsed());
    assert!(cluster.group(GROUP).unwrap().members.is_empty());

    let (mut membership, _committer) = join(&cluster, config()).await;
    assigned(&mut membership).await;
    cluster.brokers().into_iter().for_each(|broker| cluster.freeze_broker(broker).unwrap());
    let before = clock::now();
    left(membership).await;
    assert!(before.elapsed() <= Duration::from_secs(5), "took {:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_join_at_a_coordinator_that_hangs_goes_on_at_the_next_one() {
    let cluster = cluster(Release::V3_9).await;
    let stuck = cluster.coordinator(GROUP).unwrap();
    let other = if stuck == 1 { 2 } else { 1 };
    let client = client(&cluster).await;
    let rule = cluster.intercept(ApiKey::JoinGroup, move |context| {
        if context.broker == stuck { Action::Ignore } else { Action::Continue }
    });
    let (mut membership, _committer) = Membership::join(&client, config()).unwrap();
    clock::sleep(Duration::from_secs(1)).await;
    cluster.move_coordinator(GROUP, other);
    let before = clock::now();
    assigned(&mut membership).await;
    assert!(before.elapsed() < Duration::from_secs(15), "took {:?}", before.elapsed());
    drop(rule);
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_is_not_told_is_refused_by_itself_and_never_counts_as_not_committed() {
    let cluster = cluster(Release::V3_9).await;
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    assert!(committer.commit(&at(&added, 7)).await.unwrap().is_complete());
    for (code, error) in [
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ResponseError::UnknownTopicOrPartition),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, ResponseError::TopicAuthorizationFailed),
        (ErrorCode::UNSTABLE_OFFSET_COMMIT, ResponseError::UnstableOffsetCommit),
    ] {
        let refused = refusing_offset(error, 1);
        let _rule = cluster.intercept(ApiKey::OffsetFetch, move |_| Action::Reply(refused.clone()));
        let read = membership.committed().of(added.clone()).await.unwrap();
        assert_eq!(read.offsets, at(&parts([0, 2, 3]), 7), "{code}");
        assert_eq!(read.refused, [(TopicPartition::new("t", 1), code)].into());
    }
}

/// An OffsetFetch answer of version 8 in which all partitions but one are committed at 7.
fn refusing_offset(error: ResponseError, refused: i32) -> Bytes {
    let partitions = (0..4).map(|number| {
        let partition = OffsetFetchResponsePartitions::default()
            .with_partition_index(number)
            .with_metadata(Some(StrBytes::from_static_str("")));
        if number == refused {
            partition.with_committed_offset(-1).with_error_code(error.code())
        } else {
            partition.with_committed_offset(7).with_committed_leader_epoch(-1)
        }
    });
    let topic = OffsetFetchResponseTopics::default()
        .with_name(TopicName(StrBytes::from_static_str("t")))
        .with_partitions(partitions.collect());
    let group = OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
        .with_topics(vec![topic]);
    let mut bytes = BytesMut::new();
    OffsetFetchResponse::default().with_groups(vec![group]).encode(&mut bytes, 8).unwrap();
    bytes.freeze()
}

#[tokio::test(start_paused = true)]
async fn brokers_before_2_1_are_asked_to_keep_offsets_for_longer_than_a_day() {
    let cluster = cluster(Release::V1_1).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let _rule = cluster.intercept(ApiKey::OffsetCommit, move |context| {
        let request: OffsetCommitRequest = context.decode().unwrap();
        seen.lock().unwrap().push(request.retention_time_ms);
        Action::Continue
    });
    let (mut membership, mut committer) = join(&cluster, config()).await;
    let (_, added) = assigned(&mut membership).await;
    assert!(committer.commit(&at(&added, 7)).await.unwrap().is_complete());
    membership.leave().await;
    let admin = Admin::new(client(&cluster).await);
    let altered = admin.alter_group_offsets(GROUP, &at(&added, 8)).await.unwrap();
    assert!(altered.values().all(Result::is_ok), "{altered:?}");
    let month = 30 * 24 * 60 * 60 * 1000;
    let asked = asked.lock().unwrap();
    assert!(asked.len() == 2 && asked.iter().all(|asked| *asked > month), "{asked:?}");
}
