//! Mirrors Kafka topics from a *source* cluster to a *destination* cluster, batch by batch: what may pass
//! goes through with its header patched, compressed as its producer made it.

pub mod config;
mod control;
pub mod error;
mod flow;
pub mod metrics;
mod mirror;
pub mod policy;
mod positions;
pub mod shutdown;
mod stage;
pub mod status;
mod stream;
mod supervisor;

pub use config::Config;
pub use error::{End, Error, Halt};
pub use mirror::{Ended, Mirror, Report};
pub use shutdown::Shutdown;
pub use status::Status;
