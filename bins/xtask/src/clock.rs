//! The one place of the developer tasks that reads the clock: deadlines for processes outside of
//! any simulation.

use std::{
    thread,
    time::{Duration, Instant},
};

/// The present moment, of a clock that never goes back.
#[expect(clippy::disallowed_methods, reason = "the developer tasks wait for real processes")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Calls `ready` every `every` until it answers with something or `deadline` has passed.
pub fn poll<T>(
    deadline: Duration,
    every: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> Option<T> {
    let end = now() + deadline;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if now() >= end {
            return None;
        }
        thread::sleep(every);
    }
}
