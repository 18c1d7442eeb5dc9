//! The pure halves of fetching and producing, for the micro-benchmarks alone: no promise is made
//! that any of it stays. Owned by the client crate; holds no logic of its own.

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;

use crate::batch::{Entry, Outgoing};
use crate::name::TopicPartition;
use crate::{connection, fetch, produce};

/// What is done with the body of an answer to Fetch, which names its topics: it is guarded,
/// decoded, cut into batches and verified. `None` if any of that fails.
#[must_use]
pub fn read_fetch(version: i16, body: Bytes) -> Option<Vec<Entry>> {
    connection::guard_fetch(version, &body)?;
    fetch::read_answer(version, body)
}

/// What is done with batches, one for each partition, to produce them: they are stamped and put
/// between the pieces of a request's body.
#[must_use]
pub fn write_produce(version: i16, batches: Vec<(TopicPartition, Outgoing)>) -> Vec<Bytes> {
    produce::write_request(version, batches)
}

/// Writes a message of the wire protocol.
///
/// # Panics
/// When it cannot be written in that version.
pub fn encode(message: &impl Encodable, version: i16, out: &mut BytesMut) {
    message.encode(out, version).expect("invariant: the caller's message fits the version");
}
