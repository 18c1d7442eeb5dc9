//! What arrived of one measurement, and how late. Pure.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use super::stamp::{PROBE, Stamp};

/// What has arrived.
#[derive(Debug)]
pub(super) struct Tally {
    turn: u32,
    /// How late each record came, by its number.
    late: Vec<Option<Duration>>,
    arrived: u32,
    twice: u64,
    /// When the first record or probe came, since the moment that stamps count from.
    first: Option<Duration>,
    /// The partitions that a probe came through.
    open: BTreeSet<i32>,
}

impl Tally {
    /// Nothing of the `count` records of that measurement yet.
    pub(super) fn new(turn: u32, count: u32) -> Self {
        let late = vec![None; count as usize];
        Self { turn, late, arrived: 0, twice: 0, first: None, open: BTreeSet::new() }
    }

    /// A record came. Those of other measurements are left aside.
    pub(super) fn enter(&mut self, stamp: Stamp, partition: i32, now: Duration) {
        if stamp.turn != self.turn {
            return;
        }
        self.first.get_or_insert(now);
        if stamp.number == PROBE {
            self.open.insert(partition);
            return;
        }
        match self.late.get_mut(stamp.number as usize) {
            Some(late @ None) => {
                *late = Some(now.saturating_sub(stamp.due));
                self.arrived += 1;
            }
            Some(Some(_)) => self.twice += 1,
            None => {}
        }
    }

    /// How many partitions a probe came through.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// When the first of all came.
    pub(super) fn first(&self) -> Option<Duration> {
        self.first
    }

    /// Whether every record came.
    pub(super) fn is_complete(&self) -> bool {
        self.arrived as usize == self.late.len()
    }

    /// How late the records of `window` were; missing and twice count all records.
    pub(super) fn delays(&self, window: std::ops::Range<u32>) -> Delays {
        let window = window.start as usize..window.end as usize;
        let mut late: Vec<Duration> =
            self.late.get(window).unwrap_or_default().iter().flatten().copied().collect();
        late.sort_unstable();
        let at = |share: f64| milliseconds(quantile(&late, share));
        Delays {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: at(1.0),
            records: late.len() as u64,
            missing: self.late.len() as u64 - u64::from(self.arrived),
            twice: self.twice,
        }
    }
}

/// How late records were.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Delays {
    /// Half of them were not later than this, in milliseconds.
    pub(super) p50_ms: Option<f64>,
    /// 99 of 100.
    pub(super) p99_ms: Option<f64>,
    /// 999 of 1000.
    pub(super) p999_ms: Option<f64>,
    /// The latest.
    pub(super) max_ms: Option<f64>,
    /// Of how many records this was measured.
    pub(super) records: u64,
    /// Records that never came, also of those sent before the window.
    pub(super) missing: u64,
    /// Records that came again.
    pub(super) twice: u64,
}

/// The smallest of `sorted` that at least that share of them does not exceed.
pub(super) fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length is a length"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

pub(super) fn milliseconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn stamp(turn: u32, number: u32) -> Stamp {
        Stamp { due: ms(u64::from(number)), turn, number }
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let sorted: Vec<Duration> = (1..=1000).map(ms).collect();
        assert_eq!(quantile(&sorted, 0.5), Some(ms(500)));
        assert_eq!(quantile(&sorted, 0.99), Some(ms(990)));
        assert_eq!(quantile(&sorted, 0.999), Some(ms(999)));
        assert_eq!(quantile(&sorted, 1.0), Some(ms(1000)));
        assert_eq!(quantile(&sorted[..1], 0.5), Some(ms(1)));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn what_is_missing_or_comes_twice_is_counted() {
        let mut tally = Tally::new(3, 10);
        for number in [0, 1, 2, 3, 4, 5, 6, 7, 8] {
            tally.enter(stamp(3, number), 0, ms(u64::from(number) + 2));
        }
        tally.enter(stamp(3, 8), 0, ms(500));
        tally.enter(stamp(2, 9), 0, ms(500));
        assert!(!tally.is_complete());
        let delays = tally.delays(5..10);
        assert_eq!((delays.records, delays.missing, delays.twice), (4, 1, 1));
        assert_eq!((delays.p50_ms, delays.max_ms), (Some(2.0), Some(2.0)));
        tally.enter(stamp(3, 9), 0, ms(100));
        assert!(tally.is_complete());
        assert_eq!(tally.delays(5..10).max_ms, Some(91.0));
    }

    #[test]
    fn probes_open_partitions_and_count_as_nothing_else() {
        let mut tally = Tally::new(1, 1);
        tally.enter(stamp(1, PROBE), 4, ms(7));
        tally.enter(stamp(1, PROBE), 4, ms(8));
        tally.enter(stamp(1, PROBE), 5, ms(9));
        assert_eq!((tally.open(), tally.first()), (2, Some(ms(7))));
        assert_eq!(tally.delays(0..1).missing, 1);
    }
}
