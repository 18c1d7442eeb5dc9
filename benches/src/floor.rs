//! The ceilings: what fetching alone and producing alone reach on the same brokers, with
//! kmirror's own client and nothing between. A mirror does both, so on a machine that it keeps
//! busy it can reach at most 1 / (1/F + 1/P).

use std::{future::Future, thread};

use kmirror_client::clock;
use serde::{Deserialize, Serialize};

use crate::{Error, case::Case, process::Usage};

/// What was reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// How many records.
    pub records: u64,
    /// From the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Logical megabytes in a second.
    pub megabytes_per_second: f64,
    /// Seconds of processor time of the client for each logical gigabyte.
    pub cpu_per_gigabyte: f64,
    /// The most memory the client's process held, in MiB.
    pub peak_memory_mib: f64,
}

/// Measures this process from its start to its stop.
pub(crate) struct Meter {
    begin: tokio::time::Instant,
    before: Usage,
}

impl Meter {
    pub(crate) fn start() -> Result<Self, Error> {
        Ok(Self { before: Usage::of(0)?, begin: clock::now() })
    }

    pub(crate) fn stop(self, case: &Case) -> Result<Ceiling, Error> {
        let seconds = self.begin.elapsed().as_secs_f64();
        let after = Usage::of(0)?;
        let cpu = after.cpu.saturating_sub(self.before.cpu).as_secs_f64();
        let bytes = case.logical_bytes() as f64;
        Ok(Ceiling {
            records: case.records,
            seconds,
            megabytes_per_second: bytes / seconds / 1e6,
            cpu_per_gigabyte: cpu / bytes * 1e9,
            peak_memory_mib: after.peak_memory_bytes as f64 / f64::from(1 << 20),
        })
    }
}

/// Runs each job to its end in a thread and a runtime of its own, as kmirror runs its streams.
pub(crate) fn in_threads<J, F>(jobs: impl Iterator<Item = J>) -> Result<(), Error>
where
    J: FnOnce() -> F + Send,
    F: Future<Output = Result<(), Error>>,
{
    thread::scope(|scope| {
        let threads: Vec<_> = jobs.map(|job| scope.spawn(move || block_on(job()))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<(), Error>>| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

/// Runs `future` on a runtime of this thread's own.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Run { program: "a runtime".to_owned(), source })?
        .block_on(future)
}
