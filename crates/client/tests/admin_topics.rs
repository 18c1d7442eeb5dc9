//! Topics and their configurations, many at a time: one topic in trouble neither holds up the
//! others nor has them done twice, and old brokers are asked as they can be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::CreateTopicsRequest;
use kmirror_client::admin::{Admin, ConfigSource, NewTopic, Resource};
use kmirror_client::{Client, Config, Error, ErrorCode};
use kmirror_fake::intercept::Action;
use kmirror_fake::{ApiKey, Builder, Cluster, Release};

async fn start(builder: Builder) -> (Cluster, Admin) {
    let cluster = builder.start().await.expect("starts");
    let config = Config::new(&cluster.bootstrap()).expect("addresses");
    let config = config.with_backoff(Duration::from_millis(5), Duration::from_millis(50));
    let client = Client::connect(config).await.expect("the fake answers");
    (cluster, Admin::new(client).with_timeout(Duration::from_secs(10)))
}

#[tokio::test]
async fn configurations_are_read_from_brokers_that_speak_only_the_first_version() {
    for builder in [
        Cluster::builder().emulate(Release::V0_11),
        Cluster::builder().max_version(ApiKey::DescribeConfigs, 0),
    ] {
        let (cluster, admin) = start(builder).await;
        cluster.create_topic_with("t", 1, &[("cleanup.policy", "compact")]);
        let wanted = [Resource::Topic("t".into()), Resource::Topic("none".into())];
        let mut described = admin.describe_configs(&wanted).await.expect("answered");
        let entries = described.remove(&wanted[0]).expect("asked for").expect("it is there");
        assert_eq!(entries["cleanup.policy"].value.as_deref(), Some("compact"));
        assert_eq!(entries["cleanup.policy"].source, ConfigSource::Topic);
        assert_eq!(entries["retention.ms"].source, ConfigSource::Default);
        let error = described.remove(&wanted[1]).expect("asked for").expect_err("it is not there");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }
}

#[tokio::test]
async fn a_broker_that_tells_no_configurations_is_named_as_one() {
    let builder = Cluster::builder().topic("t", 1).max_version(ApiKey::DescribeConfigs, -1);
    let (_cluster, admin) = start(builder).await;
    let error = admin.describe_configs(&[Resource::Topic("t".into())]).await.expect_err("too old");
    assert!(matches!(error, Error::UnsupportedVersion { api: ApiKey::DescribeConfigs, .. }));
}

#[tokio::test]
async fn one_topic_that_never_passes_leaves_the_others_their_results() {
    let (cluster, admin) = start(Cluster::builder().brokers(1).topic("there", 1)).await;
    let admin = admin.with_timeout(Duration::from_millis(300));
    let answers = |request: &CreateTopicsRequest| {
        let mut body = vec![0; 4];
        body.extend((request.topics.len() as i32).to_be_bytes());
        for topic in &request.topics {
            let code: i16 = if topic.name.as_str() == "slow" { 7 } else { 36 };
            body.extend((topic.name.len() as i16).to_be_bytes());
            body.extend(topic.name.as_bytes());
            body.extend(code.to_be_bytes());
            body.extend((-1_i16).to_be_bytes());
        }
        body
    };
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    cluster.lower_max_version(ApiKey::CreateTopics, 2);
    let _rule = cluster.intercept(ApiKey::CreateTopics, move |context| {
        let request: CreateTopicsRequest = context.decode().expect("a request");
        seen.lock().expect("one at a time").push(request.topics.len());
        Action::Reply(answers(&request).into())
    });
    let topics = ["slow", "there"].map(|name| NewTopic::new(name).with_partitions(1));
    let created = admin.create_topics(&topics).await.expect("one was answered for");
    let code = |name: &str| created[name].as_ref().expect_err("refused").code();
    assert_eq!(code("slow"), Some(ErrorCode::REQUEST_TIMED_OUT));
    assert_eq!(code("there"), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    let asked = asked.lock().expect("one at a time");
    assert!(asked.len() > 1 && asked[1..].iter().all(|count| *count == 1), "{asked:?}");
}

#[tokio::test]
async fn a_topic_that_cannot_grow_leaves_the_others_their_growth() {
    let (cluster, admin) = start(Cluster::builder().topic("a", 1).topic("b", 4)).await;
    let counts = BTreeMap::from([(Arc::from("a"), 2), (Arc::from("b"), 2)]);
    let grown = admin.create_partitions(&counts).await.expect("answered");
    assert!(grown["a"].is_ok() && grown["b"].is_err(), "{grown:?}");
    assert_eq!(cluster.partition_count("a"), 2);
}
