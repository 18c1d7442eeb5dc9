//! What a stream does when the topics' plans change: it subscribes to what is new, makes its own
//! view of the source catch up with topics that grew, and begins what can begin now.
//!
//! The plans come from a connection of their own. The group hears of added partitions from this
//! stream's view of the source, which by itself is renewed only every
//! [`metadata_age_max`](kmirror_client::Config::metadata_age_max).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::{Client, TopicPartition, clock};

use super::{Job, Stream};
use crate::control::plan::TopicPlan;
use crate::error::{Error, chain};

/// How many partitions each topic has.
pub(super) type Sizes = BTreeMap<Arc<str>, i32>;

/// How often, and at which distance, the source is asked for partitions that another of its brokers
/// has shown already.
const LOOKS_MAX: u32 = 30;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Stream {
    /// The topics' plans changed.
    pub(super) async fn replan(&mut self) -> Result<(), Error> {
        let plan = Arc::clone(&self.plans.borrow_and_update());
        if plan.complete {
            let size =
                |topic: &Arc<TopicPlan>| (Arc::clone(&topic.source), topic.source_partitions);
            self.subscribe(plan.topics.values().map(size).collect()).await?;
            self.registry.retain(|topic| plan.topics.contains_key(topic));
            self.board.retain_topics(|topic| plan.topics.contains_key(topic));
        }
        let partitions: Vec<TopicPartition> = self.owned.keys().cloned().collect();
        for partition in partitions {
            let owned = self.owned.get_mut(&partition);
            if let (Some(owned), Some(topic)) = (owned, plan.topics.get(&partition.topic)) {
                owned.replan(topic, &self.config);
            }
            self.begin_if_ready(&partition)?;
            self.check_destination(&partition)?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, topics: Sizes) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.subscribed, topics);
        if !before.keys().eq(self.subscribed.keys()) {
            let topics: BTreeSet<Arc<str>> = self.subscribed.keys().cloned().collect();
            self.assign.subscribe(topics).await.map_err(|source| Error::Group { source })?;
        }
        let has_grown =
            |(topic, size): &(&Arc<str>, &i32)| before.get(*topic).is_some_and(|old| old < size);
        let grown: Sizes = self
            .subscribed
            .iter()
            .filter(has_grown)
            .map(|(topic, size)| (Arc::clone(topic), *size))
            .collect();
        if !grown.is_empty() {
            self.jobs.push(Box::pin(look(self.source.clone(), grown)));
        }
        Ok(())
    }
}

/// Renews the view of the source until each topic has as many partitions in it as in `sizes`. The
/// broker that answers may lag behind the one the plan is from.
async fn look(source: Client, sizes: Sizes) -> Job {
    for _ in 0..LOOKS_MAX {
        let view = match source.refresh(source.view().generation).await {
            Ok(view) => view,
            Err(error) => {
                tracing::debug!(error = chain(&error), "added partitions not looked for");
                source.view()
            }
        };
        let shows = |(topic, size): (&Arc<str>, &i32)| {
            let partitions = view.topic(topic).map_or(0, |topic| topic.partitions.len());
            i32::try_from(partitions).unwrap_or(i32::MAX) >= *size
        };
        if sizes.iter().all(shows) {
            break;
        }
        clock::sleep(LOOK_INTERVAL).await;
    }
    Job::Looked
}
