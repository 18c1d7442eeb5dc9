//! What is known of one partition that is fetched. Pure; owned by [`State`](super::state::State).
//!
//! Always true: the position moves forward only, except by a new assignment; data is taken only if
//! it was asked for at the position where the partition stands, under the same assignment.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::budget::Pins;
use crate::name::{BrokerId, TopicPartition};

use super::event::{Position, Trouble};
use super::identity::Identity;
use super::questions::Claim;
use super::session::Want;
use super::standing::Standing;

/// What the metadata say of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) topic_id: Option<Uuid>,
    pub(super) leader: Option<Leader>,
    /// The metadata know the topic's partitions, and this is one of them.
    pub(super) exists: bool,
    /// The broker tells us nothing of it: we may not describe it.
    pub(super) is_forbidden: bool,
}

/// Where a partition is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) broker: BrokerId,
    /// -1 where the cluster does not tell.
    pub(super) epoch: i32,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is fetched, when it is not paused.
    Fetching,
    /// The leader must first be asked whether it has what was read (KIP-320).
    Unproven,
    /// The leader has been asked.
    Proving,
    /// A broker says that the position is outside the log: the ends must be asked for.
    Outside,
    /// They have been asked for.
    Measuring,
    /// It waits to be assigned again.
    Stopped,
}

/// The ends of the log, as far as they were told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) high_watermark: i64,
    pub(super) last_stable_offset: i64,
    pub(super) log_start_offset: i64,
}

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) generation: u64,
    /// The topic id is the one it was assigned with; `identity` has the one that was seen.
    pub(super) position: Position,
    pub(super) phase: Phase,
    pub(super) is_paused: bool,
    pub(super) identity: Identity,
    pub(super) leader: Option<Leader>,
    pub(super) missing_since: Option<Instant>,
    pub(super) retry_at: Option<Instant>,
    /// Since when it is not read, and why.
    pub(super) standing: Option<Standing>,
    pub(super) backoff: Backoff,
    /// How often the bytes at the position were no batch.
    pub(super) corrupt: u32,
    /// How often the position was said to be outside a log that holds it, or in an epoch that the
    /// log has not reached, since it was last fetched from.
    pub(super) disputed: u32,
    pub(super) ends: Option<Ends>,
    /// What its data that was handed out keeps of other partitions'.
    pub(super) pins: Arc<Pins>,
    /// More than the configured bytes, for a batch that an old broker cuts off otherwise.
    pub(super) bytes_needed: usize,
}

impl Partition {
    pub(super) fn new(
        generation: u64,
        position: Position,
        backoff: Backoff,
        pins: Arc<Pins>,
    ) -> Self {
        let phase = if position.leader_epoch.is_some() { Phase::Unproven } else { Phase::Fetching };
        Self {
            generation,
            position,
            phase,
            is_paused: false,
            identity: Identity::default(),
            leader: None,
            missing_since: None,
            retry_at: None,
            standing: None,
            backoff,
            corrupt: 0,
            disputed: 0,
            ends: None,
            pins,
            bytes_needed: 0,
        }
    }

    /// What to ask of its leader now, if anything.
    pub(super) fn want(&self, now: Instant, bytes_max: usize) -> Option<Want> {
        let is_due = self.retry_at.is_none_or(|at| at <= now);
        let leader = self.leader?;
        let may_have_more = !self.is_paused && !self.pins.are_full();
        let is_fetched = self.phase == Phase::Fetching && may_have_more && is_due;
        is_fetched.then(|| Want {
            fetch_offset: self.fetch_offset(),
            leader_epoch: leader.epoch,
            bytes_max: bytes_max.max(self.bytes_needed),
            topic_id: self.identity.topic_id,
            generation: self.generation,
        })
    }

    /// From where on it is fetched: mostly its position.
    pub(super) fn fetch_offset(&self) -> i64 {
        self.identity.fetch_offset(self.position.next_offset)
    }

    /// Whether it would be fetched, were it not that its reader has enough of it for now.
    pub(super) fn is_held_back(&self) -> bool {
        let has_enough = self.is_paused || self.pins.are_full();
        has_enough && self.phase == Phase::Fetching && self.leader.is_some()
    }

    /// Whether time, or memory that comes back, may change what is wanted.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.pins.are_full() || self.retry_at.is_some_and(|at| at > now)
    }

    /// Whether the metadata say nothing new. What is missing, or has no leader, is always news.
    pub(super) fn is_as(&self, seen: Seen) -> bool {
        let Seen { topic_id, leader, exists, is_forbidden } = seen;
        leader.is_some()
            && leader == self.leader
            && (topic_id.is_none() || topic_id == self.identity.topic_id)
            && exists
            && self.missing_since.is_none()
            && !is_forbidden
    }

    /// Whether what `broker` sent for `asked` is what is wanted here and now.
    pub(super) fn awaits(&self, broker: BrokerId, asked: Want) -> bool {
        self.phase == Phase::Fetching
            && self.leader == Some(Leader { broker, epoch: asked.leader_epoch })
            && self.generation == asked.generation
            && self.fetch_offset() == asked.fetch_offset
    }

    /// The leader moved, came or went. Before a new one is fetched from it must show that it has
    /// what was read, if that can be asked. What the old one was asked, or said, no longer counts.
    pub(super) fn set_leader(&mut self, leader: Option<Leader>) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.retry_at = None;
        self.identity.lead(leader.map(|leader| leader.epoch));
        let can_be_proven =
            self.position.leader_epoch.is_some() && leader.is_some_and(|leader| leader.epoch >= 0);
        match self.phase {
            Phase::Fetching if !can_be_proven => {}
            Phase::Fetching | Phase::Proving | Phase::Outside | Phase::Measuring => {
                self.phase = Phase::Unproven;
            }
            Phase::Unproven | Phase::Stopped => {}
        }
    }

    /// Where it stands, in the topic that was seen.
    pub(super) fn stands(&self) -> Position {
        Position { topic_id: self.identity.topic_id, ..self.position }
    }

    /// Where it stood when it stopped: in the topic that was read, also if another one was seen.
    pub(super) fn stopped_at(&self, kind: &Trouble) -> Position {
        match kind {
            Trouble::Recreated { before, .. } => Position { topic_id: *before, ..self.position },
            _ => self.stands(),
        }
    }

    /// Whether a log that ends before the position must be taken for another one.
    pub(super) fn is_another_log(&self) -> bool {
        let leader_epoch = self.leader.map(|leader| leader.epoch).filter(|epoch| *epoch >= 0);
        let epochs = leader_epoch.zip(self.position.leader_epoch);
        let has_newer_epoch = epochs.map(|(leader, read)| leader > read);
        !self.is_same_topic() && self.identity.is_another(has_newer_epoch)
    }

    /// Whether ids prove that the topic is the one that was read.
    pub(super) fn is_same_topic(&self) -> bool {
        self.position.topic_id.is_some() || self.identity.is_proven()
    }

    /// Moves forward.
    pub(super) fn advance(&mut self, next_offset: i64, leader_epoch: Option<i32>) {
        assert!(
            next_offset >= self.position.next_offset,
            "invariant: a position never moves back by itself"
        );
        if next_offset > self.position.next_offset {
            self.corrupt = 0;
            self.disputed = 0;
            self.bytes_needed = 0;
        }
        let leader_epoch = leader_epoch.or(self.position.leader_epoch);
        self.position = Position { next_offset, leader_epoch, ..self.position };
        self.backoff.reset();
        self.retry_at = None;
    }

    /// What `leader`, which leads it, is asked about.
    pub(super) fn claim(&self, name: &TopicPartition, leader: Leader) -> Claim {
        let Self { generation, position, .. } = *self;
        Claim { partition: name.clone(), generation, position, leader }
    }

    /// Whether something must be asked before it can be fetched.
    pub(super) fn needs_attention(&self) -> bool {
        match self.phase {
            Phase::Unproven | Phase::Outside => true,
            Phase::Fetching | Phase::Proving | Phase::Measuring | Phase::Stopped => false,
        }
    }

    /// Puts the next try off.
    pub(super) fn back_off(&mut self, now: Instant) -> Instant {
        let at = now + self.backoff.next_delay();
        self.retry_at = Some(at);
        at
    }
}
