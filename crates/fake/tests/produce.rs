//! What a broker refuses, accepts and changes when a client produces.

mod support;

use bytes::Bytes;
use kmirror_fake::{BatchBuilder, Cluster, Codec, Record, Release, ResponseError};
use support::{Client, batch, produce_request};

const LOG_APPEND_TIME: i16 = 8;
const TRANSACTIONAL: i16 = 16;
const CONTROL: i16 = 32;

async fn cluster() -> Cluster {
    let cluster = Cluster::builder().in_memory().start().await.unwrap();
    cluster.create_topic("t", 1);
    cluster
}

/// Sends bytes that are one batch (after `mutate` and a new checksum) and returns the error code.
async fn refused(cluster: &Cluster, version: i16, bytes: Bytes) -> Option<ResponseError> {
    let mut client = Client::leader(cluster, "t", 0);
    let response = client.produce(version, ("t", 0), bytes).await;
    ResponseError::try_from_code(response.error_code)
}

fn resealed(bytes: &Bytes, mutate: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = bytes.to_vec();
    mutate(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

#[tokio::test]
async fn offsets_and_epoch_are_stamped_and_the_payload_is_kept() {
    let cluster = cluster().await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let sent = batch(&["a", "b", "c"]).with_codec(codec).build(cluster.unix_ms());
        let mut client = Client::leader(&cluster, "t", 0);
        let response = client.produce(9, ("t", 0), sent.clone()).await;
        assert_eq!(response.error_code, 0, "{codec:?}");
        let stored = cluster.batches("t", 0).pop().unwrap();
        assert_eq!(stored.header.base_offset, response.base_offset);
        assert_eq!(stored.header.leader_epoch, 0);
        assert_eq!(stored.bytes[16..], sent[16..], "{codec:?}");
    }
    let offsets: Vec<i64> = cluster.records("t", 0).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_client_may_not_write_is_refused() {
    use ResponseError::{CorruptMessage, InvalidRecord, MessageTooLarge};
    let cluster = cluster().await;
    let now = cluster.unix_ms();
    let good = batch(&["a", "b"]).build(now);
    let mut damaged = good.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let huge = "x".repeat(2_000_000);
    let cases = [
        ("base offset", resealed(&good, |b| b[7] = 1), InvalidRecord),
        ("two batches", twice, InvalidRecord),
        ("checksum", Bytes::from(damaged), CorruptMessage),
        ("count below range", resealed(&good, |b| b[26] = 5), InvalidRecord),
        ("no records", resealed(&good, |b| b[60] = 0), InvalidRecord),
        ("magic", resealed(&good, |b| b[16] = 1), InvalidRecord),
        ("too large", batch(&[&huge]).build(now), MessageTooLarge),
        ("control", batch(&["a"]).with_attributes(CONTROL).build(now), InvalidRecord),
        ("negative sequence", batch(&["a"]).with_producer(3, 0, -1).build(now), InvalidRecord),
        ("cut short", good.slice(..40), InvalidRecord),
        (
            "transactional without an id",
            batch(&["a"]).with_producer(3, 0, 0).with_attributes(TRANSACTIONAL).build(now),
            ResponseError::TransactionalIdAuthorizationFailed,
        ),
    ];
    for (what, bytes, error) in cases {
        assert_eq!(refused(&cluster, 9, bytes).await, Some(error), "{what}");
    }
    assert!(cluster.records("t", 0).is_empty());
}

#[tokio::test]
async fn brokers_before_2_4_name_an_invalid_record_corrupt() {
    let cluster =
        Cluster::builder().in_memory().emulate(Release::V1_1).topic("t", 1).start().await.unwrap();
    let good = batch(&["a"]).build(cluster.unix_ms());
    let shifted = resealed(&good, |bytes| bytes[7] = 1);
    assert_eq!(refused(&cluster, 5, shifted).await, Some(ResponseError::CorruptMessage));
}

#[tokio::test]
async fn zstd_needs_produce_version_7() {
    let cluster = cluster().await;
    let bytes = batch(&["a"]).with_codec(Codec::Zstd).build(cluster.unix_ms());
    let refused_at = refused(&cluster, 6, bytes.clone()).await;
    assert_eq!(refused_at, Some(ResponseError::UnsupportedCompressionType));
    assert_eq!(refused(&cluster, 7, bytes).await, None);
}

#[tokio::test]
async fn wrong_inner_offsets_are_renumbered_if_compressed_and_stored_as_they_are_if_not() {
    for (release, strict, codec, error, offsets) in [
        (Release::V3_9, false, Codec::Gzip, None, vec![0, 1]),
        (Release::V2_4, false, Codec::Gzip, Some(ResponseError::InvalidRecord), vec![]),
        (Release::V3_9, false, Codec::None, None, vec![0, 2]),
        (Release::V3_9, true, Codec::None, Some(ResponseError::InvalidRecord), vec![]),
    ] {
        let builder = Cluster::builder().in_memory().emulate(release).strict_offsets(strict);
        let cluster = builder.topic("t", 1).start().await.unwrap();
        let bytes = with_gap(codec, cluster.unix_ms());
        let version = if release == Release::V2_4 { 8 } else { 9 };
        assert_eq!(refused(&cluster, version, bytes).await, error, "{release:?} {codec:?}");
        let stored: Vec<i64> = cluster.records("t", 0).iter().map(|r| r.offset).collect();
        assert_eq!(stored, offsets, "{release:?} {codec:?}");
    }
}

/// Two records whose offset deltas are 0 and 2, in a header that says 0 and 1.
fn with_gap(codec: Codec, now_ms: i64) -> Bytes {
    let plain = batch(&["a", "b"]).build(now_ms);
    let payload = &plain[61..];
    let second = 1 + usize::from(payload[0] >> 1);
    let mut shifted = payload.to_vec();
    // Length, attributes, timestamp delta (one byte each), then the offset delta: zigzag 1 is 2.
    assert_eq!(shifted[second + 3], 2);
    shifted[second + 3] = 4;
    let packed = match codec {
        Codec::Gzip => gzip(&shifted),
        _ => shifted,
    };
    let mut bytes = [&plain[..61], &packed].concat();
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = codec.bits() as u8;
    resealed(&Bytes::from(bytes), |_| {})
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_record_without_key_is_refused_by_a_compacted_topic_and_named() {
    let cluster = Cluster::builder().in_memory().start().await.unwrap();
    cluster.create_topic_with("t", 1, &[("cleanup.policy", "compact")]);
    let records = [Record::new("k", "v"), Record::value("no key")];
    let bytes = BatchBuilder::new(records).build(cluster.unix_ms());
    let response = Client::leader(&cluster, "t", 0).produce(9, ("t", 0), bytes).await;
    assert_eq!(response.error_code, ResponseError::InvalidRecord.code());
    assert_eq!(response.record_errors.len(), 1);
    assert_eq!(response.record_errors[0].batch_index, 1);
}

#[tokio::test]
async fn a_log_append_time_topic_stamps_its_own_time() {
    let cluster = Cluster::builder().in_memory().unix_ms(1_000_000).start().await.unwrap();
    cluster.create_topic_with("t", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let record = Record::new("k", "v").with_timestamp_ms(5);
    let bytes = BatchBuilder::from(record.clone()).build(0);
    let response = Client::leader(&cluster, "t", 0).produce(9, ("t", 0), bytes).await;
    assert!(response.log_append_time_ms >= 1_000_000);
    let stored = cluster.records("t", 0);
    assert_eq!(stored[0].timestamp_ms, response.log_append_time_ms);
    assert!(cluster.batches("t", 0)[0].header.is_log_append_time());
    let flagged = BatchBuilder::from(record).with_attributes(LOG_APPEND_TIME).build(0);
    assert_eq!(refused(&cluster, 9, flagged).await, Some(ResponseError::InvalidTimestamp));
}

#[tokio::test]
async fn a_log_append_time_batch_on_a_create_time_topic_is_refused_only_before_3_6() {
    for (release, version, error) in
        [(Release::V3_2, 9, Some(ResponseError::InvalidTimestamp)), (Release::V3_9, 9, None)]
    {
        let cluster =
            Cluster::builder().in_memory().emulate(release).topic("t", 1).start().await.unwrap();
        let record = Record::new("k", "v").with_timestamp_ms(5);
        let bytes = BatchBuilder::from(record).with_attributes(LOG_APPEND_TIME).build(0);
        assert_eq!(refused(&cluster, version, bytes).await, error, "{release:?}");
        for batch in cluster.batches("t", 0) {
            assert!(!batch.header.is_log_append_time());
        }
    }
}

#[tokio::test]
async fn timestamps_out_of_range_are_refused() {
    let builder = Cluster::builder().in_memory().emulate(Release::V4_0).unix_ms(10_000_000);
    let cluster = builder.topic("t", 1).start().await.unwrap();
    let at = |ms: i64| BatchBuilder::from(Record::new("k", "v").with_timestamp_ms(ms)).build(0);
    assert_eq!(refused(&cluster, 9, at(10_000_000 + 3_500_000)).await, None);
    let refused_at = refused(&cluster, 9, at(10_000_000 + 3_700_000)).await;
    assert_eq!(refused_at, Some(ResponseError::InvalidTimestamp));
    cluster.set_topic_config("t", "message.timestamp.before.max.ms", "1000").unwrap();
    assert_eq!(refused(&cluster, 9, at(1)).await, Some(ResponseError::InvalidTimestamp));
}

#[tokio::test]
async fn a_topics_own_codec_recompresses() {
    let cluster = Cluster::builder().in_memory().start().await.unwrap();
    cluster.create_topic_with("t", 1, &[("compression.type", "lz4")]);
    let sent = batch(&["a", "b"]).with_codec(Codec::Gzip).build(cluster.unix_ms());
    assert_eq!(refused(&cluster, 9, sent).await, None);
    assert_eq!(cluster.batches("t", 0)[0].header.codec(), Ok(Codec::Lz4));
    assert_eq!(cluster.records("t", 0).len(), 2);
}

#[tokio::test]
async fn one_of_the_last_five_batches_is_a_duplicate_and_an_older_one_is_out_of_order() {
    let cluster = cluster().await;
    let mut client = Client::leader(&cluster, "t", 0);
    let numbered = |sequence: i32| batch(&["a"]).with_producer(7, 0, sequence).build(1);
    for sequence in 0..6 {
        let response = client.produce(9, ("t", 0), numbered(sequence)).await;
        assert_eq!((response.error_code, response.base_offset), (0, i64::from(sequence)));
    }
    let duplicate = client.produce(9, ("t", 0), numbered(1)).await;
    assert_eq!((duplicate.error_code, duplicate.base_offset), (0, 1));
    let too_old = client.produce(9, ("t", 0), numbered(0)).await;
    assert_eq!(too_old.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    let gap = client.produce(9, ("t", 0), numbered(8)).await;
    assert_eq!(gap.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    assert_eq!(cluster.offsets("t", 0).unwrap().next, 6);
}

#[tokio::test]
async fn an_old_epoch_is_fenced_and_a_new_one_starts_at_sequence_zero() {
    let cluster = cluster().await;
    let mut client = Client::leader(&cluster, "t", 0);
    let numbered = |epoch, sequence| batch(&["a"]).with_producer(7, epoch, sequence).build(1);
    assert_eq!(client.produce(9, ("t", 0), numbered(1, 0)).await.error_code, 0);
    let old = client.produce(9, ("t", 0), numbered(0, 1)).await;
    assert_eq!(old.error_code, ResponseError::InvalidProducerEpoch.code());
    let not_zero = client.produce(9, ("t", 0), numbered(2, 1)).await;
    assert_eq!(not_zero.error_code, ResponseError::OutOfOrderSequenceNumber.code());
    assert_eq!(client.produce(9, ("t", 0), numbered(2, 0)).await.error_code, 0);
}

#[tokio::test]
async fn an_unknown_producer_may_start_anywhere_since_2_5_only() {
    for (release, version, error) in
        [(Release::V2_4, 8, ResponseError::UnknownProducerId.code()), (Release::V3_2, 9, 0)]
    {
        let cluster =
            Cluster::builder().in_memory().emulate(release).topic("t", 1).start().await.unwrap();
        let bytes = batch(&["a"]).with_producer(7, 0, 40).build(1);
        let response = Client::leader(&cluster, "t", 0).produce(version, ("t", 0), bytes).await;
        assert_eq!(response.error_code, error, "{release:?}");
    }
}

#[tokio::test]
async fn acks_zero_has_no_answer_and_a_failure_closes_the_connection() {
    let cluster = cluster().await;
    let mut client = Client::leader(&cluster, "t", 0);
    let quiet = produce_request("t", 0, batch(&["a"]).build(1)).with_acks(0);
    client.send(9, &quiet).await.unwrap();
    let answered = client.produce(9, ("t", 0), batch(&["b"]).build(1)).await;
    assert_eq!(answered.base_offset, 1);
    let failing = produce_request("missing", 0, batch(&["a"]).build(1)).with_acks(0);
    client.send(9, &failing).await.unwrap();
    assert!(client.read_byte().await.is_err());
}

#[tokio::test]
async fn acks_all_needs_the_in_sync_replicas_the_topic_asks_for() {
    let cluster = Cluster::builder().in_memory().brokers(3).start().await.unwrap();
    cluster.create_topic_with("t", 1, &[("min.insync.replicas", "3")]);
    let leader = cluster.leader("t", 0).unwrap().0;
    cluster.stop_broker(leader % 3 + 1).unwrap();
    let bytes = batch(&["a"]).build(1);
    let code = refused(&cluster, 9, bytes).await;
    assert_eq!(code, Some(ResponseError::NotEnoughReplicas));
}

#[tokio::test]
async fn a_full_store_answers_a_storage_error() {
    let builder = Cluster::builder().in_memory().storage_bytes_max(1000);
    let cluster = builder.topic("t", 1).start().await.unwrap();
    let bytes = batch(&[&"x".repeat(500)]).build(1);
    assert_eq!(refused(&cluster, 9, bytes.clone()).await, None);
    assert_eq!(refused(&cluster, 9, bytes.clone()).await, Some(ResponseError::KafkaStorageError));
    cluster.delete_records("t", 0, 1).unwrap();
    assert_eq!(refused(&cluster, 9, bytes).await, None);
}
