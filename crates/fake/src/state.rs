//! What the cluster knows: brokers, topics, groups, transactions. One value behind one lock.
//!
//! Owned by [`crate::shared::Shared`]. Always true: nothing here waits; whoever changes a partition
//! wakes its long polls before the lock is released.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use crate::group::Groups;
use crate::topic::{Partition, Topic, is_legal_name};
use crate::transaction::Coordinator;

/// One broker as the others see it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) is_alive: bool,
    pub(crate) rack: Option<String>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What was set on the broker through the config APIs.
    pub(crate) overrides: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) controller: i32,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) groups: Groups,
    pub(crate) transactions: Coordinator,
    next_topic_number: u128,
    stored_bytes: u64,
}

/// What a new topic is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct TopicPlan {
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    /// Replicas of each partition; empty lets the cluster place them.
    pub(crate) assignments: Vec<Vec<i32>>,
    pub(crate) overrides: BTreeMap<String, String>,
}

impl State {
    pub(crate) fn new(nodes: BTreeMap<i32, Node>) -> State {
        let controller = nodes.keys().next().copied().unwrap_or(-1);
        State {
            nodes,
            controller,
            topics: BTreeMap::new(),
            groups: Groups::default(),
            transactions: Coordinator::default(),
            next_topic_number: 0,
            stored_bytes: 0,
        }
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = (i32, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.is_alive).map(|(id, node)| (*id, node))
    }

    pub(crate) fn is_alive(&self, broker: i32) -> bool {
        self.nodes.get(&broker).is_some_and(|node| node.is_alive)
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(index).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// The partition, if `broker` leads it and the client's leader epoch (-1: none) is current.
    pub(crate) fn led_partition(
        &self,
        broker: i32,
        (topic, index): (&str, i32),
        epoch: i32,
    ) -> Result<&Partition, ResponseError> {
        let partition =
            self.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
        check_epoch(partition, epoch)?;
        if partition.leader != broker {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        Ok(partition)
    }

    pub(crate) fn topic_name(&self, id: Uuid) -> Option<&str> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.as_str())
    }

    /// Creates a topic, or says why not.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        plan: TopicPlan,
    ) -> Result<(), (ResponseError, String)> {
        self.check_plan(name, &plan)?;
        let first = self.topics.len();
        let partitions = if plan.assignments.is_empty() {
            (0..plan.partitions as usize)
                .map(|index| Partition::new(self.place(first + index, plan.replication_factor)))
                .collect()
        } else {
            plan.assignments.into_iter().map(Partition::new).collect()
        };
        self.next_topic_number += 1;
        let id = Uuid::from_u128(TOPIC_ID_BASE | self.next_topic_number);
        let is_internal = matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC);
        let topic = Topic { id, is_internal, partitions, overrides: plan.overrides };
        self.topics.insert(name.to_owned(), topic);
        Ok(())
    }

    /// Whether a topic may be created so.
    pub(crate) fn check_plan(
        &self,
        name: &str,
        plan: &TopicPlan,
    ) -> Result<(), (ResponseError, String)> {
        let refuse = |error, reason: String| Err((error, reason));
        if !is_legal_name(name) {
            return refuse(ResponseError::InvalidTopicException, format!("name {name:?}"));
        }
        if self.topics.contains_key(name) {
            return refuse(ResponseError::TopicAlreadyExists, format!("topic {name:?} exists"));
        }
        if self.topics.len() >= TOPICS_MAX {
            return refuse(ResponseError::PolicyViolation, format!("{TOPICS_MAX} topics exist"));
        }
        if let Some(unknown) =
            plan.overrides.keys().find(|key| crate::topic::default_of(key).is_none())
        {
            return refuse(ResponseError::InvalidConfig, format!("unknown setting {unknown}"));
        }
        if !plan.assignments.is_empty() {
            let known = |id: &i32| self.nodes.contains_key(id);
            let is_placed =
                |replicas: &Vec<i32>| !replicas.is_empty() && replicas.iter().all(known);
            if plan.assignments.iter().all(is_placed) {
                return Ok(());
            }
            let reason = "a partition without replicas or on unknown brokers".to_owned();
            return refuse(ResponseError::InvalidReplicaAssignment, reason);
        }
        if !(1..=PARTITIONS_MAX).contains(&plan.partitions) {
            return refuse(ResponseError::InvalidPartitions, format!("{}", plan.partitions));
        }
        let alive = self.alive().count();
        if plan.replication_factor < 1 || plan.replication_factor as usize > alive {
            let reason = format!("factor {} with {alive} brokers", plan.replication_factor);
            return refuse(ResponseError::InvalidReplicationFactor, reason);
        }
        Ok(())
    }

    /// Deletes a topic; false if there is none.
    pub(crate) fn delete_topic(&mut self, name: &str) -> bool {
        let Some(mut topic) = self.topics.remove(name) else { return false };
        topic.partitions.iter_mut().for_each(Partition::wake);
        self.recount_stored_bytes();
        true
    }

    /// Whether a topic may grow so.
    pub(crate) fn check_growth(
        &self,
        name: &str,
        count: i32,
        assignments: &[Vec<i32>],
    ) -> Result<(), (ResponseError, String)> {
        let Some(topic) = self.topics.get(name) else {
            let error = ResponseError::UnknownTopicOrPartition;
            return Err((error, format!("no topic {name:?}")));
        };
        let existing = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or(0);
        if wanted <= existing || count > PARTITIONS_MAX {
            let reason = format!("{count} partitions asked for, {existing} exist");
            return Err((ResponseError::InvalidPartitions, reason));
        }
        if !assignments.is_empty() && assignments.len() != wanted - existing {
            let reason = format!("{} assignments for {}", assignments.len(), wanted - existing);
            return Err((ResponseError::InvalidReplicaAssignment, reason));
        }
        Ok(())
    }

    /// Adds partitions until there are `count`; `assignments` places the new ones.
    pub(crate) fn grow_topic(
        &mut self,
        name: &str,
        count: i32,
        assignments: &[Vec<i32>],
    ) -> Result<(), (ResponseError, String)> {
        self.check_growth(name, count, assignments)?;
        let Some(topic) = self.topics.get(name) else { return Ok(()) };
        let existing = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or(0);
        let factor = topic.partitions.first().map_or(1, |p| p.replicas.len()) as i16;
        let placed: Vec<Vec<i32>> = (existing..wanted)
            .map(|number| match assignments.get(number - existing) {
                Some(replicas) => replicas.clone(),
                None => self.place(number, factor),
            })
            .collect();
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(placed.into_iter().map(Partition::new));
        }
        Ok(())
    }

    /// Replicas for the partition with this number, round robin over live brokers.
    pub(crate) fn place(&self, number: usize, replication_factor: i16) -> Vec<i32> {
        let alive: Vec<i32> = self.alive().map(|(id, _)| id).collect();
        let count = (replication_factor.max(1) as usize).min(alive.len());
        (0..count).map(|replica| alive[(number + replica) % alive.len()]).collect()
    }

    /// Takes a broker out of or back into the cluster and elects leaders accordingly.
    pub(crate) fn mark_alive(&mut self, broker: i32, is_alive: bool) {
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        node.is_alive = is_alive;
        if !self.is_alive(self.controller) {
            let next = self.alive().next().map_or(-1, |(id, _)| id);
            self.controller = next;
        }
        let alive: Vec<i32> = self.alive().map(|(id, _)| id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if !alive.contains(&partition.leader) {
                let next = partition.replicas.iter().find(|replica| alive.contains(replica));
                let next = next.copied().unwrap_or(-1);
                if next != partition.leader {
                    partition.elect(next);
                }
            }
        }
    }

    /// The broker that coordinates a group or transactional id.
    pub(crate) fn coordinator_of(&self, key: &str) -> Option<i32> {
        let alive: Vec<i32> = self.alive().map(|(id, _)| id).collect();
        if let Some(pinned) = self.groups.pinned_coordinator(key) {
            return alive.contains(&pinned).then_some(pinned);
        }
        let all: Vec<i32> = self.nodes.keys().copied().collect();
        let hash =
            key.bytes().fold(0_usize, |hash, b| hash.wrapping_mul(31).wrapping_add(usize::from(b)));
        let first = hash % all.len().max(1);
        let from_first = all.iter().cycle().skip(first).take(all.len());
        from_first.copied().find(|id| alive.contains(id))
    }

    /// Bytes of all logs.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    pub(crate) fn add_stored_bytes(&mut self, bytes: u64) {
        self.stored_bytes += bytes;
    }

    /// Recounts after logs shrank.
    pub(crate) fn recount_stored_bytes(&mut self) {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        self.stored_bytes = partitions.map(|partition| partition.log.size_bytes()).sum();
    }
}

/// Compares a client's leader epoch with the partition's (KIP-320).
pub(crate) fn check_epoch(partition: &Partition, epoch: i32) -> Result<(), ResponseError> {
    if epoch < 0 || epoch == partition.leader_epoch {
        Ok(())
    } else if epoch < partition.leader_epoch {
        Err(ResponseError::FencedLeaderEpoch)
    } else {
        Err(ResponseError::UnknownLeaderEpoch)
    }
}

pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub(crate) const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// Topics a cluster holds at most.
pub(crate) const TOPICS_MAX: usize = 100_000;
/// Partitions a topic has at most.
pub(crate) const PARTITIONS_MAX: i32 = 100_000;

/// Topic ids are this plus a running number: unique, recognisable and the same in every run.
const TOPIC_ID_BASE: u128 = 0x6b6d_6972_726f_7240_8000_0000_0000_0000;
