//! From the bytes of one partition to what may be mirrored. Pure.
//!
//! What is left out still moves the position: control batches, what an aborted transaction wrote,
//! and what lies wholly before the offset that was asked for.
//!
//! The list of aborted transactions may come in any order. A producer's transaction is aborted from
//! its first offset up to its abort marker (KIP-98; `CompletedFetch` in Kafka's consumer).

use std::collections::HashSet;

use bytes::Bytes;

use crate::batch::{Batch, Entry, Marker, split};
use crate::isolation::Isolation;

use super::identity::Mark;

/// An aborted transaction, as a broker lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
}

/// What is in the bytes.
#[derive(Debug)]
pub(super) struct Digest {
    /// What may be mirrored.
    pub(super) entries: Vec<Entry>,
    /// The offset after everything that was read.
    pub(super) next_offset: i64,
    /// The leader epoch of the last batch that was read.
    pub(super) leader_epoch: Option<i32>,
    /// The first and the last batch, as they can be recognised; the last one only if it was read.
    pub(super) first: Option<Mark>,
    pub(super) last: Option<Mark>,
    /// What stopped the reading before the end.
    pub(super) error: Option<split::Error>,
    /// The size of the batch that was cut off by the end, if that is known.
    pub(super) cut_off_bytes: Option<usize>,
}

/// Reads `records`, which were asked for from `fetch_offset` on.
pub(super) fn digest(
    records: Bytes,
    fetch_offset: i64,
    isolation: Isolation,
    aborted: Vec<Aborted>,
) -> Digest {
    let mut digest = Digest {
        entries: Vec::new(),
        next_offset: fetch_offset,
        leader_epoch: None,
        first: None,
        last: None,
        error: None,
        cut_off_bytes: None,
    };
    let mut filter = Filter::new(isolation, aborted);
    let mut entries = split(records);
    for entry in entries.by_ref() {
        match entry {
            Ok(entry) => {
                digest.first.get_or_insert_with(|| Mark::of(&entry));
                let is_wanted = entry.next_offset() > digest.next_offset;
                if filter.passes(&entry) && is_wanted {
                    digest.take(entry);
                } else if is_wanted {
                    digest.move_past(&entry);
                }
            }
            Err(error) => {
                digest.error = Some(error);
                break;
            }
        }
    }
    digest.cut_off_bytes = entries.partial().and_then(|partial| partial.needed_bytes);
    digest
}

impl Digest {
    fn take(&mut self, entry: Entry) {
        self.move_past(&entry);
        self.entries.push(entry);
    }

    fn move_past(&mut self, entry: &Entry) {
        self.next_offset = entry.next_offset();
        self.last = Some(Mark::of(entry));
        if let Entry::Batch(batch) = entry {
            let epoch = batch.header().partition_leader_epoch;
            self.leader_epoch = (epoch >= 0).then_some(epoch);
        }
    }
}

/// Leaves out control batches and what aborted transactions wrote.
struct Filter {
    /// Still to come, the first one last.
    ahead: Vec<Aborted>,
    /// Producers whose transaction around here is aborted.
    active: HashSet<i64>,
}

impl Filter {
    fn new(isolation: Isolation, mut aborted: Vec<Aborted>) -> Self {
        if isolation == Isolation::ReadUncommitted {
            aborted.clear();
        }
        aborted.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self { ahead: aborted, active: HashSet::new() }
    }

    fn passes(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Batch(batch) => self.passes_batch(batch),
            // Transactions came with format v2.
            Entry::Legacy(_) => true,
        }
    }

    fn passes_batch(&mut self, batch: &Batch) -> bool {
        let header = batch.header();
        let last_offset = header.last_offset();
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= last_offset) {
            self.active.insert(next.producer_id);
        }
        if header.attributes.is_control() {
            if batch.marker() == Some(Marker::Abort) {
                self.active.remove(&header.producer_id);
            }
            return false;
        }
        !(header.attributes.is_transactional() && self.active.contains(&header.producer_id))
    }
}
