//! DescribeCluster v0 to v2. Left out: authorized operations, controller endpoints (v1 type 2 is
//! answered MISMATCHED_ENDPOINT_TYPE).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::Call;
use crate::wire::string;

pub(crate) fn handle(call: &Call<'_>, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default()
        .with_cluster_id(string(call.shared.settings.cluster_id.as_str()));
    let is_mismatched = call.version() >= 1 && request.endpoint_type != 1;
    let mismatched = is_mismatched.then_some(ResponseError::MismatchedEndpointType);
    if let Some(error) = call.forced.or(mismatched) {
        return response.with_error_code(error.code());
    }
    let state = call.shared.state();
    let brokers = state.alive().map(|(id, node)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(string(&node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.clone().map(string))
    });
    let brokers = brokers.collect();
    response.with_controller_id(BrokerId(state.controller)).with_brokers(brokers)
}
