//! Memory for answers, and for batches made of them, used again rather than asked of the system
//! each time: a block of several MiB is mapped, faulted in page by page and unmapped again each
//! time otherwise. Owned by a [`Budget`](crate::budget::Budget).
//!
//! A [`Buffer`] is filled and becomes [`Bytes`]; when the last slice of them is dropped, wherever
//! that is, the memory comes back here.
//!
//! Always true:
//! - what is kept idle and what is in use are together no more than the limit; only what is in use
//!   may be more, and then nothing is kept;
//! - what is in use is counted whatever its size, what is small is not kept;
//! - a buffer that is used again is at most a quarter larger than what it is taken for;
//! - memory is never zeroed, and nobody reads what he has not written.
//!
//! Bounds: [`IDLE_MAX`] idle buffers, none of them idle for longer than [`IDLE_FOR_MAX`] while
//! answers come; the limit for their bytes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::clock;

/// What is smaller comes from the allocator, which has such blocks at hand.
const LARGE_BYTES_MIN: usize = 128 << 10;

/// Room is made in multiples of this. Answers of full brokers differ by little.
const ROUNDED_TO: usize = 32 << 10;

/// The most buffers that are kept idle.
const IDLE_MAX: usize = 64;

/// How long a buffer is kept idle.
const IDLE_FOR_MAX: Duration = Duration::from_secs(10);

/// Buffers to be used again. Cheap to clone; clones share the one store.
#[derive(Clone)]
pub(crate) struct Buffers {
    store: Arc<Store>,
}

struct Store {
    limit: usize,
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
    memory: Vec<u8>,
    since: Instant,
}

impl Buffers {
    /// For answers of `leased` bytes in all. Keeps no more than that, in use and idle together, and
    /// what [`IDLE_MAX`] buffers are larger than their answers: were it less, each buffer would be
    /// made anew whenever all of the budget is in use.
    pub(crate) fn new(leased: usize) -> Self {
        let limit = leased.saturating_add(IDLE_MAX * ROUNDED_TO);
        Self { store: Arc::new(Store { limit, kept: Mutex::default() }) }
    }

    /// An empty buffer with room for `bytes`.
    pub(crate) fn take(&self, bytes: usize) -> Buffer {
        let mut kept = self.store.kept();
        kept.drop_stale(clock::now());
        let memory = kept.find(bytes).unwrap_or_else(|| {
            let room = rounded(bytes);
            self.store.make_room(&mut kept, room);
            Vec::with_capacity(room)
        });
        let counted = memory.capacity();
        kept.used_bytes += counted;
        Buffer { memory, counted, store: Some(Arc::clone(&self.store)) }
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
        let others = kept.used_bytes + bytes;
        kept.drop_down_to(self.limit.saturating_sub(others));
    }

    /// Memory that was `counted` as in use has grown.
    fn recount(&self, counted: usize, bytes: usize) {
        let mut kept = self.kept();
        kept.used_bytes -= counted;
        self.make_room(&mut kept, bytes);
        kept.used_bytes += bytes;
    }

    fn give_back(&self, mut memory: Vec<u8>, counted: usize) {
        memory.clear();
        let mut kept = self.kept();
        kept.used_bytes -= counted;
        let bytes = memory.capacity();
        let room = self.limit.saturating_sub(kept.used_bytes + kept.idle_bytes);
        if bytes < LARGE_BYTES_MIN || bytes > room {
            return;
        }
        if kept.idle.len() == IDLE_MAX {
            kept.drop_oldest();
        }
        kept.idle_bytes += memory.capacity();
        kept.idle.push_back(Idle { memory, since: clock::now() });
    }
}

impl Kept {
    /// The smallest idle buffer that has room for `bytes` and is not much larger; of equals the one
    /// used last, which the processor's caches may still hold.
    fn find(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if bytes < LARGE_BYTES_MIN {
            return None;
        }
        let fits = bytes..=bytes.saturating_add(bytes / 4);
        let fitting = self.idle.iter().enumerate().rev();
        let fitting = fitting.filter(|(_, idle)| fits.contains(&idle.memory.capacity()));
        let (place, _) = fitting.min_by_key(|(_, idle)| idle.memory.capacity())?;
        let Idle { memory, .. } = self.idle.remove(place)?;
        self.idle_bytes -= memory.capacity();
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
            self.idle_bytes -= memory.capacity();
        }
    }
}

/// A little more than `bytes` if they are many, so that answers of nearly one size can share a
/// buffer.
fn rounded(bytes: usize) -> usize {
    if bytes < LARGE_BYTES_MIN {
        return bytes;
    }
    bytes.checked_next_multiple_of(ROUNDED_TO).unwrap_or(bytes)
}

/// Memory to be filled, which returns to where it came from.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    /// What the store counts as in use for it.
    counted: usize,
    store: Option<Arc<Store>>,
}

impl Buffer {
    /// A buffer that belongs to no store.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { memory: Vec::with_capacity(bytes), counted: 0, store: None }
    }

    /// Where the bytes are written. Given more than was asked for, it grows and is counted anew
    /// when it is done.
    pub(crate) fn memory(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Bytes written.
    pub(crate) fn len(&self) -> usize {
        self.memory.len()
    }

    /// What was written, which can be sliced and shared without copying.
    pub(crate) fn freeze(mut self) -> Bytes {
        if let Some(store) = &self.store {
            let bytes = self.memory.capacity();
            if bytes != self.counted {
                store.recount(std::mem::replace(&mut self.counted, bytes), bytes);
            }
            return Bytes::from_owner(self);
        }
        Bytes::from(std::mem::take(&mut self.memory))
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("bytes", &self.memory.len()).finish_non_exhaustive()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            store.give_back(std::mem::take(&mut self.memory), self.counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        buffer.memory().resize(bytes, 7);
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
        buffer.memory().resize(6 * MIB, 1);
        let bytes = buffer.freeze();
        assert_eq!(total(&buffers), 6 * MIB, "what was idle had to go");
        drop(bytes);
        assert_eq!(total(&buffers), 6 * MIB, "it is kept as large as it is");
    }

    #[test]
    fn what_is_idle_makes_room_for_what_is_needed() {
        let buffers = Buffers::new(8 * MIB);
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
                    prop_assert!(buffer.memory.capacity() >= bytes);
                    prop_assert!(buffer.memory.capacity() <= bytes + bytes / 4);
                    prop_assert_eq!(buffer.counted, buffer.memory.capacity());
                    taken.push(buffer);
                } else {
                    drop(taken.swap_remove(place % taken.len()));
                }
                let used: usize = taken.iter().map(|buffer| buffer.counted).sum();
                prop_assert_eq!(buffers.store.kept().used_bytes, used);
                prop_assert!(total(&buffers) <= used.max(18 * MIB));
                prop_assert!(idle(&buffers).0 <= IDLE_MAX);
            }
            taken.clear();
            prop_assert_eq!(buffers.store.kept().used_bytes, 0);
        }
    }
}
