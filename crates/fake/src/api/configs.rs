//! DescribeConfigs v0 (by hand) to v4, AlterConfigs v0 to v2, IncrementalAlterConfigs v0 to v1.
//!
//! Served: topics and brokers (broker settings are stored and shown but change nothing except what
//! is named in the crate's documentation), set, delete, append and subtract. Left out: loggers,
//! client metrics, synonyms, documentation, checking values.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

use super::{Call, Reply};
use crate::error::Error;
use crate::state::State;
use crate::topic::{DEFAULTS, default_of};
use crate::wire::string;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// `DescribeConfigsResponse.ConfigSource`.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 2;
const SOURCE_DEFAULT: i8 = 5;

type Overrides = BTreeMap<String, String>;

pub(crate) fn describe(
    call: &Call<'_>,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let mut state = call.shared.state();
    let results = request.resources.into_iter().map(|resource| {
        let found = call
            .check_forced()
            .and_then(|()| overrides(&mut state, resource.resource_type, &resource.resource_name));
        let code = super::code(&found);
        let configs = found.map(|set| entries(&resource, set)).unwrap_or_default();
        DescribeConfigsResult::default()
            .with_error_code(code)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name)
            .with_configs(configs)
    });
    let results = results.collect();
    DescribeConfigsResponse::default().with_results(results)
}

/// Version 0 has no sources, only whether a value is a default; `kafka-protocol` begins at 1.
pub(crate) fn describe_v0(call: &Call<'_>) -> Result<Reply, Error> {
    let mut body = call.incoming.body.clone();
    // The shape was checked: every length and count is borne by the bytes.
    let resources = (0..body.get_i32()).map(|_| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(body.get_i8())
            .with_resource_name(read_text(&mut body));
        let names = body.get_i32();
        let wanted = (0..names).map(|_| read_text(&mut body)).collect();
        resource.with_configuration_keys((names >= 0).then_some(wanted))
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let response = describe(call, request);
    let mut reply = call.start_reply()?;
    reply.put(|out| {
        out.put_i32(0);
        out.put_i32(response.results.len() as i32);
        for result in &response.results {
            out.put_i16(result.error_code);
            out.put_i16(-1);
            out.put_i8(result.resource_type);
            put_text(out, &result.resource_name);
            out.put_i32(result.configs.len() as i32);
            for entry in &result.configs {
                put_text(out, &entry.name);
                put_text(out, entry.value.as_deref().unwrap_or_default());
                let is_default = entry.config_source == SOURCE_DEFAULT;
                out.put_slice(&[u8::from(entry.read_only), u8::from(is_default), 0]);
            }
        }
    });
    Ok(Some(reply))
}

fn read_text(body: &mut Bytes) -> StrBytes {
    let length = body.get_i16().max(0) as usize;
    StrBytes::try_from(body.split_to(length)).unwrap_or_default()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(text.len() as i16);
    out.put_slice(text.as_bytes());
}

pub(crate) fn alter(call: &Call<'_>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut state = call.shared.state();
    let responses = request.resources.into_iter().map(|resource| {
        let kind = resource.resource_type;
        let outcome = call
            .check_forced()
            .and_then(|()| overrides(&mut state, kind, &resource.resource_name))
            .and_then(|set| {
                let wanted = resource.configs.iter();
                let wanted: Overrides = wanted
                    .filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())))
                    .collect();
                check_names(kind, wanted.keys())?;
                if !request.validate_only {
                    *set = wanted;
                }
                Ok(())
            });
        alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(super::code(&outcome))
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    });
    let responses = responses.collect();
    AlterConfigsResponse::default().with_responses(responses)
}

pub(crate) fn alter_incrementally(
    call: &Call<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut state = call.shared.state();
    let responses = request.resources.into_iter().map(|resource| {
        let kind = resource.resource_type;
        let outcome = call
            .check_forced()
            .and_then(|()| overrides(&mut state, kind, &resource.resource_name))
            .and_then(|set| {
                let names: Vec<String> =
                    resource.configs.iter().map(|config| config.name.to_string()).collect();
                check_names(kind, names.iter())?;
                let mut changed = set.clone();
                for config in &resource.configs {
                    let value = config.value.as_ref().map(ToString::to_string);
                    apply(&mut changed, &config.name, config.config_operation, value)?;
                }
                if !request.validate_only {
                    *set = changed;
                }
                Ok(())
            });
        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_error_code(super::code(&outcome))
            .with_resource_type(kind)
            .with_resource_name(resource.resource_name)
    });
    let responses = responses.collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

fn overrides<'a>(
    state: &'a mut State,
    kind: i8,
    name: &str,
) -> Result<&'a mut Overrides, ResponseError> {
    match kind {
        TOPIC => {
            let topic = state.topics.get_mut(name);
            Ok(&mut topic.ok_or(ResponseError::UnknownTopicOrPartition)?.overrides)
        }
        BROKER => {
            let id: i32 = name.parse().map_err(|_| ResponseError::InvalidRequest)?;
            let node = state.nodes.get_mut(&id).ok_or(ResponseError::InvalidRequest)?;
            Ok(&mut node.overrides)
        }
        _ => Err(ResponseError::InvalidRequest),
    }
}

fn entries(
    resource: &DescribeConfigsResource,
    set: &Overrides,
) -> Vec<DescribeConfigsResourceResult> {
    let is_topic = resource.resource_type == TOPIC;
    let defaults = DEFAULTS.iter().filter(|(name, _)| is_topic && !set.contains_key(*name));
    let defaults = defaults.map(|(name, value)| (*name, *value, SOURCE_DEFAULT));
    let source = if is_topic { SOURCE_TOPIC } else { SOURCE_BROKER };
    let overridden = set.iter().map(|(name, value)| (name.as_str(), value.as_str(), source));
    let is_wanted = |name: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
    };
    let all = defaults.chain(overridden).filter(|(name, _, _)| is_wanted(name));
    let described = all.map(|(name, value, source)| {
        DescribeConfigsResourceResult::default()
            .with_name(string(name))
            .with_value(Some(string(value)))
            .with_config_source(source)
    });
    described.collect()
}

fn check_names<'a>(
    kind: i8,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<(), ResponseError> {
    let is_unknown = |name: &String| kind == TOPIC && default_of(name).is_none();
    if names.any(is_unknown) {
        return Err(ResponseError::InvalidConfig);
    }
    Ok(())
}

/// `AlterConfigOp`: 0 set, 1 delete, 2 append to and 3 subtract from a list.
fn apply(
    set: &mut Overrides,
    name: &str,
    operation: i8,
    value: Option<String>,
) -> Result<(), ResponseError> {
    let current = || set.get(name).map(String::as_str).or_else(|| default_of(name)).unwrap_or("");
    let listed = |text: &str| -> Vec<String> {
        text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    };
    let changed = match (operation, value) {
        (0, Some(value)) => value,
        (1, _) => {
            set.remove(name);
            return Ok(());
        }
        (2, Some(value)) => {
            let mut items = listed(current());
            items.extend(listed(&value));
            items.dedup();
            items.join(",")
        }
        (3, Some(value)) => {
            let gone = listed(&value);
            let kept = listed(current()).into_iter().filter(|item| !gone.contains(item));
            kept.collect::<Vec<_>>().join(",")
        }
        _ => return Err(ResponseError::InvalidRequest),
    };
    set.insert(name.to_owned(), changed);
    Ok(())
}
