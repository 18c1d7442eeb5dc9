//! What topics are configured to: read from either cluster, many topics at a time, and what of a
//! source topic's configuration a destination topic is created with.
//!
//! Always true: what could not be read is an error, never a default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, ConfigEntry, ConfigSource, Resource};
use kmirror_client::error::Subject;
use kmirror_client::messages::ApiKey;
use kmirror_client::{Client, Error, ErrorCode};

use super::attempts::Failure;
use super::plan::Traits;
use crate::error::chain;

/// The configuration of one topic.
pub(super) type Entries = BTreeMap<String, ConfigEntry>;

/// What is set on a topic, by name.
pub(super) type Settings = BTreeMap<String, String>;

/// How many topics one request asks about.
const TOPICS_MAX: usize = 500;

/// How long a cluster that does not answer is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the configurations of these topics; each has a result.
pub(super) async fn read(
    client: &Client,
    topics: &[Arc<str>],
) -> BTreeMap<Arc<str>, Result<Entries, Error>> {
    let admin = Admin::new(client.clone()).with_timeout(PATIENCE);
    let mut read = BTreeMap::new();
    let mut chunks = topics.chunks(TOPICS_MAX);
    for chunk in chunks.by_ref() {
        let resources: Vec<Resource> = chunk.iter().cloned().map(Resource::Topic).collect();
        match admin.describe_configs(&resources).await {
            Ok(results) => read.extend(results.into_iter().filter_map(of_topic)),
            Err(error) => {
                // A cluster that does not answer is not asked once more for each chunk.
                let rest = chunk.iter().chain(chunks.flatten());
                read.extend(rest.map(|topic| (Arc::clone(topic), Err(error.clone()))));
                break;
            }
        }
    }
    for topic in topics {
        read.entry(Arc::clone(topic)).or_insert_with(|| {
            let subject = Subject::Topic(Arc::clone(topic));
            let code = ErrorCode::UNKNOWN_SERVER_ERROR;
            Err(Error::broker(ApiKey::DescribeConfigs, subject, code))
        });
    }
    read
}

fn of_topic<T>((resource, result): (Resource, T)) -> Option<(Arc<str>, T)> {
    match resource {
        Resource::Topic(topic) => Some((topic, result)),
        Resource::Broker(_) => None,
    }
}

/// What matters of a configuration while its topic is mirrored.
pub(super) fn traits(entries: &Entries) -> Traits {
    let value = |name: &str| entries.get(name).and_then(|entry| entry.value.as_deref());
    Traits {
        compacted: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        log_append_time: value("message.timestamp.type") == Some("LogAppendTime"),
        batch_bytes_max: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
    }
}

/// What a destination topic is created with: what was set on the source topic, as far as it means
/// the same there.
pub(super) fn copied(entries: Entries) -> Settings {
    entries
        .into_iter()
        .filter(|(name, entry)| entry.source == ConfigSource::Topic && is_copied(name))
        .filter_map(|(name, entry)| Some((name, entry.value?)))
        .collect()
}

fn is_copied(name: &str) -> bool {
    !NOT_COPIED.contains(&name) && !FOREIGN.iter().any(|prefix| name.starts_with(prefix))
}

/// Settings that say where replicas are, or that the destination decides for itself: those that
/// MirrorMaker 2 leaves out (`config.properties.exclude`), the newer limits of timestamps, and the
/// format of messages, of which the mirror needs the newest.
const NOT_COPIED: [&str; 9] = [
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
    "message.format.version",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.insync.replicas",
    "unclean.leader.election.enable",
];

/// Tiered storage is the cluster's own, and so is what a vendor added.
const FOREIGN: [&str; 4] = ["confluent.", "local.retention.", "redpanda.", "remote."];

/// Takes out of `settings` those that the destination refuses, by its own words, and returns them.
/// What is compacted or deleted is never left to chance.
pub(super) fn take_refused(settings: &mut Settings, words: &str) -> Settings {
    let is_apart = |letter: char| !(letter.is_ascii_alphanumeric() || "._-".contains(letter));
    let words: BTreeSet<&str> = words.split(is_apart).map(|word| word.trim_matches('.')).collect();
    let is_refused =
        |name: &String, _: &mut String| words.contains(name.as_str()) && name != "cleanup.policy";
    settings.extract_if(.., is_refused).collect()
}

/// Why a topic is not created whose configuration could not be read, and what to do about it.
pub(super) fn unread(error: &Error) -> Failure {
    let cause = chain(error);
    let what = "the configuration of the source topic cannot be read";
    let remedy = "create the topic at the destination by hand, or have topics created without the \
                  source's configuration (copy_topic_configs = false, or \
                  --copy.topic.configs false)";
    let why = match error {
        Error::UnsupportedVersion { .. } => {
            format!("{what}: its brokers do not tell it ({cause}); {remedy}")
        }
        _ if error.code().is_some_and(is_denial) => {
            format!("{what}: {cause}; grant DescribeConfigs on it, {remedy}")
        }
        _ => format!("{what} yet: {cause}"),
    };
    Failure::passing(why)
}

fn is_denial(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(names: &[&str]) -> Settings {
        names.iter().map(|name| ((*name).to_owned(), "1".to_owned())).collect()
    }

    #[test]
    fn what_the_destination_names_is_taken_out_and_nothing_else() {
        let words = [
            "Unknown topic config name: segment.bytes",
            "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
            "unknown setting segment.bytes",
            "'segment.bytes' is not allowed.",
            "Not allowed: segment.bytes.",
        ];
        for words in words {
            let mut left = settings(&["segment.bytes", "segment.ms", "bytes", "cleanup.policy"]);
            let refused = take_refused(&mut left, words);
            assert_eq!(refused, settings(&["segment.bytes"]), "{words}");
            assert_eq!(left.len(), 3);
        }
        let mut left = settings(&["segment.bytes"]);
        assert!(take_refused(&mut left, "Unknown: segment.bytes.max").is_empty());
    }

    #[test]
    fn how_old_records_go_is_never_taken_out() {
        let mut left = settings(&["cleanup.policy"]);
        assert!(take_refused(&mut left, "Invalid value for cleanup.policy").is_empty());
    }

    #[test]
    fn only_what_was_set_on_the_topic_and_means_the_same_elsewhere_is_copied() {
        let entry = |source| ConfigEntry {
            value: Some("1".to_owned()),
            source,
            is_read_only: false,
            is_sensitive: false,
        };
        let set = [
            "cleanup.policy",
            "confluent.placement.constraints",
            "local.retention.ms",
            "message.format.version",
            "message.timestamp.after.max.ms",
            "message.timestamp.before.max.ms",
            "message.timestamp.difference.max.ms",
            "min.insync.replicas",
            "remote.storage.enable",
        ];
        let mut entries: Entries =
            set.iter().map(|name| ((*name).to_owned(), entry(ConfigSource::Topic))).collect();
        entries.insert("retention.ms".to_owned(), entry(ConfigSource::DynamicBroker));
        entries.insert("segment.ms".to_owned(), entry(ConfigSource::Default));
        assert_eq!(copied(entries), settings(&["cleanup.policy"]));
    }
}
