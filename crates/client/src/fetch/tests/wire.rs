//! Requests and answers in every version, the old ones against bytes laid out by hand.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{FetchResponse, ProducerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::fetch::config::Config;
use crate::fetch::digest::Aborted;
use crate::fetch::session::{Session, Want};
use crate::fetch::wire::{VERSIONS, decode, encode, style};
use crate::name::TopicPartition;

const ID: Uuid = Uuid::from_u128(9);

fn session(version: i16) -> (Session, Bytes) {
    let want = |fetch_offset| Want {
        fetch_offset,
        leader_epoch: 3,
        bytes_max: 1000,
        topic_id: Some(ID),
        generation: 1,
    };
    let mut session = Session::default();
    let wanted = vec![
        (TopicPartition::new("orders", 4), want(11)),
        (TopicPartition::new("orders", 2), want(12)),
    ];
    let plan = session.begin(wanted, style(version).has_sessions);
    let config = Config::default();
    let body = encode(version, &config, config.wait_max, &plan, 5000).expect("encodes");
    (session, body)
}

#[test]
fn every_version_of_a_request_is_read_by_an_independent_decoder() {
    for version in VERSIONS.filter(|version| *version >= 4) {
        let (_, mut body) = session(version);
        let request = FetchRequest::decode(&mut body, version).expect("decodes");
        assert!(body.is_empty(), "version {version}");
        assert_eq!((request.max_bytes, request.isolation_level), (5000, 1));
        let topic = &request.topics[0];
        if version >= 13 {
            assert_eq!(topic.topic_id, ID);
        } else {
            assert_eq!(topic.topic.as_str(), "orders");
        }
        let offsets: Vec<(i32, i64)> = topic
            .partitions
            .iter()
            .map(|partition| (partition.partition, partition.fetch_offset))
            .collect();
        assert_eq!(offsets, [(4, 11), (2, 12)], "in the order that was planned");
    }
}

#[test]
fn every_version_of_an_answer_is_read() {
    for version in VERSIONS.filter(|version| *version >= 4) {
        let (session, _) = session(version);
        let aborted =
            AbortedTransaction::default().with_producer_id(ProducerId(7)).with_first_offset(5);
        let data = PartitionData::default()
            .with_partition_index(4)
            .with_high_watermark(20)
            .with_last_stable_offset(15)
            .with_log_start_offset(1)
            .with_aborted_transactions(Some(vec![aborted]))
            .with_records(Some(Bytes::from_static(b"records")));
        let topic = if version >= 13 {
            FetchableTopicResponse::default().with_topic_id(ID)
        } else {
            let name = TopicName(StrBytes::from_static_str("orders"));
            FetchableTopicResponse::default().with_topic(name)
        };
        let response = FetchResponse::default()
            .with_session_id(if version >= 7 { 5 } else { 0 })
            .with_responses(vec![topic.with_partitions(vec![data])]);
        let mut body = BytesMut::new();
        response.encode(&mut body, version).expect("encodes");
        let answer = decode(version, body.freeze(), &session).expect("decodes");
        assert_eq!(answer.bytes(), 7);
        let found = &answer.partitions[0];
        assert_eq!(found.partition, TopicPartition::new("orders", 4), "version {version}");
        assert_eq!((found.code, found.ends.high_watermark), (ErrorCode::NONE, 20));
        assert_eq!(found.ends.log_start_offset, if version >= 5 { 1 } else { -1 });
        assert_eq!(found.aborted, [Aborted { producer_id: 7, first_offset: 5 }]);
    }
}

/// A request of version 2 or 3 as Kafka's documentation lays it out.
fn old_request(version: i16) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(-1);
    body.put_i32(500);
    body.put_i32(1);
    if version >= 3 {
        body.put_i32(5000);
    }
    body.put_i32(1);
    body.put_i16(6);
    body.put_slice(b"orders");
    body.put_i32(2);
    for (partition, offset) in [(4, 11), (2, 12)] {
        body.put_i32(partition);
        body.put_i64(offset);
        body.put_i32(1000);
    }
    body.freeze()
}

fn old_answer() -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i32(0);
    body.put_i32(1);
    body.put_i16(6);
    body.put_slice(b"orders");
    body.put_i32(2);
    body.put_i32(4);
    body.put_i16(0);
    body.put_i64(20);
    body.put_i32(7);
    body.put_slice(b"records");
    body.put_i32(2);
    body.put_i16(6);
    body.put_i64(-1);
    body.put_i32(-1);
    body
}

#[test]
fn the_versions_before_4_are_as_documented() {
    for version in [2, 3] {
        let (session, body) = session(version);
        assert_eq!(body, old_request(version));
        let answer = decode(version, old_answer().freeze(), &session).expect("decodes");
        let [first, second] = &answer.partitions[..] else { panic!("two partitions") };
        assert_eq!(&first.records[..], b"records");
        assert_eq!((first.ends.high_watermark, first.ends.last_stable_offset), (20, -1));
        assert_eq!(first.cuts_first, version == 2);
        assert_eq!(second.code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert!(second.records.is_empty());
    }
}

#[test]
fn an_old_answer_that_is_cut_or_lies_is_refused() {
    let (session, _) = session(2);
    let whole = old_answer().freeze();
    for length in 0..whole.len() {
        assert!(decode(2, whole.slice(..length), &session).is_none(), "{length} bytes");
    }
    let mut lying = old_answer();
    lying[4..8].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(decode(2, lying.freeze(), &session).is_none());
}

#[test]
fn topics_by_an_id_that_was_not_asked_for_are_left_out() {
    let (session, _) = session(13);
    let data = PartitionData::default().with_partition_index(4);
    let topic = FetchableTopicResponse::default()
        .with_topic_id(Uuid::from_u128(77))
        .with_partitions(vec![data]);
    let mut body = BytesMut::new();
    FetchResponse::default().with_responses(vec![topic]).encode(&mut body, 13).expect("encodes");
    let answer = decode(13, body.freeze(), &session).expect("decodes");
    assert!(answer.partitions.is_empty());
    assert_eq!(session.name(ID), Some(&Arc::from("orders")));
}
