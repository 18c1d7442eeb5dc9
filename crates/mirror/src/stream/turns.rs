//! What a stream does about each kind of news from its stages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::TopicPartition;
use kmirror_client::clock;
use kmirror_client::fetch::{Position, Trouble};

use super::owned::Phase;
use super::{Job, RETRY, Stream};
use crate::error::{Error, Halt, chain};
use crate::flow::{Generation, Life, Produced, Skipped};
use crate::metrics::Metric;
use crate::policy::trouble::Reach;
use crate::positions::{Kept, Positions, Written};
use crate::stage::commit::Span;
use crate::stage::fetch::{self, Remedy};
use crate::status::{Cell, State};

/// How often a stream that is to end once caught up looks at all its partitions.
const JUDGEMENT_INTERVAL: Duration = Duration::from_millis(50);

/// The longest pause after a write of positions that failed.
const COMMIT_RETRY: Duration = Duration::from_secs(5);

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
            Produced::Stalled { life, stall } => {
                self.note_stalled(&life, &stall);
                self.put_aside(&life, &stall);
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
        let is_its = |owned: &&mut super::Owned| Arc::ptr_eq(&owned.life, life);
        let Some(owned) = self.owned.get_mut(&life.partition).filter(is_its) else {
            self.departed.acknowledge(life, spans);
            return;
        };
        let mut advanced = false;
        for span in spans {
            advanced |= owned.tracker.acknowledge(*span);
        }
        if !advanced {
            return;
        }
        owned.note_position();
        let cell = owned.cell();
        let is_held_up = owned.phase != Phase::Flowing || owned.onward.is_some();
        if !is_held_up && cell.state() == State::Retrying {
            cell.set_state(State::Running, None);
        }
        if let Some(aside) = owned.aside.take() {
            self.take_up(&life.partition, &aside);
        }
        let Some(owned) = self.owned.get_mut(&life.partition) else { return };
        if owned.is_paused && owned.tracker.open_bytes() < self.share_of_memory() / 2 {
            self.resume(&life.partition.clone());
        }
        self.go_onward_if_settled(&life.partition);
        self.finish_if_caught_up(&life.partition);
    }

    /// Begins a partition again from its position: nobody knows what became of what is behind it.
    fn restart(&mut self, life: &Arc<Life>, why: String) {
        let generation = self.next_generation();
        let Some(owned) = self.owned.get_mut(&life.partition) else { return };
        if !Arc::ptr_eq(&owned.life, life) || !life.is_current() {
            return;
        }
        let is_read = owned.phase == Phase::Flowing;
        let onward = owned.onward.take().filter(|_| is_read);
        let number = life.partition.partition.to_string();
        let values = [&*life.partition.topic, &number];
        self.board.metrics().counter(Metric::ProduceRestarts, values).inc();
        if let Some(onward) = onward {
            self.go_onward(&life.partition, &onward);
            return;
        }
        let position = owned.position();
        owned.rewind(position, generation);
        if is_read {
            owned.cell().set_state(State::Retrying, Some(why));
        }
        let is_aside = owned.is_set_aside();
        self.produce.forget(life);
        self.fetch.end(&life.partition);
        if is_read && is_aside {
            self.line_up(&life.partition);
        } else if is_read {
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
        owned.topic_id = position.topic_id.or(owned.topic_id);
        if fetch::is_log_gone(trouble) {
            owned.tracker.keep();
        }
        match fetch::remedy(trouble, position, &self.config) {
            Remedy::Halt(halt) => return self.halt(partition, halt),
            Remedy::Retry => {
                owned.is_source_troubled = true;
                match trouble {
                    Trouble::Unauthorized => owned.cell().deny(trouble.to_string()),
                    _ => owned.cell().set_state(State::Retrying, Some(trouble.to_string())),
                }
                tracing::warn!(%partition, error = chain(trouble), "source partition in trouble");
                let (partition, generation) = (partition.clone(), owned.life.generation);
                self.jobs.push(Box::pin(async move {
                    clock::sleep(RETRY).await;
                    Job::Retry(partition, generation)
                }));
            }
            Remedy::Continue { from, lost } => self.go_on_elsewhere(partition, from, lost),
        }
        Ok(())
    }

    /// Stops a partition alone; what was fetched before the trouble is still written, if the
    /// destination takes it in time, and committed.
    pub(super) fn halt(&mut self, partition: &TopicPartition, halt: Halt) -> Result<(), Error> {
        self.fetch.end(partition);
        self.board.error(halt.kind());
        tracing::error!(%partition, error = chain(&halt), "partition halted");
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.halt(&halt);
        }
        let trouble = self.config.trouble;
        match if halt.is_refusal() { trouble.reach } else { trouble.source_reach } {
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
    /// partition does not starve the others. One that is only tried gets by with what it has.
    pub(super) fn pause_if_full(&mut self, partition: &TopicPartition) {
        let share = self.share_of_memory();
        let Some(owned) = self.owned.get_mut(partition) else { return };
        if owned.is_set_aside() && !owned.tracker.is_settled() {
            self.fetch.end(partition);
            return;
        }
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

    /// Tells those who wait for the end how every partition stands.
    pub(super) fn judge_if_due(&mut self) {
        let now = clock::now();
        if !self.config.until_caught_up || now < self.next_judgement {
            return;
        }
        self.next_judgement = now + JUDGEMENT_INTERVAL;
        let plan = Arc::clone(&self.plans.borrow());
        let mut ready = Vec::new();
        for (partition, owned) in &self.owned {
            let is_refused =
                plan.topics.get(&partition.topic).is_some_and(|topic| topic.is_refused());
            if let Some(hold) = owned.hold() {
                hold.set_standing(owned.standing(is_refused));
            }
            if owned.phase == Phase::Flowing && owned.is_caught_up() {
                ready.push(partition.clone());
            }
        }
        // Where the log ended at the start may have become known only now.
        ready.iter().for_each(|partition| self.finish_if_caught_up(partition));
    }

    pub(super) fn commit_if_due(&mut self) {
        let now = clock::now();
        if now < self.next_commit || self.keeper.is_none() {
            return;
        }
        self.next_commit = now + self.config.commit_interval;
        let positions = self.positions_to_commit();
        self.write(positions);
    }

    /// What moved, and what was written long ago.
    pub(super) fn positions_to_commit(&self) -> Positions {
        let now = clock::now();
        let is_due = |owned: &super::Owned| !owned.is_kept() || owned.is_kept_for_long(now);
        self.positions(is_due)
    }

    /// The positions of the partitions that have begun and that `are_wanted`.
    pub(super) fn positions(&self, are_wanted: impl Fn(&super::Owned) -> bool) -> Positions {
        let wanted = |owned: &super::Owned| owned.start.is_some() && are_wanted(owned);
        let owned = self.owned.iter().filter(|(_, owned)| wanted(owned));
        owned.map(|(partition, owned)| (partition.clone(), owned.place())).collect()
    }

    /// Writes positions in the background, unless a write is under way already.
    pub(super) fn write(&mut self, positions: Positions) {
        if positions.is_empty() || !self.keeps {
            return;
        }
        if let Some(keeper) = self.keeper.take() {
            self.jobs.push(Box::pin(async move { Job::Written(keeper.write(positions).await) }));
        }
    }

    pub(super) fn take_written(&mut self, written: Written) {
        self.keeper = Some(written.keeper);
        for (partition, place) in &written.positions {
            let (next_offset, written_at) = (place.position.next_offset, Some(clock::now()));
            self.registry.of(partition).set_kept(Kept { next_offset, written_at });
            if let Some(owned) = self.owned.get(partition) {
                owned.cell().set_committed_offset(next_offset);
            }
        }
        match written.failure {
            None => drop(self.counts.commits_ok.inc()),
            Some(error) => {
                self.counts.commits_failed.inc();
                self.board.error("commit");
                tracing::warn!(error, "positions not committed");
                let soon = clock::now() + COMMIT_RETRY;
                self.next_commit = self.next_commit.min(soon);
            }
        }
    }

    pub(super) fn next_generation(&mut self) -> Generation {
        self.generation += 1;
        Generation(self.generation)
    }

    /// Gives partitions up: nothing more of them is read or sent. What is on the wire is still
    /// acknowledged, and this stream holds them until it is. Their cells are still on the board.
    pub(super) fn give_up(&mut self, partitions: &BTreeSet<TopicPartition>) -> Vec<Arc<Cell>> {
        let mut cells = Vec::new();
        for partition in partitions {
            if let Some(owned) = self.owned.remove(partition) {
                owned.life.end();
                self.fetch.end(partition);
                self.produce.forget(&owned.life);
                cells.push(Arc::clone(&owned.life.cell));
                self.departed.take(owned);
            }
        }
        cells
    }
}
