//! One member of a consumer group, as a pure state machine.
//!
//! Owned by the group module. Nothing here waits, reads a clock or touches a socket. The contract
//! with the driver has four parts:
//! - *inputs*: [`Machine::handle`] is told what happened, [`Machine::wake`] that time has passed;
//! - *outputs*: after either, [`Machine::next_action`] and [`Machine::next_notice`] are emptied;
//! - *time*: [`Machine::next_wake`] says when to call `wake` at the latest;
//! - *order*: a JoinGroup may only be sent when the owner has taken every notice, because joining
//!   says what is owned and what was given up.
//!
//! Always true:
//! - at most one JoinGroup or SyncGroup and one heartbeat are under way;
//! - what is owned is only ever given up after the owner handed it back, or after it was told
//!   that it is lost;
//! - no JoinGroup is sent while anything is being handed back.
//!
//! Source: `AbstractCoordinator.java`, `ConsumerCoordinator.java`; KIP-394 (member ids), KIP-345
//! (static members), KIP-429 (cooperative), KIP-814 (static leaders).
//! On purpose unlike Java: partitions are lost when the session timed out without contact, even if
//! the coordinator never said so, because somebody else may be mirroring them by then.

mod io;
mod joining;
mod session;
mod watch;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

pub use io::LostCause;
pub(crate) use io::{Action, Attempt, Failure, Identity, Input, Join, Joined, Notice};

use super::assignor::{Assignor, Counts, Member};
use super::config::{Config, Instance};
use super::error::Error;
use super::protocol::{NO_GENERATION, Prior};
use crate::backoff::Backoff;
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;
use session::Heartbeat;
use watch::{Verdict, Watch};

/// The shortest and the longest wait between two tries to join.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long to wait before joining again because an assignment did not fit the subscription.
const MISFIT_DELAY: Duration = Duration::from_secs(1);

/// One member.
pub(crate) struct Machine {
    config: Config,
    phase: Phase,
    attempt: Attempt,
    identity: Identity,
    /// Wanted now, and when we last joined.
    topics: BTreeSet<Arc<str>>,
    joined_topics: BTreeSet<Arc<str>>,
    /// The topics of the whole group while we lead.
    group_topics: BTreeSet<Arc<str>>,
    /// Shared with the driver's snapshots, and only copied when it changes under one.
    owned: Arc<BTreeSet<TopicPartition>>,
    /// The last assignment, which the sticky assignor passes on.
    prior: Prior,
    handing_back: Option<HandingBack>,
    rejoin: Option<Rejoin>,
    heartbeat: Heartbeat,
    /// The last time the coordinator is known to have counted us in: when what it answered was
    /// sent, not when the answer came.
    last_contact: Instant,
    sync_sent: Instant,
    session_timeout: Duration,
    seen: Counts,
    watch: Watch,
    /// Compare the group's assignments with what there is, once we are part of it.
    audit: bool,
    backoff: Backoff,
    /// Why the coordinator refuses us at present, as the owner was told.
    refusal: Option<ErrorCode>,
    epoch: u64,
    hand_backs: u64,
    actions: VecDeque<Action>,
    notices: VecDeque<Notice>,
}

/// Where the member stands with the coordinator.
#[derive(Debug)]
enum Phase {
    /// Not under way; joins at this time.
    Waiting(Instant),
    /// JoinGroup is under way.
    Joining,
    /// We lead, and the partition counts are being looked up.
    Assigning(Assignor, Vec<Member>),
    /// SyncGroup is under way.
    Syncing,
    /// Part of the group.
    Stable,
    /// LeaveGroup is under way.
    Leaving,
    /// Over.
    Ended,
}

#[derive(Debug)]
struct HandingBack {
    id: u64,
    partitions: BTreeSet<TopicPartition>,
    deadline: Instant,
}

#[derive(Debug)]
struct Rejoin {
    reason: &'static str,
    at: Instant,
}

impl Machine {
    /// A member that joins at the first [`Machine::wake`]. `seed` spreads its retries.
    pub(crate) fn new(config: Config, now: Instant, seed: u64) -> Self {
        let identity = Identity {
            member_id: "".into(),
            generation: NO_GENERATION,
            instance_id: config.instance.id(),
        };
        Self {
            phase: Phase::Waiting(now),
            attempt: Attempt(0),
            identity,
            topics: config.topics.clone(),
            joined_topics: BTreeSet::new(),
            group_topics: BTreeSet::new(),
            owned: Arc::default(),
            prior: Prior::default(),
            handing_back: None,
            rejoin: None,
            heartbeat: Heartbeat::new(now, config.heartbeat_interval),
            last_contact: now,
            sync_sent: now,
            session_timeout: config.session_timeout,
            seen: Counts::new(),
            watch: Watch::default(),
            audit: false,
            backoff: Backoff::with_seed(RETRY.0, RETRY.1, seed),
            refusal: None,
            epoch: 0,
            hand_backs: 0,
            actions: VecDeque::new(),
            notices: VecDeque::new(),
            config,
        }
    }

    /// The next thing to do.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        // A join says what was given up, so the owner must have heard of it before.
        let held = !self.notices.is_empty();
        let free = |action: &Action| !(held && matches!(action, Action::Join(_)));
        let first = self.actions.iter().position(free)?;
        self.actions.remove(first)
    }

    /// Whether the owner has something to be told.
    pub(crate) fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// The next thing to tell the owner.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Who we are to the coordinator; `None` while we are part of no generation.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        Some(&self.identity).filter(|identity| identity.generation != NO_GENERATION)
    }

    /// Everything that is ours, what is being handed back included.
    pub(crate) fn owned(&self) -> &Arc<BTreeSet<TopicPartition>> {
        &self.owned
    }

    /// The topics whose partition counts [`Input::Seen`] must hold.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.union(&self.group_topics)
    }

    /// Whether the membership is over and there is nothing left to do or tell.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended) && self.notices.is_empty()
    }

    /// Takes in that something happened.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        if matches!(input, Input::Leave) {
            // Whoever leaves takes no more news, not even of an end that came before.
            self.notices.clear();
        }
        match self.phase {
            Phase::Ended => return,
            Phase::Leaving if !matches!(input, Input::Left) => return,
            _ => {}
        }
        match input {
            Input::Joined(attempt, _)
            | Input::MemberIdGiven(attempt, _)
            | Input::Counted(attempt, _)
            | Input::Synced(attempt, _)
                if attempt != self.attempt => {}
            Input::Joined(_, result) => self.on_joined(now, result),
            Input::MemberIdGiven(_, member_id) => self.on_member_id_given(member_id),
            Input::Counted(_, counts) => self.on_counted(now, counts),
            Input::Synced(_, result) => self.on_synced(now, result),
            Input::HeartbeatAnswered(result) => self.on_heartbeat(now, result),
            Input::CommitRefused { sent, code } => {
                if sent == self.identity && matches!(self.phase, Phase::Stable) {
                    self.on_refusal(now, code);
                }
            }
            Input::HandedBack(id) => self.on_handed_back(now, id),
            Input::Subscribe(topics) => {
                self.topics = topics;
                if self.topics != self.joined_topics {
                    self.want_rejoin(now, "the subscription changed");
                }
            }
            Input::Seen(counts) => {
                self.seen = counts;
                self.look_at_counts(now);
            }
            Input::Audited { counts, held } => self.on_audited(now, &counts, held),
            Input::Leave => self.leave(),
            Input::Left => self.phase = Phase::Ended,
        }
        self.settle(now);
    }

    /// Takes in that time has passed.
    pub(crate) fn wake(&mut self, now: Instant) {
        if self.is_session_over(now) {
            self.lose_session(now);
        }
        if let Some(late) = self.handing_back.take_if(|handing_back| now >= handing_back.deadline) {
            self.disown(&late.partitions);
            let (partitions, cause) = (late.partitions, LostCause::HandBackTimedOut);
            self.notices.push_back(Notice::Lost { partitions, cause });
        }
        self.look_at_counts(now);
        self.beat_if_due(now);
        self.settle(now);
    }

    /// When [`Machine::wake`] has something to do; `None` if only an input can move us.
    pub(crate) fn next_wake(&mut self, now: Instant) -> Option<Instant> {
        // An end that has passed and does not count yet waits for a heartbeat's answer.
        let is_over = self.is_session_over(now);
        let session_end = self.session_end().filter(|end| *end > now || is_over);
        let mut times = [session_end, self.heartbeat_due()].to_vec();
        match self.phase {
            Phase::Waiting(until) => times.push(Some(until)),
            Phase::Stable => {
                times.push(self.rejoin_time());
                if let Verdict::Wait(until) = self.watch.look(now, &self.seen, self.config.patience)
                {
                    times.push(Some(until));
                }
            }
            Phase::Joining | Phase::Assigning(..) | Phase::Syncing => {}
            Phase::Leaving | Phase::Ended => return None,
        }
        times.push(self.handing_back.as_ref().map(|handing_back| handing_back.deadline));
        times.into_iter().flatten().min()
    }

    fn rejoin_time(&self) -> Option<Instant> {
        // While something is handed back, its end or its deadline comes first.
        self.rejoin.as_ref().filter(|_| self.handing_back.is_none()).map(|rejoin| rejoin.at)
    }

    /// Moves on if nothing is in the way: from waiting to joining, and from stable to giving up
    /// what has to be given up before the next join.
    fn settle(&mut self, now: Instant) {
        if self.handing_back.is_some() {
            return;
        }
        match self.phase {
            Phase::Waiting(until) if now >= until => {
                let reason = self.rejoin.take().map_or("joining", |rejoin| rejoin.reason);
                self.join(reason);
            }
            Phase::Stable => {
                let Some(rejoin) = self.rejoin.as_ref().filter(|rejoin| now >= rejoin.at) else {
                    return;
                };
                let reason = rejoin.reason;
                let given_up = self.to_give_up();
                if given_up.is_empty() {
                    self.rejoin = None;
                    self.join(reason);
                } else {
                    self.start_hand_back(now, given_up);
                }
            }
            _ => {}
        }
    }

    /// What must not be owned when joining: everything, or, in the cooperative protocol, what is no
    /// longer wanted.
    fn to_give_up(&self) -> BTreeSet<TopicPartition> {
        if !self.config.is_cooperative() {
            return BTreeSet::clone(&self.owned);
        }
        let unwanted = |partition: &&TopicPartition| !self.topics.contains(&partition.topic);
        self.owned.iter().filter(unwanted).cloned().collect()
    }

    fn start_hand_back(&mut self, now: Instant, partitions: BTreeSet<TopicPartition>) {
        self.hand_backs += 1;
        let (id, deadline) = (self.hand_backs, now + self.hand_back_time());
        self.notices.push_back(Notice::Revoking { id, partitions: partitions.clone(), deadline });
        self.handing_back = Some(HandingBack { id, partitions, deadline });
    }

    /// The rebalance time-out, less the time by which we may have heard late of the rebalance and
    /// the time the join itself takes, so that the others never wait for us in vain.
    fn hand_back_time(&self) -> Duration {
        let whole = self.config.rebalance_timeout;
        whole.saturating_sub(self.config.heartbeat_interval + whole / 10).max(whole / 2)
    }

    fn on_handed_back(&mut self, now: Instant, id: u64) {
        let Some(done) = self.handing_back.take_if(|handing_back| handing_back.id == id) else {
            return;
        };
        self.disown(&done.partitions);
        // Whatever was in the way of this join is gone; do not wait longer.
        if let Some(rejoin) = &mut self.rejoin {
            rejoin.at = rejoin.at.min(now);
        }
    }

    fn disown(&mut self, partitions: &BTreeSet<TopicPartition>) {
        Arc::make_mut(&mut self.owned).retain(|partition| !partitions.contains(partition));
    }

    fn want_rejoin(&mut self, at: Instant, reason: &'static str) {
        match &mut self.rejoin {
            Some(rejoin) => rejoin.at = rejoin.at.min(at),
            None => self.rejoin = Some(Rejoin { reason, at }),
        }
    }

    fn look_at_counts(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Stable)
            && self.watch.look(now, &self.seen, self.config.patience) == Verdict::Rejoin
        {
            self.want_rejoin(now, "topics or partitions changed");
        }
    }

    /// Another process uses our instance id. If the operator gave it, he gave it twice. If it came
    /// from a slot, hosts share a name or a lock directory was removed: go on without one.
    fn on_fenced(&mut self, now: Instant) {
        let Some(instance_id) = self.identity.instance_id.take() else {
            return self.fail(self.refused(ErrorCode::FENCED_INSTANCE_ID));
        };
        match self.config.instance {
            Instance::Slot { .. } => {
                self.session_timeout = self.config.session_timeout_dynamic;
                self.start_over(now, LostCause::Fenced);
            }
            Instance::Dynamic | Instance::Named(_) => {
                let group_id = Arc::clone(&self.config.group_id);
                self.fail(Error::Fenced { group_id, instance_id });
            }
        }
    }

    /// Loses everything and joins as somebody new.
    fn start_over(&mut self, now: Instant, cause: LostCause) {
        self.lose(cause);
        self.identity.member_id = "".into();
        self.identity.generation = NO_GENERATION;
        self.phase = Phase::Waiting(now);
    }

    fn lose(&mut self, cause: LostCause) {
        self.give_up_joining();
        self.handing_back = None;
        self.watch = Watch::default();
        self.group_topics.clear();
        let partitions = Arc::unwrap_or_clone(std::mem::take(&mut self.owned));
        if !partitions.is_empty() {
            self.notices.push_back(Notice::Lost { partitions, cause });
        }
    }

    /// What is under way to make us part of the group is of no use any more.
    fn give_up_joining(&mut self) {
        self.attempt = Attempt(self.attempt.0 + 1);
        let of_attempt = |action: &Action| {
            matches!(action, Action::Join(_) | Action::LookUp(..) | Action::Sync { .. })
        };
        self.actions.retain(|action| !of_attempt(action));
        if matches!(self.phase, Phase::Joining | Phase::Syncing) {
            self.actions.push_back(Action::GiveUpJoining);
        }
    }

    fn fail(&mut self, error: Error) {
        self.lose(LostCause::Failed);
        self.actions.clear();
        self.notices.push_back(Notice::Failed(error));
        self.phase = Phase::Ended;
    }

    fn refused(&self, code: ErrorCode) -> Error {
        Error::Refused { group_id: Arc::clone(&self.config.group_id), code }
    }

    /// Tells the owner of a refusal that somebody may have to end, once for each that differs from
    /// the one before. Whatever is usual while coordinators and members come and go is not worth
    /// telling.
    fn note_refusal(&mut self, code: ErrorCode) {
        if !code.is_retryable() && self.refusal.replace(code) != Some(code) {
            self.notices.push_back(Notice::Refused(self.refused(code)));
        }
    }

    fn leave(&mut self) {
        self.handing_back = None;
        self.owned = Arc::default();
        let known = !self.identity.member_id.is_empty() || self.identity.instance_id.is_some();
        let joined = self.epoch > 0 || !self.identity.member_id.is_empty();
        if known && joined {
            self.actions.clear();
            self.actions.push_back(Action::Leave(self.identity.clone()));
            self.phase = Phase::Leaving;
        } else {
            self.phase = Phase::Ended;
        }
    }

    fn on_audited(
        &mut self,
        now: Instant,
        counts: &Counts,
        held: Option<BTreeSet<TopicPartition>>,
    ) {
        let Some(held) = held else { return };
        let missing = self.topics.iter().any(|topic| {
            let count = counts.get(topic).copied().unwrap_or(0);
            (0..count).any(|number| !held.contains(&TopicPartition::new(Arc::clone(topic), number)))
        });
        if missing {
            self.want_rejoin(now, "partitions that nobody holds");
        }
    }
}

/// Whether it is what we ask for that is refused: no time and no right that is granted mends that.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
            | ErrorCode::INVALID_GROUP_ID
            | ErrorCode::INVALID_SESSION_TIMEOUT
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::UNSUPPORTED_VERSION
    )
}

#[cfg(test)]
mod tests;
