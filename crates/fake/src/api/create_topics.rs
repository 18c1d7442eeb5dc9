//! CreateTopics v2 to v7.
//!
//! Served: partitions or assignments, defaults of -1 (KIP-464), settings, validate-only, topic ids,
//! NOT_CONTROLLER on any other broker. Left out: policies, quotas.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::Call;
use crate::state::{State, TopicPlan};
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut state = call.shared.state();
    let topics = request.topics;
    let results = topics.into_iter().map(|topic| {
        let name = topic.name.clone();
        let outcome = create(call, &mut state, topic, request.validate_only);
        let result = CreatableTopicResult::default().with_name(name.clone());
        match outcome {
            Err((error, reason)) => result
                .with_error_code(error.code())
                .with_error_message(Some(string(reason)))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(None),
            Ok(plan) => {
                let id = state.topics.get(name.as_str()).map(|topic| topic.id);
                result
                    .with_topic_id(id.unwrap_or_default())
                    .with_num_partitions(plan.partitions)
                    .with_replication_factor(plan.replication_factor)
            }
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn create(
    call: &Call<'_>,
    state: &mut State,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<TopicPlan, (ResponseError, String)> {
    if let Some(error) = call.forced {
        return Err((error, "intercepted".to_owned()));
    }
    if state.controller != call.broker {
        return Err((ResponseError::NotController, "not the controller".to_owned()));
    }
    let settings = &call.shared.settings;
    let or_default = |asked: i32, default: i32| if asked == -1 { default } else { asked };
    let mut plan = TopicPlan {
        partitions: or_default(topic.num_partitions, settings.partitions),
        replication_factor: or_default(
            i32::from(topic.replication_factor),
            i32::from(settings.replication_factor),
        ) as i16,
        assignments: Vec::new(),
        overrides: overrides(topic.configs),
    };
    let mut assigned: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for assignment in topic.assignments {
        let replicas = assignment.broker_ids.iter().map(|id| id.0).collect();
        assigned.insert(assignment.partition_index, replicas);
    }
    if !assigned.is_empty() {
        if !assigned.keys().copied().eq(0..assigned.len() as i32) {
            let reason = "partitions must be numbered from 0 without gaps".to_owned();
            return Err((ResponseError::InvalidReplicaAssignment, reason));
        }
        plan.partitions = assigned.len() as i32;
        plan.replication_factor = assigned[&0].len() as i16;
        plan.assignments = assigned.into_values().collect();
    }
    if validate_only {
        state.check_plan(&topic.name, &plan)?;
    } else {
        state.create_topic(&topic.name, plan.clone())?;
    }
    Ok(plan)
}

fn overrides(
    configs: Vec<kafka_protocol::messages::create_topics_request::CreatableTopicConfig>,
) -> BTreeMap<String, String> {
    let set = configs
        .into_iter()
        .filter_map(|config| Some((config.name.to_string(), config.value?.to_string())));
    set.collect()
}
