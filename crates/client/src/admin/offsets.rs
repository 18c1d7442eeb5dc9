//! ListOffsets (versions 1 to 8), to each partition's leader; and the way of every question that
//! only leaders can answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest};

use super::{Admin, Results, Tries, by_topic, offsets_v0, outcome, topic_name};
use crate::broker::Lane;
use crate::client::Client;
use crate::cluster::View;
use crate::connection::Connection;
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;
use crate::isolation::Isolation;
use crate::name::{BrokerId, TopicPartition};

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first that is kept.
    Earliest,
    /// The one after the last: the high watermark, or the last stable offset when only committed
    /// records are asked for.
    Latest,
    /// The first record that is not older than this, in milliseconds since 1970.
    Time(i64),
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAt {
    /// The offset; `None` when no record is as young as the time asked for.
    pub offset: Option<i64>,
    /// The record's timestamp, for [`At::Time`], in milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record, where the broker tells.
    pub leader_epoch: Option<i32>,
}

impl Admin {
    /// Asks each partition's leader for an offset.
    ///
    /// # Errors
    /// When the cluster cannot be reached; what is wrong with one partition is in its result.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, At>,
        isolation: Isolation,
    ) -> Result<Results<TopicPartition, OffsetAt>, Error> {
        self.at_leaders(wanted, |leader, partitions| async move {
            ask_leader(&self.client, leader, &partitions, isolation).await
        })
        .await
    }

    /// Puts a question about partitions to their leaders, all at once, until each has an answer
    /// that does not pass by itself or the time is up.
    pub(super) async fn at_leaders<Q: Clone, T, F>(
        &self,
        questions: &BTreeMap<TopicPartition, Q>,
        ask: impl Fn(BrokerId, BTreeMap<TopicPartition, Q>) -> F,
    ) -> Result<Results<TopicPartition, T>, Error>
    where
        F: Future<Output = Result<Results<TopicPartition, T>, Error>>,
    {
        self.client.watch_topics(questions.keys().map(|partition| partition.topic.clone()));
        let mut tries = Tries::new(self);
        let mut open = questions.clone();
        let mut results = Results::new();
        loop {
            let (by_leader, mut failed) = by_leader(&self.client.view(), &open);
            let asked =
                by_leader.iter().map(|(leader, partitions)| ask(*leader, partitions.clone()));
            let answers = join_all(asked).await;
            for (partitions, answered) in by_leader.values().zip(answers) {
                match answered {
                    Ok(answers) => failed.extend(sort(answers, partitions, &mut results)),
                    Err(error) => {
                        failed.extend(partitions.keys().map(|key| (key.clone(), error.clone())));
                    }
                }
            }
            let Some(error) = failed.values().find(|error| error.is_retryable()).cloned() else {
                results.extend(failed.into_iter().map(|(key, error)| (key, Err(error))));
                return Ok(results);
            };
            if tries.pause(error).await.is_err() {
                results.extend(failed.into_iter().map(|(key, error)| (key, Err(error))));
                return Ok(results);
            }
            open.retain(|partition, _| failed.contains_key(partition));
        }
    }
}

impl At {
    fn timestamp(self) -> i64 {
        match self {
            At::Latest => -1,
            At::Earliest => -2,
            At::Time(timestamp) => timestamp,
        }
    }
}

/// Asks one leader, once.
pub(crate) async fn ask_leader(
    client: &Client,
    leader: BrokerId,
    wanted: &BTreeMap<TopicPartition, At>,
    isolation: Isolation,
) -> Result<Results<TopicPartition, OffsetAt>, Error> {
    let topics = by_topic(wanted).into_iter().map(|(topic, wanted)| {
        let partition = |(index, at): (i32, &At)| {
            let timestamp = at.timestamp();
            ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
        };
        ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(wanted.into_iter().map(partition).collect())
    });
    let request =
        ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics.collect());
    let broker = client.broker(leader)?;
    if let Some(old) = offsets_v0::connection_to_old(&broker).await? {
        let timeout = client.config().request_timeout;
        return Ok(ask_old(&old, wanted, timeout).await);
    }
    let answer = broker
        .call(Lane::Control, 1..=8, |version| {
            // Before version 2 there are no transactions to be isolated from.
            request.with_isolation_level(if version >= 2 { isolation.code() } else { 0 })
        })
        .await?;
    let results = answer.body.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|result| {
            let partition = TopicPartition::new(topic.name.0.as_str(), result.partition_index);
            let subject = Subject::Partition(partition.clone());
            let done = outcome(ApiKey::ListOffsets, subject, result.error_code, None);
            let known = |value: i64| (value >= 0).then_some(value);
            let offset = OffsetAt {
                offset: known(result.offset),
                timestamp: known(result.timestamp),
                leader_epoch: (result.leader_epoch >= 0).then_some(result.leader_epoch),
            };
            (partition, done.map(|()| offset))
        })
    });
    Ok(results.collect())
}

/// The same of a broker 0.10.0, for one partition after the other.
async fn ask_old(
    connection: &Connection,
    wanted: &BTreeMap<TopicPartition, At>,
    timeout: Duration,
) -> Results<TopicPartition, OffsetAt> {
    let mut results = Results::new();
    for (partition, at) in wanted {
        let found = offsets_v0::ask(connection, partition, at.timestamp(), timeout).await;
        let offset =
            |offset| OffsetAt { offset: Some(offset), timestamp: None, leader_epoch: None };
        results.insert(partition.clone(), found.map(offset));
    }
    results
}

type Failed = BTreeMap<TopicPartition, Error>;

/// Groups questions by the leader that can answer; those without one have failed for now.
fn by_leader<Q: Clone>(
    view: &View,
    questions: &BTreeMap<TopicPartition, Q>,
) -> (BTreeMap<BrokerId, BTreeMap<TopicPartition, Q>>, Failed) {
    let mut by_leader: BTreeMap<BrokerId, BTreeMap<TopicPartition, Q>> = BTreeMap::new();
    let mut failed = Failed::new();
    for (partition, question) in questions {
        match view.leader(partition) {
            Some((leader, _)) => {
                let theirs = by_leader.entry(leader).or_default();
                theirs.insert(partition.clone(), question.clone());
            }
            None => {
                let subject = Subject::Partition(partition.clone());
                let code = why_no_leader(view, partition);
                failed.insert(partition.clone(), Error::broker(ApiKey::Metadata, subject, code));
            }
        }
    }
    (by_leader, failed)
}

fn why_no_leader(view: &View, partition: &TopicPartition) -> ErrorCode {
    match view.topic(&partition.topic) {
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Some(topic) if topic.error != ErrorCode::NONE => topic.error,
        Some(topic) if topic.partitions.contains_key(&partition.partition) => {
            ErrorCode::LEADER_NOT_AVAILABLE
        }
        Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// Keeps the answers that were asked for and are final; gives back those to be asked again.
fn sort<Q, T>(
    answers: Results<TopicPartition, T>,
    asked: &BTreeMap<TopicPartition, Q>,
    results: &mut Results<TopicPartition, T>,
) -> Failed {
    let mut failed = Failed::new();
    for (partition, answer) in answers {
        match answer {
            _ if !asked.contains_key(&partition) => {}
            Err(error) if error.is_retryable() => {
                failed.insert(partition, error);
            }
            answer => {
                results.insert(partition, answer);
            }
        }
    }
    failed
}
