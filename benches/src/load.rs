//! Batches built beforehand, and produced as fast as the brokers take them.
//!
//! It makes the load that every mirror copies, and measures what producing alone can reach. Only
//! some tens of megabytes of batches are built; they are sent again and again, for no mirror and
//! no broker looks further back than one batch.

use std::collections::VecDeque;
use std::thread;

use kmirror_client::{
    Client, Config, TopicPartition,
    batch::Outgoing,
    produce::{self, BatchProducer, Delivery},
};

use crate::{
    Error,
    case::Case,
    floor::{Ceiling, Meter, in_threads, shares},
    maker::{Keys, Maker, count},
};

/// Logical bytes of different records that each thread has in stock.
const STOCK_BYTES: usize = 32 << 20;
/// The most batches of a thread on the way.
const UNDER_WAY_MAX: usize = 2_000;

/// What one thread sends: `batches` over and over, then `last`, so that the number of records is
/// exactly the one asked for.
struct Stock {
    batches: Vec<Outgoing>,
    whole: usize,
    last: Option<Outgoing>,
}

/// Produces the load of `case` to `topic` with that many threads, each with its own connection and
/// its own partitions.
///
/// # Errors
/// When the cluster cannot be reached or refuses a batch.
pub fn produce(
    bootstrap: &str,
    topic: &str,
    (case, partitions): (&Case, i32),
    threads: usize,
) -> Result<Ceiling, Error> {
    let shares = shares(topic, partitions, threads);
    let threads = shares.len();
    let stocks = thread::scope(|scope| {
        let builders: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || Stock::build(case, index, threads)))
            .collect();
        let join = |builder: thread::ScopedJoinHandle<'_, _>| {
            builder.join().expect("invariant: building batches does not panic")
        };
        builders.into_iter().map(join).collect::<Result<Vec<_>, Error>>()
    })?;
    let meter = Meter::start()?;
    let jobs = shares.into_iter().zip(stocks);
    in_threads(jobs.map(|(own, stock)| {
        move || async move {
            let mut sender = Sender::connect(bootstrap, own).await?;
            for batch in stock.iter() {
                sender.send(batch.clone()).await?;
            }
            sender.wait().await
        }
    }))?;
    meter.stop(case)
}

/// Sends batches to its partitions in turns.
pub(crate) struct Sender {
    producer: BatchProducer,
    own: Vec<TopicPartition>,
    next: usize,
    under_way: VecDeque<(TopicPartition, Delivery)>,
}

impl Sender {
    /// Connects to produce to the partitions `own`.
    pub(crate) async fn connect(bootstrap: &str, own: Vec<TopicPartition>) -> Result<Self, Error> {
        let config = Config::new(bootstrap).map_err(Error::client("reach the brokers"))?;
        let client = Client::connect(config).await.map_err(Error::client("reach the brokers"))?;
        let producer = BatchProducer::try_new(client, produce::Config::default());
        let producer = producer.map_err(failed(&own[0]))?;
        Ok(Self { producer, own, next: 0, under_way: VecDeque::new() })
    }

    /// Sends a batch to the next partition, once few enough are on the way.
    pub(crate) async fn send(&mut self, batch: Outgoing) -> Result<(), Error> {
        if self.under_way.len() >= UNDER_WAY_MAX
            && let Some((partition, delivery)) = self.under_way.pop_front()
        {
            delivery.await.map_err(failed(&partition))?;
        }
        let partition = self.own[self.next % self.own.len()].clone();
        self.next += 1;
        let delivery = self.producer.send(&partition, batch).await;
        self.under_way.push_back((partition, delivery));
        Ok(())
    }

    /// Waits until everything is acknowledged.
    pub(crate) async fn wait(&mut self) -> Result<(), Error> {
        for (partition, delivery) in self.under_way.drain(..) {
            delivery.await.map_err(failed(&partition))?;
        }
        Ok(())
    }
}

fn failed(partition: &TopicPartition) -> impl Fn(produce::Error) -> Error + use<> {
    let topic = partition.to_string();
    move |source| Error::Produce { topic: topic.clone(), source }
}

impl Stock {
    /// The part of thread `index` of `threads`.
    fn build(case: &Case, index: usize, threads: usize) -> Result<Self, Error> {
        let (index, threads) = (index as u64, threads as u64);
        let records = case.records / threads + u64::from(index < case.records % threads);
        let keys = if case.keys > 0 { Keys::Cycle(case.keys) } else { Keys::Null };
        let mut maker = Maker::new(case, keys, index)?;
        let enough = (STOCK_BYTES / case.record_bytes.max(16)) as u64;
        let (mut batches, mut built) = (Vec::new(), 0);
        while built < enough.min(records) {
            let batch = maker.batch(records - built)?;
            built += count(&batch);
            batches.push(batch);
        }
        let (mut whole, mut left) = (0, records);
        for count in batches.iter().map(count).cycle().take_while(|_| !batches.is_empty()) {
            if count > left {
                break;
            }
            left -= count;
            whole += 1;
        }
        let last = if left > 0 { Some(maker.batch(left)?) } else { None };
        debug_assert!(last.as_ref().is_none_or(|last| count(last) == left));
        Ok(Self { batches, whole, last })
    }

    fn iter(&self) -> impl Iterator<Item = &Outgoing> {
        self.batches.iter().cycle().take(self.whole).chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use kmirror_client::batch::Codec;

    use super::*;
    use crate::case::{Batching, Partitions};

    fn case(records: u64, codec: Codec, batching: Batching) -> Case {
        let partitions = Partitions { source: 2, destination: 2 };
        Case { records, record_bytes: 1024, keys: 0, codec, batching, partitions, gaps: false }
    }

    fn records_of(case: &Case, threads: usize) -> u64 {
        let stocks = (0..threads).map(|index| Stock::build(case, index, threads).expect("a stock"));
        stocks.map(|stock| stock.iter().map(count).sum::<u64>()).sum()
    }

    #[test]
    fn exactly_the_records_asked_for_are_sent() {
        for records in [0, 1, 7, 1_000, 100_001] {
            let case = case(records, Codec::None, Batching::Bytes(64 << 10));
            assert_eq!(records_of(&case, 2), records);
        }
        assert_eq!(records_of(&case(501, Codec::None, Batching::One), 3), 501);
    }

    #[test]
    fn batches_come_close_to_their_size_whatever_the_codec() {
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            let limit = 64 << 10;
            let stock = Stock::build(&case(20_000, codec, Batching::Bytes(limit)), 0, 1);
            let batches = stock.expect("a stock").batches;
            let sizes: Vec<usize> = batches.iter().map(Outgoing::len_bytes).collect();
            assert!(sizes.iter().all(|size| *size <= limit), "{codec}: {sizes:?}");
            assert!(sizes[1] > limit * 8 / 10, "{codec}: {sizes:?}");
        }
    }

    #[test]
    fn one_record_batches_hold_one_record() {
        let stock = Stock::build(&case(100, Codec::Lz4, Batching::One), 0, 1).expect("a stock");
        assert_eq!(stock.batches.len(), 100);
        assert!(stock.batches.iter().all(|batch| batch.records_count() == 1));
    }
}
