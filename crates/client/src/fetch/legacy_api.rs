//! Fetch versions 2 and 3, for brokers before 0.11, by hand: kafka-protocol begins at 4.
//!
//! Version 2 comes with brokers 0.10.0, version 3 with 0.10.1 (KIP-74: a limit for the whole
//! answer). The answer is the same in both. What is read here has been checked by the connection;
//! nothing is allocated for what is not there all the same.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::config::Config;
use super::session::Plan;

/// The highest version that is written here.
pub(super) const VERSION_MAX: i16 = 3;

/// A request's body.
pub(super) fn encode(
    version: i16,
    config: &Config,
    wait: Duration,
    plan: &Plan,
    bytes_max: usize,
) -> Bytes {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX));
    body.put_i32(number(config.bytes_min));
    if version >= 3 {
        body.put_i32(number(bytes_max));
    }
    // The order of partitions is the order in which the broker fills its answer: a topic may have
    // to be named more than once.
    let topics = || plan.partitions.chunk_by(|(one, _), (other, _)| one.topic == other.topic);
    body.put_i32(number(topics().count()));
    for partitions in topics() {
        let topic = &partitions[0].0.topic;
        body.put_i16(i16::try_from(topic.len()).expect("invariant: longer names are refused"));
        body.put_slice(topic.as_bytes());
        body.put_i32(number(partitions.len()));
        for (partition, want) in partitions {
            body.put_i32(partition.partition);
            body.put_i64(want.fetch_offset);
            body.put_i32(number(want.bytes_max));
        }
    }
    body.freeze()
}

/// An answer's body, in the struct of the later versions.
pub(super) fn decode(mut body: Bytes) -> Option<FetchResponse> {
    let throttle_time_ms = body.try_get_i32().ok()?;
    let mut topics = Vec::new();
    for _ in 0..count(&mut body)? {
        let len = usize::try_from(body.try_get_i16().ok()?).ok()?;
        let name = StrBytes::from_utf8(take(&mut body, len)?).ok()?;
        let mut partitions = Vec::new();
        for _ in 0..count(&mut body)? {
            partitions.push(partition(&mut body)?);
        }
        let topic = FetchableTopicResponse::default().with_topic(TopicName(name));
        topics.push(topic.with_partitions(partitions));
    }
    let response = FetchResponse::default().with_throttle_time_ms(throttle_time_ms);
    Some(response.with_responses(topics))
}

fn partition(body: &mut Bytes) -> Option<PartitionData> {
    let data = PartitionData::default()
        .with_partition_index(body.try_get_i32().ok()?)
        .with_error_code(body.try_get_i16().ok()?)
        .with_high_watermark(body.try_get_i64().ok()?)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1);
    let len = usize::try_from(body.try_get_i32().ok()?).unwrap_or(0);
    Some(data.with_records(Some(take(body, len)?)))
}

fn count(body: &mut Bytes) -> Option<i32> {
    body.try_get_i32().ok()
}

fn take(body: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= body.len()).then(|| body.split_to(len))
}
