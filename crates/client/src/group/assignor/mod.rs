//! How the leader of a group divides partitions among its members.
//!
//! Owned by the group module; pure. The four assignors have the names and the wire format of
//! Kafka's own, so that a group may mix these members with Java ones, whoever leads. `range` and
//! `roundrobin` give the same result as Java's for the same members; the sticky ones promise the
//! same properties (valid, balanced, few moves) and may break ties differently.
//!
//! Always true of a plan: every partition of a topic that at least one member subscribes to is
//! given to exactly one member (the cooperative assignor withholds those that must first be
//! revoked), and every member has an entry, if an empty one.
//!
//! Racks are not looked at: a mirror reads from leaders. Source: `AbstractPartitionAssignor.java`.

mod range;
mod round_robin;
mod sticky;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::protocol::{self, Prior, Subscription};
use crate::name::TopicPartition;

/// How many partitions each topic has.
pub(crate) type Counts = BTreeMap<Arc<str>, i32>;

/// What each member, by its id, is given.
pub(crate) type Plan = BTreeMap<Arc<str>, Vec<TopicPartition>>;

/// A way to divide partitions among members (`partition.assignment.strategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Assignor {
    /// Each topic is cut into consecutive ranges, one for each member (`RangeAssignor`).
    Range,
    /// All partitions are dealt out in turn (`RoundRobinAssignor`).
    RoundRobin,
    /// Balanced over all topics, with as few moves as possible; members stop while they rejoin
    /// (`StickyAssignor`).
    Sticky,
    /// As sticky, but members keep working while they rejoin and only give up what moves
    /// (`CooperativeStickyAssignor`).
    CooperativeSticky,
}

impl Assignor {
    /// The name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Range => "range",
            Assignor::RoundRobin => "roundrobin",
            Assignor::Sticky => "sticky",
            Assignor::CooperativeSticky => "cooperative-sticky",
        }
    }

    /// The assignor of a name in the protocol or of a Java class name, with or without its package,
    /// as found in consumer property files.
    pub fn from_name(name: &str) -> Option<Self> {
        let short = name.rsplit('.').next().unwrap_or(name).trim();
        match short {
            "range" | "RangeAssignor" => Some(Assignor::Range),
            "roundrobin" | "RoundRobinAssignor" => Some(Assignor::RoundRobin),
            "sticky" | "StickyAssignor" => Some(Assignor::Sticky),
            "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Assignor::CooperativeSticky),
            _ => None,
        }
    }

    /// Whether members may keep their partitions while they rejoin.
    pub fn is_cooperative(self) -> bool {
        self == Assignor::CooperativeSticky
    }

    /// What a member that last owned `prior` tells the leader's assignor.
    pub(crate) fn user_data(self, prior: &Prior) -> Option<Bytes> {
        match self {
            Assignor::Range | Assignor::RoundRobin => None,
            Assignor::Sticky => prior.generation.map(|_| prior.encode()),
            Assignor::CooperativeSticky => {
                let generation = prior.generation.unwrap_or(protocol::NO_GENERATION);
                Some(protocol::encode_generation(generation))
            }
        }
    }

    /// Divides the partitions of `counts` among `members`.
    pub(crate) fn assign(self, counts: &Counts, members: &[Member]) -> Plan {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by(|a, b| a.order(b));
        match self {
            Assignor::Range => range::assign(counts, &members),
            Assignor::RoundRobin => round_robin::assign(counts, &members),
            Assignor::Sticky => sticky::assign(counts, &members).plan,
            Assignor::CooperativeSticky => {
                sticky::withhold(&members, sticky::assign(counts, &members))
            }
        }
    }
}

impl std::fmt::Display for Assignor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One member as the leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its id, given by the coordinator.
    pub(crate) id: Arc<str>,
    /// Its `group.instance.id`, if it is static.
    pub(crate) instance_id: Option<Arc<str>>,
    /// The topics it wants.
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// What it claims to own, and since which generation.
    pub(crate) prior: Prior,
}

impl Member {
    /// The member behind a subscription, as `assignor` reads it.
    ///
    /// The sticky assignor is eager: its members own nothing while they join, and say in their user
    /// data what they owned. The cooperative one reads the subscription itself, and finds the
    /// generation in the user data of members older than Kafka 3.2.
    pub(crate) fn new(
        assignor: Assignor,
        id: Arc<str>,
        instance_id: Option<Arc<str>>,
        subscription: Subscription,
    ) -> Self {
        let user_data = subscription.user_data.unwrap_or_default();
        let prior = match assignor {
            Assignor::Range | Assignor::RoundRobin => Prior::default(),
            Assignor::Sticky => Prior::decode(&user_data),
            Assignor::CooperativeSticky => Prior {
                partitions: subscription.owned,
                generation: subscription
                    .generation
                    .or_else(|| protocol::decode_generation(&user_data)),
            },
        };
        Self { id, instance_id, topics: subscription.topics.into_iter().collect(), prior }
    }

    /// The order of members: static ones first, by instance id, the others by member id; compared
    /// by UTF-16 unit as Java compares strings (`AbstractPartitionAssignor.MemberInfo`).
    fn order(&self, other: &Self) -> Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(mine), Some(theirs)) => java_order(mine, theirs),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => java_order(&self.id, &other.id),
        }
    }
}

fn java_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// A plan in which every member has nothing yet.
fn empty_plan(members: &[&Member]) -> Plan {
    members.iter().map(|member| (Arc::clone(&member.id), Vec::new())).collect()
}

#[cfg(test)]
mod tests;
