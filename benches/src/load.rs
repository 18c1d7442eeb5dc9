//! Batches built beforehand, and produced as fast as the brokers take them.
//!
//! It makes the load that every mirror copies, and measures what producing alone can reach. Only
//! some tens of megabytes of batches are built; they are sent again and again, for no mirror and
//! no broker looks further back than one batch.

use std::collections::VecDeque;
use std::thread;

use kmirror_client::{
    Client, Config, TopicPartition,
    batch::{Codec, Compressor, Levels, Outgoing, Record, rebuild::Builder},
    clock,
    produce::{self, BatchProducer, Delivery},
};

use crate::{
    Error,
    case::{Batching, Case},
    floor::{Ceiling, Meter, in_threads, shares},
    records::Values,
};

/// Logical bytes of different records that each thread has in stock.
const STOCK_BYTES: usize = 32 << 20;
/// Batches left out at first with a codec: the builder has yet to learn how well it compresses.
const LEARNING: usize = 24;
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
    in_threads(jobs.map(|(own, stock)| move || send(bootstrap, own, stock)))?;
    meter.stop(case)
}

async fn send(bootstrap: &str, own: Vec<TopicPartition>, stock: Stock) -> Result<(), Error> {
    let config = Config::new(bootstrap).map_err(Error::client("reach the brokers"))?;
    let client = Client::connect(config).await.map_err(Error::client("reach the brokers"))?;
    let failed = |partition: &TopicPartition| {
        let topic = partition.to_string();
        move |source| Error::Produce { topic, source }
    };
    let producer =
        BatchProducer::try_new(client, produce::Config::default()).map_err(failed(&own[0]))?;
    let mut under_way: VecDeque<(TopicPartition, Delivery)> = VecDeque::new();
    for (batch, partition) in stock.iter().zip(own.iter().cycle()) {
        if under_way.len() >= UNDER_WAY_MAX
            && let Some((partition, delivery)) = under_way.pop_front()
        {
            delivery.await.map_err(failed(&partition))?;
        }
        under_way.push_back((partition.clone(), producer.send(partition, batch.clone()).await));
    }
    for (partition, delivery) in under_way {
        delivery.await.map_err(failed(&partition))?;
    }
    Ok(())
}

impl Stock {
    /// The part of thread `index` of `threads`.
    fn build(case: &Case, index: usize, threads: usize) -> Result<Self, Error> {
        let (index, threads) = (index as u64, threads as u64);
        let records = case.records / threads + u64::from(index < case.records % threads);
        let mut maker = Maker::new(case, index);
        let enough = (STOCK_BYTES / case.record_bytes.max(16)) as u64;
        if case.codec != Codec::None && case.batching != Batching::One {
            for _ in 0..LEARNING {
                maker.batch(u64::MAX)?;
            }
        }
        let (mut batches, mut built) = (Vec::new(), 0);
        while built < enough.min(records) {
            let batch = maker.batch(records - built)?;
            built += batch.records_count().unsigned_abs() as u64;
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

fn count(batch: &Outgoing) -> u64 {
    u64::from(batch.records_count().unsigned_abs())
}

/// Makes batches as the case wants them.
struct Maker {
    values: Values,
    builder: Builder,
    compressor: Compressor,
    batching: Batching,
    record_bytes: usize,
    keys: u64,
    made: u64,
}

impl Maker {
    fn new(case: &Case, seed: u64) -> Self {
        Self {
            values: Values::new(case.record_bytes, seed),
            builder: Builder::new(case.codec),
            compressor: Compressor::new(Levels::default()),
            batching: case.batching,
            record_bytes: case.record_bytes,
            keys: case.keys,
            made: 0,
        }
    }

    /// The next batch, of `records_max` records at most.
    fn batch(&mut self, records_max: u64) -> Result<Outgoing, Error> {
        loop {
            let key = (self.keys > 0).then(|| format!("key-{}", self.made % self.keys));
            let key = key.as_ref().map(String::as_bytes);
            let record = Record::new(key, Some(self.values.next_value()));
            self.builder.push(&record.with_timestamp(clock::unix_ms()))?;
            self.made += 1;
            if self.is_full() || self.builder.records_count().unsigned_abs() as u64 >= records_max {
                let batch = self.builder.finish(&mut self.compressor);
                return Ok(batch.expect("invariant: a record was pushed"));
            }
        }
    }

    /// Whether one more record might be too much.
    fn is_full(&self) -> bool {
        match self.batching {
            Batching::One => true,
            Batching::Bytes(limit) => {
                let one_more = self.record_bytes + RECORD_OVERHEAD;
                self.builder.size_estimate() + one_more > limit
                    || self.builder.len_bytes_uncompressed() + one_more > UNCOMPRESSED_BYTES_MAX
            }
        }
    }
}

/// What a record takes beside its value, at most, with the short keys used here.
const RECORD_OVERHEAD: usize = 48;
/// The largest batch before compression, so that one memory budget fits all.
const UNCOMPRESSED_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Partitions;

    fn case(records: u64, codec: Codec, batching: Batching) -> Case {
        let partitions = Partitions { source: 2, destination: 2 };
        Case { records, record_bytes: 1024, keys: 0, codec, batching, partitions }
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
