//! Fetch as it goes over the wire: the request for a plan, and what an answer says.
//!
//! Versions 2 to 17. 2 and 3 are in `legacy_api`; 4 brings isolation, 5 the start of the log, 7
//! sessions, 8 throttling by the client, 9 leader epochs, 10 zstd, 11 racks (not used: always the
//! leader is asked), 12 flexible fields, 13 topic ids. What 14 to 17 bring is for
//! replicas and tiers.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId as WireBrokerId, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

use super::answer::{Answer, PartitionAnswer};
use super::config::Config;
use super::digest::Aborted;
use super::legacy_api;
use super::link::Style;
use super::partition::Ends;
use super::session::{Plan, Session, Want};

/// The versions written and read here.
pub(super) const VERSIONS: RangeInclusive<i16> = 2..=17;

/// The same where not every topic's id is known.
pub(super) const VERSIONS_BY_NAME: RangeInclusive<i16> = 2..=12;

/// From this version on the broker does not wait itself when it throttles (KIP-219).
const CLIENT_THROTTLES_FROM: i16 = 8;

/// What a version can say.
pub(super) fn style(version: i16) -> Style {
    Style { has_total: version >= 3, has_sessions: version >= 7, has_ids: version >= 13 }
}

/// A request's body; the broker may take `wait` to answer. `None` if it cannot be written, which is
/// our own fault.
pub(super) fn encode(
    version: i16,
    config: &Config,
    wait: Duration,
    plan: &Plan,
    bytes_max: usize,
) -> Option<Bytes> {
    if version <= legacy_api::VERSION_MAX {
        return Some(legacy_api::encode(version, config, wait, plan, bytes_max));
    }
    let request = FetchRequest::default()
        .with_replica_id(WireBrokerId(-1))
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(number(config.bytes_min))
        .with_max_bytes(number(bytes_max))
        .with_isolation_level(config.isolation.code())
        .with_session_id(if version >= 7 { plan.session_id } else { 0 })
        .with_session_epoch(if version >= 7 { plan.session_epoch } else { -1 })
        .with_topics(topics(version, &plan.partitions))
        .with_forgotten_topics_data(forgotten(version, &plan.forgotten));
    let mut body = BytesMut::with_capacity(request.compute_size(version).ok()?);
    request.encode(&mut body, version).ok()?;
    Some(body.freeze())
}

fn topics(version: i16, partitions: &[(TopicPartition, Want)]) -> Vec<FetchTopic> {
    // Runs of a topic, not all of a topic: the broker fills its answer in the order of the request.
    let runs = partitions.chunk_by(|(one, _), (other, _)| one.topic == other.topic);
    runs.map(|run| {
        let (topic, topic_id) = named(version, &run[0].0, &run[0].1);
        let partitions = run.iter().map(|(partition, want)| {
            FetchPartition::default()
                .with_partition(partition.partition)
                .with_current_leader_epoch(want.leader_epoch)
                .with_fetch_offset(want.fetch_offset)
                .with_last_fetched_epoch(-1)
                .with_log_start_offset(-1)
                .with_partition_max_bytes(number(want.bytes_max))
        });
        FetchTopic::default()
            .with_topic(topic)
            .with_topic_id(topic_id)
            .with_partitions(partitions.collect())
    })
    .collect()
}

fn forgotten(version: i16, partitions: &[(TopicPartition, Want)]) -> Vec<ForgottenTopic> {
    let runs = partitions
        .chunk_by(|(one, a), (other, b)| one.topic == other.topic && a.topic_id == b.topic_id);
    runs.map(|run| {
        let (topic, topic_id) = named(version, &run[0].0, &run[0].1);
        ForgottenTopic::default()
            .with_topic(topic)
            .with_topic_id(topic_id)
            .with_partitions(run.iter().map(|(partition, _)| partition.partition).collect())
    })
    .collect()
}

/// A topic's name or its id, whichever the version takes.
fn named(version: i16, partition: &TopicPartition, want: &Want) -> (TopicName, Uuid) {
    if style(version).has_ids {
        (TopicName::default(), want.topic_id.unwrap_or_default())
    } else {
        let name = StrBytes::from_string(partition.topic.to_string());
        (TopicName(name), Uuid::nil())
    }
}

/// Reads an answer's body, whose lengths the connection has checked. Topics by id are named after
/// what the session asked for; what it did not ask for is left out.
pub(super) fn decode(version: i16, mut body: Bytes, session: &Session) -> Option<Answer> {
    let response = if version <= legacy_api::VERSION_MAX {
        legacy_api::decode(body)?
    } else {
        FetchResponse::decode(&mut body, version).ok()?
    };
    let is_ours = version >= CLIENT_THROTTLES_FROM;
    let throttle = u64::try_from(response.throttle_time_ms).unwrap_or(0);
    let topics = response.responses.into_iter();
    let partitions = topics.flat_map(|topic| {
        let name = if style(version).has_ids {
            session.name(topic.topic_id).cloned()
        } else {
            Some(topic.topic.as_str().into())
        };
        read_topic(version, name, topic)
    });
    Some(Answer {
        throttle: Duration::from_millis(if is_ours { throttle } else { 0 }),
        code: ErrorCode(response.error_code),
        session_id: response.session_id,
        partitions: partitions.collect(),
    })
}

fn read_topic(
    version: i16,
    name: Option<Arc<str>>,
    topic: FetchableTopicResponse,
) -> impl Iterator<Item = PartitionAnswer> {
    topic.partitions.into_iter().filter_map(move |data| {
        let partition = TopicPartition::new(Arc::clone(name.as_ref()?), data.partition_index);
        Some(read_partition(version, partition, data))
    })
}

fn read_partition(version: i16, partition: TopicPartition, data: PartitionData) -> PartitionAnswer {
    let aborted = data.aborted_transactions.unwrap_or_default().into_iter().map(|aborted| {
        Aborted { producer_id: aborted.producer_id.0, first_offset: aborted.first_offset }
    });
    PartitionAnswer {
        partition,
        code: ErrorCode(data.error_code),
        ends: Ends {
            high_watermark: data.high_watermark,
            last_stable_offset: if version >= 4 { data.last_stable_offset } else { -1 },
            log_start_offset: if version >= 5 { data.log_start_offset } else { -1 },
        },
        aborted: aborted.collect(),
        records: data.records.unwrap_or_default(),
        cuts_first: version < 3,
    }
}

fn number(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
