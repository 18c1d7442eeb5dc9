//! A whole answer to Fetch, read, and a whole request to Produce, written: eight partitions of
//! 128 KiB each.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use kmirror_client::TopicPartition;
use kmirror_client::batch::{Codec, Outgoing};
use kmirror_client::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kmirror_client::messages::{FetchResponse, TopicName};
use kmirror_client::testing::{read_fetch, write_produce};

use super::Case;
use crate::data::{self, Shape};

const PARTITIONS: usize = 8;
const SHAPE: Shape = Shape::kib(Codec::None, 128);
const BYTES: usize = PARTITIONS * SHAPE.bytes();
/// The last versions that name topics.
const FETCH_VERSION: i16 = 12;
const PRODUCE_VERSION: i16 = 12;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("fetch/8x128KiB", (BYTES, 0), || {
            let body = answer();
            Box::new(move || {
                let entries = read_fetch(FETCH_VERSION, black_box(body.clone()));
                assert_eq!(entries.map(|entries| entries.len()), Some(PARTITIONS));
            })
        }),
        Case::new("produce/8x128KiB", (BYTES, 0), || {
            let batches: Vec<(TopicPartition, Outgoing)> = (0..PARTITIONS)
                .map(|index| {
                    let partition = TopicPartition::new("orders", index as i32);
                    (partition, data::outgoing(SHAPE, index as u64))
                })
                .collect();
            Box::new(move || {
                let pieces = write_produce(PRODUCE_VERSION, black_box(&batches).clone());
                assert!(pieces.iter().map(Bytes::len).sum::<usize>() > BYTES);
            })
        }),
    ]
}

fn answer() -> Bytes {
    let partitions = (0..PARTITIONS).map(|index| {
        PartitionData::default()
            .with_partition_index(index as i32)
            .with_high_watermark(1000)
            .with_last_stable_offset(1000)
            .with_records(Some(data::record_set(SHAPE, 1)))
    });
    let topic = FetchableTopicResponse::default()
        .with_topic(TopicName("orders".to_owned().into()))
        .with_partitions(partitions.collect());
    let response = FetchResponse::default().with_responses(vec![topic]);
    let mut body = BytesMut::new();
    kmirror_client::testing::encode(&response, FETCH_VERSION, &mut body);
    body.freeze()
}
