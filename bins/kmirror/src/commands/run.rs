//! `kmirror run`: mirrors what a file of kmirror's own describes.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::mirroring::{self, Watch};
use crate::exit::Failure;
use crate::plan::{self, native};

/// Mirror what a file describes: clusters, and any number of flows between them
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file; `kmirror config` lists all it may say
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    watch: Watch,
}

const EXAMPLES: &str = "\
Examples:
  kmirror run kmirror.toml
  kmirror run kmirror.toml --http 9404 --log-format json

A file:
  [clusters.west]
  bootstrap = [\"wn0-west:9092\", \"wn1-west:9092\"]
  [clusters.east]
  bootstrap = \"wn0-east:9092\"

  [[flows]]
  source = \"west\"
  destination = \"east\"
  topics = [\"orders.*\", \"payments\"]
  streams = 4";

/// Reads the file and runs its flows.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let plan = native::load(&args.file)?;
    plan::report(&plan.findings)?;
    mirroring::run(&plan, &args.watch)
}
