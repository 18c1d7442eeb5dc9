//! A partition whose offsets no longer mean what they did: the source's log was cut off, swept away
//! or made anew, or what was mirrored so far is gone from the destination. The policy says whether
//! it stops or goes on.
//!
//! Always true: what was fetched is acknowledged before anything of another log is read, so nothing
//! of it is dropped and the two are never mixed. What can be neither written nor read again is
//! counted and written to the ledger.

use std::ops::Range;
use std::sync::Arc;

use kmirror_client::TopicPartition;
use kmirror_client::fetch::Position;

use super::Stream;
use super::owned::Phase;
use crate::control::plan::Destination;
use crate::error::{Error, Halt, chain};
use crate::metrics::Metric;
use crate::policy::trouble::Lost;
use crate::status::State;

/// Where a partition goes on once nothing is under way any more, and what was lost.
#[derive(Debug)]
pub(super) struct Onward {
    from: Position,
    lost: Halt,
}

impl Stream {
    /// Goes on at another offset, because the policy prefers that to standing still.
    pub(super) fn go_on_elsewhere(
        &mut self,
        partition: &TopicPartition,
        from: Position,
        lost: Halt,
    ) {
        let next_offset = from.next_offset;
        tracing::error!(
            target: "kmirror::ledger", %partition, next_offset, error = chain(&lost), "went on"
        );
        if let Halt::Lost { from: first, before } = lost {
            self.count_lost(partition, first..before);
        }
        let Some(owned) = self.owned.get_mut(partition) else { return };
        if matches!(lost, Halt::Lost { .. }) {
            // It is the same log further on: the position passes the gap once what is under way is
            // acknowledged.
            owned.tracker.track(next_offset, 0, 0);
            owned.leader_epoch = from.leader_epoch;
            owned.note_position();
            self.fetch.begin(partition, from);
            return;
        }
        owned.cell().set_state(State::Retrying, Some(lost.to_string()));
        owned.tracker.keep();
        owned.onward = Some(Onward { from, lost });
        self.go_onward_if_settled(partition);
    }

    /// Begins where it goes on, if nothing is under way any more.
    pub(super) fn go_onward_if_settled(&mut self, partition: &TopicPartition) {
        let Some(owned) = self.owned.get_mut(partition) else { return };
        if owned.phase != Phase::Flowing || !owned.tracker.is_settled() {
            return;
        }
        if let Some(onward) = owned.onward.take() {
            self.go_onward(partition, &onward);
        }
    }

    /// Begins where it goes on. If nobody knows what became of what was under way, that is read
    /// again as far as it is still there.
    pub(super) fn go_onward(&mut self, partition: &TopicPartition, onward: &Onward) {
        let generation = self.next_generation();
        let Some(owned) = self.owned.get_mut(partition) else { return };
        let (position, routed) = (owned.tracker.position(), owned.tracker.routed());
        let Onward { from, lost } = onward;
        let (from, gone) = match lost {
            Halt::Truncated { end, .. } => {
                let next_offset = position.min(from.next_offset);
                (Position { next_offset, ..*from }, position.max(*end)..routed)
            }
            _ => (*from, position..routed),
        };
        let life = Arc::clone(&owned.life);
        owned.rewind(from, generation);
        owned.set_kept(None);
        if let Some(hold) = owned.hold() {
            hold.forget_log();
        }
        owned.cell().set_state(State::Running, None);
        self.produce.forget(&life);
        self.fetch.begin(partition, from);
        if !gone.is_empty() {
            let (first, last) = (gone.start, gone.end - 1);
            tracing::error!(
                target: "kmirror::ledger", %partition, first, last, error = chain(&lost), "lost"
            );
            self.count_lost(partition, gone);
        }
    }

    fn count_lost(&self, partition: &TopicPartition, offsets: Range<i64>) {
        let number = partition.partition.to_string();
        let values = [&*partition.topic, &number];
        let counter = self.board.metrics().counter(Metric::FetchLostRecords, values);
        counter.inc_by(u64::try_from(offsets.end - offsets.start).unwrap_or(0));
    }

    /// Looks whether the destination topic of a partition that is read was made anew.
    pub(super) fn check_destination(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let is_read = |owned: &super::Owned| owned.phase == Phase::Flowing;
        if self.owned.get(partition).is_some_and(is_read) {
            self.accept_destination(partition)?;
        }
        Ok(())
    }

    /// Compares the destination topic with the one that everything so far was mirrored to. False if
    /// it is another one and the policy is to stop.
    pub(super) fn accept_destination(&mut self, partition: &TopicPartition) -> Result<bool, Error> {
        let plan = Arc::clone(&self.plans.borrow());
        let there = plan.topics.get(&partition.topic);
        let Some(topic) = there.filter(|topic| topic.is_there()) else { return Ok(true) };
        let Some(owned) = self.owned.get_mut(partition) else { return Ok(true) };
        let next_offset = owned.tracker.position();
        let has_history = |_: &&Arc<Destination>| next_offset > 0;
        let before = owned.destination.as_ref().filter(has_history);
        let is_other = before.is_some_and(|before| before.differs(&topic.identity));
        let replaced = Halt::Replaced { position: next_offset };
        if is_other && self.config.trouble.lost == Lost::Halt {
            return self.halt(partition, replaced).map(|()| false);
        }
        owned.destination = Some(Arc::clone(&topic.identity));
        if is_other {
            owned.set_kept(None);
            tracing::error!(
                target: "kmirror::ledger", %partition, next_offset, error = chain(&replaced),
                "went on"
            );
        }
        Ok(true)
    }
}
