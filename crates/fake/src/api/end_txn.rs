//! EndTxn v0 to v4: commits or aborts, writing the markers before it answers. Left out: the epoch
//! bump of v5 (KIP-890 part 2).

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::Call;
use crate::transaction::Producer;

pub(crate) fn handle(call: &Call<'_>, request: EndTxnRequest) -> EndTxnResponse {
    let code = end(call, &request).err();
    let code = code.map_or(0, |error| super::fenced_before(call, 2, error).code());
    EndTxnResponse::default().with_error_code(code)
}

fn end(call: &Call<'_>, request: &EndTxnRequest) -> Result<(), ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    super::check_coordinator(call, &state, &request.transactional_id)?;
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let now_ms = call.shared.clock.unix_ms();
    state.end_transaction(&request.transactional_id, producer, request.committed, now_ms)
}
