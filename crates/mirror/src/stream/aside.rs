//! Partitions that cannot be written: told of, and, when the memory that they hold is needed, set
//! aside, so that they do not keep the others from flowing, and tried again in turn.
//!
//! Always true:
//! - a partition that is only told of is read on, as far as its share of the memory goes: a
//!   destination may be slow, and what is dropped has to be read and routed again;
//! - a partition that was set aside has nothing in memory but what is on a wire, may be written
//!   already, or cannot be read again, or not without repeating what was written;
//! - if something of it is left, the producer goes on trying that; if not, the partition waits in
//!   line, and no more are read at once, to try, than fit into a part of the stream's memory;
//! - the first acknowledgement makes it one of the others again;
//! - one that stopped, or is done, gives up what it has in the same way, and is not tried.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::{TopicPartition, clock};
use tokio::time::Instant;

use super::Stream;
use super::owned::Phase;
use crate::flow::{Life, Stall};
use crate::status::State;

/// How long a partition rests before it is tried again.
const REST: Duration = Duration::from_secs(5);

/// How long it has for it before the next one may be tried beside it.
const TRIAL: Duration = Duration::from_secs(15);

/// This part of the stream's memory is for trying.
const TRIALS_PART: usize = 4;

/// A partition that cannot be written.
#[derive(Debug)]
pub(super) struct Aside {
    since: Instant,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It is told of, and read on.
    Told,
    /// Something of it is left, which the producer tries.
    Kept,
    /// It waits to be tried.
    InLine,
    /// It is read, to try.
    Trying,
}

/// Who waits to be tried, and who is. Bounded by the partitions of the stream: each is in it once
/// for each time that it was set aside, and leaves within [`REST`] and its turn.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: VecDeque<(TopicPartition, Instant)>,
    /// Until when they keep others from being tried.
    trying: Vec<(TopicPartition, Instant)>,
}

impl Aside {
    /// Whether it is read no more, but to try.
    pub(super) fn is_set_aside(&self) -> bool {
        self.step != Step::Told
    }
}

impl Line {
    /// When it has to be looked at again, whatever happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, due) = self.waiting.front()?;
        Some(self.trying.iter().map(|(_, until)| *until).min().unwrap_or(*due).max(*due))
    }
}

impl Stream {
    /// Tells of a partition of which nothing was acknowledged for seconds, and sets it aside if the
    /// memory is short.
    pub(super) fn put_aside(&mut self, life: &Arc<Life>, stall: &Stall) {
        let Some(owned) = self.owned.get_mut(&life.partition) else { return };
        if !Arc::ptr_eq(&owned.life, life) {
            return;
        }
        match owned.phase {
            Phase::Flowing => {}
            // Nothing more of it is read here, and its status says why.
            Phase::Halted | Phase::Done => {
                self.produce.put_aside(life, &mut owned.tracker);
                return;
            }
            Phase::Waiting | Phase::Leaving => return,
        }
        let Stall { destination, kind, why, waited } = stall;
        let step = owned.aside.as_ref().map(|aside| aside.step);
        if step == Some(Step::InLine) {
            return;
        }
        if step.is_none() {
            let (partition, waited_seconds) = (&life.partition, waited.as_secs());
            tracing::warn!(
                %partition, %destination, error = why, waited_seconds,
                "partition cannot be written; it is tried again"
            );
        }
        if matches!(step, None | Some(Step::Trying)) {
            self.board.produce_error(kind);
        }
        let shown = format!("nothing could be written to {destination}: {why}");
        owned.cell().set_state(State::Retrying, Some(shown));
        let since = owned.aside.as_ref().map_or_else(|| clock::now() - *waited, |it| it.since);
        if matches!(step, None | Some(Step::Told)) && !self.fetch.is_memory_short() {
            owned.aside = Some(Aside { since, step: Step::Told });
            return;
        }
        if matches!(step, None | Some(Step::Told)) {
            let partition = &life.partition;
            tracing::info!(%partition, "partition set aside: its memory is needed");
        }
        owned.aside = Some(Aside { since, step: Step::Kept });
        owned.is_paused = false;
        self.fetch.end(&life.partition);
        if !self.produce.put_aside(life, &mut owned.tracker) {
            self.line_up(&life.partition);
        }
    }

    /// Lets a partition that was set aside wait to be tried.
    pub(super) fn line_up(&mut self, partition: &TopicPartition) {
        if let Some(aside) = self.owned.get_mut(partition).and_then(|owned| owned.aside.as_mut()) {
            aside.step = Step::InLine;
            self.line.waiting.push_back((partition.clone(), clock::now() + REST));
        }
    }

    /// Reads those whose turn it is.
    pub(super) fn try_line(&mut self) {
        let now = clock::now();
        while self.line.waiting.front().is_some_and(|(_, due)| *due <= now) && self.may_try(now) {
            let Some((partition, _)) = self.line.waiting.pop_front() else { return };
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            match &mut owned.aside {
                Some(aside) if aside.step == Step::InLine && owned.phase == Phase::Flowing => {
                    aside.step = Step::Trying;
                }
                _ => continue,
            }
            self.fetch.begin(&partition, owned.reading());
            self.line.trying.push((partition, now + TRIAL));
        }
    }

    /// Whether there is room for one more to try.
    fn may_try(&mut self, now: Instant) -> bool {
        let each = 2 * self.config.fetch.partition_bytes_max as usize;
        let most = (self.fetch.memory_bytes() / TRIALS_PART / each).max(1);
        let owned = &self.owned;
        let is_trying = |partition: &TopicPartition| {
            let aside = owned.get(partition).and_then(|owned| owned.aside.as_ref());
            aside.is_some_and(|aside| aside.step == Step::Trying)
        };
        self.line.trying.retain(|(partition, until)| *until > now && is_trying(partition));
        self.line.trying.len() < most
    }

    /// Something of a partition that could not be written is: it goes on as the others do.
    pub(super) fn take_up(&mut self, partition: &TopicPartition, aside: &Aside) {
        let seconds = clock::now().duration_since(aside.since).as_secs();
        tracing::info!(%partition, seconds, "partition is written again");
        let Some(owned) = self.owned.get_mut(partition) else { return };
        let is_read = owned.phase == Phase::Flowing && owned.onward.is_none();
        if is_read && aside.is_set_aside() {
            self.fetch.begin(partition, owned.reading());
        }
    }
}
