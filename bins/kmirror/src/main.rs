//! The `kmirror` command: parse what was typed, resolve what it means, run it, exit with a code.
//!
//! `main` owns the process: it is the one place that prints an error and chooses the exit code.

mod cli;
mod commands;
mod connect;
mod docs;
mod exit;
mod http;
mod invocation;
mod logging;
mod output;
mod plan;
mod progress;
mod runtime;
mod signals;
mod text;
mod watched;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = invocation::normalise(std::env::args_os().collect());
    let cli = match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refused) => return exit::usage(&refused),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
