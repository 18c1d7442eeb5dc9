//! Producing prebuilt batches, in order, each once.

mod decision;
mod error;
mod queue;
mod reply;
mod state;
#[cfg(test)]
mod tests;

pub use decision::{Decision, OnRejected};
pub use error::{Error, RecordError, Rejection};
pub use queue::Acked;
