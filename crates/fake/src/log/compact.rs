//! The log cleaner as one call: keeps the last record of each key, leaves gaps and empty batches.
//!
//! Owned by the log. Always true: the batch at the end of the log is never cleaned (it stands for
//! the active segment), nothing at or above the last stable offset is, and offsets never change.

use std::collections::HashMap;

use bytes::Bytes;

use super::Log;
use crate::batch::build::rewrite;
use crate::batch::records::RawRecord;
use crate::batch::{Batch, Error};

/// Bit 6: the base timestamp is when tombstones of the batch may go (KIP-534).
const DELETE_HORIZON: i16 = 0x40;

/// What a cleaning does beside removing overwritten records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compaction {
    /// Remove tombstones too, as a cleaner does after `delete.retention.ms`.
    pub removes_tombstones: bool,
    /// Give batches that keep a tombstone a delete horizon at this time (ms), as 3.1 and later do.
    pub delete_horizon_ms: Option<i64>,
}

impl Log {
    /// Cleans the log; returns how many records it removed.
    pub(crate) fn compact(&mut self, options: Compaction) -> Result<u64, Error> {
        let stable = self.stable_offset();
        let last = self.batches.len().saturating_sub(1);
        let dirty = |(index, batch): &(usize, &Batch)| {
            *index < last && batch.header().last_offset() < stable
        };
        let cleanable = self.batches.iter().enumerate().filter(dirty).count();
        let latest = self.latest_offsets(stable)?;
        let mut removed = 0;
        let mut kept = std::collections::VecDeque::with_capacity(self.batches.len());
        for (index, batch) in self.batches.iter().enumerate() {
            if index >= cleanable || batch.header().is_control() {
                kept.push_back(batch.clone());
                continue;
            }
            let all = batch.records()?.collect::<Result<Vec<_>, _>>()?;
            let before = all.len();
            let records: Vec<_> = all
                .into_iter()
                .filter(|record| self.survives(batch, record, &latest, options))
                .collect();
            removed += (before - records.len()) as u64;
            let carries_sequence = self.producers.last_offset(batch.header().producer_id)
                == Some(batch.header().last_offset());
            if records.len() == before && options.delete_horizon_ms.is_none() {
                kept.push_back(batch.clone());
            } else if !records.is_empty() || carries_sequence {
                kept.push_back(clean(batch, records, options)?);
            }
        }
        self.size_bytes = kept.iter().map(|batch| batch.size_bytes() as u64).sum();
        self.batches = kept;
        Ok(removed)
    }

    fn latest_offsets(&self, end: i64) -> Result<HashMap<Bytes, i64>, Error> {
        let mut latest = HashMap::new();
        for batch in self.batches.iter().filter(|batch| !batch.header().is_control()) {
            if batch.header().last_offset() >= end || self.is_aborted(batch) {
                continue;
            }
            for record in batch.records()? {
                let record = record?;
                if let Some(key) = record.key {
                    latest.insert(key, batch.header().base_offset + record.offset_delta);
                }
            }
        }
        Ok(latest)
    }

    fn survives(
        &self,
        batch: &Batch,
        record: &RawRecord,
        latest: &HashMap<Bytes, i64>,
        options: Compaction,
    ) -> bool {
        if self.is_aborted(batch) || (record.value.is_none() && options.removes_tombstones) {
            return false;
        }
        let offset = batch.header().base_offset + record.offset_delta;
        record.key.as_ref().is_some_and(|key| latest.get(key).is_none_or(|last| *last <= offset))
    }

    fn is_aborted(&self, batch: &Batch) -> bool {
        let header = batch.header();
        let inside = |aborted: &super::Aborted| {
            aborted.producer_id == header.producer_id
                && (aborted.first_offset..=aborted.last_offset).contains(&header.base_offset)
        };
        header.is_transactional() && self.aborted.iter().any(inside)
    }
}

fn clean(batch: &Batch, records: Vec<RawRecord>, options: Compaction) -> Result<Batch, Error> {
    let codec = batch.header().codec()?;
    let mut header = *batch.header();
    let mut records = records;
    let has_tombstone = records.iter().any(|record| record.value.is_none());
    if let (Some(horizon_ms), true) = (options.delete_horizon_ms, has_tombstone) {
        let shift = header.base_timestamp.wrapping_sub(horizon_ms);
        for record in &mut records {
            record.timestamp_delta = record.timestamp_delta.wrapping_add(shift);
        }
        header.base_timestamp = horizon_ms;
        header.attributes |= DELETE_HORIZON;
    }
    let newest = records.iter().map(|r| super::record_timestamp(&header, r.timestamp_delta)).max();
    header.max_timestamp = newest.unwrap_or(header.max_timestamp);
    let mut cleaned = rewrite(batch, codec, &records);
    let written = *cleaned.header();
    header.record_count = written.record_count;
    header.batch_length = written.batch_length;
    cleaned.seal(header);
    Ok(cleaned)
}
