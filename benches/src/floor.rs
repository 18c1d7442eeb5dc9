//! The ceilings: what fetching alone and producing alone reach on the same brokers, with
//! kmirror's own client and nothing between. A mirror does both, so on a machine that it keeps
//! busy it can reach at most 1 / (1/F + 1/P).

use std::{collections::BTreeMap, future::Future, thread};

use kmirror_client::{
    Client, Config, Isolation, TopicPartition,
    admin::{Admin, At},
    batch::Entry,
    budget::Budget,
    clock,
    fetch::{Event, Fetcher, Position},
};
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

/// Fetches all of `topic` as it holds the load of `case`, checks every batch's checksum as the
/// fetcher does, and drops what comes; with that many threads, each with its own connection and
/// its own partitions.
///
/// # Errors
/// When the cluster cannot be reached or a partition cannot be read.
pub fn fetch(bootstrap: &str, topic: &str, case: &Case, threads: usize) -> Result<Ceiling, Error> {
    let meter = Meter::start()?;
    let shares = shares(topic, case.partitions.source, threads);
    let ignore = |_: &TopicPartition, _: &[Entry]| Ok(());
    in_threads(shares.into_iter().map(|own| move || drain(bootstrap, own, ignore)))?;
    meter.stop(case)
}

/// Fetches the partitions `own` to the ends they have now and shows everything to `visit`.
pub(crate) async fn drain(
    bootstrap: &str,
    own: Vec<TopicPartition>,
    mut visit: impl FnMut(&TopicPartition, &[Entry]) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = Error::client("reach the brokers");
    let config = Config::new(bootstrap).map_err(&failed)?;
    let client = Client::connect(config).await.map_err(&failed)?;
    let wanted = own.into_iter().map(|partition| (partition, At::Latest)).collect();
    let ends = Admin::new(client.clone()).list_offsets(&wanted, Isolation::ReadUncommitted).await;
    let mut left = BTreeMap::new();
    for (partition, end) in ends.map_err(&failed)? {
        let end = end.map_err(&failed)?.offset.unwrap_or(0);
        if end > 0 {
            left.insert(partition, end);
        }
    }
    let config = kmirror_client::fetch::Config::default();
    let fetcher = Fetcher::new(client, config, Budget::new(BUDGET_BYTES));
    fetcher.assign_all(left.keys().map(|partition| (partition.clone(), Position::at(0))));
    while !left.is_empty() {
        match fetcher.next().await {
            Event::Fetched(fetched) => {
                visit(&fetched.partition, &fetched.entries)?;
                if left.get(&fetched.partition).is_some_and(|end| fetched.next_offset >= *end) {
                    left.remove(&fetched.partition);
                    fetcher.remove(&fetched.partition);
                }
            }
            Event::Trouble { partition, kind, .. } => {
                let partition = partition.to_string();
                return Err(Error::Fetch { partition, reason: kind.to_string() });
            }
            other => {
                let partition = String::from("unknown");
                return Err(Error::Fetch { partition, reason: format!("{other:?}") });
            }
        }
    }
    Ok(())
}

/// Each thread's budget for what it has fetched.
const BUDGET_BYTES: usize = 64 << 20;

/// The partitions of each thread.
pub(crate) fn shares(topic: &str, partitions: i32, threads: usize) -> Vec<Vec<TopicPartition>> {
    let threads = threads.clamp(1, usize::try_from(partitions).unwrap_or(1).max(1));
    let mut shares = vec![Vec::new(); threads];
    for (partition, share) in (0..partitions).zip((0..threads).cycle()) {
        shares[share].push(TopicPartition::new(topic, partition));
    }
    shares
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
        threads.into_iter().try_for_each(join)
    })
}

/// Runs `future` on a runtime of this thread's own.
///
/// # Errors
/// Those of `future`, or when there can be no runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Run { program: "a runtime".to_owned(), source })?
        .block_on(future)
}
