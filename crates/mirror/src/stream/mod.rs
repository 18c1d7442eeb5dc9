//! One stream: a thread's worth of mirroring. It wires the stages and shares nothing with other
//! streams but the memory budget, the board and the registry of what is acknowledged. One loop, one
//! turn per event; every decision is taken here, every leaf is in a stage.
//!
//! Always true:
//! - what a partition's older life brings is dropped ([`Life`]);
//! - a partition is read only while this stream holds it and its position and its destination are
//!   known;
//! - a position is written only after everything before it was acknowledged.
//!
//! [`Life`]: crate::flow::Life

mod aside;
mod departed;
mod elsewhere;
mod leaving;
mod owned;
mod planned;
mod start;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use kmirror_client::admin::Admin;
use kmirror_client::batch::Entry;
use kmirror_client::fetch::Fetched;
use kmirror_client::{Client, TopicPartition, clock, group};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::control::plan::Plan;
use crate::error::{Error, Halt, chain};
use crate::flow::{Generation, Origin, Produced};
use crate::metrics::{Counter, Gauge, Metric};
use crate::positions::progress::{Hold, Registry};
use crate::positions::{Keeper, Written};
use crate::shutdown::{Phase as Ending, Shutdown, Trigger};
use crate::stage::assign::{Assign, Change};
use crate::stage::fetch::{Fetch, News};
use crate::stage::produce::Produce;
use crate::stage::route::{Router, Stretch};
use crate::status::{Board, Cell, State};
use aside::Line;
use departed::Departed;
use leaving::Leaving;
pub(crate) use leaving::Unfinished;
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
    pub(crate) registry: Arc<Registry>,
    /// Ends the mirror when this stream cannot go on.
    pub(crate) trigger: Trigger,
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
    /// Whether positions are kept at all.
    keeps: bool,
    owned: BTreeMap<TopicPartition, Owned>,
    departed: Departed,
    /// What the status still shows of partitions that were lost since the last assignment.
    lost: Vec<Arc<Cell>>,
    registry: Arc<Registry>,
    releases: watch::Receiver<()>,
    /// Something is owned that something is still under way of in this process.
    waits_for_release: bool,
    leavings: Vec<Leaving>,
    /// The partitions that cannot be written and wait to be tried.
    line: Line,
    jobs: FuturesUnordered<LocalBoxFuture<'static, Job>>,
    /// What the group knows of: the topics, and how many partitions each is known to have.
    subscribed: Sizes,
    generation: u64,
    next_commit: Instant,
    next_judgement: Instant,
    was_assigned: bool,
    trigger: Trigger,
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
    /// Starts that were asked for when this was the last generation.
    Started(Starts, Generation),
    Written(Written),
    Retry(TopicPartition, Generation),
    /// It is time to tell which of the partitions up to this generation still wait for their hold.
    Unclaimed(Generation),
    /// The source showed the partitions the plan has, or does not show them.
    Looked,
}

/// Asks for starts in the background.
async fn look_up(
    lookup: Lookup,
    partitions: Vec<TopicPartition>,
    generation: Generation,
    again: bool,
) -> Job {
    Job::Started(lookup.ask(partitions, again).await, generation)
}

/// One event of the loop.
enum Turn {
    Drain,
    Abort,
    Produced(Produced),
    Changed(Result<Change, group::Error>),
    Released,
    Done(Job),
    Planned,
    News(News),
    Tick,
}

/// How long a partition whose trouble may pass rests.
const RETRY: Duration = Duration::from_secs(10);

/// How long a partition waits for what this process still has under way before that is told.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// What a partition waits for that comes back to this process too soon.
const STILL_UNDER_WAY: &str = "records of it that this process sent are not acknowledged yet";

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
            lookup: Lookup::new(
                Admin::new(parts.source.clone()),
                parts.reader,
                parts.plans.clone(),
                &parts.config,
            ),
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
            keeps: parts.keeper.keeps(),
            keeper: Some(parts.keeper),
            owned: BTreeMap::new(),
            departed: Departed::default(),
            lost: Vec::new(),
            releases: parts.registry.releases(),
            registry: parts.registry,
            waits_for_release: false,
            leavings: Vec::new(),
            line: Line::default(),
            jobs: FuturesUnordered::new(),
            subscribed: Sizes::new(),
            generation: 0,
            was_assigned: false,
            trigger: parts.trigger,
            counts,
        }
    }

    /// Mirrors until `shutdown` asks for an end. Whatever ends it, what was fetched is finished and
    /// the positions are written, unless an abort is asked for.
    ///
    /// # Errors
    /// What ends the whole mirror.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown) -> Result<Unfinished, Error> {
        let mut failure = self.replan().await.err();
        while failure.is_none() {
            match self.turn(&mut shutdown).await {
                Turn::Drain => break,
                Turn::Abort => return Ok(self.unfinished()),
                turn => failure = self.take(turn).await.err(),
            }
        }
        if let Some(error) = &failure {
            tracing::error!(error = chain(error), "the mirror cannot go on and ends");
            // The other streams finish what they have at the same time.
            self.trigger.drain();
        }
        self.drain(shutdown, failure).await
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
            Ok(()) = self.releases.changed(), if self.waits_for_release => Turn::Released,
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
            Turn::Released => self.claim(),
            Turn::Done(job) => self.take_job(job)?,
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
        self.try_line();
        self.judge_if_due();
        Ok(())
    }

    fn next_tick(&self) -> Instant {
        let deadlines = self.leavings.iter().map(|leaving| leaving.deadline(self.keeper.is_none()));
        let deadlines = deadlines.chain(self.line.deadline());
        let judgement = self.config.until_caught_up.then_some(self.next_judgement);
        // While a write is under way its end is what the next one waits for.
        let commit = self.keeper.is_some().then_some(self.next_commit);
        let far = clock::now() + self.config.commit_interval;
        deadlines.chain(judgement).chain(commit).fold(far, Instant::min)
    }

    /// What the group, or the plan, changed.
    fn take_change(&mut self, change: Result<Change, group::Error>) -> Result<(), Error> {
        self.counts.rebalances.inc();
        match change.map_err(|source| Error::Group { source })? {
            Change::Added(partitions) => {
                self.add(&partitions);
                if !std::mem::replace(&mut self.was_assigned, true) {
                    self.registry.note_assigned();
                }
            }
            Change::Revoking { partitions, deadline, hand_back } => {
                self.begin_leaving(partitions, deadline, Some(hand_back));
            }
            Change::Lost(partitions) => self.lose(&partitions),
        }
        self.counts.partitions.set(i64::try_from(self.owned.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    fn add(&mut self, partitions: &[TopicPartition]) {
        self.lost.drain(..).for_each(|cell| self.board.end(&cell));
        for partition in partitions {
            let cell = self.board.begin(partition, self.index);
            let generation = self.next_generation();
            self.owned.insert(partition.clone(), Owned::new(partition.clone(), generation, cell));
        }
        self.claim();
        if self.waits_for_release {
            let generation = Generation(self.generation);
            self.jobs.push(Box::pin(async move {
                clock::sleep(TOLD_AFTER).await;
                Job::Unclaimed(generation)
            }));
        }
    }

    /// Tells which partitions still wait for their hold since `generation` or before.
    fn tell_unclaimed(&self, generation: Generation) {
        for (partition, owned) in &self.owned {
            if owned.hold().is_none() && owned.life.generation <= generation {
                tracing::warn!(%partition, why = STILL_UNDER_WAY, "partition waits to begin");
            }
        }
    }

    /// Takes hold of what is owned and not held yet, and asks where it starts. What this process
    /// still has under way, in this stream or another one, is waited for: were it read again now,
    /// it would be written twice.
    fn claim(&mut self) {
        self.releases.mark_unchanged();
        self.waits_for_release = false;
        let mut claimed = Vec::new();
        for (partition, owned) in &mut self.owned {
            if owned.hold().is_some() {
                continue;
            }
            match self.registry.hold(partition) {
                Some(hold) => {
                    owned.take_hold(hold);
                    claimed.push(partition.clone());
                }
                None => {
                    self.waits_for_release = true;
                    let why = STILL_UNDER_WAY.to_owned();
                    owned.cell().set_state(State::Waiting, Some(why));
                }
            }
        }
        self.ask_for_starts(claimed, false);
    }

    fn ask_for_starts(&mut self, partitions: Vec<TopicPartition>, again: bool) {
        if !partitions.is_empty() {
            let generation = Generation(self.generation);
            let asked = look_up(self.lookup.clone(), partitions, generation, again);
            self.jobs.push(Box::pin(asked));
        }
    }

    fn take_job(&mut self, job: Job) -> Result<(), Error> {
        match job {
            Job::Started(starts, generation) => self.take_starts(starts, generation)?,
            Job::Written(written) => self.take_written(written),
            Job::Looked => {}
            Job::Unclaimed(generation) => self.tell_unclaimed(generation),
            Job::Retry(partition, generation) => {
                let waiting = self.owned.get(&partition).filter(|owned| {
                    let is_read = owned.onward.is_none() && !owned.is_set_aside();
                    owned.life.generation == generation && owned.phase == Phase::Flowing && is_read
                });
                if let Some(owned) = waiting {
                    self.fetch.begin(&partition, owned.reading());
                }
            }
        }
        Ok(())
    }

    /// Takes starts that were asked for in `generation`; what was assigned later is asked for by
    /// itself.
    fn take_starts(&mut self, starts: Starts, generation: Generation) -> Result<(), Error> {
        let plan = Arc::clone(&self.plans.borrow());
        for start in starts.known {
            let waiting = starting(&mut self.owned, &start.partition, generation);
            let Some(owned) = waiting else { continue };
            let known = || owned.hold().and_then(Hold::acknowledged);
            let Some(position) = start.position.or_else(known) else {
                self.halt(&start.partition, Halt::NoPosition)?;
                continue;
            };
            owned.set_start(position, start.is_kept);
            owned.destination = start.destination;
            owned.cell().set_high_watermark(start.end);
            if let Some(topic) = plan.topics.get(&start.partition.topic) {
                owned.replan(topic, &self.config);
            }
            self.begin_if_ready(&start.partition)?;
            // Where it starts is written at once: it may be further on than what is kept, or have
            // been kept for so long that it is soon forgotten, or not be kept at all.
            self.next_commit = clock::now();
        }
        let mut again = Vec::new();
        for (partition, why) in starts.unknown {
            let waiting = starting(&mut self.owned, &partition, generation);
            let Some(owned) = waiting else { continue };
            tracing::debug!(%partition, error = why, "start not known");
            owned.cell().set_state(State::Retrying, Some(why));
            again.push(partition);
        }
        self.ask_for_starts(again, true);
        Ok(())
    }

    /// Begins to read a partition once both its position and its destination are known.
    fn begin_if_ready(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        let Some(owned) = self.owned.get(partition) else { return Ok(()) };
        let (Some(start), Some(_), Phase::Waiting) = (owned.start, &owned.route, owned.phase)
        else {
            return Ok(());
        };
        if !self.accept_destination(partition)? {
            return Ok(());
        }
        let Some(owned) = self.owned.get_mut(partition) else { return Ok(()) };
        owned.phase = Phase::Flowing;
        owned.cell().set_state(State::Running, None);
        self.fetch.begin(partition, start);
        tracing::info!(%partition, next_offset = start.next_offset, "mirroring begins");
        self.finish_if_caught_up(partition);
        Ok(())
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
            let (partition, wanted) = (fetched.partition, owned.reading());
            tracing::warn!(
                %partition, wanted = wanted.next_offset, found = fetched.fetch_offset,
                "fetched elsewhere"
            );
            self.fetch.begin(&partition, wanted);
            return Ok(());
        }
        if std::mem::take(&mut owned.is_source_troubled) {
            owned.cell().set_state(State::Running, None);
        }
        owned.cell().set_high_watermark(fetched.high_watermark);
        owned.leader_epoch = fetched.leader_epoch.or(owned.leader_epoch);
        owned.topic_id = fetched.topic_id.or(owned.topic_id);
        if let Some(hold) = owned.hold() {
            hold.confirm();
        }
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
        owned.note_position();
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

/// A partition that waits for its start since `generation` or before.
fn starting<'a>(
    owned: &'a mut BTreeMap<TopicPartition, Owned>,
    partition: &TopicPartition,
    generation: Generation,
) -> Option<&'a mut Owned> {
    owned.get_mut(partition).filter(|owned| {
        owned.life.generation <= generation
            && owned.phase == Phase::Waiting
            && owned.start.is_none()
    })
}
