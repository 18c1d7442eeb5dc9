//! Logs go to standard error, as text or as one JSON object a line, and never mix with a progress
//! line.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::exit::Failure;

/// How much is logged, and in which form.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogArgs {
    /// What is logged: error, warn, info, debug, trace, or directives such as
    /// info,kmirror::stage=debug; unset, mirrors log info and the other subcommands warn
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "KMIRROR_LOG",
        help_heading = "Logging"
    )]
    log: Option<String>,

    /// The form of log lines
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "KMIRROR_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logging"
    )]
    log_format: Format,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

impl LogArgs {
    /// Starts logging for the process; `default` is the level unless somebody says otherwise.
    pub(crate) fn start(&self, default: &str) -> Result<(), Failure> {
        let level = self.log.as_deref().unwrap_or(default);
        // What comes later wins, so this can be overridden.
        let filter = EnvFilter::try_new(format!("{QUIET},{level}")).map_err(|cause| {
            Failure::usage(format!("--log {}: {cause}", level.escape_debug()))
                .with_help("name a level (error, warn, info, debug, trace) or target=level pairs")
        })?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(Stderr)
            .with_ansi(self.log_format == Format::Text && io::stderr().is_terminal());
        let started = match self.log_format {
            Format::Text => builder.try_init(),
            Format::Json => builder.json().flatten_event(true).try_init(),
        };
        started.map_err(|cause| Failure::runtime(cause.to_string()))
    }
}

/// Libraries whose everyday events are no news to an operator.
const QUIET: &str = "zookeeper_client=warn";

/// The line that logs must not overwrite.
static PROGRESS: OnceLock<Mutex<Option<ProgressBar>>> = OnceLock::new();

/// From now on log lines are printed above this bar.
pub(crate) fn print_above(bar: Option<ProgressBar>) {
    let slot = PROGRESS.get_or_init(Mutex::default);
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

#[derive(Clone, Copy)]
struct Stderr;

impl<'writer> MakeWriter<'writer> for Stderr {
    type Writer = Self;

    fn make_writer(&'writer self) -> Self {
        *self
    }
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bar = PROGRESS.get().and_then(|slot| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ProgressBar::clone)
        });
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().lock().write(bytes)),
            None => io::stderr().lock().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
