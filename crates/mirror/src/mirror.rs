//! The mirror as its embedder sees it: [`Mirror::build`], [`Mirror::run`], [`Mirror::status`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kmirror_client::admin::Admin;
use kmirror_client::budget::Budget;
use kmirror_client::fetch::Trouble;
use kmirror_client::messages::ApiKey;
use kmirror_client::{Client, Lane, TopicPartition, clock};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::config::Config;
use crate::control::plan::Plan;
use crate::control::topics::Topics;
use crate::error::{End, Error, Halt};
use crate::metrics::Metrics;
use crate::positions::Group;
use crate::positions::caught_up::{self, Stuck};
use crate::positions::progress::Registry;
use crate::shutdown::{self, Phase as Ending, Shutdown, Trigger};
use crate::status::{self, Board, Phase, Status, Totals};
use crate::supervisor::{self, Common, Control, Streams};

/// One mirror: from one source cluster to one destination cluster.
#[derive(Debug)]
pub struct Mirror {
    config: Arc<Config>,
    source: Client,
    destination: Client,
    board: Arc<Board>,
    registry: Arc<Registry>,
    budget: Budget,
    built_at: Instant,
    trigger: Trigger,
    was_run: AtomicBool,
    status: watch::Sender<Arc<Status>>,
}

/// How a mirror ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// What was mirrored.
    pub totals: Totals,
    /// Partitions that stopped, and why.
    pub halted: Vec<(TopicPartition, Halt)>,
    /// Source topics that could not be mirrored, or not all of them, until somebody changes
    /// something: the source does not grant them, or the destination refuses what they take. When
    /// the mirror was to end once caught up, also what was held up for so long that it was left.
    pub blocked: BTreeMap<Arc<str>, String>,
    /// Source offsets that were fetched and not acknowledged when the mirror ended, per partition:
    /// from the position to the last one fetched. Empty after a drain that ended in time.
    pub unfinished: Vec<(TopicPartition, std::ops::Range<i64>)>,
    /// Positions that could not be committed, at the end or when the group took the partition away:
    /// what they stand for is acknowledged, and will be mirrored again by whoever starts from the
    /// last commit.
    pub uncommitted: Vec<(TopicPartition, i64)>,
    /// How it came to an end.
    pub end: Ended,
}

/// Why a mirror ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was asked to, and finished what it had fetched.
    Drained,
    /// It was asked to abort, or the drain took longer than
    /// [`Config::shutdown_timeout`].
    Aborted,
    /// Every partition reached the end it had at the start, but for those that the report names.
    CaughtUp,
}

impl Report {
    /// True when nothing stopped and nothing was left undone.
    pub fn is_clean(&self) -> bool {
        self.halted.is_empty()
            && self.blocked.is_empty()
            && self.unfinished.is_empty()
            && self.uncommitted.is_empty()
    }
}

impl Mirror {
    /// Checks the configuration, reaches both clusters, and refuses to mirror a cluster onto
    /// itself.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Cluster`], [`Error::SameCluster`], [`Error::ClusterChanged`],
    /// [`Error::DestinationTooOld`].
    pub async fn build(mut config: Config) -> Result<Mirror, Error> {
        config.validate()?;
        config.source.cluster_id.clone_from(&config.source_cluster_id);
        config.destination.cluster_id.clone_from(&config.destination_cluster_id);
        let (source, destination) = futures::future::try_join(
            connect(End::Source, config.source.clone()),
            connect(End::Destination, config.destination.clone()),
        )
        .await?;
        let source_id = source.view().cluster_id.clone();
        let destination_id = destination.view().cluster_id.clone();
        if let (Some(one), Some(other)) = (&source_id, &destination_id)
            && one == other
            && config.naming.keeps_names()
        {
            return Err(Error::SameCluster { cluster_id: Arc::clone(one) });
        }
        // The streams' own clients are to meet the same clusters.
        config.source.cluster_id = source_id;
        config.destination.cluster_id = destination_id;
        can_be_written(&destination).await?;
        let board = Arc::new(Board::new(Arc::new(Metrics::new())));
        let registry = Arc::new(Registry::new(config.streams));
        let status = watch::Sender::new(Arc::new(status::starting(&source, &destination)));
        let (trigger, _) = shutdown::channel();
        let budget = Budget::new(usize::try_from(config.memory_bytes).unwrap_or(usize::MAX));
        Ok(Mirror {
            config: Arc::new(config),
            source,
            destination,
            board,
            registry,
            budget,
            built_at: clock::now(),
            trigger,
            was_run: AtomicBool::new(false),
            status,
        })
    }

    /// Mirrors until `shutdown` asks for an end, [`Mirror::stop`] is called, or everything asked
    /// for is done. To be called once, on the runtime the mirror was built on; the data moves on
    /// threads of its own. Not cancel-safe: dropping the future asks for an abort and does not wait
    /// for it.
    ///
    /// # Errors
    /// [`Error`] when the mirror as a whole cannot go on: what was fetched was finished and the
    /// positions were committed, as far as they could be. [`Error::RunTwice`] at the second call.
    /// The trouble of single partitions is in the [`Report`] and the [`Status`].
    pub async fn run(&self, shutdown: Shutdown) -> Result<Report, Error> {
        if self.was_run.swap(true, Ordering::AcqRel) {
            return Err(Error::RunTwice);
        }
        let abort = AbortOnDrop(Some(&self.trigger));
        let (plans, published) = watch::channel(Arc::new(Plan::default()));
        let common = Common {
            config: Arc::clone(&self.config),
            board: Arc::clone(&self.board),
            budget: self.budget.clone(),
            plans: published,
            registry: Arc::clone(&self.registry),
            trigger: self.trigger.clone(),
        };
        let clients = (self.source.clone(), self.destination.clone());
        let metrics = Arc::clone(self.board.metrics());
        let topics = Topics::new(Arc::clone(&self.config), clients, plans, metrics);
        let watched = caught_up::Watched {
            config: Arc::clone(&self.config),
            source: Admin::new(self.source.clone()),
            plans: common.plans.clone(),
            registry: Arc::clone(&common.registry),
        };
        let (on_caught_up, caught_up) = oneshot::channel();
        let mut streams = Streams::start(&common, Control { topics, watched, on_caught_up })?;
        let mut watched =
            Watched { mirror: self, plans: common.plans.clone(), stuck: None, denied: None };
        watched.watch(&mut streams, caught_up, shutdown).await;
        let Watched { plans, stuck, denied, .. } = watched;
        let unfinished = streams.join();
        abort.done();
        self.publish(&plans.borrow(), Phase::Stopped);
        let unfinished = unfinished?;
        if let Some(topics) = denied {
            return Err(Error::Denied { topics });
        }
        if stuck.is_some()
            && let Some(error) = self.unmatched(&plans.borrow())
        {
            return Err(error);
        }
        let is_left = stuck.as_ref().is_some_and(|stuck| !stuck.is_empty());
        let aborted =
            self.trigger.phase() == Ending::Aborting || (!unfinished.is_empty() && !is_left);
        let end = match (aborted, &stuck) {
            (true, _) => Ended::Aborted,
            (false, Some(_)) => Ended::CaughtUp,
            (false, None) => Ended::Drained,
        };
        let mut blocked = self.blocked(&plans.borrow());
        if stuck.is_some() {
            blocked.extend(plans.borrow().absences());
        }
        for (topic, why) in stuck.unwrap_or_default() {
            blocked.entry(topic).or_insert(why);
        }
        let uncommitted = self.uncommitted().await;
        let (totals, halted) = (self.board.read().totals, self.board.halted());
        Ok(Report { totals, halted, blocked, unfinished, uncommitted, end })
    }

    /// Positions that are not kept, though positions are: of every partition that a stream had,
    /// those that the group took away included.
    async fn uncommitted(&self) -> Vec<(TopicPartition, i64)> {
        let Some(id) = self.config.group_id() else { return Vec::new() };
        let mut unkept = self.registry.unkept();
        if !unkept.is_empty() && self.trigger.phase() != Ending::Aborting {
            let group = Group { admin: Admin::new(self.source.clone()), id: Arc::clone(id) };
            unkept = supervisor::lacking(group, unkept).await;
        }
        unkept.into_iter().map(|(partition, at)| (partition, at.next_offset)).collect()
    }

    /// That no topic matches, if that is so.
    fn unmatched(&self, plan: &Plan) -> Option<Error> {
        let selection = || self.config.topics.to_string();
        plan.is_unmatched.then(|| Error::Unmatched { selection: selection() })
    }

    /// What waits for an operator.
    fn blocked(&self, plan: &Plan) -> BTreeMap<Arc<str>, String> {
        let topics = plan.topics.values();
        let refused = topics
            .filter_map(|topic| Some((Arc::clone(&topic.source), topic.blocked()?.to_owned())));
        let denied = self.board.denied().0.into_iter().chain(plan.denied.iter().cloned());
        let denied = denied.map(|topic| (topic, Trouble::Unauthorized.to_string()));
        refused.chain(denied).collect()
    }

    /// Renews the status.
    fn publish(&self, plan: &Plan, phase: Phase) {
        let reading = self.board.read();
        let memory = status::Memory {
            used_bytes: self.budget.used() as u64,
            peak_bytes: self.budget.peak() as u64,
            limit_bytes: self.budget.limit() as u64,
        };
        self.board.publish_memory(memory);
        self.status.send_replace(Arc::new(Status {
            at_unix_ms: clock::unix_ms(),
            uptime_seconds: clock::now().duration_since(self.built_at).as_secs_f64(),
            phase,
            why: self.unmatched(plan).map(|error| error.to_string()),
            source: status::Cluster::of(&self.source),
            destination: status::Cluster::of(&self.destination),
            memory,
            streams: self.config.streams,
            streams_assigned: self.config.streams - self.registry.unassigned(),
            totals: reading.totals,
            topics_known: plan.complete,
            topics: plan.topics.values().map(|topic| topic.status()).collect(),
            blocked: self.blocked(plan).into_iter().chain(plan.absences()).collect(),
            partitions: reading.partitions,
            errors: reading.errors,
        }));
    }

    /// Follows the status, which is renewed several times a second.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Asks for a drain; the second call for an abort.
    pub fn stop(&self) {
        self.trigger.signal();
    }

    /// All metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.board.metrics().text()
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// The supervision of a mirror that runs.
struct Watched<'a> {
    mirror: &'a Mirror,
    plans: watch::Receiver<Arc<Plan>>,
    /// What is left, once the mirror has caught up with all the rest.
    stuck: Option<Stuck>,
    /// Everything that was selected, if none of it is granted.
    denied: Option<BTreeSet<Arc<str>>>,
}

impl Watched<'_> {
    /// Keeps status and shutdown going until the threads have ended.
    async fn watch(
        &mut self,
        streams: &mut Streams,
        mut caught_up: oneshot::Receiver<Stuck>,
        mut shutdown: Shutdown,
    ) {
        let trigger = &self.mirror.trigger;
        let mut passed_on = Ending::Running;
        loop {
            let next = match passed_on {
                Ending::Running => Ending::Draining,
                Ending::Draining | Ending::Aborting => Ending::Aborting,
            };
            tokio::select! { biased;
                () = streams.ended() => return,
                () = shutdown.reached(next), if passed_on < next => {
                    passed_on = next;
                    match next {
                        Ending::Aborting => trigger.abort(),
                        Ending::Running | Ending::Draining => trigger.drain(),
                    }
                }
                Ok(stuck) = &mut caught_up, if self.is_running_on() => {
                    for (topic, why) in &stuck {
                        tracing::warn!(%topic, why, "left behind: all the rest has caught up");
                    }
                    self.stuck = Some(stuck);
                    trigger.drain();
                }
                () = clock::sleep(self.interval()) => self.tick(),
            }
        }
    }

    /// How often the status is renewed: less often the more there is to read.
    fn interval(&self) -> Duration {
        let partitions = self.mirror.status.borrow().partitions.len();
        STATUS_INTERVAL * (1 + u32::try_from(partitions / 1_000).unwrap_or(u32::MAX).min(16))
    }

    /// The topics, if there are some and the source grants none: then there is nothing to wait for.
    fn denied(&self) -> Option<BTreeSet<Arc<str>>> {
        let plan = self.plans.borrow();
        let (mut topics, are_all) = self.mirror.board.denied();
        let has_others = topics.is_empty() && !plan.topics.is_empty();
        topics.extend(plan.denied.iter().cloned());
        (plan.complete && are_all && !has_others && !topics.is_empty()).then_some(topics)
    }

    /// Whether no end was asked for yet.
    fn is_running_on(&self) -> bool {
        self.mirror.trigger.phase() == Ending::Running
    }

    fn tick(&mut self) {
        let trigger = &self.mirror.trigger;
        if trigger.phase() == Ending::Running && !self.mirror.board.has_mirrored() {
            self.denied = self.denied();
            if self.denied.is_some() {
                trigger.drain();
            }
        }
        let phase = match trigger.phase() {
            Ending::Running => Phase::Running,
            Ending::Draining | Ending::Aborting => Phase::Draining,
        };
        self.mirror.publish(&self.plans.borrow(), phase);
    }
}

/// Ends the streams when the future that supervises them is dropped.
struct AbortOnDrop<'a>(Option<&'a Trigger>);

impl AbortOnDrop<'_> {
    /// They have ended by themselves.
    fn done(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(trigger) = self.0 {
            trigger.abort();
        }
    }
}

/// How often the status of few partitions is renewed.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

async fn connect(end: End, config: kmirror_client::Config) -> Result<Client, Error> {
    Client::connect(config).await.map_err(|source| Error::of(end, source))
}

/// Refuses a destination without idempotent producers (KIP-98).
async fn can_be_written(destination: &Client) -> Result<(), Error> {
    let failed = |source| Error::Cluster { end: End::Destination, source };
    let broker = destination.any_broker().await.map_err(failed)?;
    let connection = broker.connection(Lane::Control).await.map_err(failed)?;
    match connection.broker_versions(ApiKey::InitProducerId) {
        Some(_) => Ok(()),
        None => Err(Error::DestinationTooOld { address: connection.address().to_string() }),
    }
}
