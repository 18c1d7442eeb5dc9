//! What a partition remembers of its producers: epochs, the last five batches, open transactions.
//!
//! Owned by the log; the rules are `ProducerStateManager`'s and `ProducerAppendInfo`'s. Always
//! true: `check` changes nothing and `record` follows an append, so a rejected batch leaves no
//! trace.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use crate::batch::Header;
use crate::versions::Release;

/// Batches remembered for duplicates (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const BATCHES_KEPT: usize = 5;

/// Producers remembered in one partition; beyond it those without an open transaction go,
/// the least recent first, as `producer.id.expiration.ms` would have it.
const PRODUCERS_MAX: usize = 16_384;

/// What `check` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The batch may be appended.
    New,
    /// The batch is one of the last five: answer with its offset, append nothing.
    Duplicate { base_offset: i64, timestamp_ms: i64 },
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, Entry>,
}

/// One producer, as `DescribeProducers` shows it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) epoch: i16,
    pub(crate) last_timestamp_ms: i64,
    pub(crate) transaction_start: Option<i64>,
    recent: VecDeque<Recent>,
    last_offset: i64,
}

#[derive(Debug, Clone, Copy)]
struct Recent {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp_ms: i64,
}

impl Producers {
    /// Whether a client's batch may be appended.
    pub(crate) fn check(
        &self,
        header: &Header,
        release: Release,
    ) -> Result<Verdict, ResponseError> {
        if !header.has_producer_id() {
            return Ok(Verdict::New);
        }
        let Some(entry) = self.entries.get(&header.producer_id) else {
            // Before KIP-360 an unknown producer had to start at zero.
            if release <= Release::V2_4 && header.base_sequence != 0 {
                return Err(ResponseError::UnknownProducerId);
            }
            return Ok(Verdict::New);
        };
        if let Some(found) = entry.duplicate_of(header) {
            let Recent { base_offset, timestamp_ms, .. } = found;
            return Ok(Verdict::Duplicate { base_offset, timestamp_ms });
        }
        if header.producer_epoch < entry.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let in_sequence = if header.producer_epoch == entry.epoch {
            let last = entry.recent.back().map_or(-1, |recent| recent.last_sequence);
            header.base_sequence == last.wrapping_add(1)
                || (last == i32::MAX && header.base_sequence == 0)
        } else {
            header.base_sequence == 0
        };
        if !in_sequence {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        if entry.transaction_start.is_some() && !header.is_transactional() {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(Verdict::New)
    }

    /// Remembers a batch that was appended.
    pub(crate) fn record(&mut self, header: &Header) {
        if !header.has_producer_id() {
            return;
        }
        let entry = self.entry(header.producer_id, header.producer_epoch);
        if entry.recent.len() == BATCHES_KEPT {
            entry.recent.pop_front();
        }
        entry.recent.push_back(Recent {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            timestamp_ms: header.max_timestamp,
        });
        entry.last_timestamp_ms = header.max_timestamp;
        entry.last_offset = header.last_offset();
        if header.is_transactional() && entry.transaction_start.is_none() {
            entry.transaction_start = Some(header.base_offset);
        }
        self.expire();
    }

    /// Ends a transaction; returns where it had begun in this partition.
    pub(crate) fn end_transaction(&mut self, header: &Header) -> Option<i64> {
        let entry = self.entry(header.producer_id, header.producer_epoch);
        entry.last_timestamp_ms = header.max_timestamp;
        entry.last_offset = header.last_offset();
        entry.transaction_start.take()
    }

    /// The least offset at which a transaction is still open.
    pub(crate) fn first_open_offset(&self) -> Option<i64> {
        self.entries.values().filter_map(|entry| entry.transaction_start).min()
    }

    /// Offset of the last batch of a producer, which a cleaner keeps even when it is empty.
    pub(crate) fn last_offset(&self, producer_id: i64) -> Option<i64> {
        self.entries.get(&producer_id).map(|entry| entry.last_offset)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Forgets one producer, as `producer.id.expiration.ms` does.
    pub(crate) fn forget(&mut self, producer_id: i64) {
        self.entries.remove(&producer_id);
    }

    fn entry(&mut self, producer_id: i64, epoch: i16) -> &mut Entry {
        let fresh = || Entry {
            epoch,
            last_timestamp_ms: -1,
            transaction_start: None,
            recent: VecDeque::new(),
            last_offset: -1,
        };
        let entry = self.entries.entry(producer_id).or_insert_with(fresh);
        if entry.epoch != epoch {
            entry.epoch = epoch;
            entry.recent.clear();
        }
        entry
    }

    fn expire(&mut self) {
        while self.entries.len() > PRODUCERS_MAX {
            let idle = self.entries.iter().filter(|(_, entry)| entry.transaction_start.is_none());
            let oldest = idle.min_by_key(|(_, entry)| entry.last_offset).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            self.entries.remove(&oldest);
        }
    }
}

impl Entry {
    pub(crate) fn last_sequence(&self) -> i32 {
        self.recent.back().map_or(-1, |recent| recent.last_sequence)
    }

    fn duplicate_of(&self, header: &Header) -> Option<Recent> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let last_sequence = header.last_sequence();
        let same = |recent: &&Recent| {
            recent.base_sequence == header.base_sequence && recent.last_sequence == last_sequence
        };
        self.recent.iter().find(same).copied()
    }
}
