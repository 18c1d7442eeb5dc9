//! Membership of a consumer group.
mod assignor;
mod config;
mod error;
mod protocol;
pub mod slot;
mod state;
pub use assignor::Assignor;
pub use config::{Config, Instance};
pub use error::Error;
