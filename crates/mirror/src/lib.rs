//! Mirrors Kafka topics from a *source* cluster to a *destination* cluster, continuously or until
//! caught up, batch by batch: what may pass goes through with its 61-byte header patched,
//! compressed as its producer made it, its checksum still that of its producer.
//!
//! # Start here
//!
//! ```no_run
//! use kmirror::policy::filter::{Pattern, Selection};
//! use kmirror::{Config, Mirror, config::Group, shutdown};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let source = kmirror_client::Config::new("source:9092")?;
//! let destination = kmirror_client::Config::new("destination:9092")?;
//! let topics = Selection::new(Pattern::try_new("orders|payments-.*")?);
//! let config = Config::new(source, destination, topics)
//!     .with_group(Group::new("mirror"))
//!     .with_streams(2);
//!
//! let mirror = Mirror::build(config).await?;
//! let (trigger, shutdown) = shutdown::channel();
//! // Somewhere else: `trigger.signal()` drains; the second time it aborts.
//! # drop(trigger);
//! let report = mirror.run(shutdown).await?;
//! assert!(report.is_clean());
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` does the same on two clusters that live in its own process.
//!
//! # What to know
//!
//! - *Who owns which partition?* [`config::Ownership`]: a consumer group on the source shares them
//!   among streams and instances, or this process owns all.
//! - *Where does a partition begin?* At its committed position; without one at [`Config::start`],
//!   by default the first record.
//! - *Where do records go?* [`policy::partitioning`]: to the same partition number if the counts
//!   are equal, else where Kafka's default partitioner sends the key.
//! - *What becomes of topics?* Missing ones are created with the source's partitions and
//!   configuration, and grow with it: [`config::Topic`].
//! - *What if something cannot be mirrored?* Its partition stops alone and says why ([`Halt`]);
//!   [`config::Trouble`] can decide otherwise.
//! - *How much memory?* [`Config::memory_bytes`], whatever the number of partitions.
//! - *How does it end?* [`shutdown`]: drain, then abort; with [`Config::until_caught_up`] by
//!   itself.
//! - *How do I watch it?* [`Mirror::status`] shows every partition with its lag;
//!   [`Mirror::metrics`] is for Prometheus.
//! - *What is promised?* At-least-once, order per key and per source partition: see
//!   `docs/GUARANTEES.md` of the repository.
//!
//! # The way of the data
//!
//! ```text
//! assign --> fetch --> route --> produce --> commit
//!              ^                    |
//!              +--- bytes freed ----+
//! ```
//!
//! Each stream is one thread with its own connections, group membership and idempotent producer;
//! the stages are values it turns in one loop. Nothing is shared between streams but the memory
//! budget, the counters and how far each partition is. The runtime of the embedder only supervises.

pub mod config;
mod control;
pub mod error;
mod flow;
pub mod metrics;
mod mirror;
pub mod policy;
mod positions;
mod readiness;
pub mod shutdown;
mod stage;
pub mod status;
mod stream;
mod supervisor;
#[doc(hidden)]
pub mod testing;

pub use config::Config;
pub use error::{End, Error, Halt};
pub use mirror::{Ended, Mirror, Report};
pub use shutdown::Shutdown;
pub use status::Status;
