//! The side-by-side benchmark: the same records, mirrored by kmirror and by its peers, on the same
//! brokers, in turns, each as a process of its own. `cargo xtask bench` builds and runs it.
//!
//! | Module | What it is |
//! |---|---|
//! | [`arguments`] | what can be asked for |
//! | [`suite`], [`plan`] | the parts of the published matrix; what one case of them measures |
//! | [`case`] | one kind of load: how many records, how large, how batched and compressed |
//! | [`records`] | the records: JSON that compresses about as well as events do |
//! | [`load`], `maker` | batches built beforehand and produced as fast as the brokers take them |
//! | [`compacted`] | a load with gaps, made by the broker's own cleaner |
//! | [`survey`] | what a topic really holds; whether two topics hold the same |
//! | [`floor`] | the ceilings of fetching alone and of producing alone |
//! | [`ends`] | the two clusters, and the topics made and removed in them |
//! | [`mirrors`], [`peers`] | how each mirror is started, with which settings; the one built here |
//! | [`process`] | what a process and the machine have used, as the kernel counts it |
//! | [`run`] | one measurement: start, watch the destination, end |
//! | [`matrix`] | all measurements, in turns |
//! | [`live`] | latency, idle partitions, long links |
//! | [`report`] | medians, as Markdown and as JSON |
//! | [`render`], [`chart`] | all reports of a directory in one, with charts |

pub mod arguments;
pub mod case;
pub mod chart;
pub mod compacted;
pub mod ends;
pub mod error;
pub mod floor;
pub mod live;
pub mod load;
pub mod machine;
mod maker;
pub mod matrix;
pub mod mirrors;
pub mod peers;
pub mod plan;
pub mod process;
pub mod records;
pub mod render;
pub mod report;
pub mod run;
pub mod say;
pub mod settle;
pub mod suite;
pub mod survey;

pub use error::Error;
