//! Consumer groups of the classic protocol, as `GroupCoordinator` and `GroupMetadata` run them.
//!
//! Owned by the cluster state, which holds the lock. Pure state: time is an argument, waiting
//! members hold the other end of a oneshot. Always true: a group's generation only grows, and a
//! member waits for at most one join or one sync.

pub(crate) mod join;
pub(crate) mod membership;
pub(crate) mod offsets;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use join::Joined;
use membership::Synced;
use offsets::{Committed, Place};

/// Groups a cluster keeps at most.
const GROUPS_MAX: usize = 100_000;

/// `group.max.size`.
pub(crate) const MEMBERS_MAX: usize = 10_000;

/// The groups of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<String, Group>,
    /// Coordinators a test chose, by group or transactional id.
    pinned: BTreeMap<String, i32>,
    next_member: u64,
}

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Empty,
    /// Members are asked to join.
    Preparing,
    /// The leader is asked for the assignment.
    Completing,
    Stable,
}

impl Phase {
    /// The name that ListGroups and DescribeGroups use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::Preparing => "PreparingRebalance",
            Phase::Completing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) phase: Phase,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Members that were told their id and have not come back with it (KIP-394).
    invited: BTreeMap<String, Instant>,
    /// Until when the members have to join.
    join_deadline: Option<Instant>,
    /// Until when a first join waits for more members.
    hold_until: Option<Instant>,
    pub(crate) offsets: BTreeMap<Place, Committed>,
    /// Offsets that wait for the end of a transaction, by producer id.
    pub(crate) undecided: BTreeMap<i64, BTreeMap<Place, Committed>>,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    /// (name, metadata), most wanted first.
    protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    session_deadline: Instant,
    joining: Option<oneshot::Sender<Joined>>,
    syncing: Option<oneshot::Sender<Result<Synced, ResponseError>>>,
}

impl Member {
    fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    pub(crate) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let named = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        named.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    fn touch(&mut self, now: Instant) {
        self.session_deadline = now + self.session_timeout;
    }
}

/// Either the answer or what will carry it.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Ready(T),
    Waiting(oneshot::Receiver<T>),
}

impl<T> Outcome<T> {
    /// The answer; `otherwise` if the group forgot the member without answering.
    pub(crate) async fn wait(self, otherwise: impl FnOnce() -> T) -> T {
        match self {
            Outcome::Ready(answer) => answer,
            Outcome::Waiting(receiver) => receiver.await.unwrap_or_else(|_| otherwise()),
        }
    }
}

impl Groups {
    pub(crate) fn find(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(crate) fn find_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.get_mut(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group))
    }

    /// The group, made if need be.
    pub(crate) fn entry(&mut self, id: &str) -> Result<&mut Group, ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !self.groups.contains_key(id) && self.groups.len() >= GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        Ok(self.groups.entry(id.to_owned()).or_default())
    }

    /// Deletes an empty group with its offsets.
    pub(crate) fn delete(&mut self, id: &str) -> Result<(), ResponseError> {
        let group = self.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
        if group.phase != Phase::Empty {
            return Err(ResponseError::NonEmptyGroup);
        }
        self.groups.remove(id);
        Ok(())
    }

    pub(crate) fn pinned_coordinator(&self, key: &str) -> Option<i32> {
        self.pinned.get(key).copied()
    }

    pub(crate) fn pin_coordinator(&mut self, key: &str, broker: i32) {
        self.pinned.insert(key.to_owned(), broker);
    }

    pub(crate) fn next_member_number(&mut self) -> u64 {
        self.next_member += 1;
        self.next_member
    }

    /// The next moment at which `tick` has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.groups.values().filter_map(Group::next_deadline).min()
    }

    /// Ends sessions and joins whose time has come.
    pub(crate) fn tick(&mut self, now: Instant) {
        for group in self.groups.values_mut() {
            group.tick(now);
        }
    }
}

impl Group {
    fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter(|member| !member.is_joining());
        let sessions = sessions.map(|member| member.session_deadline);
        let others = self.join_deadline.into_iter().chain(self.hold_until);
        sessions.chain(self.invited.values().copied()).chain(others).min()
    }

    fn tick(&mut self, now: Instant) {
        let is_over = |member: &Member| !member.is_joining() && member.session_deadline <= now;
        let expired = self.members.iter().filter(|(_, member)| is_over(member));
        let expired: Vec<String> = expired.map(|(id, _)| id.clone()).collect();
        for id in expired {
            self.remove(&id, now);
        }
        self.invited.retain(|_, until| *until > now);
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
        }
        self.try_complete_join(now);
    }
}
