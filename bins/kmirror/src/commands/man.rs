//! `kmirror man`: the manual pages, made from the flags themselves.

use std::path::PathBuf;

use clap::{Args as ClapArgs, CommandFactory};

use crate::cli::Cli;
use crate::exit::Failure;
use crate::output;

/// Print the manual page, or write all pages to a directory
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write kmirror.1 and a page for every subcommand here
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmirror man | man -l -
  kmirror man --directory /usr/local/share/man/man1";

/// Prints or writes the pages.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.directory {
        Some(directory) => clap_mangen::generate_to(Cli::command(), directory).map_err(|cause| {
            Failure::runtime(format!("write to {}: {cause}", directory.display()))
        }),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::runtime)?;
            output::raw(&page)
        }
    }
}
