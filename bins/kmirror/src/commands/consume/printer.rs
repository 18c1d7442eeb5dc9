//! Prints what was fetched, up to a number of records.

use kmirror_client::batch::{Decompressor, Entry, Record, TimestampType};
use kmirror_client::fetch::Fetched;

use crate::exit::Failure;
use crate::output;
use crate::text::writer::{LineWriter, Of};

/// The largest batch that is unpacked, decompressed.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// Prints records and counts them.
pub(crate) struct Printer {
    writer: LineWriter,
    decompressor: Decompressor,
    out: Vec<u8>,
    count: u64,
    max: Option<u64>,
}

/// Whether anything was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    Some,
    None,
}

impl Printer {
    /// One that prints at most `max` records.
    pub(crate) fn new(writer: LineWriter, max: Option<u64>) -> Self {
        let decompressor = Decompressor::new(BATCH_BYTES_MAX);
        Self { writer, decompressor, out: Vec::new(), count: 0, max }
    }

    /// How many were printed.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether no more may be printed.
    pub(crate) fn is_done(&self) -> bool {
        self.max.is_some_and(|max| self.count >= max)
    }

    /// Prints an answer's records; gives the offset after the last one that was printed or that
    /// there was nothing to print of.
    pub(crate) fn print(&mut self, fetched: &Fetched) -> Result<(Printed, i64), Failure> {
        let before = self.count;
        let mut next_offset = fetched.next_offset;
        for entry in &fetched.entries {
            if let Some(stopped_at) = self.entry(entry, fetched)? {
                next_offset = stopped_at;
                break;
            }
        }
        self.flush()?;
        let printed = if self.count > before { Printed::Some } else { Printed::None };
        Ok((printed, next_offset))
    }

    /// Writes what was gathered to standard output.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let outcome = output::raw(&self.out);
        self.out.clear();
        outcome
    }

    /// Gives the offset to go on with when the number of records is reached within the entry.
    fn entry(&mut self, entry: &Entry, fetched: &Fetched) -> Result<Option<i64>, Failure> {
        let mut lines = Lines {
            writer: &self.writer,
            out: &mut self.out,
            count: &mut self.count,
            max: self.max.unwrap_or(u64::MAX),
            first_offset: fetched.fetch_offset,
            of: Of {
                partition: fetched.partition.partition,
                leader_epoch: -1,
                timestamp_type: TimestampType::CreateTime,
            },
        };
        match entry {
            Entry::Batch(batch) => {
                let header = batch.header();
                lines.of.leader_epoch = header.partition_leader_epoch;
                lines.of.timestamp_type = header.attributes.timestamp_type();
                let records = batch.records(&mut self.decompressor).map_err(Failure::runtime)?;
                for record in records {
                    if let Some(stopped_at) = lines.record(&record.map_err(Failure::runtime)?) {
                        return Ok(Some(stopped_at));
                    }
                }
            }
            Entry::Legacy(set) => {
                let records = set.records(&mut self.decompressor).map_err(Failure::runtime)?;
                for record in records {
                    if let Some(stopped_at) = lines.record(&record.map_err(Failure::runtime)?) {
                        return Ok(Some(stopped_at));
                    }
                }
            }
        }
        Ok(None)
    }
}

struct Lines<'printer> {
    writer: &'printer LineWriter,
    out: &'printer mut Vec<u8>,
    count: &'printer mut u64,
    max: u64,
    first_offset: i64,
    of: Of,
}

impl Lines<'_> {
    /// A batch may begin before the offset that was asked for.
    fn record(&mut self, record: &Record<'_>) -> Option<i64> {
        if record.offset < self.first_offset {
            return None;
        }
        if *self.count >= self.max {
            return Some(record.offset);
        }
        self.writer.write(record, self.of, self.out);
        *self.count += 1;
        None
    }
}
