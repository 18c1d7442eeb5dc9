//! Parcels that are not to be sent, or cannot be: which lanes make no progress, and how what was
//! handed to the producer is taken back.
//!
//! Always true: what is taken back is on no wire and known not to be written, so that sending it
//! again, here or elsewhere, repeats nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::clock;
use kmirror_client::produce::{BatchId, Obstacle};
use tokio::time::Instant;

use super::{Lane, Mood, News, Produce, Waiting};
use crate::flow::{Generation, Life, Produced, Stall};
use crate::stage::commit::{Span, Tracker};

/// How often lanes are looked at while any has something to send.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// After this long without an acknowledgement a lane makes no progress, if the reason is known.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(3);

/// The same if another lane made none [lately](LATELY) either: then it is more likely so, and what
/// many hold together is more.
pub(super) const STALLED_AFTER_ANOTHER: Duration = Duration::from_secs(1);

/// For so long a lane that made no progress counts, even if what it had was taken back: it may have
/// something to send again, or never.
pub(super) const LATELY: Duration = Duration::from_secs(30);

/// The same if all that is known is that the leader has not answered: it may be slow or far.
const SILENT_AFTER: Duration = Duration::from_secs(10);

impl Produce {
    /// Drops everything of an ended life that is on no wire. What is left is dropped by
    /// [`Produce::look`], should the destination not take it.
    pub(crate) fn forget(&mut self, life: &Arc<Life>) {
        for lane in self.used.remove(&life.generation).unwrap_or_default() {
            self.drop_ended(lane);
        }
    }

    /// Drops what a lane has of ended lives, on no wire and known not to be written.
    fn drop_ended(&mut self, lane: usize) {
        self.take_back(lane, |life| !life.is_current());
        self.lanes[lane].waiting.retain(|waiting| waiting.receipt.life.is_current());
        self.pump(lane);
    }

    /// Frees what can be freed of a life that makes no progress: drops what can be read again, as
    /// `tracker` then says, and copies the rest out of the answers it is in. True if something is
    /// left that is still tried.
    pub(crate) fn put_aside(&mut self, life: &Arc<Life>, tracker: &mut Tracker) -> bool {
        let mut lanes = self.used.remove(&life.generation).unwrap_or_default();
        lanes.iter().for_each(|lane| self.take_back(*lane, |other| std::ptr::eq(other, &**life)));
        let is_of_life = |waiting: &Waiting| Arc::ptr_eq(&waiting.receipt.life, life);
        let waiting = lanes.iter().flat_map(|lane| &self.lanes[*lane].waiting);
        let spans: Vec<&[Span]> = waiting
            .filter(|waiting| is_of_life(waiting) && !waiting.receipt.is_begun)
            .map(|waiting| &waiting.receipt.spans[..])
            .collect();
        let cut = tracker.cut(&spans);
        lanes.retain(|&lane| {
            self.lanes[lane].waiting.retain(|waiting| {
                let is_cut = cut.is_some_and(|cut| waiting.receipt.spans[0] >= cut);
                !(is_of_life(waiting) && is_cut)
            });
            self.copy_out(lane, life);
            let is_left = self.lanes[lane].parcels().any(is_of_life);
            if !is_left {
                self.lanes[lane].forget_last(life.generation);
            }
            self.pump(lane);
            is_left
        });
        let is_any_left = !lanes.is_empty();
        if is_any_left {
            self.used.insert(life.generation, lanes);
        }
        is_any_left
    }

    /// Takes what the producer has of the lives that `are_meant` back to the front of the lane, as
    /// far as it can be.
    fn take_back(&mut self, lane: usize, are_meant: impl Fn(&Life) -> bool) {
        let lane = &mut self.lanes[lane];
        let is_meant = |flying: &&super::Flying| {
            flying.failure.is_none() && are_meant(&flying.waiting.receipt.life)
        };
        let ids: Vec<BatchId> =
            lane.in_flight.iter().filter(is_meant).filter_map(|flying| flying.id).collect();
        if ids.is_empty() {
            return;
        }
        let withdrawn = self.producer.withdraw(&lane.partition, &ids);
        for at in (0..lane.in_flight.len()).rev() {
            if lane.in_flight[at].id.is_some_and(|id| withdrawn.contains(&id))
                && let Some(flying) = lane.in_flight.remove(at)
            {
                lane.waiting.push_front(flying.waiting);
            }
        }
    }

    /// Copies the parcels of a life out of the answers they are in, so that those can be freed.
    /// What is on a wire stays where it is.
    fn copy_out(&mut self, lane: usize, life: &Arc<Life>) {
        let lane = &mut self.lanes[lane];
        let is_leased = |waiting: &Waiting| {
            waiting.receipt.lease.is_some() && Arc::ptr_eq(&waiting.receipt.life, life)
        };
        for waiting in lane.waiting.iter_mut().filter(|waiting| is_leased(waiting)) {
            waiting.outgoing = waiting.outgoing.copied(&self.budget);
            waiting.receipt.lease = None;
        }
        let leased = lane.in_flight.iter().filter(|flying| is_leased(&flying.waiting));
        let ids: Vec<BatchId> = leased.filter_map(|flying| flying.id).collect();
        if ids.is_empty() {
            return;
        }
        for (id, outgoing) in self.producer.copy_out(&lane.partition, &ids, &self.budget) {
            let flying = lane.in_flight.iter_mut().find(|flying| flying.id == Some(id));
            if let Some(flying) = flying {
                flying.waiting.outgoing = outgoing;
                flying.waiting.receipt.lease = None;
            }
        }
    }

    /// Sees to it that lanes without progress are found.
    pub(super) fn watch(&mut self) {
        if !std::mem::replace(&mut self.is_watching, true) {
            self.deliveries.push(Box::pin(async {
                clock::sleep(WATCH_INTERVAL).await;
                News::Watch
            }));
        }
    }

    /// Tells of each life in a lane without progress, once, whatever the number of its lanes, for
    /// [`Produce::put_aside`] sees to all of them; and drops what came back of ended ones: the
    /// producer would send it again until it is written, which may be after newer records that
    /// whoever reads the partition now has sent.
    pub(super) fn look(&mut self) {
        self.is_watching = false;
        let now = clock::now();
        let after = self.patience(now);
        let mut told = HashSet::new();
        for index in 0..self.lanes.len() {
            self.drop_ended(index);
            if self.lanes[index].is_idle() {
                continue;
            }
            if let Some(stall) = self.stall(&self.lanes[index], after) {
                self.lanes[index].stalled_at = Some(now);
                for waiting in self.lanes[index].parcels() {
                    let life = &waiting.receipt.life;
                    if life.is_current() && told.insert(life.generation) {
                        let (life, stall) = (Arc::clone(life), stall.clone());
                        self.produced.push_back(Produced::Stalled { life, stall });
                    }
                }
            }
            self.watch();
        }
    }

    /// How long a lane may be without an acknowledgement.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let is_of_late = |at: Instant| now.duration_since(at) < LATELY;
        let is_any_stalled = self.lanes.iter().any(|lane| lane.stalled_at.is_some_and(is_of_late));
        if is_any_stalled { STALLED_AFTER_ANOTHER } else { STALLED_AFTER }
    }

    /// What is wrong with a lane that has something to send, if it makes no progress.
    fn stall(&self, lane: &Lane, after: Duration) -> Option<Stall> {
        let waited = clock::now().duration_since(lane.since);
        if waited < after {
            return None;
        }
        let (kind, why) = match (&lane.failure, lane.mood) {
            (Some((kind, why)), Mood::Failing | Mood::Resting) => ((*kind).to_owned(), why.clone()),
            _ => match self.producer.obstacle(&lane.partition)? {
                Obstacle::Unanswered(_) if waited < SILENT_AFTER => return None,
                obstacle => (kind(&obstacle), obstacle.to_string()),
            },
        };
        Some(Stall { destination: lane.partition.clone(), kind, why, waited })
    }
}

impl Lane {
    /// What it has, under way and waiting.
    fn parcels(&self) -> impl Iterator<Item = &Waiting> {
        self.in_flight.iter().map(|flying| &flying.waiting).chain(&self.waiting)
    }

    /// Nothing of that life is left.
    fn forget_last(&mut self, generation: Generation) {
        self.last = self.last.filter(|last| *last != generation);
    }
}

/// A word for an obstacle, for counting.
fn kind(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Code(code) => code.to_string().to_lowercase(),
        Obstacle::NoIdentity => "no_producer_id".to_owned(),
        Obstacle::NoLeader => "no_leader".to_owned(),
        Obstacle::Unreachable(_) => "unreachable".to_owned(),
        _ => "unanswered".to_owned(),
    }
}
