//! ListOffsets version 0, by hand: all that brokers 0.10.0 speak, and kafka-protocol begins at 1.
//!
//! It lists where segments begin, the youngest first, and one offset is asked for. For the ends of
//! a log that is exact. For a time it is the beginning of the last segment that is not younger, so
//! reading from there reads some records that are older, and misses none.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;

use crate::broker::{Broker, Lane};
use crate::connection::Connection;
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

const EARLIEST: i64 = -2;

/// The connection to a broker that speaks nothing newer.
///
/// # Errors
/// As [`Broker::connection`].
pub(crate) async fn connection_to_old(broker: &Broker) -> Result<Option<Connection>, Error> {
    let connection = broker.connection(Lane::Control).await?;
    let versions = connection.broker_versions(ApiKey::ListOffsets);
    Ok(versions.is_some_and(|versions| *versions.end() == 0).then_some(connection))
}

/// Asks for one offset; `timestamp` is -1 for the end, -2 for the beginning.
///
/// # Errors
/// When there is no answer, none that can be read, or an error code.
pub(crate) async fn ask(
    connection: &Connection,
    partition: &TopicPartition,
    timestamp: i64,
    timeout: Duration,
) -> Result<i64, Error> {
    let body = request(partition, timestamp);
    let answer = connection.send(ApiKey::ListOffsets, 0, vec![body], timeout).await?;
    let failed =
        |code| Error::broker(ApiKey::ListOffsets, Subject::Partition(partition.clone()), code);
    match read(answer) {
        Some((ErrorCode::NONE, Some(offset))) => Ok(offset),
        // Every segment is younger: the first record is the first that is young enough.
        Some((ErrorCode::NONE, None)) if timestamp != EARLIEST => {
            Box::pin(ask(connection, partition, EARLIEST, timeout)).await
        }
        Some((ErrorCode::NONE, None)) | None => Err(failed(ErrorCode::UNKNOWN_SERVER_ERROR)),
        Some((code, _)) => Err(failed(code)),
    }
}

fn request(partition: &TopicPartition, timestamp: i64) -> Bytes {
    let topic = &partition.topic;
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(1);
    body.put_i16(i16::try_from(topic.len()).expect("invariant: Kafka's names are short"));
    body.put_slice(topic.as_bytes());
    body.put_i32(1);
    body.put_i32(partition.partition);
    body.put_i64(timestamp);
    body.put_i32(1);
    body.freeze()
}

/// The first partition's code and first offset.
fn read(mut body: Bytes) -> Option<(ErrorCode, Option<i64>)> {
    if body.try_get_i32().ok()? < 1 {
        return None;
    }
    let topic = usize::try_from(body.try_get_i16().ok()?).ok()?;
    if topic > body.len() {
        return None;
    }
    body.advance(topic);
    if body.try_get_i32().ok()? < 1 {
        return None;
    }
    let _partition = body.try_get_i32().ok()?;
    let code = ErrorCode(body.try_get_i16().ok()?);
    let count = body.try_get_i32().ok()?;
    let offset = if count > 0 { Some(body.try_get_i64().ok()?) } else { None };
    Some((code, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i16, offsets: &[i64]) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_i32(1);
        body.put_i16(6);
        body.put_slice(b"orders");
        body.put_i32(1);
        body.put_i32(3);
        body.put_i16(code);
        body.put_i32(i32::try_from(offsets.len()).expect("few"));
        offsets.iter().for_each(|offset| body.put_i64(*offset));
        body
    }

    #[test]
    fn an_answer_is_read_and_a_cut_one_refused() {
        let whole = answer(0, &[42]).freeze();
        assert_eq!(read(whole.clone()), Some((ErrorCode::NONE, Some(42))));
        assert_eq!(read(answer(0, &[]).freeze()), Some((ErrorCode::NONE, None)));
        let moved = read(answer(6, &[]).freeze());
        assert_eq!(moved, Some((ErrorCode::NOT_LEADER_OR_FOLLOWER, None)));
        for length in 0..whole.len() {
            assert_eq!(read(whole.slice(..length)), None, "{length} bytes");
        }
    }
}
