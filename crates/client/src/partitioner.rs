//! Choosing a partition the way Kafka's Java producer does.
//!
//! Owned by the client crate; pure. A key always goes to the partition that
//! `BuiltInPartitioner.partitionForKey` of Kafka chooses, so that a mirrored topic can be
//! written by Java producers as well and keys stay together.

use std::num::NonZeroU32;

/// Kafka's murmur2 hash of `data` (`Utils.murmur2`).
///
/// ```
/// assert_eq!(kmirror_client::partitioner::murmur2(b"foobar"), -790_332_482);
/// ```
#[must_use]
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Kafka's keys are shorter than 2 GiB; the hash takes the length modulo 2^32.
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a topic with `partition_count` partitions that a record of that key goes
/// to.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use kmirror_client::partitioner::partition_for_key;
///
/// let twelve = NonZeroU32::new(12).unwrap();
/// assert_eq!(partition_for_key(b"foobar", twelve), partition_for_key(b"foobar", twelve));
/// ```
#[must_use]
pub fn partition_for_key(key: &[u8], partition_count: NonZeroU32) -> i32 {
    let positive = (murmur2(key) & i32::MAX) as u32;
    (positive % partition_count) as i32
}

/// Spreads records without a key: all of one batch to one partition, the next batch to the
/// next, which is what Kafka's producer does since KIP-480 and keeps batches whole.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use kmirror_client::partitioner::KeylessSpreader;
///
/// let three = NonZeroU32::new(3).unwrap();
/// let mut spreader = KeylessSpreader::starting_at(1);
/// assert_eq!(spreader.partition(three), 1);
/// spreader.next_batch();
/// spreader.next_batch();
/// assert_eq!(spreader.partition(three), 0);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct KeylessSpreader {
    batches: u32,
}

impl KeylessSpreader {
    /// A spreader whose first batch goes to partition `first` modulo their number. Give each
    /// source partition its own, starting at its number, and they do not all begin at one.
    #[must_use]
    pub const fn starting_at(first: u32) -> Self {
        Self { batches: first }
    }

    /// Where records without a key of this batch go.
    #[must_use]
    pub const fn partition(&self, partition_count: NonZeroU32) -> i32 {
        (self.batches % partition_count.get()) as i32
    }

    /// Begins the next batch.
    pub const fn next_batch(&mut self) {
        self.batches = self.batches.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kafkas() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_and_not_its_magnitude() {
        let count = NonZeroU32::new(100).unwrap();
        // -790332482 & 0x7fffffff = 1357151166
        assert_eq!(partition_for_key(b"foobar", count), 66);
        assert_eq!(partition_for_key(b"abc", count), 7);
    }

    #[test]
    fn a_divisor_of_the_count_keeps_keys_together() {
        let twelve = NonZeroU32::new(12).unwrap();
        let four = NonZeroU32::new(4).unwrap();
        for key in 0..1000u32 {
            let key = key.to_string();
            let wide = partition_for_key(key.as_bytes(), twelve);
            assert_eq!(wide % 4, partition_for_key(key.as_bytes(), four));
        }
    }

    #[test]
    fn the_spreader_goes_around_without_end() {
        let count = NonZeroU32::new(3).unwrap();
        let mut spreader = KeylessSpreader::starting_at(u32::MAX);
        assert!((0..3).contains(&spreader.partition(count)));
        spreader.next_batch();
        assert_eq!(spreader.partition(count), 0);
    }
}
