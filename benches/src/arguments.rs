//! What can be asked for.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kmirror_client::batch::Codec;
use xtask::brokers::Version;

use crate::{
    case::{self, Batching, Case, Partitions},
    live::arguments::{IdleArguments, LatencyArguments, LinkArguments},
    mirrors::Mirror,
    plan::{Place, Planned, Setup},
    suite::Suite,
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
  cargo xtask bench --suite ci
  cargo xtask bench --suite codecs,growth --report docs/bench
  cargo xtask bench report docs/bench
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
    /// Write report.md and the charts of what is kept in a directory, measuring nothing.
    Report(ReportArguments),
}

/// What to compare.
#[derive(Clone, Debug, Args)]
pub struct Compare {
    /// The loads.
    #[command(flatten)]
    pub loads: Loads,
    /// Parts of the published matrix, instead of a load asked for by hand.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    #[arg(conflicts_with_all = BY_HAND)]
    pub suite: Vec<Suite>,
    /// So many times the records of the suites, for a first look.
    #[arg(long, value_name = "FACTOR", requires = "suite", value_parser = factor)]
    pub scale: Option<f64>,
    /// The mirrors, in the order of the first round [default: all, or those of the suite].
    #[arg(long, value_enum, value_delimiter = ',')]
    pub mirrors: Vec<Mirror>,
    /// How often everything is measured [default: 3, in suite ci 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// How often each load is fetched and produced before anything is measured, to warm the brokers
    /// up; without it, whoever comes first is the slowest [default: 3, in suite ci 0].
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub warm_up: Option<u32>,
    /// Streams of kmirror, MirrorMaker 1 and franz-go, tasks of MirrorMaker 2, threads of the
    /// ceilings.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub streams: u16,
    /// Processes of each mirror, in one group.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub instances: u16,
    /// Do not measure fetching alone and producing alone.
    #[arg(long)]
    pub no_ceilings: bool,
    /// Compare what a mirror wrote with what it read, record by record, in its first round; a
    /// mirror that copied wrongly has failed. Suite ci always does.
    #[arg(long)]
    pub verify: bool,
    /// Where report.md, the charts and a JSON file for each suite are written; what is kept there
    /// of other suites stays in the report [default: bench in the build directory].
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// The clusters.
    #[command(flatten)]
    pub clusters: Clusters,
    /// The kmirror binary [default: the released one in the build directory].
    #[arg(long, value_name = "FILE")]
    pub kmirror: Option<PathBuf>,
}

/// The arguments that describe a load by hand.
const BY_HAND: [&str; 9] = [
    "records",
    "record_bytes",
    "keys",
    "gaps",
    "codec",
    "batch",
    "partitions",
    "streams",
    "instances",
];

impl Compare {
    /// Every suite that is asked for, with its cases.
    #[must_use]
    pub fn plans(&self) -> Vec<(Suite, Vec<Planned>)> {
        let mut suites: Vec<Suite> = self.suite.iter().flat_map(|one| one.parts()).collect();
        suites.sort_unstable();
        suites.dedup();
        if suites.is_empty() {
            return vec![(Suite::Custom, self.by_hand())];
        }
        let chosen = |planned: Planned| match self.mirrors.as_slice() {
            [] => planned,
            mirrors => planned.only(mirrors),
        };
        let scaled = |planned: Planned| match self.scale {
            Some(factor) => planned.scaled(factor),
            None => planned,
        };
        let plan = |suite: Suite| suite.plan().into_iter().map(chosen).map(scaled).collect();
        suites.into_iter().map(|suite| (suite, plan(suite))).collect()
    }

    fn by_hand(&self) -> Vec<Planned> {
        let setup = Setup { streams: self.streams, instances: self.instances };
        let all = || Mirror::value_variants().to_vec();
        let mirrors = if self.mirrors.is_empty() { all() } else { self.mirrors.clone() };
        let planned = |case: Case| {
            let chart = match case.batching {
                Batching::One => "batches of one".to_owned(),
                size @ Batching::Bytes(_) => format!("batches of {size}"),
            };
            let place = Place { chart, label: case.codec.to_string(), x: None };
            Planned { case, setup, place, mirrors: mirrors.clone() }
        };
        self.loads.cases().into_iter().map(planned).collect()
    }
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
    /// A source that was compacted: a key for each record, and gaps where every fourth was.
    #[arg(long, conflicts_with = "keys")]
    pub gaps: bool,
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
            gaps: self.gaps,
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

/// Which reports are written anew.
#[derive(Clone, Debug, Args)]
pub struct ReportArguments {
    /// The directory that holds the JSON files of the suites.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| *factor > 0.0 && *factor <= 100.0);
    factor.ok_or_else(|| "a number above 0, up to 100".to_owned())
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse::<usize>().ok().filter(|bytes| (1..=1 << 20).contains(bytes));
    bytes.ok_or_else(|| "a number from 1 to 1048576".to_owned())
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

    fn compare(arguments: &[&str]) -> Result<Compare, clap::Error> {
        let arguments = ["bench"].iter().chain(arguments);
        Arguments::try_parse_from(arguments).map(|arguments| arguments.compare)
    }

    #[test]
    fn suites_are_measured_once_each_and_in_order() {
        let plans = compare(&["--suite", "all,growth,ci"]).expect("arguments").plans();
        let suites: Vec<Suite> = plans.iter().map(|(suite, _)| *suite).collect();
        assert_eq!(suites[0], Suite::Ci);
        assert_eq!(suites[1..], Suite::MATRIX);
        assert!(compare(&["--suite", "codecs", "--records", "5"]).is_err());
        assert!(compare(&["--scale", "0.5"]).is_err());
    }

    #[test]
    fn mirrors_are_chosen_from_those_of_the_suite() {
        let arguments = ["--suite", "partitions", "--mirrors", "mm1,kmirror", "--scale", "0.1"];
        let plans = compare(&arguments).expect("arguments").plans();
        assert!(plans[0].1.iter().all(|planned| planned.mirrors == [Mirror::Kmirror]));
        assert_eq!(plans[0].1[0].case.records, 200_000);
    }

    #[test]
    fn by_hand_all_mirrors_are_compared() {
        let plans = compare(&["--codec", "none"]).expect("arguments").plans();
        assert_eq!(plans[0].0, Suite::Custom);
        assert_eq!(plans[0].1[0].mirrors, Mirror::value_variants());
    }
}
