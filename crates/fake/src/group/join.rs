//! Joining: new and known members, static members, the rebalance and its end.
//!
//! Owned by the group. Always true: every member that joined is answered exactly once, with the
//! generation its join belongs to or with an error.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Group, MEMBERS_MAX, Member, Outcome, Phase};

/// A JoinGroup request, without its wire form.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) member_id: String,
    /// The id to give a member that has none.
    pub(crate) new_member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Bytes)>,
    /// v4 and later: a new member must come back with its id (KIP-394).
    pub(crate) requires_known_id: bool,
    /// How long a first join waits for others.
    pub(crate) initial_delay: Duration,
}

/// What a join answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Joined {
    pub(crate) error: Option<ResponseError>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// (member, instance, metadata); for the leader only.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
    pub(crate) skips_assignment: bool,
}

impl Joined {
    pub(crate) fn failed(error: ResponseError, member_id: &str) -> Joined {
        Joined {
            error: Some(error),
            generation: -1,
            member_id: member_id.to_owned(),
            ..Joined::default()
        }
    }
}

impl Group {
    /// Handles a join.
    pub(crate) fn join(&mut self, join: Join, now: Instant) -> Outcome<Joined> {
        let member_id = join.member_id.clone();
        match self.try_join(join, now) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Ready(Joined::failed(error, &member_id)),
        }
    }

    fn try_join(&mut self, join: Join, now: Instant) -> Result<Outcome<Joined>, ResponseError> {
        if !self.accepts(&join) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if join.member_id.is_empty() {
            return self.join_new(join, now);
        }
        self.check_instance(&join.member_id, join.instance_id.as_deref())?;
        if self.invited.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            return Ok(self.add_member(id, join, now));
        }
        let Some(member) = self.members.get(&join.member_id) else {
            return Err(ResponseError::UnknownMemberId);
        };
        let is_unchanged = member.protocols == join.protocols;
        let is_leader = self.leader.as_ref() == Some(&join.member_id);
        match self.phase {
            Phase::Completing if is_unchanged => Ok(self.joined_again(&join.member_id, now)),
            Phase::Stable if is_unchanged && !is_leader => {
                Ok(self.joined_again(&join.member_id, now))
            }
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing | Phase::Completing | Phase::Stable => Ok(self.rejoin(join, now)),
        }
    }

    fn join_new(&mut self, join: Join, now: Instant) -> Result<Outcome<Joined>, ResponseError> {
        if self.members.len() + self.invited.len() >= MEMBERS_MAX {
            return Err(ResponseError::GroupMaxSizeReached);
        }
        let id = join.new_member_id.clone();
        if let Some(instance) = &join.instance_id {
            return Ok(match self.member_of_instance(instance) {
                Some(old) => self.replace_static(&old, join, now),
                None => self.add_member(id, join, now),
            });
        }
        if join.requires_known_id {
            self.invited.insert(id.clone(), now + join.session_timeout);
            let answer = Joined::failed(ResponseError::MemberIdRequired, &id);
            return Ok(Outcome::Ready(answer));
        }
        Ok(self.add_member(id, join, now))
    }

    /// A static member came back under a new id (KIP-345): no rebalance if nothing changed.
    fn replace_static(&mut self, old: &str, join: Join, now: Instant) -> Outcome<Joined> {
        let id = join.new_member_id.clone();
        let Some(mut member) = self.members.remove(old) else {
            return self.add_member(id, join, now);
        };
        if let Some(waiting) = member.joining.take() {
            let _ = waiting.send(Joined::failed(ResponseError::FencedInstanceId, old));
        }
        if let Some(waiting) = member.syncing.take() {
            let _ = waiting.send(Err(ResponseError::FencedInstanceId));
        }
        let was_leader = self.leader.as_deref() == Some(old);
        let is_unchanged = member.protocols == join.protocols;
        member.touch(now);
        self.members.insert(id.clone(), member);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if self.phase == Phase::Stable && is_unchanged {
            let mut answer = self.answer(&id);
            answer.skips_assignment = was_leader;
            return Outcome::Ready(answer);
        }
        self.rejoin(Join { member_id: id, ..join }, now)
    }

    fn add_member(&mut self, id: String, join: Join, now: Instant) -> Outcome<Joined> {
        let (sender, receiver) = oneshot::channel();
        if self.phase == Phase::Empty {
            self.hold_until = (!join.initial_delay.is_zero()).then(|| now + join.initial_delay);
        }
        self.protocol_type = Some(join.protocol_type);
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            session_deadline: now + join.session_timeout,
            joining: Some(sender),
            syncing: None,
        };
        self.members.insert(id, member);
        self.prepare(now);
        self.try_complete_join(now);
        Outcome::Waiting(receiver)
    }

    fn rejoin(&mut self, join: Join, now: Instant) -> Outcome<Joined> {
        let (sender, receiver) = oneshot::channel();
        if let Some(member) = self.members.get_mut(&join.member_id) {
            member.protocols = join.protocols;
            member.session_timeout = join.session_timeout;
            member.rebalance_timeout = join.rebalance_timeout;
            member.joining = Some(sender);
            member.touch(now);
        }
        self.prepare(now);
        self.try_complete_join(now);
        Outcome::Waiting(receiver)
    }

    fn joined_again(&mut self, id: &str, now: Instant) -> Outcome<Joined> {
        if let Some(member) = self.members.get_mut(id) {
            member.touch(now);
        }
        Outcome::Ready(self.answer(id))
    }

    /// Starts a rebalance unless one is under way.
    pub(crate) fn prepare(&mut self, now: Instant) {
        if self.phase == Phase::Preparing {
            return;
        }
        for member in self.members.values_mut() {
            if let Some(waiting) = member.syncing.take() {
                let _ = waiting.send(Err(ResponseError::RebalanceInProgress));
            }
        }
        self.phase = Phase::Preparing;
        let longest = self.members.values().map(|member| member.rebalance_timeout).max();
        self.join_deadline = Some(now + longest.unwrap_or_default());
    }

    /// Ends the join phase if everybody is there, or if time is up for those who are not.
    pub(crate) fn try_complete_join(&mut self, now: Instant) {
        if self.phase != Phase::Preparing || self.hold_until.is_some() {
            return;
        }
        let is_complete = self.invited.is_empty() && self.members.values().all(Member::is_joining);
        let is_late = self.join_deadline.is_none_or(|deadline| deadline <= now);
        if !is_complete && !is_late {
            return;
        }
        // A static member may be away until its session ends; others are gone (KIP-345).
        self.members.retain(|_, member| member.is_joining() || member.instance_id.is_some());
        self.join_deadline = None;
        self.generation += 1;
        let joined: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.is_joining())
            .map(|(id, _)| id.clone())
            .collect();
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        if joined.is_empty() {
            // Only absent static members: wait for them or for the end of their sessions.
            self.join_deadline = self.members.values().map(|member| member.session_deadline).max();
            return;
        }
        if !self.leader.as_ref().is_some_and(|leader| joined.contains(leader)) {
            self.leader = joined.first().cloned();
        }
        self.protocol = self.vote();
        self.phase = Phase::Completing;
        for id in joined {
            let answer = self.answer(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.touch(now);
            if let Some(waiting) = member.joining.take() {
                let _ = waiting.send(answer);
            }
        }
    }

    pub(crate) fn become_empty(&mut self) {
        self.phase = Phase::Empty;
        self.protocol = None;
        self.leader = None;
    }

    /// The protocol most members want most, among those all of them know.
    fn vote(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let known_by_all = |name: &str| {
            self.members.values().all(|m| m.protocols.iter().any(|(known, _)| known == name))
        };
        let candidates = first.protocols.iter().map(|(name, _)| name);
        let candidates: Vec<&String> = candidates.filter(|name| known_by_all(name)).collect();
        let votes_for = |name: &String| {
            let favourite = |member: &&Member| {
                member.protocols.iter().map(|(known, _)| known).find(|k| candidates.contains(k))
                    == Some(name)
            };
            self.members.values().filter(favourite).count()
        };
        let best = candidates.iter().rev().max_by_key(|name| votes_for(name));
        best.map(|name| (*name).clone())
    }

    fn accepts(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        let others: Vec<&Member> = self
            .members
            .iter()
            .filter(|(id, _)| **id != join.member_id)
            .map(|(_, member)| member)
            .collect();
        if others.is_empty() {
            return true;
        }
        let is_shared =
            |name: &str| others.iter().all(|m| m.protocols.iter().any(|(known, _)| known == name));
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| is_shared(name))
    }

    fn answer(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let listed = self.members.iter().filter(|_| leader == id).map(|(id, member)| {
            let metadata = member.metadata(self.protocol.as_deref());
            (id.clone(), member.instance_id.clone(), metadata)
        });
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            members: listed.collect(),
            leader,
            member_id: id.to_owned(),
            skips_assignment: false,
        }
    }
}
