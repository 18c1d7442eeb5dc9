//! Asking a leader where a log begins and ends.

use std::collections::BTreeMap;

use crate::admin::At;
use crate::admin::offsets::ask_leader;
use crate::client::Client;
use crate::isolation::Isolation;
use crate::name::TopicPartition;

/// The first offset of a log, and the one after its last. `None` if the leader does not say.
pub(super) async fn ask(client: &Client, partition: &TopicPartition) -> Option<(i64, i64)> {
    // One after the other: a partition can be named only once in a request.
    let first = ask_one(client, partition, At::Earliest).await?;
    let end = ask_one(client, partition, At::Latest).await?;
    Some((first, end))
}

async fn ask_one(client: &Client, partition: &TopicPartition, at: At) -> Option<i64> {
    let (leader, _) = client.view().leader(partition)?;
    let wanted = BTreeMap::from([(partition.clone(), at)]);
    let mut found = ask_leader(client, leader, &wanted, Isolation::ReadUncommitted).await.ok()?;
    found.remove(partition)?.ok()?.offset
}
