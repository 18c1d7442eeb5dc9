//! One source partition as its stream keeps it: its life, how far it is, and whether it may be
//! read.

use std::sync::Arc;

use kmirror_client::TopicPartition;
use kmirror_client::batch::Codec;
use kmirror_client::batch::passthrough::LogAppendTime;
use kmirror_client::fetch::Position;
use tokio::time::Instant;
use uuid::Uuid;

use super::aside::Aside;
use super::elsewhere::Onward;
use crate::config::{Compression, Config};
use crate::control::plan::{Destination, TopicPlan};
use crate::error::Halt;
use crate::flow::{Generation, Life};
use crate::policy::partitioning::Mapping;
use crate::policy::trouble::AppendTime;
use crate::positions::progress::{Hold, Standing};
use crate::positions::{Kept, Place};
use crate::stage::commit::Tracker;
use crate::stage::produce::Produce;
use crate::stage::route;
use crate::status::{Cell, State};

/// A source partition of this stream.
pub(super) struct Owned {
    pub(super) life: Arc<Life>,
    pub(super) tracker: Tracker,
    pub(super) phase: Phase,
    /// How its batches are routed, and the name of the destination topic.
    pub(super) route: Option<Arc<Route>>,
    /// Where it starts; known before it is read.
    pub(super) start: Option<Position>,
    /// The leader epoch of the last batch fetched.
    pub(super) leader_epoch: Option<i32>,
    /// The id of the topic that its offsets belong to.
    pub(super) topic_id: Option<Uuid>,
    /// The topic that everything before its position was mirrored to.
    pub(super) destination: Option<Arc<Destination>>,
    /// Where it goes on once nothing is under way any more.
    pub(super) onward: Option<Onward>,
    pub(super) is_paused: bool,
    /// It cannot be written.
    pub(super) aside: Option<Aside>,
    /// The source was in trouble when it was last asked.
    pub(super) is_source_troubled: bool,
    lanes: Lanes,
}

/// The lanes to the destination's partitions that were written to: mostly one, so there is room for
/// those alone, not for every partition of a large topic.
#[derive(Debug, Default)]
struct Lanes {
    /// In the order of the partitions' numbers.
    known: Vec<(i32, usize)>,
}

impl Lanes {
    /// The lane to a partition; if it is not known it is asked for.
    fn find(&mut self, partition: i32, ask: impl FnOnce() -> usize) -> usize {
        match self.known.binary_search_by_key(&partition, |(partition, _)| *partition) {
            Ok(index) => self.known[index].1,
            Err(index) => {
                let lane = ask();
                self.known.insert(index, (partition, lane));
                lane
            }
        }
    }
}

/// Routing of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) topic: Arc<str>,
    pub(super) plan: route::Plan,
}

/// What an owned partition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is not held yet, or its position or its destination is not known yet.
    Waiting,
    /// It is read.
    Flowing,
    /// It is not read; it is being handed back or drained.
    Leaving,
    /// It stopped.
    Halted,
    /// It is where it was to get.
    Done,
}

impl Owned {
    pub(super) fn new(partition: TopicPartition, generation: Generation, cell: Arc<Cell>) -> Owned {
        Owned {
            life: Arc::new(Life::new(partition, generation, cell)),
            tracker: Tracker::new(0),
            phase: Phase::Waiting,
            route: None,
            start: None,
            leader_epoch: None,
            topic_id: None,
            destination: None,
            onward: None,
            is_paused: false,
            aside: None,
            is_source_troubled: false,
            lanes: Lanes::default(),
        }
    }

    /// Begins to give it up in good order; what stopped stays so.
    pub(super) fn leave(&mut self) {
        if self.phase != Phase::Halted {
            self.phase = Phase::Leaving;
        }
    }

    /// Takes the hold on it, so that its start can be looked up.
    pub(super) fn take_hold(&mut self, hold: Hold) {
        self.begin_life(self.life.generation, Some(Arc::new(hold)));
    }

    fn begin_life(&mut self, generation: Generation, hold: Option<Arc<Hold>>) {
        let (partition, cell) = (self.life.partition.clone(), Arc::clone(&self.life.cell));
        self.life = Arc::new(Life::new(partition, generation, cell).holding(hold));
    }

    pub(super) fn hold(&self) -> Option<&Hold> {
        self.life.hold.as_deref()
    }

    /// Whether it cannot be written, and is read no more but to try.
    pub(super) fn is_set_aside(&self) -> bool {
        self.aside.as_ref().is_some_and(Aside::is_set_aside)
    }

    pub(super) fn cell(&self) -> &Cell {
        &self.life.cell
    }

    /// Sets where it starts: at `start`, or where this process is already if that is further on in
    /// the same topic.
    pub(super) fn set_start(&mut self, start: Position, is_kept: bool) {
        let written_at = None;
        let kept = is_kept.then_some(Kept { next_offset: start.next_offset, written_at });
        self.set_kept(kept);
        let is_ahead = |known: &Position| {
            let are_others = known.topic_id.zip(start.topic_id).is_some_and(|(one, it)| one != it);
            !is_kept || (!are_others && known.next_offset > start.next_offset)
        };
        let known = self.hold().and_then(Hold::acknowledged).filter(is_ahead);
        let start = known.unwrap_or(start);
        self.tracker = Tracker::new(start.next_offset);
        self.leader_epoch = start.leader_epoch;
        self.topic_id = start.topic_id;
        self.start = Some(start);
        self.note_position();
    }

    /// Tells the others of this process, and the status, how far it is.
    pub(super) fn note_position(&self) {
        self.cell().set_next_offset(self.tracker.position());
        if let Some(hold) = self.hold() {
            hold.set_acknowledged(self.position());
        }
    }

    /// Takes a new plan for its topic. Mappings that are missing for now leave an older one in
    /// force.
    pub(super) fn replan(&mut self, topic: &TopicPlan, config: &Config) {
        let number = self.life.partition.partition;
        let mapping = topic.mapping(number, config);
        if mapping == Mapping::Missing {
            if self.phase == Phase::Waiting {
                let why = topic.why().unwrap_or("the destination has no such partition");
                self.cell().set_state(State::Waiting, Some(why.to_owned()));
            }
            return;
        }
        let plan = route_plan(number, mapping, topic, config);
        let route = Route { topic: Arc::clone(&topic.destination), plan };
        if self.route.as_deref() != Some(&route) {
            self.lanes = Lanes::default();
            self.route = Some(Arc::new(route));
        }
    }

    /// The lane to a destination partition.
    pub(super) fn lane(&mut self, produce: &mut Produce, route: &Route, partition: i32) -> usize {
        self.lanes.find(partition, || {
            let to = TopicPartition::new(Arc::clone(&route.topic), partition);
            produce.lane(&to, route.plan.batch_bytes_max)
        })
    }

    /// Where it stands: everything before is acknowledged.
    pub(super) fn position(&self) -> Position {
        self.at(self.tracker.position())
    }

    /// Where it is to be read on.
    pub(super) fn reading(&self) -> Position {
        self.at(self.tracker.routed())
    }

    /// An offset of what was fetched. The epoch of its last batch may be above the offset's own,
    /// and shows a log that was cut off before the offset all the same: it ends there for every
    /// epoch from the cut on.
    fn at(&self, next_offset: i64) -> Position {
        Position { next_offset, leader_epoch: self.leader_epoch, topic_id: self.topic_id }
    }

    /// What to write.
    pub(super) fn place(&self) -> Place {
        Place { position: self.position(), destination: self.destination.clone() }
    }

    fn kept(&self) -> Option<Kept> {
        self.hold().and_then(Hold::kept)
    }

    /// Notes what is kept; nothing if what is kept is of another log.
    pub(super) fn set_kept(&self, kept: Option<Kept>) {
        if let Some(hold) = self.hold() {
            hold.set_kept(kept);
        }
    }

    /// Whether its position is what is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.kept().is_some_and(|kept| kept.next_offset == self.tracker.position())
    }

    /// Whether its position has been kept for so long that it is to be written again.
    pub(super) fn is_kept_for_long(&self, now: Instant) -> bool {
        self.kept().is_some_and(|kept| kept.is_old(now))
    }

    /// Whether it has mirrored everything that was there at the start.
    pub(super) fn is_caught_up(&self) -> bool {
        self.onward.is_none() && self.hold().is_some_and(Hold::is_caught_up)
    }

    /// How it stands, for whoever waits for the end.
    pub(super) fn standing(&self, is_topic_refused: bool) -> Standing {
        match self.phase {
            // What was routed before the trouble is still written.
            Phase::Halted if self.tracker.is_settled() || !self.life.is_current() => {
                Standing::Stopped
            }
            Phase::Waiting if is_topic_refused => Standing::Stopped,
            _ => self.cell().held_up().map_or(Standing::Flowing, Standing::HeldUp),
        }
    }

    /// Begins a new life at its position; what is under way belongs to the old one.
    pub(super) fn rewind(&mut self, position: Position, generation: Generation) {
        self.life.end();
        self.begin_life(generation, self.life.hold.clone());
        self.tracker = Tracker::new(position.next_offset);
        self.leader_epoch = position.leader_epoch;
        self.topic_id = position.topic_id;
        self.onward = None;
        self.is_paused = false;
        self.note_position();
    }

    /// Stops it where it is.
    pub(super) fn halt(&mut self, halt: &Halt) {
        self.phase = Phase::Halted;
        self.cell().halt(halt.clone());
    }
}

/// What route has to know, from the topic's plan and the operator's policies.
fn route_plan(number: i32, mapping: Mapping, topic: &TopicPlan, config: &Config) -> route::Plan {
    let (source, destination) = (topic.source_traits, topic.destination_traits);
    let clears = destination.log_append_time || config.trouble.append_time == AppendTime::Created;
    let limit = destination.batch_bytes_max.map_or(usize::MAX, |bytes| bytes as usize);
    let lacks_keys = destination.compacted && !source.compacted;
    route::Plan {
        mapping,
        source_partition: number,
        append_time: if clears { LogAppendTime::Clear } else { LogAppendTime::Refuse },
        null_key: lacks_keys.then_some(config.trouble.null_key),
        codec: codec(config.produce.compression),
        small_batch_bytes: config.produce.small_batch_bytes as usize,
        batch_bytes: (config.produce.batch_bytes as usize).min(limit),
        batch_bytes_max: limit,
    }
}

fn codec(compression: Compression) -> Option<Codec> {
    match compression {
        Compression::Keep => None,
        Compression::None => Some(Codec::None),
        Compression::Gzip => Some(Codec::Gzip),
        Compression::Snappy => Some(Codec::Snappy),
        Compression::Lz4 => Some(Codec::Lz4),
        Compression::Zstd => Some(Codec::Zstd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_take_room_for_the_partitions_written_to_and_no_others() {
        let mut lanes = Lanes::default();
        for (partition, lane) in [(9_999, 0), (3, 1), (500, 2)] {
            assert_eq!(lanes.find(partition, || lane), lane);
        }
        let known = || unreachable!("it is known");
        assert_eq!(lanes.find(3, known), 1);
        assert_eq!(lanes.find(500, known), 2);
        assert_eq!(lanes.find(9_999, known), 0);
        assert_eq!(lanes.known.len(), 3);
    }
}
