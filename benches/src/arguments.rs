//! What can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kmirror_client::batch::Codec;
use xtask::brokers::Version;

use crate::{
    case::{self, Batching, Case, Partitions},
    live::arguments::{IdleArguments, LatencyArguments, LinkArguments},
    mirrors::Mirror,
};

/// Mirror the same records with kmirror and with its peers, side by side.
///
/// Starts a source and a destination of one broker each, fills the source once for each kind of
/// load, warms them up, and lets every mirror copy it in turns, each as its users run it, into a
/// fresh topic. Each round also measures fetching alone and producing alone, which gives the
/// efficiency R (1/F + 1/P). Figures are medians of the rounds; they mean something beside each
/// other, and little on a machine that others use.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_long_help = EXAMPLES
)]
pub struct Arguments {
    /// What to compare.
    #[command(flatten)]
    pub compare: Compare,
    /// One part alone, or something else than throughput.
    #[command(subcommand)]
    pub part: Option<Part>,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask bench
  cargo xtask bench --mirrors kmirror,mm1-tuned --codec lz4 --rounds 5
  cargo xtask bench --batch one --records 500000 --codec none
  cargo xtask bench --partitions 8:12 --keys 1000
  cargo xtask bench latency --rate 1000
  cargo xtask bench idle --partitions 10000
  cargo xtask bench link --round-trip-ms 50
  cargo xtask bench --source-bootstrap a:9092 --destination-bootstrap b:9092 --mirrors kmirror";

/// One part alone, or something else than throughput.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Measure fetching alone or producing alone; prints JSON.
    Ceiling(CeilingArguments),
    /// Compare end-to-end latency at a fixed, modest rate.
    Latency(LatencyArguments),
    /// Compare what many idle partitions cost.
    Idle(IdleArguments),
    /// Compare throughput over a link with a long round trip.
    Link(LinkArguments),
}

/// What to compare.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The loads.
    #[command(flatten)]
    pub loads: Loads,
    /// The mirrors, in the order of the first round.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kmirror,mm1,mm1-tuned,mm2-tuned"
    )]
    pub mirrors: Vec<Mirror>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// How often each load is fetched and produced before anything is measured, to warm the brokers
    /// up; without it, whoever comes first is the slowest.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub warm_up: u32,
    /// Streams of kmirror and MirrorMaker 1, tasks of MirrorMaker 2, threads of the ceilings.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub streams: u16,
    /// Do not measure fetching alone and producing alone.
    #[arg(long)]
    pub no_ceilings: bool,
    /// Where report.md and report.json are written [default: bench in the build directory].
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// The clusters.
    #[command(flatten)]
    pub clusters: Clusters,
    /// The kmirror binary [default: the released one in the build directory].
    #[arg(long, value_name = "FILE")]
    pub kmirror: Option<PathBuf>,
}

/// The two clusters.
#[derive(Clone, Debug, Args)]
pub struct Clusters {
    /// Version of the source that is started.
    #[arg(long, value_name = "VERSION", default_value = "3.9.1")]
    pub source: Version,
    /// Version of the destination that is started.
    #[arg(long, value_name = "VERSION", default_value = "4.3.0")]
    pub destination: Version,
    /// Use the brokers that run here as the source; topics called bench-* are made there and kept.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub source_bootstrap: Option<String>,
    /// Use the brokers that run here as the destination; topics called bench-* are replaced there.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub destination_bootstrap: Option<String>,
}

/// The kinds of load: every codec with every batching.
#[derive(Clone, Debug, Args)]
pub struct Loads {
    /// How many records.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub records: u64,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024, value_parser = record_bytes)]
    pub record_bytes: usize,
    /// Over how many keys; 0 for records without a key.
    #[arg(long, default_value_t = 0)]
    pub keys: u64,
    /// Codecs: none, gzip, snappy, lz4, zstd.
    #[arg(long, value_delimiter = ',', default_value = "none,lz4,zstd", value_parser = case::codec)]
    pub codec: Vec<Codec>,
    /// Batches: a size such as 256KiB, or one for batches of one record.
    #[arg(long, value_delimiter = ',', default_value = "256KiB")]
    pub batch: Vec<Batching>,
    /// Partitions of the topic at the source and at the destination.
    #[arg(long, value_name = "SOURCE:DESTINATION", default_value = "8:8")]
    pub partitions: Partitions,
}

impl Loads {
    /// Each kind of load.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let with = |batching: Batching, codec: Codec| Case {
            records: self.records,
            record_bytes: self.record_bytes,
            keys: self.keys,
            codec,
            batching,
            partitions: self.partitions,
        };
        let pairs =
            self.batch.iter().flat_map(|batch| self.codec.iter().map(|codec| (*batch, *codec)));
        pairs.map(|(batch, codec)| with(batch, codec)).collect()
    }
}

/// What alone is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Alone {
    /// Fetching, and dropping what comes.
    Fetch,
    /// Producing batches built beforehand.
    Produce,
}

impl Alone {
    /// Its name, as it is asked for.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Produce => "produce",
        }
    }
}

/// Which ceiling, and where.
#[derive(Clone, Debug, Args)]
pub struct CeilingArguments {
    /// Fetching or producing.
    #[arg(value_enum)]
    pub alone: Alone,
    /// The brokers.
    #[arg(long, value_name = "HOST:PORT,...")]
    pub bootstrap: String,
    /// The topic, which must exist; fetching expects the load in it.
    #[arg(long)]
    pub topic: String,
    /// Threads, each with its own connection and partitions.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// The load; of codecs and batchings the first.
    #[command(flatten)]
    pub loads: Loads,
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse::<usize>().ok().filter(|bytes| (1..=900_000).contains(bytes));
    bytes.ok_or_else(|| "a number from 1 to 900000".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_codec_meets_every_batching() {
        let arguments =
            ["bench", "--codec", "none,zstd", "--batch", "one,256KiB", "--partitions", "8:12"];
        let arguments = Arguments::try_parse_from(arguments).expect("arguments");
        let cases = arguments.compare.loads.cases();
        assert_eq!(cases.len(), 4);
        assert_eq!((cases[1].codec, cases[1].batching), (Codec::Zstd, Batching::One));
        assert_eq!(cases[3].partitions.destination, 12);
    }
}
