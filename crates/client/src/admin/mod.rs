//! Looking after a cluster: topics, partitions, configurations, offsets, groups.
//!
//! One file for each kind of thing. A call gives one result for each item it was given; what goes
//! wrong with one does not hide the others. What passes by itself (a controller or a leader that
//! moved, a lost connection) is tried again until [`Admin::with_timeout`] is used up.

mod configs;
mod configs_v0;
mod groups;
pub(crate) mod offsets;
mod offsets_v0;
mod partitions;
mod records;
mod topics;
mod topics_v0;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::client::Client;
use crate::clock;
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

pub use configs::{ConfigChange, ConfigEntry, ConfigSource, Resource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use offsets::{At, OffsetAt};
pub use topics::NewTopic;

/// One result for each item.
pub type Results<K, T = ()> = BTreeMap<K, Result<T, Error>>;

/// The administrator of one cluster. Cheap to clone.
///
/// ```no_run
/// # async fn example(client: kmirror_client::Client) -> Result<(), kmirror_client::Error> {
/// use kmirror_client::admin::{Admin, NewTopic};
///
/// let admin = Admin::new(client);
/// let created = admin.create_topics(&[NewTopic::new("orders").with_partitions(8)]).await?;
/// created["orders"].clone()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

impl Admin {
    /// An administrator whose calls take at most a minute, as `default.api.timeout.ms` says.
    pub fn new(client: Client) -> Self {
        Self { client, timeout: Duration::from_secs(60) }
    }

    /// The same with another limit for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The client it works through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Tries until it succeeds, fails for good, or the time is up. Metadata are asked for anew
    /// between tries, since most of what passes by itself is somebody having moved.
    async fn retry<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = Tries::new(self);
        loop {
            match attempt().await {
                Err(error) if error.is_retryable() => tries.pause(error).await?,
                outcome => return outcome,
            }
        }
    }
}

impl Admin {
    /// Tries topics again as long as their errors pass by themselves: one topic neither holds up
    /// what is known of another nor has it done twice. When the time is up, a topic keeps its last
    /// error.
    ///
    /// # Errors
    /// When no topic was answered for.
    async fn retry_each<T: Clone>(
        &self,
        topics: &[T],
        name: impl Fn(&T) -> &Arc<str>,
        mut attempt: impl AsyncFnMut(&[T]) -> Result<Results<Arc<str>>, Error>,
    ) -> Result<Results<Arc<str>>, Error> {
        let mut tries = Tries::new(self);
        let mut left = topics.to_vec();
        let mut results = Results::new();
        loop {
            let error = match attempt(&left).await {
                Ok(answers) => {
                    let passing = retryable(&answers);
                    results.extend(answers);
                    left.retain(|topic| is_passing(results.get(name(topic))));
                    match passing {
                        None => return Ok(results),
                        Some(error) => error,
                    }
                }
                Err(error) if error.is_retryable() => error,
                Err(error) => return Err(error),
            };
            match tries.pause(error).await {
                Ok(()) => {}
                Err(error) if results.is_empty() => return Err(error),
                Err(_) => return Ok(results),
            }
        }
    }
}

/// The tries of one call: when it must end, and how long to wait between.
struct Tries<'a> {
    client: &'a Client,
    deadline: Instant,
    backoff: Backoff,
}

impl<'a> Tries<'a> {
    fn new(admin: &'a Admin) -> Self {
        let config = admin.client.config();
        Self {
            client: &admin.client,
            deadline: clock::now() + admin.timeout,
            backoff: Backoff::new(config.backoff_initial, config.backoff_max),
        }
    }

    /// Waits before the next try; gives `error` back when there is no time for one.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        let delay = self.backoff.next_delay();
        if clock::now() + delay >= self.deadline {
            return Err(error);
        }
        clock::sleep(delay).await;
        // That the metadata cannot be had is found out again, and told, by the next try.
        let seen = self.client.view().generation;
        let _ = tokio::time::timeout_at(self.deadline, self.client.refresh(seen)).await;
        Ok(())
    }
}

/// What a broker says of one item, as a result.
fn outcome(
    api: ApiKey,
    subject: Subject,
    code: i16,
    detail: Option<&StrBytes>,
) -> Result<(), Error> {
    ErrorCode(code).check().map_err(|code| Error::Broker {
        api,
        subject,
        code,
        detail: detail.map(|detail| detail.as_str().into()),
    })
}

/// What a broker says of one topic.
fn topic_outcome(
    api: ApiKey,
    topic: &TopicName,
    code: i16,
    detail: Option<&StrBytes>,
) -> (Arc<str>, Result<(), Error>) {
    let name = shared(&topic.0);
    let subject = Subject::Topic(Arc::clone(&name));
    (name, outcome(api, subject, code, detail))
}

/// The first item's error that passes by itself, for which all are worth another try.
fn retryable<K, T>(results: &Results<K, T>) -> Option<Error> {
    results
        .values()
        .filter_map(|result| result.as_ref().err())
        .find(|error| error.is_retryable())
        .cloned()
}

fn is_passing<T>(result: Option<&Result<T, Error>>) -> bool {
    result.is_some_and(|result| result.as_ref().is_err_and(Error::is_retryable))
}

/// Puts what is asked of partitions under their topics, each topic once.
fn by_topic<'a, T: 'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, T)>,
) -> BTreeMap<&'a str, Vec<(i32, T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, T)>> = BTreeMap::new();
    for (partition, asked) in partitions {
        topics.entry(&partition.topic).or_default().push((partition.partition, asked));
    }
    topics
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn shared(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

/// Kafka counts its time-outs in milliseconds of 31 bits.
fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
