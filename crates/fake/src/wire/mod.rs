//! Bytes to requests and responses to bytes.
//!
//! Owned by the broker's connection loop. Always true: no length from the wire is allocated before
//! it is bounded, and stored batches leave without being copied unless they are small.

pub(crate) mod gather;
pub(crate) mod header;
pub(crate) mod shape;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::Error;

/// What is reserved for a frame before its bytes arrive; more follows as they do.
const FIRST_RESERVE_BYTES: usize = 1 << 20;

/// Reads one length-prefixed frame; `None` at the end of the stream between frames.
///
/// # Errors
/// [`Error::Frame`] for a length outside 1 to `bytes_max`; [`Error::Connection`] when it is cut
/// short.
pub(crate) async fn read_frame<S: AsyncRead + Unpin>(
    stream: &mut S,
    bytes_max: usize,
) -> Result<Option<Bytes>, Error> {
    let length = match stream.read_i32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if length == 0 || length > bytes_max {
        return Err(Error::Frame { reason: "frame length out of bounds" });
    }
    let mut frame = BytesMut::with_capacity(length.min(FIRST_RESERVE_BYTES));
    let mut limited = stream.take(length as u64);
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            frame.reserve(frame.len().min(length - frame.len()));
        }
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(Error::Frame { reason: "stream ended inside a frame" });
        }
    }
    Ok(Some(frame.freeze()))
}

/// The response header's bytes for this API and version, with room for a small body after it.
pub(crate) fn response_header(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Result<BytesMut, Error> {
    let mut out = BytesMut::with_capacity(256);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header
        .encode(&mut out, api.response_header_version(version))
        .map_err(|error| codec_error(api, version, &error))?;
    Ok(out)
}

/// Wraps what `kafka-protocol` says; its error type stays out of ours.
pub(crate) fn codec_error(api: ApiKey, version: i16, reason: &impl std::fmt::Display) -> Error {
    Error::Codec { api: api as i16, version, reason: reason.to_string() }
}

/// A string for a response.
pub(crate) fn string(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
