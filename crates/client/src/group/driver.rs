//! Runs one member: carries out what the state machine wants and tells it what happened.
//!
//! Owned by the group module. It moves requests and decides nothing. It runs as a task of its
//! own, so that heartbeats go on while the owner is busy. Always true: a request under way is
//! never dropped before it is answered or timed out; what others see of the member's standing is
//! published before the owner hears of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::assignor::Counts;
use super::config::{Config, heartbeat_timeout};
use super::coordinator::Coordinator;
use super::error::Error;
use super::state::{Action, Identity, Input, Machine, Notice};
use super::{Event, HandBack, requests};
use crate::client::Client;
use crate::clock;
use crate::cluster::View;
use crate::error::Chain;
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

/// How long a leader waits for fresh metadata before it assigns by what it has.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a leader asks for topics that are not in the metadata yet.
const LOOK_UP_TRIES: u32 = 3;

/// What the owner wants.
#[derive(Debug)]
pub(super) enum Command {
    /// Subscribe to these topics from now on.
    Subscribe(BTreeSet<Arc<str>>),
    /// A commit was refused.
    CommitRefused {
        /// Who it was from.
        sent: Identity,
        /// What the coordinator said.
        code: ErrorCode,
    },
    /// Leave the group, and say when it is done.
    Leave(oneshot::Sender<()>),
}

/// Where the member stands, for those who commit.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Who it is; `None` while it is part of no generation.
    pub(super) identity: Option<Identity>,
    /// What it owns, what is being handed back included.
    pub(super) owned: Arc<BTreeSet<TopicPartition>>,
    /// Whether the membership has ended.
    pub(super) is_over: bool,
}

/// The ends of the channels that the driver holds.
pub(super) struct Ends {
    /// To the owner.
    pub(super) events: mpsc::Sender<Result<Event, Error>>,
    /// From the owner.
    pub(super) commands: mpsc::Receiver<Command>,
    /// To those who commit.
    pub(super) standing: watch::Sender<Standing>,
}

pub(super) struct Driver {
    machine: Machine,
    config: Config,
    coordinator: Arc<Coordinator>,
    ends: Ends,
    views: watch::Receiver<Arc<View>>,
    /// Requests under way, at most one of each kind, and hand-backs that are waited for, at most as
    /// many as the owner holds guards.
    under_way: FuturesUnordered<BoxFuture<'static, Input>>,
    leaving: Option<oneshot::Sender<()>>,
}

impl Driver {
    pub(super) fn new(
        coordinator: Arc<Coordinator>,
        config: Config,
        ends: Ends,
        seed: u64,
    ) -> Self {
        let client = coordinator.client();
        client.watch_topics(config.topics.iter().cloned());
        let views = client.view_changes();
        let machine = Machine::new(config.clone(), clock::now(), seed);
        let under_way = FuturesUnordered::new();
        Self { machine, config, coordinator, ends, views, under_way, leaving: None }
    }

    /// Runs until the membership is over or its owner is gone.
    pub(super) async fn run(mut self) {
        let events = self.ends.events.clone();
        self.machine.wake(clock::now());
        self.look();
        loop {
            self.carry_out();
            self.publish();
            if self.machine.is_over() {
                break;
            }
            let wake = self.machine.next_wake(clock::now());
            // Every arm is cancel-safe: they wait, and what they wait for stays where it is. Time
            // comes last: what was answered while this thread was busy counts before it.
            tokio::select! { biased;
                permit = events.reserve(), if self.machine.has_notice() => match permit {
                    Ok(permit) => {
                        if let Some(notice) = self.machine.next_notice() {
                            permit.send(tell(&self.config.group_id, &self.under_way, notice));
                        }
                    }
                    Err(_) => break,
                },
                command = self.ends.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(input) = self.under_way.next(), if !self.under_way.is_empty() => {
                    // The view may be newer than the last look, and the join counts from it.
                    if matches!(input, Input::Joined(..)) {
                        self.look();
                    }
                    self.machine.handle(clock::now(), input);
                }
                changed = self.views.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => break,
                },
                () = sleep_to(wake) => self.machine.wake(clock::now()),
            }
        }
        self.ends.standing.send_modify(|standing| standing.is_over = true);
        if let Some(leaving) = self.leaving {
            // Whoever waited may have given up.
            let _ = leaving.send(());
        }
    }

    fn obey(&mut self, command: Command) {
        let input = match command {
            Command::Subscribe(topics) => {
                self.coordinator.client().watch_topics(topics.iter().cloned());
                Input::Subscribe(topics)
            }
            Command::CommitRefused { sent, code } => Input::CommitRefused { sent, code },
            Command::Leave(done) => {
                self.leaving = Some(done);
                Input::Leave
            }
        };
        self.machine.handle(clock::now(), input);
        self.look();
    }

    /// Shows the machine how many partitions its topics have.
    fn look(&mut self) {
        let view = Arc::clone(&self.views.borrow_and_update());
        let counts = counts(&view, self.machine.watched());
        self.machine.handle(clock::now(), Input::Seen(counts));
    }

    fn publish(&self) {
        let identity = self.machine.identity();
        let owned = self.machine.owned();
        self.ends.standing.send_if_modified(|standing| {
            let same =
                standing.identity.as_ref() == identity && Arc::ptr_eq(&standing.owned, owned);
            if !same {
                standing.identity = identity.cloned();
                standing.owned = Arc::clone(owned);
            }
            !same
        });
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.machine.next_action() {
            let coordinator = Arc::clone(&self.coordinator);
            let config = self.config.clone();
            let under_way: BoxFuture<'static, Input> = match action {
                Action::Join(join) => {
                    let group_id = &self.config.group_id;
                    tracing::debug!(%group_id, reason = join.reason, "joining the group");
                    let topics = self.machine.watched().cloned().collect();
                    Box::pin(async move {
                        // What is there when we join is nothing new afterwards.
                        know(coordinator.client(), topics).await;
                        requests::join(&coordinator, &config, join).await
                    })
                }
                Action::LookUp(attempt, topics) => Box::pin(async move {
                    Input::Counted(attempt, look_up(coordinator.client(), topics).await)
                }),
                Action::Sync { attempt, identity, assignor, plan } => Box::pin(async move {
                    let sync = requests::sync(&coordinator, &config, identity, assignor, plan);
                    Input::Synced(attempt, sync.await)
                }),
                Action::GiveUpJoining => {
                    coordinator.close_joining();
                    continue;
                }
                Action::Heartbeat(identity) => {
                    let session = match identity.instance_id {
                        Some(_) => config.session_timeout,
                        None => config.session_timeout_dynamic,
                    };
                    let time = heartbeat_timeout(session);
                    Box::pin(async move { requests::heartbeat(&coordinator, time, identity).await })
                }
                Action::Audit(topics) => Box::pin(async move {
                    let held = requests::held(&coordinator).await;
                    let counts = look_up(coordinator.client(), topics).await;
                    Input::Audited { counts, held }
                }),
                Action::Leave(identity) => {
                    Box::pin(async move { requests::leave(&coordinator, identity).await })
                }
            };
            self.under_way.push(under_way);
        }
    }
}

async fn sleep_to(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// A notice as an event; for a revocation its guard is waited for.
fn tell(
    group_id: &Arc<str>,
    under_way: &FuturesUnordered<BoxFuture<'static, Input>>,
    notice: Notice,
) -> Result<Event, Error> {
    match notice {
        Notice::Assigned { epoch, generation, added, owned } => {
            let (new, all) = (added.len(), owned.len());
            tracing::info!(%group_id, generation, new, all, "partitions assigned");
            Ok(Event::Assigned { epoch, generation, added, owned })
        }
        Notice::Revoking { id, partitions, deadline } => {
            let count = partitions.len();
            tracing::info!(%group_id, partitions = count, "partitions to be handed back");
            let (guard, dropped) = oneshot::channel();
            under_way.push(Box::pin(async move {
                // Dropping the guard is the signal; there is never a value.
                let _: Result<(), _> = dropped.await;
                Input::HandedBack(id)
            }));
            Ok(Event::Revoking { partitions, deadline, hand_back: HandBack::new(guard) })
        }
        Notice::Lost { partitions, cause } => {
            tracing::warn!(%group_id, partitions = partitions.len(), ?cause, "partitions lost");
            Ok(Event::Lost { partitions, cause })
        }
        Notice::Refused(error) => {
            tracing::warn!(
                %group_id, error = %Chain(&error),
                "the group refuses this member, which goes on asking"
            );
            Ok(Event::Refused { error })
        }
        Notice::Failed(error) => Err(error),
    }
}

/// How many partitions each of `topics` has; those that do not exist are left out.
fn counts<'a>(view: &View, topics: impl Iterator<Item = &'a Arc<str>>) -> Counts {
    let count = |topic: &'a Arc<str>| {
        let (last, _) = view.topic(topic)?.partitions.last_key_value()?;
        Some((Arc::clone(topic), last + 1))
    };
    topics.filter_map(count).collect()
}

/// Makes sure that the metadata of `topics` were asked for, if they can be had.
async fn know(client: &Client, topics: BTreeSet<Arc<str>>) {
    let view = client.view();
    if topics.iter().any(|topic| view.topic(topic).is_none()) {
        look_up(client, topics).await;
    }
}

/// Asks for fresh metadata, so that new partitions are part of the plan; without an answer, the
/// plan is made from what is known.
async fn look_up(client: &Client, topics: BTreeSet<Arc<str>>) -> Counts {
    client.watch_topics(topics.iter().cloned());
    let mut view = client.view();
    for _ in 0..LOOK_UP_TRIES {
        match timeout(LOOK_UP_TIMEOUT, client.refresh(view.generation)).await {
            Ok(Ok(newer)) => view = newer,
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "assigning partitions by old metadata");
                break;
            }
            Err(_) => break,
        }
        // An answer that was under way already need not have the topics just added.
        if topics.iter().all(|topic| view.topic(topic).is_some()) {
            break;
        }
    }
    counts(&view, topics.iter())
}
