//! The far end of the measured way: fetches as records come and notes when each did, in a thread
//! of its own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use kmirror_client::{
    Client, Config, TopicPartition,
    batch::{Decompressor, Entry},
    budget::Budget,
    clock,
    fetch::{Event, Fetched, Fetcher, Position},
};
use tokio::{sync::oneshot, time::Instant};

use super::{stamp::Stamp, tally::Tally};
use crate::{Error, floor::block_on};

/// A receiver at work; it ends when it is dropped.
pub(super) struct Receiver {
    tally: Arc<Mutex<Tally>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Receiver {
    /// Begins to fetch `partitions` from their beginnings. `epoch` is what stamps count from.
    pub(super) fn start(
        bootstrap: &str,
        partitions: Vec<TopicPartition>,
        (tally, epoch): (Tally, Instant),
    ) -> Self {
        let tally = Arc::new(Mutex::new(tally));
        let (stop, mut stopped) = oneshot::channel::<()>();
        let (bootstrap, shared) = (bootstrap.to_owned(), Arc::clone(&tally));
        let run = move || {
            block_on(async {
                tokio::select! {
                    _ = &mut stopped => Ok(()),
                    outcome = receive(&bootstrap, partitions, &shared, epoch) => outcome,
                }
            })
        };
        Self { tally, stop: Some(stop), thread: Some(thread::spawn(run)) }
    }

    /// What has arrived so far.
    ///
    /// # Errors
    /// Why it could not go on.
    pub(super) fn look(&mut self) -> Result<MutexGuard<'_, Tally>, Error> {
        if self.thread.as_ref().is_some_and(thread::JoinHandle::is_finished) {
            self.join()?;
        }
        Ok(self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn join(&mut self) -> Result<(), Error> {
        match self.thread.take().map(thread::JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Ok(Err(error))) = self.thread.take().map(thread::JoinHandle::join) {
            eprintln!("{error}");
        }
    }
}

/// Room for what was fetched and not looked at.
const BUDGET_BYTES: usize = 64 << 20;
/// More than one record of a batch may take.
const DECOMPRESSED_BYTES_MAX: usize = 16 << 20;

async fn receive(
    bootstrap: &str,
    partitions: Vec<TopicPartition>,
    tally: &Mutex<Tally>,
    epoch: Instant,
) -> Result<(), Error> {
    let failed = Error::client("reach the brokers");
    let config = Config::new(bootstrap).map_err(&failed)?.with_client_id("kmirror-bench");
    let client = Client::connect(config).await.map_err(&failed)?;
    let fetcher =
        Fetcher::new(client, kmirror_client::fetch::Config::default(), Budget::new(BUDGET_BYTES));
    fetcher.assign_all(partitions.into_iter().map(|partition| (partition, Position::at(0))));
    let mut decompressor = Decompressor::new(DECOMPRESSED_BYTES_MAX);
    loop {
        match fetcher.next().await {
            Event::Fetched(fetched) => {
                let now = clock::now().duration_since(epoch);
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                let partition = fetched.partition.partition;
                each_stamp(&fetched, &mut decompressor, |stamp| {
                    tally.enter(stamp, partition, now);
                })?;
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
}

fn each_stamp(
    fetched: &Fetched,
    decompressor: &mut Decompressor,
    mut then: impl FnMut(Stamp),
) -> Result<(), Error> {
    for entry in &fetched.entries {
        let Entry::Batch(batch) = entry else { continue };
        for record in batch.records(decompressor)? {
            let record = record?;
            if record.offset >= fetched.fetch_offset
                && let Some(stamp) = record.value.and_then(Stamp::read)
            {
                then(stamp);
            }
        }
    }
    Ok(())
}
