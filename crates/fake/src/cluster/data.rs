//! What a test puts into the logs, reads from them and does to them.
//!
//! Always true: nothing here goes through a connection, an interceptor or the journal; produced
//! batches pass the same validation as a client's unless a method says otherwise.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Cluster;
use crate::api::produce::Append;
use crate::batch::{Batch, BatchBuilder, Header};
use crate::error::Error;
use crate::log::compact::Compaction;
use crate::log::{Aborted, record_timestamp};
use crate::state::TopicPlan;
use crate::topic::Partition;

/// The offsets that bound a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first offset that may be read.
    pub start: i64,
    /// The last stable offset: where a `read_committed` reader stops.
    pub stable: i64,
    /// The offset the next record gets; the high watermark.
    pub next: i64,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in ms, as consumers see it.
    pub timestamp_ms: i64,
    /// The key, or null.
    pub key: Option<Bytes>,
    /// The value, or null.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A batch as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its header.
    pub header: Header,
    /// All of its bytes, header included.
    pub bytes: Bytes,
}

impl Cluster {
    /// Creates a topic with the cluster's default replication factor.
    ///
    /// # Panics
    /// If the topic exists or cannot be created: a test that gets this wrong is wrong.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    /// Creates a topic with these settings.
    ///
    /// # Panics
    /// As [`Cluster::create_topic`].
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let created = self.plan_topic(name, partitions, settings);
        if let Err(error) = created {
            panic!("create topic {name}: {error}");
        }
    }

    /// Creates a topic, or says why not.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code a client would have got.
    pub fn try_create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        self.plan_topic(name, partitions, &[])
    }

    /// Deletes a topic and everything in it.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`] (partition -1) if there is none.
    pub fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let mut state = self.shared.state();
        if state.delete_topic(name) { Ok(()) } else { Err(unknown(name, -1)) }
    }

    /// Gives a topic more partitions, so many in all.
    ///
    /// # Errors
    /// [`Error::Refused`] as a client would get it.
    pub fn grow_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        let mut state = self.shared.state();
        state.grow_topic(name, partitions, &[]).map_err(refused)
    }

    /// Changes a topic's setting; takes effect with the next request.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`] (partition -1) if there is no such topic.
    pub fn set_topic_config(&self, name: &str, key: &str, value: &str) -> Result<(), Error> {
        let mut state = self.shared.state();
        let topic = state.topics.get_mut(name).ok_or_else(|| unknown(name, -1))?;
        topic.overrides.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// The names of all topics.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.shared.state().topics.keys().cloned().collect()
    }

    /// How many partitions a topic has; 0 if there is none of that name.
    #[must_use]
    pub fn partition_count(&self, topic: &str) -> i32 {
        self.shared.state().topics.get(topic).map_or(0, |topic| topic.partitions.len() as i32)
    }

    /// A topic's id.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> Option<uuid::Uuid> {
        self.shared.state().topics.get(topic).map(|topic| topic.id)
    }

    /// The value of a topic's setting, set or default.
    #[must_use]
    pub fn topic_config(&self, topic: &str, key: &str) -> Option<String> {
        self.shared.state().topics.get(topic)?.config(key).map(str::to_owned)
    }

    /// Produces one batch to whoever leads, validated as a client's; returns its base offset.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code a client would have got.
    pub fn produce_direct(
        &self,
        topic: &str,
        partition: i32,
        batch: impl Into<BatchBuilder>,
    ) -> Result<i64, Error> {
        let records = batch.into().build(self.shared.clock.unix_ms());
        self.produce_bytes(topic, partition, records)
    }

    /// Produces these bytes as one batch, validated as a client's; returns the base offset.
    ///
    /// # Errors
    /// As [`Cluster::produce_direct`].
    pub fn produce_bytes(&self, topic: &str, partition: i32, batch: Bytes) -> Result<i64, Error> {
        let append = Append {
            topic,
            partition,
            records: batch,
            acks: 1,
            transactional_id: None,
            broker: None,
            version: 9,
        };
        let written = append.run(&self.shared).map_err(|r| refused((r.error, r.message)))?;
        Ok(written.appended.base_offset)
    }

    /// Appends a v2 batch as it is, checked for nothing but its length: control batches, gaps,
    /// empty batches, wrong checksums. Base offset and leader epoch are stamped; returns the base
    /// offset.
    ///
    /// # Errors
    /// [`Error::Batch`] for bytes that are not one batch; [`Error::UnknownPartition`].
    pub fn append_unchecked(
        &self,
        topic: &str,
        partition: i32,
        batch: &Bytes,
    ) -> Result<i64, Error> {
        let (batch, _) = Batch::parse(batch)?;
        let size = batch.size_bytes() as u64;
        let offset = self.with_partition(topic, partition, |partition| {
            let epoch = partition.leader_epoch;
            let offset = partition.log.append_unchecked(batch, epoch);
            partition.wake();
            offset
        })?;
        self.shared.state().add_stored_bytes(size);
        Ok(offset)
    }

    /// Every data record of a partition as a `read_uncommitted` consumer sees it, aborted ones
    /// included, markers not.
    ///
    /// # Panics
    /// If there is no such partition or a stored batch does not decode.
    #[must_use]
    pub fn records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let decoded = self.stored(topic, partition, false);
        decoded.unwrap_or_else(|error| panic!("records of {topic}-{partition}: {error}"))
    }

    /// As [`Cluster::records`], without records of aborted or open transactions.
    ///
    /// # Panics
    /// As [`Cluster::records`].
    #[must_use]
    pub fn committed_records(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        let decoded = self.stored(topic, partition, true);
        decoded.unwrap_or_else(|error| panic!("records of {topic}-{partition}: {error}"))
    }

    /// Every batch of a partition, markers included.
    ///
    /// # Panics
    /// If there is no such partition.
    #[must_use]
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        let copied = self.with_partition(topic, partition, |partition| {
            let batches = partition.log.batches();
            let copy = |b: &Batch| StoredBatch { header: *b.header(), bytes: b.to_bytes() };
            batches.map(copy).collect()
        });
        copied.unwrap_or_else(|error| panic!("batches: {error}"))
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets, Error> {
        self.with_partition(topic, partition, |partition| Offsets {
            start: partition.log.start_offset(),
            stable: partition.log.stable_offset(),
            next: partition.log.next_offset(),
        })
    }

    /// Moves the log start to `offset`, as DeleteRecords and retention do.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.reshape(topic, partition, |partition| partition.log.delete_before(offset))
    }

    /// Applies `retention.bytes` and `retention.ms` now; returns the new log start.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn apply_retention(&self, topic: &str, partition: i32) -> Result<i64, Error> {
        let setting = |key: &str| {
            let value = self.topic_config(topic, key).and_then(|value| value.parse::<i64>().ok());
            value.filter(|value| *value >= 0)
        };
        let bytes = setting("retention.bytes").map_or(u64::MAX, |bytes| bytes as u64);
        let oldest = setting("retention.ms").map_or(i64::MIN, |ms| self.unix_ms() - ms);
        self.reshape(topic, partition, |partition| {
            let point = partition.log.retention_point(bytes, oldest);
            partition.log.delete_before(point);
            partition.log.start_offset()
        })
    }

    /// Runs the log cleaner; returns how many records it removed.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`]; [`Error::Batch`] if a stored batch does not decode.
    pub fn compact(&self, topic: &str, partition: i32, options: Compaction) -> Result<u64, Error> {
        Ok(self.reshape(topic, partition, |partition| partition.log.compact(options))??)
    }

    /// Cuts the log at `offset` (whole batches) and starts a new leader epoch: what an unclean
    /// election does to a consumer.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
        self.reshape(topic, partition, |partition| {
            partition.log.truncate(offset);
            partition.elect(partition.leader);
        })
    }

    /// Makes a partition forget an idempotent producer, as expiry does.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn forget_producer(&self, topic: &str, partition: i32, id: i64) -> Result<(), Error> {
        self.with_partition(topic, partition, |p| p.log.producers_mut().forget(id))
    }

    pub(crate) fn with_partition<T>(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> Result<T, Error> {
        let mut state = self.shared.state();
        let found = state.partition_mut(topic, partition);
        Ok(change(found.ok_or_else(|| unknown(topic, partition))?))
    }

    fn reshape<T>(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> Result<T, Error> {
        let result = self.with_partition(topic, partition, |partition| {
            let result = change(partition);
            partition.wake();
            result
        })?;
        self.shared.state().recount_stored_bytes();
        Ok(result)
    }

    fn plan_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), Error> {
        let set = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let overrides: BTreeMap<String, String> = set.collect();
        let replication_factor = self.shared.settings.replication_factor;
        let plan = TopicPlan { partitions, replication_factor, overrides, ..TopicPlan::default() };
        self.shared.state().create_topic(name, plan).map_err(refused)
    }

    fn stored(
        &self,
        topic: &str,
        partition: i32,
        only_committed: bool,
    ) -> Result<Vec<StoredRecord>, Error> {
        let (batches, aborted, end) = self.with_partition(topic, partition, |partition| {
            let log = &partition.log;
            let end = if only_committed { log.stable_offset() } else { log.next_offset() };
            (log.batches().cloned().collect::<Vec<_>>(), log.aborted().to_vec(), end)
        })?;
        let start = self.offsets(topic, partition)?.start;
        let mut records = Vec::new();
        for batch in batches.iter().filter(|batch| !batch.header().is_control()) {
            let header = batch.header();
            let is_aborted = |a: &Aborted| {
                let range = a.first_offset..=a.last_offset;
                a.producer_id == header.producer_id && range.contains(&header.base_offset)
            };
            let is_dropped = header.is_transactional() && aborted.iter().any(is_aborted);
            if header.base_offset >= end || (only_committed && is_dropped) {
                continue;
            }
            for record in batch.records()? {
                let record = record?;
                records.push(StoredRecord {
                    offset: header.base_offset + record.offset_delta,
                    timestamp_ms: record_timestamp(header, record.timestamp_delta),
                    key: record.key,
                    value: record.value,
                    headers: record.headers,
                });
            }
        }
        records.retain(|record| record.offset >= start);
        Ok(records)
    }
}

fn unknown(topic: &str, partition: i32) -> Error {
    Error::UnknownPartition { topic: topic.to_owned(), partition }
}

fn refused((code, message): (kafka_protocol::error::ResponseError, String)) -> Error {
    Error::Refused { code, message }
}
