//! Produce v3 to v11.
//!
//! Served: everything a broker validates (see `log/validate.rs`), idempotence, transactions that
//! were announced with AddPartitionsToTxn, acks 0, 1 and all, min.insync.replicas, record errors
//! (v8), the current leader on NOT_LEADER_OR_FOLLOWER (v10). Left out: quotas; the implicit
//! partition registration of v12 (KIP-890 part 2) and topic ids of v13 are not offered.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};

use bytes::Bytes;

use super::{Call, Reply};
use crate::error::Error;
use crate::log::Appended;
use crate::log::validate::{Rejection, Rules, validate};
use crate::shared::Shared;
use crate::state::State;
use crate::transaction::Producer;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>) -> Result<Reply, Error> {
    let request = call.decode::<ProduceRequest>()?;
    let acks = request.acks;
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
    let mut response = ProduceResponse::default();
    for topic in request.topic_data {
        let mut results = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let append = Append {
                topic: &topic.name,
                partition: data.index,
                records: data.records.unwrap_or_default(),
                acks,
                transactional_id: transactional_id.as_deref(),
                broker: Some(call.broker),
                version: call.version(),
            };
            let outcome = match call.forced {
                Some(error) => Err(Rejection::new(error, "intercepted")),
                None => append.run(call.shared),
            };
            results.push(describe(call, &append, outcome));
        }
        let answered =
            TopicProduceResponse::default().with_name(topic.name).with_partition_responses(results);
        response.responses.push(answered);
    }
    if acks == 0 {
        let failed = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        if failed.into_iter().any(|partition| partition.error_code != 0) {
            // Nobody can be told: a real broker closes the connection so that metadata is
            // refreshed.
            return Err(Error::Frame { reason: "produce with acks 0 failed" });
        }
        return Ok(None);
    }
    response.node_endpoints = endpoints(call, &response);
    call.encode(&response)
}

/// One batch on its way into a log.
pub(crate) struct Append<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) records: Bytes,
    pub(crate) acks: i16,
    pub(crate) transactional_id: Option<&'a str>,
    /// The broker asked; `None` writes whoever leads.
    pub(crate) broker: Option<i32>,
    pub(crate) version: i16,
}

/// What a successful append answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) appended: Appended,
    pub(crate) log_append_time_ms: i64,
    pub(crate) log_start_offset: i64,
}

impl Append<'_> {
    /// Validates outside the lock, appends inside. Between the two the topic may change; a real
    /// broker has the same window between reading its configuration and taking the log's lock.
    pub(crate) fn run(&self, shared: &Shared) -> Result<Written, Rejection> {
        let rules = self.rules(shared)?;
        let batch = validate(&self.records, &rules)?;
        let size_bytes = batch.size_bytes() as u64;
        let mut state = shared.state();
        if state.stored_bytes() + size_bytes > shared.settings.storage_bytes_max {
            let reason = "the fake's storage_bytes_max is reached";
            return Err(Rejection::new(ResponseError::KafkaStorageError, reason));
        }
        self.check_transaction(shared, &state, &batch)?;
        self.check_partition(&state)?;
        let partition = state
            .partition_mut(self.topic, self.partition)
            .ok_or_else(|| plain(ResponseError::UnknownTopicOrPartition))?;
        let epoch = partition.leader_epoch;
        let appended =
            partition.log.append(batch, epoch, shared.settings.release).map_err(plain)?;
        partition.wake();
        let log_start_offset = partition.log.start_offset();
        if !appended.is_duplicate {
            state.add_stored_bytes(size_bytes);
        }
        let log_append_time_ms = if rules.is_log_append_time { appended.timestamp_ms } else { -1 };
        Ok(Written { appended, log_append_time_ms, log_start_offset })
    }

    fn rules(&self, shared: &Shared) -> Result<Rules, Rejection> {
        if !(-1..=1).contains(&self.acks) {
            return Err(plain(ResponseError::InvalidRequiredAcks));
        }
        let state = shared.state();
        self.check_partition(&state)?;
        let topic = state
            .topics
            .get(self.topic)
            .ok_or_else(|| plain(ResponseError::UnknownTopicOrPartition))?;
        let release = shared.settings.release;
        let mut rules = topic.rules(self.version, release, shared.clock.unix_ms());
        rules.is_strict = shared.settings.is_strict;
        Ok(rules)
    }

    fn check_partition(&self, state: &State) -> Result<(), Rejection> {
        let partition = state
            .partition(self.topic, self.partition)
            .ok_or_else(|| plain(ResponseError::UnknownTopicOrPartition))?;
        if self.broker.is_some_and(|broker| broker != partition.leader) {
            return Err(plain(ResponseError::NotLeaderOrFollower));
        }
        let in_sync = partition.replicas.iter().filter(|id| state.is_alive(**id)).count();
        let least = state.topics.get(self.topic).map_or(1, |t| t.number("min.insync.replicas"));
        if self.acks == -1 && (in_sync as i64) < least {
            return Err(plain(ResponseError::NotEnoughReplicas));
        }
        Ok(())
    }

    /// A transactional batch needs a transactional id that announced this partition (KIP-98,
    /// verified since KIP-890).
    fn check_transaction(
        &self,
        shared: &Shared,
        state: &State,
        batch: &crate::batch::Batch,
    ) -> Result<(), Rejection> {
        let header = batch.header();
        if !header.is_transactional() {
            return Ok(());
        }
        let Some(id) = self.transactional_id else {
            return Err(plain(ResponseError::TransactionalIdAuthorizationFailed));
        };
        let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
        let at = (self.topic, self.partition);
        state.transactions.verify(id, producer, at, shared.settings.release).map_err(plain)
    }
}

fn plain(error: ResponseError) -> Rejection {
    Rejection::new(error, error.to_string())
}

fn describe(
    call: &Call<'_>,
    append: &Append<'_>,
    outcome: Result<Written, Rejection>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(append.partition);
    match outcome {
        Ok(written) => response
            .with_base_offset(written.appended.base_offset)
            .with_log_append_time_ms(written.log_append_time_ms)
            .with_log_start_offset(written.log_start_offset),
        Err(rejection) => {
            let refused = response.with_error_code(rejection.error.code()).with_base_offset(-1);
            detail(call, append, rejection, refused)
        }
    }
}

fn detail(
    call: &Call<'_>,
    append: &Append<'_>,
    rejection: Rejection,
    mut response: PartitionProduceResponse,
) -> PartitionProduceResponse {
    if call.version() >= 8 {
        let records = rejection.records.into_iter().map(|(index, reason)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(Some(string(reason)))
        });
        response = response
            .with_record_errors(records.collect())
            .with_error_message(Some(string(rejection.message)));
    }
    if call.version() >= 10 && rejection.error == ResponseError::NotLeaderOrFollower {
        let state = call.shared.state();
        if let Some(partition) = state.partition(append.topic, append.partition) {
            response.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(partition.leader))
                .with_leader_epoch(partition.leader_epoch);
        }
    }
    response
}

/// Where the leaders named in a v10 response are (KIP-951).
fn endpoints(call: &Call<'_>, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut leaders: Vec<i32> =
        partitions.map(|p| p.current_leader.leader_id.0).filter(|id| *id >= 0).collect();
    leaders.sort_unstable();
    leaders.dedup();
    if leaders.is_empty() {
        return Vec::new();
    }
    let state = call.shared.state();
    let known = leaders.into_iter().filter_map(|id| {
        let node = state.nodes.get(&id)?;
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(id))
            .with_host(string(&node.host))
            .with_port(i32::from(node.port));
        Some(endpoint.with_rack(node.rack.clone().map(string)))
    });
    known.collect()
}
