//! A client of a few lines: frames, headers and `kafka-protocol` structs over an in-memory pipe.
//!
//! Always true: one request is in flight at a time, and an answer out of order fails the test.

#![expect(dead_code, reason = "each test binary uses its own part of this module")]

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use kmirror_fake::{BatchBuilder, Cluster};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// How long a test waits for anything before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: DuplexStream,
    correlation_id: i32,
    pub(crate) client_id: String,
}

impl Client {
    /// Connects to a broker through memory.
    pub(crate) fn new(cluster: &Cluster, broker: i32) -> Client {
        let (host, port) = cluster.address(broker).unwrap();
        let stream = cluster.dial(&host, port).unwrap();
        Client { stream, correlation_id: 0, client_id: "test".to_owned() }
    }

    /// Connects to the coordinator of a group or transactional id.
    pub(crate) fn coordinator(cluster: &Cluster, key: &str) -> Client {
        Client::new(cluster, cluster.coordinator(key).unwrap())
    }

    /// Connects to the leader of a partition.
    pub(crate) fn leader(cluster: &Cluster, topic: &str, partition: i32) -> Client {
        Client::new(cluster, cluster.leader(topic, partition).unwrap().0)
    }

    pub(crate) async fn call<Q: Request>(&mut self, version: i16, request: Q) -> Q::Response {
        let answer = tokio::time::timeout(PATIENCE, self.try_call(version, request)).await;
        answer.expect("answer in time").expect("answer")
    }

    pub(crate) async fn try_call<Q: Request>(
        &mut self,
        version: i16,
        request: Q,
    ) -> io::Result<Q::Response> {
        self.send(version, &request).await?;
        let mut body = self.receive(Q::KEY, version).await?;
        let response = Q::Response::decode(&mut body, version).map_err(io::Error::other)?;
        assert!(body.is_empty(), "bytes remain after the response");
        Ok(response)
    }

    pub(crate) async fn send<Q: Request>(&mut self, version: i16, request: &Q) -> io::Result<()> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_string(self.client_id.clone())));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, Q::header_version(version)).map_err(io::Error::other)?;
        request.encode(&mut frame, version).map_err(io::Error::other)?;
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The body of the next answer.
    pub(crate) async fn receive(&mut self, api: i16, version: i16) -> io::Result<Bytes> {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await?;
        let mut frame = Bytes::from(frame);
        let api = ApiKey::try_from(api).unwrap();
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version))
            .map_err(io::Error::other)?;
        assert_eq!(header.correlation_id, self.correlation_id);
        Ok(frame)
    }

    /// Reads one byte: how a test sees that the other end closed.
    pub(crate) async fn read_byte(&mut self) -> io::Result<u8> {
        self.stream.read_u8().await
    }

    pub(crate) async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read_exact(bytes).await
    }

    /// Produces one batch to one partition with acks=all.
    pub(crate) async fn produce(
        &mut self,
        version: i16,
        (topic, partition): (&str, i32),
        records: Bytes,
    ) -> PartitionProduceResponse {
        let request = produce_request(topic, partition, records);
        let mut response = self.call(version, request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub(crate) async fn produce_transactional(
        &mut self,
        id: &str,
        (topic, partition): (&str, i32),
        records: Bytes,
    ) -> PartitionProduceResponse {
        let id = Some(TransactionalId(string(id)));
        let request = produce_request(topic, partition, records).with_transactional_id(id);
        let mut response = self.call(9, request).await;
        response.responses.remove(0).partition_responses.remove(0)
    }
}

pub(crate) fn produce_request(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

/// A fetch of these (partition, offset) of one topic outside any session.
pub(crate) fn fetch_request(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partitions = partitions.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(name(topic));
    let topic = topic.with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// One record per value, built now.
pub(crate) fn batch(values: &[&str]) -> BatchBuilder {
    let record = |value: &&str| kmirror_fake::Record::new("key", (*value).to_owned());
    BatchBuilder::new(values.iter().map(record))
}

/// The base offsets of the whole batches in a fetch answer, and the bytes cut off at the end.
pub(crate) fn base_offsets(mut records: Bytes) -> (Vec<i64>, usize) {
    let mut offsets = Vec::new();
    while records.len() >= 12 {
        let base = (&records[..8]).get_i64();
        let size = 12 + (&records[8..12]).get_i32() as usize;
        if records.len() < size {
            break;
        }
        offsets.push(base);
        records.advance(size);
    }
    (offsets, records.len())
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(string(topic))
}

pub(crate) fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
