//! Memory for answers, and for batches made of them, used again rather than asked of the system
//! each time: a block of several MiB is mapped, faulted in page by page and unmapped again each
//! time otherwise. Owned by a [`Budget`](crate::budget::Budget), or by a
//! builder of batches that has none.
//!
//! A [`Buffer`] is filled and becomes [`Bytes`](bytes::Bytes); when the last slice of them is
//! dropped, wherever that is, the memory comes back here.
//!
//! Always true:
//! - what is kept idle and what is in use are together no more than the limit; only what is in use
//!   may be more, and then little is kept beside it ([`SPARE_PART`]);
//! - what is in use is counted whatever its size; what is small is not kept;
//! - a buffer that is used again is at most a quarter larger than what it is taken for;
//! - what is large and not kept is the system's again at once (docs/adr/0007).
//!
//! Bounds: [`IDLE_MAX`] idle buffers, none of them idle for longer than [`IDLE_FOR_MAX`] while
//! answers come; the limit for their bytes.

mod buffer;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
pub(crate) use buffer::Buffer;
use buffer::Memory;

/// What is smaller comes from the allocator, which has such blocks at hand.
const LARGE_BYTES_MIN: usize = 16 << 10;

/// The most mappings that fit into the limit. Linux grants a process 65,530 unless told otherwise
/// (`vm.max_map_count`).
const MAPPINGS_MAX: usize = 1 << 15;

/// Room is made in this many steps between a power of two and the next, so that a buffer serves
/// for others of nearly its size.
const STEPS: usize = 32;

/// This part of what is leased may be kept idle beside more in use than the limit. Answers and the
/// batches made of them are in use at once while they are made: then each batch that is written
/// would be given to the system, and the next one faulted in page by page.
const SPARE_PART: usize = 16;

/// The most buffers that are kept idle.
const IDLE_MAX: usize = 256;

/// How long a buffer is kept idle.
const IDLE_FOR_MAX: Duration = Duration::from_secs(10);

/// Buffers to be used again. Cheap to clone; clones share the one store.
#[derive(Clone)]
pub(crate) struct Buffers {
    store: Arc<Store>,
}

struct Store {
    limit: usize,
    /// What may be kept idle even if what is in use is more than the limit.
    spare: usize,
    /// Buffers of at least so many bytes are pages of their own.
    pages_from: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that came back last is the last.
    idle: VecDeque<Idle>,
    idle_bytes: usize,
    used_bytes: usize,
}

struct Idle {
    memory: Memory,
    since: Instant,
}

impl Buffers {
    /// For answers of `leased` bytes in all. Keeps no more than that, in use and idle together, and
    /// what rounding adds to it: were it less, each buffer would be made anew whenever all of the
    /// budget is in use.
    pub(crate) fn new(leased: usize) -> Self {
        let limit = leased.saturating_add(leased / STEPS);
        let pages_from = LARGE_BYTES_MIN.max(limit / MAPPINGS_MAX);
        let spare = leased / SPARE_PART;
        Self { store: Arc::new(Store { limit, spare, pages_from, kept: Mutex::default() }) }
    }

    /// An empty buffer with room for `bytes`.
    pub(crate) fn take(&self, bytes: usize) -> Buffer {
        Buffer::of(self.store.give(bytes), Arc::clone(&self.store))
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.store.kept();
        f.debug_struct("Buffers")
            .field("used_bytes", &kept.used_bytes)
            .field("idle_bytes", &kept.idle_bytes)
            .finish_non_exhaustive()
    }
}

impl Store {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is idle as far as it takes to use `bytes` more.
    fn make_room(&self, kept: &mut Kept, bytes: usize) {
        let others = kept.used_bytes.saturating_add(bytes);
        kept.drop_down_to(self.limit.saturating_sub(others).max(self.spare));
    }

    /// Memory of at least `bytes`, counted as in use until it is given back.
    fn give(&self, bytes: usize) -> Memory {
        let mut kept = self.kept();
        kept.drop_stale(clock::now());
        let memory = kept.find(bytes).unwrap_or_else(|| {
            let room = rounded(bytes);
            self.make_room(&mut kept, room);
            Memory::new(room, self.pages_from)
        });
        kept.used_bytes += memory.len();
        memory
    }

    fn give_back(&self, memory: Memory) {
        let mut kept = self.kept();
        let bytes = memory.len();
        kept.used_bytes -= bytes;
        let idle_max = self.limit.saturating_sub(kept.used_bytes).max(self.spare);
        if bytes < LARGE_BYTES_MIN || bytes > idle_max {
            return;
        }
        // What came back last has the size that is wanted next.
        kept.drop_down_to(idle_max - bytes);
        if kept.idle.len() == IDLE_MAX {
            kept.drop_oldest();
        }
        kept.idle_bytes += bytes;
        kept.idle.push_back(Idle { memory, since: clock::now() });
    }
}

impl Kept {
    /// The smallest idle buffer that has room for `bytes` and is not much larger; of equals the one
    /// used last, which the processor's caches may still hold.
    fn find(&mut self, bytes: usize) -> Option<Memory> {
        let fits = bytes.max(LARGE_BYTES_MIN)..=bytes.saturating_add(bytes / 4);
        let fitting = self.idle.iter().enumerate().rev();
        let fitting = fitting.filter(|(_, idle)| fits.contains(&idle.memory.len()));
        let (place, _) = fitting.min_by_key(|(_, idle)| idle.memory.len())?;
        let Idle { memory, .. } = self.idle.remove(place)?;
        self.idle_bytes -= memory.len();
        Some(memory)
    }

    fn drop_down_to(&mut self, bytes: usize) {
        while self.idle_bytes > bytes {
            self.drop_oldest();
        }
    }

    fn drop_stale(&mut self, now: Instant) {
        while self.idle.front().is_some_and(|idle| idle.since + IDLE_FOR_MAX <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(Idle { memory, .. }) = self.idle.pop_front() {
            self.idle_bytes -= memory.len();
        }
    }
}

/// A little more than `bytes` if they are many, so that answers of nearly one size can share a
/// buffer.
fn rounded(bytes: usize) -> usize {
    if bytes < LARGE_BYTES_MIN {
        return bytes;
    }
    let step = 1 << (bytes.ilog2() as usize - STEPS.ilog2() as usize);
    bytes.checked_next_multiple_of(step).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use bytes::Bytes;

    use super::*;

    const MIB: usize = 1 << 20;

    fn idle(buffers: &Buffers) -> (usize, usize) {
        let kept = buffers.store.kept();
        (kept.idle.len(), kept.idle_bytes)
    }

    fn total(buffers: &Buffers) -> usize {
        let kept = buffers.store.kept();
        kept.used_bytes + kept.idle_bytes
    }

    fn filled(buffers: &Buffers, bytes: usize) -> Bytes {
        let mut buffer = buffers.take(bytes);
        buffer.extend_from_slice(&vec![7; bytes]);
        buffer.freeze()
    }

    #[test]
    fn a_buffer_comes_back_with_its_last_slice_and_is_used_again() {
        let buffers = Buffers::new(8 * MIB);
        let bytes = filled(&buffers, 2 * MIB);
        let place = bytes.as_ptr();
        let slice = bytes.slice(100..200);
        drop(bytes);
        assert_eq!(idle(&buffers).0, 0, "a slice is still there");
        assert_eq!(slice, vec![7; 100]);
        drop(slice);
        assert_eq!(idle(&buffers), (1, 2 * MIB));
        let again = filled(&buffers, 2 * MIB - 1000);
        assert_eq!(again.as_ptr(), place);
        assert_eq!((again.len(), idle(&buffers)), (2 * MIB - 1000, (0, 0)));
    }

    #[test]
    fn a_buffer_never_filled_comes_back_too() {
        let buffers = Buffers::new(8 * MIB);
        drop(buffers.take(MIB));
        assert_eq!(idle(&buffers), (1, MIB));
    }

    #[test]
    fn a_small_answer_does_not_hold_a_large_buffer() {
        let buffers = Buffers::new(64 * MIB);
        drop(filled(&buffers, 16 * MIB));
        let five = filled(&buffers, 5 * MIB);
        assert_eq!(idle(&buffers), (1, 16 * MIB));
        drop(five);
        let tiny = filled(&buffers, 1000);
        assert_eq!(total(&buffers), 21 * MIB + 1000);
        drop(tiny);
        assert_eq!(total(&buffers), 21 * MIB, "what is small is not kept");
    }

    #[test]
    fn a_buffer_that_grew_is_counted_as_it_is() {
        let buffers = Buffers::new(4 * MIB);
        drop(filled(&buffers, MIB));
        let mut buffer = buffers.take(10);
        buffer.extend_from_slice(&vec![1; 6 * MIB]);
        let bytes = buffer.freeze();
        assert_eq!(total(&buffers), 6 * MIB, "what was idle had to go");
        drop(bytes);
        assert_eq!(total(&buffers), 0, "it is more than may be kept");
    }

    #[test]
    fn what_is_idle_makes_room_for_what_is_needed() {
        let buffers = Buffers::new(10 * MIB);
        let three = [2 * MIB, 3 * MIB, MIB].map(|bytes| filled(&buffers, bytes));
        three.into_iter().for_each(drop);
        assert_eq!(idle(&buffers), (3, 6 * MIB));
        let large = filled(&buffers, 5 * MIB);
        assert_eq!(total(&buffers), 9 * MIB, "the oldest had to go");
        let larger = filled(&buffers, 12 * MIB);
        assert_eq!(idle(&buffers), (0, 0));
        drop(larger);
        assert_eq!(idle(&buffers), (0, 0), "beside what is in use there is no room for it");
        drop(large);
        assert_eq!(idle(&buffers), (1, 5 * MIB));
    }

    #[test]
    fn beside_more_in_use_than_the_limit_a_little_is_kept_and_that_is_what_came_back_last() {
        let buffers = Buffers::new(16 * MIB);
        let answers = filled(&buffers, 18 * MIB);
        let [first, second] = [MIB, MIB / 2].map(|bytes| filled(&buffers, bytes));
        drop(first);
        assert_eq!(idle(&buffers), (1, MIB), "a sixteenth of the limit");
        drop(second);
        assert_eq!(idle(&buffers), (1, MIB / 2), "both would be too much");
        drop(filled(&buffers, 2 * MIB));
        assert_eq!(idle(&buffers), (1, MIB / 2), "one that is too large does not displace it");
        let again = filled(&buffers, MIB / 2);
        assert_eq!(idle(&buffers), (0, 0));
        drop((answers, again));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_been_idle_for_long_is_given_back_to_the_system() {
        let buffers = Buffers::new(8 * MIB);
        drop(filled(&buffers, MIB));
        clock::sleep(IDLE_FOR_MAX / 2).await;
        drop(buffers.take(10));
        assert_eq!(idle(&buffers).0, 1);
        clock::sleep(IDLE_FOR_MAX / 2).await;
        drop(buffers.take(10));
        assert_eq!(idle(&buffers).0, 0);
    }

    proptest! {
        /// Whatever is taken and dropped in whatever order: no more is kept than the limit allows
        /// beside what is in use, and a buffer is never much larger than what it is for.
        #[test]
        fn no_order_of_use_passes_the_bound(
            steps in prop::collection::vec((any::<bool>(), 1usize..6_000_000, 0usize..8), 1..80),
        ) {
            let buffers = Buffers::new(16 * MIB);
            let mut taken: Vec<Buffer> = Vec::new();
            for (is_take, bytes, place) in steps {
                if is_take || taken.is_empty() {
                    let buffer = buffers.take(bytes);
                    prop_assert!(buffer.capacity() >= bytes);
                    prop_assert!(buffer.capacity() <= bytes + bytes / 4);
                    taken.push(buffer);
                } else {
                    drop(taken.swap_remove(place % taken.len()));
                }
                let used: usize = taken.iter().map(Buffer::capacity).sum();
                prop_assert_eq!(buffers.store.kept().used_bytes, used);
                prop_assert!(idle(&buffers).0 <= IDLE_MAX);
                let limit = (16 * MIB + 16 * MIB / STEPS).max(used + MIB);
                prop_assert!(total(&buffers) <= limit);
            }
            taken.clear();
            prop_assert_eq!(buffers.store.kept().used_bytes, 0);
        }
    }
}
