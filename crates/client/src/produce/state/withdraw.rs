//! What a partition's batches wait for, and taking them back while they do.

use tokio::time::Instant;

use super::{Link, State, Way};
use crate::name::TopicPartition;
use crate::produce::entry::{Batch, Leader};
use crate::produce::obstacle::Obstacle;

impl<B: Batch + Clone, T> State<B, T> {
    /// Takes back those of a partition's batches that are on no wire and known not to be written;
    /// says which.
    pub(in crate::produce) fn withdraw(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        wanted: &[u64],
    ) -> Vec<u64> {
        let Some(&index) = self.index.get(partition) else { return Vec::new() };
        let before = self.queues[index].len();
        let withdrawn = self.queues[index].withdraw(wanted, &mut self.done);
        self.count(before, index);
        self.settle(now, index);
        withdrawn
    }

    /// Puts `copy`'s copies in the place of those of a partition's batches that are on no wire.
    pub(in crate::produce) fn copy_out(
        &mut self,
        partition: &TopicPartition,
        copy: impl FnMut(u64, &B) -> Option<B>,
    ) {
        if let Some(&index) = self.index.get(partition) {
            self.queues[index].copy_out(copy);
        }
    }

    /// Why the partition's oldest batch is not written yet.
    pub(in crate::produce) fn obstacle(&self, partition: &TopicPartition) -> Option<Obstacle> {
        let queue = &self.queues[*self.index.get(partition)?];
        if queue.is_empty() {
            return None;
        }
        let Some(Leader { broker, .. }) = queue.leader() else { return Some(Obstacle::NoLeader) };
        let is_open = |link: &Link| matches!(link.way, Way::Open(_));
        Some(match queue.last_code() {
            _ if self.identity.is_none() => Obstacle::NoIdentity,
            _ if !self.links.get(&broker).is_some_and(is_open) => Obstacle::Unreachable(broker),
            Some(code) => Obstacle::Code(code),
            None => Obstacle::Unanswered(broker),
        })
    }
}
