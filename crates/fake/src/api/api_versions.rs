//! ApiVersions v0 to v4 (KIP-35, KIP-482, KIP-511).
//!
//! Served: the ranges of the emulated release, as lowered by the test; an unknown version is
//! answered in v0 with UNSUPPORTED_VERSION and the ranges. Left out: features and their epochs.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::{Call, Reply};
use crate::error::Error;

pub(crate) fn handle(mut call: Call<'_>) -> Result<Reply, Error> {
    let versions = call.shared.versions();
    let is_served = versions.serves(ApiKey::ApiVersions as i16, call.version());
    let ranges = versions.advertised().map(|(api, range)| {
        ApiVersion::default()
            .with_api_key(api)
            .with_min_version(range.min)
            .with_max_version(range.max)
    });
    let mut response = ApiVersionsResponse::default().with_api_keys(ranges.collect());
    drop(versions);
    if !is_served {
        call.incoming.version = 0;
        response.error_code = ResponseError::UnsupportedVersion.code();
    }
    if let Some(error) = call.forced {
        response.error_code = error.code();
    }
    call.encode(&response)
}
