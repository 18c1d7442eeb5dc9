//! A budget of bytes, and the leases taken from it. Owned by whoever builds the pipeline.
//!
//! Always true:
//! - a lease is granted while all that is used, itself included, is no more than the limit, except
//!   that one lease larger than the limit is granted when nothing else is used, and one of nothing
//!   always;
//! - copies of what is leased are counted as used and wait for nothing: they may pass the limit;
//! - what passes the limit, by copies or by a large lease, is owed: what comes back pays for that
//!   first, and no lease is granted until what is used is below the limit again;
//! - leases are granted in the order they were asked for, so a large one is never starved by small
//!   ones;
//! - a share made by [`Lease::split`] stands for a slice of one allocation. An allocation is freed
//!   as one, so its bytes return to the budget when the last share is dropped, not before.
//!
//! There is no deadlock as long as one rule is kept: **whoever holds a lease never waits for
//! another one.** A lease cannot grow for that reason. One who got more than he reserved gives
//! the lease back first and then asks for the whole. A copy is counted without waiting for that
//! reason.
//!
//! A budget may be shared by threads, each with its own runtime: a grant wakes the waiter wherever
//! it runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use crate::buffers::{Buffer, Buffers};

/// A number of bytes that may be in use at once. Cheap to clone; clones share the one number.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use kmirror_client::budget::Budget;
///
/// let budget = Budget::new(100);
/// let mut lease = budget.lease(60).await;
/// lease.shrink_to(40);
/// let share = lease.split(10);
/// assert_eq!((lease.bytes(), share.bytes(), budget.used()), (30, 10, 40));
/// drop((lease, share));
/// assert_eq!((budget.used(), budget.peak()), (0, 60));
/// # });
/// ```
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

impl Budget {
    /// A budget of `limit` bytes; at least one.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            limit,
            free: Semaphore::new(limit),
            owed: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            parts: AtomicUsize::new(0),
            buffers: Buffers::new(limit),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Waits until `bytes` are free and takes them.
    ///
    /// More than the whole budget waits until nothing else is in use and is then granted.
    /// Cancel-safe: dropping the future gives up its place in the queue and nothing else.
    /// The caller must hold no lease (see the module's rule).
    pub async fn lease(&self, bytes: usize) -> Lease {
        let waiting = Waiting::new(&self.shared);
        let permits = self.shared.permits(bytes);
        let granted = self.shared.free.acquire_many(permits).await;
        granted.expect("invariant: the budget's semaphore is never closed").forget();
        drop(waiting);
        Lease::granted(&self.shared, bytes, permits)
    }

    /// Takes `bytes` if they are free now and nobody waits in line.
    pub fn try_lease(&self, bytes: usize) -> Option<Lease> {
        let permits = self.shared.permits(bytes);
        self.shared.free.try_acquire_many(permits).ok()?.forget();
        Some(Lease::granted(&self.shared, bytes, permits))
    }

    /// What was written into `buffer`, its memory counted as used until the last slice of it is
    /// dropped. For copies of what is leased: waits for nothing, so that whoever holds the lease
    /// may make them, and may pass the limit.
    pub(crate) fn count(&self, buffer: Buffer) -> Bytes {
        let hold = Hold::of(&self.shared, buffer.capacity(), 0);
        Bytes::from_owner(Counted { buffer, _hold: hold })
    }

    /// The bytes of all leases and counted copies that are alive. Passes the limit only by copies,
    /// or while one lease larger than the limit is alive.
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Acquire)
    }

    /// The most [`Budget::used`] has ever been.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::Acquire)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.shared.limit
    }

    /// Takes part until the guard is dropped: one more has to make do with an equal part.
    pub(crate) fn take_part(&self) -> Part {
        self.shared.parts.fetch_add(1, Ordering::AcqRel);
        Part { shared: Arc::clone(&self.shared) }
    }

    /// The bytes that each of the fetchers that read something should make do with; all of them if
    /// there is none.
    pub fn part_bytes(&self) -> usize {
        self.shared.limit / self.shared.parts.load(Ordering::Acquire).max(1)
    }

    /// Memory for what is leased, and for what is made of it, used again.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.shared.buffers
    }

    /// How many callers wait for a lease.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("used", &self.used()).field("limit", &self.limit()).finish()
    }
}

/// Bytes taken from a [`Budget`]; given back when it and all its shares are dropped.
#[must_use = "dropping a lease gives its bytes back"]
pub struct Lease {
    bytes: usize,
    hold: Arc<Hold>,
    pin: Option<Pin>,
}

impl Lease {
    fn granted(shared: &Arc<Shared>, bytes: usize, permits: u32) -> Self {
        Self { bytes, hold: Arc::new(Hold::of(shared, bytes, permits)), pin: None }
    }

    /// The bytes this lease stands for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Moves `bytes` of this lease into a share of its own; all of them if it has fewer.
    pub fn split(&mut self, bytes: usize) -> Lease {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Lease { bytes, hold: Arc::clone(&self.hold), pin: None }
    }

    /// Gives back at once what is over `bytes`: memory that was reserved and then not needed.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes);
        self.bytes -= excess;
        self.hold.release(excess);
    }

    /// Makes this share independent of the others it was split from.
    ///
    /// For one who has copied its slice out of the common allocation: dropping this share no
    /// longer waits for the others, nor they for it. Needs no more of the budget: the share takes
    /// its bytes along.
    pub fn detach(&mut self) {
        self.hold = Arc::new(self.hold.carve(self.bytes));
        self.pin = None;
    }

    /// Counts the bytes of the other shares, which cannot be freed before this one is dropped.
    pub(crate) fn pin(&mut self, pins: &Arc<Pins>) {
        let bytes = self.hold.bytes.load(Ordering::Acquire) - self.bytes;
        pins.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.pin = Some(Pin { pins: Arc::clone(pins), bytes });
    }
}

/// How many bytes of others are kept from being freed by somebody's shares.
///
/// One who holds small shares of many large allocations could keep the whole budget; who hands out
/// the shares stops in time by asking [`Pins::are_full`].
#[derive(Debug)]
pub(crate) struct Pins {
    bytes: AtomicUsize,
    max: Arc<AtomicUsize>,
    eased: Arc<Notify>,
}

impl Pins {
    /// Full from `max` bytes on; `eased` is notified when they are no longer.
    pub(crate) fn new(max: Arc<AtomicUsize>, eased: Arc<Notify>) -> Self {
        Self { bytes: AtomicUsize::new(0), max, eased }
    }

    pub(crate) fn are_full(&self) -> bool {
        self.bytes.load(Ordering::Acquire) >= self.max.load(Ordering::Relaxed)
    }
}

/// One share's part in [`Pins`].
#[derive(Debug)]
struct Pin {
    pins: Arc<Pins>,
    bytes: usize,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.pins.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if before >= self.pins.max.load(Ordering::Relaxed) && !self.pins.are_full() {
            self.pins.eased.notify_one();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("bytes", &self.bytes).finish()
    }
}

/// One who takes part in a [`Budget`]. Holds none of its bytes.
pub(crate) struct Part {
    shared: Arc<Shared>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.shared.parts.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A copy and its place in the [`Budget`].
struct Counted {
    buffer: Buffer,
    _hold: Hold,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref()
    }
}

struct Shared {
    limit: usize,
    /// What may still be leased.
    free: Semaphore,
    /// By how much the limit is passed: what comes back pays for that first.
    owed: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
    waiting: AtomicUsize,
    parts: AtomicUsize,
    buffers: Buffers,
}

impl Shared {
    /// How much must be free for a lease of `bytes`: no more than there is, nor than the 4 GiB
    /// that the semaphore can be asked for at once.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.limit)).unwrap_or(u32::MAX)
    }

    /// Counts `bytes` as used, of which `taken` were taken from what is free. Takes the others
    /// without waiting; what is missing is owed.
    fn count(&self, bytes: usize, taken: usize) {
        let used = self.used.fetch_add(bytes, Ordering::AcqRel) + bytes;
        self.peak.fetch_max(used, Ordering::AcqRel);
        let others = bytes - taken;
        let free = self.free.forget_permits(others);
        self.owed.fetch_add(others - free, Ordering::AcqRel);
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        let pay = |owed: usize| Some(owed.saturating_sub(bytes));
        let owed = self.owed.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay);
        let paid = owed.unwrap_or_else(|owed| owed).min(bytes);
        self.free.add_permits(bytes - paid);
    }
}

/// Counts a caller as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::AcqRel);
        Self(&shared.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What all shares of one lease hold together, or a copy; given back when it is dropped.
struct Hold {
    shared: Arc<Shared>,
    bytes: AtomicUsize,
}

impl Hold {
    /// Counts `bytes` as used, for which `permits` were taken.
    fn of(shared: &Arc<Shared>, bytes: usize, permits: u32) -> Self {
        shared.count(bytes, permits as usize);
        Self { shared: Arc::clone(shared), bytes: AtomicUsize::new(bytes) }
    }

    fn release(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.shared.give_back(bytes);
    }

    /// Takes `bytes` into a hold of their own.
    fn carve(&self, bytes: usize) -> Self {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        Self { shared: Arc::clone(&self.shared), bytes: AtomicUsize::new(bytes) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.give_back(*self.bytes.get_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn now<F: Future>(future: F) -> F::Output {
        poll_once(pin!(future)).expect("must not wait")
    }

    #[test]
    fn a_lease_waits_until_enough_is_free() {
        let budget = Budget::new(10);
        let first = now(budget.lease(6));
        let mut second = pin!(budget.lease(5));
        assert!(poll_once(second.as_mut()).is_none());
        assert_eq!(budget.waiting(), 1);
        drop(first);
        assert_eq!(poll_once(second).map(|lease| lease.bytes()), Some(5));
        assert_eq!((budget.used(), budget.peak(), budget.waiting()), (0, 6, 0));
    }

    #[test]
    fn leases_are_granted_in_the_order_they_were_asked_for() {
        let budget = Budget::new(10);
        let first = now(budget.lease(6));
        let mut large = pin!(budget.lease(8));
        assert!(poll_once(large.as_mut()).is_none());
        let mut small = pin!(budget.lease(1));
        assert!(poll_once(small.as_mut()).is_none(), "a small one must not overtake");
        assert!(budget.try_lease(1).is_none());
        drop(first);
        let large = poll_once(large).expect("granted first");
        let small = poll_once(small).expect("fits beside it");
        assert_eq!(budget.used(), large.bytes() + small.bytes());
    }

    #[test]
    fn a_lease_larger_than_the_budget_waits_for_all_of_it_and_passes() {
        let budget = Budget::new(10);
        let first = now(budget.lease(1));
        let mut oversized = pin!(budget.lease(25));
        assert!(poll_once(oversized.as_mut()).is_none());
        drop(first);
        let mut oversized = poll_once(oversized).expect("alone, so granted");
        assert_eq!(budget.used(), 25);
        assert!(budget.try_lease(1).is_none());
        oversized.shrink_to(9);
        assert!(budget.try_lease(1).is_some());
        assert!(budget.try_lease(2).is_none());
    }

    #[test]
    fn an_allocation_is_given_back_when_its_last_share_is_dropped() {
        let budget = Budget::new(10);
        let mut lease = now(budget.lease(10));
        let share = lease.split(4);
        drop(lease);
        assert_eq!(budget.used(), 10);
        drop(share);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_detached_share_no_longer_holds_the_others() {
        let budget = Budget::new(10);
        let mut lease = now(budget.lease(30));
        let mut share = lease.split(4);
        share.detach();
        drop(lease);
        assert_eq!(budget.used(), 4);
        drop(share);
        assert_eq!(budget.used(), 0);
        assert!(budget.try_lease(10).is_some());
    }

    #[test]
    fn a_small_share_of_a_large_allocation_pins_the_rest_of_it() {
        let budget = Budget::new(100);
        let pins = Pins::new(Arc::new(AtomicUsize::new(50)), Arc::new(Notify::new()));
        let pins = Arc::new(pins);
        let mut lease = now(budget.lease(60));
        let mut share = lease.split(5);
        share.pin(&pins);
        assert!(pins.are_full());
        drop(share);
        assert!(!pins.are_full());
        lease.pin(&pins);
        assert!(!pins.are_full(), "what is one's own is not pinned");
    }

    #[test]
    fn a_copy_waits_for_nothing_and_the_next_lease_waits_for_it() {
        let budget = Budget::new(100);
        let lease = now(budget.lease(60));
        let mut buffer = budget.buffers().take(90);
        buffer.extend_from_slice(b"records");
        let copy = budget.count(buffer);
        assert_eq!((&copy[..], budget.used(), budget.peak()), (&b"records"[..], 150, 150));
        drop(lease);
        assert!(budget.try_lease(11).is_none(), "what came back pays for what passed the limit");
        let mut waiting = pin!(budget.lease(50));
        assert!(poll_once(waiting.as_mut()).is_none());
        let slice = copy.slice(2..4);
        drop(copy);
        assert!(poll_once(waiting.as_mut()).is_none(), "a slice is still there");
        drop(slice);
        let granted = poll_once(waiting).expect("granted");
        assert_eq!(budget.used(), 50);
        drop(granted);
        assert!(budget.try_lease(100).is_some(), "nothing is owed any more");
    }

    #[test]
    fn those_who_take_part_have_equal_parts() {
        let budget = Budget::new(64);
        assert_eq!(budget.part_bytes(), 64);
        let parts = [budget.take_part(), budget.take_part()];
        assert_eq!(budget.part_bytes(), 32);
        drop(parts);
        assert_eq!((budget.part_bytes(), budget.used()), (64, 0));
    }

    #[test]
    fn a_budget_is_shared_by_threads_and_never_passed() {
        let budget = Budget::new(1000);
        let workers: Vec<_> = (0..4usize)
            .map(|worker| {
                let budget = budget.clone();
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                    runtime.block_on(async {
                        for round in 0..500usize {
                            let lease = budget.lease(100 + (round * 37 + worker * 11) % 800).await;
                            assert!(budget.used() <= 1000);
                            drop(lease);
                        }
                    });
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("worker");
        }
        assert_eq!(budget.used(), 0);
        assert!(budget.peak() <= 1000);
    }

    proptest! {
        /// Whatever is split, shrunk, detached, copied and dropped in whatever order: what is used
        /// is what is held, nothing is leased beside too many copies, and in the end all of it is
        /// free again.
        #[test]
        fn nothing_is_lost_or_made_by_any_order_of_operations(
            operations in prop::collection::vec((0u8..7, 0usize..8, 0usize..150), 1..60),
        ) {
            let budget = Budget::new(100);
            let mut leases: Vec<Lease> = Vec::new();
            let mut copies: Vec<(Bytes, usize)> = Vec::new();
            for (operation, index, bytes) in operations {
                let copied: usize = copies.iter().map(|(_, bytes)| bytes).sum();
                let index = index.checked_rem(leases.len()).unwrap_or(0);
                match operation {
                    0 => {
                        let used = budget.used();
                        let granted = budget.try_lease(bytes);
                        let fits = bytes == 0 || used == 0 || used + bytes <= 100;
                        prop_assert!(granted.is_none() || fits);
                        leases.extend(granted);
                    }
                    5 => copies.push((budget.count(budget.buffers().take(bytes)), bytes)),
                    6 => drop(copies.pop()),
                    _ if leases.is_empty() => {}
                    1 => { let share = leases[index].split(bytes); leases.push(share); }
                    2 => leases[index].shrink_to(bytes),
                    3 => leases[index].detach(),
                    _ => drop(leases.swap_remove(index)),
                }
                let visible: usize = leases.iter().map(Lease::bytes).sum();
                prop_assert!(visible <= budget.used());
                let owed = budget.shared.owed.load(Ordering::Acquire);
                let free = budget.shared.free.available_permits();
                prop_assert_eq!(budget.used() + free, 100 + owed);
                prop_assert!(free == 0 || owed == 0);
                prop_assert!(budget.used() <= 150 + 100 + copied + bytes);
            }
            leases.clear();
            copies.clear();
            prop_assert_eq!(budget.used(), 0);
            prop_assert!(budget.try_lease(100).is_some());
        }
    }
}
