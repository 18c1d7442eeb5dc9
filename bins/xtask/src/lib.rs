//! Developer tasks as a library: what `cargo xtask` and the suites that need real brokers share.
//! It knows how to start Apache Kafka and where the workspace is, and nothing of kmirror's own
//! crates, so that it builds in seconds.

pub mod brokers;
pub mod clock;
pub mod tidy;
pub mod workspace;
