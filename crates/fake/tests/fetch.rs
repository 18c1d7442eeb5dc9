//! What a consumer gets: limits, sessions, long polls, isolation, epochs, topic ids.

mod support;

use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::ForgottenTopic;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kmirror_fake::{ApiKey, Cluster, Compaction, Record, ResponseError};
use support::{Client, base_offsets, batch, fetch_request, name};

async fn cluster(partitions: i32) -> Cluster {
    let builder = Cluster::builder().in_memory().brokers(2).replication_factor(1);
    builder.topic("t", partitions).start().await.unwrap()
}

fn records_of(response: &FetchResponse, partition: i32) -> Bytes {
    let all = response.responses.iter().flat_map(|topic| &topic.partitions);
    let found = all.into_iter().find(|found| found.partition_index == partition);
    found.and_then(|found| found.records.clone()).unwrap_or_default()
}

fn error_of(response: &FetchResponse) -> Option<ResponseError> {
    ResponseError::try_from_code(response.responses[0].partitions[0].error_code)
}

#[tokio::test]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let cluster = cluster(1).await;
    cluster.produce_direct("t", 0, batch(&["a", "b", "c"])).unwrap();
    cluster.produce_direct("t", 0, batch(&["d"])).unwrap();
    let mut client = Client::leader(&cluster, "t", 0);
    let response = client.call(11, fetch_request("t", &[(0, 2)])).await;
    let stored: Vec<u8> = cluster.batches("t", 0).iter().flat_map(|b| b.bytes.to_vec()).collect();
    assert_eq!(records_of(&response, 0), stored);
    assert_eq!(response.responses[0].partitions[0].high_watermark, 4);
}

#[tokio::test]
async fn the_first_batch_is_whole_and_the_last_is_cut_at_the_limit() {
    let cluster = cluster(1).await;
    for _ in 0..3 {
        cluster.produce_direct("t", 0, batch(&[&"x".repeat(1000)])).unwrap();
    }
    let size = cluster.batches("t", 0)[0].bytes.len();
    let mut client = Client::leader(&cluster, "t", 0);
    let limited = |bytes: usize| {
        let mut request = fetch_request("t", &[(0, 0)]);
        request.topics[0].partitions[0].partition_max_bytes = bytes as i32;
        request
    };
    for (bytes, whole, cut) in
        [(1, 1, 0), (size, 1, 0), (size + 40, 1, 40), (size * 2 + 100, 2, 100)]
    {
        let response = client.call(11, limited(bytes)).await;
        let (offsets, rest) = base_offsets(records_of(&response, 0));
        assert_eq!((offsets.len(), rest), (whole, cut), "{bytes}");
    }
}

#[tokio::test]
async fn only_the_first_partition_with_data_may_exceed_the_request_limit() {
    let cluster = cluster(4).await;
    for partition in [0, 2] {
        cluster.produce_direct("t", partition, batch(&[&"x".repeat(1000)])).unwrap();
        cluster.move_leader("t", partition, 1).unwrap();
    }
    cluster.move_leader("t", 1, 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    let request = fetch_request("t", &[(1, 0), (0, 0), (2, 0)]).with_max_bytes(10);
    let response = client.call(11, request).await;
    assert_eq!(base_offsets(records_of(&response, 0)), (vec![0], 0));
    assert!(records_of(&response, 2).is_empty());
}

#[tokio::test]
async fn a_long_poll_ends_with_the_append_that_fills_it() {
    let cluster = cluster(1).await;
    let mut client = Client::leader(&cluster, "t", 0);
    let request = fetch_request("t", &[(0, 0)]).with_max_wait_ms(60_000).with_min_bytes(1);
    let poll = client.call(11, request);
    let produce = async {
        while cluster.request_count(ApiKey::Fetch) == 0 {
            tokio::task::yield_now().await;
        }
        cluster.produce_direct("t", 0, batch(&["a"])).unwrap();
    };
    let (response, ()) = tokio::join!(poll, produce);
    assert_eq!(base_offsets(records_of(&response, 0)).0, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_without_data_ends_when_its_time_is_up() {
    let cluster = cluster(1).await;
    let mut client = Client::leader(&cluster, "t", 0);
    let request = fetch_request("t", &[(0, 0)]).with_max_wait_ms(500).with_min_bytes(1);
    let before = tokio::time::Instant::now();
    let response = client.call(11, request).await;
    assert!(records_of(&response, 0).is_empty());
    assert_eq!(before.elapsed(), Duration::from_millis(500));
}

#[tokio::test]
async fn a_long_poll_ends_when_the_leader_moves() {
    let cluster = cluster(1).await;
    let leader = cluster.leader("t", 0).unwrap().0;
    let mut client = Client::new(&cluster, leader);
    let request = fetch_request("t", &[(0, 0)]).with_max_wait_ms(60_000).with_min_bytes(1);
    let poll = client.call(16, with_ids(&cluster, request));
    let moved = async {
        while cluster.request_count(ApiKey::Fetch) == 0 {
            tokio::task::yield_now().await;
        }
        cluster.move_leader("t", 0, 3 - leader).unwrap();
    };
    let (response, ()) = tokio::join!(poll, moved);
    assert_eq!(error_of(&response), Some(ResponseError::NotLeaderOrFollower));
    let told = &response.responses[0].partitions[0].current_leader;
    assert_eq!((told.leader_id.0, told.leader_epoch), (3 - leader, 1));
    assert_eq!(response.node_endpoints[0].node_id.0, 3 - leader);
}

fn with_ids(cluster: &Cluster, mut request: FetchRequest) -> FetchRequest {
    for topic in &mut request.topics {
        topic.topic_id = cluster.topic_id(&topic.topic).unwrap();
        topic.topic = TopicName::default();
    }
    request
}

#[tokio::test]
async fn a_session_answers_only_what_is_new_and_keeps_what_it_was_told() {
    let cluster = cluster(2).await;
    cluster.move_leader("t", 0, 1).unwrap();
    cluster.move_leader("t", 1, 1).unwrap();
    let mut client = Client::new(&cluster, 1);
    let first = fetch_request("t", &[(0, 0), (1, 0)]).with_session_epoch(0);
    let response = client.call(11, first).await;
    assert!(response.session_id > 0);
    assert_eq!(response.responses[0].partitions.len(), 2);
    let next = |epoch| {
        fetch_request("t", &[])
            .with_topics(vec![])
            .with_session_id(response.session_id)
            .with_session_epoch(epoch)
    };
    assert!(client.call(11, next(1)).await.responses.is_empty());
    cluster.produce_direct("t", 1, batch(&["a"])).unwrap();
    let news = client.call(11, next(2)).await;
    assert_eq!(news.responses[0].partitions.len(), 1);
    assert_eq!(base_offsets(records_of(&news, 1)).0, [0]);
    let forgotten = ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![1]);
    let without = client.call(11, next(3).with_forgotten_topics_data(vec![forgotten])).await;
    assert!(without.responses.is_empty());
    let stale = client.call(11, next(3)).await;
    assert_eq!(stale.error_code, ResponseError::InvalidFetchSessionEpoch.code());
    cluster.evict_fetch_sessions();
    let evicted = client.call(11, next(4)).await;
    assert_eq!(evicted.error_code, ResponseError::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn in_a_session_no_partition_starves() {
    let cluster = cluster(2).await;
    for partition in 0..2 {
        cluster.move_leader("t", partition, 1).unwrap();
        cluster.produce_direct("t", partition, batch(&[&"x".repeat(1000)])).unwrap();
    }
    let mut client = Client::new(&cluster, 1);
    let first = fetch_request("t", &[(0, 0), (1, 0)]).with_session_epoch(0).with_max_bytes(1);
    let response = client.call(11, first).await;
    assert!(!records_of(&response, 0).is_empty() && records_of(&response, 1).is_empty());
    let next = fetch_request("t", &[])
        .with_topics(vec![])
        .with_max_bytes(1)
        .with_session_id(response.session_id)
        .with_session_epoch(1);
    let response = client.call(11, next).await;
    assert!(records_of(&response, 0).is_empty() && !records_of(&response, 1).is_empty());
}

#[tokio::test]
async fn epochs_offsets_and_topics_that_are_wrong_are_told_apart() {
    let cluster = cluster(1).await;
    cluster.move_leader("t", 0, 1).unwrap();
    cluster.produce_direct("t", 0, batch(&["a", "b"])).unwrap();
    cluster.delete_records("t", 0, 1).unwrap();
    let with_epoch = |epoch| {
        let mut request = fetch_request("t", &[(0, 1)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        request
    };
    let cases = [
        (1, with_epoch(1), None),
        (1, with_epoch(0), Some(ResponseError::FencedLeaderEpoch)),
        (1, with_epoch(2), Some(ResponseError::UnknownLeaderEpoch)),
        (2, with_epoch(1), Some(ResponseError::NotLeaderOrFollower)),
        (1, fetch_request("t", &[(0, 0)]), Some(ResponseError::OffsetOutOfRange)),
        (1, fetch_request("t", &[(0, 2)]), None),
        (1, fetch_request("t", &[(0, 3)]), Some(ResponseError::OffsetOutOfRange)),
        (1, fetch_request("t", &[(1, 0)]), Some(ResponseError::UnknownTopicOrPartition)),
    ];
    for (broker, request, error) in cases {
        let response = Client::new(&cluster, broker).call(12, request.clone()).await;
        assert_eq!(error_of(&response), error, "{request:?}");
    }
    let mut unknown = with_ids(&cluster, fetch_request("t", &[(0, 1)]));
    unknown.topics[0].topic_id = uuid::Uuid::from_u128(1);
    let response = Client::new(&cluster, 1).call(13, unknown).await;
    assert_eq!(error_of(&response), Some(ResponseError::UnknownTopicId));
}

#[tokio::test]
async fn a_reader_of_a_truncated_log_is_told_where_it_parts() {
    let cluster = cluster(1).await;
    cluster.produce_direct("t", 0, batch(&["a"])).unwrap();
    cluster.produce_direct("t", 0, batch(&["b"])).unwrap();
    cluster.truncate("t", 0, 1).unwrap();
    cluster.produce_direct("t", 0, batch(&["c", "d"])).unwrap();
    let mut request = fetch_request("t", &[(0, 2)]);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let response = Client::leader(&cluster, "t", 0).call(12, request).await;
    let diverging = &response.responses[0].partitions[0].diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (0, 1));
}

#[tokio::test]
async fn retention_moves_the_log_start_and_drops_whole_batches() {
    let cluster = cluster(1).await;
    for _ in 0..4 {
        cluster.produce_direct("t", 0, batch(&["a", "b"])).unwrap();
    }
    let size = cluster.batches("t", 0)[0].bytes.len();
    cluster.set_topic_config("t", "retention.bytes", &(size * 2).to_string()).unwrap();
    assert_eq!(cluster.apply_retention("t", 0).unwrap(), 4);
    assert_eq!(cluster.offsets("t", 0).unwrap().start, 4);
    assert_eq!(cluster.records("t", 0).len(), 4);
}

#[tokio::test]
async fn compaction_leaves_gaps_and_empty_batches_and_keeps_offsets() {
    let cluster = Cluster::builder().in_memory().start().await.unwrap();
    cluster.create_topic_with("t", 1, &[("cleanup.policy", "compact")]);
    let keyed = |pairs: &[(&'static str, &'static str)]| -> Vec<Record> {
        pairs.iter().map(|(key, value)| Record::new(*key, *value)).collect()
    };
    cluster.produce_direct("t", 0, keyed(&[("a", "1"), ("b", "1"), ("c", "1")])).unwrap();
    let numbered = kmirror_fake::BatchBuilder::new(keyed(&[("a", "2")])).with_producer(5, 0, 0);
    cluster.produce_direct("t", 0, numbered).unwrap();
    cluster.produce_direct("t", 0, Record::tombstone("c")).unwrap();
    cluster.produce_direct("t", 0, keyed(&[("a", "3"), ("z", "1")])).unwrap();
    let horizon = Compaction { delete_horizon_ms: Some(77), ..Compaction::default() };
    assert_eq!(cluster.compact("t", 0, horizon).unwrap(), 3);
    let offsets: Vec<i64> = cluster.records("t", 0).iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [1, 4, 5, 6]);
    let batches = cluster.batches("t", 0);
    assert_eq!((batches[0].header.record_count, batches[0].header.last_offset_delta), (1, 2));
    assert_eq!((batches[1].header.record_count, batches[1].header.last_offset()), (0, 3));
    assert_eq!(batches[2].header.attributes & 0x40, 0x40);
    assert_eq!(batches[2].header.base_timestamp, 77);
    assert!(cluster.records("t", 0)[1].timestamp_ms > 77);
    assert_eq!(
        cluster
            .compact("t", 0, Compaction { removes_tombstones: true, ..Compaction::default() })
            .unwrap(),
        1
    );
    let mut crc = cluster.batches("t", 0)[0].bytes.slice(17..);
    assert_eq!(crc.get_u32(), crc32c::crc32c(&crc));
}
