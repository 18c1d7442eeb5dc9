//! The client's core against the fake cluster: finding a cluster, keeping it in view, losing it.

use std::time::Duration;

use kmirror_client::connection::AddressMap;
use kmirror_client::messages::{ApiKey, DescribeClusterRequest, MetadataRequest};
use kmirror_client::{BrokerId, Client, Config, Error, Lane, TopicPartition, clock};
use kmirror_fake::{Action, Cluster, Release};

fn config(cluster: &Cluster) -> Config {
    Config::new(&cluster.bootstrap())
        .unwrap()
        .with_backoff(Duration::from_millis(10), Duration::from_millis(100))
}

async fn view_of(client: &Client) -> std::sync::Arc<kmirror_client::cluster::View> {
    client.refresh(client.view().generation).await.unwrap()
}

#[tokio::test]
async fn a_cluster_is_learnt_from_one_bootstrap_server() {
    let cluster = Cluster::builder().brokers(3).topic("orders", 4).start().await.unwrap();
    let first = cluster.bootstrap().split(',').next().unwrap().to_owned();
    let client = Client::connect(Config::new(&first).unwrap()).await.unwrap();
    client.watch_topics(["orders".into()]);
    let view = view_of(&client).await;
    assert_eq!(view.brokers().count(), 3);
    assert_eq!(view.topic("orders").unwrap().partitions.len(), 4);
    assert_eq!(view.cluster_id.as_deref(), Some(cluster.cluster_id()));
}

#[tokio::test]
async fn a_leader_that_moved_is_seen_in_the_next_view() {
    let cluster = Cluster::builder().brokers(2).topic("orders", 1).start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    client.watch_topics(["orders".into()]);
    let partition = TopicPartition::new("orders", 0);
    let (before, epoch) = view_of(&client).await.leader(&partition).unwrap();
    let other = cluster.brokers().into_iter().find(|id| BrokerId(*id) != before).unwrap();
    cluster.move_leader("orders", 0, other).unwrap();
    let (after, new_epoch) = view_of(&client).await.leader(&partition).unwrap();
    assert_eq!(after, BrokerId(other));
    assert!(new_epoch > epoch);
}

#[tokio::test]
async fn brokers_of_every_age_are_spoken_to() {
    for release in [Release::V0_11, Release::V1_1, Release::V2_4, Release::V3_2, Release::V4_0] {
        let cluster = Cluster::builder().emulate(release).topic("orders", 2).start().await.unwrap();
        let client = Client::connect(config(&cluster)).await.unwrap();
        client.watch_topics(["orders".into()]);
        let view = view_of(&client).await;
        assert_eq!(view.topic("orders").unwrap().partitions.len(), 2, "{release:?}");
    }
}

#[tokio::test]
async fn a_frozen_broker_does_not_keep_metadata_from_coming() {
    let cluster = Cluster::builder().brokers(3).start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    view_of(&client).await;
    cluster.freeze_broker(cluster.brokers()[0]).unwrap();
    for _ in 0..3 {
        let refreshed = client.refresh(client.view().generation);
        tokio::time::timeout(Duration::from_secs(5), refreshed).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn when_all_brokers_were_gone_the_bootstrap_servers_are_asked_again() {
    let cluster = Cluster::builder().brokers(2).start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    for broker in cluster.brokers() {
        cluster.stop_broker(broker).unwrap();
    }
    let error = client.refresh(client.view().generation).await.unwrap_err();
    assert!(matches!(error, Error::Bootstrap { .. }), "{error}");
    assert!(error.is_retryable());
    cluster.start_broker(cluster.brokers()[1]).await.unwrap();
    let deadline = clock::now() + Duration::from_secs(10);
    while client.refresh(client.view().generation).await.is_err() {
        assert!(clock::now() < deadline, "the cluster was not found again");
    }
}

#[tokio::test]
async fn advertised_addresses_are_mapped_to_reachable_ones() {
    let cluster = Cluster::builder().advertise(1, "wn0.invalid", 9092).start().await.unwrap();
    let listening = cluster.listening(1).unwrap();
    let mut map = AddressMap::default();
    map.insert("wn0.invalid:9092", &listening.to_string()).unwrap();
    let config = Config::new(&listening.to_string()).unwrap().with_address_map(map);
    let client = Client::connect(config).await.unwrap();
    let broker = client.broker(BrokerId(1)).unwrap();
    assert_eq!(broker.advertised().to_string(), "wn0.invalid:9092");
    let answer = broker.call(Lane::Control, 1..=9, |_| MetadataRequest::default()).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn a_slow_request_on_one_lane_does_not_hold_up_another() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    let broker = client.broker(BrokerId(1)).unwrap();
    let _never = cluster.intercept(ApiKey::DescribeCluster, |_| Action::Ignore);
    let slow = broker.call(Lane::Coordinator, 0..=1, |_| DescribeClusterRequest::default());
    let quick = broker.call(Lane::Control, 1..=9, |_| MetadataRequest::default());
    tokio::select! {
        answer = slow => panic!("answered {answer:?}"),
        answer = quick => assert!(answer.is_ok()),
    }
}

#[tokio::test]
async fn a_lane_that_died_is_dialled_again() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    let broker = client.broker(BrokerId(1)).unwrap();
    let ask = || broker.call(Lane::Coordinator, 1..=9, |_| MetadataRequest::default());
    ask().await.unwrap();
    let _once = cluster.intercept_once(ApiKey::Metadata, |_| Action::Disconnect);
    assert!(matches!(ask().await, Err(Error::Closed { written: true, .. })));
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn an_answer_of_garbage_is_an_error_and_the_lane_recovers() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    let broker = client.broker(BrokerId(1)).unwrap();
    let garbage = bytes::Bytes::from_static(&[0xff; 64]);
    let _once = cluster.intercept_once(ApiKey::Metadata, move |_| Action::Garbage(garbage.clone()));
    let ask = || broker.call(Lane::Coordinator, 1..=9, |_| MetadataRequest::default());
    assert!(ask().await.is_err());
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn nobody_at_the_address_is_told_with_the_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::connect(Config::new(&address.to_string()).unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("reach the cluster: none of the bootstrap servers {address} answered")
    );
}

#[tokio::test]
async fn a_frozen_broker_does_not_keep_another_from_being_found() {
    let cluster = Cluster::builder().brokers(3).start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    // Every broker has a connection that looks open, also the one that is frozen then.
    for broker in cluster.brokers() {
        client.broker(BrokerId(broker)).unwrap().connection(Lane::Control).await.unwrap();
    }
    for frozen in cluster.brokers() {
        cluster.freeze_broker(frozen).unwrap();
        let found = tokio::time::timeout(Duration::from_secs(20), client.any_broker()).await;
        assert_ne!(found.unwrap().unwrap().id(), Some(BrokerId(frozen)));
        cluster.thaw_broker(frozen).unwrap();
    }
}

#[tokio::test]
async fn a_topic_created_anew_on_brokers_without_topic_ids_is_seen_with_its_new_leader() {
    let builder = Cluster::builder().brokers(2).emulate(Release::V2_4).topic("orders", 1);
    let cluster = builder.start().await.unwrap();
    let client = Client::connect(config(&cluster)).await.unwrap();
    client.watch_topics(["orders".into()]);
    let partition = TopicPartition::new("orders", 0);
    for turn in 0..6 {
        cluster.move_leader("orders", 0, 1 + turn % 2).unwrap();
    }
    let (_, old_epoch) = view_of(&client).await.leader(&partition).unwrap();
    // Nobody asks between the two.
    cluster.delete_topic("orders").unwrap();
    cluster.create_topic("orders", 1);
    let (leader, epoch) = cluster.leader("orders", 0).unwrap();
    assert!(epoch < old_epoch);
    let deadline = clock::now() + Duration::from_secs(30);
    while view_of(&client).await.leader(&partition) != Some((BrokerId(leader), epoch)) {
        assert!(clock::now() < deadline, "the old leader is still believed in");
    }
}

#[tokio::test]
async fn a_request_that_takes_long_is_not_cut_off_by_the_search_for_a_broker() {
    let cluster = Cluster::builder().brokers(1).start().await.unwrap();
    let config = config(&cluster).with_connect_timeout(Duration::from_secs(2));
    let client = Client::connect(config).await.unwrap();
    let broker = client.any_broker().await.unwrap();
    let _rule =
        cluster.intercept(ApiKey::DescribeCluster, |_| Action::Delay(Duration::from_secs(5)));
    let long = broker.call(Lane::Control, 0..=0, |_| DescribeClusterRequest::default());
    let (long, found) = tokio::join!(long, client.any_broker());
    long.unwrap();
    found.unwrap();
}
