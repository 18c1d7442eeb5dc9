//! One file for each developer task.

pub(crate) mod brokers;

use std::process::ExitCode;

/// How a task ends: with an exit code, or with an error that `main` prints.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;
