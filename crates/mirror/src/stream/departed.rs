//! Partitions that left a stream while records of theirs were on the wire: they are not read any
//! more, and what waited was dropped, but what comes back is still acknowledged. Whoever in this
//! process gets one of them waits for that and starts behind it, so that nothing is mirrored twice.
//!
//! Bound: a partition is here as long as anything of it is on the wire.

use std::sync::{Arc, Weak};

use kmirror_client::fetch::Position;

use super::STILL_UNDER_WAY;
use super::leaving::Unfinished;
use super::owned::Owned;
use crate::flow::Life;
use crate::positions::progress::Standing;
use crate::stage::commit::{Span, Tracker};

/// Those of one stream.
#[derive(Default)]
pub(super) struct Departed {
    partitions: Vec<Partition>,
}

/// One of them.
struct Partition {
    life: Weak<Life>,
    tracker: Tracker,
    /// Where it stood when it left.
    position: Position,
}

impl Partition {
    fn is_settled(&self) -> bool {
        self.tracker.is_settled() || self.life.strong_count() == 0
    }
}

impl Departed {
    /// Takes a partition that leaves, after what waited was dropped. Whoever waits for the end of
    /// everything is told that it is held up: nobody knows how long.
    pub(super) fn take(&mut self, owned: Owned) {
        self.partitions.retain(|partition| !partition.is_settled());
        if !owned.tracker.is_settled() {
            if let Some(hold) = owned.hold() {
                hold.set_standing(Standing::HeldUp(STILL_UNDER_WAY.to_owned()));
            }
            let (life, position) = (Arc::downgrade(&owned.life), owned.position());
            self.partitions.push(Partition { life, tracker: owned.tracker, position });
        }
    }

    /// Whether nothing of them is on the wire any more.
    pub(super) fn is_settled(&self) -> bool {
        self.partitions.iter().all(Partition::is_settled)
    }

    /// What is on the wire, or may be written and was never acknowledged.
    pub(super) fn unfinished(&self) -> Unfinished {
        let open = self.partitions.iter().filter(|partition| !partition.is_settled());
        open.filter_map(|Partition { life, tracker, .. }| {
            Some((life.upgrade()?.partition.clone(), tracker.position()..tracker.routed()))
        })
        .collect()
    }

    /// Acknowledges what came back of one, if it is one of these.
    pub(super) fn acknowledge(&mut self, life: &Arc<Life>, spans: &[Span]) {
        let is_it = |partition: &&mut Partition| partition.life.as_ptr() == Arc::as_ptr(life);
        let Some(departed) = self.partitions.iter_mut().find(is_it) else { return };
        let Partition { tracker, position, .. } = departed;
        let mut advanced = false;
        for span in spans {
            advanced |= tracker.acknowledge(*span);
        }
        if let Some(hold) = life.hold.as_ref().filter(|_| advanced) {
            hold.set_acknowledged(Position { next_offset: tracker.position(), ..*position });
        }
    }
}
