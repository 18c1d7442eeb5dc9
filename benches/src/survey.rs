//! What a topic really holds: records, batches and bytes as they are stored, and a digest that
//! tells whether two topics hold the same records.

use std::{collections::BTreeMap, hash::Hasher, sync::Mutex};

use kmirror_client::{
    TopicPartition,
    batch::{Decompressor, Entry, Record},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    floor::{drain, in_threads, shares},
};

/// What a topic holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Records, by the headers of their batches.
    pub records: u64,
    /// Batches that hold any.
    pub batches: u64,
    /// Bytes of all batches, compressed as they are, headers included.
    pub bytes: u64,
}

impl Stored {
    fn add(&mut self, entry: &Entry) {
        // Nobody makes batches of older formats here.
        let Entry::Batch(batch) = entry else { return };
        self.records += u64::from(batch.header().records_count.unsigned_abs());
        self.batches += u64::from(batch.header().records_count > 0);
        self.bytes += batch.bytes().len() as u64;
    }
}

/// Counts what the first `partitions` of `topic` hold, with that many threads.
///
/// # Errors
/// When the cluster cannot be reached or a partition cannot be read.
pub fn count(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    threads: usize,
) -> Result<Stored, Error> {
    let all = Mutex::new(Stored::default());
    let shares = shares(topic, partitions, threads);
    in_threads(shares.into_iter().map(|own| {
        || async {
            let mut stored = Stored::default();
            let add = |_: &TopicPartition, entries: &[Entry]| {
                entries.iter().for_each(|entry| stored.add(entry));
                Ok(())
            };
            drain(bootstrap, own, add).await?;
            let mut all = all.lock().expect("invariant: nobody panics with the sum");
            all.records += stored.records;
            all.batches += stored.batches;
            all.bytes += stored.bytes;
            Ok(())
        }
    }))?;
    Ok(all.into_inner().expect("invariant: nobody panics with the sum"))
}

/// Tells whether topics hold the same records, without holding them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The records of each partition, in their order.
    partitions: BTreeMap<i32, u64>,
    /// All records, in any order.
    any_order: u64,
    records: u64,
}

impl Digest {
    /// Digests keys, values, headers and timestamps of the records of the first `partitions`
    /// of `topic`, with that many threads; offsets and batches do not matter.
    ///
    /// # Errors
    /// When the cluster cannot be reached or a record cannot be read.
    pub fn of(
        bootstrap: &str,
        topic: &str,
        partitions: i32,
        threads: usize,
    ) -> Result<Self, Error> {
        let all = Mutex::new(Self::default());
        let shares = shares(topic, partitions, threads);
        in_threads(shares.into_iter().map(|own| {
            || async {
                let mut own_digest = Self::default();
                let mut decompressor = Decompressor::new(DECOMPRESSED_BYTES_MAX);
                let add = |partition: &TopicPartition, entries: &[Entry]| {
                    own_digest.add_all(partition, entries, &mut decompressor)
                };
                drain(bootstrap, own, add).await?;
                let mut all = all.lock().expect("invariant: nobody panics with the sum");
                all.partitions.append(&mut own_digest.partitions);
                all.any_order = all.any_order.wrapping_add(own_digest.any_order);
                all.records += own_digest.records;
                Ok(())
            }
        }))?;
        Ok(all.into_inner().expect("invariant: nobody panics with the sum"))
    }

    fn add_all(
        &mut self,
        partition: &TopicPartition,
        entries: &[Entry],
        decompressor: &mut Decompressor,
    ) -> Result<(), Error> {
        for entry in entries {
            let Entry::Batch(batch) = entry else { continue };
            for record in batch.records(decompressor)? {
                self.add(partition.partition, &record?);
            }
        }
        Ok(())
    }

    fn add(&mut self, partition: i32, record: &Record<'_>) {
        let hash = hash(record);
        let in_order = self.partitions.entry(partition).or_default();
        *in_order = in_order.rotate_left(5).wrapping_mul(ODD) ^ hash;
        self.any_order = self.any_order.wrapping_add(hash);
        self.records += 1;
    }

    /// What is different in `copy`, if anything is. With `keeps_partitions` each record must be in
    /// the partition where it was, in the order it had there.
    #[must_use]
    pub fn difference(&self, copy: &Self, keeps_partitions: bool) -> Option<String> {
        if self.records != copy.records {
            return Some(format!("{} records instead of {}", copy.records, self.records));
        }
        if self.any_order != copy.any_order {
            return Some("the same number of records, but others".to_owned());
        }
        let differs =
            |(partition, digest): &(&i32, &u64)| copy.partitions.get(partition) != Some(digest);
        match self.partitions.iter().find(differs) {
            Some((partition, _)) if keeps_partitions => {
                Some(format!("partition {partition} holds other records, or in another order"))
            }
            _ => None,
        }
    }
}

fn hash(record: &Record<'_>) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    let mut bytes = |bytes: Option<&[u8]>| {
        hasher.write_usize(bytes.map_or(usize::MAX, <[u8]>::len));
        hasher.write(bytes.unwrap_or_default());
    };
    bytes(record.key);
    bytes(record.value);
    for header in record.headers {
        bytes(Some(header.key));
        bytes(header.value);
    }
    hasher.write_i64(record.timestamp);
    hasher.finish()
}

/// Some odd number with many bits: multiplying by it loses nothing.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
/// More than any batch that is made here or by a mirror of it.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(records: &[(i32, &str, i64)]) -> Digest {
        let mut digest = Digest::default();
        for (partition, value, timestamp) in records {
            let record = Record::new(None, Some(value.as_bytes())).with_timestamp(*timestamp);
            digest.add(*partition, &record);
        }
        digest
    }

    #[test]
    fn the_same_records_do_not_differ() {
        let records = [(0, "a", 1), (1, "b", 2), (0, "c", 3)];
        assert_eq!(digest(&records).difference(&digest(&records), true), None);
    }

    #[test]
    fn what_is_missing_changed_or_moved_is_noticed() {
        let source = digest(&[(0, "a", 1), (0, "b", 2)]);
        for (copy, keeps_partitions) in [
            (&[(0, "a", 1)][..], false),
            (&[(0, "a", 1), (0, "a", 1)], false),
            (&[(0, "a", 1), (0, "b", 3)], false),
            (&[(0, "b", 2), (0, "a", 1)], true),
            (&[(0, "a", 1), (1, "b", 2)], true),
        ] {
            let difference = source.difference(&digest(copy), keeps_partitions);
            assert!(difference.is_some(), "{copy:?}");
        }
    }

    #[test]
    fn where_records_are_does_not_matter_to_those_who_route() {
        let source = digest(&[(0, "a", 1), (0, "b", 2)]);
        assert_eq!(source.difference(&digest(&[(1, "b", 2), (0, "a", 1)]), false), None);
    }

    #[test]
    fn null_and_empty_differ() {
        let null = Record::new(None, Some(b""));
        assert_ne!(hash(&null), hash(&Record::new(Some(b""), Some(b""))));
    }
}
