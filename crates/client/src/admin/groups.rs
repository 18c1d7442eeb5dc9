//! Consumer groups from outside: ListGroups (0 to 4), DescribeGroups (0 to 5), DeleteGroups (0 to
//! 2), OffsetFetch (2 to 7) and OffsetCommit (2 to 8) for a group that has no members.
//!
//! Groups are kept by their coordinator, which is asked for anew at each call.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
};

use super::{Admin, Results, by_topic, outcome, shared, text, topic_name};
use crate::broker::{Broker, Lane};
use crate::error::{Error, Subject};
use crate::group::{self, OffsetAndMetadata};
use crate::name::{BrokerId, TopicPartition};

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub id: Arc<str>,
    /// What it is for: `consumer`, `connect`; empty for one that only keeps offsets.
    pub protocol_type: Arc<str>,
    /// Its state, where the broker tells (from 2.6).
    pub state: Option<Arc<str>>,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// `Stable`, `PreparingRebalance`, `CompletingRebalance`, `Empty` or `Dead`.
    pub state: Arc<str>,
    /// What it is for.
    pub protocol_type: Arc<str>,
    /// The assignor that divided the partitions.
    pub assignor: Arc<str>,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: Arc<str>,
    /// The id it gave itself, if it is a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// Where it connects from.
    pub host: Arc<str>,
    /// Its partitions; empty if they cannot be read.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// Lists the groups of all brokers.
    ///
    /// # Errors
    /// When a broker does not answer: the list would not be whole.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, Error> {
        let mut groups = self
            .retry(async || {
                let view = self.client.view();
                let asked = view.brokers().map(async |broker| {
                    list_groups_of(&self.client.broker(broker.id)?, broker.id).await
                });
                let listed: Result<Vec<_>, Error> = join_all(asked).await.into_iter().collect();
                Ok(listed?.concat())
            })
            .await?;
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    /// Describes one group. A group that does not exist is `Dead`.
    ///
    /// # Errors
    /// When the coordinator does not answer or refuses.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, Error> {
        self.retry(async || {
            let broker = self.group_coordinator(group).await?;
            let answer = broker
                .call(Lane::Control, 0..=5, |_| {
                    DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))])
                })
                .await?;
            let found = answer.body.groups.first();
            let code = found.map_or(0, |described| described.error_code);
            outcome(ApiKey::DescribeGroups, subject(group), code, None)?;
            Ok(found.map_or_else(GroupDescription::dead, GroupDescription::read))
        })
        .await
    }

    /// Deletes groups with their offsets. A group with members is refused.
    ///
    /// # Errors
    /// When a coordinator does not answer; what is wrong with one group is in its result.
    pub async fn delete_groups(&self, groups: &[Arc<str>]) -> Result<Results<Arc<str>>, Error> {
        let mut results = Results::new();
        for group in groups {
            let deleted = self.retry(async || {
                let broker = self.group_coordinator(group).await?;
                let answer = broker
                    .call(Lane::Control, 0..=2, |_| {
                        let groups = vec![GroupId(text(group))];
                        DeleteGroupsRequest::default().with_groups_names(groups)
                    })
                    .await?;
                let code = answer.body.results.first().map_or(-1, |result| result.error_code);
                outcome(ApiKey::DeleteGroups, subject(group), code, None)
            });
            results.insert(Arc::clone(group), deleted.await);
        }
        Ok(results)
    }

    /// All offsets that a group has committed.
    ///
    /// # Errors
    /// When the coordinator does not answer or refuses.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        self.retry(async || {
            let broker = self.group_coordinator(group).await?;
            let answer = broker
                .call(Lane::Control, 2..=7, |_| {
                    OffsetFetchRequest::default()
                        .with_group_id(GroupId(text(group)))
                        .with_topics(None)
                })
                .await?;
            outcome(ApiKey::OffsetFetch, subject(group), answer.body.error_code, None)?;
            let offsets = answer.body.topics.iter().flat_map(|topic| {
                let committed = topic.partitions.iter().filter(|it| it.committed_offset >= 0);
                committed.map(|it| {
                    let partition = TopicPartition::new(topic.name.0.as_str(), it.partition_index);
                    let metadata = it.metadata.as_ref().map_or_else(|| "".into(), shared);
                    let (next_offset, leader_epoch) =
                        (it.committed_offset, it.committed_leader_epoch);
                    (partition, OffsetAndMetadata { next_offset, leader_epoch, metadata })
                })
            });
            Ok(offsets.collect())
        })
        .await
    }

    /// Commits offsets for a group that has no members.
    ///
    /// # Errors
    /// When the coordinator does not answer, or the group has members (`UNKNOWN_MEMBER_ID`); what
    /// is wrong with one partition is in its result.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<Results<TopicPartition>, Error> {
        self.retry(async || {
            let broker = self.group_coordinator(group).await?;
            let answer = broker
                .call(Lane::Control, 2..=8, |version| commit_request(group, offsets, version))
                .await?;
            let results = answer.body.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|result| {
                    let name = topic.name.0.as_str();
                    let partition = TopicPartition::new(name, result.partition_index);
                    let subject = Subject::Partition(partition.clone());
                    let code = result.error_code;
                    (partition, outcome(ApiKey::OffsetCommit, subject, code, None))
                })
            });
            let results: Results<TopicPartition> = results.collect();
            super::retryable(&results).map_or(Ok(results), Err)
        })
        .await
    }

    async fn group_coordinator(&self, group: &str) -> Result<Broker, Error> {
        let any = self.client.any_broker().await?;
        let answer = any
            .call(Lane::Control, 0..=3, |_| FindCoordinatorRequest::default().with_key(text(group)))
            .await?;
        let detail = answer.body.error_message.as_ref();
        outcome(ApiKey::FindCoordinator, subject(group), answer.body.error_code, detail)?;
        self.client.broker(BrokerId(answer.body.node_id.0))
    }
}

fn commit_request(
    group: &str,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    version: i16,
) -> OffsetCommitRequest {
    let partition = |(index, offset): (i32, &OffsetAndMetadata)| {
        let commit = OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset.next_offset)
            .with_committed_metadata(Some(text(&offset.metadata)));
        match version {
            6.. => commit.with_committed_leader_epoch(offset.leader_epoch),
            _ => commit,
        }
    };
    let topics = by_topic(offsets).into_iter().map(|(topic, offsets)| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(offsets.into_iter().map(partition).collect())
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics.collect());
    if version <= 4 { request.with_retention_time_ms(group::RETENTION_MS) } else { request }
}

async fn list_groups_of(broker: &Broker, id: BrokerId) -> Result<Vec<GroupListing>, Error> {
    let answer = broker.call(Lane::Control, 0..=4, |_| ListGroupsRequest::default()).await?;
    outcome(ApiKey::ListGroups, Subject::Broker(id), answer.body.error_code, None)?;
    let listing = answer.body.groups.iter().map(|group| GroupListing {
        id: shared(&group.group_id.0),
        protocol_type: shared(&group.protocol_type),
        state: Some(shared(&group.group_state)).filter(|state| !state.is_empty()),
    });
    Ok(listing.collect())
}

impl GroupDescription {
    fn dead() -> Self {
        let nothing = || Arc::from("");
        Self {
            state: "Dead".into(),
            protocol_type: nothing(),
            assignor: nothing(),
            members: Vec::new(),
        }
    }

    fn read(group: &DescribedGroup) -> Self {
        Self {
            state: shared(&group.group_state),
            protocol_type: shared(&group.protocol_type),
            assignor: shared(&group.protocol_data),
            members: group.members.iter().map(GroupMember::read).collect(),
        }
    }
}

impl GroupMember {
    fn read(member: &DescribedGroupMember) -> Self {
        Self {
            id: shared(&member.member_id),
            instance_id: member.group_instance_id.as_ref().map(shared),
            client_id: shared(&member.client_id),
            host: shared(&member.client_host),
            partitions: group::assigned_partitions(&member.member_assignment),
        }
    }
}

fn subject(group: &str) -> Subject {
    Subject::Group(group.into())
}
