//! CreateTopics (versions 2 to 7; 0 in [`topics_v0`]) and DeleteTopics (1 to 5). Both go to the
//! controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest, DeleteTopicsRequest};

use super::{Admin, Results, milliseconds, text, topic_name, topic_outcome, topics_v0};
use crate::broker::Lane;
use crate::error::Error;

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions; -1 leaves it to the broker (from 2.4).
    pub partitions: i32,
    /// How often each partition is kept; -1 leaves it to the broker (from 2.4).
    pub replication_factor: i16,
    /// Configuration that differs from the broker's defaults.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), partitions: -1, replication_factor: -1, configs: BTreeMap::new() }
    }

    /// Sets how many partitions it gets.
    #[must_use]
    pub fn with_partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets how often each partition is kept.
    #[must_use]
    pub fn with_replication_factor(mut self, replication_factor: i16) -> Self {
        self.replication_factor = replication_factor;
        self
    }

    /// Sets one configuration.
    #[must_use]
    pub fn with_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    fn request(&self) -> CreatableTopic {
        let config = |(name, value): (&String, &String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replication_factor)
            .with_configs(self.configs.iter().map(config).collect())
    }
}

impl Admin {
    /// Creates topics.
    ///
    /// A try whose answer was lost may have done it: `TOPIC_ALREADY_EXISTS` after such a try counts
    /// as done.
    ///
    /// # Errors
    /// When no controller answers; what is wrong with one topic is in its result.
    pub async fn create_topics(&self, topics: &[NewTopic]) -> Result<Results<Arc<str>>, Error> {
        let mut may_be_done = false;
        self.retry_each(
            topics,
            |topic| &topic.name,
            async |topics: &[NewTopic]| {
                let is_again = std::mem::replace(&mut may_be_done, true);
                let results = self.create_topics_once(topics).await?;
                Ok(if is_again { forgive_existing(results) } else { results })
            },
        )
        .await
    }

    async fn create_topics_once(&self, topics: &[NewTopic]) -> Result<Results<Arc<str>>, Error> {
        let timeout = self.client.config().request_timeout;
        let controller = self.client.controller().await?;
        let connection = controller.connection(Lane::Control).await?;
        if topics_v0::is_all_there_is(&connection) {
            return topics_v0::create(&connection, topics, timeout).await;
        }
        let answer = controller
            .call(Lane::Control, 2..=7, |_| {
                CreateTopicsRequest::default()
                    .with_topics(topics.iter().map(NewTopic::request).collect())
                    .with_timeout_ms(milliseconds(timeout / 2))
            })
            .await?;
        let results = answer.body.topics.iter().map(|topic| {
            let detail = topic.error_message.as_ref();
            topic_outcome(ApiKey::CreateTopics, &topic.name, topic.error_code, detail)
        });
        Ok(results.collect())
    }

    /// Deletes topics. A topic may still be seen for a moment after it was deleted.
    ///
    /// # Errors
    /// When no controller answers; what is wrong with one topic is in its result.
    pub async fn delete_topics(&self, names: &[Arc<str>]) -> Result<Results<Arc<str>>, Error> {
        self.retry(async || {
            let timeout = self.client.config().request_timeout;
            let answer = self
                .client
                .controller()
                .await?
                .call(Lane::Control, 1..=5, |_| {
                    DeleteTopicsRequest::default()
                        .with_topic_names(names.iter().map(|name| topic_name(name)).collect())
                        .with_timeout_ms(milliseconds(timeout / 2))
                })
                .await?;
            let results = answer.body.responses.iter().filter_map(|topic| {
                let (name, detail) = (topic.name.as_ref()?, topic.error_message.as_ref());
                Some(topic_outcome(ApiKey::DeleteTopics, name, topic.error_code, detail))
            });
            Ok(results.collect())
        })
        .await
    }
}

fn forgive_existing(mut results: Results<Arc<str>>) -> Results<Arc<str>> {
    for result in results.values_mut() {
        let code = result.as_ref().err().and_then(Error::code);
        if code == Some(crate::ErrorCode::TOPIC_ALREADY_EXISTS) {
            *result = Ok(());
        }
    }
    results
}
