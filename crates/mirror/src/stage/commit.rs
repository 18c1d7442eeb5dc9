//! The last stage: what has been acknowledged becomes a position. One [`Tracker`] per source
//! partition and generation.
//!
//! Always true, and asserted in release:
//! - the position is the lowest source offset that is not acknowledged: a contiguous prefix;
//! - it never goes back;
//! - a span is acknowledged no more often than it has parcels.

use std::collections::{BTreeMap, VecDeque};

/// A stretch of source offsets that was routed together: everything from the previous span's end to
/// its `next_offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

/// Follows the acknowledgements of one source partition.
#[derive(Debug)]
pub(crate) struct Tracker {
    position: i64,
    routed: i64,
    first: u64,
    /// What is before it can no longer be read.
    floor: Span,
    open: VecDeque<Open>,
    open_bytes: usize,
}

#[derive(Debug)]
struct Open {
    next_offset: i64,
    parcels: u32,
    parcels_left: u32,
    bytes: usize,
}

impl Tracker {
    /// Starts at `position`: everything before it is done.
    pub(crate) fn new(position: i64) -> Tracker {
        Tracker {
            position,
            routed: position,
            first: 0,
            floor: Span(0),
            open: VecDeque::new(),
            open_bytes: 0,
        }
    }

    /// Notes that everything up to `next_offset` (exclusive) has been routed into `parcels` parcels
    /// of `bytes`. With none of them (records that are not mirrored, markers) the span is done at
    /// once.
    ///
    /// # Panics
    /// When `next_offset` goes back: a bug of ours that would lose or skip records.
    pub(crate) fn track(&mut self, next_offset: i64, parcels: u32, bytes: usize) -> Span {
        assert!(
            next_offset >= self.routed,
            "invariant: routed up to {} and now back to {next_offset}",
            self.routed
        );
        self.routed = next_offset;
        let span = self.end();
        self.open.push_back(Open { next_offset, parcels, parcels_left: parcels, bytes });
        self.open_bytes += bytes;
        self.advance();
        span
    }

    /// Notes that one parcel of `span` is written at the destination. True when the position
    /// advanced.
    ///
    /// # Panics
    /// When the span has no parcel left: a bug of ours.
    pub(crate) fn acknowledge(&mut self, span: Span) -> bool {
        let open = span
            .0
            .checked_sub(self.first)
            .and_then(|index| self.open.get_mut(usize::try_from(index).ok()?));
        let open =
            open.expect("invariant: a span stays open until its last parcel is acknowledged");
        open.parcels_left =
            open.parcels_left.checked_sub(1).expect("invariant: one acknowledgement per parcel");
        self.advance()
    }

    /// Notes that what has been routed can no longer be read: it is never forgotten by
    /// [`Tracker::cut`].
    pub(crate) fn keep(&mut self) {
        self.floor = self.end();
    }

    /// Forgets the latest spans of which no parcel was written or is under way, so that they can be
    /// read again: `waiting` has the spans of each parcel that is neither, not even in part. Says
    /// the first forgotten one, if any; parcels of it and of later ones must be dropped. What was
    /// [kept](Tracker::keep) stays.
    pub(crate) fn cut(&mut self, waiting: &[&[Span]]) -> Option<Span> {
        let mut counts: BTreeMap<Span, u32> = BTreeMap::new();
        for span in waiting.iter().copied().flatten() {
            *counts.entry(*span).or_default() += 1;
        }
        let end = self.end();
        let is_untouched = |(index, open): &(usize, &Open)| {
            let span = Span(self.first + *index as u64);
            span >= self.floor && counts.get(&span).copied().unwrap_or(0) == open.parcels
        };
        let untouched = self.open.iter().enumerate().rev().take_while(is_untouched).count();
        let mut cut = Span(end.0 - untouched as u64);
        // A parcel that was merged of several stays if one of its spans does.
        let straddles = |cut: Span, spans: &[Span]| {
            spans.iter().any(|span| *span < cut) && spans.iter().any(|span| *span >= cut)
        };
        while let Some(spans) = waiting.iter().find(|spans| straddles(cut, spans)) {
            cut = spans.iter().max().map_or(end, |last| Span(last.0 + 1));
        }
        if cut == end {
            return None;
        }
        let kept = usize::try_from(cut.0 - self.first).unwrap_or(usize::MAX);
        self.open_bytes -= self.open.drain(kept..).map(|open| open.bytes).sum::<usize>();
        self.routed = self.open.back().map_or(self.position, |open| open.next_offset);
        Some(cut)
    }

    /// The next source offset to mirror after a restart: everything before it is acknowledged.
    pub(crate) fn position(&self) -> i64 {
        self.position
    }

    /// How far has been routed.
    pub(crate) fn routed(&self) -> i64 {
        self.routed
    }

    /// Bytes routed and not acknowledged, up to whole spans.
    pub(crate) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// True when everything routed is acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// The span that comes next.
    fn end(&self) -> Span {
        Span(self.first + self.open.len() as u64)
    }

    fn advance(&mut self) -> bool {
        let before = self.position;
        while let Some(open) = self.open.front().filter(|open| open.parcels_left == 0) {
            assert!(open.next_offset >= self.position, "invariant: positions only go forward");
            self.position = open.next_offset;
            self.open_bytes -= open.bytes;
            self.open.pop_front();
            self.first += 1;
        }
        self.position > before
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_position_waits_for_the_lowest_unacknowledged_span() {
        let mut tracker = Tracker::new(5);
        let first = tracker.track(10, 1, 100);
        let second = tracker.track(20, 2, 50);
        assert!(!tracker.acknowledge(second));
        assert!(!tracker.acknowledge(second));
        assert_eq!((tracker.position(), tracker.open_bytes()), (5, 150));
        assert!(tracker.acknowledge(first));
        assert_eq!((tracker.position(), tracker.open_bytes()), (20, 0));
        assert!(tracker.is_settled());
    }

    #[test]
    fn a_span_without_parcels_waits_for_its_turn() {
        let mut tracker = Tracker::new(0);
        let first = tracker.track(3, 1, 0);
        tracker.track(9, 0, 0);
        assert_eq!((tracker.position(), tracker.routed()), (0, 9));
        tracker.acknowledge(first);
        assert_eq!(tracker.position(), 9);
    }

    #[test]
    #[should_panic(expected = "invariant")]
    fn going_back_is_refused_in_release_too() {
        let mut tracker = Tracker::new(7);
        tracker.track(6, 1, 0);
    }

    #[test]
    #[should_panic(expected = "invariant")]
    fn a_second_acknowledgement_of_one_parcel_is_refused() {
        let mut tracker = Tracker::new(0);
        let span = tracker.track(6, 1, 0);
        tracker.acknowledge(span);
        tracker.acknowledge(span);
    }

    #[test]
    fn what_was_not_handed_over_is_forgotten_from_the_end() {
        let mut tracker = Tracker::new(0);
        let spans: Vec<Span> = (1..=4).map(|offset| tracker.track(10 * offset, 2, 100)).collect();
        let [first, second, third, fourth] = spans[..] else { unreachable!() };
        assert!(!tracker.acknowledge(second));
        let both = |span: Span| [[span], [span]];
        let (third_twice, fourth_twice) = (both(third), both(fourth));
        let left_of_second = [second];
        let mut waiting: Vec<&[Span]> = vec![&left_of_second];
        waiting.extend(third_twice.iter().chain(&fourth_twice).map(|span| &span[..]));
        assert_eq!(tracker.cut(&waiting), Some(third));
        assert_eq!((tracker.position(), tracker.routed(), tracker.open_bytes()), (0, 20, 200));
        assert_eq!(tracker.track(25, 1, 7), third, "they are read again");
        for span in [first, first, second, third] {
            tracker.acknowledge(span);
        }
        assert_eq!((tracker.position(), tracker.open_bytes()), (25, 0));
    }

    #[test]
    fn a_merged_parcel_is_forgotten_whole_or_not_at_all() {
        let mut tracker = Tracker::new(0);
        let spans: Vec<Span> = (1..=4).map(|offset| tracker.track(10 * offset, 1, 1)).collect();
        // The first is under way alone; the next two were merged.
        assert_eq!(tracker.cut(&[&spans[1..3], &spans[3..]]), Some(spans[1]));
        let spans: Vec<Span> = (2..=4).map(|offset| tracker.track(10 * offset, 2, 1)).collect();
        // One of the first two spans' other parcels is under way.
        assert_eq!(
            tracker.cut(&[&spans[..2], &spans[1..2], &spans[2..], &spans[2..]]),
            Some(spans[2])
        );
        assert_eq!(tracker.routed(), 30);
    }

    #[test]
    fn what_can_no_longer_be_read_is_not_forgotten() {
        let mut tracker = Tracker::new(0);
        let before = tracker.track(10, 1, 1);
        // The source swept away everything before 50.
        tracker.track(50, 0, 0);
        tracker.keep();
        let behind = tracker.track(60, 1, 1);
        assert_eq!(tracker.cut(&[&[before], &[behind]]), Some(behind));
        assert_eq!((tracker.position(), tracker.routed()), (0, 50));
        assert_eq!(tracker.cut(&[&[before]]), None);
        assert!(tracker.acknowledge(before));
        assert_eq!(tracker.position(), 50);
        let next = tracker.track(60, 1, 1);
        assert_eq!(tracker.cut(&[&[next]]), Some(next), "that is read again as any other");
    }

    proptest! {
        /// Whatever the order of acknowledgements, the position is the end of the longest prefix of
        /// spans that are wholly acknowledged.
        #[test]
        fn the_position_is_the_contiguous_prefix(
            spans in prop::collection::vec((0_i64..5, 0_u32..4), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..160),
        ) {
            let mut tracker = Tracker::new(100);
            let mut offset = 100;
            let mut model = Vec::new();
            let mut parcels = Vec::new();
            for (length, count) in spans {
                offset += length;
                let span = tracker.track(offset, count, 1);
                parcels.extend((0..count).map(|_| (span, model.len())));
                model.push((offset, count));
            }
            let mut last = tracker.position();
            for index in order {
                if parcels.is_empty() {
                    break;
                }
                let (span, at) = parcels.swap_remove(index.index(parcels.len()));
                model[at].1 -= 1;
                let advanced = tracker.acknowledge(span);
                let done = model.iter().take_while(|(_, left)| *left == 0).last();
                let expected = done.map_or(100, |(offset, _)| *offset);
                prop_assert_eq!(tracker.position(), expected);
                prop_assert_eq!(advanced, expected > last);
                last = expected;
            }
            prop_assert_eq!(tracker.is_settled(), parcels.is_empty());
        }
    }
}
