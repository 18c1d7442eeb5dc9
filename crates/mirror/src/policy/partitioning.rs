//! To which destination partition the records of a source partition go. In every mode all records
//! of one key from one source partition go to one destination partition, in their order.

use std::num::NonZeroU32;

use kmirror_client::partitioner::partition_for_key;

/// The operator's choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partitioning {
    /// The same partition number when both topics have the same count, [`KeyHash`](Self::KeyHash)
    /// otherwise.
    #[default]
    Auto,
    /// By the key's murmur2 hash, exactly as Kafka's default partitioner does; records without a
    /// key are spread batch by batch.
    KeyHash,
    /// Always the same partition number. The destination topic is grown when it has fewer
    /// partitions.
    Preserve,
}

/// What the choice comes to for one source partition, given both counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mapping {
    /// Every record goes to this partition; no key need be read.
    Fixed(i32),
    /// Every record goes where its key says, among this many partitions.
    Keys(i32),
    /// There is no such partition at the destination (yet): nothing may be fetched.
    Missing,
}

/// The facts [`Partitioning::mapping`] needs.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Partitions of the source topic.
    pub source: i32,
    /// Partitions of the destination topic.
    pub destination: i32,
    /// The operator says that the source's producers used Kafka's default partitioner for every
    /// record.
    pub source_is_murmur2: bool,
}

impl Partitioning {
    /// Where the records of source partition `partition` go.
    ///
    /// The count of the destination dividing the source's lets a whole partition keep together,
    /// since `(h mod s) mod d = h mod d` when `d` divides `s`; but only if the source's producers
    /// hashed keys as Kafka's default partitioner does. A batch does not say who chose its
    /// partition (librdkafka hashes with CRC-32, Sarama with FNV), so this is used on the
    /// operator's word alone; without it keys are read, and batches that turn out to have one
    /// destination still pass through whole.
    pub fn mapping(self, partition: i32, counts: Counts) -> Mapping {
        let Counts { source, destination, source_is_murmur2 } = counts;
        if destination <= 0 {
            return Mapping::Missing;
        }
        let same = || {
            if partition < destination { Mapping::Fixed(partition) } else { Mapping::Missing }
        };
        match self {
            Partitioning::Preserve => same(),
            Partitioning::Auto if source == destination => same(),
            Partitioning::Auto | Partitioning::KeyHash => {
                if destination == 1 {
                    Mapping::Fixed(0)
                } else if source_is_murmur2 && source > 0 && source % destination == 0 {
                    Mapping::Fixed(partition % destination)
                } else {
                    Mapping::Keys(destination)
                }
            }
        }
    }
}

/// The partition of a record with a key among `count`, as Kafka's Java producer chooses it.
pub fn for_key(key: &[u8], count: i32) -> i32 {
    let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
    count.map_or(0, |count| partition_for_key(key, count))
}

/// The partition for the records without a key of one batch among `count`: spread evenly, and the
/// same again when the batch is fetched again.
pub fn for_batch(source_partition: i32, base_offset: i64, count: i32) -> i32 {
    // splitmix64's finaliser: base offsets often advance in steps that share factors with `count`.
    let mut mixed = (base_offset as u64) ^ ((source_partition as u64) << 48);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    i32::try_from(mixed % u64::from(count.max(1).unsigned_abs())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(source: i32, destination: i32, source_is_murmur2: bool) -> Counts {
        Counts { source, destination, source_is_murmur2 }
    }

    #[test]
    fn auto_keeps_the_number_only_when_the_counts_are_equal() {
        let auto = Partitioning::Auto;
        assert_eq!(auto.mapping(5, counts(8, 8, false)), Mapping::Fixed(5));
        assert_eq!(auto.mapping(5, counts(8, 12, false)), Mapping::Keys(12));
        assert_eq!(auto.mapping(5, counts(12, 4, false)), Mapping::Keys(4));
    }

    #[test]
    fn preserve_waits_for_a_partition_that_does_not_exist() {
        assert_eq!(Partitioning::Preserve.mapping(9, counts(12, 8, false)), Mapping::Missing);
        assert_eq!(Partitioning::Preserve.mapping(7, counts(12, 8, false)), Mapping::Fixed(7));
        assert_eq!(Partitioning::Auto.mapping(0, counts(1, 0, false)), Mapping::Missing);
    }

    #[test]
    fn the_divisor_shortcut_needs_the_operators_word() {
        let auto = Partitioning::Auto;
        assert_eq!(auto.mapping(9, counts(12, 4, true)), Mapping::Fixed(1));
        assert_eq!(auto.mapping(9, counts(12, 5, true)), Mapping::Keys(5));
        assert_eq!(auto.mapping(9, counts(4, 12, true)), Mapping::Keys(12));
        assert_eq!(Partitioning::KeyHash.mapping(3, counts(8, 8, false)), Mapping::Keys(8));
        assert_eq!(Partitioning::KeyHash.mapping(3, counts(8, 8, true)), Mapping::Fixed(3));
    }

    #[test]
    fn batches_without_keys_are_spread_over_all_partitions() {
        let mut seen = [0_u32; 12];
        for batch in 0..1200 {
            let partition = for_batch(3, batch * 96, 12);
            seen[usize::try_from(partition).unwrap()] += 1;
        }
        assert!(seen.iter().all(|count| (50..=200).contains(count)), "{seen:?}");
    }

    proptest! {
        #[test]
        fn the_divisor_shortcut_agrees_with_the_hash(
            key in proptest::collection::vec(any::<u8>(), 0..64),
            destination in 1_i32..40,
            factor in 1_i32..9,
        ) {
            let source = destination * factor;
            let at_source = for_key(&key, source);
            let expected = for_key(&key, destination);
            let mapping = Partitioning::Auto.mapping(at_source, counts(source, destination, true));
            prop_assert_eq!(mapping, Mapping::Fixed(expected));
        }
    }
}
