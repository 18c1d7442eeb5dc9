//! What stands still though nothing has stopped it, and that it is said. Pure.
//!
//! Whatever may pass by itself is tried again for ever, and an operator has to hear of it when it
//! does not: once when it has lasted for some seconds, once when it is over.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::partition::{Partition, Phase};
use super::state::State;

/// For how long something may stand still before that is said.
const SAID_AFTER: Duration = Duration::from_secs(5);

/// Something that stands still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    since: Instant,
    why: Why,
    is_said: bool,
}

/// Why a partition is not read, though it should be, or why a broker's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Missing,
    Leaderless,
    Refused(ErrorCode),
    /// Its leader does not say what it has.
    Unanswered,
    /// Less of its leader's log is replicated than was read before.
    Behind,
    /// The broker cannot be fetched from.
    Unreached,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Missing => f.write_str("it is not in the metadata"),
            Why::Leaderless => f.write_str("it has no leader: see that its replicas run"),
            Why::Refused(code) => write!(f, "its leader answers {code}"),
            Why::Unreached => f.write_str("the broker cannot be fetched from"),
            Why::Behind => {
                f.write_str("its leader hands out less than was read: see that its replicas run")
            }
            Why::Unanswered => f.write_str("its leader does not say what it has"),
        }
    }
}

impl Standing {
    pub(super) fn new(since: Instant, why: Why) -> Self {
        Self { since, why, is_said: false }
    }

    /// When it has to be said.
    fn said_at(&self) -> Instant {
        self.since + SAID_AFTER
    }

    /// For how long it stands, if that is to be said now.
    fn say(&mut self, now: Instant) -> Option<Duration> {
        if self.is_said || now < self.said_at() {
            return None;
        }
        self.is_said = true;
        Some(now.saturating_duration_since(self.since))
    }

    /// Whether it was said, so that its end is to be said as well.
    pub(super) fn is_said(&self) -> bool {
        self.is_said
    }

    /// Whether it ends when there is a leader.
    pub(super) fn is_without_leader(&self) -> bool {
        matches!(self.why, Why::Missing | Why::Leaderless)
    }
}

impl Partition {
    /// Nothing keeps it from being read any more.
    pub(super) fn go_on(&mut self, name: &TopicPartition) {
        if self.standing.take().is_some_and(|standing| standing.is_said()) {
            tracing::info!(partition = %name, "partition goes on");
        }
    }
}

impl State {
    /// A partition is not read just now.
    pub(super) fn stand(&mut self, now: Instant, name: &TopicPartition, why: Why) {
        let Some(entry) = self.partitions.get_mut(name) else { return };
        let standing = entry.standing.get_or_insert(Standing::new(now, why));
        standing.why = why;
        let at = standing.said_at();
        self.timers.insert((at, name.clone()));
    }

    /// Says that a partition stands still, if it has done so for long enough. Whether it says so.
    pub(super) fn say_standing(&mut self, now: Instant, name: &TopicPartition) -> bool {
        let entry = self.partitions.get_mut(name).filter(|entry| entry.phase != Phase::Stopped);
        let Some(standing) = entry.and_then(|entry| entry.standing.as_mut()) else { return false };
        let Some(time) = standing.say(now) else { return false };
        let seconds = time.as_secs();
        tracing::warn!(partition = %name, why = %standing.why, seconds, "partition stands still");
        true
    }

    /// A broker cannot be fetched from: an operator hears of it if that lasts, otherwise whoever
    /// looks closely. Whether the operator does.
    pub(super) fn say_failure(
        &mut self,
        now: Instant,
        broker: BrokerId,
        why: &dyn fmt::Display,
    ) -> bool {
        let standing = self.links.get_mut(&broker).and_then(|link| link.standing.as_mut());
        let time = standing.and_then(|standing| standing.say(now));
        let broker = broker.0;
        match time {
            Some(time) => tracing::warn!(
                broker, seconds = time.as_secs(), why = %why,
                "broker cannot be fetched from, its partitions stand still"
            ),
            None => tracing::debug!(broker, why = %why, "fetch lost"),
        }
        time.is_some()
    }
}
