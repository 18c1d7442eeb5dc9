//! Incremental fetch sessions (KIP-227), as `FetchSession` and `FetchManager` keep them.
//!
//! Owned by the cluster, beside the state and under its own lock, which is never taken while the
//! state's is wanted for long. Always true: a session's partitions that returned data go to the
//! end, so that none starves, and at most [`SESSIONS_MAX`] sessions exist; the oldest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use uuid::Uuid;

use super::{Found, Wanted};
use crate::api::Call;
use crate::state::State;

/// `max.incremental.fetch.session.cache.slots`.
const SESSIONS_MAX: usize = 1000;

/// The epoch of a request outside any session, or that closes one.
const FINAL_EPOCH: i32 = -1;

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<i32, Session>,
    next_id: i32,
}

#[derive(Debug)]
struct Session {
    broker: i32,
    epoch: i32,
    partitions: Vec<Tracked>,
}

/// A partition in a session and what the client was last told about it.
#[derive(Debug, Clone)]
struct Tracked {
    wanted: Wanted,
    high_watermark: i64,
    log_start_offset: i64,
}

type Key = (Arc<str>, Uuid, i32);

/// One request's place in a session.
#[derive(Debug)]
pub(crate) struct Round {
    /// What the response carries; 0 outside a session.
    pub(crate) session_id: i32,
    pub(crate) wanted: Vec<Wanted>,
    is_incremental: bool,
}

impl Sessions {
    /// Forgets every session: each client is told FETCH_SESSION_ID_NOT_FOUND and starts over.
    pub(crate) fn clear(&mut self) {
        self.sessions.clear();
    }

    fn create(&mut self, broker: i32, partitions: Vec<Tracked>) -> i32 {
        while self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_first();
        }
        self.next_id += 1;
        self.sessions.insert(self.next_id, Session { broker, epoch: 1, partitions });
        self.next_id
    }
}

/// Finds or makes the session a request belongs to and lists what it wants.
pub(crate) fn open(call: &Call<'_>, request: &FetchRequest) -> Result<Round, ResponseError> {
    let asked = resolve(&call.shared.state(), request);
    let mut sessions = call.shared.sessions();
    if call.version() < 7 || request.session_epoch == FINAL_EPOCH {
        sessions.sessions.remove(&request.session_id);
        return Ok(Round { session_id: 0, wanted: asked, is_incremental: false });
    }
    if request.session_epoch == 0 {
        sessions.sessions.remove(&request.session_id);
        let tracked = asked.iter().cloned().map(Tracked::new).collect();
        let session_id = sessions.create(call.broker, tracked);
        return Ok(Round { session_id, wanted: asked, is_incremental: false });
    }
    let session = sessions
        .sessions
        .get_mut(&request.session_id)
        .filter(|session| session.broker == call.broker)
        .ok_or(ResponseError::FetchSessionIdNotFound)?;
    if session.epoch != request.session_epoch {
        return Err(ResponseError::InvalidFetchSessionEpoch);
    }
    session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
    session.update(asked);
    session.forget(request);
    let wanted = session.partitions.iter().map(|tracked| tracked.wanted.clone()).collect();
    Ok(Round { session_id: request.session_id, wanted, is_incremental: true })
}

/// Notes what the client is told and leaves out what it knows already.
pub(crate) fn close(call: &Call<'_>, round: &Round, found: Vec<Found>) -> Vec<Found> {
    if round.session_id == 0 {
        return found;
    }
    let mut sessions = call.shared.sessions();
    let Some(session) = sessions.sessions.get_mut(&round.session_id) else { return found };
    // Nothing else changes the list between open and close: a connection's requests do not overlap.
    // If a client used the session on two connections, the shorter list wins.
    let mut news = Vec::new();
    let mut quiet = Vec::new();
    let mut served = Vec::new();
    let tracked = std::mem::take(&mut session.partitions);
    for (mut tracked, found) in tracked.into_iter().zip(found) {
        let is_news = tracked.tell(&found);
        if found.read.size_bytes > 0 {
            served.push(tracked);
        } else {
            quiet.push(tracked);
        }
        if is_news || !round.is_incremental {
            news.push(found);
        }
    }
    quiet.append(&mut served);
    session.partitions = quiet;
    news
}

impl Session {
    fn update(&mut self, asked: Vec<Wanted>) {
        if asked.is_empty() {
            return;
        }
        let known = self.partitions.iter().map(Tracked::key).zip(0..);
        let known: HashMap<Key, usize> = known.collect();
        for wanted in asked {
            let tracked = Tracked::new(wanted);
            match known.get(&tracked.key()) {
                Some(index) => self.partitions[*index].wanted = tracked.wanted,
                None => self.partitions.push(tracked),
            }
        }
    }

    fn forget(&mut self, request: &FetchRequest) {
        for topic in &request.forgotten_topics_data {
            self.partitions.retain(|tracked| {
                let wanted = &tracked.wanted;
                let is_topic = if topic.topic_id.is_nil() {
                    *wanted.topic == **topic.topic
                } else {
                    wanted.topic_id == topic.topic_id
                };
                !(is_topic && topic.partitions.contains(&wanted.partition))
            });
        }
    }
}

impl Tracked {
    fn new(wanted: Wanted) -> Tracked {
        Tracked { wanted, high_watermark: -1, log_start_offset: -1 }
    }

    fn key(&self) -> Key {
        (Arc::clone(&self.wanted.topic), self.wanted.topic_id, self.wanted.partition)
    }

    /// Whether the client must hear of `found` (`CachedPartition.maybeUpdateResponseData`).
    fn tell(&mut self, found: &Found) -> bool {
        let is_news = found.read.size_bytes > 0
            || found.high_watermark != self.high_watermark
            || found.log_start_offset != self.log_start_offset
            || found.preferred_replica >= 0
            || found.diverging.is_some()
            || found.error.is_some();
        self.high_watermark = if found.error.is_some() { -1 } else { found.high_watermark };
        self.log_start_offset = found.log_start_offset;
        is_news
    }
}

/// The partitions a request names, with topic ids (v13 and later) turned into names.
fn resolve(state: &State, request: &FetchRequest) -> Vec<Wanted> {
    let mut all = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = if topic.topic_id.is_nil() {
            Arc::from(topic.topic.as_str())
        } else {
            Arc::from(state.topic_name(topic.topic_id).unwrap_or_default())
        };
        for partition in &topic.partitions {
            all.push(Wanted {
                topic: Arc::clone(&name),
                topic_id: topic.topic_id,
                partition: partition.partition,
                offset: partition.fetch_offset,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            });
        }
    }
    all
}
