//! CreatePartitions (versions 0 to 3), to the controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest};

use super::{Admin, Results, milliseconds, topic_name, topic_outcome};
use crate::broker::Lane;
use crate::error::Error;

impl Admin {
    /// Gives topics more partitions: `counts` says how many each has afterwards.
    ///
    /// # Errors
    /// When no controller answers; what is wrong with one topic is in its result.
    pub async fn create_partitions(
        &self,
        counts: &BTreeMap<Arc<str>, i32>,
    ) -> Result<Results<Arc<str>>, Error> {
        let wanted: Vec<(Arc<str>, i32)> =
            counts.iter().map(|(name, count)| (Arc::clone(name), *count)).collect();
        let topic = |(name, count): &(Arc<str>, i32)| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(*count)
                .with_assignments(None)
        };
        let ask = async |wanted: &[(Arc<str>, i32)]| {
            let timeout = self.client.config().request_timeout;
            let answer = self
                .client
                .controller()
                .await?
                .call(Lane::Control, 0..=3, |_| {
                    CreatePartitionsRequest::default()
                        .with_topics(wanted.iter().map(topic).collect())
                        .with_timeout_ms(milliseconds(timeout / 2))
                })
                .await?;
            let results = answer.body.results.iter().map(|topic| {
                let detail = topic.error_message.as_ref();
                topic_outcome(ApiKey::CreatePartitions, &topic.name, topic.error_code, detail)
            });
            Ok(results.collect())
        };
        self.retry_each(&wanted, |(name, _)| name, ask).await
    }
}
