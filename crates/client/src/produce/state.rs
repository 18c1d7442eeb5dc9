//! All partitions and brokers of one producer: what is sent where, and when. Pure: time, leaders
//! and answers come in as arguments; requests, results and wishes come out. Owned by the driver.
//!
//! Always true:
//! - a request takes one batch of a partition and names no partition twice: a broker keeps only the
//!   last of two (`KafkaApis.handleProduceRequest`) and takes only one batch of a partition
//!   (`ProduceRequest.validateRecords`);
//! - a broker has at most `in_flight_per_broker` requests at once, and none while it throttles us;
//! - partitions take turns: one that was served goes to the end of its broker's line;
//! - a partition stands in its leader's line exactly while it has something to send, and in no
//!   other: a broker that leads nothing is not dialled;
//! - what is queued has something that moves it on: an answer to come, a line to stand in, a timer,
//!   newer metadata or an identity that is asked for.
//!
//! Bounds: one queue for each partition ever produced to, since the broker may know its numbers
//! for as long; one link for each broker that led one.

mod withdraw;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Error as ClientError, Fate};
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::decision::{Decision, OnRejected};
use super::entry::{Batch, Done, Identity, Leader, Limits, Sending, Verdict};
use super::error::{Error, Rejection};
use super::queue::Queue;
use super::reply::{Reply, wants_metadata};

/// What the state obeys.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) idempotence: bool,
    pub(super) limits: Limits,
    pub(super) in_flight_per_broker: usize,
    pub(super) request_bytes_max: usize,
    pub(super) missing_timeout: Option<Duration>,
    pub(super) backoff: (Duration, Duration),
    /// Chance for the backoff of each partition and broker.
    pub(super) seed: u64,
}

/// One request to be written to a broker's connection.
#[derive(Debug)]
pub(super) struct Request<B> {
    pub(super) id: u64,
    pub(super) broker: BrokerId,
    pub(super) batches: Vec<Outbound<B>>,
}

/// One batch of a request.
#[derive(Debug)]
pub(super) struct Outbound<B> {
    pub(super) partition: TopicPartition,
    pub(super) sending: Sending,
    pub(super) batch: B,
}

/// The producer's whole state. `B` is a batch (cheap to clone), `T` what a delivery is told by.
pub(super) struct State<B, T> {
    rules: Rules,
    on_rejected: Arc<dyn OnRejected<B>>,
    identity: Option<Identity>,
    queues: Vec<Queue<B, T>>,
    places: Vec<Place>,
    index: HashMap<TopicPartition, usize>,
    links: BTreeMap<BrokerId, Link>,
    sent: HashMap<u64, Sent>,
    next_request: u64,
    next_ticket: u64,
    /// Partitions that wait for a moment.
    timers: BTreeSet<(Instant, usize)>,
    /// Partitions with batches and without a leader, and since when.
    leaderless: BTreeMap<usize, Instant>,
    wants_metadata: bool,
    /// A partition has used up the epochs of the identity.
    identity_used_up: bool,
    is_closed: bool,
    done: Done<T>,
    queued: usize,
}

/// Where a partition stands in line.
#[derive(Default)]
struct Place {
    /// In whose line it stands, and with which ticket.
    line: Option<(BrokerId, u64)>,
    /// Whether a timer runs for the oldest batch, or one that was the oldest.
    has_deadline: bool,
}

/// What is known of the way to one broker.
struct Link {
    /// The partitions that have something to send, by ticket: the lowest is next.
    ready: BTreeMap<u64, usize>,
    in_flight: usize,
    muted_until: Option<Instant>,
    way: Way,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Closed,
    Opening,
    /// Open, speaking this version of Produce.
    Open(i16),
    ClosedUntil(Instant),
}

struct Sent {
    broker: BrokerId,
    batches: Vec<(usize, u64)>,
}

impl<B: Batch + Clone, T> State<B, T> {
    pub(super) fn new(rules: Rules, on_rejected: Arc<dyn OnRejected<B>>) -> Self {
        Self {
            identity: (!rules.idempotence).then_some(Identity::NONE),
            rules,
            on_rejected,
            queues: Vec::new(),
            places: Vec::new(),
            index: HashMap::new(),
            links: BTreeMap::new(),
            sent: HashMap::new(),
            next_request: 0,
            next_ticket: 0,
            timers: BTreeSet::new(),
            leaderless: BTreeMap::new(),
            wants_metadata: false,
            identity_used_up: false,
            is_closed: false,
            done: Vec::new(),
            queued: 0,
        }
    }

    // Commands.

    /// Whether the partition has been produced to before.
    pub(super) fn knows(&self, partition: &TopicPartition) -> bool {
        self.index.contains_key(partition)
    }

    /// Makes a partition known, with its leader if that is known.
    pub(super) fn introduce(&mut self, partition: &TopicPartition, leader: Option<Leader>) {
        let index = self.add(partition);
        self.queues[index].set_leader(leader);
    }

    /// Queues a batch behind the others of its partition and says its number there. None if it has
    /// failed already.
    pub(super) fn push(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        batch: B,
        token: T,
    ) -> Option<u64> {
        if self.is_closed {
            self.done.push((token, Err(Error::Closed { fate: Fate::NotWritten })));
            return None;
        }
        let index = self.index.get(partition).copied().unwrap_or_else(|| self.add(partition));
        match self.queues[index].push(now, batch, token) {
            Ok(id) => {
                self.queued += 1;
                self.settle(now, index);
                Some(id)
            }
            Err((token, error)) => {
                self.done.push((token, Err(error)));
                None
            }
        }
    }

    fn add(&mut self, partition: &TopicPartition) -> usize {
        let index = self.queues.len();
        let backoff = backoff(&self.rules, index as u64);
        self.queues.push(Queue::new(partition.clone(), backoff));
        self.places.push(Place::default());
        self.index.insert(partition.clone(), index);
        index
    }

    /// Lets a stopped partition take batches again.
    pub(super) fn restart(&mut self, now: Instant, partition: &TopicPartition) {
        if let Some(&index) = self.index.get(partition) {
            self.queues[index].restart();
            self.settle(now, index);
        }
    }

    /// Fails all that is queued and all that comes.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        for index in 0..self.queues.len() {
            self.stop(index, |_, fate| Error::Closed { fate });
        }
    }

    /// The destination grants no identity: fails what waits for one, until it is restarted. What
    /// has one goes on.
    pub(super) fn refuse(&mut self, source: &ClientError) {
        let has_none = self.identity.is_none();
        let waits = |queue: &Queue<B, T>| has_none || queue.wants_identity();
        self.fail(source, waits);
    }

    /// The broker speaks no version of Produce that is of use: fails what is queued for it, until
    /// it is restarted.
    pub(super) fn refuse_broker(&mut self, now: Instant, broker: BrokerId, source: &ClientError) {
        self.handle_unreached(now, broker);
        let is_led = |queue: &Queue<B, T>| queue.leader().is_some_and(|led| led.broker == broker);
        self.fail(source, is_led);
    }

    /// Another cluster answers: fails all that is queued, until it is restarted.
    pub(super) fn refuse_all(&mut self, source: &ClientError) {
        self.fail(source, |_| true);
    }

    fn fail(&mut self, source: &ClientError, is_meant: impl Fn(&Queue<B, T>) -> bool) {
        for index in 0..self.queues.len() {
            if !self.queues[index].is_empty() && is_meant(&self.queues[index]) {
                let source = source.clone();
                self.stop(index, |_, fate| Error::Refused { source, fate });
            }
        }
    }

    fn stop(&mut self, index: usize, error: impl FnOnce(TopicPartition, Fate) -> Error) {
        let before = self.queues[index].len();
        self.queues[index].stop(&mut self.done, error);
        self.queued -= before;
        self.leaderless.remove(&index);
        self.stand(index, None);
    }

    // What came in.

    /// The producer has an identity, or a new one.
    pub(super) fn handle_identity(&mut self, now: Instant, identity: Identity) {
        self.identity = Some(identity);
        self.identity_used_up = false;
        for index in 0..self.queues.len() {
            self.queues[index].renew(identity);
            self.settle(now, index);
        }
    }

    /// The metadata changed. Asks for the leader of every partition known here.
    pub(super) fn handle_leaders(
        &mut self,
        now: Instant,
        leader: impl Fn(&TopicPartition) -> Option<Leader>,
    ) {
        for index in 0..self.queues.len() {
            let found = leader(self.queues[index].partition());
            self.queues[index].set_leader(found);
            self.settle(now, index);
        }
    }

    /// A connection to the broker is there.
    pub(super) fn handle_open(&mut self, broker: BrokerId, version: i16) {
        let link = self.link(broker);
        link.way = Way::Open(version);
        link.backoff.reset();
    }

    /// The connection to the broker is gone. A new one is made when it is needed.
    pub(super) fn handle_closed(&mut self, broker: BrokerId) {
        self.link(broker).way = Way::Closed;
    }

    /// The broker could not be dialled, or the metadata do not know it. Each time in a row it is
    /// left alone for longer.
    pub(super) fn handle_unreached(&mut self, now: Instant, broker: BrokerId) {
        let link = self.link(broker);
        link.way = Way::ClosedUntil(now + link.backoff.next_delay());
        self.wants_metadata = true;
    }

    fn link(&mut self, broker: BrokerId) -> &mut Link {
        let rules = &self.rules;
        self.links.entry(broker).or_insert_with(|| Link {
            ready: BTreeMap::new(),
            in_flight: 0,
            muted_until: None,
            way: Way::Closed,
            backoff: backoff(rules, u64::from(broker.0.cast_unsigned()) << 32),
        })
    }

    /// The broker asks to be left alone for a while (KIP-219).
    pub(super) fn handle_throttle(&mut self, now: Instant, broker: BrokerId, pause: Duration) {
        let until = now + pause.min(THROTTLE_MAX);
        let link = self.link(broker);
        link.muted_until = Some(link.muted_until.map_or(until, |muted| muted.max(until)));
    }

    /// A request was answered, or it is known that it will not be. `reply` is asked once for each
    /// of its partitions.
    pub(super) fn handle_reply(
        &mut self,
        now: Instant,
        request: u64,
        mut reply: impl FnMut(&TopicPartition) -> Reply,
    ) {
        let Some(Sent { broker, batches }) = self.sent.remove(&request) else { return };
        if let Some(link) = self.links.get_mut(&broker) {
            link.in_flight -= 1;
        }
        for (index, entry) in batches {
            let reply = reply(self.queues[index].partition());
            if let Reply::Retry(code) | Reply::Unknown(code) = &reply {
                self.wants_metadata |= wants_metadata(*code);
            }
            self.handle_one(now, index, entry, reply);
        }
    }

    fn handle_one(&mut self, now: Instant, index: usize, entry: u64, reply: Reply) {
        let queue = &mut self.queues[index];
        let before = queue.len();
        let partition = queue.partition().clone();
        if let Some((rejection, batch)) = queue.handle(now, entry, reply, &mut self.done) {
            let decision = self.on_rejected.decide(&partition, batch, &rejection);
            self.decide(now, index, rejection, decision);
        }
        self.count(before, index);
        self.settle(now, index);
    }

    fn decide(&mut self, now: Instant, index: usize, rejection: Rejection, decision: Decision<B>) {
        let verdict = match decision {
            Decision::Stop => Verdict::Stop,
            Decision::Skip => Verdict::Skip,
            Decision::Replace(batches) => Verdict::Replace(batches),
        };
        self.queues[index].reject(now, verdict, rejection, &mut self.done);
    }

    fn count(&mut self, before: usize, index: usize) {
        self.queued = self.queued + self.queues[index].len() - before;
    }

    /// Moments that have come: pauses that are over, batches that waited too long.
    pub(super) fn handle_time(&mut self, now: Instant) {
        while let Some(&(at, index)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.places[index].has_deadline = false;
            let before = self.queues[index].len();
            self.queues[index].expire(now, self.rules.limits, &mut self.done);
            self.count(before, index);
            self.settle(now, index);
        }
        self.expire_missing(now);
    }

    fn expire_missing(&mut self, now: Instant) {
        let Some(timeout) = self.rules.missing_timeout else { return };
        let overdue = |since: &Instant| now.duration_since(*since) >= timeout;
        let missing: Vec<(usize, Instant)> = self
            .leaderless
            .iter()
            .filter(|(_, since)| overdue(since))
            .map(|(i, s)| (*i, *s))
            .collect();
        for (index, since) in missing {
            let waited = now.duration_since(since);
            self.stop(index, |partition, fate| Error::MissingPartition { partition, waited, fate });
        }
    }

    /// Puts a partition where it belongs after anything about it changed.
    fn settle(&mut self, now: Instant, index: usize) {
        let before = self.queues[index].len();
        let queue = &mut self.queues[index];
        queue.settle(&mut self.done);
        if let Some(identity) = self.identity {
            queue.adopt(identity);
        }
        let queue = &self.queues[index];
        if queue.is_empty() || queue.leader().is_some() {
            self.leaderless.remove(&index);
        } else {
            self.leaderless.entry(index).or_insert(now);
            self.wants_metadata = true;
        }
        let retry_at = queue.retry_at().filter(|at| *at > now);
        let deadline = self.deadline(queue).filter(|_| !self.places[index].has_deadline);
        self.places[index].has_deadline |= deadline.is_some();
        self.timers.extend(retry_at.into_iter().chain(deadline).map(|at| (at, index)));
        self.stand(index, self.goal(now, index));
        self.identity_used_up |= self.queues[index].wants_identity();
        self.count(before, index);
    }

    /// The broker that the partition has something for now.
    fn goal(&self, now: Instant, index: usize) -> Option<BrokerId> {
        let broker = self.queues[index].leader()?.broker;
        self.queues[index].sendable(now, self.limits(broker))?;
        Some(broker)
    }

    /// A broker that speaks Produce 3 alone is of 0.11. It remembers one batch of a producer, so a
    /// second one under way could not be told from a lost one if both are sent again (KAFKA-5494).
    fn limits(&self, broker: BrokerId) -> Limits {
        let limits = self.rules.limits;
        match self.links.get(&broker).map(|link| link.way) {
            Some(Way::Open(3)) if self.rules.idempotence => Limits { in_flight: 1, ..limits },
            _ => limits,
        }
    }

    /// Puts a partition at the end of a broker's line, unless it stands there; it leaves any other.
    fn stand(&mut self, index: usize, goal: Option<BrokerId>) {
        let line = self.places[index].line;
        if line.map(|(broker, _)| broker) == goal {
            return;
        }
        if let Some((broker, ticket)) = line {
            self.link(broker).ready.remove(&ticket);
        }
        self.places[index].line = goal.map(|broker| {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            self.link(broker).ready.insert(ticket, index);
            (broker, ticket)
        });
    }

    fn deadline(&self, queue: &Queue<B, T>) -> Option<Instant> {
        Some(queue.oldest()? + self.rules.limits.delivery_timeout?)
    }

    // What goes out.

    /// The next request that may be written now.
    pub(super) fn poll_request(&mut self, now: Instant) -> Option<Request<B>> {
        let max = self.rules.in_flight_per_broker;
        let ready = |link: &Link| {
            !link.ready.is_empty()
                && link.in_flight < max
                && link.muted_until.is_none_or(|until| until <= now)
        };
        self.identity?;
        let brokers: Vec<(BrokerId, i16)> = self
            .links
            .iter()
            .filter(|(_, link)| ready(link))
            .filter_map(|(id, link)| match link.way {
                Way::Open(version) => Some((*id, version)),
                Way::Closed | Way::Opening | Way::ClosedUntil(_) => None,
            })
            .collect();
        brokers.into_iter().find_map(|(broker, version)| self.gather(now, broker, version))
    }

    /// One batch of each partition in the broker's line, as many as fit.
    fn gather(&mut self, now: Instant, broker: BrokerId, version: i16) -> Option<Request<B>> {
        // Those that are served, and stand in line again, are behind this one.
        let end = self.next_ticket;
        let limits = self.limits(broker);
        let (mut batches, mut members, mut bytes) = (Vec::new(), Vec::new(), 0usize);
        while let Some((_, &index)) = self.links.get(&broker)?.ready.range(..end).next() {
            let len = self.queues[index].sendable(now, limits).map_or(0, Batch::len_bytes);
            if !batches.is_empty() && bytes.saturating_add(len) > self.rules.request_bytes_max {
                break;
            }
            self.stand(index, None);
            if let Some(outbound) = self.take(now, index, limits, version) {
                bytes += len;
                members.push((index, outbound.sending.entry));
                batches.push(outbound);
            }
        }
        for (index, _) in &members {
            self.settle(now, *index);
        }
        if batches.is_empty() {
            return None;
        }
        let id = self.next_request;
        self.next_request += 1;
        self.link(broker).in_flight += 1;
        self.sent.insert(id, Sent { broker, batches: members });
        Some(Request { id, broker, batches })
    }

    /// Takes the partition's next batch, unless the broker is too old for it.
    fn take(
        &mut self,
        now: Instant,
        index: usize,
        limits: Limits,
        version: i16,
    ) -> Option<Outbound<B>> {
        let queue = &mut self.queues[index];
        let partition = queue.partition().clone();
        let (sending, batch) = queue.send(now, limits)?;
        if version >= batch.version_min() {
            return Some(Outbound { partition, sending, batch: batch.clone() });
        }
        let rejection = Rejection::of(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        self.handle_one(now, index, sending.entry, Reply::Rejected(rejection));
        None
    }

    /// The next broker a connection is needed to. Marks it as being opened.
    pub(super) fn poll_connect(&mut self, now: Instant) -> Option<BrokerId> {
        let wanted = |link: &Link| match link.way {
            Way::Closed => !link.ready.is_empty(),
            Way::ClosedUntil(at) => !link.ready.is_empty() && at <= now,
            Way::Opening | Way::Open(_) => false,
        };
        let (id, link) = self.links.iter_mut().find(|(_, link)| wanted(link))?;
        link.way = Way::Opening;
        Some(*id)
    }

    /// Whether an identity must be asked for: there is none, or its epochs are used up.
    pub(super) fn wants_identity(&self) -> bool {
        let idle = self.queued == 0 && self.identity.is_none();
        self.rules.idempotence && !idle && (self.identity.is_none() || self.identity_used_up)
    }

    /// Whether newer metadata are wanted.
    pub(super) fn wants_metadata(&self) -> bool {
        self.wants_metadata || !self.leaderless.is_empty()
    }

    /// The metadata have been asked for.
    pub(super) fn metadata_asked(&mut self) {
        self.wants_metadata = false;
    }

    /// The results since the last call.
    pub(super) fn poll_done(&mut self) -> Done<T> {
        std::mem::take(&mut self.done)
    }

    /// When [`State::handle_time`] or [`State::poll_request`] next has something to do.
    pub(super) fn poll_wake(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let links = self.links.values().filter(|link| !link.ready.is_empty());
        let link = links.filter_map(|link| match link.way {
            Way::ClosedUntil(at) => Some(at),
            Way::Open(_) => link.muted_until,
            Way::Closed | Way::Opening => None,
        });
        let missing = self
            .rules
            .missing_timeout
            .and_then(|timeout| self.leaderless.values().min().map(|since| *since + timeout));
        timer.into_iter().chain(link.filter(|at| *at > now)).chain(missing).min()
    }

    /// How many batches wait or are on the way.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the partition takes nothing until it is restarted.
    pub(super) fn is_stopped(&self, partition: &TopicPartition) -> bool {
        self.index.get(partition).is_some_and(|index| self.queues[*index].is_stopped())
    }
}

/// The waits of one partition or broker.
fn backoff(rules: &Rules, chance: u64) -> Backoff {
    let (initial, max) = rules.backoff;
    Backoff::with_seed(initial, max, rules.seed.wrapping_add(chance))
}

/// The longest throttle that is obeyed: a broker must not be able to stop us for ever.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
