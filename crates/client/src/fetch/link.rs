//! What is known of the way to one broker, and what it is to be asked. Pure; owned by
//! [`State`](super::state::State).
//!
//! Always true: a turn costs what has changed since the last one, however many partitions the
//! broker leads. `wanted` is right for every member that is not in `stirred`; the session is told
//! of what is in `changed`, and knows the rest. Only a request without a session, or the first of
//! one, goes through everything.
//!
//! Bounds: each set holds partitions that are assigned, or have been since the last request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::name::TopicPartition;

use super::config::Config;
use super::partition::Partition;
use super::session::{Plan, Session, Want};
use super::standing::{Standing, Why};
use super::window::{self, Window};

/// What a version of Fetch can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// A limit for the whole answer (from 3).
    pub(super) has_total: bool,
    /// Sessions (from 7).
    pub(super) has_sessions: bool,
    /// Topics are named by their ids (from 13).
    pub(super) has_ids: bool,
}

/// How long a broker may wait for data of some partitions while others are held back.
const WAIT_HELD_BACK: Duration = Duration::from_millis(10);

/// The way to one broker.
#[derive(Debug)]
pub(super) struct Link {
    /// The partitions it leads.
    members: BTreeSet<TopicPartition>,
    /// Those of which no topic id is known.
    nameless: BTreeSet<TopicPartition>,
    /// Partitions of which something else may be wanted than `wanted` says: they are looked at in
    /// every turn until nothing but a change can make a difference.
    pub(super) stirred: BTreeSet<TopicPartition>,
    /// Those that are not asked for because their reader has enough of them for now.
    held_back: BTreeSet<TopicPartition>,
    /// What is to be asked of each partition that is to be fetched, under its own limit.
    wanted: BTreeMap<TopicPartition, Want>,
    /// Those of `wanted` whose limit is higher than the configured one.
    raised: BTreeSet<TopicPartition>,
    /// Partitions of which the session may know something else than is wanted.
    changed: BTreeSet<TopicPartition>,
    /// The limit of each partition that the session was told last.
    each: usize,
    pub(super) session: Session,
    pub(super) window: Window,
    /// How far away it is; nothing until that is known.
    pub(super) round_trip: Duration,
    /// When the fetch under way was sent.
    pub(super) asked_at: Option<Instant>,
    uses_ids: bool,
    pub(super) is_busy: bool,
    /// Bytes of its answers that wait to be taken.
    pub(super) waiting_bytes: usize,
    pub(super) muted_until: Option<Instant>,
    pub(super) backoff: Backoff,
    /// Since when it cannot be fetched from.
    pub(super) standing: Option<Standing>,
    /// Which partition a request without a session names first.
    turn: usize,
}

impl Link {
    pub(super) fn new(config: &Config) -> Self {
        let (initial, max) = config.backoff;
        Self {
            members: BTreeSet::new(),
            nameless: BTreeSet::new(),
            stirred: BTreeSet::new(),
            held_back: BTreeSet::new(),
            wanted: BTreeMap::new(),
            raised: BTreeSet::new(),
            changed: BTreeSet::new(),
            each: 0,
            session: Session::default(),
            window: Window::new(config.partition_bytes_max, config.fetch_bytes_max),
            round_trip: Duration::ZERO,
            asked_at: None,
            uses_ids: false,
            is_busy: false,
            waiting_bytes: 0,
            muted_until: None,
            backoff: Backoff::new(initial, max),
            standing: None,
            turn: 0,
        }
    }

    /// The broker leads a partition, whose topic's id is known or not.
    pub(super) fn join(&mut self, name: &TopicPartition, has_id: bool) {
        self.members.insert(name.clone());
        if has_id {
            self.nameless.remove(name);
        } else {
            self.nameless.insert(name.clone());
        }
        self.stir(name);
    }

    /// It does so no longer.
    pub(super) fn leave(&mut self, name: &TopicPartition) {
        self.members.remove(name);
        self.nameless.remove(name);
        self.stir(name);
    }

    /// Something about a partition may have changed.
    pub(super) fn stir(&mut self, name: &TopicPartition) {
        self.stirred.insert(name.clone());
    }

    /// The same of all that it leads.
    pub(super) fn stir_all(&mut self) -> impl Iterator<Item = &TopicPartition> {
        self.stirred.extend(self.members.iter().cloned());
        self.members.iter()
    }

    /// It cannot be fetched from, since `since` at least.
    pub(super) fn stand(&mut self, since: Instant) {
        self.standing.get_or_insert(Standing::new(since, Why::Unreached));
    }

    pub(super) fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether all that it is to be asked for have topic ids.
    pub(super) fn has_topic_ids(&self) -> bool {
        self.nameless.is_empty()
    }

    /// Whether it could be asked now, if there is something to ask, when no more than `limit` bytes
    /// of it may wait.
    pub(super) fn is_free(&self, now: Instant, limit: usize) -> bool {
        !self.is_busy && self.waiting_bytes < limit && self.muted_until.is_none_or(|at| at <= now)
    }

    /// Brings `wanted` up to date. Whether there is anything to ask for.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        partitions: &BTreeMap<TopicPartition, Partition>,
        bytes_max: usize,
    ) -> bool {
        for name in std::mem::take(&mut self.stirred) {
            let entry = partitions.get(&name).filter(|_| self.members.contains(&name));
            // Asked before `want`, for memory comes back without our being told: a partition that
            // is let go in between is then looked at once more, and not never again.
            let is_held = entry.is_some_and(|entry| entry.is_held(now));
            let want = entry.and_then(|entry| entry.want(now, bytes_max));
            self.set_wanted(&name, want, bytes_max);
            if want.is_none() && entry.is_some_and(Partition::is_held_back) {
                self.held_back.insert(name.clone());
            } else {
                self.held_back.remove(&name);
            }
            if is_held {
                self.stirred.insert(name);
            }
        }
        !self.wanted.is_empty()
    }

    fn set_wanted(&mut self, name: &TopicPartition, want: Option<Want>, bytes_max: usize) {
        let before = match want {
            Some(want) => self.wanted.insert(name.clone(), want),
            None => self.wanted.remove(name),
        };
        if before == want {
            return;
        }
        self.changed.insert(name.clone());
        if want.is_some_and(|want| want.bytes_max > bytes_max) {
            self.raised.insert(name.clone());
        } else {
            self.raised.remove(name);
        }
    }

    /// How long the broker may wait for data: not long while partitions are held back, for they may
    /// be wanted again any moment and cannot be asked for before the answer is there.
    pub(super) fn wait(&self, wait_max: Duration) -> Duration {
        if self.held_back.is_empty() { wait_max } else { wait_max.min(WAIT_HELD_BACK) }
    }

    /// How many bytes the next answer may bring, when `limit` is the most of any broker.
    pub(super) fn bytes(&self, limit: usize) -> usize {
        let raised = self.raised.iter().filter_map(|name| self.wanted.get(name));
        let largest = raised.map(|want| want.bytes_max).max();
        largest.unwrap_or_else(|| self.window.bytes().min(limit))
    }

    /// What the fetch under way asks of a partition.
    pub(super) fn under_way(&self, name: &TopicPartition) -> Option<Want> {
        self.asked_at.and_then(|_| self.session.asked(name))
    }

    /// It answered the request that was planned last, with `bytes` of records.
    pub(super) fn answered(&mut self, now: Instant, bytes: usize) {
        let took =
            self.asked_at.take().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.window.answered(bytes, took);
    }

    /// The request, now that memory for `bytes` is reserved and `wanted` has been brought up to
    /// date. `None` if there is nothing to ask for.
    pub(super) fn plan(
        &mut self,
        now: Instant,
        bytes: usize,
        bytes_max: usize,
        style: Style,
    ) -> Option<Plan> {
        if self.wanted.is_empty() {
            return None;
        }
        self.asked_at = Some(now);
        self.turn = self.turn.wrapping_add(1);
        if self.uses_ids != style.has_ids {
            self.uses_ids = style.has_ids;
            self.session.reset();
        }
        let each = window::per_partition(bytes, self.wanted.len(), bytes_max);
        let is_same_for_each = std::mem::replace(&mut self.each, each) == each;
        if !style.has_sessions || !self.session.goes_on() {
            return Some(self.plan_all(bytes, style));
        }
        if !is_same_for_each {
            // Only few partitions share a window: of many, each has what is configured.
            self.changed.extend(self.wanted.keys().cloned());
        }
        let changed = std::mem::take(&mut self.changed).into_iter().map(|name| {
            let want = self.wanted.get(&name).map(|want| want.with_at_least(each));
            (name, want)
        });
        Some(self.session.go_on(changed))
    }

    fn plan_all(&mut self, bytes: usize, style: Style) -> Plan {
        self.changed.clear();
        let wanted = self.wanted.iter();
        let mut wanted: Vec<_> =
            wanted.map(|(name, want)| (name.clone(), want.with_at_least(self.each))).collect();
        let first = self.turn % wanted.len();
        wanted.rotate_left(first);
        if !style.has_total {
            // Without a limit for the whole answer, only so many may be asked as surely fit.
            let each = wanted.iter().map(|(_, want)| want.bytes_max).max().unwrap_or(1).max(1);
            wanted.truncate((bytes / each).max(1));
        }
        self.session.begin(wanted, style.has_sessions)
    }
}
