//! The first stage: which source partitions this stream owns. Either the group on the source says
//! so, or the stream takes its share of everything that matches.
//!
//! Always true: a partition is added once and leaves once, by a revocation or a loss, before it is
//! added again.

use std::collections::BTreeSet;
use std::sync::Arc;

use kmirror_client::group::{self, Event, HandBack, Membership};
use kmirror_client::{Client, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Group;
use crate::control::plan::Plan;
use crate::error::Error;
use crate::positions::{Keeper, Reader};

/// The stage.
pub(crate) enum Assign {
    /// The coordinator decides.
    Member(Box<Membership>),
    /// This stream takes its share.
    Alone(Alone),
}

/// A change of what is owned.
#[derive(Debug)]
pub(crate) enum Change {
    /// These are new.
    Added(Vec<TopicPartition>),
    /// These go to somebody else once the guard is dropped.
    Revoking { partitions: BTreeSet<TopicPartition>, deadline: Instant, hand_back: HandBack },
    /// These are gone.
    Lost(BTreeSet<TopicPartition>),
}

/// A share of everything, fixed by each partition's name.
pub(crate) struct Alone {
    stream: usize,
    streams: usize,
    plans: watch::Receiver<Arc<Plan>>,
    owned: BTreeSet<TopicPartition>,
    first: bool,
}

impl Assign {
    /// Joins the group for stream `stream`.
    ///
    /// # Errors
    /// When the settings of the group cannot be used.
    pub(crate) fn member(
        client: &Client,
        group: &Group,
        stream: usize,
        topics: BTreeSet<Arc<str>>,
    ) -> Result<(Assign, Keeper, Reader), Error> {
        let mut config = group.member()?.with_topics(topics);
        config.instance = match (&group.instance_id, &group.slot) {
            (Some(id), _) => group::Instance::Named(format!("{id}-{stream}").into()),
            (None, Some(slot)) => group::Instance::Slot { slot: slot.clone(), stream },
            (None, None) => group::Instance::Dynamic,
        };
        let joined = Membership::join(client, config);
        let (membership, committer) = joined.map_err(|source| Error::Group { source })?;
        let reader = Reader::Member(membership.committed().clone());
        Ok((Assign::Member(Box::new(membership)), Keeper::Member(committer), reader))
    }

    /// Takes the share of stream `stream` of `streams`.
    pub(crate) fn alone(
        stream: usize,
        streams: usize,
        plans: watch::Receiver<Arc<Plan>>,
    ) -> Assign {
        Assign::Alone(Alone { stream, streams, plans, owned: BTreeSet::new(), first: true })
    }

    /// The next change. Cancel-safe.
    ///
    /// # Errors
    /// Why the membership is over.
    pub(crate) async fn next(&mut self) -> Result<Change, group::Error> {
        match self {
            Assign::Alone(alone) => Ok(Change::Added(alone.next().await)),
            Assign::Member(membership) => loop {
                return Ok(match membership.next().await? {
                    Event::Assigned { added, .. } => Change::Added(added.into_iter().collect()),
                    Event::Revoking { partitions, deadline, hand_back } => {
                        Change::Revoking { partitions, deadline, hand_back }
                    }
                    Event::Lost { partitions, cause } => {
                        tracing::warn!(?cause, partitions = partitions.len(), "partitions lost");
                        Change::Lost(partitions)
                    }
                    // The member has logged it, and goes on asking.
                    Event::Refused { .. } => continue,
                });
            },
        }
    }

    /// Wants these topics from now on.
    ///
    /// # Errors
    /// When the membership is over.
    pub(crate) async fn subscribe(&self, topics: BTreeSet<Arc<str>>) -> Result<(), group::Error> {
        match self {
            Assign::Alone(_) => Ok(()),
            Assign::Member(membership) => membership.subscribe(topics).await,
        }
    }

    /// Gives everything up for good.
    pub(crate) async fn leave(self) {
        if let Assign::Member(membership) = self {
            membership.leave().await;
        }
    }
}

impl Alone {
    /// What is new in the plan. The first answer may be empty: there is nothing for this stream.
    async fn next(&mut self) -> Vec<TopicPartition> {
        loop {
            let plan = Arc::clone(&self.plans.borrow_and_update());
            if plan.complete {
                let added = self.added(&plan);
                if !added.is_empty() || std::mem::take(&mut self.first) {
                    self.first = false;
                    return added;
                }
            }
            if self.plans.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn added(&mut self, plan: &Plan) -> Vec<TopicPartition> {
        let mut added = Vec::new();
        for topic in plan.topics.values() {
            for partition in 0..topic.source_partitions {
                let partition = TopicPartition::new(Arc::clone(&topic.source), partition);
                if share(&partition, self.streams) == self.stream
                    && self.owned.insert(partition.clone())
                {
                    added.push(partition);
                }
            }
        }
        added
    }
}

/// The stream a partition belongs to: consecutive partitions of a topic to consecutive streams,
/// topics beginning at different ones (FNV-1a of the name).
fn share(partition: &TopicPartition, streams: usize) -> usize {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = partition.topic.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let place = hash.wrapping_add(u64::from(partition.partition.unsigned_abs()));
    usize::try_from(place % streams.max(1) as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_partitions_go_to_consecutive_streams() {
        let mut shares = [0; 4];
        for partition in 0..8 {
            shares[share(&TopicPartition::new("orders", partition), 4)] += 1;
        }
        assert_eq!(shares, [2; 4]);
    }
}
