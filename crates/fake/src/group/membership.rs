//! Being a member: sync, heartbeat, leave, and the checks every member request passes.
//!
//! Owned by the group. Always true: a request of an older generation changes nothing.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Group, Outcome, Phase};

/// Who says they are a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) member_id: &'a str,
    pub(crate) instance_id: Option<&'a str>,
    pub(crate) generation: i32,
}

/// What a sync answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Group {
    /// Whether the claim is true.
    pub(crate) fn check(&self, claim: Claim<'_>) -> Result<(), ResponseError> {
        self.check_instance(claim.member_id, claim.instance_id)?;
        if !self.members.contains_key(claim.member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if claim.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    /// Whether a static member is still the one who holds its instance id.
    pub(crate) fn check_instance(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        let Some(instance_id) = instance_id else { return Ok(()) };
        match self.member_of_instance(instance_id) {
            None => Err(ResponseError::UnknownMemberId),
            Some(current) if current != member_id => Err(ResponseError::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn member_of_instance(&self, instance_id: &str) -> Option<String> {
        let holds = |member: &super::Member| member.instance_id.as_deref() == Some(instance_id);
        self.members.iter().find(|(_, member)| holds(member)).map(|(id, _)| id.clone())
    }

    /// Handles a sync; the leader's carries the assignments.
    pub(crate) fn sync(
        &mut self,
        claim: Claim<'_>,
        assignments: Vec<(String, Bytes)>,
        now: Instant,
    ) -> Outcome<Result<Synced, ResponseError>> {
        if let Err(error) = self.check(claim) {
            return Outcome::Ready(Err(error));
        }
        match self.phase {
            Phase::Empty => Outcome::Ready(Err(ResponseError::UnknownMemberId)),
            Phase::Preparing => Outcome::Ready(Err(ResponseError::RebalanceInProgress)),
            Phase::Stable => {
                let _ = self.heartbeat(claim, now);
                Outcome::Ready(Ok(self.synced(claim.member_id)))
            }
            Phase::Completing => {
                let (sender, receiver) = oneshot::channel();
                if let Some(member) = self.members.get_mut(claim.member_id) {
                    member.syncing = Some(sender);
                    member.touch(now);
                }
                if self.leader.as_deref() == Some(claim.member_id) {
                    self.assign(assignments, now);
                }
                Outcome::Waiting(receiver)
            }
        }
    }

    /// Notes that a member lives.
    pub(crate) fn heartbeat(
        &mut self,
        claim: Claim<'_>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.check(claim)?;
        if let Some(member) = self.members.get_mut(claim.member_id) {
            member.touch(now);
        }
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing => Err(ResponseError::RebalanceInProgress),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// Handles the leave of one member, named by id or by instance.
    pub(crate) fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        let by_instance = instance_id.and_then(|instance| self.member_of_instance(instance));
        let id = match (&by_instance, instance_id) {
            (None, Some(_)) => return Err(ResponseError::UnknownMemberId),
            (Some(current), _) if !member_id.is_empty() && current != member_id => {
                return Err(ResponseError::FencedInstanceId);
            }
            (Some(current), _) => current.as_str(),
            (None, None) => member_id,
        };
        if self.invited.remove(id).is_some() {
            self.try_complete_join(now);
            return Ok(());
        }
        if !self.members.contains_key(id) {
            return Err(ResponseError::UnknownMemberId);
        }
        let id = id.to_owned();
        self.remove(&id, now);
        Ok(())
    }

    /// Takes a member out and rebalances the rest.
    pub(crate) fn remove(&mut self, id: &str, now: Instant) {
        // Dropping the member drops its waiting answers; whoever waits is told it is unknown.
        if self.members.remove(id).is_none() {
            return;
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        if matches!(self.phase, Phase::Stable | Phase::Completing) {
            self.prepare(now);
        }
        self.try_complete_join(now);
    }

    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        self.phase = Phase::Stable;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(waiting) = member.syncing.take() {
                member.touch(now);
                let _ = waiting.send(Ok(answer));
            }
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }
}
