//! Administration against a fake cluster: one result for each thing, and what passes by itself is
//! tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, At, ConfigChange, ConfigSource, NewTopic, Resource};
use kmirror_client::group::OffsetAndMetadata;
use kmirror_client::{BrokerId, Client, Config, ErrorCode, Isolation, TopicPartition};
use kmirror_fake::intercept::Action;
use kmirror_fake::{ApiKey, BatchBuilder, Cluster, Record, ResponseError};

async fn start() -> (Cluster, Admin) {
    let cluster = Cluster::builder().brokers(3).topic("orders", 2).start().await.expect("starts");
    let config = Config::new(&cluster.bootstrap()).expect("addresses");
    let config = config.with_backoff(Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(config).await.expect("the fake answers");
    (cluster, Admin::new(client).with_timeout(Duration::from_secs(10)))
}

fn orders(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

#[tokio::test]
async fn topics_are_made_and_deleted_and_each_has_its_own_result() {
    let (cluster, admin) = start().await;
    let new = NewTopic::new("new").with_partitions(4).with_config("cleanup.policy", "compact");
    let topics = [new, NewTopic::new("orders").with_partitions(1)];
    let created = admin.create_topics(&topics).await.expect("asked");
    created["new"].clone().expect("created");
    let error = created["orders"].clone().expect_err("exists");
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(cluster.partition_count("new"), 4);
    assert_eq!(cluster.topic_config("new", "cleanup.policy").as_deref(), Some("compact"));
    let names: [Arc<str>; 2] = ["new".into(), "nowhere".into()];
    let deleted = admin.delete_topics(&names).await.expect("asked");
    deleted["new"].clone().expect("deleted");
    let error = deleted["nowhere"].clone().expect_err("never was");
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(cluster.topics(), ["orders"]);
}

#[tokio::test]
async fn a_controller_that_moves_is_followed() {
    let (cluster, admin) = start().await;
    let old = cluster.controller();
    cluster.move_controller(1 + old % 3).expect("moves");
    let topic = [NewTopic::new("new").with_partitions(1)];
    let created = admin.create_topics(&topic).await.expect("asked");
    created["new"].clone().expect("created");
}

#[tokio::test]
async fn a_topic_made_by_a_try_whose_answer_was_lost_counts_as_made() {
    let (cluster, admin) = start().await;
    let _rule = cluster.intercept_once(ApiKey::CreateTopics, |_| Action::HandleThenDisconnect);
    let topic = [NewTopic::new("new").with_partitions(1)];
    let created = admin.create_topics(&topic).await.expect("asked");
    created["new"].clone().expect("created");
    assert_eq!(cluster.request_count(ApiKey::CreateTopics), 2);
}

#[tokio::test]
async fn what_does_not_pass_ends_when_the_time_is_up() {
    let (cluster, admin) = start().await;
    let admin = admin.with_timeout(Duration::from_millis(300));
    let _rule = cluster
        .intercept(ApiKey::ListOffsets, |_| Action::Error(ResponseError::NotLeaderOrFollower));
    let wanted = BTreeMap::from([(orders(0), At::Latest)]);
    let listed = admin.list_offsets(&wanted, Isolation::ReadCommitted).await.expect("asked");
    let error = listed[&orders(0)].clone().expect_err("never answered");
    assert_eq!(error.code(), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(cluster.request_count(ApiKey::ListOffsets) > 1);
}

#[tokio::test]
async fn topics_grow() {
    let (cluster, admin) = start().await;
    let counts = BTreeMap::from([(Arc::from("orders"), 5)]);
    let grown = admin.create_partitions(&counts).await.expect("asked");
    grown["orders"].clone().expect("grown");
    assert_eq!(cluster.partition_count("orders"), 5);
    let fewer = BTreeMap::from([(Arc::from("orders"), 3)]);
    let refused = admin.create_partitions(&fewer).await.expect("asked");
    let error = refused["orders"].clone().expect_err("fewer");
    assert_eq!(error.code(), Some(ErrorCode::INVALID_PARTITIONS));
}

/// Sets one entry, deletes another, and looks at both.
async fn configurations_are_changed(cluster: &Cluster, admin: &Admin) {
    cluster.set_topic_config("orders", "retention.ms", "1000").expect("set");
    cluster.set_topic_config("orders", "cleanup.policy", "compact").expect("set");
    let resource = Resource::Topic("orders".into());
    let changes = BTreeMap::from([
        ("max.message.bytes".to_owned(), ConfigChange::Set("5000".to_owned())),
        ("retention.ms".to_owned(), ConfigChange::Delete),
    ]);
    admin.alter_configs(&resource, &changes).await.expect("changed");
    let described = admin.describe_configs(std::slice::from_ref(&resource)).await.expect("asked");
    let entries = described[&resource].clone().expect("described");
    assert_eq!(entries["max.message.bytes"].value.as_deref(), Some("5000"));
    assert_eq!(entries["max.message.bytes"].source, ConfigSource::Topic);
    assert_eq!(entries["cleanup.policy"].value.as_deref(), Some("compact"), "left as it was");
    assert_ne!(entries["retention.ms"].source, ConfigSource::Topic);
}

#[tokio::test]
async fn configurations_are_changed_entry_by_entry() {
    let (cluster, admin) = start().await;
    configurations_are_changed(&cluster, &admin).await;
    assert_eq!(cluster.request_count(ApiKey::AlterConfigs), 0);
}

#[tokio::test]
async fn configurations_of_old_brokers_are_replaced_with_the_rest_kept() {
    let (cluster, admin) = start().await;
    cluster.lower_max_version(ApiKey::IncrementalAlterConfigs, -1);
    configurations_are_changed(&cluster, &admin).await;
    assert!(cluster.request_count(ApiKey::AlterConfigs) > 0);
}

#[tokio::test]
async fn a_broker_is_asked_about_its_own_configuration() {
    let (cluster, admin) = start().await;
    let resource = Resource::Broker(BrokerId(2));
    let described = admin.describe_configs(std::slice::from_ref(&resource)).await.expect("asked");
    assert!(described.contains_key(&resource));
    assert_eq!(cluster.request_count_on(2, ApiKey::DescribeConfigs), 1);
}

#[tokio::test]
async fn offsets_are_listed_of_their_leaders() {
    let (cluster, admin) = start().await;
    for (number, count) in [(0, 3i64), (1, 7)] {
        for value in 0..count {
            let record = Record::value(value.to_string()).with_timestamp_ms(1000 + value * 10);
            cluster.produce_direct("orders", number, BatchBuilder::new([record])).expect("written");
        }
    }
    cluster.delete_records("orders", 1, 2).expect("deleted");
    for (at, expected) in [
        (At::Earliest, [Some(0), Some(2)]),
        (At::Latest, [Some(3), Some(7)]),
        (At::Time(1015), [Some(2), Some(2)]),
        (At::Time(1050), [None, Some(5)]),
    ] {
        let wanted = BTreeMap::from([(orders(0), at), (orders(1), at)]);
        let listed = admin.list_offsets(&wanted, Isolation::ReadCommitted).await.expect("asked");
        let found = [0, 1].map(|number| listed[&orders(number)].clone().expect("known").offset);
        assert_eq!(found, expected, "{at:?}");
    }
}

#[tokio::test]
async fn a_leader_that_moves_is_followed() {
    let (cluster, admin) = start().await;
    let wanted = BTreeMap::from([(orders(0), At::Latest)]);
    for round in 0..4 {
        cluster.move_leader("orders", 0, 1 + round % 3).expect("moves");
        let listed = admin.list_offsets(&wanted, Isolation::ReadCommitted).await.expect("asked");
        assert_eq!(listed[&orders(0)].clone().expect("known").offset, Some(0));
    }
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset() {
    let (cluster, admin) = start().await;
    for _ in 0..5 {
        let record = BatchBuilder::new([Record::value("v")]);
        cluster.produce_direct("orders", 0, record).expect("written");
    }
    let before = BTreeMap::from([(orders(0), 3), (orders(1), 9)]);
    let deleted = admin.delete_records(&before).await.expect("asked");
    assert_eq!(deleted[&orders(0)].clone().expect("deleted"), 3);
    let error = deleted[&orders(1)].clone().expect_err("after the end");
    assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(cluster.offsets("orders", 0).expect("known").start, 3);
}

#[tokio::test]
async fn a_groups_offsets_are_set_read_and_deleted_with_it() {
    let (cluster, admin) = start().await;
    let offsets = BTreeMap::from([
        (orders(0), OffsetAndMetadata::new(5, 1)),
        (orders(1), OffsetAndMetadata::new(9, -1)),
    ]);
    let altered = admin.alter_group_offsets("readers", &offsets).await.expect("asked");
    assert!(altered.values().all(Result::is_ok));
    assert_eq!(admin.group_offsets("readers").await.expect("asked"), offsets);
    let groups = admin.list_groups().await.expect("asked");
    assert_eq!(groups.iter().map(|group| &*group.id).collect::<Vec<_>>(), ["readers"]);
    let described = admin.describe_group("readers").await.expect("asked");
    assert_eq!((&*described.state, described.members.len()), ("Empty", 0));
    let names: [Arc<str>; 2] = ["readers".into(), "nobody".into()];
    let deleted = admin.delete_groups(&names).await.expect("asked");
    deleted["readers"].clone().expect("deleted");
    let error = deleted["nobody"].clone().expect_err("never was");
    assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    assert!(admin.group_offsets("readers").await.expect("asked").is_empty());
    drop(cluster);
}

#[tokio::test]
async fn a_coordinator_that_loads_is_waited_for() {
    let (cluster, admin) = start().await;
    let _rule = cluster.intercept(ApiKey::OffsetCommit, |context| {
        if context.nth < 3 {
            Action::Error(ResponseError::CoordinatorLoadInProgress)
        } else {
            Action::Continue
        }
    });
    let offsets = BTreeMap::from([(orders(0), OffsetAndMetadata::new(5, 1))]);
    let altered = admin.alter_group_offsets("readers", &offsets).await.expect("asked");
    assert!(altered[&orders(0)].is_ok());
}
