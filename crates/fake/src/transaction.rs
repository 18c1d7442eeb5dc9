//! Transactions.

use kafka_protocol::error::ResponseError;

/// The transaction coordinator.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {}

impl Coordinator {
    pub(crate) fn verify(
        &self,
        _id: &str,
        _producer: (i64, i16),
        _at: (&str, i32),
    ) -> Result<(), ResponseError> {
        Err(ResponseError::InvalidTxnState)
    }
}
