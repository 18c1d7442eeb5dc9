//! Records that say when they were due, and the schedule that says when each is. Pure.
//!
//! The schedule is open: when a record is due does not depend on how the earlier ones fare, and
//! its stamp is the time it was due, not the time it was sent. So a mirror, or a sender, that
//! stalls delays what comes meanwhile in the figures too (no coordinated omission).

use std::time::Duration;

/// What stands at the beginning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When it was due, since the moment that sender and receiver count from.
    pub(super) due: Duration,
    /// The measurement it belongs to; others' are left aside.
    pub(super) turn: u32,
    /// Which record of the measurement; [`PROBE`] for those that only ask whether the way is open.
    pub(super) number: u32,
}

/// The number of records that are sent before the measurement begins.
pub(super) const PROBE: u32 = u32::MAX;
/// How much of a value a stamp takes.
pub(super) const STAMP_BYTES: usize = 16;

impl Stamp {
    /// Writes the stamp over the beginning of `value`, which has room for it.
    pub(super) fn write(self, value: &mut [u8]) {
        let nanoseconds = u64::try_from(self.due.as_nanos()).unwrap_or(u64::MAX);
        value[..8].copy_from_slice(&nanoseconds.to_be_bytes());
        value[8..12].copy_from_slice(&self.turn.to_be_bytes());
        value[12..STAMP_BYTES].copy_from_slice(&self.number.to_be_bytes());
    }

    /// Reads the stamp of `value`, if it is long enough to have one.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let (due, rest) = value.split_first_chunk()?;
        let (turn, rest) = rest.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        Some(Self {
            due: Duration::from_nanos(u64::from_be_bytes(*due)),
            turn: u32::from_be_bytes(*turn),
            number: u32::from_be_bytes(*number),
        })
    }
}

/// When records are due and where they go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Records in a second; not 0.
    pub(super) rate: u32,
    /// How long before the window records are sent, in seconds.
    pub(super) warm_up: u32,
    /// The length of the window, in seconds.
    pub(super) seconds: u32,
    /// How many partitions there are; not 0.
    pub(super) partitions: u32,
    /// How the partitions take turns.
    pub(super) order: Order,
}

/// Which partition is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One after the other.
    Turns,
    /// Any.
    Scattered,
}

impl Schedule {
    /// How many records there are.
    pub(super) fn count(&self) -> u32 {
        self.rate.saturating_mul(self.warm_up.saturating_add(self.seconds)).min(PROBE - 1)
    }

    /// Those that are due within the window.
    pub(super) fn window(&self) -> std::ops::Range<u32> {
        self.rate.saturating_mul(self.warm_up).min(self.count())..self.count()
    }

    /// When record `number` is due, since the first.
    pub(super) fn due(&self, number: u32) -> Duration {
        Duration::from_nanos(u64::from(number) * 1_000_000_000 / u64::from(self.rate))
    }

    /// To which partition record `number` goes.
    pub(super) fn partition(&self, number: u32) -> u32 {
        match self.order {
            Order::Turns => number % self.partitions,
            Order::Scattered => {
                // The upper half of a multiplication by the golden ratio is as good as random.
                let mixed = u64::from(number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let upper = u32::try_from(mixed >> 32).expect("invariant: half of 64 bits");
                upper % self.partitions
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(order: Order) -> Schedule {
        Schedule { rate: 1000, warm_up: 5, seconds: 20, partitions: 8, order }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp { due: Duration::from_nanos(12_345_678_901), turn: 7, number: 42 };
        let mut value = vec![b'x'; 100];
        stamp.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(stamp));
        assert_eq!(Stamp::read(&value[..STAMP_BYTES]), Some(stamp));
        assert_eq!(Stamp::read(&value[..STAMP_BYTES - 1]), None);
    }

    #[test]
    fn records_are_due_evenly() {
        let schedule = schedule(Order::Turns);
        assert_eq!((schedule.count(), schedule.window()), (25_000, 5_000..25_000));
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(5_000), Duration::from_secs(5));
        assert_eq!(schedule.due(1) - schedule.due(0), schedule.due(24_999) - schedule.due(24_998));
    }

    #[test]
    fn every_partition_has_its_turn() {
        for order in [Order::Turns, Order::Scattered] {
            let schedule = schedule(order);
            let mut counts = [0; 8];
            for number in 0..8_000 {
                counts[schedule.partition(number) as usize] += 1;
            }
            assert!(counts.iter().all(|count| (900..=1_100).contains(count)), "{counts:?}");
        }
    }
}
