//! `cargo xtask tidy`: the house rules, see the library's `tidy` module.

use std::process::ExitCode;

use clap::Args;
use xtask::{tidy, workspace};

use super::Outcome;
use crate::say;

/// Check the house rules: sizes, words, headings, which crate may depend on which, no C.
#[derive(Args)]
pub(crate) struct Arguments {
    /// First wrap comments wider than 100 characters.
    #[arg(long)]
    wrap: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.wrap {
        for path in tidy::wrap_comments(&workspace::root())? {
            say::result(&format!("wrapped comments in {path}"));
        }
    }
    let report = tidy::check(&workspace::root())?;
    for note in &report.notes {
        say::result(&format!("note: {note}"));
    }
    for finding in &report.findings {
        say::result(&finding.to_string());
    }
    if report.findings.is_empty() {
        say::result("tidy");
        return Ok(ExitCode::SUCCESS);
    }
    say::result(&format!("{} rules broken", report.findings.len()));
    Ok(ExitCode::FAILURE)
}
