//! Takes a request to the file of its API and its answer back to bytes.
//!
//! One file per API. Always true: a version outside the served range closes the connection, except for
//! ApiVersions, which answers with what is served (KIP-511).

pub(crate) mod api_versions;
pub(crate) mod create_topics;
pub(crate) mod fetch;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod produce;

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Encodable, Request};
use tokio::sync::Notify;

use crate::error::Error;
use crate::shared::Shared;
use crate::wire::gather::Gather;
use crate::wire::header::Incoming;
use crate::wire::{codec_error, response_header};

/// One request being handled.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) broker: i32,
    pub(crate) connection: u64,
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

/// Handles one request.
pub(crate) async fn handle(call: Call<'_>) -> Result<Reply, Error> {
    let (api, version) = (call.incoming.api, call.incoming.version);
    if api != ApiKey::ApiVersions && !call.shared.versions().serves(api as i16, version) {
        return Err(Error::Frame { reason: "API or version is not served" });
    }
    match api {
        ApiKey::ApiVersions => api_versions::handle(call),
        ApiKey::Metadata => call.answer(metadata::handle),
        ApiKey::Produce => produce::handle(&call),
        ApiKey::Fetch => fetch::handle(call).await,
        ApiKey::ListOffsets => call.answer(list_offsets::handle),
        ApiKey::CreateTopics => call.answer(create_topics::handle),
        _ => Err(Error::Frame { reason: "API is not served" }),
    }
}
