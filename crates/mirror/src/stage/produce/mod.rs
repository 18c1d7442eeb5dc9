//! The fourth stage: parcels into the destination's log, one [`Lane`] per destination partition.
//! The client's producer keeps order and retries; this stage decides what waits, what is merged
//! while it waits, and what a refusal means.
//!
//! Always true:
//! - a lane hands parcels to the producer in the order they came, no more than a few at a time, so
//!   that small ones that have to wait anyway can be merged ([`Way::Small`]), as those of one
//!   answer were in route; nothing waits to be merged;
//! - a lane with waiting parcels has something that wakes it: a parcel under way, a rest that ends,
//!   or room in the producer's queue that it waits for;
//! - after a failure a lane sends nothing until every parcel under way has come back;
//! - parcels of an ended life are dropped, never sent;
//! - what waits is counted in the budget: by the lease of the answer it is in, or as a copy.

mod aside;
mod distance;
mod refused;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kmirror_client::backoff::Backoff;
use kmirror_client::batch::coalesce::Joined;
use kmirror_client::batch::rebuild::Recoder;
use kmirror_client::batch::{Levels, Outgoing};
use kmirror_client::budget::{Budget, Lease};
use kmirror_client::produce::{self, Acked, BatchId, BatchProducer};
use kmirror_client::{TopicPartition, clock};
use tokio::time::Instant;

use super::commit::Span;
use super::route::DECOMPRESSED_BYTES_MAX;
use super::small::is_small;
use crate::config::Config;
use crate::error::chain;
use crate::flow::{Generation, Life, Offsets, Origin, Parcel, Produced, Way};
use crate::status::Board;
use distance::small_bytes;
pub(crate) use refused::Refusals;
use refused::{Verdict, kind, verdict};

/// The stage.
///
/// Bounds: a lane for each destination partition that was ever written to; a set for each life that
/// goes on, of the lanes it used; for each lane as many deliveries as may be under way, and a rest
/// or a wait for room; as many news as there are parcels under way, and one for each life in a lane
/// without progress.
pub(crate) struct Produce {
    producer: BatchProducer,
    refusals: Arc<Refusals>,
    config: Arc<Config>,
    board: Arc<Board>,
    budget: Budget,
    recoder: Recoder,
    lanes: Vec<Lane>,
    index: HashMap<TopicPartition, usize>,
    /// The lanes that each life has used since it was last set aside, or has something in.
    used: HashMap<Generation, BTreeSet<usize>>,
    /// Whether a look for lanes without progress is due.
    is_watching: bool,
    deliveries: FuturesUnordered<LocalBoxFuture<'static, News>>,
    produced: VecDeque<Produced>,
}

/// What a future of the stage comes back with.
enum News {
    Delivered {
        lane: usize,
        ticket: u64,
        outcome: Result<Acked, produce::Error>,
    },
    Rested {
        lane: usize,
    },
    /// The producer's queue has room for the lane's next parcel.
    HasRoom {
        lane: usize,
    },
    /// It is time to look for lanes without progress.
    Watch,
}

/// Everything on its way to one destination partition.
struct Lane {
    partition: TopicPartition,
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<Flying>,
    next_ticket: u64,
    /// `max.message.bytes` of the destination topic, when known.
    batch_bytes_max: usize,
    backoff: Backoff,
    mood: Mood,
    /// The producer's queue was full; the lane sends nothing before it has room.
    waits_for_room: bool,
    /// Since when it has had something to send and nothing was acknowledged.
    since: Instant,
    /// When it was last found to make no progress, if nothing was acknowledged since.
    stalled_at: Option<Instant>,
    /// What its last failure said, if nothing was acknowledged since.
    failure: Option<(&'static str, String)>,
    /// Whose parcel came last.
    last: Option<Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Flowing,
    /// A parcel failed; the others under way are awaited.
    Failing,
    /// It pauses after a failure.
    Resting,
}

/// A parcel that waits to be sent.
struct Waiting {
    receipt: Receipt,
    outgoing: Outgoing,
    offsets: Offsets,
    way: Way,
}

/// A parcel handed to the producer.
struct Flying {
    ticket: u64,
    id: Option<BatchId>,
    waiting: Waiting,
    failure: Option<produce::Error>,
}

/// What is acknowledged when one parcel, or several that were merged, are written. Dropping it
/// frees the memory they came in.
struct Receipt {
    life: Arc<Life>,
    spans: Vec<Span>,
    lease: Option<Arc<Lease>>,
    /// A part of it is written, or left out, already.
    is_begun: bool,
}

impl Produce {
    /// `refusals` has to be the one `producer` asks. What is merged is counted in `budget`'s
    /// buffers.
    pub(crate) fn new(
        (producer, refusals): (BatchProducer, Arc<Refusals>),
        config: Arc<Config>,
        board: Arc<Board>,
        budget: &Budget,
    ) -> Produce {
        let recoder = Recoder::new(Levels::default(), DECOMPRESSED_BYTES_MAX);
        Produce {
            producer,
            refusals,
            config,
            board,
            budget: budget.clone(),
            recoder: recoder.within(budget),
            lanes: Vec::new(),
            index: HashMap::new(),
            used: HashMap::new(),
            is_watching: false,
            deliveries: FuturesUnordered::new(),
            produced: VecDeque::new(),
        }
    }

    /// The lane to a destination partition; its topic's limit is brought up to date.
    pub(crate) fn lane(&mut self, partition: &TopicPartition, batch_bytes_max: usize) -> usize {
        let next = self.lanes.len();
        let lane = *self.index.entry(partition.clone()).or_insert(next);
        if lane == next {
            self.lanes.push(Lane::new(partition.clone()));
        }
        self.lanes[lane].batch_bytes_max = batch_bytes_max;
        lane
    }

    /// Queues a parcel. Nothing is sent before [`Produce::pump`].
    pub(crate) fn push(&mut self, lane: usize, origin: Origin, parcel: Parcel) {
        let Parcel { outgoing, offsets, way, .. } = parcel;
        let Origin { life, span, lease } = origin;
        let index = lane;
        let lane = &mut self.lanes[index];
        if lane.is_idle() {
            lane.since = clock::now();
        }
        if lane.last.replace(life.generation) != Some(life.generation) {
            self.used.entry(life.generation).or_default().insert(index);
        }
        let receipt = Receipt { life, spans: vec![span], lease, is_begun: false };
        lane.waiting.push_back(Waiting { receipt, outgoing, offsets, way });
        self.watch();
    }

    /// Hands what may go to the producer.
    pub(crate) fn pump(&mut self, lane: usize) {
        let in_flight_max = usize::from(self.config.produce.in_flight_max);
        while self.lanes[lane].may_send(in_flight_max) {
            let Some(waiting) = self.next_of(lane) else { return };
            self.send(lane, waiting);
        }
    }

    /// What became of parcels. Cancel-safe. Waits for ever when nothing is under way.
    pub(crate) async fn next(&mut self) -> Produced {
        loop {
            if let Some(produced) = self.produced.pop_front() {
                return produced;
            }
            match self.deliveries.next().await {
                Some(News::Delivered { lane, ticket, outcome }) => {
                    self.delivered(lane, ticket, outcome);
                }
                Some(News::Rested { lane }) => {
                    self.lanes[lane].mood = Mood::Flowing;
                    self.pump(lane);
                }
                Some(News::HasRoom { lane }) => {
                    self.lanes[lane].waits_for_room = false;
                    self.pump(lane);
                }
                Some(News::Watch) => self.look(),
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// The next parcel of a lane, merged with those behind it if they are small.
    fn next_of(&mut self, lane: usize) -> Option<Waiting> {
        let lane = &mut self.lanes[lane];
        while lane.waiting.front().is_some_and(|first| !first.receipt.life.is_current()) {
            lane.waiting.pop_front();
        }
        if lane.waiting.len() < 2 {
            return lane.waiting.pop_front();
        }
        let round_trip = self.producer.round_trip(&lane.partition).unwrap_or_default();
        let under_way = self.deliveries.len().max(self.config.produce.in_flight_max.into());
        let small = self.config.produce.small_batch_bytes as usize;
        let small = small.max(small_bytes(round_trip, under_way));
        let fill = (self.config.produce.batch_bytes as usize).min(lane.batch_bytes_max);
        let run = lane.run(small, fill);
        if run < 2 {
            return lane.waiting.pop_front();
        }
        let run = lane.waiting.range(..run);
        let batches: Vec<Outgoing> = run.map(|waiting| waiting.outgoing.clone()).collect();
        let joined = self.recoder.coalesce(&batches, fill);
        self.recoder.trim();
        match joined {
            Some(Joined { batch, count }) if count > 1 => {
                let merged: Vec<Waiting> = lane.waiting.drain(..count).collect();
                Some(merge(&merged, batch))
            }
            _ => lane.waiting.pop_front(),
        }
    }

    /// Hands a parcel to the producer. If the producer's queue is full it waits in front again, and
    /// the lane for room.
    fn send(&mut self, lane_index: usize, waiting: Waiting) {
        let lane = &mut self.lanes[lane_index];
        let Some(delivery) = self.producer.try_send(&lane.partition, waiting.outgoing.clone())
        else {
            let has_room = self.producer.has_room(&lane.partition, waiting.outgoing.len_bytes());
            lane.waiting.push_front(waiting);
            lane.waits_for_room = true;
            self.deliveries.push(Box::pin(async move {
                has_room.await;
                News::HasRoom { lane: lane_index }
            }));
            return;
        };
        let ticket = lane.next_ticket;
        lane.next_ticket += 1;
        let id = delivery.id();
        lane.in_flight.push_back(Flying { ticket, id, waiting, failure: None });
        self.deliveries.push(Box::pin(async move {
            News::Delivered { lane: lane_index, ticket, outcome: delivery.await }
        }));
    }

    fn delivered(
        &mut self,
        lane_index: usize,
        ticket: u64,
        outcome: Result<Acked, produce::Error>,
    ) {
        let lane = &mut self.lanes[lane_index];
        // What was taken back is not under way any more.
        let at = lane.in_flight.iter().position(|flying| flying.ticket == ticket);
        let Some(at) = at else { return };
        match outcome {
            Ok(_) => {
                let flying = lane.in_flight.remove(at).expect("invariant: it was just found");
                lane.backoff.reset();
                lane.since = clock::now();
                lane.stalled_at = None;
                lane.failure = None;
                self.written(lane_index, &flying.waiting);
            }
            Err(error) => {
                lane.mood = Mood::Failing;
                lane.in_flight[at].failure = Some(error);
            }
        }
        match self.lanes[lane_index].mood {
            Mood::Flowing => self.pump(lane_index),
            Mood::Failing => self.settle(lane_index),
            Mood::Resting => {}
        }
    }

    fn written(&mut self, lane_index: usize, waiting: &Waiting) {
        let receipt = &waiting.receipt;
        let header = waiting.outgoing.header();
        let records = u64::try_from(header.records_count).unwrap_or(0);
        let cell = &receipt.life.cell;
        match self.refusals.take_made(&self.lanes[lane_index].partition) {
            0 => cell.made(waiting.way),
            more => (0..=more).for_each(|_| cell.made(Way::Refused)),
        }
        cell.acknowledged(waiting.outgoing.len_bytes() as u64, records, header.max_timestamp);
        self.done(waiting);
    }

    /// A parcel is done with: what it stood for may be acknowledged.
    fn done(&mut self, waiting: &Waiting) {
        let (life, spans) = (Arc::clone(&waiting.receipt.life), waiting.receipt.spans.clone());
        self.produced.push_back(Produced::Acknowledged { life, spans });
    }

    /// Once everything under way has come back from a lane that failed: decides about each failure,
    /// puts what can be sent again in front, and rests.
    fn settle(&mut self, lane_index: usize) {
        if self.lanes[lane_index].in_flight.iter().any(|flying| flying.failure.is_none()) {
            return;
        }
        let failed = std::mem::take(&mut self.lanes[lane_index].in_flight);
        let Some(first) = failed.front().and_then(|flying| flying.failure.clone()) else { return };
        let mut again = Vec::new();
        let mut rest = Duration::ZERO;
        for Flying { waiting, failure, .. } in failed {
            let error = failure.expect("invariant: only failures are left");
            let kind = kind(&error);
            self.board.produce_error(kind);
            self.lanes[lane_index].failure = Some((kind, chain(&error)));
            match verdict(&error, &first, &self.config.trouble) {
                _ if !waiting.receipt.life.is_current() => {}
                Verdict::Again => again.push(waiting),
                Verdict::Skip(reason) => again.extend(self.skip(lane_index, waiting, reason)),
                Verdict::Restart => {
                    let lane = &mut self.lanes[lane_index];
                    rest = rest.max(lane.backoff.next_delay());
                    let error = chain(&error);
                    tracing::warn!(partition = %lane.partition, error, "delivery failed");
                    let life = Arc::clone(&waiting.receipt.life);
                    self.produced.push_back(Produced::Restart { life, why: error });
                }
                Verdict::Halt => {
                    let (at, bytes) = self.place_refused(lane_index, &waiting);
                    let life = Arc::clone(&waiting.receipt.life);
                    let halt = refused::halt(&error, at.0, bytes);
                    self.produced.push_back(Produced::Halted { life, halt });
                }
            }
        }
        let lane = &mut self.lanes[lane_index];
        for waiting in again.into_iter().rev() {
            lane.waiting.push_front(waiting);
        }
        lane.mood = Mood::Resting;
        self.producer.restart(&lane.partition);
        self.deliveries.push(Box::pin(async move {
            clock::sleep(rest).await;
            News::Rested { lane: lane_index }
        }));
    }

    /// Where the record stands that stopped the lane: its source offsets, its place in the parcel,
    /// and the bytes of the batch that held it.
    fn place_refused(&self, lane_index: usize, waiting: &Waiting) -> ((Offsets, i32), usize) {
        let stopped = self.refusals.take_stopped(&self.lanes[lane_index].partition);
        let records = waiting.outgoing.records_count();
        match stopped {
            Some(single) if single.records_count() == 1 => {
                let place = refused::place_of(&single, &waiting.outgoing);
                let at = refused::offsets_at(waiting.offsets, records, place);
                ((at, place), single.len_bytes())
            }
            _ => ((waiting.offsets, records - 1), waiting.outgoing.len_bytes()),
        }
    }

    /// Leaves the refused record out; what is behind it in its parcel goes on.
    fn skip(
        &mut self,
        lane_index: usize,
        waiting: Waiting,
        reason: &'static str,
    ) -> Option<Waiting> {
        let ((at, place), bytes) = self.place_refused(lane_index, &waiting);
        self.enter(&waiting, at, bytes, reason);
        let Some(outgoing) = refused::behind(&waiting.outgoing, place) else {
            self.done(&waiting);
            return None;
        };
        let records = waiting.outgoing.records_count();
        let (_, offsets) = waiting.offsets.split(records, place + 1);
        let receipt = Receipt { is_begun: true, ..waiting.receipt };
        Some(Waiting { outgoing, offsets, way: Way::Skip, receipt })
    }

    /// Writes what is left out to the ledger.
    fn enter(&self, waiting: &Waiting, at: Offsets, bytes: usize, reason: &'static str) {
        let source = &waiting.receipt.life.partition;
        let (first_offset, last_offset) = (at.first, at.last);
        tracing::warn!(
            target: "kmirror::ledger",
            %source, first_offset, last_offset, bytes, reason, "left out"
        );
        self.board.skipped(&source.topic, reason, 1);
    }
}

impl Lane {
    fn new(partition: TopicPartition) -> Lane {
        Lane {
            partition,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_ticket: 0,
            batch_bytes_max: usize::MAX,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            mood: Mood::Flowing,
            waits_for_room: false,
            since: clock::now(),
            stalled_at: None,
            failure: None,
            last: None,
        }
    }

    /// Whether it has nothing to send and nothing under way.
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    fn may_send(&self, in_flight_max: usize) -> bool {
        self.mood == Mood::Flowing && !self.waits_for_room && self.in_flight.len() < in_flight_max
    }

    /// How many parcels at the front may be merged: small, of one life, of one codec, together
    /// within `fill` bytes as they are.
    fn run(&self, small: usize, fill: usize) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        let mut bytes = 0;
        self.waiting
            .iter()
            .take_while(|waiting| {
                bytes += waiting.outgoing.len_bytes();
                is_small(&waiting.outgoing, small)
                    && bytes <= fill
                    && waiting.outgoing.codec() == first.outgoing.codec()
                    && Arc::ptr_eq(&waiting.receipt.life, &first.receipt.life)
            })
            .count()
    }
}

/// One parcel of several.
fn merge(merged: &[Waiting], outgoing: Outgoing) -> Waiting {
    let [first, .., last] = merged else { unreachable!("invariant: a run has two or more") };
    let receipts = merged.iter().map(|waiting| &waiting.receipt);
    let receipt = Receipt {
        life: Arc::clone(&first.receipt.life),
        spans: receipts.flat_map(|receipt| receipt.spans.iter().copied()).collect(),
        lease: None,
        is_begun: merged.iter().any(|waiting| waiting.receipt.is_begun),
    };
    let offsets = Offsets { first: first.offsets.first, last: last.offsets.last };
    Waiting { receipt, outgoing, offsets, way: Way::Small }
}

#[cfg(test)]
mod tests;
