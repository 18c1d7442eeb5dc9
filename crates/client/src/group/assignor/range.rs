//! The range assignor: each topic by itself, in consecutive runs of partitions.
//!
//! Owned by the group module; pure. Same result as Java's `RangeAssignor` without racks: the first
//! members in order get one partition more when the division leaves a rest.

use std::sync::Arc;

use super::{Counts, Member, Plan, empty_plan};
use crate::name::TopicPartition;

/// Divides the partitions of each topic among those of `members` (in order) that subscribe to it.
pub(super) fn assign(counts: &Counts, members: &[&Member]) -> Plan {
    let mut plan = empty_plan(members);
    for (topic, count) in counts {
        let subscribers: Vec<&&Member> =
            members.iter().filter(|member| member.topics.contains(topic)).collect();
        let Ok(among) = i32::try_from(subscribers.len()) else { continue };
        if among == 0 {
            continue;
        }
        let mut next = 0;
        for (rank, member) in (0..among).zip(subscribers) {
            let share = count / among + i32::from(rank < count % among);
            let run =
                (next..next + share).map(|number| TopicPartition::new(Arc::clone(topic), number));
            plan.entry(Arc::clone(&member.id)).or_default().extend(run);
            next += share;
        }
    }
    plan
}
