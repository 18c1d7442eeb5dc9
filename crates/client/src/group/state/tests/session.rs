//! Heartbeats, and the end of a session by the member's own account.

use super::super::session::QUICK_HEARTBEAT;
use super::*;

#[test]
fn a_member_that_cannot_reach_its_coordinator_loses_everything_with_its_session() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    let started = rig.now;
    while !rig.machine.has_notice() {
        rig.pass_until_due();
        if let Some(Action::Heartbeat(_)) = rig.machine.next_action() {
            rig.input(Input::HeartbeatAnswered(Err(Failure::Unreachable)));
        }
    }
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::SessionTimedOut));
    assert_eq!(rig.now - started, rig.machine.config.session_timeout_dynamic);
    assert_eq!(&*rig.joining().identity.member_id, "me", "it may still be known");
}

#[test]
fn after_an_assignment_the_next_rebalance_is_heard_of_soon() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    let pauses: Vec<_> = (0..7)
        .map(|_| {
            let before = rig.now;
            rig.beat(Ok(()));
            rig.now - before
        })
        .collect();
    let interval = rig.machine.config.heartbeat_interval;
    assert!(pauses[0] <= QUICK_HEARTBEAT, "{pauses:?}");
    assert_eq!(pauses[6], interval, "{pauses:?}");
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    rig.settle_with(2, &["t-0"]);
    let before = rig.now;
    rig.beat(Ok(()));
    assert!(rig.now - before <= QUICK_HEARTBEAT);
}

#[test]
fn an_answered_heartbeat_keeps_the_session() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    for _ in 0..20 {
        rig.beat(Ok(()));
    }
    assert!(!rig.machine.has_notice());
    assert_eq!(**rig.machine.owned(), parts(&["t-0"]));
}

#[test]
fn a_join_that_is_stuck_while_the_session_runs_out_is_given_up_with_the_partitions() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.beat(Err(code(ErrorCode::REBALANCE_IN_PROGRESS)));
    let stuck = rig.joining().attempt;
    let started = rig.now;
    while !rig.machine.has_notice() {
        rig.pass_until_due();
        if let Some(Action::Heartbeat(_)) = rig.machine.next_action() {
            rig.input(Input::HeartbeatAnswered(Err(Failure::Unreachable)));
        }
    }
    assert_eq!(rig.lost(), (parts(&["t-0"]), LostCause::SessionTimedOut));
    assert!(rig.now - started <= rig.machine.config.session_timeout_dynamic);
    rig.input(Input::Joined(stuck, Err(code(ErrorCode::GROUP_AUTHORIZATION_FAILED))));
    assert!(!rig.machine.has_notice(), "what becomes of it does not matter any more");
}

#[test]
fn heartbeats_go_on_while_a_join_waits_for_the_owner() {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    rig.input(Input::Subscribe(["t".into(), "u".into()].into()));
    rig.joining();
    rig.admit(2, "other");
    assert!(matches!(rig.action(), Action::Sync { .. }));
    rig.answer(|attempt| Input::Synced(attempt, Ok(Vec::new())));
    let (id, _) = rig.revoking();
    // The owner has not taken the assignment yet.
    rig.input(Input::HandedBack(id));
    rig.quiet();
    rig.beat(Ok(()));
    rig.quiet();
    rig.notice();
    rig.joining();
}

/// A member of a session of 10 s that was answered at its beginning and beats every 3 s.
fn settled() -> Rig {
    let mut rig = Rig::cooperative();
    rig.settle_with(1, &["t-0"]);
    while rig.machine.next_wake(rig.now).unwrap() < rig.now + rig.machine.config.heartbeat_interval
    {
        rig.beat(Ok(()));
    }
    rig
}

#[test]
fn a_thread_that_was_busy_reads_the_answer_before_it_gives_up() {
    let mut rig = settled();
    let session = rig.machine.session_timeout;
    rig.pass_until_due();
    assert!(matches!(rig.action(), Action::Heartbeat(_)));
    // The answer came at once, and lay in the socket while the thread was busy.
    rig.pass(session - Duration::from_millis(100));
    assert!(!rig.machine.has_notice());
    rig.input(Input::HeartbeatAnswered(Ok(())));
    rig.pass_until_due();
    assert!(!rig.machine.has_notice());
    assert!(matches!(rig.action(), Action::Heartbeat(_)));
    rig.input(Input::HeartbeatAnswered(Ok(())));
    assert_eq!(**rig.machine.owned(), parts(&["t-0"]));
}

#[test]
fn a_thread_that_was_busy_asks_once_before_it_gives_up() {
    for answer in [Ok(()), Err(code(ErrorCode::UNKNOWN_MEMBER_ID)), Err(Failure::Unreachable)] {
        let mut rig = settled();
        rig.pass(rig.machine.session_timeout + Duration::from_secs(1));
        assert!(!rig.machine.has_notice(), "nobody was asked");
        assert!(matches!(rig.action(), Action::Heartbeat(_)));
        let next = rig.machine.next_wake(rig.now);
        assert!(
            next.is_none_or(|next| next > rig.now),
            "it waits for the answer, and does not spin"
        );
        let cause = match &answer {
            Ok(()) => None,
            Err(Failure::Code(_)) => Some(LostCause::Expelled),
            Err(_) => Some(LostCause::SessionTimedOut),
        };
        rig.input(Input::HeartbeatAnswered(answer));
        rig.pass(Duration::ZERO);
        match cause {
            Some(cause) => assert_eq!(rig.lost(), (parts(&["t-0"]), cause)),
            None => assert!(!rig.machine.has_notice()),
        }
    }
}
