//! What a test sees of groups and transactions, and does to them.
//!
//! Always true: nothing here goes through a connection, an interceptor or the journal.

use tokio::sync::Notify;

use super::Cluster;
use crate::clock;
use crate::error::Error;
use crate::group::offsets::Committed;
use crate::transaction::Phase;

/// A consumer group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupView {
    /// Empty, PreparingRebalance, CompletingRebalance or Stable.
    pub state: &'static str,
    /// The generation.
    pub generation: i32,
    /// The protocol the members agreed on.
    pub protocol: Option<String>,
    /// The member ids, in order.
    pub members: Vec<String>,
}

/// A transactional id as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionView {
    /// The producer id.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// Whether a transaction is open.
    pub is_ongoing: bool,
}

impl Cluster {
    /// The next offset the group committed for a partition.
    #[must_use]
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let state = self.shared.state();
        let place = (topic.to_owned(), partition);
        state.groups.find(group)?.offsets.get(&place).map(|committed| committed.next_offset)
    }

    /// Commits for a group, whoever its members are.
    ///
    /// # Errors
    /// [`Error::Refused`] for an empty group id.
    pub fn commit_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        next_offset: i64,
    ) -> Result<(), Error> {
        let mut state = self.shared.state();
        let committed = Committed { next_offset, leader_epoch: -1, metadata: None };
        let place = (topic.to_owned(), partition);
        let outcome = state.groups.entry(group).and_then(|group| group.commit(place, committed));
        outcome.map_err(|code| Error::Refused { code, message: group.to_owned() })
    }

    /// A group as it stands; `None` if nobody ever used it.
    #[must_use]
    pub fn group(&self, group: &str) -> Option<GroupView> {
        let state = self.shared.state();
        let group = state.groups.find(group)?;
        Some(GroupView {
            state: group.phase.name(),
            generation: group.generation,
            protocol: group.protocol.clone(),
            members: group.members.keys().cloned().collect(),
        })
    }

    /// Makes every member of a group join again.
    pub fn rebalance_group(&self, group: &str) {
        if let Some(group) = self.shared.state().groups.find_mut(group)
            && !group.members.is_empty()
        {
            group.prepare(clock::now());
        }
        self.notice_deadlines();
    }

    /// Ends a member's session as if its heartbeats had stopped; false if there is no such member.
    pub fn expire_member(&self, group: &str, member: &str) -> bool {
        let mut state = self.shared.state();
        let Some(group) = state.groups.find_mut(group) else { return false };
        let is_known = group.members.contains_key(member);
        group.remove(member, clock::now());
        drop(state);
        self.notice_deadlines();
        is_known
    }

    /// Makes `broker` the coordinator of a group or transactional id; state moves with it.
    pub fn move_coordinator(&self, key: &str, broker: i32) {
        self.shared.state().groups.pin_coordinator(key, broker);
    }

    /// The coordinator of a group or transactional id.
    #[must_use]
    pub fn coordinator(&self, key: &str) -> Option<i32> {
        self.shared.state().coordinator_of(key)
    }

    /// A transactional id as it stands.
    #[must_use]
    pub fn transaction(&self, id: &str) -> Option<TransactionView> {
        let (producer, phase) = self.shared.state().transactions.status(id)?;
        Some(TransactionView {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            is_ongoing: phase == Phase::Ongoing,
        })
    }

    fn notice_deadlines(&self) {
        Notify::notify_one(&self.shared.deadlines);
    }
}
