//! Producing prebuilt batches: in order, each once, without copying them.
//!
//! A [`BatchProducer`] takes [`Outgoing`] batches for partitions and tells each one's fate through
//! its [`Delivery`]. `queue` and `state` decide, and are pure; `driver` moves bytes; `request` and
//! `response` are the wire.
//!
//! What is promised with idempotence (the default), as long as a partition is not stopped: its
//! batches are in the log in the order they were sent, each once, whatever leaders, connections and
//! answers do. When a failure cannot be healed without giving that up, the partition stops: every
//! batch of it fails, and none is taken until [`BatchProducer::restart`]. The others flow on.
//!
//! ```no_run
//! # async fn example(
//! #     client: kmirror_client::Client,
//! #     batch: kmirror_client::batch::Outgoing,
//! # ) -> Result<(), kmirror_client::produce::Error> {
//! use kmirror_client::TopicPartition;
//! use kmirror_client::produce::{BatchProducer, Config};
//!
//! let producer = BatchProducer::try_new(client, Config::default())?;
//! let delivery = producer.send(&TopicPartition::new("orders", 3), batch).await;
//! let acked = delivery.await?;
//! println!("written at offset {:?}", acked.base_offset);
//! # Ok(())
//! # }
//! ```

mod config;
mod decision;
mod driver;
mod entry;
mod error;
mod obstacle;
mod queue;
mod reply;
mod request;
mod response;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::batch::{Codec, Outgoing};
use crate::budget::Budget;
use crate::client::Client;
use crate::clock;
use crate::connection::RoundTrip;
use crate::error::Fate;
use crate::name::{BrokerId, TopicPartition};
use crate::task::{self, Task};

pub use config::{Acks, Config};
pub use decision::{Decision, OnRejected};
pub use entry::Acked;
pub use error::{Error, RecordError, Rejection};
pub use obstacle::Obstacle;

use driver::Driver;
use entry::{Batch, Leader, Limits};
use state::{Rules, State};

/// A producer of prebuilt batches. Its task runs on the runtime it was made on and ends with it.
#[derive(Debug)]
pub struct BatchProducer {
    shared: Arc<Shared>,
    client: Client,
    queue_bytes_max: usize,
    _task: Task<()>,
}

impl BatchProducer {
    /// Starts a producer on the current runtime. Nothing is sent before the first batch.
    ///
    /// # Errors
    /// [`Error::Config`] when the settings contradict each other.
    pub fn try_new(client: Client, config: Config) -> Result<Self, Error> {
        config.check()?;
        let rules = Rules {
            idempotence: config.idempotence,
            limits: Limits {
                in_flight: config.in_flight_per_partition(),
                delivery_timeout: config.delivery_timeout,
            },
            in_flight_per_broker: config.in_flight_per_broker,
            request_bytes_max: config.request_bytes_max,
            missing_timeout: config.missing_timeout,
            backoff: config.backoff,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(rules, Arc::clone(&config.on_rejected))),
            rooms: Mutex::default(),
            round_trips: Mutex::default(),
            wake: Notify::new(),
            idle: Notify::new(),
        });
        let queue_bytes_max = config.queue_bytes_max;
        let guard = CloseAtEnd(Arc::clone(&shared));
        let driver = Driver::new(Arc::clone(&shared), client.clone(), config);
        let task = task::spawn("produce", async move {
            let _guard = guard;
            driver.run().await;
        });
        Ok(Self { shared, client, queue_bytes_max, _task: task })
    }

    /// Queues `batch` behind the earlier ones of `partition`. Waits only while the partition's
    /// queue is full.
    ///
    /// Cancel-safe: dropped before it is ready, nothing was queued. What goes wrong is told by the
    /// delivery. Dropping the delivery does not take the batch back.
    pub async fn send(&self, partition: &TopicPartition, batch: Outgoing) -> Delivery {
        let room = self.room_for(partition, batch.len_bytes()).await;
        self.queue(partition, batch, room)
    }

    /// [`BatchProducer::send`] without waiting: `None`, and nothing was queued, if the partition's
    /// queue is full. [`BatchProducer::has_room`] says when to try again.
    pub fn try_send(&self, partition: &TopicPartition, batch: Outgoing) -> Option<Delivery> {
        let (room, permits) = self.wanted_room(partition, batch.len_bytes());
        let room = room.try_acquire_many_owned(permits).ok()?;
        Some(self.queue(partition, batch, room))
    }

    /// Waits until the partition's queue has room for a batch of `bytes`.
    pub fn has_room(
        &self,
        partition: &TopicPartition,
        bytes: usize,
    ) -> impl Future<Output = ()> + Send + 'static {
        let room = self.room_for(partition, bytes);
        async move { drop(room.await) }
    }

    fn room_for(
        &self,
        partition: &TopicPartition,
        bytes: usize,
    ) -> impl Future<Output = OwnedSemaphorePermit> + Send + 'static {
        let (room, permits) = self.wanted_room(partition, bytes);
        async move {
            let room = room.acquire_many_owned(permits).await;
            room.expect("invariant: a queue's semaphore is never closed")
        }
    }

    /// The room in a partition's queue, and how much of it a batch of `bytes` takes.
    fn wanted_room(&self, partition: &TopicPartition, bytes: usize) -> (Arc<Semaphore>, u32) {
        let room = self.shared.room(partition, self.queue_bytes_max);
        let permits = u32::try_from(bytes.min(self.queue_bytes_max)).unwrap_or(u32::MAX);
        (room, permits)
    }

    fn queue(
        &self,
        partition: &TopicPartition,
        batch: Outgoing,
        room: OwnedSemaphorePermit,
    ) -> Delivery {
        let (sender, receiver) = oneshot::channel();
        let token = Token { sender, room };
        let mut state = self.shared.lock();
        if !state.knows(partition) {
            let leader = self.client.view().leader(partition);
            let leader = leader.map(|(broker, epoch)| Leader { broker, epoch });
            state.introduce(partition, leader);
            self.client.watch_topics([Arc::clone(&partition.topic)]);
        }
        let id = state.push(clock::now(), partition, batch, token);
        drop(state);
        self.shared.wake.notify_one();
        Delivery { receiver, id }
    }

    /// Takes back those of the batches `ids` of `partition` that are on no wire and are known not
    /// to be written; says which. Their deliveries fail with [`Error::Withdrawn`]. The others go
    /// on.
    pub fn withdraw(&self, partition: &TopicPartition, ids: &[BatchId]) -> Vec<BatchId> {
        let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        let withdrawn = self.shared.lock().withdraw(clock::now(), partition, &ids);
        self.shared.wake.notify_one();
        withdrawn.into_iter().map(BatchId).collect()
    }

    /// Copies those of the batches `ids` of `partition` that are on no wire into memory of their
    /// own, counted in `budget`, so that what they are slices of can be freed. Returns the copies.
    pub fn copy_out(
        &self,
        partition: &TopicPartition,
        ids: &[BatchId],
        budget: &Budget,
    ) -> Vec<(BatchId, Outgoing)> {
        let mut copies = Vec::new();
        self.shared.lock().copy_out(partition, |id, batch| {
            let is_wanted = ids.contains(&BatchId(id));
            let copy = is_wanted.then(|| batch.copied(budget))?;
            copies.push((BatchId(id), copy.clone()));
            Some(copy)
        });
        copies
    }

    /// Why the oldest batch of `partition` is not written yet; `None` if there is none.
    pub fn obstacle(&self, partition: &TopicPartition) -> Option<Obstacle> {
        self.shared.lock().obstacle(partition)
    }

    /// Lets a stopped partition take batches again. The caller sends again from the first batch
    /// that failed; those whose fate was [`Fate::Unknown`] may then be written twice.
    pub fn restart(&self, partition: &TopicPartition) {
        self.shared.lock().restart(clock::now(), partition);
        self.shared.wake.notify_one();
    }

    /// Whether the partition was stopped by a failure.
    pub fn is_stopped(&self, partition: &TopicPartition) -> bool {
        self.shared.lock().is_stopped(partition)
    }

    /// How far the partition's leader is; `None` before it has answered often enough to tell.
    pub fn round_trip(&self, partition: &TopicPartition) -> Option<Duration> {
        let (broker, _) = self.client.view().leader(partition)?;
        self.shared.round_trips().get(&broker)?.shortest()
    }

    /// How many batches wait or are on the way.
    pub fn queued(&self) -> usize {
        self.shared.lock().queued()
    }

    /// Waits until every batch queued so far has been written or has failed.
    pub async fn flush(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.queued() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Waits at most `within` for what is queued, then ends. Returns how many batches were given
    /// up; their deliveries fail with [`Error::Closed`].
    pub async fn close(self, within: Duration) -> usize {
        let _ = tokio::time::timeout(within, self.flush()).await;
        self.queued()
    }
}

/// The result of one batch, to come.
#[derive(Debug)]
#[must_use = "a delivery that is not looked at hides a failure"]
pub struct Delivery {
    receiver: oneshot::Receiver<Result<Acked, Error>>,
    id: Option<u64>,
}

/// Which batch of its partition: by this it is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchId(u64);

impl Delivery {
    /// The batch's; `None` if it failed at once.
    pub fn id(&self) -> Option<BatchId> {
        self.id.map(BatchId)
    }
}

impl Future for Delivery {
    type Output = Result<Acked, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = || Err(Error::Closed { fate: Fate::Unknown });
        Pin::new(&mut self.receiver).poll(context).map(|told| told.unwrap_or_else(|_| gone()))
    }
}

/// What a batch is queued with: who waits for it, and its room in the queue.
struct Token {
    sender: oneshot::Sender<Result<Acked, Error>>,
    room: OwnedSemaphorePermit,
}

impl Token {
    fn tell(self, result: Result<Acked, Error>) {
        // Whoever hears of it finds room for the next batch.
        drop(self.room);
        // Whoever dropped the delivery does not want to know.
        let _ = self.sender.send(result);
    }
}

/// What the handle and the task share.
struct Shared {
    state: Mutex<State<Outgoing, Token>>,
    /// The room in each partition's queue. One for each partition ever produced to.
    rooms: Mutex<HashMap<TopicPartition, Arc<Semaphore>>>,
    /// How far each broker is. One for each broker ever dialled.
    round_trips: Mutex<HashMap<BrokerId, RoundTrip>>,
    wake: Notify,
    idle: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("queued", &self.lock().queued()).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State<Outgoing, Token>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round_trips(&self) -> MutexGuard<'_, HashMap<BrokerId, RoundTrip>> {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, partition: &TopicPartition, bytes_max: usize) -> Arc<Semaphore> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(partition) {
            return Arc::clone(room);
        }
        let room = Arc::new(Semaphore::new(bytes_max));
        rooms.insert(partition.clone(), Arc::clone(&room));
        room
    }
}

/// Nobody waits for a delivery whose task has ended, however it ended.
struct CloseAtEnd(Arc<Shared>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.close();
        let done = state.poll_done();
        drop(state);
        for (token, result) in done {
            token.tell(result);
        }
        self.0.idle.notify_waiters();
    }
}

impl Batch for Outgoing {
    fn records_count(&self) -> i32 {
        Outgoing::records_count(self)
    }

    fn len_bytes(&self) -> usize {
        Outgoing::len_bytes(self)
    }

    fn version_min(&self) -> i16 {
        // Brokers take zstd from Produce version 7 on (KIP-110).
        if self.codec() == Codec::Zstd { 7 } else { 3 }
    }
}

/// The body of a request for `batches`; for [`testing`](crate::testing).
pub(crate) fn write_request(version: i16, batches: Vec<(TopicPartition, Outgoing)>) -> Vec<Bytes> {
    let identity = entry::Identity { producer_id: 4711, epoch: 2 };
    let sending = entry::Sending { entry: 0, identity, base_sequence: 0 };
    let outbound = |(partition, batch)| state::Outbound { partition, sending, batch };
    let head = request::Head { version, acks: Acks::All, ack_timeout: Duration::from_secs(30) };
    request::encode(head, batches.into_iter().map(outbound).collect())
}
