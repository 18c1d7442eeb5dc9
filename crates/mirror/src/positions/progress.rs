//! How far this process is with each source partition, whichever of its streams has it. One
//! [`Registry`] for all streams of a mirror.
//!
//! Always true:
//! - one [`Hold`] on a partition at a time. A stream takes it before it asks where to start. It is
//!   let go with the last record under way, so whoever holds a partition next reads nothing that
//!   may still be written;
//! - only the holder says how far the partition is acknowledged, so the next one never starts
//!   below that;
//! - there are as many entries as the plan has partitions. Those of topics that left it go when
//!   nobody holds them any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kmirror_client::TopicPartition;
use kmirror_client::fetch::Position;
use tokio::sync::watch;

use super::Kept;

/// The progress of all partitions.
#[derive(Debug)]
pub(crate) struct Registry {
    partitions: Mutex<BTreeMap<TopicPartition, Arc<Progress>>>,
    /// Streams that have not had an assignment yet.
    unassigned: AtomicUsize,
    /// Told whenever a hold is let go.
    released: watch::Sender<()>,
}

/// The progress of one partition.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Everything before is acknowledged.
    acknowledged: Option<Position>,
    /// The position that is kept for whoever has the partition next.
    kept: Option<Kept>,
    /// Where the log ended at the start.
    end: Option<i64>,
    /// The source has the position: it answered when it was asked to read from there on.
    is_confirmed: bool,
    /// How it stands with the stream that holds it.
    standing: Option<Standing>,
}

/// How a partition stands with the stream that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It goes on.
    Flowing,
    /// It is held up, for this reason, and tried again.
    HeldUp(String),
    /// It stays as it is until somebody acts.
    Stopped,
}

/// Held by everything that belongs to a partition in a stream, what is under way included.
#[derive(Debug)]
pub(crate) struct Hold {
    progress: Arc<Progress>,
    released: watch::Sender<()>,
}

impl Registry {
    /// For `streams` streams.
    pub(crate) fn new(streams: usize) -> Registry {
        Registry {
            partitions: Mutex::default(),
            unassigned: AtomicUsize::new(streams),
            released: watch::Sender::new(()),
        }
    }

    /// A partition's entry, made at the first call.
    pub(crate) fn of(&self, partition: &TopicPartition) -> Arc<Progress> {
        let mut partitions = self.partitions();
        match partitions.get(partition) {
            Some(progress) => Arc::clone(progress),
            None => Arc::clone(partitions.entry(partition.clone()).or_default()),
        }
    }

    /// The hold on a partition, unless something of it is still under way in a stream.
    pub(crate) fn hold(&self, partition: &TopicPartition) -> Option<Hold> {
        let progress = self.of(partition);
        let standing = &mut progress.inner().standing;
        if standing.is_some() {
            return None;
        }
        *standing = Some(Standing::Flowing);
        Some(Hold { progress: Arc::clone(&progress), released: self.released.clone() })
    }

    /// Tells of holds that are let go from now on.
    pub(crate) fn releases(&self) -> watch::Receiver<()> {
        self.released.subscribe()
    }

    /// Removes what is neither of a topic that `is_planned` nor held.
    pub(crate) fn retain(&self, is_planned: impl Fn(&str) -> bool) {
        self.partitions().retain(|partition, progress| {
            is_planned(&partition.topic) || progress.inner().standing.is_some()
        });
    }

    /// What is acknowledged and not kept, whichever stream had it last.
    pub(crate) fn unkept(&self) -> BTreeMap<TopicPartition, Position> {
        let unkept = |(partition, progress): (&TopicPartition, &Arc<Progress>)| {
            Some((partition.clone(), progress.unkept()?))
        };
        self.partitions().iter().filter_map(unkept).collect()
    }

    /// Notes that a stream had its first assignment. To be called once by each.
    pub(crate) fn note_assigned(&self) {
        self.unassigned.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many streams have had no assignment yet.
    pub(crate) fn unassigned(&self) -> usize {
        self.unassigned.load(Ordering::Acquire)
    }

    /// Whether every stream has had an assignment.
    pub(crate) fn are_all_assigned(&self) -> bool {
        self.unassigned() == 0
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Arc<Progress>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Where the log ended at the start, if that is known.
    pub(crate) fn end(&self) -> Option<i64> {
        self.inner().end
    }

    /// Notes where the log ended at the start; the first word counts.
    pub(crate) fn set_end(&self, end: i64) {
        self.inner().end.get_or_insert(end);
    }

    /// Whether this process mirrored all that was there at the start.
    pub(crate) fn is_caught_up(&self) -> bool {
        let inner = self.inner();
        let confirmed = inner.acknowledged.filter(|_| inner.is_confirmed);
        let position = confirmed.map(|position| position.next_offset);
        position.zip(inner.end).is_some_and(|(position, end)| position >= end)
    }

    /// Notes what is kept. A write may end after its partition was given up, so this takes no hold.
    pub(crate) fn set_kept(&self, kept: Kept) {
        self.inner().kept = Some(kept);
    }

    /// Up to where it is acknowledged, unless just that is kept. A start from which the source
    /// never answered stands for nothing that was mirrored.
    fn unkept(&self) -> Option<Position> {
        let inner = self.inner();
        let acknowledged = inner.acknowledged.filter(|_| inner.is_confirmed)?;
        let kept = inner.kept;
        let is_kept = kept.is_some_and(|kept| kept.next_offset == acknowledged.next_offset);
        (!is_kept).then_some(acknowledged)
    }

    /// How it stands; nothing if no stream holds it.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.inner().standing.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Up to where everything is acknowledged, if this process had the partition before.
    pub(crate) fn acknowledged(&self) -> Option<Position> {
        self.progress.inner().acknowledged
    }

    /// Everything before `position` is acknowledged. If that goes back, the log is another one from
    /// there on.
    pub(crate) fn set_acknowledged(&self, position: Position) {
        let before = self.progress.inner().acknowledged.replace(position);
        if before.is_some_and(|before| position.next_offset < before.next_offset) {
            self.forget_log();
        }
    }

    /// The position that is kept, if any is.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.progress.inner().kept
    }

    /// Notes what is kept; nothing if what is kept is of another log.
    pub(crate) fn set_kept(&self, kept: Option<Kept>) {
        self.progress.inner().kept = kept;
    }

    /// The log is another one: where it ends is asked anew.
    pub(crate) fn forget_log(&self) {
        let mut inner = self.progress.inner();
        inner.end = None;
        inner.is_confirmed = false;
    }

    /// The source answered from the position on. Until then a position at the end of the log may be
    /// one of another log.
    pub(crate) fn confirm(&self) {
        self.progress.inner().is_confirmed = true;
    }

    /// Says how the partition stands.
    pub(crate) fn set_standing(&self, standing: Standing) {
        self.progress.inner().standing = Some(standing);
    }

    /// See [`Progress::is_caught_up`].
    pub(crate) fn is_caught_up(&self) -> bool {
        self.progress.is_caught_up()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.progress.inner().standing = None;
        self.released.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    #[test]
    fn a_partition_is_held_once_and_goes_on_where_the_last_holder_left_it() {
        let registry = Registry::new(2);
        let mut releases = registry.releases();
        let first = registry.hold(&partition()).unwrap();
        assert_eq!(first.acknowledged(), None);
        first.set_acknowledged(Position::at(7));
        assert!(registry.hold(&partition()).is_none());
        assert!(!releases.has_changed().unwrap());
        drop(first);
        assert!(releases.borrow_and_update().eq(&()));
        assert_eq!(registry.hold(&partition()).unwrap().acknowledged(), Some(Position::at(7)));
    }

    #[test]
    fn what_is_acknowledged_and_not_kept_is_known_after_it_was_given_up() {
        let registry = Registry::new(1);
        let kept = |next_offset| Kept { next_offset, written_at: None };
        let hold = registry.hold(&partition()).unwrap();
        assert!(registry.unkept().is_empty(), "it has not begun");
        hold.set_acknowledged(Position::at(7));
        assert!(registry.unkept().is_empty(), "the source has not answered from there");
        hold.confirm();
        hold.set_kept(Some(kept(7)));
        assert!(registry.unkept().is_empty());
        hold.set_acknowledged(Position::at(9));
        drop(hold);
        assert_eq!(registry.unkept(), BTreeMap::from([(partition(), Position::at(9))]));
        registry.of(&partition()).set_kept(kept(9));
        assert!(registry.unkept().is_empty(), "its last write ended late");
    }

    #[test]
    fn a_release_wakes_whoever_waited_before_it() {
        let registry = Registry::new(2);
        let hold = registry.hold(&partition());
        let releases = registry.releases();
        drop(hold);
        assert!(releases.has_changed().unwrap());
    }

    #[test]
    fn the_end_of_the_start_is_kept_until_the_log_is_another_one() {
        let registry = Registry::new(1);
        let (progress, hold) = (registry.of(&partition()), registry.hold(&partition()).unwrap());
        progress.set_end(10);
        progress.set_end(20);
        assert_eq!(progress.end(), Some(10));
        hold.set_acknowledged(Position::at(9));
        assert!(!progress.is_caught_up());
        hold.set_acknowledged(Position::at(10));
        assert!(!progress.is_caught_up(), "the source did not say that it has the position");
        hold.confirm();
        assert!(progress.is_caught_up());
        hold.set_acknowledged(Position::at(3));
        assert_eq!(progress.end(), None);
        assert!(!progress.is_caught_up());
    }

    #[test]
    fn entries_of_topics_that_left_the_plan_go_once_nobody_holds_them() {
        let registry = Registry::new(1);
        let hold = registry.hold(&partition());
        registry.of(&TopicPartition::new("payments", 0));
        registry.retain(|_| false);
        assert_eq!(registry.partitions().len(), 1);
        drop(hold);
        registry.retain(|topic| topic == "orders");
        assert_eq!(registry.partitions().len(), 1);
        registry.retain(|_| false);
        assert_eq!(registry.partitions().len(), 0);
    }

    #[test]
    fn all_are_assigned_once_each_was() {
        let registry = Registry::new(2);
        registry.note_assigned();
        assert!(!registry.are_all_assigned());
        registry.note_assigned();
        assert!(registry.are_all_assigned());
    }
}
