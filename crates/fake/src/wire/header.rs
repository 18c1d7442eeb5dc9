//! The request header, read with a bound on every length.
//!
//! Owned by the wire module. Always true: what it returns as `body` is a slice of the frame.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::ApiKey;

use crate::error::Error;

/// A request as it arrived: header fields and the bytes of its body.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Option<String>,
    pub(crate) body: Bytes,
    pub(crate) size_bytes: usize,
}

impl Incoming {
    /// Takes a frame apart (request header v0, v1 or v2, by API and version).
    pub(crate) fn parse(mut frame: Bytes) -> Result<Incoming, Error> {
        let size_bytes = frame.len();
        if size_bytes < 8 {
            return Err(malformed("header is cut short"));
        }
        let api = ApiKey::try_from(frame.get_i16()).map_err(|()| malformed("unknown API key"))?;
        let version = frame.get_i16();
        let correlation_id = frame.get_i32();
        let header_version = api.request_header_version(version);
        let client_id = if header_version >= 1 { read_client_id(&mut frame)? } else { None };
        if header_version >= 2 {
            skip_tagged_fields(&mut frame)?;
        }
        Ok(Incoming { api, version, correlation_id, client_id, body: frame, size_bytes })
    }
}

fn read_client_id(frame: &mut Bytes) -> Result<Option<String>, Error> {
    if frame.len() < 2 {
        return Err(malformed("client id is cut short"));
    }
    let length = frame.get_i16();
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    if length > frame.len() {
        return Err(malformed("client id exceeds the frame"));
    }
    Ok(Some(String::from_utf8_lossy(&frame.split_to(length)).into_owned()))
}

fn skip_tagged_fields(frame: &mut Bytes) -> Result<(), Error> {
    let count = read_uvarint(frame)?;
    for _ in 0..count {
        read_uvarint(frame)?;
        let length = read_uvarint(frame)? as usize;
        if length > frame.len() {
            return Err(malformed("tagged field exceeds the frame"));
        }
        frame.advance(length);
    }
    Ok(())
}

fn read_uvarint(frame: &mut Bytes) -> Result<u32, Error> {
    let mut value = 0_u32;
    for shift in (0..35).step_by(7) {
        if frame.is_empty() {
            return Err(malformed("varint is cut short"));
        }
        let byte = frame.get_u8();
        value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed("varint is too long"))
}

fn malformed(reason: &'static str) -> Error {
    Error::Frame { reason }
}
