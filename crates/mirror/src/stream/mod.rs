//! One stream: a thread's worth of mirroring. It wires the stages and shares nothing with other
//! streams but the memory budget and the board. One loop, one turn per event; every decision is
//! taken here, every leaf is in a stage.
//!
//! Always true:
//! - what a partition's older life brings is dropped ([`Life`]);
//! - a partition is read only while its position and its destination are known;
//! - a position is written only after everything before it was acknowledged.
//!
//! [`Life`]: crate::flow::Life

mod leaving;
mod owned;
mod planned;
mod returning;
mod start;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kmirror_client::admin::Admin;
use kmirror_client::batch::Entry;
use kmirror_client::fetch::{Fetched, Position};
use kmirror_client::{Client, TopicPartition, clock, group};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::control::plan::Plan;
use crate::error::Error;
use crate::flow::{Generation, Origin, Produced};
use crate::metrics::{Counter, Gauge, Metric};
use crate::positions::{Keeper, Written};
use crate::shutdown::{Phase as Ending, Shutdown};
use crate::stage::assign::{Assign, Change};
use crate::stage::fetch::{Fetch, News};
use crate::stage::produce::Produce;
use crate::stage::route::{Router, Stretch};
use crate::status::{Board, State};
use leaving::Leaving;
use owned::{Owned, Phase};
use planned::Sizes;
use start::{Lookup, Starts};

/// What a stream is made of.
pub(crate) struct Parts {
    pub(crate) index: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) board: Arc<Board>,
    pub(crate) plans: watch::Receiver<Arc<Plan>>,
    pub(crate) assign: Assign,
    pub(crate) fetch: Fetch,
    pub(crate) router: Router,
    pub(crate) produce: Produce,
    pub(crate) keeper: Keeper,
    pub(crate) reader: crate::positions::Reader,
    pub(crate) source: Client,
    /// Set while this stream has nothing left to catch up with.
    pub(crate) is_settled: Arc<std::sync::atomic::AtomicBool>,
}

/// A stream at work.
pub(crate) struct Stream {
    config: Arc<Config>,
    board: Arc<Board>,
    index: usize,
    plans: watch::Receiver<Arc<Plan>>,
    source: Client,
    assign: Assign,
    fetch: Fetch,
    router: Router,
    produce: Produce,
    lookup: Lookup,
    /// Away while a commit is under way.
    keeper: Option<Keeper>,
    owned: BTreeMap<TopicPartition, Owned>,
    leavings: Vec<Leaving>,
    jobs: FuturesUnordered<LocalBoxFuture<'static, Job>>,
    /// What the group knows of: the topics, and how many partitions each is known to have.
    subscribed: Sizes,
    generation: u64,
    next_commit: Instant,
    next_judgement: Instant,
    was_assigned: bool,
    is_settled: Arc<std::sync::atomic::AtomicBool>,
    counts: Counts,
}

struct Counts {
    partitions: Gauge,
    rebalances: Counter,
    commits_ok: Counter,
    commits_failed: Counter,
}

/// Something that went on in the background.
enum Job {
    Started(Starts),
    Written(Written),
    Retry(TopicPartition, Generation),
    /// The source showed the partitions the plan has, or does not show them.
    Looked,
}

/// Asks for starts in the background.
async fn look_up(lookup: Lookup, partitions: Vec<TopicPartition>, again: bool) -> Job {
    Job::Started(lookup.ask(partitions, again).await)
}

/// One event of the loop.
enum Turn {
    Drain,
    Abort,
    Produced(Produced),
    Changed(Result<Change, group::Error>),
    Done(Job),
    Planned,
    News(News),
    Tick,
}

/// What was fetched and not acknowledged when a stream ended.
pub(crate) type Unfinished = Vec<(TopicPartition, std::ops::Range<i64>)>;

/// How long a partition whose trouble may pass rests.
const RETRY: Duration = Duration::from_secs(10);

impl Stream {
    pub(crate) fn new(parts: Parts) -> Stream {
        let metrics = Arc::clone(parts.board.metrics());
        let stream = parts.index.to_string();
        let counts = Counts {
            partitions: metrics.gauge(Metric::AssignPartitions, [&stream]),
            rebalances: metrics.counter(Metric::AssignRebalances, [&stream]),
            commits_ok: metrics.counter(Metric::CommitCommits, ["ok"]),
            commits_failed: metrics.counter(Metric::CommitCommits, ["failed"]),
        };
        Stream {
            lookup: Lookup::new(Admin::new(parts.source.clone()), parts.reader, &parts.config),
            next_commit: clock::now() + parts.config.commit_interval,
            next_judgement: clock::now(),
            config: parts.config,
            board: parts.board,
            index: parts.index,
            plans: parts.plans,
            source: parts.source,
            assign: parts.assign,
            fetch: parts.fetch,
            router: parts.router,
            produce: parts.produce,
            keeper: Some(parts.keeper),
            owned: BTreeMap::new(),
            leavings: Vec::new(),
            jobs: FuturesUnordered::new(),
            subscribed: Sizes::new(),
            generation: 0,
            was_assigned: false,
            is_settled: parts.is_settled,
            counts,
        }
    }

    /// Mirrors until `shutdown` asks for an end.
    ///
    /// # Errors
    /// What ends the whole mirror.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown) -> Result<Unfinished, Error> {
        self.replan().await?;
        loop {
            let turn = self.turn(&mut shutdown).await;
            match turn {
                Turn::Drain => return self.drain(shutdown).await,
                Turn::Abort => return Ok(self.unfinished()),
                turn => {
                    if let Err(error) = self.take(turn).await {
                        // Others need not wait for the session to time out.
                        self.assign.leave().await;
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Waits for the next event. All arms are cancel-safe; what frees memory comes first.
    async fn turn(&mut self, shutdown: &mut Shutdown) -> Turn {
        let tick = self.next_tick();
        tokio::select! { biased;
            () = shutdown.reached(Ending::Draining) => match shutdown.phase() {
                Ending::Aborting => Turn::Abort,
                Ending::Running | Ending::Draining => Turn::Drain,
            },
            produced = self.produce.next() => Turn::Produced(produced),
            change = self.assign.next() => Turn::Changed(change),
            Some(job) = self.jobs.next() => Turn::Done(job),
            Ok(()) = self.plans.changed() => Turn::Planned,
            () = tokio::time::sleep_until(tick) => Turn::Tick,
            news = self.fetch.next() => Turn::News(news),
        }
    }

    async fn take(&mut self, turn: Turn) -> Result<(), Error> {
        match turn {
            Turn::Produced(produced) => self.take_produced(produced)?,
            Turn::Changed(change) => self.take_change(change)?,
            Turn::Done(job) => self.take_job(job),
            Turn::Planned => self.replan().await?,
            Turn::News(News::Fetched(fetched)) => self.take_fetched(*fetched)?,
            Turn::News(News::Trouble { partition, position, trouble }) => {
                self.take_trouble(&partition, position, &trouble)?;
            }
            Turn::Tick => {}
            Turn::Drain | Turn::Abort => unreachable!("invariant: the run loop takes these"),
        }
        self.commit_if_due();
        self.advance_leavings();
        self.judge_settled();
        Ok(())
    }

    fn next_tick(&self) -> Instant {
        let deadlines = self.leavings.iter().map(Leaving::deadline);
        let judgement = self.config.until_caught_up.then_some(self.next_judgement);
        deadlines.chain(judgement).fold(self.next_commit, Instant::min)
    }

    /// What the group, or the plan, changed.
    fn take_change(&mut self, change: Result<Change, group::Error>) -> Result<(), Error> {
        self.counts.rebalances.inc();
        self.was_assigned = true;
        match change.map_err(|source| Error::Group { source })? {
            Change::Added(partitions) => self.add(partitions),
            Change::Revoking { partitions, deadline, hand_back } => {
                self.begin_leaving(partitions, deadline, Some(hand_back));
            }
            Change::Lost(partitions) => self.lose(&partitions),
        }
        self.counts.partitions.set(i64::try_from(self.owned.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn add(&mut self, partitions: Vec<TopicPartition>) {
        let kept = self.welcome_back(&partitions);
        for partition in partitions.iter().filter(|partition| !kept.contains(*partition)) {
            self.drop_owned(partition);
            let cell = self.board.begin(partition, self.index);
            let generation = self.next_generation();
            self.owned.insert(partition.clone(), Owned::new(partition.clone(), generation, cell));
        }
        if !partitions.is_empty() {
            self.jobs.push(Box::pin(look_up(self.lookup.clone(), partitions, false)));
        }
    }

    fn take_job(&mut self, job: Job) {
        match job {
            Job::Started(starts) => self.take_starts(starts),
            Job::Written(written) => self.take_written(written),
            Job::Looked => {}
            Job::Retry(partition, generation) => {
                let waiting = self.owned.get(&partition).filter(|owned| {
                    owned.life.generation == generation && owned.phase == Phase::Flowing
                });
                if let Some(owned) = waiting {
                    self.fetch.begin(&partition, Position::at(owned.tracker.routed()));
                }
            }
        }
    }

    fn take_starts(&mut self, starts: Starts) {
        let plan = Arc::clone(&self.plans.borrow());
        for start in starts.known {
            if self.owned.get(&start.partition).is_some_and(Owned::is_returning) {
                self.come_back(&start);
            }
            let Some(owned) = self.owned.get_mut(&start.partition) else { continue };
            if owned.phase != Phase::Waiting || owned.start.is_some() {
                continue;
            }
            owned.set_start(start.position, start.end);
            owned.committed = start.is_kept.then_some(start.position.next_offset);
            if let Some(topic) = plan.topics.get(&start.partition.topic) {
                owned.replan(topic, &self.config);
            }
            self.begin_if_ready(&start.partition);
        }
        let mut again = Vec::new();
        for (partition, why) in starts.unknown {
            let Some(owned) = self.owned.get(&partition) else { continue };
            tracing::debug!(%partition, error = why, "start not known");
            owned.cell().set_state(State::Retrying, Some(why));
            again.push(partition);
        }
        if !again.is_empty() {
            self.jobs.push(Box::pin(look_up(self.lookup.clone(), again, true)));
        }
    }

    /// Begins to read a partition once both its position and its destination are known.
    fn begin_if_ready(&mut self, partition: &TopicPartition) {
        let Some(owned) = self.owned.get_mut(partition) else { return };
        let (Some(start), Some(_), Phase::Waiting) = (owned.start, &owned.route, owned.phase)
        else {
            return;
        };
        owned.phase = Phase::Flowing;
        owned.cell().set_state(State::Running, None);
        self.fetch.begin(partition, start);
        tracing::info!(%partition, next_offset = start.next_offset, "mirroring begins");
        self.finish_if_caught_up(partition);
    }

    /// A stretch of a partition: routes it and hands it to the produce stage.
    fn take_fetched(&mut self, fetched: Fetched) -> Result<(), Error> {
        let Some(owned) = self.owned.get_mut(&fetched.partition) else { return Ok(()) };
        let (Phase::Flowing, Some(route)) = (owned.phase, owned.route.clone()) else {
            return Ok(());
        };
        if fetched.fetch_offset != owned.tracker.routed() {
            // The fetcher drops what was asked for before a rewind, so this should not be. Were it
            // let through, records would be skipped or out of order.
            let (partition, wanted) = (fetched.partition, owned.tracker.routed());
            tracing::warn!(%partition, wanted, found = fetched.fetch_offset, "fetched elsewhere");
            self.fetch.begin(&partition, Position::at(wanted));
            return Ok(());
        }
        if std::mem::take(&mut owned.is_source_troubled) {
            owned.cell().set_state(State::Running, None);
        }
        owned.cell().set_high_watermark(fetched.high_watermark);
        owned.leader_epoch = fetched.leader_epoch.or(owned.leader_epoch);
        let bytes: usize = fetched.entries.iter().map(Entry::len_bytes).sum();
        let stretch = Stretch {
            from: fetched.fetch_offset,
            entries: &fetched.entries,
            next_offset: fetched.next_offset,
        };
        let routed = self.router.route(&route.plan, stretch);
        owned.cell().fetched(bytes as u64, u64::try_from(routed.records).unwrap_or(0));
        drop(fetched.entries);
        let lease = Arc::new(fetched.lease);
        let mut touched = Vec::new();
        for section in routed.sections {
            let parcels = u32::try_from(section.parcels.len()).unwrap_or(u32::MAX);
            let size = section.parcels.iter().map(|parcel| parcel.outgoing.len_bytes()).sum();
            let span = owned.tracker.track(section.next_offset, parcels, size);
            for parcel in section.parcels {
                let lane = owned.lane(&mut self.produce, &route, parcel.partition);
                let lease = (!parcel.way.is_copy()).then(|| Arc::clone(&lease));
                let life = Arc::clone(&owned.life);
                self.produce.push(lane, Origin { life, span, lease }, parcel);
                if !touched.contains(&lane) {
                    touched.push(lane);
                }
            }
        }
        owned.cell().set_next_offset(owned.tracker.position());
        touched.into_iter().for_each(|lane| self.produce.pump(lane));
        let partition = fetched.partition;
        self.account_skipped(&partition, &routed.skipped);
        if let Some(halt) = routed.halt {
            return self.halt(&partition, halt);
        }
        self.pause_if_full(&partition);
        self.finish_if_caught_up(&partition);
        Ok(())
    }
}
