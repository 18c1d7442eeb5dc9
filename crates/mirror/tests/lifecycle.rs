//! Beginning and ending: what is refused before anything moves, and how an end is reached.

mod common;

use std::time::Duration;

use common::{Pair, Running, until};
use kmirror::shutdown::Phase;
use kmirror::{Ended, Error, Mirror, status};
use kmirror_fake::{Action, ApiKey};

#[tokio::test]
async fn a_cluster_is_not_mirrored_onto_itself() {
    let pair = Pair::start(1).await;
    let mut config = pair.config();
    config.destination = config.source.clone();
    let error = Mirror::build(config).await.unwrap_err();
    assert!(matches!(error, Error::SameCluster { .. }), "{error}");
}

#[tokio::test]
async fn another_cluster_than_the_pinned_one_is_refused() {
    let pair = Pair::start(1).await;
    let mut config = pair.config();
    config.destination_cluster_id = Some("somebody-else".into());
    let error = Mirror::build(config).await.unwrap_err();
    assert_eq!(error.to_string(), "the destination cluster is destination, not somebody-else");
}

#[tokio::test]
async fn an_unreachable_cluster_is_named() {
    let pair = Pair::start(1).await;
    let mut config = pair.config();
    config.source = kmirror_client::Config::new("127.0.0.1:1").unwrap();
    let error = Mirror::build(config).await.unwrap_err();
    assert_eq!(error.to_string(), "source cluster");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_source_that_shows_no_topic_is_not_taken_for_one_that_was_mirrored() {
    let pair = Pair::start(1).await;
    let error = Running::start(pair.config().with_until_caught_up()).await.end().await.unwrap_err();
    assert!(matches!(error, Error::Unmatched { .. }), "{error}");
}

#[tokio::test]
async fn a_drain_that_takes_too_long_reports_what_was_left() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    let _never = pair.destination.intercept(ApiKey::Produce, |_| Action::Ignore);
    pair.fill("orders", 1, 4);
    let mut config = pair.config();
    config.shutdown_timeout = Duration::from_millis(300);
    let running = Running::start(config).await;
    until("it is under way", || async { pair.destination.request_count(ApiKey::Produce) > 0 })
        .await;
    let report = running.stop().await;
    assert_eq!(report.end, Ended::Aborted);
    assert_eq!(report.unfinished.len(), 1);
    assert_eq!(report.unfinished[0].1, 0..4);
}

#[tokio::test]
async fn a_destination_too_old_to_write_to_is_refused_at_the_start() {
    let pair = Pair::start(1).await;
    pair.destination.lower_max_version(ApiKey::InitProducerId, -1);
    let error = Mirror::build(pair.config()).await.unwrap_err();
    assert!(matches!(error, Error::DestinationTooOld { .. }), "{error}");
}

#[tokio::test]
async fn the_second_signal_aborts_at_once() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 1);
    pair.destination.create_topic("orders", 1);
    let _never = pair.destination.intercept(ApiKey::Produce, |_| Action::Ignore);
    pair.fill("orders", 1, 4);
    let running = Running::start(pair.config()).await;
    until("it is under way", || async { pair.destination.request_count(ApiKey::Produce) > 0 })
        .await;
    running.mirror.stop();
    running.mirror.stop();
    let report = running.end().await.unwrap();
    assert_eq!(report.end, Ended::Aborted);
    assert_eq!(report.unfinished.len(), 1);
}

#[tokio::test]
async fn the_status_follows_the_mirror_from_start_to_end() {
    let pair = Pair::start(1).await;
    pair.topic("orders", 2);
    pair.fill("orders", 3, 3);
    let running = Running::start(pair.config()).await;
    pair.arrives("orders").await;
    until("the status shows it", || async {
        let status = running.status();
        status.phase == status::Phase::Running && status.totals.records == 18
    })
    .await;
    let status = running.status();
    assert_eq!(status.topics[0].state, "ready");
    assert_eq!(status.partitions[0].high_watermark, 9);
    assert_eq!(status.source.cluster_id.as_deref(), Some("source"));
    let mirror = running.mirror.clone();
    let trigger = running.trigger.clone();
    running.stop().await;
    assert_eq!(trigger.phase(), Phase::Draining);
    assert_eq!(mirror.status().borrow().phase, status::Phase::Stopped);
}
