//! When a mirror that is to end once it has caught up may end: every partition of the plan is at
//! the end that its log had at the start, whoever mirrored it, or it stopped.
//!
//! [`Judge`] decides and is pure; [`watch`] asks both the source and the streams for it. Always
//! true: a partition that moves between streams or instances is waited for. What is held up is
//! waited for too, as long as anything else goes on and for a bounded time after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::{Admin, At};
use kmirror_client::{TopicPartition, clock};
use tokio::sync::watch as channel;
use tokio::time::Instant;

use super::progress::{Registry, Standing};
use crate::config::{Config, Ownership};
use crate::control::plan::Plan;
use crate::error::chain;

/// How a mirror that was to catch up has ended: what is left, by source topic, and why.
pub(crate) type Stuck = BTreeMap<Arc<str>, String>;

/// The time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The time between two questions to the source.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// How many looks at the topics what is held up is waited for once nothing else is left to do. What
/// failed is tried again several times in that.
const LOOKS_MAX: u32 = 20;

/// How long the group's other members are waited for once nothing is left to do here and nothing
/// moves there. Another instance may be starting, or be held up by what passes.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(300);

/// What one look shows of the partitions that are not caught up.
#[derive(Debug, Default)]
struct Look {
    /// Some go on, or are on their way to a stream.
    are_open: bool,
    /// Why others are held up.
    held_up: Stuck,
    /// Those that no stream of this process has.
    elsewhere: BTreeSet<TopicPartition>,
}

/// Decides when it is over.
#[derive(Debug)]
struct Judge {
    patience: Duration,
    /// Since when nothing has been left to do here, and nothing has moved elsewhere.
    still_since: Option<Instant>,
    /// What the group committed for the partitions that are elsewhere.
    committed: BTreeMap<TopicPartition, i64>,
}

impl Judge {
    fn new(refresh_interval: Duration) -> Judge {
        let patience = refresh_interval.saturating_mul(LOOKS_MAX);
        Judge { patience, still_since: None, committed: BTreeMap::new() }
    }

    /// Takes what the group committed. Whatever moved shows that somebody is at work.
    fn take_committed(&mut self, committed: BTreeMap<TopicPartition, i64>) {
        if committed != self.committed {
            self.still_since = None;
            self.committed = committed;
        }
    }

    /// What is left if it is over: nothing if all is caught up.
    fn judge(&mut self, now: Instant, look: &Look) -> Option<Stuck> {
        if look.are_open {
            self.still_since = None;
            return None;
        }
        if look.held_up.is_empty() && look.elsewhere.is_empty() {
            return Some(Stuck::new());
        }
        let since = *self.still_since.get_or_insert(now);
        let patience = if look.elsewhere.is_empty() { self.patience } else { ELSEWHERE_PATIENCE };
        if now.duration_since(since) < patience {
            return None;
        }
        let mut stuck = look.held_up.clone();
        for partition in &look.elsewhere {
            let why = match self.committed.get(partition) {
                Some(offset) => format!(
                    "partition {} is another group member's, which stands at {offset}",
                    partition.partition
                ),
                None => format!(
                    "partition {} is another group member's, which committed nothing",
                    partition.partition
                ),
            };
            stuck.entry(Arc::clone(&partition.topic)).or_insert(why);
        }
        Some(stuck)
    }
}

/// Whom to ask, and about what.
pub(crate) struct Watched {
    pub(crate) config: Arc<Config>,
    pub(crate) source: Admin,
    pub(crate) plans: channel::Receiver<Arc<Plan>>,
    pub(crate) registry: Arc<Registry>,
}

/// Waits until all is caught up or nothing more can be done; gives what is left. Not cancel-safe:
/// the time of what is held up begins anew.
pub(crate) async fn watch(watched: Watched) -> Stuck {
    let mut judge = Judge::new(watched.config.topic.refresh_interval);
    let mut next_question = clock::now();
    loop {
        let plan = Arc::clone(&watched.plans.borrow());
        if plan.complete {
            let look = watched.look(&plan, &judge.committed);
            let now = clock::now();
            if let Some(stuck) = judge.judge(now, &look) {
                return stuck;
            }
            if now >= next_question {
                watched.take_ends(&plan).await;
                if !look.are_open && !look.elsewhere.is_empty() {
                    judge.take_committed(watched.committed(&look.elsewhere).await);
                }
                next_question = clock::now() + ASK_INTERVAL;
            }
        }
        clock::sleep(LOOK_INTERVAL).await;
    }
}

impl Watched {
    /// Looks at every partition of the plan.
    fn look(&self, plan: &Plan, committed: &BTreeMap<TopicPartition, i64>) -> Look {
        // Until each stream has been told what is its own, nothing is known to be elsewhere. And
        // whoever owns a partition keeps its position alive, which takes an assignment.
        let are_in_the_making = plan.topics.values().any(|topic| topic.is_in_the_making());
        let are_open = are_in_the_making || plan.is_in_doubt || !self.registry.are_all_assigned();
        let mut look = Look { are_open, ..Look::default() };
        for partition in partitions(plan) {
            let progress = self.registry.of(&partition);
            let is_committed = |end| committed.get(&partition).is_some_and(|at| *at >= end);
            if progress.is_caught_up() || progress.end().is_some_and(is_committed) {
                continue;
            }
            match progress.standing() {
                Some(Standing::Stopped) => {}
                Some(Standing::Flowing) => look.are_open = true,
                Some(Standing::HeldUp(why)) => {
                    look.held_up.entry(Arc::clone(&partition.topic)).or_insert(why);
                }
                None if self.is_shared() => drop(look.elsewhere.insert(partition)),
                None => look.are_open = true,
            }
        }
        look
    }

    /// Whether others may own partitions.
    fn is_shared(&self) -> bool {
        matches!(self.config.ownership, Ownership::Group(_))
    }

    /// Asks where the logs end of which that is not known. What is not answered is asked again.
    async fn take_ends(&self, plan: &Plan) {
        let is_open = |partition: &TopicPartition| self.registry.of(partition).end().is_none();
        let open: BTreeMap<TopicPartition, At> =
            partitions(plan).filter(is_open).map(|partition| (partition, At::Latest)).collect();
        if open.is_empty() {
            return;
        }
        let isolation = self.config.fetch.isolation.into();
        let found = match self.source.list_offsets(&open, isolation).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the ends of the source's logs not read");
                return;
            }
        };
        for (partition, outcome) in found {
            match outcome {
                Ok(found) => {
                    if let Some(end) = found.offset {
                        self.registry.of(&partition).set_end(end);
                    }
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::debug!(%partition, error, "the end of the source's log not read");
                }
            }
        }
    }

    /// What the group committed for these; nothing where it does not say.
    async fn committed(
        &self,
        partitions: &BTreeSet<TopicPartition>,
    ) -> BTreeMap<TopicPartition, i64> {
        let Some(group) = self.config.group_id() else { return BTreeMap::new() };
        match self.source.group_offsets(group).await {
            Ok(found) => found
                .into_iter()
                .filter(|(partition, _)| partitions.contains(partition))
                .map(|(partition, offset)| (partition, offset.next_offset))
                .collect(),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the group's positions not read");
                BTreeMap::new()
            }
        }
    }
}

fn partitions(plan: &Plan) -> impl Iterator<Item = TopicPartition> {
    plan.topics.values().flat_map(|topic| {
        let partition = |number| TopicPartition::new(Arc::clone(&topic.source), number);
        (0..topic.source_partitions).map(partition)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Duration = Duration::from_secs(5);

    fn held_up() -> Look {
        let why = "it is being created: refused".to_owned();
        Look { held_up: Stuck::from([("orders".into(), why)]), ..Look::default() }
    }

    fn elsewhere() -> Look {
        let partition = TopicPartition::new("orders", 3);
        Look { elsewhere: BTreeSet::from([partition]), ..Look::default() }
    }

    fn open() -> Look {
        Look { are_open: true, ..held_up() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_waited_for_however_long_it_takes() {
        let mut judge = Judge::new(REFRESH);
        let now = clock::now();
        for hours in 0..100 {
            assert_eq!(judge.judge(now + hours * Duration::from_secs(3600), &open()), None);
        }
        assert_eq!(judge.judge(now, &Look::default()), Some(Stuck::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_up_is_waited_for_as_many_looks_once_nothing_else_is_left() {
        let mut judge = Judge::new(REFRESH);
        let mut now = clock::now();
        assert_eq!(judge.judge(now, &held_up()), None);
        now += REFRESH * (LOOKS_MAX - 1);
        assert_eq!(judge.judge(now, &held_up()), None);
        // Something went on in between: the time begins anew.
        assert_eq!(judge.judge(now, &open()), None);
        assert_eq!(judge.judge(now, &held_up()), None);
        now += REFRESH * LOOKS_MAX;
        assert_eq!(judge.judge(now, &held_up()), Some(held_up().held_up));
    }

    #[tokio::test(start_paused = true)]
    async fn other_members_are_waited_for_as_long_as_they_move() {
        let mut judge = Judge::new(REFRESH);
        let mut now = clock::now();
        let at = |offset| BTreeMap::from([(TopicPartition::new("orders", 3), offset)]);
        for offset in 0..10 {
            judge.take_committed(at(offset));
            assert_eq!(judge.judge(now, &elsewhere()), None);
            now += ELSEWHERE_PATIENCE - Duration::from_secs(1);
            assert_eq!(judge.judge(now, &elsewhere()), None);
        }
        now += ELSEWHERE_PATIENCE;
        let stuck = judge.judge(now, &elsewhere()).unwrap();
        let why = "partition 3 is another group member's, which stands at 9";
        assert_eq!(stuck["orders"], why);
    }
}
