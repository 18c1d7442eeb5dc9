//! Fetch v4 to v17.
//!
//! Served: incremental sessions (KIP-227), long polls with min bytes and max wait, both isolations
//! with the aborted list and the last stable offset, leader epochs, diverging epochs (KIP-595),
//! topic ids (v13), the current leader (v12) and its endpoint (v16), cut trailing batches and at
//! least one whole batch (KIP-74), fetching from followers and preferred replicas if the cluster
//! was built with it. Left out: replica fetches, throttling, down-conversion (the log holds v2
//! batches only).

pub(crate) mod encode;
pub(crate) mod session;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Call, Reply};
use crate::clock;
use crate::error::Error;
use crate::log::{Isolation, ReadLimit, ReadResult};
use crate::state::{State, check_epoch};
use crate::topic::Partition;

/// A partition a client wants data of.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) bytes_max: usize,
}

/// What a client gets for one partition.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) wanted: Wanted,
    pub(crate) error: Option<ResponseError>,
    pub(crate) high_watermark: i64,
    pub(crate) stable_offset: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) read: ReadResult,
    pub(crate) preferred_replica: i32,
    /// (epoch, end offset) where the client's log parts from ours.
    pub(crate) diverging: Option<(i32, i64)>,
    /// (leader, epoch) for a client that asked the wrong broker or epoch.
    pub(crate) current_leader: Option<(i32, i32)>,
}

/// What is the same for every partition of one request.
struct Terms {
    isolation: Isolation,
    bytes_max: usize,
    bytes_min: usize,
    rack: String,
    deadline: Instant,
}

pub(crate) async fn handle(call: Call<'_>) -> Result<Reply, Error> {
    let request = call.decode::<FetchRequest>()?;
    let terms = Terms {
        isolation: Isolation::from_wire(request.isolation_level),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        rack: request.rack_id.to_string(),
        deadline: clock::now() + clock::millis(request.max_wait_ms),
    };
    let opened = match call.forced {
        Some(error) if is_session_error(error) => Err(error),
        _ => session::open(&call, &request),
    };
    let round = match opened {
        Ok(round) => round,
        Err(error) => return encode::error(&call, error),
    };
    let found = poll(&call, &round.wanted, &terms).await;
    let found = session::close(&call, &round, found);
    encode::response(&call, round.session_id, &found, terms.isolation)
}

/// Reads until there is enough, an error, or no time left.
///
/// The waiter is registered under the lock that saw too little, and a permit is kept by
/// `notify_one`: an append between the unlock and the await still wakes this poll.
async fn poll(call: &Call<'_>, wanted: &[Wanted], terms: &Terms) -> Vec<Found> {
    loop {
        {
            let mut state = call.shared.state();
            let found = read_all(call, &state, wanted, terms);
            let bytes: usize = found.iter().map(|found| found.read.size_bytes).sum();
            let is_ready = |found: &Found| {
                found.error.is_some() || found.diverging.is_some() || found.preferred_replica >= 0
            };
            if bytes >= terms.bytes_min
                || wanted.is_empty()
                || found.iter().any(is_ready)
                || clock::now() >= terms.deadline
            {
                return found;
            }
            for wanted in wanted {
                if let Some(partition) = state.partition_mut(&wanted.topic, wanted.partition) {
                    partition.watch(call.wake);
                }
            }
        }
        tokio::select! {
            () = call.wake.notified() => {}
            () = tokio::time::sleep_until(terms.deadline) => {}
        }
    }
}

fn read_all(call: &Call<'_>, state: &State, wanted: &[Wanted], terms: &Terms) -> Vec<Found> {
    let mut left = terms.bytes_max;
    let mut is_empty = true;
    let mut all = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let limit = ReadLimit {
            bytes_max: wanted.bytes_max.min(left),
            at_least_one: is_empty,
            isolation: terms.isolation,
        };
        let found = read_one(call, state, wanted, limit, &terms.rack);
        left = left.saturating_sub(found.read.size_bytes);
        is_empty &= found.read.size_bytes == 0;
        all.push(found);
    }
    all
}

fn read_one(
    call: &Call<'_>,
    state: &State,
    wanted: &Wanted,
    limit: ReadLimit,
    rack: &str,
) -> Found {
    let mut found = Found {
        wanted: wanted.clone(),
        error: None,
        high_watermark: -1,
        stable_offset: -1,
        log_start_offset: -1,
        read: ReadResult::default(),
        preferred_replica: -1,
        diverging: None,
        current_leader: None,
    };
    let partition = match readable(call, state, wanted) {
        Ok(partition) => partition,
        Err(error) => {
            found.error = Some(error);
            let is_stale = matches!(
                error,
                ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch
            );
            if let Some(partition) = state.partition(&wanted.topic, wanted.partition)
                && is_stale
            {
                found.current_leader = Some((partition.leader, partition.leader_epoch));
            }
            return found;
        }
    };
    let log = &partition.log;
    found.diverging = diverging(partition, wanted);
    if found.diverging.is_none() && !log.covers(wanted.offset) {
        found.error = Some(ResponseError::OffsetOutOfRange);
        return found;
    }
    found.high_watermark = log.next_offset();
    found.stable_offset = log.stable_offset();
    found.log_start_offset = log.start_offset();
    if call.broker == partition.leader && call.shared.settings.follower_fetch {
        found.preferred_replica = preferred_replica(state, partition, rack);
    }
    if found.diverging.is_none() && found.preferred_replica < 0 {
        found.read = log.read(wanted.offset, limit);
    }
    found
}

fn readable<'a>(
    call: &Call<'_>,
    state: &'a State,
    wanted: &Wanted,
) -> Result<&'a Partition, ResponseError> {
    call.check_forced()?;
    if wanted.topic.is_empty() {
        return Err(ResponseError::UnknownTopicId);
    }
    let partition = state
        .partition(&wanted.topic, wanted.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !wanted.topic_id.is_nil()
        && state.topics.get(&*wanted.topic).is_none_or(|topic| topic.id != wanted.topic_id)
    {
        return Err(ResponseError::UnknownTopicId);
    }
    check_epoch(partition, wanted.leader_epoch)?;
    // KIP-392: from v11 on a consumer may read from a follower.
    let may_follow = call.shared.settings.follower_fetch
        && call.version() >= 11
        && partition.leader >= 0
        && partition.replicas.contains(&call.broker);
    if partition.leader != call.broker && !may_follow {
        return Err(ResponseError::NotLeaderOrFollower);
    }
    Ok(partition)
}

fn diverging(partition: &Partition, wanted: &Wanted) -> Option<(i32, i64)> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end) = partition.log.end_of_epoch(wanted.last_fetched_epoch);
    let parts = epoch >= 0 && (epoch < wanted.last_fetched_epoch || end < wanted.offset);
    parts.then_some((epoch, end))
}

/// A live replica in the client's rack, if the leader is not in it (`RackAwareReplicaSelector`).
fn preferred_replica(state: &State, partition: &Partition, rack: &str) -> i32 {
    let in_rack =
        |id: &i32| state.nodes.get(id).is_some_and(|node| node.rack.as_deref() == Some(rack));
    if rack.is_empty() || in_rack(&partition.leader) {
        return -1;
    }
    let mut candidates = partition.replicas.iter().filter(|id| state.is_alive(**id));
    candidates.find(|id| in_rack(id)).copied().unwrap_or(-1)
}

fn is_session_error(error: ResponseError) -> bool {
    matches!(
        error,
        ResponseError::FetchSessionIdNotFound
            | ResponseError::InvalidFetchSessionEpoch
            | ResponseError::FetchSessionTopicIdError
    )
}
