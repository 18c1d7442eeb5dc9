//! CreateTopics version 0, by hand: brokers 0.10.1 and 0.10.2 speak no version that kafka-protocol
//! has. Of a refusal it tells the code and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use super::{NewTopic, Results, milliseconds, outcome};
use crate::connection::Connection;
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;

/// The longest text of the protocol.
pub(super) const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Whether this is all the broker speaks.
pub(super) fn is_all_there_is(connection: &Connection) -> bool {
    let versions = connection.broker_versions(ApiKey::CreateTopics);
    versions.is_some_and(|versions| *versions.start() == 0 && *versions.end() < 2)
}

/// Creates topics.
///
/// # Errors
/// When there is no answer, none that can be read, or a text is too long for the protocol.
pub(super) async fn create(
    connection: &Connection,
    topics: &[NewTopic],
    timeout: Duration,
) -> Result<Results<Arc<str>>, Error> {
    let is_too_long = |topic: &&NewTopic| {
        let configs = topic.configs.iter().flat_map(|(name, value)| [name.as_str(), value]);
        configs.chain([&*topic.name]).any(|text| text.len() > TEXT_BYTES_MAX)
    };
    if let Some(topic) = topics.iter().find(is_too_long) {
        let (subject, code) = (Subject::Topic(Arc::clone(&topic.name)), ErrorCode::INVALID_REQUEST);
        return Err(Error::broker(ApiKey::CreateTopics, subject, code));
    }
    let body = request(topics, timeout / 2);
    let answer = connection.send(ApiKey::CreateTopics, 0, vec![body], timeout).await?;
    let unread = || {
        let code = ErrorCode::UNKNOWN_SERVER_ERROR;
        Error::broker(ApiKey::CreateTopics, Subject::Request, code)
    };
    let outcomes = read(answer).ok_or_else(unread)?;
    let told = |(topic, code): (Arc<str>, ErrorCode)| {
        let subject = Subject::Topic(Arc::clone(&topic));
        (topic, outcome(ApiKey::CreateTopics, subject, code.0, None))
    };
    Ok(outcomes.into_iter().map(told).collect())
}

fn request(topics: &[NewTopic], timeout: Duration) -> Bytes {
    let mut body = BytesMut::new();
    put_count(&mut body, topics.len());
    for topic in topics {
        put_text(&mut body, &topic.name);
        body.put_i32(topic.partitions);
        body.put_i16(topic.replication_factor);
        // No partition is placed by hand.
        body.put_i32(0);
        put_count(&mut body, topic.configs.len());
        for (name, value) in &topic.configs {
            put_text(&mut body, name);
            put_text(&mut body, value);
        }
    }
    body.put_i32(milliseconds(timeout));
    body.freeze()
}

pub(super) fn put_count(body: &mut BytesMut, count: usize) {
    body.put_i32(i32::try_from(count).expect("invariant: a request has fewer than 2^31 items"));
}

pub(super) fn put_text(body: &mut BytesMut, text: &str) {
    body.put_i16(i16::try_from(text.len()).expect("invariant: longer texts were refused"));
    body.put_slice(text.as_bytes());
}

/// Each topic's code.
fn read(mut body: Bytes) -> Option<Vec<(Arc<str>, ErrorCode)>> {
    let count = body.try_get_i32().ok()?;
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(body.try_get_i16().ok()?).ok()?;
        if length > body.len() {
            return None;
        }
        let name = body.split_to(length);
        let code = ErrorCode(body.try_get_i16().ok()?);
        outcomes.push((std::str::from_utf8(&name).ok()?.into(), code));
    }
    Some(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_protocol_says() {
        let topic = NewTopic::new("ab").with_partitions(3).with_replication_factor(1);
        let body = request(&[topic.with_config("k", "v")], Duration::from_millis(5));
        let wanted = [
            &b"\0\0\0\x01\0\x02ab\0\0\0\x03\0\x01"[..],
            b"\0\0\0\0",
            b"\0\0\0\x01\0\x01k\0\x01v",
            b"\0\0\0\x05",
        ];
        assert_eq!(body, wanted.concat());
    }

    #[test]
    fn an_answer_is_read_and_a_cut_one_refused() {
        let whole = Bytes::from_static(b"\0\0\0\x02\0\x01a\0\0\0\x01b\0\x24");
        let outcomes =
            [("a".into(), ErrorCode::NONE), ("b".into(), ErrorCode::TOPIC_ALREADY_EXISTS)];
        assert_eq!(read(whole.clone()).unwrap(), outcomes);
        for length in 0..whole.len() {
            assert_eq!(read(whole.slice(..length)), None, "{length} bytes");
        }
    }
}
