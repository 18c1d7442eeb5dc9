//! An async Apache Kafka client that hands record batches through untouched.
//!
//! The crate knows Kafka and nothing about mirroring. Its unit is the record batch, a slice of the
//! response that brought it; records are only looked at by those who ask for them.
//!
//! | Module | What it is |
//! |---|---|
//! | [`client`] | the cheap handle: brokers, metadata, connections |
//! | [`cluster`] | immutable views of brokers, topics and partitions |
//! | [`connection`] | one connection: frames, pipelining, time-outs, how it is dialled |
//! | [`config`] | addresses, time-outs and sizes; Kafka's own property files |
//! | [`error`] | what went wrong, where, whether to try again, what became of a write |

pub mod admin;
pub mod backoff;
pub mod batch;
pub mod broker;
pub mod budget;
mod buffers;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod consumer;
mod crc;
pub mod error;
pub mod error_code;
pub mod fetch;
pub mod group;
pub mod isolation;
pub mod name;
pub mod partitioner;
pub mod produce;
pub mod producer;
pub mod task;
#[doc(hidden)]
pub mod testing;

pub use broker::{Answer, Broker, Lane};
pub use client::Client;
pub use config::Config;
pub use error::{Error, Fate};
pub use error_code::ErrorCode;
pub use isolation::Isolation;
/// The message structs of the wire protocol, pinned to one version of their crate.
pub use kafka_protocol::messages;
pub use name::{BrokerId, TopicPartition};
