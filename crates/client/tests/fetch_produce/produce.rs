//! A batch producer against a cluster in which things go wrong: every batch once, in order, and
//! where that cannot be kept, a loud stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{
    batch, client, cluster, compressed, partition, producing, restart, soon, stored, until,
    versions_seen,
};
use kmirror_client::batch::{Codec, Outgoing};
use kmirror_client::produce::{BatchProducer, Config, Decision, Delivery, Error, Rejection};
use kmirror_client::{ErrorCode, Fate, TopicPartition};
use kmirror_fake::intercept::Action;
use kmirror_fake::{ApiKey, Cluster, ResponseError};

async fn producer(cluster: &Cluster, config: Config) -> BatchProducer {
    BatchProducer::try_new(client(cluster).await, config).expect("a sound configuration")
}

/// Sends batches of one value each, from 0 to `count`.
async fn send(producer: &BatchProducer, number: i32, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for index in 0..count {
        let value = index.to_string();
        deliveries.push(producer.send(&partition(number), batch([value.as_str()])).await);
    }
    deliveries
}

async fn all_written(deliveries: Vec<Delivery>) {
    for (index, delivery) in deliveries.into_iter().enumerate() {
        let acked = soon("a delivery", delivery).await.expect("written");
        assert_eq!(acked.base_offset, Some(index as i64), "each value has its own offset");
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|index| index.to_string()).collect()
}

#[tokio::test]
async fn batches_are_written_in_order_and_told_their_offsets() {
    let cluster = cluster(3).await;
    let producer = producer(&cluster, producing()).await;
    let mut all = Vec::new();
    for number in 0..3 {
        all.push(send(&producer, number, 40).await);
    }
    soon("the flush", producer.flush()).await;
    for deliveries in all {
        all_written(deliveries).await;
    }
    for number in 0..3 {
        assert_eq!(stored(&cluster, number), numbers(40));
        let batches = cluster.batches("orders", number);
        assert!(batches.iter().all(|batch| batch.header.producer_id >= 0));
    }
    assert_eq!(producer.queued(), 0);
}

#[tokio::test]
async fn every_produce_version_is_understood() {
    for version in 3..=11 {
        let cluster = cluster(1).await;
        cluster.lower_max_version(ApiKey::Produce, version);
        let producer = producer(&cluster, producing()).await;
        all_written(send(&producer, 0, 3).await).await;
        assert_eq!(stored(&cluster, 0), numbers(3));
        assert!(versions_seen(&cluster, ApiKey::Produce).iter().all(|seen| *seen == version));
    }
}

#[tokio::test]
async fn several_partitions_go_in_one_request() {
    let cluster = Cluster::builder().topic("orders", 8).start().await.expect("starts");
    let producer = producer(&cluster, producing()).await;
    let gate =
        cluster.intercept_once(ApiKey::Produce, |_| Action::DelayReply(Duration::from_millis(200)));
    let mut all = Vec::new();
    for number in 0..8 {
        all.push(send(&producer, number, 2).await);
    }
    for deliveries in all {
        all_written(deliveries).await;
    }
    drop(gate);
    let requests = cluster.request_count(ApiKey::Produce);
    assert!(requests <= 8, "16 batches went in {requests} requests");
}

/// Runs 60 batches through one partition while `action` befalls a fifth of the requests.
async fn survives(name: &str, action: Action) {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    let chosen = action.clone();
    let _rule = cluster.intercept(ApiKey::Produce, move |context| {
        if context.nth % 5 == 2 { chosen.clone() } else { Action::Continue }
    });
    let deliveries = send(&producer, 0, 60).await;
    for (index, delivery) in deliveries.into_iter().enumerate() {
        let acked = soon(name, delivery).await;
        assert!(acked.is_ok(), "{name}: delivery {index}: {acked:?}");
    }
    assert_eq!(stored(&cluster, 0), numbers(60), "{name}");
}

#[tokio::test]
async fn order_survives_whatever_befalls_requests() {
    let failures = [
        ("refused", Action::Error(ResponseError::NotEnoughReplicas)),
        ("not the leader", Action::Error(ResponseError::NotLeaderOrFollower)),
        ("timed out", Action::Error(ResponseError::RequestTimedOut)),
        ("disk full", Action::Error(ResponseError::KafkaStorageError)),
        ("connection lost before", Action::Disconnect),
        ("connection lost after", Action::HandleThenDisconnect),
        ("answer cut", Action::Truncate(9)),
    ];
    for (name, action) in failures {
        survives(name, action).await;
    }
}

#[tokio::test]
async fn order_survives_leaders_that_move_all_the_time() {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    let mut all = Vec::new();
    for round in 0..10 {
        all.push(send(&producer, 0, 20).await);
        cluster.move_leader("orders", 0, 1 + round % 3).expect("moves");
    }
    for deliveries in all {
        for delivery in deliveries {
            soon("a delivery", delivery).await.expect("written");
        }
    }
    let expected: Vec<String> = (0..10).flat_map(|_| numbers(20)).collect();
    assert_eq!(stored(&cluster, 0), expected);
}

#[tokio::test]
async fn order_survives_a_broker_that_dies_and_comes_back() {
    let cluster = cluster(3).await;
    let producer = producer(&cluster, producing()).await;
    let mut all = Vec::new();
    for round in 0..3 {
        for number in 0..3 {
            all.push((number, send(&producer, number, 30).await));
        }
        restart(&cluster, 1 + round).await;
    }
    for (number, deliveries) in all {
        for delivery in deliveries {
            let acked = soon("a delivery", delivery).await;
            assert!(acked.is_ok(), "partition {number}: {acked:?}");
        }
    }
    let expected: Vec<String> = (0..3).flat_map(|_| numbers(30)).collect();
    for number in 0..3 {
        assert_eq!(stored(&cluster, number), expected, "partition {number}");
    }
}

#[tokio::test]
async fn one_batch_goes_first_to_a_new_topic_however_many_wait() {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    // The first request is refused before it is appended. A second one behind it would be accepted
    // by a broker that knows nothing of the producer.
    let _rule = cluster
        .intercept_once(ApiKey::Produce, |_| Action::Error(ResponseError::NotEnoughReplicas));
    all_written(send(&producer, 0, 20).await).await;
    assert_eq!(stored(&cluster, 0), numbers(20));
}

#[tokio::test]
async fn a_producer_that_the_broker_forgot_goes_on() {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    all_written(send(&producer, 0, 3).await).await;
    let id = cluster.batches("orders", 0)[0].header.producer_id;
    cluster.forget_producer("orders", 0, id).expect("known");
    for index in 3..6 {
        let value = index.to_string();
        let delivery = producer.send(&partition(0), batch([value.as_str()])).await;
        soon("a delivery", delivery).await.expect("written");
    }
    assert_eq!(stored(&cluster, 0), numbers(6));
}

#[tokio::test]
async fn acknowledged_data_that_the_broker_lost_is_not_written_around() {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    all_written(send(&producer, 0, 5).await).await;
    cluster.truncate("orders", 0, 3).expect("cut");
    let delivery = producer.send(&partition(0), batch(["after"])).await;
    // The broker expects another number; nothing else is on the way, so a higher epoch heals it.
    soon("a delivery", delivery).await.expect("written");
    assert_eq!(stored(&cluster, 0), ["0", "1", "2", "after"]);
    let epochs: Vec<i16> =
        cluster.batches("orders", 0).iter().map(|batch| batch.header.producer_epoch).collect();
    assert_eq!(epochs, [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_refused_batch_stops_its_partition_until_it_is_restarted() {
    let cluster = cluster(2).await;
    cluster.set_topic_config("orders", "max.message.bytes", "500").expect("set");
    let producer = producer(&cluster, producing()).await;
    let large = "x".repeat(1000);
    let first = producer.send(&partition(0), batch(["0"])).await;
    let second = producer.send(&partition(0), batch([large.as_str()])).await;
    let third = producer.send(&partition(0), batch(["2"])).await;
    let other = producer.send(&partition(1), batch(["other"])).await;
    soon("the first", first).await.expect("written");
    match soon("the second", second).await {
        Err(Error::Rejected { rejection, fate, .. }) => {
            assert_eq!(rejection.code, ErrorCode::MESSAGE_TOO_LARGE);
            assert_eq!(fate, Fate::NotWritten);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(soon("the third", third).await, Err(Error::Stopped { .. })));
    soon("another partition", other).await.expect("written");
    let refused = producer.send(&partition(0), batch(["3"])).await;
    assert!(matches!(soon("a later one", refused).await, Err(Error::Stopped { .. })));
    assert!(producer.is_stopped(&partition(0)));
    producer.restart(&partition(0));
    let again = producer.send(&partition(0), batch(["2"])).await;
    soon("after the restart", again).await.expect("written");
    assert_eq!(stored(&cluster, 0), ["0", "2"]);
}

#[tokio::test]
async fn a_refused_batch_can_be_replaced_in_its_place() {
    let cluster = cluster(1).await;
    cluster.set_topic_config("orders", "max.message.bytes", "500").expect("set");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let config = Config {
        on_rejected: Arc::new(move |_: &TopicPartition, _: &Outgoing, _: &Rejection| {
            count.fetch_add(1, Ordering::Relaxed);
            Decision::Replace(vec![batch(["1a"]), batch(["1b"])])
        }),
        ..producing()
    };
    let producer = producer(&cluster, config).await;
    let large = "x".repeat(1000);
    let mut deliveries = Vec::new();
    for value in ["0", &large, "2", "3"] {
        deliveries.push(producer.send(&partition(0), batch([value])).await);
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(soon("a delivery", delivery).await.expect("written").base_offset);
    }
    assert_eq!(offsets, [Some(0), Some(1), Some(3), Some(4)]);
    assert_eq!(stored(&cluster, 0), ["0", "1a", "1b", "2", "3"]);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refused_batch_can_be_left_out() {
    let cluster = cluster(1).await;
    cluster.set_topic_config("orders", "max.message.bytes", "500").expect("set");
    let skip = |_: &TopicPartition, _: &Outgoing, _: &Rejection| Decision::Skip;
    let config = Config { on_rejected: Arc::new(skip), ..producing() };
    let producer = producer(&cluster, config).await;
    let large = "x".repeat(1000);
    let mut results = Vec::new();
    for value in ["0", &large, "2", &large, "4"] {
        results.push(producer.send(&partition(0), batch([value])).await);
    }
    let mut written = Vec::new();
    for delivery in results {
        written.push(soon("a delivery", delivery).await.is_ok());
    }
    assert_eq!(written, [true, false, true, false, true]);
    assert_eq!(stored(&cluster, 0), ["0", "2", "4"]);
}

#[tokio::test]
async fn zstd_is_not_sent_to_a_broker_that_does_not_know_it() {
    let cluster = cluster(1).await;
    cluster.lower_max_version(ApiKey::Produce, 6);
    let producer = producer(&cluster, producing()).await;
    let delivery = producer.send(&partition(0), compressed(Codec::Zstd, ["a"])).await;
    match soon("the delivery", delivery).await {
        Err(Error::Rejected { rejection, .. }) => {
            assert_eq!(rejection.code, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.request_count(ApiKey::Produce), 0);
}

#[tokio::test]
async fn a_producer_without_permission_is_refused_and_not_silently_weaker() {
    let cluster = cluster(1).await;
    let _rule = cluster.intercept(ApiKey::InitProducerId, |_| {
        Action::Error(ResponseError::ClusterAuthorizationFailed)
    });
    let producer = producer(&cluster, producing()).await;
    for _ in 0..2 {
        let delivery = producer.send(&partition(0), batch(["a"])).await;
        let outcome = soon("the delivery", delivery).await;
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
        producer.restart(&partition(0));
    }
    assert_eq!(cluster.request_count(ApiKey::Produce), 0);
}

#[tokio::test]
async fn a_batch_waits_for_its_topic_and_fails_if_that_is_limited() {
    let cluster = cluster(1).await;
    let client = client(&cluster).await;
    let patient = BatchProducer::try_new(client.clone(), producing()).expect("sound");
    let limited = Config { missing_timeout: Some(Duration::from_millis(100)), ..producing() };
    let limited = BatchProducer::try_new(client, limited).expect("sound");
    let later = TopicPartition::new("later", 0);
    let failing = limited.send(&later, batch(["a"])).await;
    let waiting = patient.send(&later, batch(["b"])).await;
    let outcome = soon("the limited one", failing).await;
    assert!(matches!(outcome, Err(Error::MissingPartition { .. })), "{outcome:?}");
    cluster.create_topic("later", 1);
    soon("the patient one", waiting).await.expect("written");
}

#[tokio::test]
async fn a_batch_expires_when_its_time_is_up() {
    let cluster = cluster(1).await;
    let _rule =
        cluster.intercept(ApiKey::Produce, |_| Action::Error(ResponseError::NotEnoughReplicas));
    let config = Config { delivery_timeout: Some(Duration::from_millis(200)), ..producing() };
    let producer = producer(&cluster, config).await;
    let first = producer.send(&partition(0), batch(["a"])).await;
    let second = producer.send(&partition(0), batch(["b"])).await;
    match soon("the first", first).await {
        Err(Error::Expired { last, fate, .. }) => {
            assert_eq!((last, fate), (Some(ErrorCode::NOT_ENOUGH_REPLICAS), Fate::NotWritten));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(soon("the second", second).await, Err(Error::Stopped { .. })));
}

#[tokio::test]
async fn a_full_queue_makes_senders_wait() {
    let cluster = cluster(2).await;
    let config = Config { queue_bytes_max: 300, ..producing() };
    let producer = Arc::new(producer(&cluster, config).await);
    cluster.freeze_broker(cluster.leader("orders", 0).expect("led").0).expect("known");
    let large = "x".repeat(250);
    let first = producer.send(&partition(0), batch([large.as_str()])).await;
    let target = partition(0);
    let mut second = Box::pin(producer.send(&target, batch(["b"])));
    let waited = tokio::time::timeout(Duration::from_millis(50), second.as_mut()).await;
    assert!(waited.is_err(), "the queue of one partition is full");
    let other = producer.send(&partition(1), batch(["c"])).await;
    soon("another partition", other).await.expect("written");
    cluster.thaw_broker(cluster.leader("orders", 0).expect("led").0).expect("known");
    soon("the first", first).await.expect("written");
    soon("the second", async { second.await.await }).await.expect("written");
}

#[tokio::test]
async fn a_frozen_broker_is_given_up_and_nothing_is_written_twice() {
    let cluster = cluster(1).await;
    let config = Config { ack_timeout: Duration::from_millis(1), ..producing() };
    let producer = producer(&cluster, config).await;
    all_written(send(&producer, 0, 1).await).await;
    let (leader, _) = cluster.leader("orders", 0).expect("led");
    cluster.freeze_broker(leader).expect("known");
    let delivery = producer.send(&partition(0), batch(["1"])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let next = if leader == 1 { 2 } else { 1 };
    cluster.move_leader("orders", 0, next).expect("moves");
    cluster.thaw_broker(leader).expect("known");
    soon("the delivery", delivery).await.expect("written");
    assert_eq!(stored(&cluster, 0), numbers(2));
}

#[tokio::test]
async fn closing_tells_what_was_given_up() {
    let cluster = cluster(1).await;
    let producer = producer(&cluster, producing()).await;
    let (leader, _) = cluster.leader("orders", 0).expect("led");
    cluster.freeze_broker(leader).expect("known");
    let delivery = producer.send(&partition(0), batch(["a"])).await;
    assert_eq!(soon("closing", producer.close(Duration::from_millis(50))).await, 1);
    let outcome = soon("the delivery", delivery).await;
    assert!(matches!(outcome, Err(Error::Closed { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_broker_that_throttles_is_left_alone() {
    let cluster = cluster(1).await;
    let config = Config { idempotence: false, ..producing() };
    let producer = producer(&cluster, config).await;
    all_written(send(&producer, 0, 1).await).await;
    // Produce 9: one topic, one partition, then the throttle time.
    let reply = move |throttle_ms: i32| {
        let mut body = vec![2, 7];
        body.extend(b"orders");
        body.extend([2, 0, 0, 0, 0, 0, 0]);
        body.extend(1i64.to_be_bytes());
        body.extend((-1i64).to_be_bytes());
        body.extend(0i64.to_be_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend(throttle_ms.to_be_bytes());
        body.push(0);
        body
    };
    cluster.lower_max_version(ApiKey::Produce, 9);
    cluster.disconnect_all(cluster.leader("orders", 0).expect("led").0).expect("known");
    let rule = cluster.intercept_once(ApiKey::Produce, move |context| {
        assert_eq!(context.version, 9);
        Action::Reply(reply(400).into())
    });
    let first = producer.send(&partition(0), batch(["1"])).await;
    soon("the throttled one", first).await.expect("written");
    let before = tokio::time::Instant::now();
    let second = producer.send(&partition(0), batch(["2"])).await;
    soon("the next", second).await.expect("written");
    assert!(before.elapsed() >= Duration::from_millis(350), "{:?}", before.elapsed());
    drop(rule);
}

#[tokio::test]
async fn weaker_acknowledgements_are_honoured() {
    for acks in [kmirror_client::produce::Acks::Leader, kmirror_client::produce::Acks::None] {
        let cluster = cluster(1).await;
        let config = Config { acks, idempotence: false, ..producing() };
        let producer = producer(&cluster, config).await;
        for delivery in send(&producer, 0, 20).await {
            soon("a delivery", delivery).await.expect("written");
        }
        until("all are written", || stored(&cluster, 0).len() == 20).await;
        assert_eq!(stored(&cluster, 0), numbers(20));
    }
}

#[tokio::test]
async fn a_producer_that_is_granted_its_permission_later_goes_on() {
    let cluster = cluster(1).await;
    let rule = cluster.intercept(ApiKey::InitProducerId, |_| {
        Action::Error(ResponseError::ClusterAuthorizationFailed)
    });
    let producer = producer(&cluster, producing()).await;
    let delivery = producer.send(&partition(0), batch(["refused"])).await;
    let outcome = soon("the delivery", delivery).await;
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    drop(rule);
    producer.restart(&partition(0));
    all_written(send(&producer, 0, 3).await).await;
    assert_eq!(stored(&cluster, 0), numbers(3));
}

#[tokio::test]
async fn one_bad_answer_about_the_identity_fails_nothing() {
    let garbage = bytes::Bytes::from_static(&[0xff; 64]);
    let answers = [Action::Error(ResponseError::UnknownServerError), Action::Garbage(garbage)];
    for answer in answers {
        let cluster = cluster(1).await;
        let _once = cluster.intercept_once(ApiKey::InitProducerId, move |_| answer.clone());
        let producer = producer(&cluster, producing()).await;
        all_written(send(&producer, 0, 3).await).await;
        assert_eq!(stored(&cluster, 0), numbers(3));
        assert!(cluster.request_count(ApiKey::InitProducerId) >= 2);
    }
}

#[tokio::test]
async fn a_topic_created_anew_on_brokers_without_topic_ids_is_produced_to() {
    let builder = Cluster::builder().brokers(2).emulate(kmirror_fake::Release::V2_4);
    let cluster = builder.topic("orders", 1).start().await.expect("starts");
    let producer = producer(&cluster, producing()).await;
    all_written(send(&producer, 0, 1).await).await;
    for turn in 0..6 {
        cluster.move_leader("orders", 0, 1 + turn % 2).expect("moves");
        let delivery = producer.send(&partition(0), batch(["x"])).await;
        soon("a delivery", delivery).await.expect("written");
    }
    cluster.delete_topic("orders").expect("there");
    cluster.create_topic("orders", 1);
    let delivery = producer.send(&partition(0), batch(["new"])).await;
    soon("after the topic was created anew", delivery).await.expect("written");
    assert_eq!(stored(&cluster, 0), ["new"]);
}

#[tokio::test]
async fn dropped_connections_repeat_nothing_on_a_broker_of_0_11() {
    let builder = Cluster::builder().emulate(kmirror_fake::Release::V0_11).topic("orders", 1);
    let cluster = builder.start().await.expect("starts");
    let producer = producer(&cluster, producing()).await;
    let _rule = cluster.intercept(ApiKey::Produce, |context| match context.nth % 5 {
        2 => Action::HandleThenDisconnect,
        _ => Action::Continue,
    });
    for delivery in send(&producer, 0, 40).await {
        soon("a delivery", delivery).await.expect("written");
    }
    assert_eq!(stored(&cluster, 0), numbers(40));
}
