//! `cargo xtask`: the developer tasks of this workspace. Each task is one file of `command`.

mod command;
mod machine;
mod say;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer tasks: real brokers, tests, checks and the released binary.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Bench(command::bench::Arguments),
    Brokers(Box<command::brokers::Arguments>),
    Test(Box<command::test::Arguments>),
    Tidy(command::tidy::Arguments),
    Dist(command::dist::Arguments),
    Micro(command::micro::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Bench(arguments) => command::bench::run(&arguments),
        Task::Brokers(arguments) => command::brokers::run(*arguments),
        Task::Test(arguments) => command::test::run(&arguments),
        Task::Tidy(arguments) => command::tidy::run(&arguments),
        Task::Dist(arguments) => command::dist::run(&arguments),
        Task::Micro(arguments) => command::micro::run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            say::chain(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
