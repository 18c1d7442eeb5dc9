//! Which batches are small for the distance of their leader. Pure.
//!
//! A partition has at most five batches under way, so over a link of 50 ms batches of 16 KiB are
//! 1.6 MB/s, however fast the link: what waits behind them is merged into larger ones. The distance
//! is that of the shortest answer: acknowledgements of a broker that is busy wait in line, and
//! larger batches would not help there.

use std::time::Duration;

use kmirror_client::connection::RoundTrip;

/// The bytes per second that a stream wants under way, over all its partitions together. About what
/// one thread can copy and send.
const BYTES_PER_SECOND: f64 = 512e6;

/// Batches of fewer bytes would not fill the link to a leader `round_trip` away, with `under_way`
/// of them in all. One that is not [far](RoundTrip::FAR) has enough under way with batches as they
/// are.
pub(super) fn small_bytes(round_trip: Duration, under_way: usize) -> usize {
    if round_trip < RoundTrip::FAR {
        return 0;
    }
    let bytes = round_trip.as_secs_f64() * BYTES_PER_SECOND;
    // No more than fits into usize: that is where a cast from a float stops.
    bytes as usize / under_way.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_long_link_a_lone_partition_merges_up_to_large_batches() {
        let round_trip = Duration::from_millis(50);
        assert!(small_bytes(round_trip, 5) > 4 << 20);
        assert!(small_bytes(round_trip, 500) < 64 << 10, "many fill the link as they are");
    }

    #[test]
    fn nearby_nothing_is_merged_on_account_of_the_distance() {
        assert_eq!(small_bytes(Duration::from_millis(2), 1), 0);
        assert!(small_bytes(Duration::MAX, 0) > 0);
    }
}
