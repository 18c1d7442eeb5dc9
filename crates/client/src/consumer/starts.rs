//! Where partitions are read from, asked for by a task beside the reading.
//!
//! Always true: one question is under way at a time; an answer counts only for a partition that
//! has been waiting since before it was asked; what could not be told is asked again after a pause.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Error, Start};
use crate::admin::{Admin, At};
use crate::clock;
use crate::fetch::Position;
use crate::group::CommittedOffsets;
use crate::isolation::Isolation;
use crate::name::TopicPartition;
use crate::task::{self, Task};

/// How long it is before a partition that was not told is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long leaders are asked again within one question. The partitions asked for together wait for
/// each other, so it is short.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// Where the reading of a partition begins.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// Where the group has committed; if it has not, where it was told.
    Committed,
    /// Where this says.
    Told(Start),
}

/// Partitions whose reading has yet to begin.
#[derive(Debug)]
pub(super) struct Starts {
    asker: Asker,
    /// Bounded by the partitions that are assigned.
    waiting: BTreeMap<TopicPartition, Waiting>,
    asking: Option<Task<Answers>>,
}

#[derive(Debug)]
struct Waiting {
    from: Begin,
    not_before: Instant,
    /// The question under way is about it.
    is_asked: bool,
}

/// What became of one question.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Where to begin.
    pub(super) positions: BTreeMap<TopicPartition, Position>,
    /// Why others were not told: at most one for each partition.
    pub(super) failed: Vec<Error>,
}

impl Starts {
    pub(super) fn new(asker: Asker) -> Self {
        Self { asker, waiting: BTreeMap::new(), asking: None }
    }

    pub(super) fn add(&mut self, partition: TopicPartition, from: Begin) {
        let waiting = Waiting { from, not_before: clock::now(), is_asked: false };
        self.waiting.insert(partition, waiting);
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) {
        self.waiting.remove(partition);
    }

    /// The answers to the next question; for ever to come while nothing waits. Cancel-safe.
    pub(super) async fn next(&mut self) -> Answers {
        loop {
            if let Some(asking) = &mut self.asking {
                // A question that broke down told nothing.
                let answers = asking.await.unwrap_or_default();
                self.asking = None;
                return self.settle(answers);
            }
            let now = clock::now();
            let due = self.waiting.iter_mut().filter(|(_, it)| it.not_before <= now);
            let due: BTreeMap<_, _> = due
                .map(|(partition, waiting)| {
                    waiting.is_asked = true;
                    (partition.clone(), waiting.from)
                })
                .collect();
            if !due.is_empty() {
                self.asking = Some(task::spawn("starts", self.asker.clone().ask(due)));
                continue;
            }
            match self.waiting.values().map(|waiting| waiting.not_before).min() {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes out of the answers what nobody waits for any more.
    fn settle(&mut self, mut answers: Answers) -> Answers {
        let waiting = &mut self.waiting;
        answers.positions.retain(|partition, _| {
            waiting.get(partition).is_some_and(|it| it.is_asked)
                && waiting.remove(partition).is_some()
        });
        let not_before = clock::now() + AGAIN;
        for waiting in waiting.values_mut().filter(|waiting| waiting.is_asked) {
            waiting.is_asked = false;
            waiting.not_before = not_before;
        }
        answers
    }
}

/// Asks the group and the partitions' leaders.
#[derive(Debug, Clone)]
pub(super) struct Asker {
    admin: Admin,
    /// None without a group.
    committed: Option<CommittedOffsets>,
    /// Where a partition begins of which the group has committed nothing.
    fresh: Start,
    isolation: Isolation,
}

impl Asker {
    pub(super) fn new(
        admin: Admin,
        committed: Option<CommittedOffsets>,
        fresh: Start,
        isolation: Isolation,
    ) -> Self {
        Self { admin: admin.with_timeout(QUESTION_MAX), committed, fresh, isolation }
    }

    async fn ask(self, wanted: BTreeMap<TopicPartition, Begin>) -> Answers {
        let mut answers = Answers::default();
        let told = self.ask_group(wanted, &mut answers).await;
        self.ask_leaders(told, &mut answers).await;
        answers
    }

    /// Finds where the group was; gives back what is to be learnt otherwise.
    async fn ask_group(
        &self,
        wanted: BTreeMap<TopicPartition, Begin>,
        answers: &mut Answers,
    ) -> BTreeMap<TopicPartition, Start> {
        let mut told = BTreeMap::new();
        let mut of_group = Vec::new();
        for (partition, from) in wanted {
            match from {
                Begin::Told(start) => drop(told.insert(partition, start)),
                Begin::Committed => of_group.push(partition),
            }
        }
        let Some(committed) = self.committed.as_ref().filter(|_| !of_group.is_empty()) else {
            return told;
        };
        let mut committed = match committed.of(of_group.clone()).await {
            Ok(committed) => committed,
            Err(error) => {
                answers.failed.push(Error::Group(error));
                return told;
            }
        };
        for partition in of_group {
            if let Some(offset) = committed.offsets.remove(&partition) {
                let leader_epoch = (offset.leader_epoch >= 0).then_some(offset.leader_epoch);
                let position = Position { leader_epoch, ..Position::at(offset.next_offset) };
                answers.positions.insert(partition, position);
            } else if let Some(code) = committed.refused.remove(&partition) {
                answers.failed.push(Error::Committed { partition, code });
            } else {
                told.insert(partition, self.fresh);
            }
        }
        told
    }

    /// Finds where the log has what was asked for.
    async fn ask_leaders(&self, told: BTreeMap<TopicPartition, Start>, answers: &mut Answers) {
        let mut asked = BTreeMap::new();
        for (partition, start) in told {
            match start {
                Start::Offset(offset) => {
                    answers.positions.insert(partition, Position::at(offset));
                }
                Start::Earliest => drop(asked.insert(partition, At::Earliest)),
                Start::Latest => drop(asked.insert(partition, At::Latest)),
                Start::Time(time) => drop(asked.insert(partition, At::Time(time))),
            }
        }
        let late = self.list(asked, answers).await;
        let late = late.into_iter().map(|partition| (partition, At::Latest)).collect();
        for partition in self.list(late, answers).await {
            answers.positions.insert(partition, Position::at(0));
        }
    }

    /// Asks for offsets; gives back the partitions that have none.
    async fn list(
        &self,
        wanted: BTreeMap<TopicPartition, At>,
        answers: &mut Answers,
    ) -> Vec<TopicPartition> {
        let mut without = Vec::new();
        if wanted.is_empty() {
            return without;
        }
        let listed = match self.admin.list_offsets(&wanted, self.isolation).await {
            Ok(listed) => listed,
            Err(error) => {
                answers.failed.push(Error::Cluster(error));
                return without;
            }
        };
        for (partition, answer) in listed {
            match answer.map(|at| at.offset) {
                Ok(Some(offset)) => drop(answers.positions.insert(partition, Position::at(offset))),
                Ok(None) => without.push(partition),
                Err(source) => answers.failed.push(Error::Start { partition, source }),
            }
        }
        without
    }
}
