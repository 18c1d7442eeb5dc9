//! What can be typed: the top of the command line. Each subcommand's own flags are in its file.

use clap::{Parser, Subcommand};

use crate::commands::{
    completions, config, consume, demo, discover, groups, man, mirror_maker, produce, run, topics,
};
use crate::exit;
use crate::logging::LogArgs;

/// Mirrors topics from a source Kafka cluster to a destination cluster
#[derive(Debug, Parser)]
#[command(
    name = "kmirror",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = exit::table(),
    after_long_help = format!("{EXAMPLES}\n\n{}", exit::table())
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See it work, without a cluster:
    kmirror demo
  Replace kafka.tools.MirrorMaker, with the same flags and files:
    kmirror mirror-maker --consumer.config consumer.properties \\
      --producer.config producer.properties --include 'orders.*' --num.streams 4
  Run several flows from one file:
    kmirror run kmirror.toml";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    MirrorMaker(Box<mirror_maker::Args>),
    Run(run::Args),
    Config(config::Args),
    Discover(discover::Args),
    Topics(topics::Args),
    Produce(produce::Args),
    Consume(Box<consume::Args>),
    Groups(groups::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    /// What is logged unless somebody says otherwise: a mirror tells how it goes, a tool tells its
    /// result.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::MirrorMaker(_) | Self::Run(_) => "info",
            // Its result stands on standard output; what is odd is logged.
            Self::Demo(_) => "warn",
            _ => "warn",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_flag_of_every_subcommand_is_consistent_and_described() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn every_subcommand_has_examples() {
        for command in Cli::command().get_subcommands() {
            let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("Examples:"), "{}", command.get_name());
        }
    }
}
