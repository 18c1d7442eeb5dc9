#![doc = include_str!("../README.md")]

mod api;
pub mod batch;
mod broker;
mod builder;
mod clock;
mod cluster;
mod error;
mod group;
mod housekeeping;
pub mod intercept;
mod journal;
mod log;
mod shared;
mod state;
mod task;
mod topic;
mod transaction;
mod versions;
mod wire;

pub use batch::{BatchBuilder, Codec, Record};
pub use builder::Builder;
pub use cluster::Cluster;
pub use cluster::data::{Offsets, StoredBatch, StoredRecord};
pub use cluster::groups::{GroupView, TransactionView};
pub use error::Error;
pub use intercept::{Action, Intercept};
pub use journal::Seen;
pub use kafka_protocol::error::ResponseError;
pub use kafka_protocol::messages::ApiKey;
pub use log::compact::Compaction;
pub use versions::Release;
