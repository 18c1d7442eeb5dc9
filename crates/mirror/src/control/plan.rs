//! What the topics of both clusters, side by side, call for. Pure: both listings go in, a [`Plan`]
//! and the [`Action`]s still missing come out; after the actions it is asked again.
//!
//! Always true: a topic is `Ready` only if every one of its source partitions has a destination, so
//! a partition that appears at the source is not read before its destination exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::attempts::{Attempts, Failure};
use crate::config::Config;
use crate::policy::partitioning::{Counts, Mapping, Partitioning};
use crate::status;

/// A topic as one cluster's metadata show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: Arc<str>,
    /// How many partitions it has; 0 when the cluster could not say.
    pub(crate) partitions: i32,
    /// Whether the cluster calls it internal.
    pub(crate) internal: bool,
    /// Replicas of its first partition.
    pub(crate) replication_factor: i16,
    /// Its id, where the cluster tells (from 2.8).
    pub(crate) id: Option<Uuid>,
}

/// Topics of one cluster by name.
pub(crate) type Listing = BTreeMap<Arc<str>, Listed>;

/// What matters of a topic's configuration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// `cleanup.policy` holds `compact`.
    pub(crate) compacted: bool,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub(crate) log_append_time: bool,
    /// `max.message.bytes`, when known.
    pub(crate) batch_bytes_max: Option<u32>,
}

/// Which topic of which cluster is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The cluster's id.
    pub(crate) cluster_id: Option<Arc<str>>,
    /// The topic's.
    pub(crate) topic_id: Option<Uuid>,
}

impl Destination {
    /// Whether it is certainly not `other`. What is not known of one of them says nothing.
    pub(crate) fn differs(&self, other: &Destination) -> bool {
        fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_some_and(|(one, other)| one != other)
        }
        differ(self.cluster_id.as_ref(), other.cluster_id.as_ref())
            || differ(self.topic_id.as_ref(), other.topic_id.as_ref())
    }
}

/// A source topic that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicPlan {
    /// Its name at the source.
    pub(crate) source: Arc<str>,
    /// Its name at the destination.
    pub(crate) destination: Arc<str>,
    /// Partitions at the source.
    pub(crate) source_partitions: i32,
    /// How many of them were there when the mirror looked for the first time.
    pub(crate) source_partitions_at_first: i32,
    /// Partitions at the destination.
    pub(crate) destination_partitions: i32,
    /// Which topic the destination is.
    pub(crate) identity: Arc<Destination>,
    /// Its configuration at the source.
    pub(crate) source_traits: Traits,
    /// Its configuration at the destination.
    pub(crate) destination_traits: Traits,
    /// Whether it can be mirrored.
    pub(crate) readiness: Readiness,
}

/// Whether a topic can be mirrored now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Yes.
    Ready,
    /// Not yet: it is being made so, in this way.
    Waiting(String),
    /// What it takes was refused, or is nobody's to do here, for this reason; it is looked at
    /// again.
    Failing(String),
    /// Not until somebody changes something.
    Refused(String),
}

impl TopicPlan {
    /// Where the records of a source partition go.
    pub(crate) fn mapping(&self, partition: i32, config: &Config) -> Mapping {
        let counts = Counts {
            source: self.source_partitions,
            destination: self.destination_partitions,
            source_is_murmur2: config.source_is_murmur2,
        };
        match self.readiness {
            Readiness::Ready => config.partitioning.mapping(partition, counts),
            Readiness::Waiting(_) | Readiness::Failing(_) | Readiness::Refused(_) => {
                Mapping::Missing
            }
        }
    }

    /// Why it is not ready.
    pub(crate) fn why(&self) -> Option<&str> {
        match &self.readiness {
            Readiness::Ready => None,
            Readiness::Waiting(why) | Readiness::Failing(why) | Readiness::Refused(why) => {
                Some(why)
            }
        }
    }

    /// Whether the destination has it.
    pub(crate) fn is_there(&self) -> bool {
        self.destination_partitions > 0
    }

    /// Whether it is about to be ready, or to be known not to be: what is under way ends by itself.
    pub(crate) fn is_in_the_making(&self) -> bool {
        matches!(self.readiness, Readiness::Waiting(_))
    }

    /// Whether it stays as it is until somebody changes something.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.readiness, Readiness::Refused(_))
    }

    /// Why nobody but an operator gets it to flow, if that is so.
    pub(crate) fn blocked(&self) -> Option<&str> {
        match &self.readiness {
            Readiness::Ready | Readiness::Waiting(_) => None,
            Readiness::Failing(why) | Readiness::Refused(why) => Some(why),
        }
    }

    /// As the status shows it.
    pub(crate) fn status(&self) -> status::Topic {
        status::Topic {
            name: Arc::clone(&self.source),
            destination: Arc::clone(&self.destination),
            source_partitions: self.source_partitions,
            destination_partitions: self.destination_partitions,
            state: match self.readiness {
                Readiness::Ready => "ready",
                Readiness::Waiting(_) | Readiness::Failing(_) => "waiting",
                Readiness::Refused(_) => "refused",
            },
            why: self.why().map(str::to_owned),
        }
    }
}

/// Every topic that matches, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// By source name.
    pub(crate) topics: BTreeMap<Arc<str>, Arc<TopicPlan>>,
    /// Topics that were asked for by name and that the source does not grant.
    pub(crate) denied: BTreeSet<Arc<str>>,
    /// Topics that were asked for by name and that the source has not shown for long enough.
    pub(crate) absent: BTreeSet<Arc<str>>,
    /// The source does not show some topic that was asked for by name; the next look may.
    pub(crate) is_in_doubt: bool,
    /// No topic matches, neither one that is granted nor another.
    pub(crate) is_unmatched: bool,
    /// True once both clusters were listed, and what they show is believed.
    pub(crate) complete: bool,
}

impl Plan {
    /// Topics that are blocked now and were not before, or for another reason.
    pub(crate) fn newly_blocked<'a>(
        &'a self,
        before: &Plan,
    ) -> impl Iterator<Item = (&'a TopicPlan, &'a str)> {
        self.topics.values().filter_map(|topic| {
            let why = topic.blocked()?;
            (before.blocked(&topic.source) != Some(why)).then_some((&**topic, why))
        })
    }

    /// Topics that were blocked before and are no longer.
    pub(crate) fn newly_free<'a>(&'a self, before: &Plan) -> impl Iterator<Item = &'a TopicPlan> {
        let is_free = |topic: &&TopicPlan| {
            topic.blocked().is_none() && before.blocked(&topic.source).is_some()
        };
        self.topics.values().map(|topic| &**topic).filter(is_free)
    }

    /// The topics that the source does not show, with what to do about each.
    pub(crate) fn absences(&self) -> impl Iterator<Item = (Arc<str>, String)> {
        self.absent.iter().map(|topic| (Arc::clone(topic), NOT_SHOWN.to_owned()))
    }

    fn blocked(&self, topic: &str) -> Option<&str> {
        self.topics.get(topic)?.blocked()
    }
}

/// What is wrong with a topic that the source does not show.
pub(super) const NOT_SHOWN: &str = "the source does not show it: check how it is spelled, and that \
                                    it may be described";

/// Something to be done at the destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Create a topic.
    Create {
        /// The source topic to take the configuration from.
        source: Arc<str>,
        /// The name at the destination.
        destination: Arc<str>,
        /// How many partitions.
        partitions: i32,
        /// How many replicas.
        replication_factor: i16,
    },
    /// Add partitions to a topic.
    Grow {
        /// The name at the destination.
        destination: Arc<str>,
        /// How many partitions it has to have in all.
        partitions: i32,
    },
}

/// What is known beside the listings.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Source topics whose partition numbers were seen to be kept: they are grown with their
    /// source.
    pub(crate) kept: BTreeSet<Arc<str>>,
    /// Traits of source topics.
    pub(crate) source_traits: BTreeMap<Arc<str>, Traits>,
    /// Traits of destination topics.
    pub(crate) destination_traits: BTreeMap<Arc<str>, Traits>,
    /// Topics that could not be created or grown.
    pub(crate) attempts: Attempts,
    /// Both ends are one cluster.
    pub(crate) same_cluster: bool,
    /// The id of the destination.
    pub(crate) destination_cluster_id: Option<Arc<str>>,
    /// The partitions that source topics had at the first look, without topics that are gone.
    pub(crate) first: Option<BTreeMap<Arc<str>, i32>>,
}

/// The partitions of all topics. One whose number is not known may have had any.
fn partitions(topics: &Listing) -> BTreeMap<Arc<str>, i32> {
    let count = |listed: &Listed| if listed.partitions > 0 { listed.partitions } else { i32::MAX };
    topics.iter().map(|(name, listed)| (Arc::clone(name), count(listed))).collect()
}

/// Compares both ends. `brokers` is the number of the destination's brokers.
pub(crate) fn draw(
    config: &Config,
    (source, destination): (&Listing, &Listing),
    memory: &mut Memory,
    brokers: usize,
) -> (Plan, BTreeSet<Action>) {
    let mut plan = Plan { complete: true, ..Plan::default() };
    let mut actions = BTreeSet::new();
    let mut taken: BTreeMap<Arc<str>, Arc<str>> = BTreeMap::new();
    let first = memory.first.get_or_insert_with(|| partitions(source));
    first.retain(|name, _| source.contains_key(name));
    for topic in source.values().filter(|topic| config.topics.selects(&topic.name, topic.internal))
    {
        if memory.same_cluster && config.naming.is_outcome(&topic.name) {
            continue; // it would be mirrored onto a longer name for ever
        }
        let (mut drawn, action) = Drawing { config, destination, memory, brokers }.topic(topic);
        if let Some(other) = taken.get(&drawn.destination) {
            let why = format!("{} goes to the same destination topic", &**other);
            drawn.readiness = Readiness::Refused(why);
        } else {
            taken.insert(Arc::clone(&drawn.destination), Arc::clone(&topic.name));
            actions.extend(action);
        }
        plan.topics.insert(Arc::clone(&topic.name), Arc::new(drawn));
    }
    memory.keep(&plan, &actions);
    (plan, actions)
}

impl Memory {
    /// Forgets the topics that left the plan, and the changes that nothing calls for any more.
    fn keep(&mut self, plan: &Plan, actions: &BTreeSet<Action>) {
        self.kept.retain(|source| plan.topics.contains_key(source));
        self.source_traits.retain(|source, _| plan.topics.contains_key(source));
        let destinations: BTreeSet<&str> =
            plan.topics.values().map(|topic| &*topic.destination).collect();
        self.destination_traits.retain(|destination, _| destinations.contains(&**destination));
        let changed: BTreeSet<&str> =
            actions.iter().map(|action| &**action.destination()).collect();
        self.attempts.retain(|destination| changed.contains(destination));
    }
}

impl Action {
    /// How many partitions the topic has afterwards.
    pub(crate) fn partitions(&self) -> i32 {
        match self {
            Action::Create { partitions, .. } | Action::Grow { partitions, .. } => *partitions,
        }
    }

    /// The destination topic it is about.
    pub(crate) fn destination(&self) -> &Arc<str> {
        match self {
            Action::Create { destination, .. } | Action::Grow { destination, .. } => destination,
        }
    }
}

struct Drawing<'a> {
    config: &'a Config,
    destination: &'a Listing,
    memory: &'a mut Memory,
    brokers: usize,
}

impl Drawing<'_> {
    /// The topic's plan, and what has to be done for it.
    fn topic(&mut self, topic: &Listed) -> (TopicPlan, Option<Action>) {
        let traits =
            |of: &BTreeMap<Arc<str>, Traits>, name: &str| of.get(name).copied().unwrap_or_default();
        let mut drawn = TopicPlan {
            source: Arc::clone(&topic.name),
            destination: Arc::clone(&topic.name),
            source_partitions: topic.partitions,
            source_partitions_at_first: self.at_first(&topic.name),
            destination_partitions: 0,
            identity: Arc::default(),
            source_traits: traits(&self.memory.source_traits, &topic.name),
            destination_traits: Traits::default(),
            readiness: Readiness::Ready,
        };
        match self.config.naming.destination(&topic.name) {
            Ok(name) => drawn.destination = name,
            Err(error) => {
                drawn.readiness = Readiness::Refused(error.to_string());
                return (drawn, None);
            }
        }
        drawn.destination_traits = traits(&self.memory.destination_traits, &drawn.destination);
        let there = self.destination.get(&drawn.destination);
        drawn.destination_partitions = there.map_or(0, |listed| listed.partitions);
        drawn.identity = Arc::new(Destination {
            cluster_id: self.memory.destination_cluster_id.clone(),
            topic_id: there.and_then(|listed| listed.id),
        });
        let (readiness, action) = match there {
            None => self.missing(topic, &drawn),
            Some(_) => self.present(&drawn),
        };
        drawn.readiness = readiness;
        (drawn, action)
    }

    fn at_first(&self, topic: &str) -> i32 {
        self.memory.first.as_ref().and_then(|first| first.get(topic)).copied().unwrap_or(0)
    }

    fn missing(&self, topic: &Listed, drawn: &TopicPlan) -> (Readiness, Option<Action>) {
        if !self.config.topic.create {
            let why = "it is missing at the destination, and creating topics is off: create it \
                       there, or let it be created (create_topics = true)";
            return (Readiness::Failing(why.to_owned()), None);
        }
        if topic.partitions == 0 {
            let why = "the source does not say how many partitions it has";
            return (Readiness::Failing(why.to_owned()), None);
        }
        let most = i16::try_from(self.brokers).unwrap_or(i16::MAX).max(1);
        let factor = self.config.topic.replication_factor;
        let action = Action::Create {
            source: Arc::clone(&topic.name),
            destination: Arc::clone(&drawn.destination),
            partitions: topic.partitions,
            replication_factor: factor.unwrap_or(topic.replication_factor.clamp(1, most)),
        };
        let readiness = match self.memory.attempts.failure(&drawn.destination) {
            None => Readiness::Waiting("it is being created at the destination".to_owned()),
            Some(failure) => failed("it is not created at the destination", failure),
        };
        (readiness, Some(action))
    }

    fn present(&mut self, drawn: &TopicPlan) -> (Readiness, Option<Action>) {
        let (source, destination) = (drawn.source_partitions, drawn.destination_partitions);
        if source == 0 || destination == 0 {
            return (Readiness::Failing("its partitions are not known yet".to_owned()), None);
        }
        if source == destination {
            self.memory.kept.insert(Arc::clone(&drawn.source));
            return (Readiness::Ready, None);
        }
        let keeps = match self.config.partitioning {
            Partitioning::Preserve => true,
            Partitioning::Auto => self.memory.kept.contains(&drawn.source),
            Partitioning::KeyHash => false,
        };
        if !keeps || source < destination {
            return (Readiness::Ready, None);
        }
        if self.config.topic.grow {
            let destination = Arc::clone(&drawn.destination);
            let readiness = match self.memory.attempts.failure(&destination) {
                None => Readiness::Waiting("partitions are being added".to_owned()),
                Some(failure) => failed("partitions are not added at the destination", failure),
            };
            return (readiness, Some(Action::Grow { destination, partitions: source }));
        }
        let readiness = match self.config.partitioning {
            Partitioning::Preserve => Readiness::Failing(
                "the destination has fewer partitions, and adding them is off: add them there, or \
                 let them be added (grow_partitions = true)"
                    .to_owned(),
            ),
            Partitioning::Auto | Partitioning::KeyHash => Readiness::Ready,
        };
        (readiness, None)
    }
}

fn failed(what: &str, Failure { why, is_final }: &Failure) -> Readiness {
    let why = format!("{what}: {why}");
    if *is_final { Readiness::Refused(why) } else { Readiness::Failing(why) }
}

#[cfg(test)]
mod tests;
