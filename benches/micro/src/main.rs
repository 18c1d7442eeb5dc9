//! `kmirror-micro`: what the way of a batch costs, part by part, in numbers that repeat. `cargo
//! xtask micro` builds and runs it.
//!
//! | Module | What it is |
//! |---|---|
//! | [`cases`] | the parts, each a closure that does its work once |
//! | [`data`] | the records and batches they work on, the same at every run |
//! | [`measure`] | allocations and time of a turn, in this process |
//! | [`callgrind`] | instructions of a turn, in a process of its own under valgrind |
//! | [`flat`] | what must not grow with the bytes or the records |
//! | [`baseline`] | the figures that were accepted, and what is worse than they |
//! | [`environment`] | what figures depend on besides the code |
//! | [`table`] | all figures, as text |
//!
//! Instructions and allocations are compared with the baseline. Time is for information: it
//! depends on the machine and on who else uses it.

mod baseline;
mod callgrind;
mod cases;
mod data;
mod environment;
mod flat;
mod measure;
mod say;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use baseline::{Baseline, Verdict};
use callgrind::Instructions;
use cases::Case;
use environment::Environment;
use measure::Native;

/// Counts every allocation of this process.
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Measure what the way of a batch costs, and compare with the figures that were accepted.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask micro", bin_name = "cargo xtask micro")]
struct Arguments {
    /// Accept the figures: write them into the baseline instead of comparing with it.
    #[arg(long)]
    bless: bool,
    /// Only what has this in its name.
    #[arg(value_name = "TEXT")]
    only: Vec<String>,
    /// Count no instructions, so that valgrind is not needed.
    #[arg(long, conflicts_with = "bless")]
    no_instructions: bool,
    /// Where the accepted figures are.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_BASELINE)]
    baseline: PathBuf,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Do the work of one case; what runs under valgrind.
    #[command(hide = true)]
    Turn {
        /// Its name.
        name: String,
    },
}

const DEFAULT_BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json");

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no case is called {name}")]
    NoSuchCase { name: String },
    #[error("built without optimisation; use `cargo xtask micro`")]
    Unoptimised,
    #[error("count instructions")]
    Callgrind(#[from] callgrind::Error),
    #[error("the accepted figures")]
    Baseline(#[from] baseline::Error),
}

/// Everything known of a case.
#[derive(Debug)]
struct Measured {
    case: Case,
    native: Native,
    instructions: Option<Instructions>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.task {
        Some(Task::Turn { name }) => turn(name).map(|()| true),
        None => compare(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say::chain(&error);
            ExitCode::FAILURE
        }
    }
}

fn turn(name: &str) -> Result<(), Error> {
    let case = cases::all().into_iter().find(|case| case.name == name);
    let case = case.ok_or_else(|| Error::NoSuchCase { name: name.to_owned() })?;
    measure::turn(&case);
    Ok(())
}

/// Whether nothing is worse than what was accepted.
fn compare(arguments: &Arguments) -> Result<bool, Error> {
    if cfg!(debug_assertions) {
        return Err(Error::Unoptimised);
    }
    let wanted = |name: &str| {
        arguments.only.is_empty() || arguments.only.iter().any(|text| name.contains(text))
    };
    let mut measured: Vec<Measured> = cases::all()
        .into_iter()
        .filter(|case| wanted(&case.name))
        .map(|case| Measured { native: measure::native(&case), case, instructions: None })
        .collect();
    if !arguments.no_instructions {
        callgrind::count(&mut measured)?;
    }
    say::result(&table::of(&measured));

    let uneven = flat::check();
    uneven.iter().for_each(|line| say::result(line));
    let environment = Environment::here(!arguments.no_instructions);
    if arguments.bless {
        let mut baseline = Baseline::read(&arguments.baseline).unwrap_or_default();
        let is_whole = arguments.only.is_empty();
        baseline.accept(environment, &measured, is_whole);
        baseline.write(&arguments.baseline)?;
        say::result(&format!("accepted: {} cases", measured.len()));
        return Ok(uneven.is_empty());
    }
    let baseline = Baseline::read(&arguments.baseline)?;
    let verdict = baseline.judge(&environment, &measured, arguments.only.is_empty());
    report(&verdict);
    Ok(uneven.is_empty() && verdict.worse.is_empty())
}

fn report(verdict: &Verdict) {
    for line in verdict.notes.iter().chain(&verdict.worse) {
        say::result(line);
    }
    if verdict.worse.is_empty() {
        say::result("nothing is worse than the baseline");
    } else {
        say::result(
            "to accept: cargo xtask micro --bless, and say in the commit why the work is needed",
        );
    }
}
