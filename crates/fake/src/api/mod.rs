//! Takes a request to the file of its API and its answer back to bytes.
//!
//! One file per API. Always true: a version outside the served range closes the connection, except
//! for ApiVersions, which answers with what is served (KIP-511).

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod api_versions;
pub(crate) mod configs;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_acls;
pub(crate) mod describe_cluster;
pub(crate) mod describe_groups;
pub(crate) mod describe_producers;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sync_group;
pub(crate) mod txn_offset_commit;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Encodable, Request};
use tokio::sync::Notify;

use crate::error::Error;
use crate::shared::Shared;
use crate::state::State;
use crate::wire::gather::Gather;
use crate::wire::header::Incoming;
use crate::wire::{codec_error, response_header, shape};

/// One request being handled.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) broker: i32,
    pub(crate) peer_host: &'a str,
    /// Woken when a partition that a long poll on this connection waits for changes.
    pub(crate) wake: &'a Arc<Notify>,
    pub(crate) incoming: Incoming,
    /// The error a test wants instead of handling.
    pub(crate) forced: Option<ResponseError>,
}

/// The answer, or `None` where the protocol has none (Produce with acks 0).
type Reply = Option<Gather>;

impl Call<'_> {
    pub(crate) fn version(&self) -> i16 {
        self.incoming.version
    }

    /// The error a test wants, as a result to be passed on.
    pub(crate) fn check_forced(&self) -> Result<(), ResponseError> {
        self.forced.map_or(Ok(()), Err)
    }

    pub(crate) fn decode<Q: Request>(&self) -> Result<Q, Error> {
        Q::decode(&mut self.incoming.body.clone(), self.version())
            .map_err(|error| codec_error(self.incoming.api, self.version(), &error))
    }

    pub(crate) fn start_reply(&self) -> Result<Gather, Error> {
        let header =
            response_header(self.incoming.api, self.version(), self.incoming.correlation_id)?;
        Ok(Gather::new(header))
    }

    pub(crate) fn encode(&self, response: &impl Encodable) -> Result<Reply, Error> {
        let mut reply = self.start_reply()?;
        let mut result = Ok(());
        reply.put(|out| result = response.encode(out, self.version()));
        result.map_err(|error| codec_error(self.incoming.api, self.version(), &error))?;
        Ok(Some(reply))
    }

    /// Decodes, handles without waiting, encodes.
    fn answer<Q: Request>(&self, handle: fn(&Self, Q) -> Q::Response) -> Result<Reply, Error> {
        let request = self.decode::<Q>()?;
        self.encode(&handle(self, request))
    }
}

/// The code on the wire of an outcome.
pub(crate) fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

/// Whether this broker coordinates the group or transactional id.
pub(crate) fn check_coordinator(
    call: &Call<'_>,
    state: &State,
    key: &str,
) -> Result<(), ResponseError> {
    if state.coordinator_of(key) == Some(call.broker) {
        Ok(())
    } else {
        Err(ResponseError::NotCoordinator)
    }
}

/// PRODUCER_FENCED as versions before `version` name it (KIP-588).
pub(crate) fn fenced_before(call: &Call<'_>, version: i16, error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced if call.version() < version => {
            ResponseError::InvalidProducerEpoch
        }
        other => other,
    }
}

/// Handles one request.
pub(crate) async fn handle(call: Call<'_>) -> Result<Reply, Error> {
    let (api, version) = (call.incoming.api, call.incoming.version);
    if api != ApiKey::ApiVersions && !call.shared.versions().serves(api as i16, version) {
        return Err(Error::Frame { reason: "API or version is not served" });
    }
    if api != ApiKey::ApiVersions || version <= API_VERSIONS_KNOWN {
        shape::check(api, version, &call.incoming.body)?;
    }
    match api {
        ApiKey::ApiVersions => api_versions::handle(call),
        ApiKey::Metadata => call.answer(metadata::handle),
        ApiKey::Produce => produce::handle(&call),
        ApiKey::Fetch => fetch::handle(call).await,
        ApiKey::JoinGroup => join_group::handle(call).await,
        ApiKey::SyncGroup => sync_group::handle(call).await,
        ApiKey::ListOffsets => call.answer(list_offsets::handle),
        ApiKey::CreateTopics => call.answer(create_topics::handle),
        ApiKey::FindCoordinator => call.answer(find_coordinator::handle),
        ApiKey::Heartbeat => call.answer(heartbeat::handle),
        ApiKey::LeaveGroup => call.answer(leave_group::handle),
        ApiKey::OffsetCommit => call.answer(offset_commit::handle),
        ApiKey::OffsetFetch => call.answer(offset_fetch::handle),
        ApiKey::ListGroups => call.answer(list_groups::handle),
        ApiKey::DescribeGroups => call.answer(describe_groups::handle),
        ApiKey::DeleteGroups => call.answer(delete_groups::handle),
        ApiKey::OffsetDelete => call.answer(offset_delete::handle),
        ApiKey::InitProducerId => call.answer(init_producer_id::handle),
        ApiKey::AddPartitionsToTxn => call.answer(add_partitions_to_txn::handle),
        ApiKey::AddOffsetsToTxn => call.answer(add_offsets_to_txn::handle),
        ApiKey::TxnOffsetCommit => call.answer(txn_offset_commit::handle),
        ApiKey::EndTxn => call.answer(end_txn::handle),
        ApiKey::DeleteTopics => call.answer(delete_topics::handle),
        ApiKey::CreatePartitions => call.answer(create_partitions::handle),
        ApiKey::DescribeConfigs if version == 0 => configs::describe_v0(&call),
        ApiKey::DescribeConfigs => call.answer(configs::describe),
        ApiKey::AlterConfigs => call.answer(configs::alter),
        ApiKey::IncrementalAlterConfigs => call.answer(configs::alter_incrementally),
        ApiKey::DeleteRecords => call.answer(delete_records::handle),
        ApiKey::DescribeCluster => call.answer(describe_cluster::handle),
        ApiKey::DescribeAcls => call.answer(describe_acls::handle),
        ApiKey::OffsetForLeaderEpoch => call.answer(offset_for_leader_epoch::handle),
        ApiKey::DescribeProducers => call.answer(describe_producers::handle),
        _ => Err(Error::Frame { reason: "API is not served" }),
    }
}

/// Above it an ApiVersions body has a shape nobody here knows; it is answered without being read.
const API_VERSIONS_KNOWN: i16 = 4;
