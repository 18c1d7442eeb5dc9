//! `cargo xtask micro`: builds the micro-benchmarks as kmirror is released, and runs them. What
//! they can be asked is known to them alone (package kmirror-micro).

use std::process::{Command, ExitCode};

use clap::Args;
use xtask::workspace;

use super::{Outcome, bench};
use crate::machine;

/// Measure the parts of a batch's way, and compare with the figures that were accepted.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What the benchmarks are asked; --help tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if !arguments.arguments.iter().any(|argument| argument == "--no-instructions") {
        machine::for_micro(machine::is_ci())?;
    }
    if !bench::build().status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let status = compare().args(&arguments.arguments).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that runs them.
pub(super) fn compare() -> Command {
    Command::new(workspace::target_directory().join("release").join("kmirror-micro"))
}
