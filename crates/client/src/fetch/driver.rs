//! The fetcher's task: moves what the state says, and tells it what came. Decides nothing.
//!
//! Bounds: per broker one fetch and one question about epochs at a time; one question for metadata;
//! memory by the budget: a fetch holds a lease for what it may bring. An answer that is larger, by
//! one batch, waits for the whole before it is handed on, having given back what it had, so nobody
//! who waits for memory holds any.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kafka_protocol::messages::ApiKey;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::budget::{Budget, Lease, Part};
use crate::client::Client;
use crate::clock;
use crate::cluster::{Topic, View};
use crate::connection::Connection;
use crate::error::{Chain, Error as ClientError, Fate};
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::answer::Answer;
use super::config::Config;
use super::ends;
use super::epochs::{self, Proven};
use super::partition::{Leader, Seen};
use super::questions::Claim;
use super::{Shared, wire};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the task waits for.
enum Event {
    Poked,
    Woken,
    Viewed,
    Refreshed,
    /// Connection and memory for a fetch are there.
    Ready {
        broker: BrokerId,
        outcome: Result<(Connection, Lease), ClientError>,
    },
    Answered {
        broker: BrokerId,
        lease: Lease,
        version: i16,
        outcome: Result<Bytes, ClientError>,
    },
    /// Memory for an answer that was larger than expected is there.
    Reserved {
        broker: BrokerId,
        lease: Lease,
        answer: Answer,
    },
    Proven {
        claims: Vec<Claim>,
        outcome: Result<HashMap<TopicPartition, Proven>, ClientError>,
    },
    Measured {
        claim: Claim,
        ends: Option<(i64, i64)>,
    },
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    client: Client,
    config: Config,
    budget: Budget,
    /// Held while any partition is read.
    part: Option<Part>,
    views: watch::Receiver<Arc<View>>,
    work: FuturesUnordered<Boxed<Event>>,
    is_refreshing: bool,
    refresh_backoff: Backoff,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, client: Client, config: Config, budget: Budget) -> Self {
        let (initial, max) = config.backoff;
        Self {
            views: client.view_changes(),
            shared,
            client,
            config,
            budget,
            part: None,
            work: FuturesUnordered::new(),
            is_refreshing: false,
            refresh_backoff: Backoff::new(initial, max),
        }
    }

    /// Runs until the task is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.act(clock::now());
            let event = self.next(wake).await;
            self.handle(clock::now(), event);
        }
    }

    /// Begins all that can be begun now; says when there will be more.
    fn act(&mut self, now: Instant) -> Option<Instant> {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.handle_time(now);
        if state.partitions.is_empty() {
            self.part = None;
        } else if self.part.is_none() {
            self.part = Some(self.budget.take_part());
        }
        state.memory_bytes = self.budget.part_bytes();
        while let Some(proof) = state.poll_proof(now) {
            self.prove(proof.broker, proof.partitions);
        }
        while let Some(claim) = state.poll_measure(now) {
            self.measure(claim);
        }
        while let Some((broker, bytes)) = state.poll_fetch(now) {
            self.prepare(broker, bytes);
        }
        if !state.wants_metadata() {
            self.refresh_backoff.reset();
        } else if !self.is_refreshing {
            self.ask_metadata();
        }
        if state.has_event() {
            shared.ready.notify_one();
        }
        state.poll_wake(now)
    }

    async fn next(&mut self, wake: Option<Instant>) -> Event {
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(event) = self.work.next() => event,
            Ok(()) = self.views.changed() => Event::Viewed,
            () = self.shared.poke.notified() => Event::Poked,
            () = timer => Event::Woken,
        }
    }

    fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Woken => {}
            Event::Poked => {
                let is_new = self.shared.lock().is_new;
                if is_new {
                    self.view(now);
                }
            }
            Event::Viewed => self.view(now),
            Event::Refreshed => {
                self.is_refreshing = false;
                self.shared.lock().metadata_asked();
                self.view(now);
            }
            Event::Ready { broker, outcome } => self.fetch(now, broker, outcome),
            Event::Answered { broker, lease, version, outcome } => {
                self.answered(now, broker, lease, outcome.map(|body| (version, body)));
            }
            Event::Reserved { broker, lease, answer } => {
                self.shared.lock().handle_answer(now, broker, answer, lease);
            }
            Event::Proven { claims, outcome } => self.proven(now, &claims, outcome),
            Event::Measured { claim, ends } => self.shared.lock().handle_ends(now, &claim, ends),
        }
    }

    fn view(&mut self, now: Instant) {
        let view = Arc::clone(&self.views.borrow_and_update());
        let mut topic: Option<&Topic> = None;
        self.shared.lock().handle_view(now, |partition| {
            // The partitions of a topic come one after the other.
            if topic.is_none_or(|topic| topic.name != partition.topic) {
                topic = view.topic(&partition.topic);
            }
            topic.map_or_else(Seen::default, |topic| look(topic, partition.partition))
        });
    }

    /// Gets a connection first and then memory: a dial may take long.
    fn prepare(&self, broker: BrokerId, bytes: usize) {
        let (client, budget) = (self.client.clone(), self.budget.clone());
        let lane = self.config.lane;
        self.work.push(Box::pin(async move {
            let connection = match client.broker(broker) {
                Ok(handle) => handle.connection(lane).await,
                Err(error) => Err(error),
            };
            let outcome = match connection {
                Ok(connection) => {
                    connection.read_into(budget.buffers());
                    Ok((connection, budget.lease(bytes).await))
                }
                Err(error) => Err(error),
            };
            Event::Ready { broker, outcome }
        }));
    }

    fn fetch(
        &self,
        now: Instant,
        broker: BrokerId,
        outcome: Result<(Connection, Lease), ClientError>,
    ) {
        let mut state = self.shared.lock();
        let versions =
            if state.has_topic_ids(broker) { wire::VERSIONS } else { wire::VERSIONS_BY_NAME };
        let ready = outcome.and_then(|(connection, lease)| {
            let version = connection.version(ApiKey::Fetch, versions)?;
            Ok((connection, lease, version))
        });
        let (connection, lease, version) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                state.handle_failure(now, broker);
                state.say_failure(now, broker, &Chain(&error));
                return;
            }
        };
        let bytes = lease.bytes();
        state.handle_connected(broker, connection.round_trip().shortest().unwrap_or_default());
        let plan = state.plan(now, broker, bytes, wire::style(version));
        let wait = state.wait(broker);
        let Some(plan) = plan else {
            state.handle_nothing(broker);
            return;
        };
        let Some(body) = wire::encode(version, &self.config, wait, &plan, bytes) else {
            tracing::error!(broker = broker.0, version, "fetch cannot be written");
            state.handle_failure(now, broker);
            return;
        };
        let timeout = self.client.config().request_timeout + self.config.wait_max;
        let pending = connection.send(ApiKey::Fetch, version, vec![body], timeout);
        self.work.push(Box::pin(async move {
            let outcome = pending.await;
            // Kept until here: the lane lives as long as somebody holds its connection.
            drop(connection);
            Event::Answered { broker, lease, version, outcome }
        }));
    }

    fn answered(
        &self,
        now: Instant,
        broker: BrokerId,
        mut lease: Lease,
        outcome: Result<(i16, Bytes), ClientError>,
    ) {
        let mut state = self.shared.lock();
        let answer = outcome.map(|(version, body)| {
            state.links.get(&broker).and_then(|link| wire::decode(version, body, &link.session))
        });
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                state.handle_lost(now, broker);
                state.say_failure(now, broker, &"the answer cannot be read");
                return;
            }
            Err(error) => {
                // What was never written did not take too long.
                match error.fate() {
                    Fate::Unknown => state.handle_lost(now, broker),
                    Fate::NotWritten => state.handle_failure(now, broker),
                }
                state.say_failure(now, broker, &Chain(&error));
                return;
            }
        };
        let bytes = answer.bytes();
        if bytes <= lease.bytes() {
            lease.shrink_to(bytes);
            state.handle_answer(now, broker, answer, lease);
            return;
        }
        drop(lease);
        let budget = self.budget.clone();
        self.work.push(Box::pin(async move {
            let lease = budget.lease(bytes).await;
            Event::Reserved { broker, lease, answer }
        }));
    }

    fn prove(&self, broker: BrokerId, claims: Vec<Claim>) {
        let client = self.client.clone();
        self.work.push(Box::pin(async move {
            let outcome = epochs::ask(&client, broker, &claims).await;
            Event::Proven { claims, outcome }
        }));
    }

    fn proven(
        &self,
        now: Instant,
        claims: &[Claim],
        outcome: Result<HashMap<TopicPartition, Proven>, ClientError>,
    ) {
        let mut state = self.shared.lock();
        for claim in claims {
            match &outcome {
                // Brokers before 2.3 cannot be asked.
                Err(ClientError::UnsupportedVersion { .. }) => state.handle_no_objection(claim),
                Err(error) => {
                    tracing::debug!(error = %Chain(error), "leader epoch not asked for");
                    state.handle_unproven(now, claim, None);
                }
                Ok(proven) => match proven.get(&claim.partition) {
                    Some(Proven { code: ErrorCode::NONE, end }) => {
                        state.handle_proof(now, claim, *end)
                    }
                    Some(Proven { code, .. }) => state.handle_unproven(now, claim, Some(*code)),
                    None => state.handle_unproven(now, claim, None),
                },
            }
        }
    }

    fn measure(&self, claim: Claim) {
        let client = self.client.clone();
        self.work.push(Box::pin(async move {
            let ends = ends::ask(&client, claim.leader.broker, &claim.partition).await;
            Event::Measured { claim, ends }
        }));
    }

    /// One question at a time; the second in a row waits a little before it is asked.
    fn ask_metadata(&mut self) {
        self.is_refreshing = true;
        let is_first = self.refresh_backoff.failures() == 0;
        let delay = self.refresh_backoff.next_delay();
        let client = self.client.clone();
        self.work.push(Box::pin(async move {
            let pause = if is_first { Duration::ZERO } else { delay };
            clock::sleep(pause).await;
            if let Err(error) = client.refresh(client.view().generation).await {
                tracing::debug!(error = %Chain(&error), "metadata not refreshed");
            }
            Event::Refreshed
        }));
    }
}

fn look(topic: &Topic, number: i32) -> Seen {
    let partition = topic.partitions.get(&number);
    let leader = partition.and_then(|partition| {
        Some(Leader { broker: partition.leader?, epoch: partition.leader_epoch })
    });
    Seen {
        topic_id: topic.id,
        leader,
        exists: partition.is_some(),
        is_forbidden: topic.error == ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    }
}
