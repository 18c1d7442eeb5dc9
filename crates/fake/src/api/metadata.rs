//! Metadata v0 to v13.
//!
//! Served: all topics, named topics, topics by id (v10 and later), creation on demand, offline
//! replicas, leader epochs. Left out: authorized operations (never reported), rack-aware listeners.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use uuid::Uuid;

use super::Call;
use crate::state::{State, TopicPlan};
use crate::topic::{Partition, is_legal_name};
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: MetadataRequest) -> MetadataResponse {
    let mut state = call.shared.state();
    let wants_all = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && call.version() == 0,
    };
    let topics = if wants_all {
        let names: Vec<String> = state.topics.keys().cloned().collect();
        names.iter().map(|name| describe(call, &state, name)).collect()
    } else {
        let creates = request.allow_auto_topic_creation || call.version() < 4;
        let creates = creates && call.shared.settings.creates_topics;
        let wanted = request.topics.unwrap_or_default();
        wanted.into_iter().map(|topic| find(call, &mut state, topic, creates)).collect()
    };
    let brokers = state.alive().map(|(id, node)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id))
            .with_host(string(&node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.clone().map(string))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(string(&call.shared.settings.cluster_id)))
        .with_controller_id(BrokerId(state.controller))
        .with_topics(topics)
}

fn find(
    call: &Call<'_>,
    state: &mut State,
    wanted: MetadataRequestTopic,
    creates: bool,
) -> MetadataResponseTopic {
    let Some(name) = wanted.name else {
        let known = state.topic_name(wanted.topic_id).map(str::to_owned);
        return match known {
            Some(name) => describe(call, state, &name),
            None => MetadataResponseTopic::default()
                .with_topic_id(wanted.topic_id)
                .with_name((call.version() < 12).then(TopicName::default))
                .with_error_code(ResponseError::UnknownTopicId.code()),
        };
    };
    if state.topics.contains_key(name.as_str()) {
        return describe(call, state, &name);
    }
    let error = if !is_legal_name(&name) {
        ResponseError::InvalidTopicException
    } else if creates {
        let settings = &call.shared.settings;
        let plan = TopicPlan {
            partitions: settings.partitions,
            replication_factor: settings.replication_factor,
            ..TopicPlan::default()
        };
        match state.create_topic(&name, plan) {
            // The first answer names no leader yet, as on a real cluster: clients must ask again.
            Ok(()) => ResponseError::LeaderNotAvailable,
            Err((error, _)) => error,
        }
    } else {
        ResponseError::UnknownTopicOrPartition
    };
    MetadataResponseTopic::default().with_name(Some(name)).with_error_code(error.code())
}

fn describe(call: &Call<'_>, state: &State, name: &str) -> MetadataResponseTopic {
    let Some(topic) = state.topics.get(name) else { return MetadataResponseTopic::default() };
    let partitions = topic.partitions.iter().zip(0..);
    MetadataResponseTopic::default()
        .with_error_code(call.forced.map_or(0, |error| error.code()))
        .with_name(Some(TopicName(string(name))))
        .with_topic_id(if call.version() >= 10 { topic.id } else { Uuid::nil() })
        .with_is_internal(topic.is_internal)
        .with_partitions(partitions.map(|(p, index)| describe_partition(state, p, index)).collect())
}

fn describe_partition(
    state: &State,
    partition: &Partition,
    index: i32,
) -> MetadataResponsePartition {
    let error = if partition.leader < 0 { ResponseError::LeaderNotAvailable.code() } else { 0 };
    let ids = |alive: Option<bool>| {
        let wanted = |id: &&i32| alive.is_none_or(|alive| state.is_alive(**id) == alive);
        partition.replicas.iter().filter(wanted).map(|id| BrokerId(*id)).collect::<Vec<_>>()
    };
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(None))
        .with_isr_nodes(ids(Some(true)))
        .with_offline_replicas(ids(Some(false)))
}
