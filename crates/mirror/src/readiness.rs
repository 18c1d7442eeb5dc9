//! Whether a mirror does what it is there for: judged from its [`Status`] alone.
//!
//! It is ready once every partition that can flow has begun, and as long as one of them flows. What
//! cannot flow until somebody acts (a topic that is refused, a partition that halted) does not hold
//! it up: that is told by the status and the metrics. A mirror that finds nothing to mirror is not
//! ready; one that waits beside others of its group, which own everything, is.

use crate::status::{Partition, Phase, State, Status};

impl Status {
    /// Why the mirror is not ready, in words; none if it is.
    pub fn unready(&self) -> Option<String> {
        match self.phase {
            Phase::Starting => return Some("it was not started yet".to_owned()),
            Phase::Draining => return Some("it ends: what was fetched is finished".to_owned()),
            Phase::Stopped => return Some("it has ended".to_owned()),
            Phase::Running => {}
        }
        if !self.topics_known {
            return Some("the topics of both clusters are not known yet".to_owned());
        }
        if self.topics.is_empty() {
            return Some("no topic of the source matches the selection".to_owned());
        }
        if self.streams_assigned < self.streams {
            let waiting = self.streams - self.streams_assigned;
            return Some(format!("{waiting} of {} streams own nothing yet", self.streams));
        }
        let mut waiting = self.partitions.iter().filter(|partition| {
            partition.state == State::Waiting && !self.blocked.contains_key(&partition.topic)
        });
        if let Some(partition) = waiting.next() {
            return Some(described(partition, "has not begun"));
        }
        let flows = |state| matches!(state, State::Running | State::Done);
        match self.partitions.first() {
            Some(first) if !self.partitions.iter().any(|partition| flows(partition.state)) => {
                Some(described(first, "and all others stand still"))
            }
            _ => None,
        }
    }
}

fn described(partition: &Partition, what: &str) -> String {
    let why = partition.why.as_deref().unwrap_or("its position is being looked up");
    format!("partition {}-{} {what}: {why}", partition.topic, partition.partition)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::status::{Board, Cell, Cluster, Memory, Topic, Totals};

    fn topic(name: &str) -> Topic {
        Topic {
            name: name.into(),
            destination: name.into(),
            source_partitions: 1,
            destination_partitions: 1,
            state: "ready",
            why: None,
        }
    }

    /// A mirror with one partition each of two topics, changed as a test needs.
    fn status(change: impl FnOnce(&[Arc<Cell>; 2], &mut Status)) -> Option<String> {
        let board = Board::new(Arc::new(Metrics::new()));
        let cell = |name: &str| board.begin(&kmirror_client::TopicPartition::new(name, 0), 0);
        let cells = [cell("orders"), cell("payments")];
        cells.iter().for_each(|cell| cell.set_state(State::Running, None));
        let mut status = Status {
            at_unix_ms: 0,
            uptime_seconds: 0.0,
            phase: Phase::Running,
            why: None,
            source: Cluster::default(),
            destination: Cluster::default(),
            memory: Memory::default(),
            streams: 1,
            streams_assigned: 1,
            totals: Totals::default(),
            topics_known: true,
            topics: vec![topic("orders"), topic("payments")],
            blocked: std::collections::BTreeMap::new(),
            partitions: Vec::new(),
            errors: std::collections::BTreeMap::new(),
        };
        change(&cells, &mut status);
        status.partitions = board.read().partitions;
        status.unready()
    }

    #[test]
    fn a_mirror_is_ready_once_every_partition_that_can_flow_has_begun() {
        assert_eq!(status(|_, _| {}), None);
        let waits = |cells: &[Arc<Cell>; 2]| {
            cells[1].set_state(State::Waiting, Some("the destination has no such topic".into()));
        };
        let why = "partition payments-0 has not begun: the destination has no such topic";
        assert_eq!(status(|cells, _| waits(cells)).as_deref(), Some(why));
        let blocked = status(|cells, status| {
            waits(cells);
            status.blocked.insert("payments".into(), "it is refused".to_owned());
        });
        assert_eq!(blocked, None, "what cannot flow holds nothing up");
    }

    #[test]
    fn a_mirror_of_which_nothing_flows_is_not_ready() {
        let why = status(|cells, _| {
            let halt = || crate::Halt::Recreated { position: 7 };
            cells.iter().for_each(|cell| cell.halt(halt()));
        });
        assert!(why.is_some_and(|why| why.starts_with("partition orders-0 and all others stand")));
    }

    #[test]
    fn a_mirror_that_has_nothing_to_mirror_or_was_told_nothing_yet_is_not_ready() {
        assert!(status(|_, status| status.topics.clear()).is_some());
        assert!(status(|_, status| status.topics_known = false).is_some());
        assert!(status(|_, status| status.streams_assigned = 0).is_some());
        for phase in [Phase::Starting, Phase::Draining, Phase::Stopped] {
            assert!(status(|_, status| status.phase = phase).is_some(), "{phase:?}");
        }
    }
}
