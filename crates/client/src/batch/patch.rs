//! Changing bytes under a CRC-32C without reading what follows them.
//!
//! Private to [`batch`](crate::batch). A CRC is linear: if two messages of equal length differ
//! by `delta`, their checksums differ by the bare remainder of `delta`. `delta` is zero but for
//! a few bytes of the header, so its remainder is that of those bytes times `x^(8n)`, `n` being
//! the bytes behind them. The old checksum is never looked at again: where it did not match
//! its bytes, the new one does not match either, and the destination still finds out.

use super::header::{CRC_COVERED_FROM, LEN};
use crate::crc;

/// The reflected CRC-32C polynomial (Castagnoli).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1, reflected.
const ONE: u32 = 1 << 31;

/// Everything the patch may change lies before this byte: the record count stays.
const PATCHED_UNTIL: usize = 57;

/// `x^(8 * b * 256^k)` for each byte `k` of a length in bytes, `b` being its value.
static POWERS: [[u32; 256]; 4] = powers();

/// Multiplication by `x^(8n)`: what `n` more bytes do to a remainder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shift(u32);

impl Shift {
    /// The shift over the record count and `payload_len` bytes of records, which together
    /// follow everything the patch may change. One multiplication for each byte of the length
    /// but the first: about 100 cycles each.
    pub(super) fn over_payload(payload_len: usize) -> Self {
        Self::over(payload_len + (LEN - PATCHED_UNTIL))
    }

    fn over(bytes: usize) -> Self {
        debug_assert!(u32::try_from(bytes).is_ok(), "a batch is shorter than 4 GiB");
        let [first, bytes @ ..] = (bytes as u32).to_le_bytes();
        let mut product = POWERS[0][usize::from(first)];
        for (byte, powers) in bytes.into_iter().zip(&POWERS[1..]) {
            if byte != 0 {
                product = multiply(product, powers[usize::from(byte)]);
            }
        }
        Self(product)
    }

    /// The checksum of the batch that begins with `new`, `crc` being the one of the batch that
    /// begins with `old`. The two may differ anywhere but in the record count; what differs
    /// before the checksummed bytes does not matter.
    pub(super) fn patched(self, crc: u32, old: &[u8; LEN], new: &[u8; LEN]) -> u32 {
        debug_assert_eq!(old[PATCHED_UNTIL..], new[PATCHED_UNTIL..]);
        let covered = CRC_COVERED_FROM..PATCHED_UNTIL;
        // What a CRC adds of its own depends on the length alone, so it falls out of the
        // difference of two.
        let delta = crc::checksum(&old[covered.clone()]) ^ crc::checksum(&new[covered]);
        crc ^ multiply(delta, self.0)
    }
}

/// `a * b` modulo the polynomial, in reflected representation. Without branches, so that it
/// costs the same for all operands: about 100 cycles.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut left = a;
    let mut right = b;
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        product ^= right & 0u32.wrapping_sub(left >> 31);
        left <<= 1;
        right = (right >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(right & 1));
        bit += 1;
    }
    product
}

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    // x^8, and for each byte of the length the 256th power of the one before.
    let mut power = ONE >> 8;
    let mut index = 0;
    while index < 4 {
        let mut value = 1;
        while value < 256 {
            table[index][value] = multiply(table[index][value - 1], power);
            value += 1;
        }
        power = multiply(table[index][255], power);
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covered_crc(header: &[u8; LEN], payload: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&header[CRC_COVERED_FROM..]), payload)
    }

    proptest! {
        #[test]
        fn the_patched_checksum_is_the_recomputed_one(
            old in proptest::array::uniform32(any::<u8>()),
            changed in proptest::collection::vec((0..PATCHED_UNTIL, any::<u8>()), 0..40),
            payload in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let mut before = [0; LEN];
            before[20..52].copy_from_slice(&old);
            let mut after = before;
            for (at, byte) in changed {
                after[at] = byte;
            }
            let patched = Shift::over_payload(payload.len())
                .patched(covered_crc(&before, &payload), &before, &after);
            prop_assert_eq!(patched, covered_crc(&after, &payload));
        }
    }

    #[test]
    fn long_payloads_shift_right() {
        for len in [1 << 20, (1 << 24) - 1, (1 << 24) + 1] {
            let payload = vec![0xa7; len];
            let before = [1; LEN];
            let mut after = before;
            after[43..57].fill(9);
            let patched =
                Shift::over_payload(len).patched(covered_crc(&before, &payload), &before, &after);
            assert_eq!(patched, covered_crc(&after, &payload), "{len}");
        }
    }

    #[test]
    fn a_checksum_that_was_wrong_stays_wrong() {
        let before = [1; LEN];
        let mut after = before;
        after[50] = 7;
        let wrong = covered_crc(&before, b"records") ^ 0x10;
        let patched = Shift::over_payload(7).patched(wrong, &before, &after);
        assert_eq!(patched ^ covered_crc(&after, b"records"), 0x10);
    }
}
