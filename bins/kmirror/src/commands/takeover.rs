//! Takes over from an old MirrorMaker: where its consumer group kept its offsets in ZooKeeper and
//! has none in Kafka, they are committed to Kafka before the mirror starts.
//!
//! Only for a source whose brokers are known from ZooKeeper. An offset that Kafka has is never
//! changed, nor read from ZooKeeper, so this happens once.

use std::collections::BTreeMap;
use std::time::Duration;

use kmirror_client::admin::Admin;
use kmirror_client::group::OffsetAndMetadata;
use kmirror_client::{Client, TopicPartition};
use kmirror_discovery::zookeeper;

use crate::connect::unread;
use crate::exit::{Failure, chain};
use crate::plan::{Flow, Place};

/// How long a question is repeated here. The start of a flow repeats it for longer, and says so.
const TRY: Duration = Duration::from_secs(3);

/// Takes the positions of a flow's group over, if there are any.
///
/// That ZooKeeper cannot be read is a failure, since the mirror would repeat or skip records. So is
/// that the offsets cannot be committed just now: they would never be asked for again. That the
/// group refuses them is none: then another instance of the mirror is at work already.
pub(super) async fn run(flow: &Flow, config: &kmirror::Config) -> Result<(), Failure> {
    let Place::Zookeeper { connect, timeout } = &flow.source.place else { return Ok(()) };
    let Some(group) = config.group_id() else { return Ok(()) };
    let client = Client::connect(config.source.clone()).await.map_err(unasked)?;
    let admin = Admin::new(client).with_timeout(TRY);
    let known = admin.group_offsets(group).await.map_err(unasked)?;
    let is_missing =
        |topic: &str, partition| !known.contains_key(&TopicPartition::new(topic, partition));
    let kept = zookeeper::consumer_offsets(connect, group, *timeout, is_missing).await;
    let missing: BTreeMap<_, _> = kept
        .map_err(unread)?
        .into_iter()
        .map(|it| (TopicPartition::new(it.topic, it.partition), it.next_offset))
        .map(|(partition, next_offset)| (partition, OffsetAndMetadata::new(next_offset, -1)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let results = match admin.alter_group_offsets(group, &missing).await {
        Ok(results) => results,
        Err(error) if error.is_retryable() => return Err(unasked(error)),
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(%group, error, "positions in zookeeper not taken over");
            return Ok(());
        }
    };
    let mut taken = 0;
    for (partition, result) in results {
        match result {
            Ok(()) => taken += 1,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(%group, %partition, error, "position in zookeeper not taken over");
            }
        }
    }
    tracing::info!(%group, partitions = taken, "positions taken over from zookeeper");
    Ok(())
}

/// The source could not be asked for what the group has, or to keep it.
fn unasked(error: kmirror_client::Error) -> Failure {
    let may_pass = error.is_retryable();
    Failure::runtime(error).that_may_pass(may_pass)
}
