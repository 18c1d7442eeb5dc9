//! The streams' threads: starts them, watches them, joins them. A stream that fails, or panics,
//! drains the others; the first error is the mirror's.
//!
//! Always true: no thread of a stream outlives [`Streams::join`]; a thread's runtime, clients and
//! producer end with it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kmirror_client::admin::Admin;
use kmirror_client::backoff::Backoff;
use kmirror_client::budget::Budget;
use kmirror_client::fetch::Position;
use kmirror_client::produce::{self, BatchProducer};
use kmirror_client::{Client, Lane, TopicPartition, clock};
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, Ownership};
use crate::control::plan::Plan;
use crate::control::topics::Topics;
use crate::error::{End, Error, chain};
use crate::positions::caught_up::{self, Stuck};
use crate::positions::progress::Registry;
use crate::positions::{Group, Keeper, Reader};
use crate::shutdown::{Phase, Shutdown, Trigger};
use crate::stage::assign::Assign;
use crate::stage::fetch::Fetch;
use crate::stage::produce::{Produce, Refusals};
use crate::stage::route::Router;
use crate::status::Board;
use crate::stream::{Parts, Stream, Unfinished};

/// What all streams are given.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) config: Arc<Config>,
    pub(crate) board: Arc<Board>,
    pub(crate) budget: Budget,
    pub(crate) plans: watch::Receiver<Arc<Plan>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) trigger: Trigger,
}

/// What the control thread does.
pub(crate) struct Control {
    pub(crate) topics: Topics,
    pub(crate) watched: caught_up::Watched,
    /// Told once all is caught up that can be, if the mirror is to end then.
    pub(crate) on_caught_up: oneshot::Sender<Stuck>,
}

/// The threads of a mirror.
pub(crate) struct Streams {
    threads: Vec<Thread>,
    ended: mpsc::Receiver<()>,
}

struct Thread {
    name: String,
    handle: JoinHandle<Outcome>,
}

impl Streams {
    /// Starts every stream of the configuration, and the loops that keep topics in step and wait
    /// for the end.
    ///
    /// # Errors
    /// [`Error::Thread`]; those already started end by themselves.
    pub(crate) fn start(common: &Common, control: Control) -> Result<Streams, Error> {
        let (sender, ended) = mpsc::channel(common.config.streams + 1);
        let mut streams = Streams { threads: Vec::new(), ended };
        for index in 0..common.config.streams {
            let common_of_stream = common.clone();
            let work = move || run(index, common_of_stream);
            streams.spawn(format!("stream-{index}"), (common, &sender), work)?;
        }
        let shutdown = common.trigger.subscribe();
        let work = move || runtime("control")?.block_on(control.run(shutdown));
        streams.spawn("control".to_owned(), (common, &sender), work)?;
        Ok(streams)
    }

    fn spawn(
        &mut self,
        name: String,
        (common, sender): (&Common, &mpsc::Sender<()>),
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Result<(), Error> {
        let at_end = AtEnd { sender: sender.clone(), trigger: common.trigger.clone() };
        let started = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let _at_end = at_end;
            work()
        });
        let refused = |error: std::io::Error| Error::Thread {
            thread: name.clone(),
            reason: error.to_string(),
        };
        let handle = started.map_err(refused)?;
        self.threads.push(Thread { name, handle });
        Ok(())
    }

    /// Returns once every thread is about to end. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }

    /// Takes the threads' outcomes, after [`Streams::ended`].
    ///
    /// # Errors
    /// The first stream's error.
    pub(crate) fn join(self) -> Result<Unfinished, Error> {
        let mut unfinished = Unfinished::new();
        let mut failure = None;
        for Thread { name, handle } in self.threads {
            let outcome = handle.join().unwrap_or_else(|panic| {
                Err(Error::Panicked { thread: name, message: words(panic.as_ref()) })
            });
            match outcome {
                Ok(mut part) => unfinished.append(&mut part),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(unfinished), Err)
    }
}

/// Asks `group`, on a thread of its own, which of `positions` it does not have: all of them, if it
/// does not say so in time.
pub(crate) async fn lacking(
    group: Group,
    positions: BTreeMap<TopicPartition, Position>,
) -> BTreeMap<TopicPartition, Position> {
    let (sender, answer) = oneshot::channel();
    let asked = positions.clone();
    let work = move || {
        let Ok(runtime) = runtime("last-look") else { return };
        runtime.block_on(async move {
            tokio::select! { biased;
                lacking = group.lacks(asked) => drop(sender.send(lacking)),
                () = clock::sleep(ASK_TIMEOUT) => {}
            }
        });
    };
    match std::thread::Builder::new().name("last-look".to_owned()).spawn(work) {
        Ok(_) => answer.await.unwrap_or(positions),
        Err(_) => positions,
    }
}

/// How long the group is asked at the end what it has.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How a thread ends.
type Outcome = Result<Unfinished, Error>;

/// However a thread ends, the supervisor hears of it and the others drain.
struct AtEnd {
    sender: mpsc::Sender<()>,
    trigger: Trigger,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.trigger.drain();
        let _ = self.sender.try_send(());
    }
}

/// One thread: its runtime, its clients, its stream.
fn run(index: usize, common: Common) -> Outcome {
    let shutdown = common.trigger.subscribe();
    let runtime = runtime(&format!("stream-{index}"))?;
    // A task like those of its clients, not the runtime's root: the root is only looked at between
    // two calls of the system, so each time a task wakes it would cost one.
    let stream = runtime.spawn_local(async move {
        let Some(stream) = connected(index, common, shutdown.clone()).await? else {
            return Ok(Unfinished::new());
        };
        stream.run(shutdown).await
    });
    runtime.block_on(stream).unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

impl Control {
    /// Keeps topics in step, and waits until all is caught up, until the mirror ends.
    async fn run(self, mut shutdown: Shutdown) -> Outcome {
        tokio::select! { biased;
            () = shutdown.reached(Phase::Draining) => Ok(Unfinished::new()),
            Err(error) = self.topics.run() => Err(error),
            never = wait_for_the_end(self.watched, self.on_caught_up) => match never {},
        }
    }
}

/// Tells when all is caught up, if the mirror is to end then.
async fn wait_for_the_end(
    watched: caught_up::Watched,
    on_caught_up: oneshot::Sender<Stuck>,
) -> Infallible {
    if watched.config.until_caught_up {
        // Nobody listens once another end was asked for.
        let _ = on_caught_up.send(caught_up::watch(watched).await);
    }
    std::future::pending().await
}

/// A runtime for one thread.
fn runtime(thread: &str) -> Result<LocalRuntime, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default());
    runtime.map_err(|error| Error::Thread { thread: thread.to_owned(), reason: error.to_string() })
}

/// The stream with its own connections, or nothing when the end was asked for first.
async fn connected(
    index: usize,
    common: Common,
    mut shutdown: Shutdown,
) -> Result<Option<Stream>, Error> {
    tokio::select! { biased;
        () = shutdown.reached(Phase::Draining) => Ok(None),
        stream = assemble(index, common) => stream.map(Some),
    }
}

async fn assemble(index: usize, common: Common) -> Result<Stream, Error> {
    let Common { config, board, budget, mut plans, registry, trigger } = common;
    let (source, destination) = futures::future::try_join(
        connect(End::Source, config.source.clone()),
        connect(End::Destination, config.destination.clone()),
    )
    .await?;
    // Joining a group with no topics would only cause a second rebalance a moment later.
    let complete = plans.wait_for(|plan| plan.complete).await;
    let topics = complete.map(|plan| plan.topics.keys().cloned().collect()).unwrap_or_default();
    let (assign, keeper, reader) = match &config.ownership {
        Ownership::Group(group) => Assign::member(&source, group, index, topics)?,
        Ownership::Alone { group_id } => {
            let assign = Assign::alone(index, config.streams, plans.clone());
            match group_id {
                None => (assign, Keeper::Nowhere, Reader::Nowhere),
                Some(id) => {
                    let group = Group { admin: Admin::new(source.clone()), id: Arc::clone(id) };
                    (assign, Keeper::Outside(group.clone()), Reader::Outside(group))
                }
            }
        }
    };
    let refusals = Arc::new(Refusals::new(config.trouble));
    let on_rejected = Arc::clone(&refusals);
    let settings = produce::Config { on_rejected, ..producer_config(&config, index) };
    let producer = BatchProducer::try_new(destination, settings);
    let producer = producer.map_err(|source| Error::Producer { source })?;
    Ok(Stream::new(Parts {
        index,
        plans,
        assign,
        router: Router::new(&budget),
        produce: Produce::new((producer, refusals), config.clone(), board.clone(), &budget),
        fetch: Fetch::new(source.clone(), &config, index, budget),
        keeper,
        reader,
        source,
        registry,
        trigger,
        config,
        board,
    }))
}

/// A client of its own for a stream. Both clusters answered when the mirror was built, so what may
/// pass is waited for.
async fn connect(end: End, config: kmirror_client::Config) -> Result<Client, Error> {
    let mut backoff = Backoff::new(config.backoff_initial, config.backoff_max);
    loop {
        match Client::connect(config.clone()).await {
            Ok(client) => return Ok(client),
            Err(source) if source.is_retryable() => {
                tracing::warn!(%end, error = chain(&source), "not connected");
                clock::sleep(backoff.next_delay()).await;
            }
            Err(source) => return Err(Error::of(end, source)),
        }
    }
}

fn producer_config(config: &Config, index: usize) -> produce::Config {
    produce::Config {
        in_flight_per_partition: Some(usize::from(config.produce.in_flight_max)),
        request_bytes_max: config.produce.request_bytes_max as usize,
        // The stream's lanes bound what a partition has under way; memory is bounded by leases.
        queue_bytes_max: QUEUE_BYTES_MAX,
        ack_timeout: config.produce.timeout,
        lane: Lane::Produce(u16::try_from(index).unwrap_or(u16::MAX)),
        ..produce::Config::default()
    }
}

/// Far above five batches of any size a broker takes.
const QUEUE_BYTES_MAX: usize = 1 << 30;

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
