//! A Produce request as pieces: what we write ourselves, and the payloads as they are.
//!
//! Versions 3 to 12. 3 is the first that takes format v2 (0.11) and 12 the last that names topics;
//! 13 names them by id. From 9 on the message is flexible (KIP-482).
//!
//! Always true: a payload is never copied, and what is allocated does not grow with the bytes.
//! Pure; owned by the driver.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{Outgoing, Stamp};

use super::config::Acks;
use super::state::Outbound;

/// The versions [`encode`] writes.
pub(super) const VERSIONS: RangeInclusive<i16> = 3..=12;

const FLEXIBLE_FROM: i16 = 9;

/// What the request says besides its batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) version: i16,
    pub(super) acks: Acks,
    pub(super) ack_timeout: Duration,
}

/// The body of a request with `batches`, at most one of each partition.
pub(super) fn encode(head: Head, mut batches: Vec<Outbound<Outgoing>>) -> Vec<Bytes> {
    batches.sort_by(|one, other| one.partition.cmp(&other.partition));
    let mut body = Body::new(head.version, &batches);
    body.nullable_string(None);
    body.own.put_i16(head.acks.code());
    body.own.put_i32(i32::try_from(head.ack_timeout.as_millis()).unwrap_or(i32::MAX));
    let topics: Vec<&[Outbound<Outgoing>]> =
        batches.chunk_by(|one, other| one.partition.topic == other.partition.topic).collect();
    body.count(topics.len());
    for partitions in topics {
        body.string(&partitions[0].partition.topic);
        body.count(partitions.len());
        for outbound in partitions {
            body.partition(outbound);
        }
        body.tags();
    }
    body.tags();
    body.finish()
}

/// Our own bytes, and where the payloads go between them.
struct Body {
    is_flexible: bool,
    own: BytesMut,
    payloads: Vec<(usize, Bytes)>,
}

impl Body {
    fn new(version: i16, batches: &[Outbound<Outgoing>]) -> Self {
        let topics: usize = batches.iter().map(|outbound| outbound.partition.topic.len()).sum();
        Self {
            is_flexible: version >= FLEXIBLE_FROM,
            own: BytesMut::with_capacity(32 + topics + 96 * batches.len()),
            payloads: Vec::with_capacity(batches.len()),
        }
    }

    fn partition(&mut self, outbound: &Outbound<Outgoing>) {
        let Outbound { partition, sending, batch } = outbound;
        self.own.put_i32(partition.partition);
        let len = batch.len_bytes();
        if self.is_flexible {
            self.varint(len + 1);
        } else {
            self.own.put_i32(i32::try_from(len).expect("invariant: a batch is below 2 GiB"));
        }
        let stamp = Stamp {
            producer_id: sending.identity.producer_id,
            producer_epoch: sending.identity.epoch,
            base_sequence: sending.base_sequence,
            is_transactional: false,
        };
        self.own.put_slice(&batch.stamped(stamp));
        self.payloads.push((self.own.len(), batch.payload().clone()));
        self.tags();
    }

    fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    fn nullable_string(&mut self, value: Option<&str>) {
        let len = value.map(str::len);
        if self.is_flexible {
            self.varint(len.map_or(0, |len| len + 1));
        } else {
            let short = |len| i16::try_from(len).expect("invariant: Kafka's names are short");
            self.own.put_i16(len.map_or(-1, short));
        }
        self.own.put_slice(value.unwrap_or_default().as_bytes());
    }

    fn count(&mut self, count: usize) {
        if self.is_flexible {
            self.varint(count + 1);
        } else {
            self.own.put_i32(i32::try_from(count).expect("invariant: few partitions"));
        }
    }

    /// No tagged fields.
    fn tags(&mut self) {
        if self.is_flexible {
            self.own.put_u8(0);
        }
    }

    fn varint(&mut self, value: usize) {
        let mut rest = u32::try_from(value).expect("invariant: a request is below 2 GiB");
        while rest >= 0x80 {
            self.own.put_u8((rest as u8 & 0x7f) | 0x80);
            rest >>= 7;
        }
        self.own.put_u8(rest as u8);
    }

    /// The pieces in the order they are written.
    fn finish(self) -> Vec<Bytes> {
        let own = self.own.freeze();
        let mut pieces = Vec::with_capacity(2 * self.payloads.len() + 1);
        let mut from = 0;
        for (to, payload) in self.payloads {
            pieces.push(own.slice(from..to));
            pieces.push(payload);
            from = to;
        }
        if from < own.len() {
            pieces.push(own.slice(from..));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::protocol::Decodable;

    use crate::batch::rebuild::Builder;
    use crate::batch::{Batch, Codec, Compressor, Record};
    use crate::name::TopicPartition;
    use crate::produce::entry::{Identity, Sending};

    use super::*;

    fn outbound(topic: &str, partition: i32, value: &[u8]) -> Outbound<Outgoing> {
        let mut builder = Builder::new(Codec::None);
        builder.push(&Record::new(None, Some(value))).unwrap();
        let batch = builder.finish(&mut Compressor::default()).unwrap();
        let identity = Identity { producer_id: 77, epoch: 3 };
        let sending = Sending { entry: 0, identity, base_sequence: 11 };
        Outbound { partition: TopicPartition::new(topic, partition), sending, batch }
    }

    #[test]
    fn every_version_is_read_by_an_independent_decoder() {
        for version in VERSIONS {
            let batches = vec![
                outbound("payments", 0, b"three"),
                outbound("orders", 4, &[7; 300]),
                outbound("orders", 1, b"two"),
            ];
            let head = Head { version, acks: Acks::All, ack_timeout: Duration::from_millis(1500) };
            let mut body = Bytes::from(encode(head, batches).concat());
            let request = ProduceRequest::decode(&mut body, version).unwrap();
            assert!(body.is_empty(), "version {version}");
            assert_eq!((request.acks, request.timeout_ms), (-1, 1500));
            let found: Vec<(String, i32)> = request
                .topic_data
                .iter()
                .flat_map(|topic| {
                    let name = topic.name.to_string();
                    topic.partition_data.iter().map(move |data| (name.clone(), data.index))
                })
                .collect();
            let orders = |index| ("orders".to_owned(), index);
            assert_eq!(found, vec![orders(1), orders(4), ("payments".to_owned(), 0)]);
            let records = request.topic_data[0].partition_data[1].records.clone().unwrap();
            let batch = Batch::try_new(records).unwrap();
            assert_eq!(batch.header().producer_id, 77);
            assert_eq!(batch.header().base_sequence, 11);
        }
    }

    #[test]
    fn a_payload_is_handed_on_and_not_copied() {
        let outbound = outbound("orders", 0, &[7; 1000]);
        let payload = outbound.batch.payload().as_ptr();
        let head = Head { version: 9, acks: Acks::All, ack_timeout: Duration::from_secs(1) };
        let pieces = encode(head, vec![outbound]);
        assert!(pieces.iter().any(|piece| piece.as_ptr() == payload));
    }
}
