//! What leaders are asked besides data: whether they have what was read, and where a log begins and
//! ends. Pure.
//!
//! Always true: an answer counts only if it is about the assignment that there is, and of the
//! leader that there is.

use tokio::time::Instant;

use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::event::{Position, Trouble};
use super::partition::{Leader, Partition, Phase};
use super::standing::Why;
use super::state::State;

/// Partitions of which a leader is to be asked whether it has what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) broker: BrokerId,
    pub(super) partitions: Vec<Claim>,
}

/// What was read of one partition, and which leader is asked about it. The answer counts only as
/// long as that one leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) partition: TopicPartition,
    pub(super) generation: u64,
    pub(super) position: Position,
    pub(super) leader: Leader,
}

impl State {
    /// Partitions whose new leader must be asked whether it has what was read.
    pub(super) fn poll_proof(&mut self, now: Instant) -> Option<Proof> {
        let mut broker = None;
        let mut claims = Vec::new();
        let Self { attention, partitions, links, .. } = self;
        for name in attention.iter() {
            let Some(entry) = partitions.get_mut(name) else { continue };
            let Some(leader) = entry.leader else { continue };
            let is_due = entry.retry_at.is_none_or(|at| at <= now);
            let is_here = broker.is_none_or(|broker| broker == leader.broker);
            if entry.phase != Phase::Unproven || !is_due || !is_here {
                continue;
            }
            if leader.epoch < 0 || entry.position.leader_epoch.is_none() {
                entry.phase = Phase::Fetching;
                if let Some(link) = links.get_mut(&leader.broker) {
                    link.stir(name);
                }
                continue;
            }
            broker = Some(leader.broker);
            entry.phase = Phase::Proving;
            claims.push(entry.claim(name, leader));
        }
        Some(Proof { broker: broker?, partitions: claims })
    }

    /// A partition whose leader must be asked for the ends of its log.
    pub(super) fn poll_measure(&mut self, now: Instant) -> Option<Claim> {
        let Self { attention, partitions, .. } = self;
        attention.iter().find_map(|name| {
            let entry = partitions.get_mut(name)?;
            let leader = entry.leader?;
            let is_due = entry.retry_at.is_none_or(|at| at <= now);
            if entry.phase != Phase::Outside || !is_due {
                return None;
            }
            entry.phase = Phase::Measuring;
            Some(entry.claim(name, leader))
        })
    }

    /// A broker says whether it has what was read: where its log ends for that epoch, and the epoch
    /// it has there. `None` if it does not know the epoch. An old one it may have forgotten, which
    /// says nothing of the log; one above its own its log has not reached.
    pub(super) fn handle_proof(&mut self, now: Instant, claim: &Claim, end: Option<(i64, i32)>) {
        let Some(entry) = self.claimed(claim, Phase::Proving) else { return };
        match end {
            None if claim.position.leader_epoch > Some(claim.leader.epoch) => {
                self.handle_behind(now, claim);
            }
            Some((end_offset, _))
                if end_offset < claim.position.next_offset && entry.is_another_log() =>
            {
                self.stop_recreated(&claim.partition);
            }
            Some((end_offset, leader_epoch)) if end_offset < claim.position.next_offset => {
                self.stop(&claim.partition, Trouble::Truncated { end_offset, leader_epoch });
            }
            Some(_) | None => self.handle_no_objection(claim),
        }
    }

    /// Nothing speaks against what was read, or the leader cannot be asked.
    pub(super) fn handle_no_objection(&mut self, claim: &Claim) {
        let Some(entry) = self.claimed(claim, Phase::Proving) else { return };
        entry.phase = Phase::Fetching;
        entry.backoff.reset();
        entry.go_on(&claim.partition);
    }

    /// A leader has not reached the epoch of what was read. It may have been replaced without
    /// knowing, as those who tell who leads may; if it keeps to it, the topic was made anew.
    fn handle_behind(&mut self, now: Instant, claim: &Claim) {
        let Some(entry) = self.claimed(claim, Phase::Proving) else { return };
        if !entry.is_same_topic() && entry.disputed >= DISPUTED_MAX {
            self.stop_recreated(&claim.partition);
            return;
        }
        entry.disputed = entry.disputed.saturating_add(1);
        self.handle_unproven(now, claim, Some(ErrorCode::UNKNOWN_LEADER_EPOCH));
    }

    /// It could not be asked, or did not know: it is asked again later.
    pub(super) fn handle_unproven(&mut self, now: Instant, claim: &Claim, code: Option<ErrorCode>) {
        let Some(entry) = self.claimed(claim, Phase::Proving) else { return };
        if let Some(kind) = code.and_then(final_trouble) {
            self.stop(&claim.partition, kind);
            return;
        }
        if code == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) {
            entry.identity.vanish();
        }
        entry.phase = Phase::Unproven;
        let at = entry.back_off(now);
        self.remind(at, &claim.partition);
        self.stand(now, &claim.partition, code.map_or(Why::Unanswered, Why::Refused));
        self.wants_metadata = true;
    }

    fn claimed(&mut self, claim: &Claim, phase: Phase) -> Option<&mut Partition> {
        self.change(&claim.partition).filter(|entry| {
            entry.generation == claim.generation
                && entry.phase == phase
                && entry.leader == Some(claim.leader)
        })
    }

    /// Where the log of a partition begins and ends, whose position was said to be outside.
    pub(super) fn handle_ends(&mut self, now: Instant, claim: &Claim, ends: Option<(i64, i64)>) {
        let Some(entry) = self.claimed(claim, Phase::Measuring) else { return };
        let name = &claim.partition;
        let next_offset = entry.position.next_offset;
        match ends {
            Some((_, log_end_offset)) if log_end_offset < next_offset && entry.is_another_log() => {
                self.stop_recreated(name);
            }
            Some((log_start_offset, log_end_offset))
                if (log_start_offset..=log_end_offset).contains(&next_offset)
                    && entry.identity.forget_before(log_start_offset) =>
            {
                entry.phase = Phase::Fetching;
            }
            Some((log_start_offset, log_end_offset))
                if !(log_start_offset..=log_end_offset).contains(&next_offset)
                    || entry.disputed >= DISPUTED_MAX =>
            {
                self.stop(name, Trouble::OutOfRange { log_start_offset, log_end_offset });
            }
            found => {
                // The replica that refused may lag behind the one that answered now.
                entry.disputed += u32::from(found.is_some());
                entry.phase = if found.is_some() { Phase::Fetching } else { Phase::Outside };
                let at = entry.back_off(now);
                if found.is_some() {
                    entry.go_on(name);
                } else {
                    // Perhaps it leads no longer.
                    self.wants_metadata = true;
                    self.stand(now, name, Why::Unanswered);
                }
                self.remind(at, name);
            }
        }
    }
}

/// What a code means that does not pass by itself.
pub(super) fn final_trouble(code: ErrorCode) -> Option<Trouble> {
    match code {
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => Some(Trouble::Unauthorized),
        // Brokers say so of their own passing faults.
        ErrorCode::UNKNOWN_SERVER_ERROR => None,
        code if code.is_retryable() => None,
        code => Some(Trouble::Refused { code }),
    }
}

/// How often a position may be called outside a log whose ends hold it, or in an epoch that its log
/// has not reached.
const DISPUTED_MAX: u32 = 10;
