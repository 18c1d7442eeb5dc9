//! Reading records one by one: a small layer over [`Fetcher`] and [`Membership`].
//!
//! A consumer reads partitions that it is told, or those that a group gives it. It hands out what a
//! fetch brought of one partition as a [`Chunk`], whose records are looked at in place.

mod starts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::admin::Admin;
use crate::batch::{Decompressor, Entry, Record, legacy, records};
use crate::budget::{Budget, Lease};
use crate::client::Client;
use crate::error;
use crate::fetch::{self, Fetched, Fetcher, Trouble};
use crate::group::{self, CommitReport, Committer, Membership, OffsetAndMetadata};
use crate::name::TopicPartition;
use starts::{Answers, Asker, Begin, Starts};

/// Settings of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where a partition is read from when the group has committed nothing, and when its position
    /// is no longer in the log (`auto.offset.reset`). An offset that is not in the log itself is an
    /// [`Error::Partition`]. Default [`Start::Earliest`].
    pub start: Start,
    /// How batches are fetched.
    pub fetch: fetch::Config,
    /// The most memory for batches fetched and not yet dropped, in bytes. Default 64 MiB.
    pub memory_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        let (start, fetch) = (Start::Earliest, fetch::Config::default());
        Self { start, fetch, memory_bytes: 64 << 20 }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is kept.
    Earliest,
    /// After the last record there is now.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record that is not older than this, in milliseconds since 1970; after the last
    /// one if none is so young.
    Time(i64),
}

/// Why a consumer cannot go on.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first offset of a partition could not be learnt.
    #[error("find where to read {partition}")]
    Start {
        /// Which partition.
        partition: TopicPartition,
        /// Why not.
        source: error::Error,
    },
    /// The cluster could not be asked.
    #[error("ask the cluster for offsets")]
    Cluster(#[source] error::Error),
    /// A partition cannot be read.
    #[error("read {partition} at offset {next_offset}")]
    Partition {
        /// Which partition.
        partition: TopicPartition,
        /// Where it stopped.
        next_offset: i64,
        /// Why.
        source: Trouble,
    },
    /// The group cannot be joined, or offsets not be committed.
    #[error("take part in the consumer group")]
    Group(#[source] group::Error),
    /// The coordinator does not tell a partition's committed offset.
    #[error("read the committed offset of {partition}: {code}")]
    Committed {
        /// Which partition.
        partition: TopicPartition,
        /// Why not.
        code: crate::ErrorCode,
    },
    /// A batch cannot be read.
    #[error("read a batch of {partition}")]
    Batch {
        /// Of which partition.
        partition: TopicPartition,
        /// Why not.
        source: records::Error,
    },
    /// A message set of an old broker cannot be read.
    #[error("read an old message set of {partition}")]
    Legacy {
        /// Of which partition.
        partition: TopicPartition,
        /// Why not.
        source: legacy::Error,
    },
}

/// A consumer of records.
///
/// ```no_run
/// # use kmirror_client::{Client, consumer::Error};
/// # async fn example(client: Client) -> Result<(), Error> {
/// use kmirror_client::batch::Decompressor;
/// use kmirror_client::consumer::{Config, Consumer};
/// use kmirror_client::group;
///
/// let group = group::Config::new("readers").with_topics(["orders"]);
/// let mut consumer = Consumer::in_group(client, Config::default(), group)?;
/// let mut decompressor = Decompressor::new(64 << 20);
/// loop {
///     let chunk = consumer.next().await?;
///     chunk.visit(&mut decompressor, |record| println!("{:?}", record.value))?;
///     consumer.commit().await?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    fetcher: Fetcher,
    start: Start,
    group: Option<(Membership, Committer)>,
    starts: Starts,
    /// Why partitions did not begin, to be told one by one. Bounded by the partitions that are
    /// assigned: nothing is learnt before all is told.
    untold: VecDeque<Error>,
    /// What has been handed out of each partition that is read, and was not committed yet.
    taken: BTreeMap<TopicPartition, OffsetAndMetadata>,
}

impl Consumer {
    /// A consumer of the partitions given.
    ///
    /// # Errors
    /// When a partition's start cannot be learnt.
    pub async fn of(
        client: Client,
        config: Config,
        partitions: BTreeMap<TopicPartition, Start>,
    ) -> Result<Self, Error> {
        let mut consumer = Self::new(client, config, None);
        if partitions.is_empty() {
            return Ok(consumer);
        }
        for (partition, start) in partitions {
            consumer.starts.add(partition, Begin::Told(start));
        }
        let answers = consumer.starts.next().await;
        consumer.begin(answers);
        consumer.untold.pop_front().map_or(Ok(consumer), Err)
    }

    /// A consumer of what a group gives it.
    ///
    /// # Errors
    /// When the group's settings cannot be used. Whether it can be joined is told by
    /// [`Consumer::next`].
    pub fn in_group(client: Client, config: Config, group: group::Config) -> Result<Self, Error> {
        let group = Membership::join(&client, group).map_err(Error::Group)?;
        Ok(Self::new(client, config, Some(group)))
    }

    fn new(client: Client, config: Config, group: Option<(Membership, Committer)>) -> Self {
        let budget = Budget::new(config.memory_bytes);
        let committed = group.as_ref().map(|(membership, _)| membership.committed().clone());
        let admin = Admin::new(client.clone());
        let asker = Asker::new(admin, committed, config.start, config.fetch.isolation);
        Self {
            fetcher: Fetcher::new(client, config.fetch, budget),
            start: config.start,
            group,
            starts: Starts::new(asker),
            untold: VecDeque::new(),
            taken: BTreeMap::new(),
        }
    }

    /// The next records of some partition. A chunk may hold none, when all that was fetched were
    /// markers or aborted.
    ///
    /// # Errors
    /// See [`Error`]. What has failed is tried again; a partition whose start cannot be learnt, or
    /// that cannot be read, stops alone, and each try that fails is an error of its own. Not
    /// cancel-safe while the group takes partitions away: they may be given back without a commit.
    pub async fn next(&mut self) -> Result<Chunk, Error> {
        loop {
            if let Some(error) = self.untold.pop_front() {
                return Err(error);
            }
            let news = tokio::select! {
                news = news_of(&mut self.group) => News::Group(news.map_err(Error::Group)?),
                answers = self.starts.next() => News::Starts(answers),
                event = self.fetcher.next() => News::Fetch(event),
            };
            match news {
                News::Group(event) => self.regroup(event).await?,
                News::Starts(answers) => self.begin(answers),
                News::Fetch(event) => {
                    if let Some(chunk) = self.read(event)? {
                        return Ok(chunk);
                    }
                }
            }
        }
    }

    /// Commits, for the group, all that has been handed out before.
    ///
    /// # Errors
    /// [`Error::Group`]. Without a group there is nothing to commit to, and nothing is done.
    pub async fn commit(&mut self) -> Result<CommitReport, Error> {
        match &mut self.group {
            Some((_, committer)) if !self.taken.is_empty() => {
                let report = committer.commit(&self.taken).await.map_err(Error::Group)?;
                self.taken.clear();
                Ok(report)
            }
            _ => Ok(CommitReport::default()),
        }
    }

    /// Leaves the group, so that others get its partitions at once.
    pub async fn leave(self) {
        if let Some((membership, _)) = self.group {
            membership.leave().await;
        }
    }

    fn read(&mut self, event: fetch::Event) -> Result<Option<Chunk>, Error> {
        match event {
            fetch::Event::Fetched(fetched) => {
                let epoch = fetched.leader_epoch.unwrap_or(-1);
                let position = OffsetAndMetadata::new(fetched.next_offset, epoch);
                self.taken.insert(fetched.partition.clone(), position);
                Ok(Some(Chunk::new(fetched)))
            }
            // Where it was told to begin is no help if that is what lies outside the log.
            fetch::Event::Trouble { partition, position, kind: Trouble::OutOfRange { .. } }
                if self.start != Start::Offset(position.next_offset) =>
            {
                self.starts.add(partition, Begin::Told(self.start));
                Ok(None)
            }
            fetch::Event::Trouble { partition, position, kind } => {
                let next_offset = position.next_offset;
                Err(Error::Partition { partition, next_offset, source: kind })
            }
        }
    }

    async fn regroup(&mut self, event: group::Event) -> Result<(), Error> {
        match event {
            group::Event::Assigned { added, .. } => {
                added.into_iter().for_each(|added| self.starts.add(added, Begin::Committed));
                Ok(())
            }
            group::Event::Revoking { partitions, hand_back, .. } => {
                self.give_up(&partitions);
                self.commit().await?;
                hand_back.done();
                Ok(())
            }
            group::Event::Lost { partitions, .. } => {
                self.give_up(&partitions);
                self.taken.retain(|partition, _| !partitions.contains(partition));
                Ok(())
            }
            group::Event::Refused { error } => Err(Error::Group(error)),
        }
    }

    fn give_up(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for partition in partitions {
            self.fetcher.remove(partition);
            self.starts.remove(partition);
        }
    }

    /// Begins to read what was told; keeps why the rest was not.
    fn begin(&mut self, answers: Answers) {
        for (partition, position) in &answers.positions {
            self.fetcher.assign(partition, *position);
        }
        self.untold.extend(answers.failed);
    }
}

/// What happens in the group; nothing ever without one.
async fn news_of(
    group: &mut Option<(Membership, Committer)>,
) -> Result<group::Event, group::Error> {
    match group {
        Some((membership, _)) => membership.next().await,
        None => std::future::pending().await,
    }
}

/// Whichever comes first.
enum News {
    Group(group::Event),
    Starts(Answers),
    Fetch(fetch::Event),
}

/// What a fetch brought of one partition. It holds memory until it is dropped.
#[derive(Debug)]
pub struct Chunk {
    /// Which partition.
    pub partition: TopicPartition,
    /// The offset to read after this.
    pub next_offset: i64,
    /// The offset after the last record that there was.
    pub high_watermark: i64,
    fetch_offset: i64,
    entries: Vec<Entry>,
    _lease: Lease,
}

impl Chunk {
    fn new(fetched: Fetched) -> Self {
        Self {
            partition: fetched.partition,
            next_offset: fetched.next_offset,
            high_watermark: fetched.high_watermark,
            fetch_offset: fetched.fetch_offset,
            entries: fetched.entries,
            _lease: fetched.lease,
        }
    }

    /// Shows every record, in the order of their offsets.
    ///
    /// # Errors
    /// [`Error::Batch`] or [`Error::Legacy`] when one cannot be read; those before it were shown.
    pub fn visit(
        &self,
        decompressor: &mut Decompressor,
        mut look: impl FnMut(&Record<'_>),
    ) -> Result<(), Error> {
        let partition = || self.partition.clone();
        // A fetch may begin in the middle of a batch; what is before was read before.
        let mut look = |record: Record<'_>| {
            if record.offset >= self.fetch_offset {
                look(&record);
            }
        };
        for entry in &self.entries {
            match entry {
                Entry::Batch(batch) => {
                    let wrong = |source| Error::Batch { partition: partition(), source };
                    for record in batch.records(decompressor).map_err(wrong)? {
                        look(record.map_err(wrong)?);
                    }
                }
                Entry::Legacy(set) => {
                    let wrong = |source| Error::Legacy { partition: partition(), source };
                    for record in set.records(decompressor).map_err(wrong)? {
                        look(record.map_err(wrong)?);
                    }
                }
            }
        }
        Ok(())
    }
}
