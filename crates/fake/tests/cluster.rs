//! Brokers that stop, freeze and come back; interceptors; addresses; sockets and pipes.

mod support;

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::*;
use kmirror_fake::{Action, ApiKey, Cluster, ResponseError};
use support::{Client, batch, fetch_request, name, produce_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn cluster() -> Cluster {
    Cluster::builder().in_memory().brokers(3).topic("t", 3).start().await.unwrap()
}

async fn metadata(client: &mut Client) -> MetadataResponse {
    client.call(9, MetadataRequest::default().with_topics(None)).await
}

#[tokio::test]
async fn a_stopped_broker_is_out_of_the_metadata_and_its_partitions_are_led_by_others() {
    let cluster = cluster().await;
    let (old, epoch) = cluster.leader("t", 0).unwrap();
    let mut to_old = Client::new(&cluster, old);
    cluster.stop_broker(old).unwrap();
    assert!(to_old.try_call(9, MetadataRequest::default()).await.is_err());
    let (host, port) = cluster.address(old).unwrap();
    assert!(cluster.dial(&host, port).is_err());
    let (new, new_epoch) = cluster.leader("t", 0).unwrap();
    assert_ne!(new, old);
    assert_eq!(new_epoch, epoch + 1);
    let told = metadata(&mut Client::new(&cluster, new)).await;
    assert_eq!(told.brokers.len(), 2);
    assert_ne!(told.controller_id.0, old);
    cluster.start_broker(old).await.unwrap();
    let told = metadata(&mut Client::new(&cluster, old)).await;
    assert_eq!(told.brokers.len(), 3);
    assert_eq!(cluster.leader("t", 0).unwrap(), (new, new_epoch));
}

#[tokio::test]
async fn a_partition_without_live_replicas_has_no_leader_until_one_returns() {
    let builder = Cluster::builder().in_memory().brokers(2).replication_factor(1);
    let cluster = builder.topic("t", 1).start().await.unwrap();
    let (old, _) = cluster.leader("t", 0).unwrap();
    cluster.stop_broker(old).unwrap();
    let told = metadata(&mut Client::new(&cluster, 3 - old)).await;
    let partition = &told.topics[0].partitions[0];
    assert_eq!(partition.leader_id.0, -1);
    assert_eq!(partition.error_code, ResponseError::LeaderNotAvailable.code());
    cluster.start_broker(old).await.unwrap();
    assert_eq!(cluster.leader("t", 0).unwrap().0, old);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_answers_nothing_until_it_thaws() {
    let cluster = cluster().await;
    cluster.freeze_broker(1).unwrap();
    let mut client = Client::new(&cluster, 1);
    client.send(9, &MetadataRequest::default()).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_secs(60), client.receive(3, 9)).await;
    assert!(silence.is_err());
    cluster.thaw_broker(1).unwrap();
    client.receive(3, 9).await.unwrap();
}

#[tokio::test]
async fn interceptors_decide_what_happens_to_a_request() {
    let cluster = cluster().await;
    cluster.move_leader("t", 0, 1).unwrap();
    let bytes = batch(&["a"]).build(1);
    let request = || produce_request("t", 0, bytes.clone());
    let error = Action::Error(ResponseError::NotEnoughReplicas);
    let guard = cluster.intercept_once(ApiKey::Produce, move |_| error.clone());
    let mut client = Client::new(&cluster, 1);
    let response = client.produce(9, ("t", 0), bytes.clone()).await;
    assert_eq!(response.error_code, ResponseError::NotEnoughReplicas.code());
    assert_eq!(client.produce(9, ("t", 0), bytes.clone()).await.error_code, 0);
    drop(guard);

    for (action, written) in [
        (Action::Disconnect, 1),
        (Action::HandleThenDisconnect, 2),
        (Action::Truncate(6), 3),
        (Action::Garbage(Bytes::from_static(&[0xff; 64])), 3),
    ] {
        let chosen = action.clone();
        let _guard = cluster.intercept(ApiKey::Produce, move |_| chosen.clone());
        let mut client = Client::new(&cluster, 1);
        client.send(9, &request()).await.unwrap();
        let mut prefix = [0; 8];
        let is_whole = client.read_exact(&mut prefix).await.is_ok();
        assert_eq!(is_whole, matches!(action, Action::Garbage(_)), "{action:?}");
        assert_eq!(cluster.offsets("t", 0).unwrap().next, written, "{action:?}");
    }
    assert_eq!(client.produce(9, ("t", 0), bytes).await.error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_request_is_handled_late_and_a_delayed_answer_at_once() {
    let cluster = cluster().await;
    cluster.move_leader("t", 0, 1).unwrap();
    let delay = Duration::from_secs(5);
    for (action, written) in [(Action::Delay(delay), 0), (Action::DelayReply(delay), 2)] {
        let _guard = cluster.intercept_once(ApiKey::Produce, move |_| action.clone());
        let mut client = Client::new(&cluster, 1);
        let before = tokio::time::Instant::now();
        let look = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(cluster.offsets("t", 0).unwrap().next, written);
        };
        let produce = client.produce(9, ("t", 0), batch(&["a"]).build(1));
        let (response, ()) = tokio::join!(produce, look);
        assert_eq!((response.error_code, before.elapsed()), (0, delay));
    }
}

#[tokio::test]
async fn an_interceptor_sees_the_request_and_may_use_the_cluster() {
    let cluster = cluster().await;
    cluster.move_leader("t", 0, 1).unwrap();
    let handle = cluster.clone();
    let _guard = cluster.intercept_once(ApiKey::Fetch, move |context| {
        let request: FetchRequest = context.decode().unwrap();
        assert_eq!(request.topics[0].partitions[0].fetch_offset, 0);
        assert_eq!(context.client_id, Some("test"));
        handle.move_leader("t", 0, 2).unwrap();
        Action::Continue
    });
    let response = Client::new(&cluster, 1).call(11, fetch_request("t", &[(0, 0)])).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::NotLeaderOrFollower.code());
    assert_eq!(cluster.request_count_on(1, ApiKey::Fetch), 1);
    assert_eq!(cluster.request_count_on(2, ApiKey::Fetch), 0);
    let seen = cluster.requests();
    assert_eq!((seen[0].api, seen[0].version), (ApiKey::Fetch, 11));
}

#[tokio::test]
async fn metadata_shows_the_advertised_address_and_dial_knows_it() {
    let builder = Cluster::builder().advertise(1, "wn0.internal", 9092).cluster_id("abc");
    let cluster = builder.start().await.unwrap();
    assert_eq!(cluster.bootstrap(), "wn0.internal:9092");
    let told = metadata(&mut Client::new(&cluster, 1)).await;
    assert_eq!((told.brokers[0].host.as_str(), told.brokers[0].port), ("wn0.internal", 9092));
    assert_eq!(told.cluster_id.as_deref(), Some("abc"));
    let at = cluster.listening(1).unwrap();
    assert!(cluster.dial(&at.ip().to_string(), at.port()).is_ok());
}

#[tokio::test]
async fn sockets_serve_as_pipes_do_and_close_with_the_last_handle() {
    let cluster = Cluster::builder().start().await.unwrap();
    let at = cluster.listening(1).unwrap();
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    // ApiVersions v0 with correlation id 7 and no client id.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff]).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 7, 0, 0]);
    drop(cluster);
    let closed = tokio::time::timeout(support::PATIENCE, stream.read_u8()).await.unwrap();
    assert!(closed.is_err());
    assert!(tokio::net::TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn frames_out_of_bounds_close_the_connection() {
    let cluster = Cluster::builder().in_memory().frame_bytes_max(1000).start().await.unwrap();
    for length in [0_i32, -1, 1001, i32::MAX] {
        let mut client = Client::new(&cluster, 1);
        client.send_raw(&length.to_be_bytes()).await.unwrap();
        assert!(client.read_byte().await.is_err(), "{length}");
    }
}

#[tokio::test]
async fn counts_that_exceed_their_frame_close_the_connection_and_allocate_nothing() {
    let cluster = Cluster::builder().in_memory().start().await.unwrap();
    // Metadata v1 and v9 whose topic counts claim two thousand million.
    let plain: &[u8] = &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let compact: &[u8] =
        &[0, 0, 0, 16, 0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 7];
    for frame in [plain, compact] {
        let mut client = Client::new(&cluster, 1);
        client.send_raw(frame).await.unwrap();
        assert!(client.read_byte().await.is_err());
    }
    metadata(&mut Client::new(&cluster, 1)).await;
}

#[tokio::test]
async fn topics_are_created_on_demand_only_if_the_cluster_does() {
    for (creates, code) in [
        (true, ResponseError::LeaderNotAvailable.code()),
        (false, ResponseError::UnknownTopicOrPartition.code()),
    ] {
        let builder = Cluster::builder().in_memory().auto_create_topics(creates);
        let cluster = builder.default_partitions(4).start().await.unwrap();
        let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name("new")));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(true);
        let response = Client::new(&cluster, 1).call(9, request).await;
        assert_eq!(response.topics[0].error_code, code);
        assert_eq!(cluster.partition_count("new"), if creates { 4 } else { 0 });
    }
}

#[tokio::test]
async fn only_the_controller_creates_topics() {
    let cluster = cluster().await;
    cluster.move_controller(2).unwrap();
    let create = |topic: &str| {
        let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(2);
        let topic = topic.with_replication_factor(-1);
        CreateTopicsRequest::default().with_topics(vec![topic])
    };
    for (broker, topic, error) in [
        (1, "new", Some(ResponseError::NotController)),
        (2, "new", None),
        (2, "t", Some(ResponseError::TopicAlreadyExists)),
        (2, "a/b", Some(ResponseError::InvalidTopicException)),
    ] {
        let response = Client::new(&cluster, broker).call(5, create(topic)).await;
        assert_eq!(ResponseError::try_from_code(response.topics[0].error_code), error);
    }
    assert_eq!(cluster.partition_count("new"), 2);
}
