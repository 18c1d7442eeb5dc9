//! What can go wrong in the fake itself; answers to clients are Kafka error codes, not these.
//!
//! Always true: a connection that meets one of these is closed, as a real broker closes it.

use std::io;

/// A failure to start or serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A listener could not be opened.
    #[error("listen for broker {broker}")]
    Listen {
        /// Which broker.
        broker: i32,
        /// What the system said.
        source: io::Error,
    },
    /// A builder was given values that contradict each other.
    #[error("invalid setting: {reason}")]
    Setting {
        /// What is wrong.
        reason: &'static str,
    },
    /// No such broker in this cluster.
    #[error("no broker {broker}")]
    UnknownBroker {
        /// The id asked for.
        broker: i32,
    },
    /// No such topic or partition.
    #[error("no partition {topic}-{partition}")]
    UnknownPartition {
        /// The topic asked for.
        topic: String,
        /// The partition asked for.
        partition: i32,
    },
    /// A broker refused what the test asked for.
    #[error("{code}: {message}")]
    Refused {
        /// The error code a client would have got.
        code: kafka_protocol::error::ResponseError,
        /// The message a client would have got.
        message: String,
    },
    /// A stored batch does not decode.
    #[error("decode a stored batch")]
    Batch(#[from] crate::batch::Error),
    /// A connection's peer went away.
    #[error("connection")]
    Connection(#[from] io::Error),
    /// A request frame is malformed or too large.
    #[error("malformed request: {reason}")]
    Frame {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A request or response struct did not pass through its codec.
    #[error("{api} v{version}: {reason}")]
    Codec {
        /// The API key.
        api: i16,
        /// The request's version.
        version: i16,
        /// What the codec said.
        reason: String,
    },
}
