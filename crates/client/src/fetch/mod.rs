//! Fetching batches, with their memory accounted for.
//!
//! A [`Fetcher`] reads partitions from their leaders and hands out verified batches as they are,
//! each with a [`Lease`](crate::budget::Lease) of the [`Budget`]. A partition in trouble stops
//! alone and says exactly why; what is done about it is the caller's decision.
//!
//! `state`, `link`, `partition`, `questions`, `identity`, `standing`, `session`, `answer`, `digest`
//! and `window` decide, and are pure;
//! `driver` moves bytes; `wire`, `legacy_api`, `epochs` and `ends` are the protocol.
//!
//! Left out on purpose: reading from the nearest replica (KIP-392). A follower lags, and a mirror
//! that commits must not depend on which replica is near; always the leader is asked.
//!
//! ```no_run
//! # async fn example(client: kmirror_client::Client) {
//! use kmirror_client::TopicPartition;
//! use kmirror_client::budget::Budget;
//! use kmirror_client::fetch::{Config, Event, Fetcher, Position};
//!
//! let fetcher = Fetcher::new(client, Config::default(), Budget::new(64 << 20));
//! fetcher.assign(&TopicPartition::new("orders", 3), Position::at(0));
//! loop {
//!     match fetcher.next().await {
//!         Event::Fetched(fetched) => println!("read up to {}", fetched.next_offset),
//!         Event::Trouble { partition, kind, .. } => eprintln!("{partition}: {kind}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```

mod answer;
mod config;
mod digest;
mod driver;
mod ends;
mod epochs;
mod event;
mod identity;
mod legacy_api;
mod link;
mod partition;
mod questions;
mod session;
mod standing;
mod state;
#[cfg(test)]
mod tests;
mod window;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::batch::Entry;
use crate::budget::Budget;
use crate::client::Client;
use crate::isolation::Isolation;
use crate::name::TopicPartition;
use crate::task::{self, Task};

pub use config::Config;
pub use event::{Event, Fetched, Position, Trouble};

use driver::Driver;
use session::Session;
use state::State;

/// Reads partitions. Its task runs on the runtime it was made on and ends with it.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    client: Client,
    _task: Task<()>,
}

impl Fetcher {
    /// Starts a fetcher on the current runtime. Nothing is fetched before the first assignment.
    pub fn new(client: Client, mut config: Config, budget: Budget) -> Self {
        config.pinned_bytes_max = config.pinned_bytes_max.min(budget.limit() / 8);
        // An answer holds more than records: what each partition says of itself.
        let frame_bytes_max = client.config().frame_bytes_max;
        let answer_bytes_max = frame_bytes_max - frame_bytes_max / 8;
        config.fetch_bytes_max = config.fetch_bytes_max.min(answer_bytes_max);
        config.partition_bytes_max = config.partition_bytes_max.min(answer_bytes_max);
        let poke = Arc::new(Notify::new());
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(config.clone(), Arc::clone(&poke), seed)),
            poke,
            ready: Notify::new(),
        });
        let driver = Driver::new(Arc::clone(&shared), client.clone(), config, budget);
        let guard = EndGuard(Arc::clone(&shared));
        let task = task::spawn("fetch", async move {
            let _guard = guard;
            driver.run().await;
        });
        Self { shared, client, _task: task }
    }

    /// Reads `partition` from `position` on, whatever was done with it before: also one that is
    /// being read, or that stopped. What was fetched before and not taken yet is not handed out.
    pub fn assign(&self, partition: &TopicPartition, position: Position) {
        self.assign_all([(partition.clone(), position)]);
    }

    /// The same for many at once, which asks for metadata once.
    pub fn assign_all(&self, partitions: impl IntoIterator<Item = (TopicPartition, Position)>) {
        let mut topics = Vec::new();
        let mut state = self.shared.lock();
        for (partition, position) in partitions {
            state.assign(&partition, position);
            // No request could hold a longer name, nor the others that it asks for.
            if partition.topic.len() <= state::NAME_BYTES_MAX {
                topics.push(partition.topic);
            }
        }
        drop(state);
        self.client.watch_topics(topics);
        self.shared.poke.notify_one();
    }

    /// Reads no more of `partition`. What was fetched and not taken yet is not handed out; its
    /// memory is given back when the events before it have been taken.
    pub fn remove(&self, partition: &TopicPartition) {
        self.shared.lock().remove(partition);
        self.shared.poke.notify_one();
    }

    /// Fetches no more of `partition` until it is resumed. What has been fetched is still handed
    /// out, and a fetch under way still counts.
    pub fn pause(&self, partition: &TopicPartition) {
        self.shared.lock().set_paused(partition, true);
    }

    /// Goes on with a paused partition where it stands.
    pub fn resume(&self, partition: &TopicPartition) {
        self.shared.lock().set_paused(partition, false);
        self.shared.poke.notify_one();
    }

    /// Where `partition` stands: after all that was fetched, taken or not.
    pub fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.shared.lock().position(partition)
    }

    /// The next thing that happens. For one caller at a time.
    ///
    /// Cancel-safe: dropped before it is ready, nothing is lost.
    pub async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.shared.ready.notified().await;
        }
    }

    /// The next thing that has happened already.
    pub fn try_next(&self) -> Option<Event> {
        let mut state = self.shared.lock();
        assert!(!state.is_ended, "invariant: the fetch task lives as long as its fetcher");
        state.poll_event()
    }
}

/// What the handle and the task share.
struct Shared {
    state: Mutex<State>,
    poke: Arc<Notify>,
    ready: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("partitions", &self.lock().partitions.len())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody waits for a task that has ended.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.lock().is_ended = true;
        self.0.ready.notify_one();
    }
}

/// An answer's body to what is in it, read from the first record on; for
/// [`testing`](crate::testing).
pub(crate) fn read_answer(version: i16, body: Bytes) -> Option<Vec<Entry>> {
    let answer = wire::decode(version, body, &Session::default())?;
    let mut entries = Vec::new();
    for answer in answer.partitions {
        let isolation = Isolation::ReadCommitted;
        let read = digest::digest(answer.records, 0, isolation, answer.aborted);
        if read.error.is_some() {
            return None;
        }
        entries.extend(read.entries);
    }
    Some(entries)
}
