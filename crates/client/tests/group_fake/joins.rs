//! Joins that are given up for another coordinator, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kmirror_client::clock;
use kmirror_client::group::Membership;
use kmirror_fake::{Action, ApiKey, Release};

use super::{GROUP, client, cluster, config};

/// Joins a group whose coordinator never answers a join, while brokers say in the answers `wrong`
/// (counted from 0) that it is another one. The connections that the joins of
/// 25 s came on.
async fn joins_while_told_of_another(wrong: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let cluster = cluster(Release::V3_9).await;
    let stuck = cluster.coordinator(GROUP).unwrap();
    let other = if stuck == 1 { 2 } else { 1 };
    let client = client(&cluster).await;
    let joins = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&joins);
    let _held = cluster.intercept(ApiKey::JoinGroup, move |context| {
        seen.lock().unwrap().push(context.connection);
        Action::Ignore
    });
    let moved = Arc::clone(&cluster);
    let _told = cluster.intercept(ApiKey::FindCoordinator, move |context| {
        let is_wrong = wrong.contains(&context.nth);
        moved.move_coordinator(GROUP, if is_wrong { other } else { stuck });
        Action::Continue
    });
    let (_membership, _committer) = Membership::join(&client, config()).unwrap();
    clock::sleep(Duration::from_secs(25)).await;
    joins.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_names_another_coordinator_does_not_give_a_join_up() {
    assert_eq!(joins_while_told_of_another(1..=1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_join_never_waits_behind_the_one_that_was_given_up() {
    let joins = joins_while_told_of_another(1..=2).await;
    assert!(joins.len() == 2 && joins[0] != joins[1], "{joins:?}");
}
