//! Giving partitions up in good order: read no more, let what was fetched be acknowledged, write
//! the positions, then say so. A revocation does it for some partitions, a drain for all. A drain
//! is the one way out, whatever ends the mirror. What the group takes away without asking is given
//! up at once.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt;
use kmirror_client::group::HandBack;
use kmirror_client::{TopicPartition, clock};
use tokio::time::Instant;

use super::owned::Phase;
use super::{Job, Stream};
use crate::error::{Error, chain};
use crate::flow::{Life, Produced, Stall};
use crate::shutdown::{Phase as Ending, Shutdown};
use crate::stage::assign::Change;
use crate::status::State;

/// Partitions on their way out.
pub(super) struct Leaving {
    partitions: BTreeSet<TopicPartition>,
    /// Those of them that cannot be written, so that waiting for them is in vain.
    unwritable: BTreeSet<TopicPartition>,
    /// When what is under way is given up.
    flush_until: Instant,
    /// When the positions are given up too.
    write_until: Instant,
    /// When the positions are written, the first time or again.
    next_write: Instant,
    /// How often they are written again if that fails.
    writes_left: u32,
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

/// What a stream that has ended had fetched and not acknowledged. Nothing after a clean end.
pub(crate) type Unfinished = Vec<(TopicPartition, Range<i64>)>;

/// What the status says of partitions until the next assignment.
const LOST: &str = "lost to the group, whose coordinator may be out of reach; see the log";

/// Time kept from a revocation's deadline for writing the positions.
const COMMIT_RESERVE: Duration = Duration::from_secs(5);

/// How often a revocation writes positions again that could not be written, and the pause before.
const WRITES_AGAIN: u32 = 2;
const WRITE_PAUSE: Duration = Duration::from_secs(1);

impl Leaving {
    /// When it has to be looked at again, whatever happens. While a write is under way its end is
    /// waited for.
    pub(super) fn deadline(&self, is_write_under_way: bool) -> Instant {
        match self.step {
            Step::Flushing => self.flush_until,
            Step::Committing if !is_write_under_way => self.next_write.min(self.write_until),
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
        let mut unwritable = BTreeSet::new();
        for partition in &partitions {
            self.fetch.end(partition);
            if let Some(owned) = self.owned.get_mut(partition) {
                if owned.aside.is_some() {
                    unwritable.insert(partition.clone());
                }
                owned.leave();
            }
        }
        let half = deadline.saturating_duration_since(clock::now()) / 2;
        let flush_until = deadline - COMMIT_RESERVE.min(half);
        tracing::info!(partitions = partitions.len(), "handing partitions back");
        self.leavings.push(Leaving {
            partitions,
            unwritable,
            flush_until,
            write_until: deadline,
            next_write: clock::now(),
            writes_left: WRITES_AGAIN,
            hand_back,
            step: Step::Flushing,
        });
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
            let mut awaited = leaving.partitions.difference(&leaving.unwritable);
            let flushed = awaited.all(|partition| self.is_flushed(partition));
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
        if leaving.step == Step::Writing
            && !is_late
            && self.is_any_unkept(&leaving.partitions)
            && let Some(left) = leaving.writes_left.checked_sub(1)
        {
            leaving.writes_left = left;
            leaving.next_write = clock::now() + WRITE_PAUSE;
            leaving.step = Step::Committing;
        }
        if leaving.step == Step::Committing && !is_late {
            if clock::now() < leaving.next_write {
                return false;
            }
            leaving.step = Step::Writing;
            let mut positions = self.positions_to_commit();
            positions.retain(|partition, _| leaving.partitions.contains(partition));
            self.write(positions);
            if self.keeper.is_none() {
                return false;
            }
        }
        self.give_up(&leaving.partitions).iter().for_each(|cell| self.board.end(cell));
        if let Some(hand_back) = leaving.hand_back.take() {
            hand_back.done();
        }
        true
    }

    /// Notes that a partition makes no progress. If it is being handed back it is not waited for:
    /// the rest of the group waits with it.
    pub(super) fn note_stalled(&mut self, life: &Arc<Life>, stall: &Stall) {
        let Stall { destination, why, .. } = stall;
        for leaving in &mut self.leavings {
            let partition = &life.partition;
            if leaving.partitions.contains(partition)
                && leaving.unwritable.insert(partition.clone())
            {
                tracing::warn!(
                    %partition, %destination, error = why,
                    "partition cannot be written; it is handed back as it is"
                );
            }
        }
    }

    fn is_flushed(&self, partition: &TopicPartition) -> bool {
        self.owned
            .get(partition)
            .is_none_or(|owned| owned.tracker.is_settled() || !owned.life.is_current())
    }

    /// Whether a position of these is not kept, though positions are.
    fn is_any_unkept(&self, partitions: &BTreeSet<TopicPartition>) -> bool {
        let mut owned = partitions.iter().filter_map(|partition| self.owned.get(partition));
        self.keeps && owned.any(|owned| owned.start.is_some() && !owned.is_kept())
    }

    /// The group says these are gone. What is known of them to be acknowledged is kept for whoever
    /// in this process gets them next.
    pub(super) fn lose(&mut self, partitions: &BTreeSet<TopicPartition>) {
        // Should they come back before a revocation of them is over, that is no longer theirs.
        for leaving in &mut self.leavings {
            leaving.partitions.retain(|partition| !partitions.contains(partition));
        }
        for cell in self.give_up(partitions) {
            cell.set_state(State::Retrying, Some(LOST.to_owned()));
            self.lost.push(cell);
        }
    }

    /// Finishes what was fetched, writes the positions and leaves the group. Past the configured
    /// time, or when an abort is asked for, gives up what is under way. `failure` is what ends the
    /// mirror, if that is an error: it is given back after the same end in good order.
    pub(super) async fn drain(
        mut self,
        mut shutdown: Shutdown,
        failure: Option<Error>,
    ) -> Result<Unfinished, Error> {
        let deadline = clock::now() + self.config.shutdown_timeout;
        for (partition, owned) in &mut self.owned {
            self.fetch.end(partition);
            owned.leave();
        }
        let mut draining = Draining { failure, ..Draining::default() };
        let aborted = tokio::select! { biased;
            () = shutdown.reached(Ending::Aborting) => true,
            () = self.flush(deadline, &mut draining) => false,
        };
        if !aborted {
            tokio::select! { biased;
                () = shutdown.reached(Ending::Aborting) => {}
                () = self.write_last(deadline) => {}
            }
        }
        let unfinished = self.unfinished();
        if !aborted {
            drop(draining.hand_backs);
            self.assign.leave().await;
        }
        draining.failure.map_or(Ok(unfinished), Err)
    }

    /// Waits until what was fetched is acknowledged, that of partitions which left before included,
    /// at the longest until `deadline`.
    async fn flush(&mut self, deadline: Instant, draining: &mut Draining) {
        let mut is_member = true;
        let owned: Vec<TopicPartition> = self.owned.keys().cloned().collect();
        let is_flushed = |stream: &Stream| {
            let are_flushed = owned.iter().all(|partition| stream.is_flushed(partition));
            are_flushed && stream.departed.is_settled()
        };
        while !is_flushed(self) {
            tokio::select! { biased;
                () = tokio::time::sleep_until(deadline) => return,
                produced = self.produce.next() => match produced {
                    // Nothing begins again now: what it was is left undone and reported.
                    Produced::Restart { life, .. } => life.end(),
                    produced => {
                        let outcome = self.take_produced(produced);
                        draining.failure = draining.failure.take().or(outcome.err());
                    }
                },
                // What is refused of a partition that left is dropped without another word.
                Ok(()) = self.releases.changed() => {}
                Some(job) = self.jobs.next() => {
                    let outcome = self.take_job(job);
                    draining.failure = draining.failure.take().or(outcome.err());
                }
                change = self.assign.next(), if is_member => match change {
                    // Handed back after the last commit; they are given up either way.
                    Ok(Change::Revoking { hand_back, .. }) => draining.hand_backs.push(hand_back),
                    Ok(Change::Lost(partitions)) => self.lose(&partitions),
                    Ok(Change::Added(_)) => {}
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "the group was left while draining");
                        is_member = false;
                    }
                },
            }
        }
    }

    /// The last commit: of all positions, so that brokers keep those long that did not move.
    async fn write_last(&mut self, deadline: Instant) {
        let last = deadline.max(clock::now() + COMMIT_RESERVE);
        if self.keeper_is_back(last).await {
            let positions = self.positions(|_| true);
            self.write(positions);
        }
        if !self.keeper_is_back(last).await {
            tracing::warn!("positions not committed in time");
        }
    }

    /// Waits for the end of a write that is under way; false if that takes too long.
    async fn keeper_is_back(&mut self, until: Instant) -> bool {
        while self.keeper.is_none() {
            tokio::select! { biased;
                Some(job) = self.jobs.next() => if let Job::Written(written) = job {
                    self.take_written(written);
                },
                () = tokio::time::sleep_until(until) => return false,
            }
        }
        true
    }

    /// What is left now. What a refusal stopped is not: it is reported as such.
    pub(super) fn unfinished(&self) -> Unfinished {
        let is_stopped =
            |owned: &super::Owned| owned.phase == Phase::Halted && !owned.life.is_current();
        let range = |(partition, owned): (&TopicPartition, &super::Owned)| {
            let (from, to) = (owned.tracker.position(), owned.tracker.routed());
            (from < to && !is_stopped(owned)).then(|| (partition.clone(), from..to))
        };
        self.owned.iter().filter_map(range).chain(self.departed.unfinished()).collect()
    }
}

/// What comes up while a stream drains.
#[derive(Default)]
struct Draining {
    /// The first error: what ended the mirror.
    failure: Option<Error>,
    /// Kept until the last commit is over.
    hand_backs: Vec<HandBack>,
}
