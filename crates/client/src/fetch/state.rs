//! All partitions and brokers of one fetcher: what is asked of whom, and when. Pure: time, metadata
//! and answers come in as arguments; wishes and events come out. Owned by the driver.
//!
//! Always true:
//! - a broker has at most one fetch under way, for a session is a line of epochs;
//! - no more is fetched from a broker while a whole answer's worth of its data waits to be taken;
//! - an answer counts only for partitions that were asked for, where they stand, under the
//!   assignment they have.
//!
//! Bounds: one entry per assigned partition, one link per broker that leads one; events are bounded
//! by the budget, whose leases they carry, and by one trouble per assignment; those of former
//! assignments count until their turn comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::budget::Pins;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::config::Config;
use super::event::{Event, Position, Trouble};
use super::identity::Identity;
use super::link::{Link, Style};
use super::partition::{Leader, Partition, Phase, Seen};
use super::session::Plan;
use super::standing::Why;
use super::window;

/// The state of one fetcher.
pub(super) struct State {
    pub(super) config: Config,
    /// Notified when what kept something from being fetched was taken or given back.
    poke: Arc<Notify>,
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    pub(super) links: BTreeMap<BrokerId, Link>,
    next_generation: u64,
    pub(super) timers: BTreeSet<(Instant, TopicPartition)>,
    /// Partitions with a question to be asked, and some that have none any more.
    pub(super) attention: BTreeSet<TopicPartition>,
    /// Partitions that have no leader, and are not stopped.
    leaderless: BTreeSet<TopicPartition>,
    pub(super) wants_metadata: bool,
    events: VecDeque<Queued>,
    /// Partitions were assigned that the metadata have not been asked for.
    pub(super) is_new: bool,
    /// The task is gone.
    pub(super) is_ended: bool,
    /// What of the budget its answers should make do with.
    pub(super) memory_bytes: usize,
    /// What one partition may keep of others; see [`Config::pinned_bytes_max`].
    pinned_bytes_max: Arc<AtomicUsize>,
    seed: u64,
}

/// An event, and whose it is.
struct Queued {
    partition: TopicPartition,
    generation: u64,
    broker: Option<BrokerId>,
    bytes: usize,
    event: Event,
}

impl State {
    pub(super) fn new(config: Config, poke: Arc<Notify>, seed: u64) -> Self {
        Self {
            memory_bytes: usize::MAX,
            pinned_bytes_max: Arc::new(AtomicUsize::new(config.pinned_bytes_max)),
            config,
            poke,
            partitions: BTreeMap::new(),
            links: BTreeMap::new(),
            next_generation: 0,
            timers: BTreeSet::new(),
            attention: BTreeSet::new(),
            leaderless: BTreeSet::new(),
            wants_metadata: false,
            events: VecDeque::new(),
            is_new: false,
            is_ended: false,
            seed,
        }
    }

    // Commands.

    /// Fetches a partition from a position on, whatever was done with it before. If that is where
    /// it stood, it must still be the same log.
    pub(super) fn assign(&mut self, partition: &TopicPartition, position: Position) {
        let before = self.remove(partition).filter(|entry| {
            position.next_offset > 0 && entry.position.next_offset == position.next_offset
        });
        self.next_generation += 1;
        let generation = self.next_generation;
        let (initial, max) = self.config.backoff;
        let backoff = Backoff::with_seed(initial, max, self.seed.wrapping_add(generation));
        let pins = Pins::new(Arc::clone(&self.pinned_bytes_max), Arc::clone(&self.poke));
        let mut entry = Partition::new(generation, position, backoff, Arc::new(pins));
        if let Some(before) = before {
            entry.identity = before.identity;
            entry.identity.interrupt();
        }
        entry.identity.learn(position.topic_id);
        self.partitions.insert(partition.clone(), entry);
        if partition.topic.len() > NAME_BYTES_MAX {
            self.stop(partition, Trouble::Refused { code: ErrorCode::INVALID_TOPIC_EXCEPTION });
            return;
        }
        self.attention.insert(partition.clone());
        self.leaderless.insert(partition.clone());
        self.is_new = true;
    }

    /// Forgets a partition. What was fetched of it and not taken yet is dropped when its turn
    /// comes: to look for it here would cost as much as all that waits.
    pub(super) fn remove(&mut self, partition: &TopicPartition) -> Option<Partition> {
        self.leaderless.remove(partition);
        let entry = self.partitions.remove(partition)?;
        if let Some(link) = entry.leader.and_then(|leader| self.links.get_mut(&leader.broker)) {
            link.leave(partition);
        }
        Some(entry)
    }

    /// Fetches no more of a partition until it is resumed. What was fetched, or is on the way, is
    /// still handed out; if that is not over when it is resumed, nothing was interrupted.
    pub(super) fn set_paused(&mut self, partition: &TopicPartition, is_paused: bool) {
        let is_under_way = self.is_under_way(partition);
        let Some(entry) = self.change(partition) else { return };
        let was_paused = std::mem::replace(&mut entry.is_paused, is_paused);
        if was_paused && !is_paused && !is_under_way {
            entry.identity.interrupt();
        }
    }

    /// Whether the fetch under way asks for a partition where it stands.
    fn is_under_way(&self, name: &TopicPartition) -> bool {
        let Some(entry) = self.partitions.get(name) else { return false };
        let Some(broker) = entry.leader.map(|leader| leader.broker) else { return false };
        let asked = self.links.get(&broker).and_then(|link| link.under_way(name));
        asked.is_some_and(|asked| entry.awaits(broker, asked))
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Position> {
        self.partitions.get(partition).map(Partition::stands)
    }

    /// A partition of which something else may be wanted from here on. Whoever changes one goes
    /// this way, or tells its link, which looks only at those that it is told of.
    pub(super) fn change(&mut self, name: &TopicPartition) -> Option<&mut Partition> {
        let entry = self.partitions.get_mut(name)?;
        if let Some(link) = entry.leader.and_then(|leader| self.links.get_mut(&leader.broker)) {
            link.stir(name);
        }
        Some(entry)
    }

    // What came in.

    /// The metadata may have changed. `look` is asked for all partitions, in their order.
    pub(super) fn handle_view(
        &mut self,
        now: Instant,
        mut look: impl FnMut(&TopicPartition) -> Seen,
    ) {
        self.is_new = false;
        let seen = self.partitions.iter().map(|(name, entry)| (name, entry, look(name)));
        let news = seen.filter(|(_, entry, seen)| !entry.is_as(*seen));
        let news: Vec<_> = news.map(|(name, _, seen)| (name.clone(), seen)).collect();
        for (name, seen) in news {
            self.handle_seen(now, &name, seen);
        }
    }

    /// The metadata say this of one partition.
    pub(super) fn handle_seen(&mut self, now: Instant, name: &TopicPartition, seen: Seen) {
        let Some(entry) = self.partitions.get_mut(name) else { return };
        if entry.phase == Phase::Stopped {
            return;
        }
        if let (Some(before), Some(now)) = (entry.identity.topic_id, seen.topic_id)
            && before != now
        {
            self.stop(name, Trouble::Recreated { before: Some(before), now: Some(now) });
            return;
        }
        if seen.is_forbidden {
            self.stop(name, Trouble::Unauthorized);
            return;
        }
        entry.identity.learn(seen.topic_id);
        let old = entry.leader;
        if !seen.exists && old.is_some() {
            entry.identity.vanish();
        }
        entry.set_leader(seen.leader);
        entry.missing_since = match (seen.exists, entry.missing_since) {
            (true, _) => None,
            (false, since) => since.or(Some(now)),
        };
        if let Some(since) = entry.missing_since {
            self.timers.insert((since + self.config.missing_after, name.clone()));
        }
        self.attention.insert(name.clone());
        match (seen.leader, entry.standing) {
            (None, _) if seen.exists => self.stand(now, name, Why::Leaderless),
            (None, _) => self.stand(now, name, Why::Missing),
            (Some(_), Some(standing)) if standing.is_without_leader() => entry.go_on(name),
            (Some(_), _) => {}
        }
        self.move_to(name, old, seen.leader);
    }

    fn move_to(&mut self, name: &TopicPartition, old: Option<Leader>, new: Option<Leader>) {
        if let Some(link) = old.and_then(|leader| self.links.get_mut(&leader.broker)) {
            link.leave(name);
        }
        if let Some(leader) = new {
            let config = &self.config;
            let has_id =
                self.partitions.get(name).is_some_and(|entry| entry.identity.topic_id.is_some());
            let link = self.links.entry(leader.broker).or_insert_with(|| Link::new(config));
            link.join(name, has_id);
            self.leaderless.remove(name);
        } else {
            self.leaderless.insert(name.clone());
        }
    }

    /// Moments that have come.
    pub(super) fn handle_time(&mut self, now: Instant) {
        while let Some((at, name)) = self.timers.pop_first() {
            if at > now {
                self.timers.insert((at, name));
                return;
            }
            self.say_standing(now, &name);
            let after = self.config.missing_after;
            let Some(entry) = self.partitions.get(&name) else { continue };
            let is_missing = entry.missing_since.is_some_and(|since| since + after <= now);
            if is_missing && entry.phase != Phase::Stopped {
                self.stop(&name, Trouble::Missing);
            }
        }
    }

    /// The answer to the fetch under way did not come, or cannot be read.
    pub(super) fn handle_lost(&mut self, now: Instant, broker: BrokerId) {
        if let Some(link) = self.links.get_mut(&broker) {
            link.window.lost();
            link.stand(link.asked_at.unwrap_or(now));
        }
        self.handle_failure(now, broker);
    }

    /// The fetch under way is over without an answer.
    pub(super) fn handle_failure(&mut self, now: Instant, broker: BrokerId) {
        self.wants_metadata = true;
        let Some(link) = self.links.get_mut(&broker) else { return };
        link.is_busy = false;
        link.session.reset();
        link.stand(now);
        link.muted_until = Some(now + link.backoff.next_delay());
        for name in link.stir_all() {
            if let Some(entry) = self.partitions.get_mut(name) {
                entry.identity.interrupt();
            }
        }
    }

    /// The fetch that was to be sent had nothing to ask for any more.
    pub(super) fn handle_nothing(&mut self, broker: BrokerId) {
        if let Some(link) = self.links.get_mut(&broker) {
            link.is_busy = false;
        }
    }

    /// Stops a partition whose log is another one, though no ids tell.
    pub(super) fn stop_recreated(&mut self, name: &TopicPartition) {
        let now = self.partitions.get(name).and_then(|entry| entry.identity.topic_id);
        self.stop(name, Trouble::Recreated { before: None, now });
    }

    /// Stops a partition and tells why.
    pub(super) fn stop(&mut self, name: &TopicPartition, kind: Trouble) {
        self.leaderless.remove(name);
        let Some(entry) = self.change(name) else { return };
        entry.phase = Phase::Stopped;
        let position = entry.stopped_at(&kind);
        if kind.ends_the_log() {
            entry.identity = Identity::default();
        } else {
            entry.identity.interrupt();
        }
        let generation = entry.generation;
        tracing::warn!(
            partition = %name, next_offset = position.next_offset, trouble = %kind,
            "partition stopped"
        );
        let event = Event::Trouble { partition: name.clone(), position, kind };
        self.push(name, generation, None, event);
    }

    // What goes out.

    /// The next broker that a fetch is to be sent to, and how many bytes it may bring. Counts as
    /// under way from here on.
    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<(BrokerId, usize)> {
        let brokers = self.links.values().filter(|link| link.has_members()).count();
        let Self { links, partitions, config, memory_bytes, .. } = self;
        let limit = |link: &Link| {
            window::limit(*memory_bytes, brokers, link.round_trip, config.fetch_bytes_max)
        };
        let mut due = links.iter_mut().filter(|(_, link)| link.is_free(now, limit(link)));
        let (broker, link) = due.find_map(|(broker, link)| {
            link.settle(now, partitions, config.partition_bytes_max).then_some((broker, link))
        })?;
        link.is_busy = true;
        let limit = limit(link);
        // A partition whose part of one answer is all that it holds is no trouble to the others.
        self.pinned_bytes_max.store(limit.max(config.pinned_bytes_max), Ordering::Relaxed);
        Some((*broker, link.bytes(limit)))
    }

    /// A broker is reached, and that far away as far as is known.
    pub(super) fn handle_connected(&mut self, broker: BrokerId, round_trip: Duration) {
        if let Some(link) = self.links.get_mut(&broker) {
            link.round_trip = round_trip;
        }
    }

    /// The request for a broker, now that memory for `bytes` is reserved. `None` if nothing is left
    /// to ask for.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        broker: BrokerId,
        bytes: usize,
        style: Style,
    ) -> Option<Plan> {
        let Self { links, partitions, config, .. } = self;
        let link = links.get_mut(&broker)?;
        link.settle(now, partitions, config.partition_bytes_max);
        link.plan(now, bytes, config.partition_bytes_max, style)
    }

    /// How long a broker may wait for data before it answers.
    pub(super) fn wait(&self, broker: BrokerId) -> Duration {
        let wait_max = self.config.wait_max;
        self.links.get(&broker).map_or(wait_max, |link| link.wait(wait_max))
    }

    /// Whether all that a broker is to be asked for have topic ids.
    pub(super) fn has_topic_ids(&self, broker: BrokerId) -> bool {
        self.links.get(&broker).is_some_and(Link::has_topic_ids)
    }

    /// Whether newer metadata are wanted.
    pub(super) fn wants_metadata(&mut self) -> bool {
        let Self { attention, partitions, .. } = self;
        attention.retain(|name| partitions.get(name).is_some_and(Partition::needs_attention));
        self.wants_metadata || !self.leaderless.is_empty()
    }

    /// The metadata have been asked for.
    pub(super) fn metadata_asked(&mut self) {
        self.wants_metadata = false;
    }

    /// When something is next to be done that nothing else will bring about.
    pub(super) fn poll_wake(&self, now: Instant) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let muted = self.links.values().filter_map(|link| link.muted_until);
        timer.into_iter().chain(muted.filter(|at| *at > now)).min()
    }

    // Events.

    /// Remembers to look at a partition, and at `at` at the latest.
    pub(super) fn remind(&mut self, at: Instant, name: &TopicPartition) {
        self.timers.insert((at, name.clone()));
        self.attention.insert(name.clone());
    }

    /// Queues an event that came from `broker`, or from us.
    pub(super) fn push(
        &mut self,
        partition: &TopicPartition,
        generation: u64,
        broker: Option<BrokerId>,
        event: Event,
    ) {
        let bytes = match &event {
            Event::Fetched(fetched) => fetched.lease.bytes(),
            Event::Trouble { .. } => 0,
        };
        if let Some(link) = broker.and_then(|broker| self.links.get_mut(&broker)) {
            link.waiting_bytes += bytes;
        }
        let partition = partition.clone();
        self.events.push_back(Queued { partition, generation, broker, bytes, event });
    }

    /// Whether there is an event.
    pub(super) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event; those of older assignments are dropped.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        while let Some(queued) = self.events.pop_front() {
            if let Some(link) = queued.broker.and_then(|broker| self.links.get_mut(&broker)) {
                link.waiting_bytes -= queued.bytes;
            }
            // There is room for more.
            self.poke.notify_one();
            let entry = self.partitions.get(&queued.partition);
            if entry.is_some_and(|entry| entry.generation == queued.generation) {
                return Some(queued.event);
            }
        }
        None
    }

    /// The fetch under way was answered.
    pub(super) fn answered(&mut self, now: Instant, broker: BrokerId, throttle: Duration) {
        if let Some(link) = self.links.get_mut(&broker) {
            link.is_busy = false;
            link.backoff.reset();
            if link.standing.take().is_some_and(|standing| standing.is_said()) {
                tracing::info!(broker = broker.0, "broker can be fetched from again");
            }
            let pause = throttle.min(THROTTLE_MAX);
            link.muted_until = (!pause.is_zero()).then(|| now + pause);
        }
    }
}

/// The longest name that requests can hold. Kafka's own are no longer than 249 bytes.
pub(super) const NAME_BYTES_MAX: usize = i16::MAX as usize;

/// The longest throttle that is obeyed: a broker must not be able to stop us for ever.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
