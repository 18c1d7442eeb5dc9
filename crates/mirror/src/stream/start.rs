//! Where newly assigned partitions start: the position that was kept, or the end of the log the
//! policy names. Asked in the background; what could not be answered is asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use kmirror_client::admin::{Admin, At, OffsetAt};
use kmirror_client::fetch::Position;
use kmirror_client::isolation::Isolation;
use kmirror_client::{TopicPartition, clock};

use crate::config::Config;
use crate::error::chain;
use crate::positions::Reader;
use crate::stage::fetch;

/// One partition's start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) partition: TopicPartition,
    pub(super) position: Position,
    /// Whether the position was kept by an earlier run.
    pub(super) is_kept: bool,
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
    pub(super) admin: Admin,
    pub(super) reader: Reader,
    pub(super) policy: crate::policy::trouble::Start,
    pub(super) isolation: Isolation,
}

impl Lookup {
    pub(super) fn new(admin: Admin, reader: Reader, config: &Config) -> Lookup {
        let isolation = config.fetch.isolation.into();
        Lookup { admin, reader, policy: config.start, isolation }
    }

    /// One round, after a pause if it is not the first.
    pub(super) async fn ask(self, partitions: Vec<TopicPartition>, again: bool) -> Starts {
        if again {
            clock::sleep(RETRY).await;
        }
        let kept = match self.reader.read(&partitions).await {
            Ok(kept) => kept,
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
            let ends = (earliest.get(&partition), latest.get(&partition));
            match ends {
                (Some(Ok(earliest)), Some(Ok(latest))) => {
                    let kept = kept.get(&partition).copied();
                    let fallback = || fetch::start(self.policy, *earliest, *latest);
                    starts.known.push(Start {
                        partition,
                        position: kept.unwrap_or_else(fallback),
                        is_kept: kept.is_some(),
                        end: *latest,
                    });
                }
                (Some(Err(why)), _) | (_, Some(Err(why))) => {
                    let why = why.clone();
                    starts.unknown.push((partition, why));
                }
                _ => starts.unknown.push((partition, "no answer about its ends".to_owned())),
            }
        }
        starts
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
