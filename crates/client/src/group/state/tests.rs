//! Tests of the state machine in virtual time: no runtime, no sleeping, no sockets.

mod session;

use super::*;
use crate::group::protocol::{Assignment, Subscription};

/// A member whose coordinator is the test.
struct Rig {
    machine: Machine,
    now: Instant,
}

fn parts(names: &[&str]) -> BTreeSet<TopicPartition> {
    let parse = |name: &&str| {
        let (topic, number) = name.rsplit_once('-').unwrap();
        TopicPartition::new(topic, number.parse().unwrap())
    };
    names.iter().map(parse).collect()
}

fn counts(topics: &[(&str, i32)]) -> Counts {
    topics.iter().map(|(topic, count)| ((*topic).into(), *count)).collect()
}

fn code(code: ErrorCode) -> Failure {
    Failure::Code(code)
}

impl Rig {
    fn new(config: Config) -> Self {
        let now = crate::clock::now();
        let mut machine = Machine::new(config.with_topics(["t"]), now, 7);
        machine.wake(now);
        Self { machine, now }
    }

    fn cooperative() -> Self {
        Self::new(Config::new("g"))
    }

    fn eager() -> Self {
        Self::new(Config::new("g").with_assignors([Assignor::Range]))
    }

    fn named() -> Self {
        let instance = Instance::Named("i".into());
        Self::new(Config::new("g").with_instance(instance))
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
    }

    fn answer(&mut self, input: impl FnOnce(Attempt) -> Input) {
        self.input(input(self.machine.attempt));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.machine.wake(self.now);
    }

    /// Lets time pass until the machine wants to do something.
    fn pass_until_due(&mut self) {
        let due = self.machine.next_wake(self.now).expect("something is due");
        self.now = self.now.max(due);
        self.machine.wake(self.now);
    }

    fn action(&mut self) -> Action {
        self.machine.next_action().expect("an action")
    }

    fn quiet(&mut self) {
        if let Some(action) = self.machine.next_action() {
            panic!("nothing was to be done, but {action:?}");
        }
    }

    fn joining(&mut self) -> Join {
        match self.action() {
            Action::Join(join) => join,
            other => panic!("expected a join, got {other:?}"),
        }
    }

    fn admit(&mut self, generation: i32, leader: &str) {
        let assignor = self.machine.config.assignors[0];
        let members = match leader {
            "me" => vec![("me".into(), None, self.subscription())],
            _ => Vec::new(),
        };
        let joined = Joined {
            member_id: "me".into(),
            generation,
            assignor: assignor.name().to_owned(),
            leader_id: leader.into(),
            skip_assignment: false,
            knows_instances: true,
            members,
        };
        self.answer(|attempt| Input::Joined(attempt, Ok(joined)));
    }

    fn subscription(&self) -> Subscription {
        let topics = self.machine.topics.iter().cloned().collect();
        Subscription { topics, ..Subscription::default() }
    }

    /// One whole rebalance as a follower.
    fn settle_with(&mut self, generation: i32, partitions: &[&str]) -> Notice {
        self.joining();
        self.admit(generation, "other");
        self.sync_with(partitions)
    }

    fn sync_with(&mut self, partitions: &[&str]) -> Notice {
        assert!(matches!(self.action(), Action::Sync { .. }));
        self.answer(|attempt| Input::Synced(attempt, Ok(parts(partitions).into_iter().collect())));
        self.notice()
    }

    fn notice(&mut self) -> Notice {
        self.machine.next_notice().expect("a notice")
    }

    fn revoking(&mut self) -> (u64, BTreeSet<TopicPartition>) {
        match self.notice() {
            Notice::Revoking { id, partitions, .. } => (id, partitions),
            other => panic!("expected a revocation, got {other:?}"),
        }
    }

    fn lost(&mut self) -> (BTreeSet<TopicPartition>, LostCause) {
        match self.notice() {
            Notice::Lost { partitions, cause } => (partitions, cause),
            other => panic!("expected a loss, got {other:?}"),
        }
    }

    fn beat(&mut self, result: Result<(), Failure>) {
        self.pass_until_due();
        assert!(matches!(self.action(), Action::Heartbeat(_)));
        self.input(Input::HeartbeatAnswered(result));
    }
}

fn added(notice: &Notice) -> &BTreeSet<TopicPartition> {
    match notice {
        Notice::Assigned { added, .. } => added,
        other => panic!("expected an assignment, got {other:?}"),
    }
}

#[test]
fn a_new_member_joins_again_with_the_id_it_is_given() {
    let mut rig = Rig::cooperative();
    assert_eq!(&*rig.joining().identity.member_id, "");
    rig.answer(|attempt| Input::MemberIdGiven(attempt, "me".into()));
    assert_eq!(&*rig.joining().identity.member_id, "me");
    rig.admit(1, "other");
    let notice = rig.sync_with(&["t-0"]);
    assert_eq!(added(&notice), &parts(&["t-0"]));
    assert_eq!(rig.machine.identity().unwrap().generation, 1);
}

#[test]
fn a_leader_divides_what_the_metadata_show_among_the_members() {
    let mut rig = Rig::cooperative();
    rig.joining();
    rig.admit(1, "me");
    let Action::LookUp(_, topics) = rig.action() else { panic!("expected a look-up") };
    assert!(topics.contains("t"));
    rig.answer(|attempt| Input::Counted(attempt, counts(&[("t", 2)])));
    let Action::Sync { plan, .. } = rig.action() else { panic!("expected a sync") };
    assert_eq!(&*plan[0].0, "me");
    let assignment = Assignment::decode(&plan[0].1).unwrap();
    assert_eq!(assignment.partitions.len(), 2);
}

#[test]
fn an_eager_member_rejoins_only_after_everything_was_handed_back() {
    let mut rig = Rig::eager();
    rig.settle_with(1, &["t-0", "t-1"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    let (id, partitions) = rig.revoking();
    assert_eq!(partitions, parts(&["t-0", "t-1"]));
    rig.quiet();
    assert_eq!(rig.machine.owned().len(), 2, "its owner may still commit");
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert!(rig.machine.next_notice().is_none(), "it is told once, and goes on beating");
    rig.input(Input::HandedBack(id));
    assert!(rig.machine.owned().is_empty());
    assert_eq!(added(&rig.settle_with(2, &["t-1"])), &parts(&["t-1"]));
}

#[test]
fn a_cooperative_member_keeps_working_while_it_rejoins() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0", "t-1"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    let join = rig.joining();
    let subscription = Subscription::decode(&join.protocols[0].1).unwrap();
    assert_eq!(subscription.owned.len(), 2);
    assert_eq!(subscription.generation, Some(1));
    assert!(rig.machine.next_notice().is_none());
}

#[test]
fn a_cooperative_member_gives_up_only_what_moved_and_then_rejoins() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0", "t-1"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.joining();
    rig.admit(2, "other");
    assert!(matches!(rig.action(), Action::Sync { .. }));
    rig.answer(|attempt| Input::Synced(attempt, Ok(parts(&["t-0", "t-2"]).into_iter().collect())));
    let (id, revoked) = rig.revoking();
    assert_eq!(revoked, parts(&["t-1"]));
    let notice = rig.notice();
    assert_eq!(added(&notice), &parts(&["t-2"]));
    rig.quiet();
    rig.input(Input::HandedBack(id));
    let subscription = Subscription::decode(&rig.joining().protocols[0].1).unwrap();
    assert_eq!(subscription.owned.len(), 2);
}

#[test]
fn a_join_waits_until_the_owner_has_heard_what_happened() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::UNKNOWN_MEMBER_ID)));
    rig.quiet();
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::Expelled));
    assert_eq!(&*rig.joining().identity.member_id, "");
}

#[test]
fn partitions_not_handed_back_in_time_are_lost_before_the_others_stop_waiting() {
    let mut rig = Rig::eager();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    let started = rig.now;
    let (id, _) = rig.revoking();
    while !rig.machine.has_notice() {
        rig.pass_until_due();
        if let Some(Action::Heartbeat(_)) = rig.machine.next_action() {
            rig.input(Input::HeartbeatAnswered(Err(code(ErrorCode::REBALANCE_IN_PROGRESS))));
        }
    }
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::HandBackTimedOut));
    let config = &rig.machine.config;
    assert!(rig.now - started + config.heartbeat_interval < config.rebalance_timeout);
    rig.joining();
    rig.input(Input::HandedBack(id));
    assert!(rig.machine.next_notice().is_none(), "a late hand-back changes nothing");
}

#[test]
fn a_stale_answer_changes_nothing() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    let old = rig.machine.identity().unwrap().clone();
    rig.pass_until_due();
    assert!(matches!(rig.action(), Action::Heartbeat(_)));
    rig.machine.want_rejoin(rig.now, "test");
    rig.machine.settle(rig.now);
    rig.settle_with(2, &["t-0"]);
    rig.input(Input::HeartbeatAnswered(Err(code(ErrorCode::ILLEGAL_GENERATION))));
    rig.input(Input::CommitRefused { sent: old, code: ErrorCode::ILLEGAL_GENERATION });
    assert!(!rig.machine.has_notice());
    assert_eq!(**rig.machine.owned(), parts(&["t-0"]));
}

#[test]
fn a_refused_commit_of_the_present_generation_loses_the_partitions_but_not_the_member() {
    let mut rig = Rig::cooperative();
    rig.settle_with(3, &["t-0"]);
    let sent = rig.machine.identity().unwrap().clone();
    rig.input(Input::CommitRefused { sent, code: ErrorCode::ILLEGAL_GENERATION });
    assert_eq!(rig.lost().1, LostCause::Expelled);
    let join = rig.joining();
    assert_eq!((&*join.identity.member_id, join.identity.generation), ("me", -1));
}

#[test]
fn join_errors_that_pass_are_retried_with_growing_pauses() {
    let mut rig = Rig::cooperative();
    let mut pauses = Vec::new();
    let passing = [
        code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        code(ErrorCode::NOT_COORDINATOR),
        code(ErrorCode::REBALANCE_IN_PROGRESS),
        Failure::Unreachable,
    ];
    for failure in passing {
        rig.joining();
        let before = rig.now;
        rig.answer(|attempt| Input::Joined(attempt, Err(failure)));
        rig.pass_until_due();
        pauses.push(rig.now - before);
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    rig.settle_with(1, &["t-0"]);
}

#[test]
fn join_errors_that_stay_end_the_membership() {
    for refusal in [
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::INVALID_GROUP_ID,
        ErrorCode::INVALID_SESSION_TIMEOUT,
    ] {
        let mut rig = Rig::cooperative();
        rig.joining();
        rig.answer(|attempt| Input::Joined(attempt, Err(code(refusal))));
        assert!(
            matches!(rig.notice(), Notice::Failed(Error::Refused { code, .. }) if code == refusal)
        );
        assert!(rig.machine.is_over());
    }
}

#[test]
fn an_assignor_that_was_not_offered_ends_the_membership() {
    let mut rig = Rig::cooperative();
    rig.joining();
    rig.machine.config.assignors = vec![Assignor::Range];
    rig.answer(|attempt| {
        Input::Joined(
            attempt,
            Ok(Joined {
                member_id: "me".into(),
                generation: 1,
                assignor: "sticky".to_owned(),
                leader_id: "me".into(),
                skip_assignment: false,
                knows_instances: true,
                members: Vec::new(),
            }),
        )
    });
    assert!(matches!(rig.notice(), Notice::Failed(Error::ForeignAssignor { .. })));
}

#[test]
fn an_expelled_cooperative_member_says_so_before_it_starts_over() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.joining();
    rig.answer(|attempt| Input::Joined(attempt, Err(code(ErrorCode::UNKNOWN_MEMBER_ID))));
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::Expelled));
    rig.pass_until_due();
    assert_eq!(&*rig.joining().identity.member_id, "");
}

#[test]
fn what_may_be_granted_or_pass_is_told_once_and_asked_for_until_it_is_there() {
    for refusal in [
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode(30000),
    ] {
        let told = |rig: &mut Rig| match rig.notice() {
            Notice::Refused(Error::Refused { code, .. }) => assert_eq!(code, refusal),
            other => panic!("expected a refusal, got {other:?}"),
        };
        let mut rig = Rig::cooperative();
        rig.joining();
        rig.answer(|attempt| Input::Joined(attempt, Err(code(refusal))));
        told(&mut rig);
        for _ in 0..50 {
            rig.pass_until_due();
            rig.joining();
            rig.answer(|attempt| Input::Joined(attempt, Err(code(refusal))));
            assert!(!rig.machine.has_notice(), "it was told");
        }
        rig.pass_until_due();
        rig.joining();
        rig.admit(1, "other");
        assert!(matches!(rig.action(), Action::Sync { .. }));
        rig.answer(|attempt| Input::Synced(attempt, Err(code(refusal))));
        rig.pass_until_due();
        assert_eq!(added(&rig.settle_with(2, &["t-0"])), &parts(&["t-0"]));
        rig.beat(Err(code(refusal)));
        told(&mut rig);
        rig.beat(Ok(()));
        assert_eq!(**rig.machine.owned(), parts(&["t-0"]), "the session goes on");
    }
}

#[test]
fn a_claim_dates_from_the_assignment_that_was_seen() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.joining();
    rig.admit(2, "other");
    assert!(matches!(rig.action(), Action::Sync { .. }));
    rig.answer(|attempt| Input::Synced(attempt, Err(code(ErrorCode::REBALANCE_IN_PROGRESS))));
    let subscription = Subscription::decode(&rig.joining().protocols[0].1).unwrap();
    assert_eq!(subscription.owned.len(), 1);
    assert_eq!(subscription.generation, Some(1), "generation 2 may have given it to another");
}

#[test]
fn a_sync_that_a_new_rebalance_overtook_is_followed_by_another_join() {
    let mut rig = Rig::cooperative();
    rig.joining();
    rig.admit(1, "other");
    assert!(matches!(rig.action(), Action::Sync { .. }));
    rig.answer(|attempt| Input::Synced(attempt, Err(code(ErrorCode::REBALANCE_IN_PROGRESS))));
    assert_eq!(added(&rig.settle_with(2, &["t-0"])), &parts(&["t-0"]));
}

#[test]
fn a_named_member_that_was_fenced_stops() {
    let mut rig = Rig::named();
    rig.settle_with(1, &["t-0"]);
    assert!(matches!(rig.action(), Action::Audit(_)));
    rig.beat(Err(code(ErrorCode::FENCED_INSTANCE_ID)));
    assert_eq!(rig.lost().1, LostCause::Failed);
    assert!(matches!(rig.notice(), Notice::Failed(Error::Fenced { .. })));
}

#[test]
fn a_member_with_a_slot_that_was_fenced_goes_on_as_a_dynamic_one() {
    let directory = tempfile::tempdir().unwrap();
    let place = crate::group::slot::Place {
        group_id: "g",
        cluster_id: None,
        directory: Some(directory.path()),
    };
    let slot = crate::group::slot::Slot::take(place).unwrap();
    let instance = Instance::Slot { slot, stream: 0 };
    let mut rig = Rig::new(Config::new("g").with_instance(instance));
    let join = rig.joining();
    assert!(join.identity.instance_id.is_some());
    rig.answer(|attempt| Input::Joined(attempt, Err(code(ErrorCode::FENCED_INSTANCE_ID))));
    let join = rig.joining();
    assert_eq!(join.identity.instance_id, None);
    assert_eq!(rig.machine.session_timeout, rig.machine.config.session_timeout_dynamic);
}

#[test]
fn a_static_member_that_came_back_checks_that_nothing_is_left_to_nobody() {
    let mut rig = Rig::named();
    rig.settle_with(5, &["t-0"]);
    assert!(matches!(rig.action(), Action::Audit(_)));
    let audited = |held| Input::Audited { counts: counts(&[("t", 3)]), held };
    rig.input(audited(Some(parts(&["t-0", "t-1", "t-2"]))));
    rig.input(audited(None));
    rig.quiet();
    rig.input(audited(Some(parts(&["t-0", "t-1"]))));
    rig.joining();
}

#[test]
fn a_broker_without_static_membership_gets_a_dynamic_member() {
    let mut rig = Rig::named();
    rig.joining();
    rig.answer(|attempt| {
        Input::Joined(
            attempt,
            Ok(Joined {
                member_id: "me".into(),
                generation: 1,
                assignor: "cooperative-sticky".to_owned(),
                leader_id: "other".into(),
                skip_assignment: false,
                knows_instances: false,
                members: Vec::new(),
            }),
        )
    });
    rig.sync_with(&["t-0"]);
    rig.quiet();
    assert_eq!(rig.machine.identity().unwrap().instance_id, None);
}

#[test]
fn a_leader_rebalances_at_once_when_partitions_are_added() {
    let mut rig = Rig::cooperative();
    rig.joining();
    rig.admit(1, "me");
    rig.action();
    rig.answer(|attempt| Input::Counted(attempt, counts(&[("t", 1)])));
    rig.sync_with(&["t-0"]);
    rig.input(Input::Seen(counts(&[("t", 1)])));
    rig.quiet();
    rig.input(Input::Seen(counts(&[("t", 2)])));
    rig.joining();
}

#[test]
fn a_follower_rebalances_when_its_leader_does_not() {
    let mut rig = Rig::cooperative();
    rig.input(Input::Seen(counts(&[("t", 1)])));
    rig.settle_with(1, &["t-0"]);
    rig.input(Input::Seen(counts(&[("t", 2)])));
    rig.quiet();
    let started = rig.now;
    loop {
        rig.pass_until_due();
        match rig.action() {
            Action::Heartbeat(_) => rig.input(Input::HeartbeatAnswered(Ok(()))),
            Action::Join(_) => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(rig.now - started, rig.machine.config.patience);
}

#[test]
fn a_changed_subscription_gives_up_what_is_no_longer_wanted_and_rejoins() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.input(Input::Subscribe(["u".into()].into()));
    let (id, partitions) = rig.revoking();
    assert_eq!(partitions, parts(&["t-0"]));
    rig.input(Input::HandedBack(id));
    let subscription = Subscription::decode(&rig.joining().protocols[0].1).unwrap();
    assert_eq!(subscription.topics, ["u".into()]);
}

#[test]
fn a_subscription_changed_during_a_rebalance_is_joined_with_afterwards() {
    let mut rig = Rig::cooperative();
    rig.joining();
    rig.input(Input::Subscribe(["t".into(), "u".into()].into()));
    rig.admit(1, "other");
    rig.sync_with(&["t-0"]);
    let subscription = Subscription::decode(&rig.joining().protocols[0].1).unwrap();
    assert_eq!(subscription.topics, ["t".into(), "u".into()]);
}

#[test]
fn topics_that_were_not_subscribed_to_are_not_taken() {
    let mut rig = Rig::cooperative();
    let notice = rig.settle_with(1, &["t-0", "unwanted-0"]);
    assert_eq!(added(&notice), &parts(&["t-0"]));
    rig.pass(MISFIT_DELAY);
    assert!(matches!(rig.action(), Action::Heartbeat(_)));
    rig.joining();
}

#[test]
fn leaving_tells_the_coordinator_and_ends() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.input(Input::Leave);
    assert!(matches!(rig.action(), Action::Leave(_)));
    rig.input(Input::Left);
    assert!(rig.machine.is_over());

    let mut rig = Rig::cooperative();
    rig.joining();
    rig.input(Input::Leave);
    assert!(rig.machine.is_over(), "nobody knows it yet");
}

#[test]
fn leaving_ends_though_news_was_not_taken_and_whatever_still_comes() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.joining();
    rig.admit(2, "other");
    assert!(matches!(rig.action(), Action::Sync { .. }));
    rig.answer(|attempt| Input::Synced(attempt, Ok(Vec::new())));
    assert!(rig.machine.has_notice());
    rig.pass_until_due();
    assert!(matches!(rig.action(), Action::Heartbeat(_)));
    rig.input(Input::Leave);
    assert!(matches!(rig.action(), Action::Leave(_)));
    let group_id = "g".into();
    rig.input(Input::HeartbeatAnswered(Err(Failure::Fatal(Error::Ended { group_id }))));
    rig.input(Input::Left);
    assert!(rig.machine.is_over());

    let mut rig = Rig::cooperative();
    rig.joining();
    let refusal = code(ErrorCode::INVALID_GROUP_ID);
    rig.answer(|attempt| Input::Joined(attempt, Err(refusal)));
    assert!(!rig.machine.is_over(), "its owner has not heard of it");
    rig.input(Input::Leave);
    assert!(rig.machine.is_over());
}

#[test]
fn a_cooperative_member_that_is_expelled_while_it_joins_stops_at_once() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.joining();
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    assert!(!rig.machine.has_notice(), "that is why we join");
    rig.beat(Err(code(ErrorCode::UNKNOWN_MEMBER_ID)));
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::Expelled));
}

#[test]
fn epochs_grow_even_when_the_generation_starts_again() {
    let mut rig = Rig::cooperative();
    let epoch = |notice| match notice {
        Notice::Assigned { epoch, .. } => epoch,
        other => panic!("expected an assignment, got {other:?}"),
    };
    let first = epoch(rig.settle_with(40, &["t-0"]));
    rig.beat(Err(code(ErrorCode::UNKNOWN_MEMBER_ID)));
    rig.lost();
    let second = epoch(rig.settle_with(1, &["t-0"]));
    assert!(second > first);
}
