//! Where newly assigned partitions start: the position that was kept, or the end of the log the
//! policy names. Asked in the background; what could not be answered is asked again, each partition
//! by itself.
//!
//! Always true: the end of the log is a start only for partitions that were there when the mirror
//! looked for the first time; what appears later starts with its first record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, At, OffsetAt};
use kmirror_client::fetch::Position;
use kmirror_client::isolation::Isolation;
use kmirror_client::{TopicPartition, clock};
use tokio::sync::watch;

use crate::config::Config;
use crate::control::plan::{Destination, Plan};
use crate::error::chain;
use crate::policy::trouble::Start as Policy;
use crate::positions::{Committed, Reader};

/// One partition's start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) partition: TopicPartition,
    /// None if none is kept and the policy names none.
    pub(super) position: Option<Position>,
    /// Whether the position was kept by an earlier run.
    pub(super) is_kept: bool,
    /// Where everything that is still there before the position was mirrored to; nothing if there
    /// is no such thing.
    pub(super) destination: Option<Arc<Destination>>,
    /// The end of the log as it may be read.
    pub(super) end: i64,
}

/// The outcome of one round of asking.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) known: Vec<Start>,
    /// To be asked again, with the reason.
    pub(super) unknown: Vec<(TopicPartition, String)>,
}

type Ends = BTreeMap<TopicPartition, Result<i64, String>>;

/// The pause between two rounds.
const RETRY: Duration = Duration::from_secs(1);

/// Whom to ask.
#[derive(Clone)]
pub(super) struct Lookup {
    admin: Admin,
    reader: Reader,
    policy: Policy,
    isolation: Isolation,
    plans: watch::Receiver<Arc<Plan>>,
}

impl Lookup {
    pub(super) fn new(
        admin: Admin,
        reader: Reader,
        plans: watch::Receiver<Arc<Plan>>,
        config: &Config,
    ) -> Lookup {
        let isolation = config.fetch.isolation.into();
        Lookup { admin, reader, policy: config.start, isolation, plans }
    }

    /// One round, after a pause if it is not the first.
    pub(super) async fn ask(self, partitions: Vec<TopicPartition>, again: bool) -> Starts {
        if again {
            clock::sleep(RETRY).await;
        }
        let committed = match self.reader.read(&partitions).await {
            Ok(committed) => committed,
            Err(why) => {
                let unknown = partitions.into_iter().map(|at| (at, why.clone())).collect();
                return Starts { known: Vec::new(), unknown };
            }
        };
        let (earliest, latest) = futures::future::join(
            self.ends(&partitions, At::Earliest),
            self.ends(&partitions, At::Latest),
        )
        .await;
        let mut starts = Starts::default();
        for partition in partitions {
            match self.start(&partition, &committed, (&earliest, &latest)) {
                Ok(start) => starts.known.push(start),
                Err(why) => starts.unknown.push((partition, why)),
            }
        }
        starts
    }

    /// One partition's start, or why it is not known.
    fn start(
        &self,
        partition: &TopicPartition,
        committed: &Committed,
        (earliest, latest): (&Ends, &Ends),
    ) -> Result<Start, String> {
        if let Some(why) = committed.refused.get(partition) {
            return Err(why.clone());
        }
        let end = |ends: &Ends| {
            let unanswered = || Err("no answer about its ends".to_owned());
            ends.get(partition).cloned().unwrap_or_else(unanswered)
        };
        let (earliest, end) = (end(earliest)?, end(latest)?);
        let partition = partition.clone();
        let Some(place) = committed.positions.get(&partition) else {
            let from = match self.policy {
                Policy::Halt => None,
                _ if self.begins_at_the_end(&partition)? => Some(end),
                _ => Some(earliest),
            };
            let position = from.map(Position::at);
            return Ok(Start { partition, position, is_kept: false, destination: None, end });
        };
        let position = place.position;
        let has_history = position.next_offset > earliest;
        let destination = place.destination.clone().filter(|_| has_history);
        let position = Some(position);
        Ok(Start { partition, position, is_kept: true, destination, end })
    }

    /// Whether a partition without a position begins at the end of its log.
    fn begins_at_the_end(&self, partition: &TopicPartition) -> Result<bool, String> {
        if self.policy == Policy::Earliest {
            return Ok(false);
        }
        let plan = self.plans.borrow();
        if !plan.complete {
            return Err("the topics have not been looked at yet".to_owned());
        }
        let topic = plan.topics.get(&partition.topic);
        Ok(topic.is_some_and(|topic| partition.partition < topic.source_partitions_at_first))
    }

    /// One end of each partition's log.
    async fn ends(&self, partitions: &[TopicPartition], at: At) -> Ends {
        let wanted = partitions.iter().map(|partition| (partition.clone(), at)).collect();
        let end = |(partition, outcome): (TopicPartition, Result<OffsetAt, _>)| {
            let offset = match outcome {
                Ok(found) => found.offset.ok_or_else(|| "no offset told".to_owned()),
                Err(error) => Err(chain(&error)),
            };
            (partition, offset)
        };
        match self.admin.list_offsets(&wanted, self.isolation).await {
            Ok(found) => found.into_iter().map(end).collect(),
            Err(error) => {
                let why = chain(&error);
                partitions.iter().map(|partition| (partition.clone(), Err(why.clone()))).collect()
            }
        }
    }
}
