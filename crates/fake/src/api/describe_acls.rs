//! DescribeAcls v1 to v3: SECURITY_DISABLED, as a broker without an authorizer says.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use super::Call;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, _request: DescribeAclsRequest) -> DescribeAclsResponse {
    let error = call.forced.unwrap_or(ResponseError::SecurityDisabled);
    DescribeAclsResponse::default()
        .with_error_code(error.code())
        .with_error_message(Some(string("no authorizer is configured")))
}
