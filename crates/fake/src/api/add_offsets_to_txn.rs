//! AddOffsetsToTxn v0 to v4.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use super::Call;
use crate::clock;
use crate::transaction::Producer;

pub(crate) fn handle(call: &Call<'_>, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let code = add(call, &request).err();
    call.shared.deadlines.notify_one();
    let code = code.map_or(0, |error| super::fenced_before(call, 2, error).code());
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

fn add(call: &Call<'_>, request: &AddOffsetsToTxnRequest) -> Result<(), ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, &request.transactional_id)?;
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let coordinator = &mut state.transactions;
    coordinator.add_group(&request.transactional_id, producer, &request.group_id, clock::now())
}
