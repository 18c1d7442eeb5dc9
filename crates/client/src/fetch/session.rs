//! A fetch session with one broker (KIP-227): what the broker remembers of what we want. Pure.
//!
//! Always true: `known` is what the broker will fetch with the request that was planned last. If
//! that request's outcome is not known the session is dropped and begun anew with a full request.
//! The wire: id 0 with epoch 0 asks for a session, id 0 with epoch -1 for none; each further
//! request counts the epoch up, from `i32::MAX` to 1.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::name::TopicPartition;

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) fetch_offset: i64,
    /// -1 where it is not known.
    pub(super) leader_epoch: i32,
    pub(super) bytes_max: usize,
    /// Sent instead of the topic's name, where both ends know it.
    pub(super) topic_id: Option<Uuid>,
    /// Which assignment of the partition this is; not sent.
    pub(super) generation: u64,
}

/// The next request of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) session_id: i32,
    pub(super) session_epoch: i32,
    /// What is new or changed, or everything in a full request.
    pub(super) partitions: Vec<(TopicPartition, Want)>,
    /// What is no longer wanted.
    pub(super) forgotten: Vec<(TopicPartition, Want)>,
}

/// A session, or the intention to begin one.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    known: BTreeMap<TopicPartition, Want>,
    /// The names of the topics that are asked for by id, and of how many partitions.
    names: HashMap<Uuid, (Arc<str>, usize)>,
}

const NO_SESSION: i32 = -1;

impl Session {
    /// Whether the next request need only name what has changed.
    pub(super) fn goes_on(&self) -> bool {
        self.epoch != 0
    }

    /// Plans the request after which the broker fetches exactly `wanted`, which it names in this
    /// order, and takes it as sent. `has_sessions` says whether it is to begin a session.
    pub(super) fn begin(
        &mut self,
        wanted: Vec<(TopicPartition, Want)>,
        has_sessions: bool,
    ) -> Plan {
        self.reset();
        for (partition, want) in &wanted {
            self.set(partition, Some(*want));
        }
        let session_epoch = if has_sessions { 0 } else { NO_SESSION };
        Plan { session_id: 0, session_epoch, partitions: wanted, forgotten: Vec::new() }
    }

    /// Plans the next request of a session and takes it as sent: after it the broker fetches what
    /// is said here, or nothing, of these partitions, and of all others what it did before.
    pub(super) fn go_on(
        &mut self,
        changes: impl IntoIterator<Item = (TopicPartition, Option<Want>)>,
    ) -> Plan {
        let (mut partitions, mut forgotten) = (Vec::new(), Vec::new());
        for (partition, want) in changes {
            let known = self.set(&partition, want);
            if let Some(known) = known
                && want.is_none_or(|want| want.topic_id != known.topic_id)
            {
                forgotten.push((partition.clone(), known));
            }
            if let Some(want) = want
                && known.is_none_or(|known| !known.is_same_on_the_wire(&want))
            {
                partitions.push((partition, want));
            }
        }
        Plan { session_id: self.id, session_epoch: self.epoch, partitions, forgotten }
    }

    /// What was known before.
    fn set(&mut self, partition: &TopicPartition, want: Option<Want>) -> Option<Want> {
        let known = match want {
            Some(want) => self.known.insert(partition.clone(), want),
            None => self.known.remove(partition),
        };
        let (old, new) = (known.and_then(|known| known.topic_id), want.and_then(|w| w.topic_id));
        if old == new {
            return known;
        }
        if let Some(id) = new {
            self.names.entry(id).or_insert_with(|| (Arc::clone(&partition.topic), 0)).1 += 1;
        }
        if let Some(id) = old
            && let Entry::Occupied(mut entry) = self.names.entry(id)
        {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
        known
    }

    /// What was asked of a partition in the last request, or in one before it that still counts.
    pub(super) fn asked(&self, partition: &TopicPartition) -> Option<Want> {
        self.known.get(partition).copied()
    }

    /// The name of a topic that was asked for by id.
    pub(super) fn name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id).map(|(name, _)| name)
    }

    /// The request was answered under this session id; 0 says that the broker keeps none.
    pub(super) fn answered(&mut self, session_id: i32) {
        if session_id == 0 {
            self.epoch = 0;
        } else {
            self.id = session_id;
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
    }

    /// The broker no longer knows the session, or nobody knows what it knows.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Want {
    /// The same with a limit of at least `bytes`.
    pub(super) fn with_at_least(self, bytes: usize) -> Want {
        Want { bytes_max: self.bytes_max.max(bytes), ..self }
    }

    fn is_same_on_the_wire(&self, other: &Want) -> bool {
        let Want { fetch_offset, leader_epoch, bytes_max, topic_id, generation: _ } = *self;
        (fetch_offset, leader_epoch, bytes_max, topic_id)
            == (other.fetch_offset, other.leader_epoch, other.bytes_max, other.topic_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(fetch_offset: i64) -> Want {
        Want { fetch_offset, leader_epoch: 0, bytes_max: 100, topic_id: None, generation: 1 }
    }

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("orders", number)
    }

    fn begin(session: &mut Session, wants: &[(i32, Want)]) -> Plan {
        session
            .begin(wants.iter().map(|(number, want)| (partition(*number), *want)).collect(), true)
    }

    fn go_on(session: &mut Session, changes: &[(i32, Option<Want>)]) -> Plan {
        session.go_on(changes.iter().map(|(number, want)| (partition(*number), *want)))
    }

    #[test]
    fn a_session_begins_with_everything_and_goes_on_with_changes() {
        let mut session = Session::default();
        assert!(!session.goes_on());
        let first = begin(&mut session, &[(0, want(5)), (1, want(7))]);
        assert_eq!((first.session_id, first.session_epoch, first.partitions.len()), (0, 0, 2));
        session.answered(42);
        assert!(session.goes_on());
        let changes = [(0, Some(want(6))), (1, None), (2, Some(want(1)))];
        let next = go_on(&mut session, &changes);
        assert_eq!((next.session_id, next.session_epoch), (42, 1));
        assert_eq!(next.partitions, vec![(partition(0), want(6)), (partition(2), want(1))]);
        assert_eq!(next.forgotten, vec![(partition(1), want(7))]);
        session.answered(42);
        let idle = go_on(&mut session, &changes);
        assert_eq!((idle.session_epoch, idle.partitions.len(), idle.forgotten.len()), (2, 0, 0));
        assert_eq!(session.asked(&partition(0)), Some(want(6)));
    }

    #[test]
    fn a_partition_assigned_anew_at_the_same_offset_is_not_named_but_counts() {
        let mut session = Session::default();
        begin(&mut session, &[(0, want(5))]);
        session.answered(42);
        let again = Want { generation: 2, ..want(5) };
        let plan = go_on(&mut session, &[(0, Some(again))]);
        assert!(plan.partitions.is_empty());
        assert_eq!(session.asked(&partition(0)), Some(again));
    }

    #[test]
    fn a_broker_that_keeps_no_session_is_asked_for_everything_each_time() {
        let mut session = Session::default();
        for _ in 0..2 {
            assert!(!session.goes_on());
            let plan = begin(&mut session, &[(0, want(5))]);
            assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 1));
            session.answered(0);
        }
        let old = session.begin(vec![(partition(0), want(5))], false);
        assert_eq!(old.session_epoch, -1);
    }

    #[test]
    fn a_lost_session_begins_anew() {
        let mut session = Session::default();
        begin(&mut session, &[(0, want(5))]);
        session.answered(42);
        session.reset();
        assert!(!session.goes_on());
        assert_eq!(session.asked(&partition(0)), None);
        let plan = begin(&mut session, &[(0, want(5))]);
        assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 1));
    }

    #[test]
    fn a_topic_created_anew_is_forgotten_by_its_old_id() {
        let with_id = |id| Want { topic_id: Some(Uuid::from_u128(id)), ..want(0) };
        let mut session = Session::default();
        begin(&mut session, &[(0, with_id(1))]);
        session.answered(42);
        let plan = go_on(&mut session, &[(0, Some(with_id(2)))]);
        assert_eq!(plan.forgotten, vec![(partition(0), with_id(1))]);
        assert_eq!(plan.partitions, vec![(partition(0), with_id(2))]);
        assert_eq!(session.name(Uuid::from_u128(1)), None);
        assert_eq!(session.name(Uuid::from_u128(2)), Some(&Arc::from("orders")));
    }

    #[test]
    fn a_topic_has_a_name_as_long_as_one_of_its_partitions_is_asked_for() {
        let id = Uuid::from_u128(1);
        let with_id = Want { topic_id: Some(id), ..want(0) };
        let mut session = Session::default();
        begin(&mut session, &[(0, with_id), (1, with_id)]);
        session.answered(42);
        go_on(&mut session, &[(0, None)]);
        assert_eq!(session.name(id), Some(&Arc::from("orders")));
        go_on(&mut session, &[(1, None)]);
        assert_eq!(session.name(id), None);
    }
}
