//! The producer's state against a model of a cluster, in virtual time and with seeded chance.

mod cases;
mod model;
mod queue;
mod state;
mod wakes;
mod world;

use std::ops::Range;

use super::entry::Batch;

/// A batch of the tests: which records it stands for, and how many numbers it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    ids: Range<u32>,
    sequences: i32,
    is_too_large: bool,
}

impl Item {
    fn new(ids: Range<u32>) -> Self {
        let sequences = i32::try_from(ids.len()).expect("few");
        Self { ids, sequences, is_too_large: false }
    }
}

impl Batch for Item {
    fn records_count(&self) -> i32 {
        self.sequences
    }

    fn len_bytes(&self) -> usize {
        100 * self.ids.len()
    }

    fn version_min(&self) -> i16 {
        3
    }
}

/// Chance from a seed (xorshift64*).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).expect("31 bits") % limit.max(1)
    }

    fn chance(&mut self, in_a_thousand: u32) -> bool {
        self.below(1000) < in_a_thousand as usize
    }
}
