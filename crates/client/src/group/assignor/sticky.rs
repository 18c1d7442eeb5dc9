//! The sticky assignors: balance first, then as few moves as possible.
//!
//! Owned by the group module; pure. Promises what Java's `AbstractStickyAssignor` promises:
//! - *balanced*: no partition could be moved from one member to another that subscribes to its
//!   topic and has at least two partitions fewer;
//! - *sticky*: a member keeps what it owned unless balance takes it; with equal subscriptions no
//!   other balanced plan moves fewer partitions;
//! - a partition claimed by two members belongs to the one with the higher generation, and to
//!   neither when their generations are equal.
//!
//! The way: keep every valid claim, give what is left to the least loaded member that may have it,
//! then move partitions from the most to the least loaded while that narrows the gap, those nobody
//! owned before first. Every move lowers the sum of the squared loads, so the loop ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Counts, Member, Plan, empty_plan};
use crate::name::TopicPartition;

/// A finished plan and the claims nobody could keep because two members made them at once.
pub(super) struct Assigned {
    /// Who gets what.
    pub(super) plan: Plan,
    /// Claimed by several members in the same generation.
    contested: BTreeSet<TopicPartition>,
}

/// Divides the partitions of `counts` among `members`.
pub(super) fn assign(counts: &Counts, members: &[&Member]) -> Assigned {
    let claims = Claims::settle(counts, members);
    let mut table = Table::new(members);
    for (partition, owner) in &claims.owners {
        table.give(*owner, partition, Given::Kept);
    }
    for partition in unclaimed(counts, members, &claims) {
        if let Some(member) = table.least_loaded(&partition.topic) {
            table.give(member, &partition, Given::New);
        }
    }
    table.balance();
    Assigned { plan: table.into_plan(), contested: claims.contested }
}

/// Takes out of the plan what its new owner may not have before its old one has revoked it.
///
/// The cooperative protocol needs two rounds to move a partition: in the first it is given to
/// nobody and its owner, seeing it gone, revokes it and rejoins; in the second nobody claims it.
/// A stale claim counts too: that member may still be writing.
pub(super) fn withhold(members: &[&Member], assigned: Assigned) -> Plan {
    let Assigned { mut plan, contested } = assigned;
    let mut claimants: BTreeMap<&TopicPartition, Vec<&Arc<str>>> = BTreeMap::new();
    for member in members {
        for partition in &member.prior.partitions {
            claimants.entry(partition).or_default().push(&member.id);
        }
    }
    for (id, partitions) in &mut plan {
        partitions.retain(|partition| {
            let free = claimants.get(partition).is_none_or(|claimants| claimants.contains(&id));
            free && !contested.contains(partition)
        });
    }
    plan
}

/// Who may keep what they claim.
#[derive(Default)]
struct Claims {
    owners: BTreeMap<TopicPartition, usize>,
    contested: BTreeSet<TopicPartition>,
}

impl Claims {
    fn settle(counts: &Counts, members: &[&Member]) -> Self {
        let mut claims = Self::default();
        let generation = |member: usize| members[member].prior.generation.unwrap_or(-1);
        for (index, member) in members.iter().enumerate() {
            for partition in &member.prior.partitions {
                let exists = counts
                    .get(&partition.topic)
                    .is_some_and(|count| (0..*count).contains(&partition.partition));
                if !exists || !member.topics.contains(&partition.topic) {
                    continue;
                }
                match claims.owners.get(partition) {
                    Some(other) if *other == index || generation(*other) > generation(index) => {}
                    Some(other) if generation(*other) == generation(index) => {
                        claims.contested.insert(partition.clone());
                    }
                    _ => {
                        claims.owners.insert(partition.clone(), index);
                        claims.contested.remove(partition);
                    }
                }
            }
        }
        claims.owners.retain(|partition, _| !claims.contested.contains(partition));
        claims
    }
}

/// What nobody keeps, the partitions fewest members could take first: they have the least choice.
fn unclaimed(counts: &Counts, members: &[&Member], claims: &Claims) -> Vec<TopicPartition> {
    let mut topics: Vec<(usize, &Arc<str>, i32)> = counts
        .iter()
        .map(|(topic, count)| {
            let takers = members.iter().filter(|member| member.topics.contains(topic)).count();
            (takers, topic, *count)
        })
        .collect();
    topics.sort();
    topics
        .into_iter()
        .flat_map(|(_, topic, count)| {
            (0..count).map(|number| TopicPartition::new(Arc::clone(topic), number))
        })
        .filter(|partition| !claims.owners.contains_key(partition))
        .collect()
}

/// How a member came by a partition. What is new is moved before what was kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Given {
    New,
    Kept,
}

/// What a member holds of one topic, in the order in which it may be moved away.
type Held = BTreeSet<(Given, i32)>;

/// The assignment while it is made.
struct Table<'a> {
    members: &'a [&'a Member],
    /// By member and topic.
    held: Vec<BTreeMap<Arc<str>, Held>>,
    /// (load, member), so that the ends are the least and the most loaded.
    loads: BTreeSet<(usize, usize)>,
    load: Vec<usize>,
}

impl<'a> Table<'a> {
    fn new(members: &'a [&'a Member]) -> Self {
        Self {
            members,
            held: vec![BTreeMap::new(); members.len()],
            loads: (0..members.len()).map(|member| (0, member)).collect(),
            load: vec![0; members.len()],
        }
    }

    fn give(&mut self, member: usize, partition: &TopicPartition, given: Given) {
        let topic = self.held[member].entry(Arc::clone(&partition.topic)).or_default();
        topic.insert((given, partition.partition));
        self.set_load(member, self.load[member] + 1);
    }

    fn set_load(&mut self, member: usize, load: usize) {
        self.loads.remove(&(self.load[member], member));
        self.loads.insert((load, member));
        self.load[member] = load;
    }

    fn least_loaded(&self, topic: &str) -> Option<usize> {
        let mut ascending = self.loads.iter().map(|(_, member)| *member);
        ascending.find(|member| self.members[*member].topics.contains(topic))
    }

    /// Moves partitions until no single move narrows a gap.
    fn balance(&mut self) {
        while let Some((from, to, topic)) = self.best_move() {
            let held = self.held[from].get_mut(&topic);
            let (_, number) = held
                .and_then(Held::pop_first)
                .expect("invariant: a move names a topic its member holds");
            self.set_load(from, self.load[from] - 1);
            // Moved means no longer kept; should it move again, it goes first.
            self.give(to, &TopicPartition::new(topic, number), Given::New);
        }
    }

    /// The most loaded member that can give something to the least loaded one below it.
    fn best_move(&self) -> Option<(usize, usize, Arc<str>)> {
        let (lowest, _) = *self.loads.first()?;
        for (load, from) in self.loads.iter().rev() {
            if *load < lowest + 2 {
                return None;
            }
            for (other, to) in &self.loads {
                if *load < other + 2 {
                    break;
                }
                if let Some(topic) = self.movable(*from, *to) {
                    return Some((*from, *to, topic));
                }
            }
        }
        None
    }

    /// A topic of which `from` holds a partition that `to` may have; new ones before kept ones, of
    /// the topic it holds most of.
    fn movable(&self, from: usize, to: usize) -> Option<Arc<str>> {
        let wanted = &self.members[to].topics;
        self.held[from]
            .iter()
            .filter(|(topic, _)| wanted.contains(*topic))
            .filter_map(|(topic, held)| {
                held.first().map(|(given, _)| (*given, usize::MAX - held.len(), topic))
            })
            .min()
            .map(|(_, _, topic)| Arc::clone(topic))
    }

    fn into_plan(self) -> Plan {
        let mut plan = empty_plan(self.members);
        for (member, held) in self.members.iter().zip(self.held) {
            let partitions = plan.entry(Arc::clone(&member.id)).or_default();
            for (topic, numbers) in held {
                let mut numbers: Vec<i32> = numbers.into_iter().map(|(_, number)| number).collect();
                numbers.sort_unstable();
                partitions.extend(
                    numbers.into_iter().map(|n| TopicPartition::new(Arc::clone(&topic), n)),
                );
            }
        }
        plan
    }
}
