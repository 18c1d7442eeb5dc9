//! DeleteRecords (versions 0 to 2), to each partition's leader.

use std::collections::BTreeMap;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest};

use super::{Admin, Results, by_topic, milliseconds, outcome, topic_name};
use crate::broker::Lane;
use crate::error::{Error, Subject};
use crate::name::{BrokerId, TopicPartition};

impl Admin {
    /// Deletes the records before an offset (-1: all there are now). Gives the log start offset
    /// that each partition has afterwards.
    ///
    /// # Errors
    /// When the cluster cannot be reached; what is wrong with one partition is in its result.
    pub async fn delete_records(
        &self,
        before: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Results<TopicPartition, i64>, Error> {
        self.at_leaders(before, |leader, partitions| async move {
            self.delete_records_at(leader, &partitions).await
        })
        .await
    }

    async fn delete_records_at(
        &self,
        leader: BrokerId,
        partitions: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Results<TopicPartition, i64>, Error> {
        let timeout = milliseconds(self.client.config().request_timeout / 2);
        let topics = by_topic(partitions).into_iter().map(|(topic, offsets)| {
            let partition = |(index, offset): (i32, &i64)| {
                DeleteRecordsPartition::default().with_partition_index(index).with_offset(*offset)
            };
            DeleteRecordsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(offsets.into_iter().map(partition).collect())
        });
        let request =
            DeleteRecordsRequest::default().with_topics(topics.collect()).with_timeout_ms(timeout);
        let broker = self.client.broker(leader)?;
        let answer = broker.call(Lane::Control, 0..=2, |_| request).await?;
        let results = answer.body.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|result| {
                let partition = TopicPartition::new(topic.name.0.as_str(), result.partition_index);
                let subject = Subject::Partition(partition.clone());
                let done = outcome(ApiKey::DeleteRecords, subject, result.error_code, None);
                (partition, done.map(|()| result.low_watermark))
            })
        });
        Ok(results.collect())
    }
}
