//! The loop that keeps both clusters' topics in step: looks at both, asks [`plan`](super::plan)
//! what is missing, does it, and publishes the outcome. A look that fails is repeated; the last
//! good plan stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, ConfigEntry, ConfigSource, NewTopic, Resource};
use kmirror_client::backoff::Backoff;
use kmirror_client::cluster::View;
use kmirror_client::{Client, ErrorCode, clock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::plan::{Action, Listed, Listing, Memory, Plan, Readiness, Traits, draw};
use crate::config::Config;
use crate::error::{End, Error, chain};
use crate::metrics::{Metric, Metrics};

/// The loop's state.
pub(crate) struct Topics {
    config: Arc<Config>,
    source: Client,
    destination: Client,
    memory: Memory,
    /// Changes that were made and that the destination does not show yet: they are not made again,
    /// but looked for soon.
    unseen: BTreeSet<Action>,
    soon: Backoff,
    traits_at: Option<Instant>,
    known: BTreeSet<Arc<str>>,
    absences: Absences,
    plans: watch::Sender<Arc<Plan>>,
    metrics: Arc<Metrics>,
}

/// How often topic configurations are read again; new topics' are read at once.
const TRAITS_AGE_MAX: Duration = Duration::from_secs(60);

/// The first pause while a change that was made is not shown yet; later ones are longer, up to the
/// ordinary interval. Brokers take a few milliseconds to hear from their controller.
const SOON: Duration = Duration::from_millis(50);

impl Topics {
    pub(crate) fn new(
        config: Arc<Config>,
        (source, destination): (Client, Client),
        plans: watch::Sender<Arc<Plan>>,
        metrics: Arc<Metrics>,
    ) -> Topics {
        let (one, other) = (source.view(), destination.view());
        let same_cluster = one.cluster_id.is_some() && one.cluster_id == other.cluster_id;
        match config.topics.names() {
            Some(names) => source.watch_topics(names),
            None => source.watch_all_topics(),
        }
        destination.watch_all_topics();
        let destination_cluster_id = other.cluster_id.clone();
        let memory = Memory { same_cluster, destination_cluster_id, ..Memory::default() };
        // Twice the interval, so that chance cannot keep a pause below it for ever.
        let soon = Backoff::new(SOON, config.topic.refresh_interval.saturating_mul(2));
        Topics {
            config,
            source,
            destination,
            memory,
            unseen: BTreeSet::new(),
            soon,
            traits_at: None,
            known: BTreeSet::new(),
            absences: Absences::default(),
            plans,
            metrics,
        }
    }

    /// Runs until dropped. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::ClusterChanged`] when another cluster answers than the one that did at the start.
    pub(crate) async fn run(mut self) -> Result<std::convert::Infallible, Error> {
        loop {
            if let Err((end, error)) = self.look().await {
                if let kmirror_client::Error::ClusterChanged { .. } = error {
                    return Err(Error::of(end, error));
                }
                let (end, error) = (end.to_string(), chain(&error));
                self.metrics.counter(Metric::ControlErrors, [&end]).inc();
                tracing::warn!(end, error, "topics not looked at");
            }
            clock::sleep(self.pause()).await;
        }
    }

    /// The time to the next look.
    fn pause(&mut self) -> Duration {
        let interval = self.config.topic.refresh_interval;
        if self.unseen.is_empty() {
            self.soon.reset();
            return interval;
        }
        let soon = self.soon.next_delay();
        if soon >= interval {
            self.unseen.clear(); // given up: what is missing is asked for anew
        }
        soon.min(interval)
    }

    /// One look at both ends, with what it calls for.
    async fn look(&mut self) -> Result<(), (End, kmirror_client::Error)> {
        let (source, destination) = self.list().await?;
        self.read_traits(&source, &destination).await;
        let brokers = self.destination.view().brokers().count();
        let (mut plan, mut missing) =
            draw(&self.config, (&source, &destination), &mut self.memory, brokers);
        let due: Vec<Action> = missing.difference(&self.unseen).cloned().collect();
        if !due.is_empty() {
            for action in due {
                self.act(action).await;
            }
            let (source, destination) = self.list().await?;
            self.read_traits(&source, &destination).await;
            (plan, missing) =
                draw(&self.config, (&source, &destination), &mut self.memory, brokers);
        }
        self.unseen.retain(|action| missing.contains(action));
        plan.denied = self.denied();
        self.publish(plan);
        Ok(())
    }

    /// Topics that match and that the source says are not granted: it tells only of those asked for
    /// by name and hides the others.
    fn denied(&self) -> BTreeSet<Arc<str>> {
        let is_denied = |topic: &&kmirror_client::cluster::Topic| {
            topic.error == ErrorCode::TOPIC_AUTHORIZATION_FAILED
                && self.config.topics.selects(&topic.name, topic.is_internal)
        };
        self.source.view().topics().filter(is_denied).map(|topic| Arc::clone(&topic.name)).collect()
    }

    async fn list(&mut self) -> Result<(Listing, Listing), (End, kmirror_client::Error)> {
        let fresh = |end, client: Client| async move {
            client.refresh(client.view().generation).await.map_err(|error| (end, error))
        };
        let (source, destination) = futures::future::try_join(
            fresh(End::Source, self.source.clone()),
            fresh(End::Destination, self.destination.clone()),
        )
        .await?;
        let mut listed = listing(&source);
        self.absences.steady(&source, &mut listed);
        Ok((listed, listing(&destination)))
    }

    /// Reads the configurations of topics that are new here, and of all of them now and then. What
    /// cannot be read is taken for Kafka's default.
    async fn read_traits(&mut self, source: &Listing, destination: &Listing) {
        let now = clock::now();
        let is_old = self.traits_at.is_none_or(|at| now.duration_since(at) >= TRAITS_AGE_MAX);
        if is_old {
            self.traits_at = Some(now);
            self.known.clear();
        }
        let selected = |listed: &&Listed| self.config.topics.selects(&listed.name, listed.internal);
        let mut sources = Vec::new();
        let mut destinations = Vec::new();
        for topic in source.values().filter(selected) {
            let Ok(name) = self.config.naming.destination(&topic.name) else { continue };
            let pair: Arc<str> = format!("{}\0{name}", topic.name).into();
            if !destination.contains_key(&name) || !self.known.insert(pair) {
                continue;
            }
            sources.push(Arc::clone(&topic.name));
            destinations.push(name);
        }
        if sources.is_empty() {
            return;
        }
        let (of_sources, of_destinations) = futures::future::join(
            traits(&self.source, &sources),
            traits(&self.destination, &destinations),
        )
        .await;
        self.memory.source_traits.extend(of_sources);
        self.memory.destination_traits.extend(of_destinations);
    }

    async fn act(&mut self, action: Action) {
        let admin = Admin::new(self.destination.clone());
        let name = Arc::clone(action.destination());
        let outcome = match &action {
            Action::Create { source, destination, partitions, replication_factor } => {
                let mut topic = NewTopic::new(Arc::clone(destination))
                    .with_partitions(*partitions)
                    .with_replication_factor(*replication_factor);
                topic.configs = self.configs_of(source).await;
                admin.create_topics(&[topic]).await
            }
            Action::Grow { destination, partitions } => {
                let counts = BTreeMap::from([(Arc::clone(destination), *partitions)]);
                admin.create_partitions(&counts).await
            }
        };
        match outcome.and_then(|mut results| results.remove(&name).unwrap_or(Ok(()))) {
            Ok(()) => {
                self.memory.failures.remove(&name);
                self.count(&action);
                tracing::info!(?action, "destination topic changed");
                self.unseen.insert(action);
            }
            Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
                self.unseen.insert(action);
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(topic = %name, error, "destination topic not changed");
                self.memory.failures.insert(name, error);
            }
        }
    }

    fn count(&self, action: &Action) {
        let metric = match action {
            Action::Create { .. } => Metric::ControlCreatedTopics,
            Action::Grow { .. } => Metric::ControlAddedPartitions,
        };
        self.metrics.counter(metric, []).inc();
    }

    /// The source's topic configuration, as far as it makes sense at the destination.
    async fn configs_of(&self, source: &Arc<str>) -> BTreeMap<String, String> {
        if !self.config.topic.copy_configs {
            return BTreeMap::new();
        }
        let found = configs(&self.source, std::slice::from_ref(source)).await;
        let Some(configs) = found.into_values().next() else {
            tracing::warn!(topic = %source, "configuration not read: created with defaults");
            return BTreeMap::new();
        };
        configs
            .into_iter()
            .filter(|(name, entry)| {
                entry.source == ConfigSource::Topic && !NOT_COPIED.contains(&name.as_str())
            })
            .filter_map(|(name, entry)| Some((name, entry.value?)))
            .collect()
    }

    fn publish(&self, plan: Plan) {
        let count = |wanted: &str| {
            let of = |topic: &&Arc<super::plan::TopicPlan>| topic.status().state == wanted;
            i64::try_from(plan.topics.values().filter(of).count()).unwrap_or(i64::MAX)
        };
        for state in ["ready", "waiting", "refused"] {
            self.metrics.gauge(Metric::ControlTopics, [state]).set(count(state));
        }
        self.plans.send_if_modified(|published| {
            let is_new = **published != plan;
            if is_new {
                for topic in plan.denied.difference(&published.denied) {
                    tracing::error!(%topic, "the source does not grant this topic");
                }
                for topic in plan.topics.values() {
                    if let Readiness::Refused(why) = &topic.readiness {
                        tracing::warn!(topic = %topic.source, why, "topic refused");
                    }
                }
                *published = Arc::new(plan);
            }
            is_new
        });
    }
}

/// Source topics that were there a moment ago. A topic whose leader is being elected, or that one
/// answer leaves out, is not gone: believing so would make the whole group rebalance.
#[derive(Debug, Default)]
struct Absences {
    last: Listing,
    looks: BTreeMap<Arc<str>, u32>,
}

/// How many looks in a row a topic has to be missing before it is believed to be gone.
const ABSENT_LOOKS: u32 = 3;

impl Absences {
    /// Puts back what is missing from `listed` for too short a time.
    fn steady(&mut self, view: &View, listed: &mut Listing) {
        for (name, last) in &self.last {
            if listed.contains_key(name) {
                self.looks.remove(name);
                continue;
            }
            let looks = self.looks.entry(Arc::clone(name)).or_default();
            *looks += 1;
            let is_known = view.topic(name).is_some_and(|topic| {
                topic.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    && topic.error != ErrorCode::TOPIC_AUTHORIZATION_FAILED
            });
            if is_known || *looks < ABSENT_LOOKS {
                listed.insert(Arc::clone(name), last.clone());
            }
        }
        self.looks.retain(|name, _| listed.contains_key(name));
        self.last.clone_from(listed);
    }
}

/// Settings that say where replicas are, or that the destination decides for itself: MirrorMaker
/// 2's `config.properties.exclude`.
const NOT_COPIED: [&str; 6] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];

fn listing(view: &View) -> Listing {
    let listed = |topic: &kmirror_client::cluster::Topic| Listed {
        name: Arc::clone(&topic.name),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        internal: topic.is_internal,
        replication_factor: topic
            .partitions
            .values()
            .next()
            .map_or(1, |first| i16::try_from(first.replicas.len()).unwrap_or(i16::MAX)),
        id: topic.id,
    };
    view.topics()
        .filter(|topic| topic.error == ErrorCode::NONE)
        .map(|topic| (Arc::clone(&topic.name), listed(topic)))
        .collect()
}

/// The configurations that could be read.
async fn configs(client: &Client, topics: &[Arc<str>]) -> BTreeMap<Arc<str>, Entries> {
    let resources: Vec<Resource> = topics.iter().cloned().map(Resource::Topic).collect();
    let found = match Admin::new(client.clone()).describe_configs(&resources).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = chain(&error), "topic configurations not read");
            return BTreeMap::new();
        }
    };
    let topic = |(resource, entries)| match (resource, entries) {
        (Resource::Topic(topic), Ok(entries)) => Some((topic, entries)),
        (Resource::Topic(_) | Resource::Broker(_), _) => None,
    };
    found.into_iter().filter_map(topic).collect()
}

async fn traits(client: &Client, topics: &[Arc<str>]) -> BTreeMap<Arc<str>, Traits> {
    let traits = |(topic, entries): (Arc<str>, Entries)| {
        let value = |name: &str| entries.get(name).and_then(|entry| entry.value.as_deref());
        let traits = Traits {
            compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            log_append_time: value("message.timestamp.type") == Some("LogAppendTime"),
            batch_bytes_max: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
        };
        (topic, traits)
    };
    configs(client, topics).await.into_iter().map(traits).collect()
}

type Entries = BTreeMap<String, ConfigEntry>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_one_answer_leaves_out_is_not_gone() {
        let name: Arc<str> = "orders".into();
        let topic = Listed {
            name: Arc::clone(&name),
            partitions: 4,
            internal: false,
            replication_factor: 1,
            id: None,
        };
        let full = Listing::from([(Arc::clone(&name), topic)]);
        let mut absences = Absences::default();
        let mut look = |listed: &Listing| {
            let mut listed = listed.clone();
            absences.steady(&View::default(), &mut listed);
            listed.len()
        };
        let empty = Listing::new();
        let seen = [look(&full), look(&empty), look(&empty), look(&full), look(&empty)];
        assert_eq!(seen, [1, 1, 1, 1, 1]);
        assert_eq!([look(&empty), look(&empty), look(&full)], [1, 0, 1]);
    }
}
