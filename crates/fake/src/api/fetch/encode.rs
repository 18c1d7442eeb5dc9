//! Encodes fetch responses by hand, so that stored batches are referred to and not copied.
//!
//! Owned by the Fetch API. Always true: the bytes are those `kafka-protocol` would write, which a
//! test checks for every version served.

use bytes::{BufMut, BytesMut};
use kafka_protocol::error::ResponseError;

use super::Found;
use crate::api::{Call, Reply};
use crate::error::Error;
use crate::log::Isolation;
use crate::wire::gather::Gather;

/// Where a broker is, for the endpoints of v16.
type Endpoint = (i32, String, u16, Option<String>);

/// A response that fails as a whole: the session is unknown or out of step.
pub(crate) fn error(call: &Call<'_>, error: ResponseError) -> Result<Reply, Error> {
    let mut reply = call.start_reply()?;
    let version = call.version();
    reply.put(|out| {
        put_top(out, version, error.code(), 0);
        put_count(out, version, Some(0));
        if is_flexible(version) {
            out.put_u8(0);
        }
    });
    Ok(Some(reply))
}

/// A response with these partitions, grouped by topic as they come.
pub(crate) fn response(
    call: &Call<'_>,
    session_id: i32,
    found: &[Found],
    isolation: Isolation,
) -> Result<Reply, Error> {
    let mut reply = call.start_reply()?;
    let endpoints = endpoints(call, found);
    put_response(&mut reply, call.version(), (session_id, isolation), (found, &endpoints));
    Ok(Some(reply))
}

fn put_response(
    reply: &mut Gather,
    version: i16,
    (session_id, isolation): (i32, Isolation),
    (found, endpoints): (&[Found], &[Endpoint]),
) {
    let same_topic = |a: &Found, b: &Found| {
        a.wanted.topic == b.wanted.topic && a.wanted.topic_id == b.wanted.topic_id
    };
    let topics: Vec<&[Found]> = found.chunk_by(same_topic).collect();
    reply.put(|out| {
        put_top(out, version, 0, session_id);
        put_count(out, version, Some(topics.len()));
    });
    for partitions in topics {
        let wanted = &partitions[0].wanted;
        reply.put(|out| {
            if version >= 13 {
                out.put_u128(wanted.topic_id.as_u128());
            } else {
                put_string(out, version, &wanted.topic);
            }
            put_count(out, version, Some(partitions.len()));
        });
        for found in partitions {
            put_partition(reply, version, found, isolation);
        }
        if is_flexible(version) {
            reply.put(|out| out.put_u8(0));
        }
    }
    if is_flexible(version) {
        reply.put(|out| put_endpoints(out, version, endpoints));
    }
}

fn put_partition(reply: &mut Gather, version: i16, found: &Found, isolation: Isolation) {
    reply.put(|out| {
        out.put_i32(found.wanted.partition);
        out.put_i16(found.error.map_or(0, |error| error.code()));
        out.put_i64(found.high_watermark);
        out.put_i64(found.stable_offset);
        if version >= 5 {
            out.put_i64(found.log_start_offset);
        }
        let aborted = &found.read.aborted;
        let is_listed = isolation == Isolation::Committed;
        put_count(out, version, is_listed.then_some(aborted.len()));
        for transaction in aborted {
            out.put_i64(transaction.producer_id);
            out.put_i64(transaction.first_offset);
            if is_flexible(version) {
                out.put_u8(0);
            }
        }
        if version >= 11 {
            out.put_i32(found.preferred_replica);
        }
        put_count(out, version, Some(found.read.size_bytes));
    });
    for segment in &found.read.segments {
        reply.push(segment.clone());
    }
    if is_flexible(version) {
        reply.put(|out| put_partition_tags(out, found));
    }
}

fn put_partition_tags(out: &mut BytesMut, found: &Found) {
    let count = u8::from(found.diverging.is_some()) + u8::from(found.current_leader.is_some());
    out.put_u8(count);
    if let Some((epoch, end)) = found.diverging {
        out.put_slice(&[0, 13]);
        out.put_i32(epoch);
        out.put_i64(end);
        out.put_u8(0);
    }
    if let Some((leader, epoch)) = found.current_leader {
        out.put_slice(&[1, 9]);
        out.put_i32(leader);
        out.put_i32(epoch);
        out.put_u8(0);
    }
}

fn put_endpoints(out: &mut BytesMut, version: i16, endpoints: &[Endpoint]) {
    if version < 16 || endpoints.is_empty() {
        out.put_u8(0);
        return;
    }
    let mut field = BytesMut::new();
    put_count(&mut field, version, Some(endpoints.len()));
    for (id, host, port, rack) in endpoints {
        field.put_i32(*id);
        put_string(&mut field, version, host);
        field.put_i32(i32::from(*port));
        match rack {
            Some(rack) => put_string(&mut field, version, rack),
            None => field.put_u8(0),
        }
        field.put_u8(0);
    }
    out.put_slice(&[1, 0]);
    put_uvarint(out, field.len());
    out.extend_from_slice(&field);
}

fn put_top(out: &mut BytesMut, version: i16, error: i16, session_id: i32) {
    out.put_i32(0);
    if version >= 7 {
        out.put_i16(error);
        out.put_i32(session_id);
    }
}

/// The length of an array or of bytes; `None` is null.
fn put_count(out: &mut BytesMut, version: i16, count: Option<usize>) {
    if is_flexible(version) {
        put_uvarint(out, count.map_or(0, |count| count + 1));
    } else {
        out.put_i32(count.map_or(-1, |count| count as i32));
    }
}

fn put_string(out: &mut BytesMut, version: i16, text: &str) {
    if is_flexible(version) {
        put_uvarint(out, text.len() + 1);
    } else {
        out.put_i16(text.len() as i16);
    }
    out.put_slice(text.as_bytes());
}

fn put_uvarint(out: &mut BytesMut, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        out.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn is_flexible(version: i16) -> bool {
    version >= 12
}

fn endpoints(call: &Call<'_>, found: &[Found]) -> Vec<Endpoint> {
    let mut leaders: Vec<i32> =
        found.iter().filter_map(|found| found.current_leader.map(|(leader, _)| leader)).collect();
    if leaders.is_empty() {
        return Vec::new();
    }
    leaders.sort_unstable();
    leaders.dedup();
    let state = call.shared.state();
    let known = leaders.into_iter().filter_map(|id| {
        let node = state.nodes.get(&id)?;
        Some((id, node.host.clone(), node.port, node.rack.clone()))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::{Decodable, Encodable};
    use uuid::Uuid;

    use super::*;
    use crate::api::fetch::Wanted;
    use crate::log::{Aborted, ReadResult};

    fn found(version: i16, partition: i32) -> Found {
        let topic_id = if version >= 13 { Uuid::from_u128(77) } else { Uuid::nil() };
        let topic: Arc<str> = Arc::from("a.topic");
        let wanted = Wanted {
            topic,
            topic_id,
            partition,
            offset: 0,
            leader_epoch: -1,
            last_fetched_epoch: -1,
            bytes_max: 0,
        };
        let payload = Bytes::from(vec![7; 5000]);
        let aborted = Aborted { producer_id: 9, first_offset: 3, last_offset: 5 };
        let segments = vec![Bytes::from_static(b"head"), payload];
        Found {
            wanted,
            error: Some(ResponseError::NotLeaderOrFollower),
            high_watermark: 10,
            stable_offset: 8,
            log_start_offset: if version >= 5 { 1 } else { -1 },
            read: ReadResult { segments, size_bytes: 5004, aborted: vec![aborted] },
            preferred_replica: if version >= 11 { 2 } else { -1 },
            diverging: (version >= 12).then_some((4, 40)),
            current_leader: (version >= 12).then_some((3, 6)),
        }
    }

    #[test]
    fn every_version_reads_back_as_kafka_protocol_would_write_it() {
        let endpoints = [(3, "host".to_owned(), 9092, Some("rack".to_owned()))];
        for version in 4..=17 {
            let mut reply = Gather::new(BytesMut::new());
            let both = [found(version, 0), found(version, 1)];
            let session_id = if version >= 7 { 12 } else { 0 };
            let terms = (session_id, Isolation::Committed);
            put_response(&mut reply, version, terms, (&both, &endpoints));
            let mut frame = reply.into_frame();
            frame.advance(4);
            let body = frame.copy_to_bytes(frame.remaining());
            let mut rest = body.clone();
            let decoded = FetchResponse::decode(&mut rest, version).unwrap();
            assert!(rest.is_empty(), "v{version}");
            assert_eq!(decoded.responses[0].partitions[1].records.as_ref().unwrap().len(), 5004);
            let mut again = BytesMut::new();
            decoded.encode(&mut again, version).unwrap();
            assert_eq!(again, body, "v{version}");
        }
    }
}
