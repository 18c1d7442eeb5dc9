//! A fetch session with one broker (KIP-227): what the broker remembers of what we want. Pure.
//!
//! Always true: `known` is what the broker will fetch with the request that was planned last. If
//! that request's outcome is not known the session is dropped and begun anew with a full request.
//! The wire: id 0 with epoch 0 asks for a session, id 0 with epoch -1 for none; each further
//! request counts the epoch up, from `i32::MAX` to 1.

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
}

const NO_SESSION: i32 = -1;

impl Session {
    /// Plans the request after which the broker fetches exactly `wanted`, and takes it as sent.
    /// `wanted` is in the order in which a full request names them.
    pub(super) fn plan(&mut self, wanted: Vec<(TopicPartition, Want)>, has_sessions: bool) -> Plan {
        if !has_sessions || self.epoch == 0 {
            self.id = 0;
            self.known = wanted.iter().cloned().collect();
            let session_epoch = if has_sessions { 0 } else { NO_SESSION };
            return Plan {
                session_id: 0,
                session_epoch,
                partitions: wanted,
                forgotten: Vec::new(),
            };
        }
        let new: BTreeMap<TopicPartition, Want> = wanted.iter().cloned().collect();
        let is_gone = |partition: &TopicPartition, known: &Want| {
            new.get(partition).is_none_or(|want| want.topic_id != known.topic_id)
        };
        let gone = self.known.iter().filter(|(partition, known)| is_gone(partition, known));
        let forgotten = gone.map(|(partition, known)| (partition.clone(), *known)).collect();
        let is_new = |(partition, want): &(TopicPartition, Want)| {
            self.known.get(partition).is_none_or(|known| !known.is_same_on_the_wire(want))
        };
        let partitions = wanted.into_iter().filter(is_new).collect();
        self.known = new;
        Plan { session_id: self.id, session_epoch: self.epoch, partitions, forgotten }
    }

    /// What was asked of a partition in the last request, or in one before it that still counts.
    pub(super) fn asked(&self, partition: &TopicPartition) -> Option<Want> {
        self.known.get(partition).copied()
    }

    /// The names of the topics that were asked for by id.
    pub(super) fn names(&self) -> HashMap<Uuid, Arc<str>> {
        let named = self
            .known
            .iter()
            .filter_map(|(partition, want)| Some((want.topic_id?, Arc::clone(&partition.topic))));
        named.collect()
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
    fn is_same_on_the_wire(&self, other: &Want) -> bool {
        let Want { fetch_offset, leader_epoch, bytes_max, topic_id, generation: _ } = *self;
        (fetch_offset, leader_epoch, bytes_max, topic_id)
            == (other.fetch_offset, other.leader_epoch, other.bytes_max, other.topic_id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn want(fetch_offset: i64) -> Want {
        Want { fetch_offset, leader_epoch: 0, bytes_max: 100, topic_id: None, generation: 1 }
    }

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("orders", number)
    }

    #[test]
    fn a_session_begins_with_everything_and_goes_on_with_changes() {
        let mut session = Session::default();
        let first = session.plan(vec![(partition(0), want(5)), (partition(1), want(7))], true);
        assert_eq!((first.session_id, first.session_epoch, first.partitions.len()), (0, 0, 2));
        session.answered(42);
        let next = session.plan(vec![(partition(0), want(6)), (partition(2), want(1))], true);
        assert_eq!((next.session_id, next.session_epoch), (42, 1));
        assert_eq!(next.partitions, vec![(partition(0), want(6)), (partition(2), want(1))]);
        assert_eq!(next.forgotten, vec![(partition(1), want(7))]);
        session.answered(42);
        let idle = session.plan(vec![(partition(0), want(6)), (partition(2), want(1))], true);
        assert_eq!((idle.session_epoch, idle.partitions.len(), idle.forgotten.len()), (2, 0, 0));
        assert_eq!(session.asked(&partition(0)), Some(want(6)));
    }

    #[test]
    fn a_broker_that_keeps_no_session_is_asked_for_everything_each_time() {
        let mut session = Session::default();
        for _ in 0..2 {
            let plan = session.plan(vec![(partition(0), want(5))], true);
            assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 1));
            session.answered(0);
        }
        let old = session.plan(vec![(partition(0), want(5))], false);
        assert_eq!(old.session_epoch, -1);
    }

    #[test]
    fn a_lost_session_begins_anew() {
        let mut session = Session::default();
        session.plan(vec![(partition(0), want(5))], true);
        session.answered(42);
        session.reset();
        let plan = session.plan(vec![(partition(0), want(5))], true);
        assert_eq!((plan.session_id, plan.session_epoch, plan.partitions.len()), (0, 0, 1));
    }

    #[test]
    fn a_topic_created_anew_is_forgotten_by_its_old_id() {
        let with_id = |id| Want { topic_id: Some(Uuid::from_u128(id)), ..want(0) };
        let mut session = Session::default();
        session.plan(vec![(partition(0), with_id(1))], true);
        session.answered(42);
        let plan = session.plan(vec![(partition(0), with_id(2))], true);
        assert_eq!(plan.forgotten, vec![(partition(0), with_id(1))]);
        assert_eq!(plan.partitions, vec![(partition(0), with_id(2))]);
        let names = session.names();
        assert_eq!(names.keys().collect::<Vec<_>>(), vec![&Uuid::from_u128(2)]);
    }

    proptest! {
        /// A broker that only hears the changes fetches what is wanted, whatever that is.
        #[test]
        fn the_broker_always_fetches_what_is_wanted(
            rounds in prop::collection::vec(
                (prop::collection::btree_map(0i32..6, 0i64..4, 0..6), 0u8..8),
                1..20,
            ),
        ) {
            let mut session = Session::default();
            let mut broker: BTreeMap<TopicPartition, Want> = BTreeMap::new();
            for (offsets, fate) in rounds {
                let wanted: Vec<_> =
                    offsets.iter().map(|(p, offset)| (partition(*p), want(*offset))).collect();
                let plan = session.plan(wanted.clone(), true);
                if plan.session_epoch == 0 {
                    broker.clear();
                }
                for (gone, _) in &plan.forgotten {
                    broker.remove(gone);
                }
                broker.extend(plan.partitions);
                prop_assert_eq!(&broker, &wanted.into_iter().collect());
                match fate {
                    0 => session.reset(),
                    1 => session.answered(0),
                    _ => session.answered(9),
                }
            }
        }
    }
}
