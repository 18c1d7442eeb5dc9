//! InitProducerId v0 to v5.
//!
//! Served: idempotent and transactional producers, epoch bumps by a known producer (v3, KIP-360).
//! Left out: two-phase commit (v6); CONCURRENT_TRANSACTIONS never happens, an open transaction is
//! aborted in the same step.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::Call;
use crate::transaction::Producer;

pub(crate) fn handle(call: &Call<'_>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let outcome = init(call, &request);
    call.shared.deadlines.notify_one();
    let response = InitProducerIdResponse::default();
    match outcome {
        Ok(producer) => {
            response.with_producer_id(ProducerId(producer.id)).with_producer_epoch(producer.epoch)
        }
        Err(error) => response
            .with_error_code(super::fenced_before(call, 4, error).code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

fn init(call: &Call<'_>, request: &InitProducerIdRequest) -> Result<Producer, ResponseError> {
    call.check_forced()?;
    let mut state = call.shared.state();
    let Some(id) = &request.transactional_id else { return Ok(state.transactions.allocate()) };
    super::check_coordinator(call, &state, id)?;
    let known = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let known = (known.id >= 0).then_some(known);
    let now_ms = call.shared.clock.unix_ms();
    state.init_transactions(id, request.transaction_timeout_ms, known, now_ms)
}
