//! CRC-32C: the checksum of record batches, and a digest for the names of slots.
//!
//! Private to the crate, and the only file that names whose code computes it (docs/adr/0006).
//! The tests and the fake cluster compute theirs with another crate, so that two
//! implementations check each other. Nothing here allocates.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
#[inline]
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of `head` with `rest` behind it.
pub(crate) fn checksum_of_two(head: &[u8], rest: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(rest);
    // A CRC of 32 bits in the type that also holds those of 64.
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around every size at which an implementation takes another way, from every
    /// alignment within a cache line.
    #[test]
    fn two_implementations_agree_at_every_length_and_alignment() {
        let bytes: Vec<u8> =
            (0..20_064u32).map(|at| (at.wrapping_mul(40_503) >> 7) as u8).collect();
        let lengths = (0..2_000).chain([4_095, 4_096, 4_097, 16_384, 20_000]);
        for length in lengths {
            for from in [0, 1, 7, 8, 21, 37, 61, 63] {
                let part = &bytes[from..from + length];
                assert_eq!(checksum(part), crc32c::crc32c(part), "{length} from {from}");
            }
        }
    }

    #[test]
    fn two_parts_have_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..3_000u32).map(|at| (at.wrapping_mul(40_503) >> 7) as u8).collect();
        for cut in [0, 1, 40, 256, 257, 2_960, 3_000] {
            let (head, rest) = bytes.split_at(cut);
            assert_eq!(checksum_of_two(head, rest), crc32c::crc32c(&bytes), "{cut}");
        }
    }
}
