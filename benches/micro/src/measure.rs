//! Allocations and time of a turn, in this process, which has one thread.

use std::hint::black_box;
use std::time::Duration;

use kmirror_client::clock;
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::cases::{Case, Work};

/// Turns before the one that counts: buffers have grown and codecs are set up after them.
const WARM_UP_TURNS: usize = 3;
/// How long a case is run to time it.
const TIMED_FOR: Duration = Duration::from_millis(60);

/// What a turn costs here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Native {
    /// Memory.
    pub(crate) allocated: Allocated,
    /// The fastest turn.
    pub(crate) time: Duration,
}

/// What a turn asks the allocator for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocated {
    /// Times memory was asked for, or asked to be larger.
    pub(crate) allocations: usize,
    /// Bytes that were asked for.
    pub(crate) bytes: usize,
}

/// What the measured turn runs in. Callgrind counts between its beginning and its end, and knows
/// it by its name.
#[inline(never)]
pub(crate) fn measured_turn(work: &mut Work) {
    work();
    // Something to come back to: without it the call would be a jump.
    black_box(());
}

/// Warms a case up and does one turn more.
pub(crate) fn turn(case: &Case) {
    measured_turn(&mut warm(case));
}

fn warm(case: &Case) -> Work {
    let mut work = case.prepare();
    for _ in 0..WARM_UP_TURNS {
        work();
    }
    work
}

/// What one turn of a case allocates.
pub(crate) fn once(case: &Case) -> Allocated {
    allocated(&mut warm(case))
}

/// Measures a case here.
pub(crate) fn native(case: &Case) -> Native {
    let mut work = warm(case);
    let allocated = allocated(&mut work);
    let begin = clock::now();
    let mut time = Duration::MAX;
    while begin.elapsed() < TIMED_FOR {
        let begin = clock::now();
        measured_turn(&mut work);
        time = time.min(begin.elapsed());
    }
    Native { allocated, time }
}

fn allocated(work: &mut Work) -> Allocated {
    let region = Region::new(ALLOCATOR);
    measured_turn(work);
    let stats = region.change();
    Allocated { allocations: stats.allocations + stats.reallocations, bytes: stats.bytes_allocated }
}
