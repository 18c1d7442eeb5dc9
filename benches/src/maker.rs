//! Makes the batches of a load, one after the other.

use kmirror_client::{
    batch::{Codec, Compressor, Levels, Outgoing, Record, rebuild::Builder},
    clock,
};

use crate::{
    Error,
    case::{Batching, Case},
    records::Values,
};

/// Which keys the records get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None.
    Null,
    /// So many, in turns.
    Cycle(u64),
    /// Every fourth record the same, which a later one supersedes; each other record its own.
    Superseded {
        /// Makes the keys of a thread its own.
        thread: u64,
    },
    /// All that of the superseded records.
    Last,
}

impl Keys {
    /// How many records must be made to have `kept` of them that nothing supersedes.
    pub(crate) fn made_for(kept: u64) -> u64 {
        kept + kept.saturating_sub(1) / 3
    }

    fn key(self, made: u64) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Cycle(keys) => Some(format!("key-{}", made % keys)),
            Self::Superseded { thread } if made % 4 != 3 => Some(format!("key-{thread}-{made}")),
            Self::Superseded { .. } | Self::Last => Some(SUPERSEDED.to_owned()),
        }
    }
}

/// Makes batches as the case wants them.
pub(crate) struct Maker {
    values: Values,
    builder: Builder,
    compressor: Compressor,
    batching: Batching,
    record_bytes: usize,
    keys: Keys,
    made: u64,
}

impl Maker {
    /// One that makes other values with another `seed`.
    ///
    /// # Errors
    /// When no batch of such records can be built.
    pub(crate) fn new(case: &Case, keys: Keys, seed: u64) -> Result<Self, Error> {
        let mut maker = Self {
            values: Values::new(case.record_bytes, seed),
            builder: Builder::new(case.codec),
            compressor: Compressor::new(Levels::default()),
            batching: case.batching,
            record_bytes: case.record_bytes,
            keys,
            made: 0,
        };
        if case.codec != Codec::None && case.batching != Batching::One {
            for _ in 0..LEARNING {
                maker.batch(u64::MAX)?;
            }
            maker.made = 0;
        }
        Ok(maker)
    }

    /// The next batch, of `records_max` records at most.
    pub(crate) fn batch(&mut self, records_max: u64) -> Result<Outgoing, Error> {
        loop {
            let key = self.keys.key(self.made);
            let key = key.as_ref().map(String::as_bytes);
            let record = Record::new(key, Some(self.values.next_value()));
            self.builder.push(&record.with_timestamp(clock::unix_ms()))?;
            self.made += 1;
            if self.is_full() || self.builder.records_count().unsigned_abs() as u64 >= records_max {
                let batch = self.builder.finish(&mut self.compressor);
                return Ok(batch.expect("invariant: a record was pushed"));
            }
        }
    }

    /// Whether one more record might be too much.
    fn is_full(&self) -> bool {
        match self.batching {
            Batching::One => true,
            Batching::Bytes(limit) => {
                let one_more = self.record_bytes + RECORD_OVERHEAD;
                self.builder.size_estimate() + one_more > limit
                    || self.builder.len_bytes_uncompressed() + one_more > UNCOMPRESSED_BYTES_MAX
            }
        }
    }
}

/// How many records are in a batch.
pub(crate) fn count(batch: &Outgoing) -> u64 {
    u64::from(batch.records_count().unsigned_abs())
}

/// The key of the superseded records.
const SUPERSEDED: &str = "superseded";
/// Batches left out at first with a codec: the builder has yet to learn how well it compresses.
const LEARNING: usize = 24;
/// What a record takes beside its value, at most, with the short keys used here.
const RECORD_OVERHEAD: usize = 48;
/// The largest batch before compression, so that one memory budget fits all.
const UNCOMPRESSED_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fourth_record_is_superseded_and_the_others_are_kept() {
        let keys = Keys::Superseded { thread: 3 };
        for kept in [0, 1, 2, 3, 4, 5, 6, 7, 1000] {
            let mut own = BTreeSet::new();
            for key in (0..Keys::made_for(kept)).filter_map(|made| keys.key(made)) {
                own.insert(key);
            }
            own.remove(SUPERSEDED);
            assert_eq!(own.len() as u64, kept);
        }
    }

    #[test]
    fn keys_come_in_turns() {
        let keys: Vec<_> = (0..3).filter_map(|made| Keys::Cycle(2).key(made)).collect();
        assert_eq!(keys, ["key-0", "key-1", "key-0"]);
        assert_eq!(Keys::Null.key(0), None);
    }
}
