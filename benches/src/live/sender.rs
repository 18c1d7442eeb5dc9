//! The near end of the measured way: sends stamped records when they are due, one in each batch.
//!
//! The client runs in a thread of its own and the records are paced by another one that sleeps in
//! the kernel: the runtime's own timers only know whole milliseconds.

use std::{collections::VecDeque, thread, time::Duration};

use kmirror_client::{
    Client, Config, TopicPartition,
    batch::{Codec, Compressor, Levels, Outgoing, Record, rebuild::Builder},
    clock,
    produce::{self, BatchProducer, Delivery},
};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use super::{
    stamp::{PROBE, Schedule, Stamp},
    tally::quantile,
};
use crate::{Error, floor::block_on, records::Values};

/// A sender that is connected.
pub(super) struct Sender {
    producer: BatchProducer,
    handle: Handle,
    partitions: Vec<TopicPartition>,
    record_bytes: usize,
    turn: u32,
    /// What stamps count from.
    epoch: Instant,
    _thread: Thread,
}

/// What the records are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// Bytes of each value.
    pub(super) record_bytes: usize,
    /// The measurement they belong to.
    pub(super) turn: u32,
    /// What their stamps count from.
    pub(super) epoch: Instant,
}

/// The client's thread; its runtime ends when this is dropped.
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the sender's thread panicked");
        }
    }
}

impl Sender {
    /// Connects to the brokers and begins to know the partitions.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub(super) async fn connect(
        bootstrap: &str,
        partitions: Vec<TopicPartition>,
        kind: Kind,
    ) -> Result<Self, Error> {
        let (stop, stopped) = oneshot::channel();
        let (ready, connected) = oneshot::channel();
        let bootstrap = bootstrap.to_owned();
        let run = move || {
            let outcome = block_on(async {
                let producer = connect(&bootstrap).await;
                // Whoever asked for it is gone if it is not taken.
                let _ = ready.send(producer.map(|producer| (producer, Handle::current())));
                let _ = stopped.await;
                Ok(())
            });
            if let Err(error) = outcome {
                eprintln!("{error}");
            }
        };
        let thread = Thread { stop: Some(stop), thread: Some(thread::spawn(run)) };
        let connected = connected.await;
        let (producer, handle) = connected.expect("invariant: the thread says how it went")?;
        let Kind { record_bytes, turn, epoch } = kind;
        Ok(Self { producer, handle, partitions, record_bytes, turn, epoch, _thread: thread })
    }

    /// Sends one probe to each of `partitions` and waits until they are written.
    ///
    /// # Errors
    /// When they are refused.
    pub(super) async fn probe(&self, partitions: &[usize]) -> Result<(), Error> {
        let mut maker = self.maker();
        let mut under_way = Vec::new();
        for partition in partitions {
            let partition = &self.partitions[*partition];
            let due = clock::now().duration_since(self.epoch);
            let batch = maker.batch(Stamp { due, turn: self.turn, number: PROBE })?;
            under_way.push((partition, self.producer.send(partition, batch).await));
        }
        for (partition, delivery) in under_way {
            delivery.await.map_err(failed(partition))?;
        }
        Ok(())
    }

    /// Sends every record of `schedule`, whose first is due at `begin`, and waits until all are
    /// written. Blocks. Says how late it handed records to the client itself, at the 99th of 100.
    ///
    /// # Errors
    /// When a record is refused.
    pub(super) fn send(&self, schedule: &Schedule, begin: Instant) -> Result<Duration, Error> {
        let mut maker = self.maker();
        let mut own_delays = Vec::with_capacity(schedule.count() as usize);
        let mut under_way: VecDeque<(usize, Delivery)> = VecDeque::new();
        for number in 0..schedule.count() {
            let due = begin + schedule.due(number);
            let stamp = Stamp { due: due.duration_since(self.epoch), turn: self.turn, number };
            let batch = maker.batch(stamp)?;
            thread::sleep(due.saturating_duration_since(clock::now()));
            let index = schedule.partition(number) as usize;
            own_delays.push(clock::now().saturating_duration_since(due));
            let sending = self.producer.send(&self.partitions[index], batch);
            under_way.push_back((index, self.handle.block_on(sending)));
            if under_way.len() > UNDER_WAY_MAX {
                self.settle(under_way.pop_front())?;
            }
        }
        while !under_way.is_empty() {
            self.settle(under_way.pop_front())?;
        }
        own_delays.sort_unstable();
        Ok(quantile(&own_delays, 0.99).unwrap_or_default())
    }

    fn settle(&self, sent: Option<(usize, Delivery)>) -> Result<(), Error> {
        let Some((index, delivery)) = sent else { return Ok(()) };
        let written = self.handle.block_on(delivery);
        written.map(drop).map_err(failed(&self.partitions[index]))
    }

    fn maker(&self) -> Maker {
        Maker {
            values: Values::new(self.record_bytes, self.turn.into()),
            value: Vec::with_capacity(self.record_bytes),
            builder: Builder::new(Codec::None),
            compressor: Compressor::new(Levels::default()),
        }
    }
}

/// Far more than are ever under way at the rates that can be asked for: the schedule is not held
/// up by it.
const UNDER_WAY_MAX: usize = 100_000;

async fn connect(bootstrap: &str) -> Result<BatchProducer, Error> {
    let unreached = Error::client("reach the brokers");
    let config = Config::new(bootstrap).map_err(&unreached)?.with_client_id("kmirror-bench");
    let client = Client::connect(config).await.map_err(&unreached)?;
    let settings = produce::Config { queue_bytes_max: QUEUE_BYTES_MAX, ..Default::default() };
    let refused = |source| Error::Produce { topic: "any partition".to_owned(), source };
    BatchProducer::try_new(client, settings).map_err(refused)
}

/// The schedule is open: what cannot be sent yet waits, and counts as late.
const QUEUE_BYTES_MAX: usize = 512 << 20;

fn failed(partition: &TopicPartition) -> impl FnOnce(produce::Error) -> Error {
    let topic = partition.to_string();
    move |source| Error::Produce { topic, source }
}

/// Makes batches of one record.
struct Maker {
    values: Values,
    value: Vec<u8>,
    builder: Builder,
    compressor: Compressor,
}

impl Maker {
    fn batch(&mut self, stamp: Stamp) -> Result<Outgoing, Error> {
        self.value.clear();
        self.value.extend_from_slice(self.values.next_value());
        stamp.write(&mut self.value);
        let record = Record::new(None, Some(&self.value)).with_timestamp(clock::unix_ms());
        self.builder.push(&record)?;
        let batch = self.builder.finish(&mut self.compressor);
        Ok(batch.expect("invariant: a record was pushed"))
    }
}
