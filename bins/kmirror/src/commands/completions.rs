//! `kmirror completions`: a completion script for a shell, made from the flags themselves.

use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::Failure;
use crate::output;

/// Print a completion script for a shell
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  kmirror completions bash > /etc/bash_completion.d/kmirror
  kmirror completions zsh > \"${fpath[1]}/_kmirror\"";

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kmirror", &mut script);
    output::raw(&script)
}
