//! DescribeConfigs version 0, by hand: brokers 0.11 and 1.0 speak no version that kafka-protocol
//! has. It tells whether a value is a default, and not where any other comes from: a topic's was
//! set on the topic, a broker's is in its file.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::topics_v0::{TEXT_BYTES_MAX, put_count, put_text};
use crate::connection::Connection;
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;

/// `ConfigResource.Type` of a topic.
const TOPIC: i8 = 2;

/// `DescribeConfigsResponse.ConfigSource`, as later versions tell it.
const SET_ON_TOPIC: i8 = 1;
const IN_THE_FILE: i8 = 4;
const DEFAULT: i8 = 5;

/// Whether this is all the broker speaks.
pub(super) fn is_all_there_is(connection: &Connection) -> bool {
    let versions = connection.broker_versions(ApiKey::DescribeConfigs);
    versions.is_some_and(|versions| *versions.end() == 0)
}

/// Asks, and answers as a later version would.
///
/// # Errors
/// When there is no answer, none that can be read, or a name is too long for the protocol.
pub(super) async fn describe(
    connection: &Connection,
    request: &DescribeConfigsRequest,
    timeout: Duration,
) -> Result<DescribeConfigsResponse, Error> {
    let failed = |code| Error::broker(ApiKey::DescribeConfigs, Subject::Request, code);
    let names = request.resources.iter().map(|resource| resource.resource_name.len());
    if names.max().is_some_and(|length| length > TEXT_BYTES_MAX) {
        return Err(failed(ErrorCode::INVALID_REQUEST));
    }
    let answer = connection.send(ApiKey::DescribeConfigs, 0, vec![encode(request)], timeout);
    decode(answer.await?).ok_or_else(|| failed(ErrorCode::UNKNOWN_SERVER_ERROR))
}

fn encode(request: &DescribeConfigsRequest) -> Bytes {
    let mut body = BytesMut::new();
    put_count(&mut body, request.resources.len());
    for resource in &request.resources {
        body.put_i8(resource.resource_type);
        put_text(&mut body, &resource.resource_name);
        // No list of names: all entries are wanted.
        body.put_i32(-1);
    }
    body.freeze()
}

fn decode(mut body: Bytes) -> Option<DescribeConfigsResponse> {
    let throttled = body.try_get_i32().ok()?;
    let mut results = Vec::new();
    for _ in 0..body.try_get_i32().ok()? {
        let result = DescribeConfigsResult::default()
            .with_error_code(body.try_get_i16().ok()?)
            .with_error_message(text(&mut body)?)
            .with_resource_type(body.try_get_i8().ok()?)
            .with_resource_name(text(&mut body)??);
        let mut entries = Vec::new();
        for _ in 0..body.try_get_i32().ok()? {
            entries.push(entry(&mut body, result.resource_type)?);
        }
        results.push(result.with_configs(entries));
    }
    let response = DescribeConfigsResponse::default().with_throttle_time_ms(throttled);
    Some(response.with_results(results))
}

fn entry(body: &mut Bytes, resource_type: i8) -> Option<DescribeConfigsResourceResult> {
    let entry = DescribeConfigsResourceResult::default()
        .with_name(text(body)??)
        .with_value(text(body)?)
        .with_read_only(body.try_get_u8().ok()? != 0);
    let source = match (body.try_get_u8().ok()? != 0, resource_type) {
        (true, _) => DEFAULT,
        (false, TOPIC) => SET_ON_TOPIC,
        (false, _) => IN_THE_FILE,
    };
    let is_sensitive = body.try_get_u8().ok()? != 0;
    Some(entry.with_config_source(source).with_is_sensitive(is_sensitive))
}

/// A text that may be absent; nothing at all when the bytes do not hold one.
fn text(body: &mut Bytes) -> Option<Option<StrBytes>> {
    let Ok(length) = usize::try_from(body.try_get_i16().ok()?) else { return Some(None) };
    if length > body.len() {
        return None;
    }
    Some(Some(StrBytes::try_from(body.split_to(length)).ok()?))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;

    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_protocol_says() {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_static_str("ab"));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(encode(&request), &b"\0\0\0\x01\x02\0\x02ab\xff\xff\xff\xff"[..]);
    }

    #[test]
    fn an_answer_is_read_and_a_cut_one_refused() {
        let whole = Bytes::from_static(
            b"\0\0\0\0\0\0\0\x01\0\0\xff\xff\x02\0\x01t\0\0\0\x02\
              \0\x01a\0\x01v\0\0\0\
              \0\x01b\xff\xff\x01\x01\x01",
        );
        let response = decode(whole.clone()).expect("it is whole");
        let [set, default] = &response.results[0].configs[..] else { panic!("two entries") };
        assert_eq!((set.name.as_str(), set.config_source), ("a", SET_ON_TOPIC));
        assert_eq!(set.value.as_ref().map(StrBytes::as_str), Some("v"));
        assert_eq!((default.value.as_ref(), default.config_source), (None, DEFAULT));
        assert!(default.read_only && default.is_sensitive && !set.read_only);
        for length in 0..whole.len() {
            assert_eq!(decode(whole.slice(..length)), None, "{length} bytes");
        }
    }
}
