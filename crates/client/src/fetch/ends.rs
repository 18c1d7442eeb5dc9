//! Asking a leader where a log begins and ends.

use std::collections::BTreeMap;

use crate::admin::At;
use crate::admin::offsets::ask_leader;
use crate::client::Client;
use crate::isolation::Isolation;
use crate::name::{BrokerId, TopicPartition};

/// The first offset of a log, and the one after its last. `None` if the leader does not say.
pub(super) async fn ask(
    client: &Client,
    leader: BrokerId,
    partition: &TopicPartition,
) -> Option<(i64, i64)> {
    let ask_one = async |at| {
        let wanted = BTreeMap::from([(partition.clone(), at)]);
        let found = ask_leader(client, leader, &wanted, Isolation::ReadUncommitted).await;
        found.ok()?.remove(partition)?.ok()?.offset
    };
    // One after the other: a partition can be named only once in a request.
    let first = ask_one(At::Earliest).await?;
    let end = ask_one(At::Latest).await?;
    Some((first, end))
}
