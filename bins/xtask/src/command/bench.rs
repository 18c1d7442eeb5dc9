//! `cargo xtask bench`: builds kmirror and the benchmark as they are released, and runs the
//! benchmark. What it can be asked is known to the benchmark alone (package kmirror-benches): this
//! tool knows nothing of kmirror's own crates, so that it builds in seconds.

use std::process::{Command, ExitCode};

use clap::Args;
use xtask::workspace;

use super::Outcome;

/// Compare kmirror with other mirrors on real brokers.
#[derive(Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What the benchmark is asked; --help tells.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if !build().status()?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let status = compare().args(&arguments.arguments).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that builds all that is measured, at once: packages built one by one would each
/// choose features of their own and build what they share again.
pub(super) fn build() -> Command {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    build.args(["build", "--release", "--locked", "--quiet"]).current_dir(workspace::root());
    build.args(["--package", "kmirror-cli", "--package", "kmirror-benches"]);
    build.args(["--package", "kmirror-micro"]);
    build
}

/// The command that runs the benchmark.
pub(super) fn compare() -> Command {
    Command::new(workspace::target_directory().join("release").join("kmirror-bench"))
}
