//! Producing records one by one: a small layer over [`BatchProducer`].
//!
//! Records gather in one open batch for each partition. A batch goes when it is full or when the
//! caller flushes; there is no timer. Keys find their partition as with Kafka's own producer;
//! records without a key fill one partition's batch and then go on to the next (KIP-480).

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::rebuild::{self, Builder};
use crate::batch::{Codec, Compressor, Levels, Record};
use crate::client::Client;
use crate::name::TopicPartition;
use crate::partitioner::{KeylessSpreader, partition_for_key};
use crate::produce::{self, BatchProducer, Delivery};

/// Settings of a [`Producer`].
#[derive(Debug, Clone)]
pub struct Config {
    /// How batches are compressed (`compression.type`). Default: not at all.
    pub codec: Codec,
    /// The size at which a batch goes, in bytes before compression (`batch.size`). Default 16 KiB.
    pub batch_bytes: usize,
    /// How long a topic may be missing before a record for it fails (`max.block.ms`).
    /// Default 60 s.
    pub missing_timeout: Duration,
    /// The batches' way to the brokers. Unlike there, a batch is tried for 120 s by default
    /// (`delivery.timeout.ms`), so that a flush ends.
    pub produce: produce::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            batch_bytes: 16 * 1024,
            missing_timeout: Duration::from_secs(60),
            produce: produce::Config {
                delivery_timeout: Some(Duration::from_secs(120)),
                ..produce::Config::default()
            },
        }
    }
}

/// Why records were not written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The topic did not appear in time. Create it first.
    #[error("topic {topic} does not exist")]
    NoSuchTopic {
        /// Which topic.
        topic: Arc<str>,
    },
    /// The topic has fewer partitions.
    #[error("topic {} has no partition {}", partition.topic, partition.partition)]
    NoSuchPartition {
        /// Which partition.
        partition: TopicPartition,
    },
    /// The record fits into no batch.
    #[error("add a record to the batch for {partition}")]
    Record {
        /// For which partition.
        partition: TopicPartition,
        /// Why not.
        source: rebuild::Error,
    },
    /// A batch was not written.
    #[error("write {records} records to {partition}")]
    Write {
        /// To which partition.
        partition: TopicPartition,
        /// How many records were in it.
        records: i32,
        /// Why not.
        source: produce::Error,
    },
    /// The settings contradict each other.
    #[error("start a producer")]
    Start(#[source] produce::Error),
}

/// A producer of records.
///
/// ```no_run
/// # use kmirror_client::{Client, producer::Error};
/// # async fn example(client: Client) -> Result<(), Error> {
/// use kmirror_client::batch::Record;
/// use kmirror_client::producer::{Config, Producer};
///
/// let mut producer = Producer::try_new(client, Config::default())?;
/// producer.send("orders", None, &Record::new(Some(b"42"), Some(b"one apple"))).await?;
/// producer.flush().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Producer {
    client: Client,
    config: Config,
    batches: BatchProducer,
    compressor: Compressor,
    /// One for each partition that records were sent to.
    open: BTreeMap<TopicPartition, Builder>,
    /// One for each topic that records without a key were sent to.
    spreaders: BTreeMap<Arc<str>, KeylessSpreader>,
    /// Batches on the way, at most [`UNDER_WAY_MAX`].
    under_way: VecDeque<Sent>,
}

/// A batch on the way.
#[derive(Debug)]
struct Sent {
    partition: TopicPartition,
    records: i32,
    delivery: Delivery,
}

/// The most batches on the way before a send waits for the oldest.
const UNDER_WAY_MAX: usize = 1000;

impl Producer {
    /// Starts a producer on the current runtime.
    ///
    /// # Errors
    /// [`Error::Start`] when the settings contradict each other.
    pub fn try_new(client: Client, config: Config) -> Result<Self, Error> {
        let batches = BatchProducer::try_new(client.clone(), config.produce.clone());
        Ok(Self {
            batches: batches.map_err(Error::Start)?,
            client,
            config,
            compressor: Compressor::new(Levels::default()),
            open: BTreeMap::new(),
            spreaders: BTreeMap::new(),
            under_way: VecDeque::new(),
        })
    }

    /// Adds a record to the batch of its partition: the one given, or the one its key hashes to.
    ///
    /// Waits while too much is on the way. What became of the record is told by
    /// [`Producer::flush`], or by a later call that finds an earlier batch failed; what follows a
    /// failed batch in its partition fails with it, though it is in no batch yet, and what is sent
    /// after that was told goes on.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Write`] this record was not taken: an earlier batch failed.
    pub async fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        record: &Record<'_>,
    ) -> Result<(), Error> {
        let partition = self.place(topic, partition, record.key).await?;
        self.make_room(&partition).await?;
        let codec = self.config.codec;
        let builder = self.open.entry(partition.clone()).or_insert_with(|| Builder::new(codec));
        builder
            .push(record)
            .map_err(|source| Error::Record { partition: partition.clone(), source })?;
        if builder.len_bytes_uncompressed() >= self.config.batch_bytes {
            self.dispatch(partition).await;
        }
        Ok(())
    }

    /// Sends every open batch and waits until all has been written.
    ///
    /// # Errors
    /// The first batch that was not written; the others are waited for nevertheless.
    pub async fn flush(&mut self) -> Result<(), Error> {
        let mut outcome = Ok(());
        let open: Vec<TopicPartition> = self.open.keys().cloned().collect();
        for partition in open {
            outcome = outcome.and(self.make_room(&partition).await);
            self.dispatch(partition).await;
        }
        while let Some(sent) = self.under_way.pop_front() {
            outcome = outcome.and(sent.finish().await);
        }
        outcome
    }

    /// Lets a partition that stopped go on, once the failure is told; waits for the oldest batch
    /// while there are too many.
    async fn make_room(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let mut outcome = Ok(());
        if self.batches.is_stopped(partition) {
            // Sent while it is stopped, what was added since fails as well.
            self.dispatch(partition.clone()).await;
            let (stopped, others) =
                self.under_way.drain(..).partition(|sent| sent.partition == *partition);
            self.under_way = others;
            for sent in Vec::from(stopped) {
                outcome = outcome.and(sent.finish().await);
            }
            self.batches.restart(partition);
        }
        if self.under_way.len() >= UNDER_WAY_MAX
            && let Some(oldest) = self.under_way.pop_front()
        {
            outcome = outcome.and(oldest.finish().await);
        }
        outcome
    }

    async fn dispatch(&mut self, partition: TopicPartition) {
        let builder = self.open.get_mut(&partition);
        let batch = builder.and_then(|builder| builder.finish(&mut self.compressor));
        let Some(batch) = batch else { return };
        if let Some(spreader) = self.spreaders.get_mut(&partition.topic) {
            spreader.next_batch();
        }
        let records = batch.records_count();
        let delivery = self.batches.send(&partition, batch).await;
        self.under_way.push_back(Sent { partition, records, delivery });
    }

    async fn place(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Result<TopicPartition, Error> {
        let (topic, count) = self.topic(topic).await?;
        let index = match (partition, key) {
            (Some(index), _) => index,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => self.spreaders.entry(Arc::clone(&topic)).or_default().partition(count),
        };
        let partition = TopicPartition::new(topic, index);
        if u32::try_from(index).is_ok_and(|index| index < count.get()) {
            Ok(partition)
        } else {
            Err(Error::NoSuchPartition { partition })
        }
    }

    /// The topic's name as it is shared, and how many partitions it has.
    async fn topic(&self, name: &str) -> Result<(Arc<str>, NonZeroU32), Error> {
        if let Some(found) = self.known(name) {
            return Ok(found);
        }
        let mut views = self.client.view_changes();
        self.client.watch_topics([name.into()]);
        let appears = async {
            loop {
                if let Some(found) = self.known(name) {
                    return found;
                }
                // A failed question is repeated by the refresh loop; the deadline ends the wait.
                let seen = views.borrow_and_update().generation;
                let _ = self.client.refresh(seen).await;
                crate::clock::sleep(LOOK_AGAIN_AFTER).await;
            }
        };
        let missing = Error::NoSuchTopic { topic: name.into() };
        tokio::time::timeout(self.config.missing_timeout, appears).await.map_err(|_| missing)
    }

    fn known(&self, name: &str) -> Option<(Arc<str>, NonZeroU32)> {
        let view = self.client.view();
        let topic = view.topic(name)?;
        let count = NonZeroU32::new(u32::try_from(topic.partitions.len()).ok()?)?;
        Some((Arc::clone(&topic.name), count))
    }
}

/// How long to wait before asking again for a topic that is missing.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Sent {
    async fn finish(self) -> Result<(), Error> {
        let Self { partition, records, delivery } = self;
        match delivery.await {
            Ok(_) => Ok(()),
            Err(source) => Err(Error::Write { partition, records, source }),
        }
    }
}
