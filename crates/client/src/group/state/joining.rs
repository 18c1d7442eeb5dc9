//! The part of the state machine that runs a rebalance: JoinGroup, assignment, SyncGroup.
//!
//! Owned by the group module; see the contract in the parent module.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Action, Attempt, Failure, Join, Joined, LostCause, MISFIT_DELAY, Machine, Notice, Phase,
    Rejoin, is_final,
};
use crate::error_code::ErrorCode;
use crate::group::assignor::{Assignor, Counts, Member};
use crate::group::error::Error;
use crate::group::protocol::{Assignment, NO_GENERATION, Prior, Subscription};
use crate::name::TopicPartition;

impl Machine {
    pub(super) fn join(&mut self, reason: &'static str) {
        // A claim dates from the assignment that gave us what we own. The present generation may be
        // a later one, whose assignment we have never seen and somebody else has (KAFKA-13891).
        let is_of_generation = self.identity.generation != NO_GENERATION;
        let protocols = self.config.assignors.iter().map(|assignor| {
            let subscription = Subscription {
                topics: self.topics.iter().cloned().collect(),
                user_data: assignor.user_data(&self.prior),
                owned: self.owned.iter().cloned().collect(),
                generation: self.prior.generation.filter(|_| is_of_generation),
                rack: None,
            };
            (assignor.name(), subscription.encode())
        });
        let protocols = protocols.collect();
        self.joined_topics = self.topics.clone();
        self.rejoin = None;
        self.phase = Phase::Joining;
        let identity = self.identity.clone();
        self.attempt = Attempt(self.attempt.0 + 1);
        let attempt = self.attempt;
        self.actions.push_back(Action::Join(Join { attempt, identity, protocols, reason }));
    }

    pub(super) fn on_joined(&mut self, now: Instant, result: Result<Joined, Failure>) {
        if !matches!(self.phase, Phase::Joining) {
            return;
        }
        let result = result.inspect_err(|_| self.phase = Phase::Waiting(now));
        match result {
            Ok(joined) => self.on_admitted(now, joined),
            Err(Failure::Code(code)) => self.on_join_refused(now, code),
            Err(Failure::Unreachable) => self.retry(now),
            Err(Failure::Fatal(error)) => self.fail(error),
        }
    }

    fn on_admitted(&mut self, now: Instant, joined: Joined) {
        let Some(assignor) = Assignor::from_name(&joined.assignor)
            .filter(|assignor| self.config.assignors.contains(assignor))
        else {
            let (group_id, name) = (Arc::clone(&self.config.group_id), joined.assignor);
            return self.fail(Error::ForeignAssignor { group_id, name });
        };
        let came_back = self.identity.member_id.is_empty();
        if !joined.knows_instances {
            self.identity.instance_id = None;
        }
        self.session_timeout = match self.identity.instance_id {
            Some(_) => self.config.session_timeout,
            None => self.config.session_timeout_dynamic,
        };
        // An answer may be old when it comes. While we own something only what we sent ourselves
        // tells how long we have been counted in; heartbeats have been going on for that.
        if self.identity().is_none() {
            self.last_contact = now;
            self.heartbeat.due = now + self.config.heartbeat_interval;
        }
        let leads = joined.leader_id == joined.member_id;
        self.identity.member_id = joined.member_id;
        self.identity.generation = joined.generation;
        // A static member that came back was given what it had, whatever has been created since.
        let assigns = leads && !joined.skip_assignment;
        self.audit = came_back && self.identity.instance_id.is_some() && !assigns;

        self.group_topics.clear();
        if leads {
            let topics = joined.members.iter().flat_map(|(_, _, wants)| &wants.topics);
            self.group_topics = topics.cloned().collect();
        }
        if assigns {
            let member = |(id, instance, wants)| Member::new(assignor, id, instance, wants);
            let members = joined.members.into_iter().map(member).collect();
            self.phase = Phase::Assigning(assignor, members);
            self.actions.push_back(Action::LookUp(self.attempt, self.watched().cloned().collect()));
        } else {
            let watched: BTreeSet<Arc<str>> = self.watched().cloned().collect();
            self.seen.retain(|topic, _| watched.contains(topic));
            self.watch.assigned(self.seen.clone(), leads);
            self.sync(now, assignor, Vec::new());
        }
    }

    pub(super) fn on_counted(&mut self, now: Instant, counts: Counts) {
        let Phase::Assigning(assignor, members) = &self.phase else { return };
        let assignor = *assignor;
        let plan = assignor.assign(&counts, members).into_iter().map(|(member, partitions)| {
            let assignment = Assignment { partitions };
            (member, assignment.encode())
        });
        let plan = plan.collect();
        self.seen = counts.clone();
        self.watch.assigned(counts, true);
        self.sync(now, assignor, plan);
    }

    fn sync(&mut self, now: Instant, assignor: Assignor, plan: Vec<(Arc<str>, bytes::Bytes)>) {
        self.phase = Phase::Syncing;
        self.sync_sent = now;
        let (attempt, identity) = (self.attempt, self.identity.clone());
        self.actions.push_back(Action::Sync { attempt, identity, assignor: assignor.name(), plan });
    }

    fn on_join_refused(&mut self, now: Instant, code: ErrorCode) {
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.start_over(now, LostCause::Expelled);
                self.retry(now);
            }
            ErrorCode::FENCED_INSTANCE_ID => self.on_fenced(now),
            ErrorCode::REBALANCE_IN_PROGRESS => self.retry(now),
            code if is_final(code) => self.fail(self.refused(code)),
            code => self.retry_refused(now, code),
        }
    }

    /// The coordinator wants us to join again under the id it has just given us (KIP-394).
    pub(super) fn on_member_id_given(&mut self, member_id: Arc<str>) {
        if matches!(self.phase, Phase::Joining) {
            self.identity.member_id = member_id;
            self.identity.generation = NO_GENERATION;
            self.join("joining with the member id that was given");
        }
    }

    pub(super) fn on_synced(&mut self, now: Instant, result: Result<Vec<TopicPartition>, Failure>) {
        let Phase::Syncing = self.phase else { return };
        let result = result.inspect_err(|_| self.phase = Phase::Waiting(now));
        match result {
            Ok(partitions) => self.on_assignment(now, partitions.into_iter().collect()),
            // Joins again at once.
            Err(Failure::Code(ErrorCode::REBALANCE_IN_PROGRESS)) => {}
            Err(Failure::Code(ErrorCode::UNKNOWN_MEMBER_ID)) => {
                self.start_over(now, LostCause::Expelled);
            }
            Err(Failure::Code(ErrorCode::ILLEGAL_GENERATION)) => {
                self.lose(LostCause::Expelled);
                self.identity.generation = NO_GENERATION;
                self.phase = Phase::Waiting(now);
            }
            Err(Failure::Code(ErrorCode::FENCED_INSTANCE_ID)) => self.on_fenced(now),
            // We sent the name the coordinator chose: the group changed, and the join says how.
            Err(Failure::Code(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)) => self.retry(now),
            Err(Failure::Code(code)) if is_final(code) => self.fail(self.refused(code)),
            Err(Failure::Code(code)) => self.retry_refused(now, code),
            Err(Failure::Unreachable) => self.retry(now),
            Err(Failure::Fatal(error)) => self.fail(error),
        }
    }

    fn on_assignment(&mut self, now: Instant, assigned: BTreeSet<TopicPartition>) {
        self.phase = Phase::Stable;
        self.last_contact = self.last_contact.max(self.sync_sent);
        self.quicken_heartbeat(now);
        self.backoff.reset();
        self.refusal = None;
        self.prior = Prior {
            partitions: assigned.iter().cloned().collect(),
            generation: Some(self.identity.generation),
        };
        let before = assigned.len();
        let assigned: BTreeSet<TopicPartition> = assigned
            .into_iter()
            .filter(|partition| self.topics.contains(&partition.topic))
            .collect();
        if assigned.len() < before {
            self.want_rejoin(now + MISFIT_DELAY, "the assignment has topics not subscribed to");
        } else if self.topics != self.joined_topics {
            self.want_rejoin(now, "the subscription changed");
        }
        let revoked: BTreeSet<TopicPartition> = self.owned.difference(&assigned).cloned().collect();
        let added: BTreeSet<TopicPartition> = assigned.difference(&self.owned).cloned().collect();
        if !added.is_empty() {
            Arc::make_mut(&mut self.owned).extend(assigned);
        }
        if !revoked.is_empty() {
            self.start_hand_back(now, revoked);
            self.want_rejoin(now, "gave partitions up");
        }
        self.epoch += 1;
        self.notices.push_back(Notice::Assigned {
            epoch: self.epoch,
            generation: self.identity.generation,
            added,
            owned: Arc::clone(&self.owned),
        });
        if std::mem::take(&mut self.audit) {
            self.actions.push_back(Action::Audit(self.topics.clone()));
        }
    }

    /// Joins again although it was refused: who refuses a right may grant it, and a server's error
    /// may pass.
    fn retry_refused(&mut self, now: Instant, code: ErrorCode) {
        self.note_refusal(code);
        self.retry(now);
    }

    /// Joins again, after a pause that grows with every failure.
    fn retry(&mut self, now: Instant) {
        let reason = "trying again after an error";
        let at = now + self.backoff.next_delay();
        self.rejoin = Some(Rejoin { reason, at });
        self.phase = Phase::Waiting(at);
    }
}
