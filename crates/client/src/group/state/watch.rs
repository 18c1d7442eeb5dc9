//! Notices that topics or partitions came or went since the group last divided them.
//!
//! Owned by the group module; pure. What came is acted upon at once by the leader; a follower first
//! gives the leader time, and everybody gives the metadata time before believing that something
//! went: brokers disagree for a moment after a change. A follower has to act in the end, because
//! before KIP-814 (Kafka 3.2) a leader that comes back as a static member is not leader again, and
//! nobody else watches.

use std::time::Duration;

use tokio::time::Instant;

use crate::group::assignor::Counts;

/// The counts an assignment was made from, and what was seen since.
#[derive(Debug, Default)]
pub(super) struct Watch {
    assigned: Counts,
    leads: bool,
    differs_since: Option<Instant>,
}

/// What to do about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing differs.
    Same,
    /// Wait until this time, then look again.
    Wait(Instant),
    /// Rebalance.
    Rejoin,
}

impl Watch {
    /// Starts anew from the counts behind an assignment.
    pub(super) fn assigned(&mut self, counts: Counts, leads: bool) {
        *self = Self { assigned: counts, leads, differs_since: None };
    }

    /// Compares with what the metadata say now.
    pub(super) fn look(&mut self, now: Instant, seen: &Counts, patience: Duration) -> Verdict {
        if *seen == self.assigned {
            self.differs_since = None;
            return Verdict::Same;
        }
        let since = *self.differs_since.get_or_insert(now);
        let until = since + patience;
        if now >= until || (self.leads && self.only_grew(seen)) {
            Verdict::Rejoin
        } else {
            Verdict::Wait(until)
        }
    }

    fn only_grew(&self, seen: &Counts) -> bool {
        self.assigned.iter().all(|(topic, before)| seen.get(topic).is_some_and(|now| now >= before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn counts(topics: &[(&str, i32)]) -> Counts {
        topics.iter().map(|(topic, count)| ((*topic).into(), *count)).collect()
    }

    fn watch(leads: bool) -> Watch {
        let mut watch = Watch::default();
        watch.assigned(counts(&[("a", 2), ("b", 1)]), leads);
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_acts_at_once_on_what_came_and_late_on_what_went() {
        let now = crate::clock::now();
        let grown = counts(&[("a", 3), ("b", 1), ("c", 1)]);
        assert_eq!(watch(true).look(now, &grown, PATIENCE), Verdict::Rejoin);

        let mut watch = watch(true);
        let shrunk = counts(&[("a", 3)]);
        assert_eq!(watch.look(now, &shrunk, PATIENCE), Verdict::Wait(now + PATIENCE));
        assert_eq!(watch.look(now + PATIENCE, &shrunk, PATIENCE), Verdict::Rejoin);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_waits_for_its_leader_and_forgets_a_passing_difference() {
        let now = crate::clock::now();
        let mut watch = watch(false);
        let grown = counts(&[("a", 3), ("b", 1)]);
        assert_eq!(watch.look(now, &grown, PATIENCE), Verdict::Wait(now + PATIENCE));
        let as_before = counts(&[("a", 2), ("b", 1)]);
        assert_eq!(watch.look(now + PATIENCE / 2, &as_before, PATIENCE), Verdict::Same);
        let later = now + PATIENCE;
        assert_eq!(watch.look(later, &grown, PATIENCE), Verdict::Wait(later + PATIENCE));
    }
}
