//! Giving partitions up in good order: read no more, let what was fetched be acknowledged, write
//! the positions, then say so. A revocation does it for some partitions, a drain for all.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::StreamExt;
use kmirror_client::group::HandBack;
use kmirror_client::{TopicPartition, clock};
use tokio::time::Instant;

use super::owned::Phase;
use super::{Stream, Unfinished};
use crate::error::Error;
use crate::flow::Produced;
use crate::positions::Keeper;
use crate::shutdown::{Phase as Ending, Shutdown};
use crate::stage::assign::Change;

/// Partitions on their way out.
pub(super) struct Leaving {
    partitions: BTreeSet<TopicPartition>,
    /// When what is under way is given up.
    flush_until: Instant,
    /// When the positions are given up too.
    write_until: Instant,
    hand_back: Option<HandBack>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What was fetched is awaited.
    Flushing,
    /// The positions are to be written, once the keeper is free.
    Committing,
    /// They are being written.
    Writing,
}

/// Time kept from a revocation's deadline for writing the positions.
const COMMIT_RESERVE: Duration = Duration::from_secs(5);

impl Leaving {
    /// When it has to be looked at again, whatever happens.
    pub(super) fn deadline(&self) -> Instant {
        match self.step {
            Step::Flushing => self.flush_until,
            Step::Committing | Step::Writing => self.write_until,
        }
    }
}

impl Stream {
    /// Begins to give partitions up.
    pub(super) fn begin_leaving(
        &mut self,
        partitions: BTreeSet<TopicPartition>,
        deadline: Instant,
        hand_back: Option<HandBack>,
    ) {
        for partition in &partitions {
            self.fetch.end(partition);
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.leave();
            }
        }
        let half = deadline.saturating_duration_since(clock::now()) / 2;
        let flush_until = deadline - COMMIT_RESERVE.min(half);
        tracing::info!(partitions = partitions.len(), "handing partitions back");
        let (step, write_until) = (Step::Flushing, deadline);
        self.leavings.push(Leaving { partitions, flush_until, write_until, hand_back, step });
        self.advance_leavings();
    }

    /// Takes every step that can be taken now.
    pub(super) fn advance_leavings(&mut self) {
        let mut leavings = std::mem::take(&mut self.leavings);
        leavings.retain_mut(|leaving| !self.advance(leaving));
        self.leavings.append(&mut leavings);
    }

    /// One leaving's step; true when it is over.
    fn advance(&mut self, leaving: &mut Leaving) -> bool {
        if leaving.step == Step::Flushing {
            let flushed = leaving.partitions.iter().all(|partition| self.is_flushed(partition));
            if !flushed && clock::now() < leaving.flush_until {
                return false;
            }
            leaving.step = Step::Committing;
        }
        let is_late = clock::now() >= leaving.write_until;
        // While the keeper is away a write is under way, of this leaving or of the usual round.
        if self.keeper.is_none() && !is_late {
            return false;
        }
        if leaving.step == Step::Committing && !is_late {
            leaving.step = Step::Writing;
            let mut positions = self.positions_to_commit();
            positions.retain(|partition, _| leaving.partitions.contains(partition));
            self.write(positions);
            if self.keeper.is_none() {
                return false;
            }
        }
        for partition in &leaving.partitions {
            self.drop_owned(partition);
        }
        if let Some(hand_back) = leaving.hand_back.take() {
            hand_back.done();
        }
        true
    }

    fn is_flushed(&self, partition: &TopicPartition) -> bool {
        self.owned
            .get(partition)
            .is_none_or(|owned| owned.tracker.is_settled() || !owned.life.is_current())
    }

    /// Finishes what was fetched, writes the positions and leaves the group. Past the configured
    /// time, or when an abort is asked for, gives up what is under way.
    pub(super) async fn drain(mut self, mut shutdown: Shutdown) -> Result<Unfinished, Error> {
        let timeout = self.config.shutdown_timeout;
        let deadline = clock::now() + timeout;
        let partitions: BTreeSet<TopicPartition> = self.owned.keys().cloned().collect();
        for partition in &partitions {
            self.fetch.end(partition);
            if let Some(owned) = self.owned.get_mut(partition) {
                owned.leave();
            }
        }
        // Handed back at the very end, after the last commit; they are given up either way.
        let mut hand_backs = Vec::new();
        let mut is_member = true;
        while !partitions.iter().all(|partition| self.is_flushed(partition)) {
            tokio::select! { biased;
                () = shutdown.reached(Ending::Aborting) => return Ok(self.unfinished()),
                () = tokio::time::sleep_until(deadline) => break,
                produced = self.produce.next() => match produced {
                    // Nothing begins again now: what it was is left undone and reported.
                    Produced::Restart { life, .. } => life.end(),
                    produced => self.take_produced(produced)?,
                },
                Some(job) = self.jobs.next() => self.take_job(job),
                change = self.assign.next(), if is_member => match change {
                    Ok(Change::Revoking { hand_back, .. }) => hand_backs.push(hand_back),
                    Ok(Change::Lost(partitions)) => {
                        partitions.iter().for_each(|partition| self.drop_owned(partition));
                    }
                    Ok(Change::Added(_)) => {}
                    Err(_) => is_member = false,
                },
            }
        }
        let unfinished = self.unfinished();
        tokio::select! { biased;
            () = shutdown.reached(Ending::Aborting) => {}
            () = self.finish(deadline) => {}
        }
        drop(hand_backs);
        self.assign.leave().await;
        Ok(unfinished)
    }

    /// The last commit.
    async fn finish(&mut self, deadline: Instant) {
        let last = deadline.max(clock::now() + COMMIT_RESERVE);
        while self.keeper.is_none() {
            tokio::select! {
                Some(job) = self.jobs.next() => self.take_job(job),
                () = tokio::time::sleep_until(last) => return,
                else => return,
            }
        }
        let positions = self.positions_to_commit();
        if let Some(keeper) = self.keeper.take().filter(Keeper::keeps)
            && !positions.is_empty()
        {
            match tokio::time::timeout_at(last, keeper.write(positions)).await {
                Ok(written) => self.take_written(written),
                Err(_) => tracing::warn!("positions not committed in time"),
            }
        }
    }

    /// What was fetched and not acknowledged, apart from what a refusal stopped: that is reported
    /// as such.
    pub(super) fn unfinished(&self) -> Unfinished {
        let is_stopped =
            |owned: &super::Owned| owned.phase == Phase::Halted && !owned.life.is_current();
        let range = |(partition, owned): (&TopicPartition, &super::Owned)| {
            let (from, to) = (owned.tracker.position(), owned.tracker.routed());
            (from < to && !is_stopped(owned)).then(|| (partition.clone(), from..to))
        };
        self.owned.iter().filter_map(range).collect()
    }
}
