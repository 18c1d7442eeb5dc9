//! What can be asked for of the measurements in this folder.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kmirror_client::batch::Codec;
use serde::Serialize;

use super::stamp::STAMP_BYTES;
use crate::{
    arguments::Clusters,
    case::{self, Batching},
    mirrors::Mirror,
};

/// What all of them share.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Streams of kmirror and MirrorMaker 1, tasks of MirrorMaker 2.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub streams: u16,
    /// Where the report is written [default: bench in the build directory].
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// The kmirror binary [default: the released one in the build directory].
    #[arg(long, value_name = "FILE")]
    pub kmirror: Option<PathBuf>,
}

/// What is sent while mirrors are measured.
#[derive(Clone, Debug, Args)]
pub struct Trickle {
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = record_bytes)]
    pub record_bytes: usize,
    /// The length of the window that is measured, in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// How long records are sent before it, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=600))]
    pub warm_up: u32,
    /// How long a mirror may take to bring the first record, in seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub patience: u32,
}

/// End-to-end latency.
#[derive(Clone, Debug, Args)]
pub struct LatencyArguments {
    /// The mirrors; the ways without a mirror are always measured.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kmirror,mm1,mm2")]
    pub mirrors: Vec<Mirror>,
    /// Records in a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub partitions: i32,
    /// What is sent.
    #[command(flatten)]
    pub trickle: Trickle,
    /// The clusters.
    #[command(flatten)]
    pub clusters: Clusters,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// Many idle partitions.
#[derive(Clone, Debug, Args)]
pub struct IdleArguments {
    /// The mirrors.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kmirror,mm2")]
    pub mirrors: Vec<Mirror>,
    /// Records in a second, each to some partition.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// How many partitions there are, in topics of 1000.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000",
        value_parser = clap::value_parser!(i32).range(1..=50_000)
    )]
    pub partitions: Vec<i32>,
    /// What is sent.
    #[command(flatten)]
    pub trickle: Trickle,
    /// The clusters.
    #[command(flatten)]
    pub clusters: Clusters,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// Throughput over a long link.
#[derive(Clone, Debug, Args)]
pub struct LinkArguments {
    /// The mirrors.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kmirror,mm1,mm2,mm2-tuned,franz-go"
    )]
    pub mirrors: Vec<Mirror>,
    /// The round trip of the link, in milliseconds.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub round_trip_ms: u32,
    /// Between the mirror and which brokers it lies.
    #[arg(long, value_enum, default_value_t = Side::Source)]
    pub side: Side,
    /// Partitions of the topic.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,8",
        value_parser = clap::value_parser!(i32).range(1..=1000)
    )]
    pub partitions: Vec<i32>,
    /// How many records.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = record_bytes)]
    pub record_bytes: usize,
    /// Codec of the load.
    #[arg(long, default_value = "none", value_parser = case::codec)]
    pub codec: Codec,
    /// Batches of the load: a size such as 256KiB, or one for batches of one record.
    #[arg(long, default_value = "256KiB")]
    pub batch: Batching,
    /// How long a mirror is watched at most from its first record on, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,
    /// Version of the source that is started.
    #[arg(long, value_name = "VERSION", default_value = "3.9.1")]
    pub source: xtask::brokers::Version,
    /// Version of the destination that is started.
    #[arg(long, value_name = "VERSION", default_value = "4.3.0")]
    pub destination: xtask::brokers::Version,
    /// The rest.
    #[command(flatten)]
    pub common: Common,
}

/// Which brokers are far from the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Those of the source.
    Source,
    /// Those of the destination.
    Destination,
    /// Both, each by a link of its own.
    Both,
}

impl Side {
    /// Whether the link lies before the source.
    #[must_use]
    pub fn is_before_source(self) -> bool {
        matches!(self, Self::Source | Self::Both)
    }

    /// Whether the link lies before the destination.
    #[must_use]
    pub fn is_before_destination(self) -> bool {
        matches!(self, Self::Destination | Self::Both)
    }

    /// Where it lies, in words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Source => "between source and mirror",
            Self::Destination => "between mirror and destination",
            Self::Both => "on both sides of the mirror",
        }
    }
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse::<usize>().ok();
    let bytes = bytes.filter(|bytes| (STAMP_BYTES..=900_000).contains(bytes));
    bytes.ok_or_else(|| format!("a number from {STAMP_BYTES} to 900000"))
}
