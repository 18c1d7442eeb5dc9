//! The first exchange: which APIs and versions the broker speaks (KIP-35, KIP-511).
//!
//! Version 3 is asked first; a broker older than that answers version 0 with UNSUPPORTED_VERSION,
//! and is then asked in version 0.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Shared, codec};
use crate::error::{Error, Subject};
use crate::error_code::ErrorCode;

/// The version that names the client's software.
const NEWEST: i16 = 3;

/// Asks, and checks that a Kafka broker answers. Says what it speaks.
pub(super) async fn run(
    shared: &Arc<Shared>,
    timeout: Duration,
) -> Result<BTreeMap<i16, RangeInclusive<i16>>, Error> {
    let mut response = ask(shared, NEWEST, timeout).await?;
    if ErrorCode(response.error_code) == ErrorCode::UNSUPPORTED_VERSION {
        response = ask(shared, 0, timeout).await?;
    }
    ErrorCode(response.error_code)
        .check()
        .map_err(|code| Error::broker(ApiKey::ApiVersions, Subject::Request, code))?;
    let versions: BTreeMap<_, _> = response
        .api_keys
        .iter()
        .map(|api| (api.api_key, api.min_version..=api.max_version))
        .collect();
    if !versions.contains_key(&(ApiKey::Metadata as i16)) {
        return Err(not_kafka(shared, "it lists its APIs without Metadata"));
    }
    Ok(versions)
}

async fn ask(
    shared: &Arc<Shared>,
    version: i16,
    timeout: Duration,
) -> Result<ApiVersionsResponse, Error> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("kmirror"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let api = ApiKey::ApiVersions;
    let body = codec::encode(&request, version).map_err(|error| Error::Encode {
        api,
        version,
        source: Arc::new(error),
    })?;
    let call = Call { api, version, is_answered: true, timeout };
    let answer = shared.send(call, vec![body]).await.map_err(|error| explain(shared, error))?;
    read(answer, version).map_err(|error| not_kafka(shared, &format!("ApiVersions: {error}")))
}

/// A broker that lacks the version asked for answers in version 0.
fn read(answer: Bytes, version: i16) -> Result<ApiVersionsResponse, codec::Failure> {
    match codec::decode_versions(answer.clone(), version) {
        Ok(response) if response.error_code == 0 => Ok(response),
        _ => codec::decode_versions(answer, 0),
    }
}

/// A connection that ends at the first request: something else, or a broker that is going down.
fn explain(shared: &Shared, error: Error) -> Error {
    match error {
        Error::Closed { reason, .. } if shared.garbled.load(Ordering::Relaxed) => {
            not_kafka(shared, &format!("{reason} (is it a listener for TLS, or another service?)"))
        }
        Error::Closed { reason, .. } => no_answer(shared, &reason),
        Error::Timeout { timeout, .. } => no_answer(
            shared,
            &format!("it accepted the connection and said nothing in {timeout:?}"),
        ),
        other => other,
    }
}

fn no_answer(shared: &Shared, what: &str) -> Error {
    let what = format!("{what} at the first request (is it a plain Kafka listener, and alive?)");
    Error::Connect {
        address: shared.address.clone(),
        source: Arc::new(std::io::Error::other(what)),
    }
}

fn not_kafka(shared: &Shared, problem: &str) -> Error {
    Error::NotKafka { address: shared.address.clone(), problem: problem.to_owned() }
}
