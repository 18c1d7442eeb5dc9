//! Mirrors Kafka topics from a *source* cluster to a *destination* cluster, batch by batch: what may pass
//! goes through with its header patched, compressed as its producer made it.

pub mod config;
pub mod error;
pub mod metrics;
mod mirror;
pub mod policy;
pub mod shutdown;
pub mod status;

mod flow;

pub use config::Config;
pub use error::{End, Error, Halt};
pub use mirror::{Ended, Mirror, Report};
pub use shutdown::Shutdown;
pub use status::Status;
