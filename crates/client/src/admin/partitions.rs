//! CreatePartitions (versions 0 to 3), to the controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest};

use super::{Admin, Results, milliseconds, outcome, retryable, shared, topic_name};
use crate::broker::Lane;
use crate::error::{Error, Subject};

impl Admin {
    /// Gives topics more partitions: `counts` says how many each has afterwards.
    ///
    /// # Errors
    /// When no controller answers; what is wrong with one topic is in its result.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<Arc<str>, i32>,
    ) -> Result<Results<Arc<str>>, Error> {
        let topic = |(name, count): (&Arc<str>, &i32)| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(*count)
                .with_assignments(None)
        };
        self.retry(async || {
            let timeout = self.client.config().request_timeout;
            let answer = self
                .client
                .controller()
                .await?
                .call(Lane::Control, 0..=3, |_| {
                    CreatePartitionsRequest::default()
                        .with_topics(counts.iter().map(topic).collect())
                        .with_timeout_ms(milliseconds(timeout / 2))
                })
                .await?;
            let results = answer.body.results.iter().map(|topic| {
                let name = shared(&topic.name.0);
                let subject = Subject::Topic(Arc::clone(&name));
                let detail = topic.error_message.as_ref();
                (name, outcome(ApiKey::CreatePartitions, subject, topic.error_code, detail))
            });
            let results: Results<Arc<str>> = results.collect();
            retryable(&results).map_or(Ok(results), Err)
        })
        .await
    }
}
