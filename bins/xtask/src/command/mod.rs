//! One file for each developer task.

pub(crate) mod bench;
pub(crate) mod brokers;
pub(crate) mod dist;
pub(crate) mod micro;
pub(crate) mod test;
pub(crate) mod tidy;

use std::process::ExitCode;

/// How a task ends: with an exit code, or with an error that `main` prints.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;
