//! The round-robin assignor: all partitions of all topics, dealt out in turn.
//!
//! Owned by the group module; pure. Same result as Java's `RoundRobinAssignor`: the turn stays with
//! the member after the last one served, and passes over members that do not subscribe.

use std::sync::Arc;

use super::{Counts, Member, Plan, empty_plan};
use crate::name::TopicPartition;

/// Deals the partitions of all topics, in order, out to `members` in order.
pub(super) fn assign(counts: &Counts, members: &[&Member]) -> Plan {
    let mut plan = empty_plan(members);
    let mut turn = 0;
    for (topic, count) in counts {
        if !members.iter().any(|member| member.topics.contains(topic)) {
            continue;
        }
        for number in 0..*count {
            while !members[turn].topics.contains(topic) {
                turn = (turn + 1) % members.len();
            }
            let given = TopicPartition::new(Arc::clone(topic), number);
            plan.entry(Arc::clone(&members[turn].id)).or_default().push(given);
            turn = (turn + 1) % members.len();
        }
    }
    plan
}
