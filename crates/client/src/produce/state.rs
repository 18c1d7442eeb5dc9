//! All partitions and brokers of one producer: what is sent where, and when. Pure: time, leaders
//! and answers come in as arguments; requests, results and wishes come out. Owned by the driver.
//!
//! Always true:
//! - a request takes one batch of a partition and names no partition twice: a broker keeps only the
//!   last of two (`KafkaApis.handleProduceRequest`) and takes only one batch of a partition
//!   (`ProduceRequest.validateRecords`);
//! - a broker has at most `in_flight_per_broker` requests at once, and none while it throttles us;
//! - partitions take turns: one that was served goes to the end of its broker's line.
//!
//! Bounds: one queue for each partition ever produced to, one link for each broker that led one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
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
    /// Chance for the backoff of each partition.
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
    /// Partitions that wait for a moment.
    timers: BTreeSet<(Instant, usize)>,
    /// Partitions with batches and without a leader, and since when.
    leaderless: BTreeMap<usize, Instant>,
    wants_metadata: bool,
    /// A partition has used up the epochs of the identity.
    identity_used_up: bool,
    refused: Option<ClientError>,
    is_closed: bool,
    done: Done<T>,
    queued: usize,
}

/// Where a partition stands in line.
#[derive(Default)]
struct Place {
    /// In whose line it is.
    line: Option<BrokerId>,
    /// The last request that took a batch of it.
    request: Option<u64>,
    /// Whether a timer runs for the oldest batch, or one that was the oldest.
    has_deadline: bool,
}

/// What is known of the way to one broker.
#[derive(Default)]
struct Link {
    ready: VecDeque<usize>,
    in_flight: usize,
    muted_until: Option<Instant>,
    way: Way,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
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
            timers: BTreeSet::new(),
            leaderless: BTreeMap::new(),
            wants_metadata: false,
            identity_used_up: false,
            refused: None,
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

    /// Queues a batch behind the others of its partition.
    pub(super) fn push(&mut self, now: Instant, partition: &TopicPartition, batch: B, token: T) {
        if self.is_closed {
            self.done.push((token, Err(Error::Closed { fate: Fate::NotWritten })));
            return;
        }
        if let Some(source) = self.refused.clone() {
            self.done.push((token, Err(Error::Refused { source })));
            return;
        }
        let index = self.index.get(partition).copied().unwrap_or_else(|| self.add(partition));
        match self.queues[index].push(now, batch, token) {
            Ok(()) => {
                self.queued += 1;
                self.settle(now, index);
            }
            Err((token, error)) => self.done.push((token, Err(error))),
        }
    }

    fn add(&mut self, partition: &TopicPartition) -> usize {
        let index = self.queues.len();
        let (initial, max) = self.rules.backoff;
        let seed = self.rules.seed.wrapping_add(index as u64);
        let backoff = Backoff::with_seed(initial, max, seed);
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

    /// Fails all that is queued and all that comes: the destination does not want this producer.
    pub(super) fn refuse(&mut self, source: &ClientError) {
        self.refused = Some(source.clone());
        for index in 0..self.queues.len() {
            let source = source.clone();
            self.stop(index, |_, _| Error::Refused { source });
        }
    }

    fn stop(&mut self, index: usize, error: impl FnOnce(TopicPartition, Fate) -> Error) {
        let before = self.queues[index].len();
        self.queues[index].stop(&mut self.done, error);
        self.queued -= before;
        self.leaderless.remove(&index);
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
        self.links.entry(broker).or_default().way = Way::Open(version);
    }

    /// There is no connection; none is tried before `retry_at`.
    pub(super) fn handle_closed(&mut self, broker: BrokerId, retry_at: Option<Instant>) {
        let way = retry_at.map_or(Way::Closed, Way::ClosedUntil);
        self.links.entry(broker).or_default().way = way;
        self.wants_metadata |= retry_at.is_some();
    }

    /// The broker asks to be left alone for a while (KIP-219).
    pub(super) fn handle_throttle(&mut self, now: Instant, broker: BrokerId, pause: Duration) {
        let until = now + pause.min(THROTTLE_MAX);
        let link = self.links.entry(broker).or_default();
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
        let queue = &self.queues[index];
        if let Some(leader) = queue.leader()
            && queue.sendable(now, self.rules.limits).is_some()
        {
            self.line_up(index, leader.broker);
        }
        self.identity_used_up |= self.queues[index].wants_identity();
        self.count(before, index);
    }

    /// Puts a partition at the end of a broker's line, unless it stands there.
    fn line_up(&mut self, index: usize, broker: BrokerId) {
        if self.places[index].line != Some(broker) {
            self.places[index].line = Some(broker);
            self.links.entry(broker).or_default().ready.push_back(index);
        }
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
        let id = self.next_request;
        let mut waiting = self.links.get(&broker)?.ready.len();
        let (mut batches, mut members, mut bytes) = (Vec::new(), Vec::new(), 0usize);
        while waiting > 0 {
            waiting -= 1;
            let Some(index) = self.links.get_mut(&broker)?.ready.pop_front() else { break };
            if self.places[index].line == Some(broker) {
                self.places[index].line = None;
            }
            // It may stand in a line twice, after its leader moved away and came back.
            let Some(len) = self.offered(now, index, broker, id) else { continue };
            if !batches.is_empty() && bytes.saturating_add(len) > self.rules.request_bytes_max {
                self.places[index].line = Some(broker);
                self.links.get_mut(&broker)?.ready.push_front(index);
                break;
            }
            if let Some(outbound) = self.take(now, index, version) {
                bytes += len;
                self.places[index].request = Some(id);
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
        self.next_request += 1;
        self.links.get_mut(&broker)?.in_flight += 1;
        self.sent.insert(id, Sent { broker, batches: members });
        Some(Request { id, broker, batches })
    }

    /// The size of the batch that the partition has for this broker and this request.
    fn offered(&self, now: Instant, index: usize, broker: BrokerId, id: u64) -> Option<usize> {
        let queue = &self.queues[index];
        let is_here = queue.leader().is_some_and(|leader| leader.broker == broker);
        if !is_here || self.places[index].request == Some(id) {
            return None;
        }
        queue.sendable(now, self.rules.limits).map(Batch::len_bytes)
    }

    /// Takes the partition's next batch, unless the broker is too old for it.
    fn take(&mut self, now: Instant, index: usize, version: i16) -> Option<Outbound<B>> {
        let queue = &mut self.queues[index];
        let partition = queue.partition().clone();
        let (sending, batch) = queue.send(now, self.rules.limits)?;
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

/// The longest throttle that is obeyed: a broker must not be able to stop us for ever.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
