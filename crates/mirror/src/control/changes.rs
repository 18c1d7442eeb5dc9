//! Makes at the destination what the plan calls for: topics and partitions, many in one request.
//! Each change has its own outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, NewTopic, Results};
use kmirror_client::{Client, Error, ErrorCode};

use super::attempts::Failure;
use super::configs::{self, Settings};
use super::plan::{Action, Listing};
use crate::config::Config;
use crate::error::chain;

/// How many topics one request changes, and about how many partitions they have together: Kafka's
/// controller refuses more than 10,000 in one.
const TOPICS_MAX: usize = 100;
const PARTITIONS_MAX: i32 = 5_000;

/// How long a controller that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a topic is asked for with fewer settings: a broker names one at a time.
const SETTINGS_REFUSED_MAX: usize = 16;

/// Both ends, to make changes with.
pub(super) struct Changes<'a> {
    pub(super) config: &'a Config,
    pub(super) source: &'a Client,
    pub(super) destination: &'a Client,
    /// The destination's topics.
    pub(super) listed: &'a Listing,
}

/// What became of one change.
pub(super) type Outcome = (Action, Result<Made, Failure>);

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// This process.
    Here,
    /// Somebody else, a moment before.
    Elsewhere,
}

/// As many of these changes as go into one request.
pub(super) fn batch(actions: impl Iterator<Item = Action>) -> Vec<Action> {
    let mut partitions = 0_i32;
    let fits = |action: &Action| {
        let is_first = partitions == 0;
        partitions = partitions.saturating_add(action.partitions().max(1));
        is_first || partitions <= PARTITIONS_MAX
    };
    actions.take(TOPICS_MAX).take_while(fits).collect()
}

impl Changes<'_> {
    /// Makes a batch of changes.
    pub(super) async fn make(&self, batch: Vec<Action>) -> Vec<Outcome> {
        let is_creation = |action: &Action| matches!(action, Action::Create { .. });
        let (creations, growths): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_creation);
        let mut outcomes = self.create(creations).await;
        outcomes.append(&mut self.grow(growths).await);
        outcomes
    }

    async fn create(&self, actions: Vec<Action>) -> Vec<Outcome> {
        let mut settings = self.settings(&actions).await;
        let mut topics = Vec::new();
        let mut unread = BTreeMap::new();
        for action in &actions {
            let Action::Create { source, destination, partitions, replication_factor } = action
            else {
                continue;
            };
            match settings.remove(source).unwrap_or_else(|| Ok(Settings::new())) {
                Ok(configs) => {
                    let mut topic = NewTopic::new(Arc::clone(destination))
                        .with_partitions(*partitions)
                        .with_replication_factor(*replication_factor);
                    topic.configs = configs;
                    topics.push(topic);
                }
                Err(failure) => drop(unread.insert(Arc::clone(destination), failure)),
            }
        }
        let mut results = create(&self.admin(), topics).await;
        let outcome = |action: Action| {
            let outcome = match unread.remove(action.destination()) {
                Some(failure) => Err(failure),
                None => self.judge(&action, results.remove(action.destination())),
            };
            (action, outcome)
        };
        actions.into_iter().map(outcome).collect()
    }

    async fn grow(&self, actions: Vec<Action>) -> Vec<Outcome> {
        if actions.is_empty() {
            return Vec::new();
        }
        let count = |action: &Action| (Arc::clone(action.destination()), action.partitions());
        let counts: BTreeMap<Arc<str>, i32> = actions.iter().map(count).collect();
        let mut results = each(counts.keys(), self.admin().create_partitions(&counts).await);
        let outcome = |action: Action| {
            let outcome = self.judge(&action, results.remove(action.destination()));
            (action, outcome)
        };
        actions.into_iter().map(outcome).collect()
    }

    fn admin(&self) -> Admin {
        Admin::new(self.destination.clone()).with_timeout(PATIENCE)
    }

    /// What each topic to be created is created with, by its name at the source; nothing for any
    /// when configurations are not copied.
    async fn settings(&self, batch: &[Action]) -> BTreeMap<Arc<str>, Result<Settings, Failure>> {
        if !self.config.topic.copy_configs {
            return BTreeMap::new();
        }
        let source = |action: &Action| match action {
            Action::Create { source, .. } => Some(Arc::clone(source)),
            Action::Grow { .. } => None,
        };
        let sources: Vec<Arc<str>> = batch.iter().filter_map(source).collect();
        let read = configs::read(self.source, &sources).await;
        let copied = |(topic, entries): (Arc<str>, Result<_, Error>)| {
            (topic, entries.map(configs::copied).map_err(|error| configs::unread(&error)))
        };
        read.into_iter().map(copied).collect()
    }

    fn judge(&self, action: &Action, result: Option<Result<(), Error>>) -> Result<Made, Failure> {
        let error = match result {
            None | Some(Ok(())) => return Ok(Made::Here),
            Some(Err(error)) if error.code().is_some_and(|code| is_there(action, code)) => {
                return Ok(Made::Elsewhere);
            }
            Some(Err(error)) => error,
        };
        let code = error.code();
        let why = match self.collision(action.destination()) {
            Some(other) if code == Some(ErrorCode::INVALID_TOPIC_EXCEPTION) => format!(
                "its name there, {}, collides with {other}: Kafka takes a dot and an underscore \
                 for the same; rename one of them, or leave this topic out",
                action.destination()
            ),
            _ => chain(&error),
        };
        Err(Failure { why, is_final: code.is_some_and(is_final) })
    }

    /// A topic of the destination whose name Kafka cannot tell from this one in its metrics.
    fn collision(&self, name: &str) -> Option<&Arc<str>> {
        let blurred = name.replace('.', "_");
        self.listed.keys().find(|other| ***other != *name && other.replace('.', "_") == blurred)
    }
}

/// Creates topics. Settings that the destination refuses are left out, which is said.
async fn create(admin: &Admin, mut topics: Vec<NewTopic>) -> Results<Arc<str>> {
    let mut results = Results::new();
    let mut refused: BTreeMap<Arc<str>, Settings> = BTreeMap::new();
    for _ in 0..=SETTINGS_REFUSED_MAX {
        if topics.is_empty() {
            break;
        }
        let created = admin.create_topics(&topics).await;
        let mut created = each(topics.iter().map(|topic| &topic.name), created);
        topics.retain_mut(|topic| {
            let error = created.get(&topic.name).and_then(|result| result.as_ref().err());
            let mut less = error.map(|error| lessen(topic, error)).unwrap_or_default();
            let is_less = !less.is_empty();
            refused.entry(Arc::clone(&topic.name)).or_default().append(&mut less);
            is_less
        });
        results.append(&mut created);
    }
    for (topic, settings) in refused {
        if !settings.is_empty() && results.get(&topic).is_some_and(Result::is_ok) {
            let settings: Vec<String> =
                settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let settings = settings.join(", ");
            tracing::warn!(%topic, settings, "topic created without what the destination refused");
        }
    }
    results
}

/// Takes from a topic the settings that the destination's words name.
fn lessen(topic: &mut NewTopic, error: &Error) -> Settings {
    match error {
        Error::Broker {
            code: ErrorCode::INVALID_CONFIG | ErrorCode::POLICY_VIOLATION,
            detail: Some(words),
            ..
        } => configs::take_refused(&mut topic.configs, words),
        _ => Settings::new(),
    }
}

/// A result for each topic, also when there was none for any.
fn each<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
    results: Result<Results<Arc<str>>, Error>,
) -> Results<Arc<str>> {
    match results {
        Ok(results) => results,
        Err(error) => names.map(|name| (Arc::clone(name), Err(error.clone()))).collect(),
    }
}

/// Whether the answer says that the topic, or its partitions, are there already.
fn is_there(action: &Action, code: ErrorCode) -> bool {
    match action {
        Action::Create { .. } => code == ErrorCode::TOPIC_ALREADY_EXISTS,
        Action::Grow { .. } => code == ErrorCode::INVALID_PARTITIONS,
    }
}

/// Answers that stay the same until somebody changes something.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_CONFIG
            | ErrorCode::POLICY_VIOLATION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_topics_and_partitions_and_takes_one_at_least() {
        let create = |name: usize, partitions| Action::Create {
            source: name.to_string().into(),
            destination: name.to_string().into(),
            partitions,
            replication_factor: 1,
        };
        let taken = |count, partitions| batch((0..count).map(|at| create(at, partitions))).len();
        assert_eq!(taken(7, 1), 7);
        assert_eq!(taken(1_000, 1), TOPICS_MAX);
        assert_eq!(taken(100, 100), 50);
        assert_eq!(taken(3, 9_000), 1);
        assert_eq!(taken(0, 1), 0);
    }
}
