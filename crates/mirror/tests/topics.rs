//! Topics at the destination: what they are created with, when they are not created, and that
//! neither holds up the topics that are there.

#[path = "common/mod.rs"]
mod common;

use common::{Pair, Running, until};
use kmirror::Error;
use kmirror::policy::filter::{Pattern, Selection};
use kmirror_client::messages::CreateTopicsRequest;
use kmirror_fake::{Action, ApiKey, Cluster, Release, ResponseError};

/// Why a topic is not mirrored, as the status says it.
fn why(running: &Running, topic: &str) -> Option<String> {
    let status = running.status();
    status.topics.iter().find(|listed| &*listed.name == topic)?.why.clone()
}

/// Waits until the status says why a topic is not mirrored, with these words.
async fn is_held_up(running: &Running, topic: &str, words: &str) {
    until(&format!("{topic} is held up by {words}"), || async {
        why(running, topic).is_some_and(|why| why.contains(words))
    })
    .await;
}

/// A pair whose source is made by hand.
async fn pair(source: kmirror_fake::Builder) -> Pair {
    let mut pair = Pair::start(1).await;
    pair.source = source
        .cluster_id("source")
        .auto_create_topics(false)
        .start()
        .await
        .expect("a fake cluster");
    pair
}

#[tokio::test]
async fn a_topic_is_created_without_the_settings_that_the_destination_does_not_take() {
    let pair = Pair::start(1).await;
    let set = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "524288"),
        ("segment.ms", "1000"),
        ("message.format.version", "0.10.2"),
        ("message.timestamp.after.max.ms", "1000"),
    ];
    pair.source.create_topic_with("orders", 2, &set);
    pair.fill("orders", 1, 3);
    let _strict = refuse_settings(&pair.destination, &["segment.bytes", "segment.ms"]);
    let running = Running::start(pair.config()).await;
    pair.arrives("orders").await;
    let is_set = |key: &str| pair.destination.topic_config("orders", key);
    assert_eq!(is_set("cleanup.policy").as_deref(), Some("compact"));
    assert_eq!(is_set("segment.ms").as_deref(), Some("604800000"));
    for key in ["message.format.version", "message.timestamp.after.max.ms"] {
        assert_ne!(is_set(key).as_deref(), pair.source.topic_config("orders", key).as_deref());
    }
    assert!(running.stop().await.is_clean());
}

/// The destination refuses these settings, one at a time and in the words of Kafka.
fn refuse_settings(cluster: &Cluster, names: &'static [&'static str]) -> kmirror_fake::Intercept {
    cluster.lower_max_version(ApiKey::CreateTopics, 2);
    cluster.intercept(ApiKey::CreateTopics, move |context| {
        let request: CreateTopicsRequest = context.decode().expect("a request");
        let topic = &request.topics[0];
        let refused = topic.configs.iter().find(|config| names.contains(&config.name.as_str()));
        let Some(refused) = refused else { return Action::Continue };
        let words = format!("Invalid value 1 for configuration {}: too small", &*refused.name);
        Action::Reply(refusal(&topic.name, 40, &words))
    })
}

/// An answer to CreateTopics version 2 about one topic.
fn refusal(topic: &str, code: i16, words: &str) -> bytes::Bytes {
    let mut body = vec![0; 4];
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend(code.to_be_bytes());
    body.extend(i16::try_from(words.len()).expect("short").to_be_bytes());
    body.extend(words.as_bytes());
    body.into()
}

#[tokio::test]
async fn a_topic_whose_configuration_may_not_be_read_is_not_created_until_it_may() {
    let pair = Pair::start(1).await;
    pair.source.create_topic_with("orders", 1, &[("cleanup.policy", "compact")]);
    pair.topic("there", 1);
    pair.destination.create_topic("there", 1);
    for topic in ["orders", "there"] {
        pair.fill(topic, 1, 3);
    }
    let refusal = Action::Error(ResponseError::TopicAuthorizationFailed);
    let denied = pair.source.intercept(ApiKey::DescribeConfigs, move |_| refusal.clone());
    let running = Running::start(pair.config()).await;
    is_held_up(&running, "orders", "grant DescribeConfigs").await;
    pair.arrives("there").await;
    assert_eq!(pair.destination.partition_count("orders"), 0);
    drop(denied);
    pair.arrives("orders").await;
    let policy = pair.destination.topic_config("orders", "cleanup.policy");
    assert_eq!(policy.as_deref(), Some("compact"));
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn a_passing_error_does_not_cost_a_topic_its_configuration() {
    for error in [ResponseError::RequestTimedOut, ResponseError::UnknownServerError] {
        let pair = Pair::start(1).await;
        pair.source.create_topic_with("orders", 1, &[("cleanup.policy", "compact")]);
        pair.fill("orders", 1, 3);
        let _once =
            pair.source.intercept_once(ApiKey::DescribeConfigs, move |_| Action::Error(error));
        let running = Running::start(pair.config()).await;
        pair.arrives("orders").await;
        let policy = pair.destination.topic_config("orders", "cleanup.policy");
        assert_eq!(policy.as_deref(), Some("compact"), "{error}");
        running.stop().await;
    }
}

#[tokio::test]
async fn sources_that_speak_the_oldest_describe_configs_keep_their_configurations() {
    let pair = pair(Cluster::builder().emulate(Release::V0_11)).await;
    pair.source.create_topic_with("orders", 1, &[("cleanup.policy", "compact")]);
    pair.fill("orders", 1, 3);
    let running = Running::start(pair.config()).await;
    pair.arrives("orders").await;
    let policy = pair.destination.topic_config("orders", "cleanup.policy");
    assert_eq!(policy.as_deref(), Some("compact"));
    running.stop().await;
}

#[tokio::test]
async fn a_source_that_tells_no_configurations_has_its_topics_created_when_told_to_do_without() {
    let pair = pair(Cluster::builder().max_version(ApiKey::DescribeConfigs, -1)).await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 3);
    let running = Running::start(pair.config()).await;
    is_held_up(&running, "orders", "copy_topic_configs").await;
    let report = running.stop().await;
    assert!(report.blocked["orders"].contains("its brokers do not tell it"), "{report:?}");
    assert_eq!(pair.destination.partition_count("orders"), 0);

    let mut config = pair.config();
    config.topic.copy_configs = false;
    let running = Running::start(config).await;
    pair.arrives("orders").await;
    running.stop().await;
}

#[tokio::test]
async fn missing_topics_are_created_many_at_a_time_while_the_others_flow() {
    let pair = Pair::start(1).await;
    pair.topic("there", 1);
    pair.fill("there", 1, 3);
    pair.destination.create_topic("there", 1);
    for number in 0..250 {
        pair.topic(&format!("new-{number}"), 1);
    }
    // Nothing is created before the topic that is there has arrived.
    let (open, opened) = tokio::sync::watch::channel(false);
    let held = pair.destination.intercept(ApiKey::CreateTopics, move |_| {
        if *opened.borrow() { Action::Continue } else { Action::Disconnect }
    });
    let running = Running::start(pair.config()).await;
    pair.arrives("there").await;
    assert_eq!(pair.destination.topics().len(), 1);
    open.send_replace(true);
    pair.destination.clear_requests();
    pair.source.clear_requests();
    until("all are created", || async { pair.destination.topics().len() == 251 }).await;
    drop(held);
    let creations = pair.destination.request_count(ApiKey::CreateTopics);
    assert!((3..10).contains(&creations), "{creations} requests for 250 topics");
    let reads = pair.source.request_count(ApiKey::DescribeConfigs);
    assert!(reads < 20, "{reads} reads for 250 topics");
    running.stop().await;
}

#[tokio::test]
async fn topics_grow_many_at_a_time() {
    let pair = Pair::start(1).await;
    let names: Vec<String> = (0..20).map(|number| format!("t-{number}")).collect();
    names.iter().for_each(|name| pair.topic(name, 1));
    let running = Running::start(pair.config()).await;
    until("all are ready", || async {
        let status = running.status();
        status.topics.len() == 20 && status.topics.iter().all(|topic| topic.state == "ready")
    })
    .await;
    for name in &names {
        pair.source.grow_topic(name, 3).expect("grows");
    }
    until("all have grown", || async {
        names.iter().all(|name| pair.destination.partition_count(name) == 3)
    })
    .await;
    let requests = pair.destination.request_count(ApiKey::CreatePartitions);
    assert!(requests < 10, "{requests} requests for 20 topics");
    running.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_said_to_exist_and_is_not_shown_is_named() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    let answer = Action::Error(ResponseError::TopicAlreadyExists);
    let _deleting = pair.destination.intercept(ApiKey::CreateTopics, move |_| answer.clone());
    let running = Running::start(pair.config()).await;
    is_held_up(&running, "orders", "deleting a topic of that name").await;
    running.stop().await;
}

#[tokio::test]
async fn names_that_collide_are_named_both_and_not_asked_for_all_the_time() {
    let pair = Pair::start(1).await;
    pair.topic("x.y", 1);
    pair.topic("ok", 1);
    pair.fill("ok", 1, 3);
    pair.destination.create_topic("x_y", 1);
    pair.destination.lower_max_version(ApiKey::CreateTopics, 2);
    let refused = pair.destination.intercept(ApiKey::CreateTopics, |context| {
        let request: CreateTopicsRequest = context.decode().expect("a request");
        match request.topics.iter().find(|topic| topic.name.as_str() == "x.y") {
            Some(_) if request.topics.len() > 1 => Action::Error(ResponseError::NotController),
            Some(topic) => Action::Reply(refusal(&topic.name, 17, "collides")),
            None => Action::Continue,
        }
    });
    pair.destination.create_topic("ok", 1);
    let running = Running::start(pair.config()).await;
    is_held_up(&running, "x.y", "x.y, collides with x_y").await;
    pair.arrives("ok").await;
    let status = running.status();
    let state = status.topics.iter().find(|topic| &*topic.name == "x.y").map(|topic| topic.state);
    assert_eq!(state, Some("refused"));
    // Somebody acts: it is asked for again by itself.
    pair.destination.delete_topic("x_y").expect("deleted");
    drop(refused);
    until("it is mirrored", || async {
        let status = running.status();
        status.topics.len() == 2 && status.topics.iter().all(|topic| topic.state == "ready")
    })
    .await;
    assert!(running.stop().await.is_clean());
}

#[tokio::test]
async fn until_caught_up_a_selection_that_matches_nothing_is_an_error() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 3);
    let mut config = pair.config().with_until_caught_up();
    config.topics = Selection::new(Pattern::try_new("ordres").expect("a pattern"));
    let error = Running::start(config).await.end().await.expect_err("nothing matches");
    assert!(matches!(error, Error::Unmatched { .. }), "{error}");
    assert_eq!(error.to_string(), "no topic of the source matches ordres");
}

#[tokio::test]
async fn a_selection_that_matches_nothing_yet_is_in_the_status_until_it_does() {
    let pair = Pair::start(1).await;
    pair.topic("other", 1);
    let mut config = pair.config();
    config.topics = Selection::new(Pattern::try_new("orders").expect("a pattern"));
    let running = Running::start(config).await;
    until("it is said", || async {
        running.status().why.as_ref().is_some_and(|why| why.contains("matches orders"))
    })
    .await;
    pair.topic("orders", 1);
    pair.fill("orders", 1, 3);
    pair.arrives("orders").await;
    until("it is no longer said", || async { running.status().why.is_none() }).await;
    assert!(running.stop().await.is_clean());
}
