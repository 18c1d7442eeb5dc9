//! Mirrors at work, beside the plain throughput of [`matrix`](crate::matrix): how late records
//! arrive, what a mirror costs that has little to do, and what is left of it over a long link.
//! Everything runs on real brokers, with the same mirrors started in the same way.
//!
//! | Module | What it is |
//! |---|---|
//! | [`arguments`] | what can be asked for |
//! | [`latency`] | end-to-end latency at a fixed rate |
//! | [`idle`] | many partitions with a trickle of records |
//! | [`link`] | throughput over a link with a long round trip |
//! | [`proxy`] | that link: bytes arrive later, nothing else changes |
//! | `stamp` | records that say when they were due, and when each is due (pure) |
//! | `tally` | what arrived when (pure) |
//! | `sender`, `receiver` | both ends of the measured way, each in a thread of its own |
//! | `stand` | the clusters and programs that a measurement needs |
//! | `window` | what is measured while records are sent |
//! | `pages` | Markdown and JSON |

pub mod arguments;
pub mod idle;
pub mod latency;
pub mod link;
mod pages;
pub mod proxy;
mod receiver;
mod sender;
mod stamp;
mod stand;
mod tally;
mod window;
