//! One file per subcommand: its flags, what they mean, and what is done.

pub(crate) mod completions;
pub(crate) mod config;
mod connecting;
pub(crate) mod consume;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod groups;
pub(crate) mod man;
pub(crate) mod mirror_maker;
pub(crate) mod mirroring;
pub(crate) mod produce;
pub(crate) mod run;
mod takeover;
pub(crate) mod topics;

use crate::cli::{Cli, Command};
use crate::exit::Failure;

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    cli.log.start(cli.command.log_level())?;
    match cli.command {
        Command::MirrorMaker(args) => mirror_maker::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Discover(args) => discover::run(args),
        Command::Topics(args) => topics::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Groups(args) => groups::run(&args),
        Command::Produce(args) => produce::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}
