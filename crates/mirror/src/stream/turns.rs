//! What a stream does about each kind of news from its stages.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kmirror_client::TopicPartition;
use kmirror_client::clock;
use kmirror_client::fetch::{Position, Trouble};

use super::owned::Phase;
use super::{Job, RETRY, Stream};
use crate::error::{Error, Halt};
use crate::flow::{Generation, Life, Produced, Skipped};
use crate::metrics::Metric;
use crate::policy::trouble::Reach;
use crate::positions::{Positions, Written};
use crate::stage::commit::Span;
use crate::stage::fetch::{self, Remedy};
use crate::status::State;

/// How often a stream that is to end once caught up looks at all its partitions.
const JUDGEMENT_INTERVAL: Duration = Duration::from_millis(50);

impl Stream {
    pub(super) fn take_produced(&mut self, produced: Produced) -> Result<(), Error> {
        match produced {
            Produced::Acknowledged { life, spans } => {
                self.acknowledge(&life, &spans);
                Ok(())
            }
            Produced::Restart { life, why } => {
                self.restart(&life, why);
                Ok(())
            }
            Produced::Halted { life, halt } if life.is_current() => {
                // What is behind the refused parcel must not be written before it.
                life.end();
                self.produce.forget(&life);
                self.halt(&life.partition, halt)
            }
            Produced::Halted { .. } => Ok(()),
        }
    }

    fn acknowledge(&mut self, life: &Arc<Life>, spans: &[Span]) {
        let Some(owned) = self.owned.get_mut(&life.partition) else { return };
        if !Arc::ptr_eq(&owned.life, life) {
            return;
        }
        let mut advanced = false;
        for span in spans {
            advanced |= owned.tracker.acknowledge(*span);
        }
        if !advanced {
            return;
        }
        let cell = owned.cell();
        cell.set_next_offset(owned.tracker.position());
        if owned.phase == Phase::Flowing && cell.state() == State::Retrying {
            cell.set_state(State::Running, None);
        }
        if owned.is_paused && owned.tracker.open_bytes() < self.share_of_memory() / 2 {
            self.resume(&life.partition.clone());
        }
        self.finish_if_caught_up(&life.partition);
    }

    /// Begins a partition again from its position: nobody knows what became of what is behind it.
    fn restart(&mut self, life: &Arc<Life>, why: String) {
        let generation = self.next_generation();
        let Some(owned) = self.owned.get_mut(&life.partition) else { return };
        if !Arc::ptr_eq(&owned.life, life) || !life.is_current() {
            return;
        }
        let position = owned.position();
        owned.rewind(position, generation);
        let is_read = owned.phase == Phase::Flowing;
        if is_read {
            owned.cell().set_state(State::Retrying, Some(why));
        }
        let number = life.partition.partition.to_string();
        let values = [&*life.partition.topic, &number];
        self.board.metrics().counter(Metric::ProduceRestarts, values).inc();
        self.produce.forget(life);
        self.fetch.end(&life.partition);
        if is_read {
            self.fetch.begin(&life.partition, position);
        }
    }

    pub(super) fn take_trouble(
        &mut self,
        partition: &TopicPartition,
        position: Position,
        trouble: &Trouble,
    ) -> Result<(), Error> {
        let kind = fetch::kind(trouble);
        self.board.error(kind);
        self.board.metrics().counter(Metric::FetchTroubles, [kind]).inc();
        let Some(owned) = self.owned.get_mut(partition) else { return Ok(()) };
        if owned.phase != Phase::Flowing || position.next_offset != owned.tracker.routed() {
            return Ok(());
        }
        match fetch::remedy(trouble, position, &self.config) {
            Remedy::Halt(halt) => return self.halt(partition, halt),
            Remedy::Retry => {
                owned.is_source_troubled = true;
                match trouble {
                    Trouble::Unauthorized => owned.cell().deny(trouble.to_string()),
                    _ => owned.cell().set_state(State::Retrying, Some(trouble.to_string())),
                }
                tracing::warn!(%partition, error = %trouble, "source partition in trouble");
                let (partition, generation) = (partition.clone(), owned.life.generation);
                self.jobs.push(Box::pin(async move {
                    clock::sleep(RETRY).await;
                    Job::Retry(partition, generation)
                }));
            }
            Remedy::Continue { from, lost } => self.go_on_elsewhere(partition, from, &lost),
        }
        Ok(())
    }

    /// Goes on at another offset, because the policy prefers that to standing still.
    fn go_on_elsewhere(&mut self, partition: &TopicPartition, from: i64, lost: &Halt) {
        let generation = self.next_generation();
        let Some(owned) = self.owned.get_mut(partition) else { return };
        tracing::error!(target: "kmirror::ledger", %partition, from, error = %lost, "went on");
        if let Halt::Lost { from, before } = lost {
            let number = partition.partition.to_string();
            let counter = Metric::FetchLostRecords;
            let counter = self.board.metrics().counter(counter, [&*partition.topic, &number]);
            counter.inc_by(u64::try_from(before - from).unwrap_or(0));
        }
        if from >= owned.tracker.routed() {
            // What is under way stays; the position passes the gap once it is written.
            owned.tracker.track(from, 0, 0);
        } else {
            let life = Arc::clone(&owned.life);
            owned.rewind(Position::at(from), generation);
            owned.committed = None;
            self.produce.forget(&life);
        }
        let Some(owned) = self.owned.get(partition) else { return };
        owned.cell().set_next_offset(owned.tracker.position());
        self.fetch.begin(partition, Position::at(from));
    }

    /// Stops a partition alone; what was fetched before the trouble is still written and committed.
    pub(super) fn halt(&mut self, partition: &TopicPartition, halt: Halt) -> Result<(), Error> {
        self.fetch.end(partition);
        self.board.error(halt.kind());
        tracing::error!(%partition, error = %halt, "partition halted");
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.halt(&halt);
        }
        match self.config.trouble.reach {
            Reach::Partition => Ok(()),
            Reach::Mirror => Err(Error::Halted { partition: partition.clone(), source: halt }),
        }
    }

    pub(super) fn account_skipped(&self, partition: &TopicPartition, skipped: &[Skipped]) {
        for Skipped { offset, reason, bytes } in skipped {
            tracing::warn!(
                target: "kmirror::ledger",
                source = %partition, offset, bytes, reason, "left out"
            );
            self.board.skipped(&partition.topic, reason, 1);
        }
    }

    /// Reads no more of a partition whose share of the memory is full, so that a slow destination
    /// partition does not starve the others.
    pub(super) fn pause_if_full(&mut self, partition: &TopicPartition) {
        let share = self.share_of_memory();
        let Some(owned) = self.owned.get_mut(partition) else { return };
        if !owned.is_paused && owned.tracker.open_bytes() >= share {
            owned.is_paused = true;
            self.fetch.pause(partition);
        }
    }

    fn resume(&mut self, partition: &TopicPartition) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.is_paused = false;
            if owned.phase == Phase::Flowing {
                self.fetch.resume(partition);
            }
        }
    }

    /// What one partition may have fetched and not acknowledged: a fair part of the stream's
    /// memory, but two fetches' worth at least.
    fn share_of_memory(&self) -> usize {
        let fair = self.fetch.memory_bytes() / self.owned.len().max(1);
        fair.max(2 * self.config.fetch.partition_bytes_max as usize)
    }

    pub(super) fn finish_if_caught_up(&mut self, partition: &TopicPartition) {
        if !self.config.until_caught_up {
            return;
        }
        let Some(owned) = self.owned.get_mut(partition) else { return };
        if owned.phase == Phase::Flowing && owned.is_caught_up() {
            owned.phase = Phase::Done;
            owned.cell().set_state(State::Done, None);
            self.fetch.end(partition);
        }
    }

    /// Whether this stream has nothing left to do when it is to end once caught up.
    pub(super) fn judge_settled(&mut self) {
        let now = clock::now();
        if !self.config.until_caught_up || now < self.next_judgement {
            return;
        }
        self.next_judgement = now + JUDGEMENT_INTERVAL;
        let refused = |partition: &TopicPartition| {
            let plan = self.plans.borrow();
            plan.topics.get(&partition.topic).is_some_and(|topic| topic.is_refused())
        };
        let settled = self.was_assigned
            && self.owned.iter().all(|(partition, owned)| match owned.phase {
                Phase::Done => true,
                Phase::Halted => owned.tracker.is_settled() || !owned.life.is_current(),
                Phase::Waiting => refused(partition),
                // Not granted, or gone: it would hold up the end for ever.
                Phase::Flowing => owned.is_source_troubled && owned.tracker.is_settled(),
                Phase::Leaving | Phase::Away | Phase::Returning => false,
            });
        self.is_settled.store(settled, Ordering::Release);
    }

    pub(super) fn commit_if_due(&mut self) {
        let now = clock::now();
        if now < self.next_commit {
            return;
        }
        self.next_commit = now + self.config.commit_interval;
        let positions = self.positions_to_commit();
        self.write(positions);
    }

    pub(super) fn positions_to_commit(&self) -> Positions {
        let position = |(partition, owned): (&TopicPartition, &super::Owned)| {
            Some((partition.clone(), owned.to_commit()?))
        };
        let owned = self.owned.iter().filter(|(_, owned)| owned.may_commit());
        owned.filter_map(position).collect()
    }

    /// Writes positions in the background, unless a write is under way already.
    pub(super) fn write(&mut self, positions: Positions) {
        let keeps = self.keeper.as_ref().is_some_and(crate::positions::Keeper::keeps);
        if positions.is_empty() || !keeps {
            return;
        }
        if let Some(keeper) = self.keeper.take() {
            self.jobs.push(Box::pin(async move { Job::Written(keeper.write(positions).await) }));
        }
    }

    pub(super) fn take_written(&mut self, written: Written) {
        self.keeper = Some(written.keeper);
        for (partition, position) in &written.positions {
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.committed = Some(position.next_offset);
                owned.cell().set_committed_offset(position.next_offset);
            }
        }
        match written.failure {
            None => drop(self.counts.commits_ok.inc()),
            Some(error) => {
                self.counts.commits_failed.inc();
                self.board.error("commit");
                tracing::warn!(error, "positions not committed");
            }
        }
    }

    pub(super) fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        Generation(self.generation)
    }

    /// Forgets a partition: whatever is under way is dropped.
    pub(super) fn drop_owned(&mut self, partition: &TopicPartition) {
        if let Some(owned) = self.owned.remove(partition) {
            owned.life.end();
            self.fetch.end(partition);
            self.produce.forget(&owned.life);
            self.board.end(&owned.life.cell);
        }
    }
}
