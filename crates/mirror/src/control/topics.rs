//! The loop that keeps both clusters' topics in step: looks at both, asks [`plan`](super::plan)
//! what they call for, publishes it, then has [`changes`](super::changes) do a bounded part of what
//! is missing and looks again. A look that fails is repeated; the last good plan stays in force.
//!
//! Always true: what can flow already never waits for what is being created.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::backoff::Backoff;
use kmirror_client::cluster::View;
use kmirror_client::{Client, ErrorCode, clock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempts::Failure;
use super::changes::{self, Changes, Made};
use super::configs;
use super::plan::{Action, Listed, Listing, Memory, NOT_SHOWN, Plan, TopicPlan, Traits, draw};
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
    /// Something was tried since the last look.
    is_changed: bool,
    traits_at: Option<Instant>,
    known: BTreeSet<Arc<str>>,
    /// Why configurations could not be read at either end, as it was said last.
    unread: [Option<String>; 2],
    unmatched: Unmatched,
    absences: Absences,
    missing: Missing,
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
            is_changed: false,
            traits_at: None,
            known: BTreeSet::new(),
            unread: [None, None],
            unmatched: Unmatched::default(),
            absences: Absences::default(),
            missing: Missing::default(),
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
        if std::mem::take(&mut self.is_changed) {
            return Duration::ZERO; // what came of it is published, and the next part tried
        }
        let interval = self.config.topic.refresh_interval;
        if self.unmatched.is_in_doubt() || self.missing.is_in_doubt(clock::now()) {
            return interval.min(DOUBT_INTERVAL);
        }
        if self.unseen.is_empty() {
            self.soon.reset();
            return interval;
        }
        let soon = self.soon.next_delay();
        if soon >= interval {
            self.give_up(); // what is missing is asked for anew
        }
        soon.min(interval)
    }

    /// What was changed does not show, and has had its time.
    fn give_up(&mut self) {
        let times = (clock::now(), self.config.topic.refresh_interval);
        for action in std::mem::take(&mut self.unseen) {
            let why = "the destination says that it is done, and does not show it; it may be \
                       deleting a topic of that name";
            let failure = Failure::passing(why.to_owned());
            self.memory.attempts.fail(action.destination(), failure, times);
        }
    }

    /// One look at both ends, and a part of what it calls for.
    async fn look(&mut self) -> Result<(), (End, kmirror_client::Error)> {
        let (source, destination) = self.list().await?;
        self.read_traits(&source, &destination).await;
        let brokers = self.destination.view().brokers().count();
        let (mut plan, missing) =
            draw(&self.config, (&source, &destination), &mut self.memory, brokers);
        self.unseen.retain(|action| missing.contains(action));
        plan.denied = self.denied();
        self.match_up(&mut plan);
        self.miss(&source, &mut plan);
        self.publish(plan);
        let now = clock::now();
        let is_due = |action: &Action| {
            !self.unseen.contains(action) && self.memory.attempts.is_due(action.destination(), now)
        };
        let batch = changes::batch(missing.into_iter().filter(is_due));
        if !batch.is_empty() {
            self.is_changed = true;
            self.change(batch, &destination).await;
        }
        Ok(())
    }

    /// Judges a plan that holds nothing. One look may be wrong: it is complete once several agree.
    fn match_up(&mut self, plan: &mut Plan) {
        if !plan.topics.is_empty() || !plan.denied.is_empty() {
            self.unmatched = Unmatched::default();
            return;
        }
        plan.complete = self.unmatched.is_believed();
        plan.is_unmatched = true;
        if self.unmatched.is_to_be_said(clock::now()) {
            let selection = self.config.topics.to_string();
            tracing::warn!(selection, "no topic of the source matches");
        }
    }

    /// Notes the topics that are asked for by name and that the source does not show. What flows
    /// never waits for them.
    fn miss(&mut self, source: &Listing, plan: &mut Plan) {
        let mut names = self.config.topics.names().unwrap_or_default();
        names.retain(|name| {
            let is_shown = source.contains_key(name) || plan.denied.contains(name);
            !is_shown && self.config.topics.selects(name, false)
        });
        let now = clock::now();
        plan.absent = self.missing.judge(names, now);
        plan.is_in_doubt = self.missing.is_in_doubt(now);
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
    /// cannot be read is taken for Kafka's default: the destination refuses what it cannot take,
    /// and what is refused is seen then.
    async fn read_traits(&mut self, source: &Listing, destination: &Listing) {
        let now = clock::now();
        let is_old = self.traits_at.is_none_or(|at| now.duration_since(at) >= TRAITS_AGE_MAX);
        if is_old {
            self.traits_at = Some(now);
            self.known.clear();
        }
        self.known.retain(|topic| source.contains_key(topic));
        let selected = |listed: &&Listed| self.config.topics.selects(&listed.name, listed.internal);
        let mut sources = Vec::new();
        let mut destinations = Vec::new();
        for topic in source.values().filter(selected) {
            let Ok(name) = self.config.naming.destination(&topic.name) else { continue };
            if !destination.contains_key(&name) {
                self.known.remove(&topic.name);
            } else if self.known.insert(Arc::clone(&topic.name)) {
                sources.push(Arc::clone(&topic.name));
                destinations.push(name);
            }
        }
        if sources.is_empty() {
            return;
        }
        let (of_sources, of_destinations) = futures::future::join(
            configs::read(&self.source, &sources),
            configs::read(&self.destination, &destinations),
        )
        .await;
        for (name, topic) in destinations.iter().zip(&sources) {
            let results = [of_sources.get(topic), of_destinations.get(name)];
            let mut errors = results.into_iter().flatten().filter_map(|read| read.as_ref().err());
            if errors.any(kmirror_client::Error::is_retryable) {
                self.known.remove(topic);
            }
        }
        let of_sources = self.traits(End::Source, of_sources);
        let of_destinations = self.traits(End::Destination, of_destinations);
        self.memory.source_traits.extend(of_sources);
        self.memory.destination_traits.extend(of_destinations);
    }

    /// What could be read; what could not is said once.
    fn traits(&mut self, end: End, read: Read) -> BTreeMap<Arc<str>, Traits> {
        let mut traits = BTreeMap::new();
        let mut unread = None;
        for (topic, entries) in read {
            match entries {
                Ok(entries) => drop(traits.insert(topic, configs::traits(&entries))),
                Err(error) => unread = unread.or(Some((topic, chain(&error)))),
            }
        }
        let said = match end {
            End::Source => &mut self.unread[0],
            End::Destination => &mut self.unread[1],
        };
        match unread {
            // New topics alone that can be read say nothing of the others.
            None => {}
            Some((_, error)) if said.as_deref() == Some(&*error) => {}
            Some((topic, error)) => {
                tracing::warn!(%end, %topic, error, "configurations not read: taken for defaults");
                *said = Some(error);
            }
        }
        traits
    }

    async fn change(&mut self, batch: Vec<Action>, listed: &Listing) {
        let changes = Changes {
            config: &self.config,
            source: &self.source,
            destination: &self.destination,
            listed,
        };
        for (action, outcome) in changes.make(batch).await {
            match outcome {
                Ok(made) => {
                    if made == Made::Here {
                        self.count(&action);
                        tracing::info!(?action, "destination topic changed");
                    }
                    self.unseen.insert(action);
                }
                Err(failure) => {
                    let first = self.config.topic.refresh_interval;
                    let times = (clock::now(), first);
                    self.memory.attempts.fail(action.destination(), failure, times);
                }
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

    fn publish(&self, plan: Plan) {
        let count = |wanted: &str| {
            let of = |topic: &&Arc<TopicPlan>| topic.status().state == wanted;
            i64::try_from(plan.topics.values().filter(of).count()).unwrap_or(i64::MAX)
        };
        for state in ["ready", "waiting", "refused"] {
            self.metrics.gauge(Metric::ControlTopics, [state]).set(count(state));
        }
        self.plans.send_if_modified(|published| {
            let is_new = **published != plan;
            if is_new {
                tell(published, &plan);
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

/// What changes for an operator from one plan to the next; what stays as it is was said before.
fn tell(before: &Plan, now: &Plan) {
    for topic in now.denied.difference(&before.denied) {
        tracing::error!(%topic, "the source does not grant this topic");
    }
    for topic in now.absent.difference(&before.absent) {
        tracing::warn!(%topic, why = NOT_SHOWN, "topic not found");
    }
    for (topic, why) in now.newly_blocked(before) {
        let (topic, destination) = (&topic.source, &topic.destination);
        tracing::warn!(%topic, %destination, why, "topic not mirrored");
    }
    for topic in now.newly_free(before) {
        tracing::info!(topic = %topic.source, "topic no longer held up");
    }
    for topic in before.topics.keys().filter(|topic| !now.topics.contains_key(*topic)) {
        tracing::info!(%topic, "topic no longer mirrored: the source does not show it any more");
    }
}

/// Topics that are asked for by name and that the source does not show, and since when. Brokers
/// may show a topic a moment later than another does. Bounded by the names asked for.
#[derive(Debug, Default)]
struct Missing(BTreeMap<Arc<str>, Instant>);

/// How long a topic has to be missing before it is believed that there is none.
const MISSING_MIN: Duration = Duration::from_secs(3);

impl Missing {
    /// Takes what is missing at a look; gives what has been for long enough.
    fn judge(&mut self, missing: BTreeSet<Arc<str>>, now: Instant) -> BTreeSet<Arc<str>> {
        self.0.retain(|name, _| missing.contains(name));
        let is_believed = |name: &Arc<str>| {
            let since = *self.0.entry(Arc::clone(name)).or_insert(now);
            now.duration_since(since) >= MISSING_MIN
        };
        missing.into_iter().filter(is_believed).collect()
    }

    /// Whether the next look may see something.
    fn is_in_doubt(&self, now: Instant) -> bool {
        self.0.values().any(|since| now.duration_since(*since) < MISSING_MIN)
    }
}

/// Looks in a row at which nothing matched.
#[derive(Debug, Default)]
struct Unmatched {
    looks: u32,
    say_at: Option<Instant>,
}

/// The time between looks as long as it is in doubt whether anything matches, or what is missing.
const DOUBT_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is said that nothing matches.
const UNMATCHED_SAID: Duration = Duration::from_mins(10);

impl Unmatched {
    /// Whether the next look may see something.
    fn is_in_doubt(&self) -> bool {
        (1..ABSENT_LOOKS).contains(&self.looks)
    }

    /// One more look; whether there have been enough of them.
    fn is_believed(&mut self) -> bool {
        self.looks = self.looks.saturating_add(1);
        self.looks >= ABSENT_LOOKS
    }

    fn is_to_be_said(&mut self, now: Instant) -> bool {
        let is_due = self.looks >= ABSENT_LOOKS && self.say_at.is_none_or(|at| at <= now);
        if is_due {
            self.say_at = Some(now + UNMATCHED_SAID);
        }
        is_due
    }
}

/// Configurations as they were read.
type Read = BTreeMap<Arc<str>, Result<configs::Entries, kmirror_client::Error>>;

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

    #[test]
    fn a_topic_that_is_asked_for_by_name_is_in_doubt_for_a_while_and_absent_then() {
        let names = |names: &[&str]| -> BTreeSet<Arc<str>> {
            names.iter().map(|name| (*name).into()).collect()
        };
        let start = clock::now();
        let mut missing = Missing::default();
        let mut seen = Vec::new();
        for (second, look) in
            [(0, &["a", "b"][..]), (2, &["a"]), (3, &["a", "b"]), (6, &["b"]), (7, &[])]
        {
            let now = start + Duration::from_secs(second);
            let absent = missing.judge(names(look), now);
            seen.push((absent, missing.is_in_doubt(now)));
        }
        let expected =
            [(&[][..], true), (&[], true), (&["a"], true), (&["b"], false), (&[], false)];
        assert_eq!(seen, expected.map(|(absent, doubt)| (names(absent), doubt)));
    }

    #[test]
    fn that_nothing_matches_is_believed_after_several_looks_and_said_now_and_then() {
        let mut unmatched = Unmatched::default();
        let start = clock::now();
        let mut believed = Vec::new();
        let mut said = 0;
        for minute in 0..60 {
            believed.push(unmatched.is_believed());
            said += u32::from(unmatched.is_to_be_said(start + Duration::from_mins(minute)));
        }
        assert_eq!(believed[..4], [false, false, true, true]);
        assert_eq!(said, 6);
    }
}
