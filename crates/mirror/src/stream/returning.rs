//! Partitions that the group took away without asking, as when its coordinator could not be reached
//! for a session: they are read no more, but what is under way is still acknowledged. Should the
//! group give them back, they go on where they are, and nothing is mirrored twice.
//!
//! Always true: while a partition is away nothing of it is fetched or committed; it is forgotten
//! when an assignment comes without it, or when somebody else got further with it.

use std::collections::BTreeSet;

use kmirror_client::TopicPartition;
use kmirror_client::fetch::Position;

use super::Stream;
use super::owned::Phase;
use super::start::Start;
use crate::status::State;

impl Stream {
    /// The group says these are gone.
    pub(super) fn lose(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.fetch.end(partition);
            match self.owned.get_mut(partition) {
                Some(owned) if owned.may_come_back() => {
                    owned.phase = Phase::Away;
                    owned.cell().set_state(State::Retrying, Some("lost to the group".to_owned()));
                }
                _ => self.drop_owned(partition),
            }
        }
    }

    /// Sorts what is away by a new assignment: gives the partitions that are kept as they are, and
    /// forgets the others. One that is returning already was in an earlier assignment and stays.
    pub(super) fn welcome_back(&mut self, added: &[TopicPartition]) -> BTreeSet<TopicPartition> {
        let (kept, gone): (BTreeSet<_>, BTreeSet<_>) = self
            .owned
            .iter()
            .filter(|(_, owned)| owned.phase == Phase::Away)
            .map(|(partition, _)| partition.clone())
            .partition(|partition| added.contains(partition));
        gone.iter().for_each(|partition| self.drop_owned(partition));
        for partition in &kept {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.phase = Phase::Returning;
            }
        }
        kept
    }

    /// Goes on with a partition that came back, unless somebody else got further meanwhile: then it
    /// begins anew as any other.
    pub(super) fn come_back(&mut self, start: &Start) {
        let generation = self.next_generation();
        let Some(owned) = self.owned.get_mut(&start.partition) else { return };
        let here = owned.tracker.position();
        if start.is_kept && start.position.next_offset > here {
            let life = owned.life.clone();
            owned.rewind(start.position, generation);
            owned.phase = Phase::Waiting;
            owned.start = None;
            self.produce.forget(&life);
            return;
        }
        owned.phase = Phase::Flowing;
        owned.is_paused = false;
        owned.committed = start.is_kept.then_some(start.position.next_offset);
        owned.cell().set_state(State::Running, None);
        let routed = owned.tracker.routed();
        let leader_epoch = owned.leader_epoch;
        tracing::info!(partition = %start.partition, next_offset = routed, "mirroring goes on");
        self.fetch.begin(&start.partition, Position { next_offset: routed, leader_epoch });
        self.finish_if_caught_up(&start.partition);
    }
}
