//! From message structs to bytes and back, with kafka-protocol's errors turned into ours.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use super::guard;

/// A request that this client can send: every request struct of [`crate::messages`].
pub trait Api: Request<Response: Send> + Send + Sync {
    /// Which request it is.
    const KEY: ApiKey;
}

macro_rules! apis {
    ($($key:ident: $request:ident),* $(,)?) => {
        $(impl Api for kafka_protocol::messages::$request { const KEY: ApiKey = ApiKey::$key; })*
    };
}

apis! {
    Produce: ProduceRequest,
    Fetch: FetchRequest,
    ListOffsets: ListOffsetsRequest,
    Metadata: MetadataRequest,
    OffsetCommit: OffsetCommitRequest,
    OffsetFetch: OffsetFetchRequest,
    FindCoordinator: FindCoordinatorRequest,
    JoinGroup: JoinGroupRequest,
    Heartbeat: HeartbeatRequest,
    LeaveGroup: LeaveGroupRequest,
    SyncGroup: SyncGroupRequest,
    DescribeGroups: DescribeGroupsRequest,
    ListGroups: ListGroupsRequest,
    ApiVersions: ApiVersionsRequest,
    CreateTopics: CreateTopicsRequest,
    DeleteTopics: DeleteTopicsRequest,
    DeleteRecords: DeleteRecordsRequest,
    InitProducerId: InitProducerIdRequest,
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
    AddPartitionsToTxn: AddPartitionsToTxnRequest,
    AddOffsetsToTxn: AddOffsetsToTxnRequest,
    EndTxn: EndTxnRequest,
    TxnOffsetCommit: TxnOffsetCommitRequest,
    DescribeAcls: DescribeAclsRequest,
    DescribeConfigs: DescribeConfigsRequest,
    AlterConfigs: AlterConfigsRequest,
    CreatePartitions: CreatePartitionsRequest,
    DeleteGroups: DeleteGroupsRequest,
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
    OffsetDelete: OffsetDeleteRequest,
    DescribeCluster: DescribeClusterRequest,
}

/// An encoding or a decoding that failed, in the library's words.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// Keeps the words of the whole chain: the library's error type is not ours to hand on.
    fn new(error: impl fmt::Display) -> Self {
        Self(format!("{error:#}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// The length and header that go before a body of `body_bytes` bytes.
pub(super) fn head(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body_bytes: usize,
) -> Result<Bytes, Failure> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut head = BytesMut::with_capacity(32 + client_id.len());
    head.put_i32(0);
    header.encode(&mut head, api.request_header_version(version)).map_err(Failure::new)?;
    let length = i32::try_from(head.len() - 4 + body_bytes)
        .map_err(|_| Failure(format!("{body_bytes} bytes are more than a frame can hold")))?;
    head[..4].copy_from_slice(&length.to_be_bytes());
    Ok(head.freeze())
}

/// A request's body.
pub(super) fn encode<Q: Api>(request: &Q, version: i16) -> Result<Bytes, Failure> {
    let mut body = BytesMut::with_capacity(request.compute_size(version).map_err(Failure::new)?);
    request.encode(&mut body, version).map_err(Failure::new)?;
    Ok(body.freeze())
}

/// Takes the response header off a frame; what is left is the body.
///
/// The body's lengths and counts have been checked, so that it can be decoded. That of ApiVersions
/// has not: a broker may answer in another version than it was asked (KIP-511).
pub(super) fn open(api: ApiKey, version: i16, mut frame: Bytes) -> Result<Bytes, Failure> {
    ResponseHeader::decode(&mut frame, api.response_header_version(version))
        .map_err(Failure::new)?;
    if api != ApiKey::ApiVersions {
        guard::check(api, version, &frame).map_err(Failure::new)?;
    }
    Ok(frame)
}

/// An answer to ApiVersions as its struct.
pub(super) fn decode_versions(body: Bytes, version: i16) -> Result<ApiVersionsResponse, Failure> {
    guard::check(ApiKey::ApiVersions, version, &body).map_err(Failure::new)?;
    decode(body, version)
}

/// A body that [`open`] has checked, as its struct. Byte fields are slices of `body`.
pub(super) fn decode<R: Decodable>(mut body: Bytes, version: i16) -> Result<R, Failure> {
    R::decode(&mut body, version).map_err(Failure::new)
}
