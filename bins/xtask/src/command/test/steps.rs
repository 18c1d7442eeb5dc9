//! The steps of a test run: each is run, timed and counted, and the last of all is the summary.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use xtask::clock;

use crate::say;

/// What was run so far.
pub(super) struct Steps {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    outcome: Outcome,
    took: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

enum Outcome {
    Ran(Counts),
    NotRun(String),
}

impl Steps {
    pub(super) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Runs a command that passes or fails as a whole; whether it passed.
    pub(super) fn check(&mut self, name: &str, mut command: Command) -> bool {
        self.check_in_process(name, || match command.stdin(Stdio::null()).status() {
            Ok(status) => status.success(),
            Err(error) => {
                say::chain(&error);
                false
            }
        })
    }

    /// Runs a check of this program's own; whether it passed.
    pub(super) fn check_in_process(&mut self, name: &str, check: impl FnOnce() -> bool) -> bool {
        let begin = begin(name);
        let passed = check();
        let counts = Counts { passed: passed.into(), failed: (!passed).into(), ignored: 0 };
        self.push(name, counts, begin);
        passed
    }

    /// Runs `cargo test` and counts its tests.
    pub(super) fn tests(&mut self, name: &str, command: Command) {
        let begin = begin(name);
        let counts = run_tests(command).unwrap_or_else(|error| {
            say::chain(&error);
            Counts { failed: 1, ..Counts::default() }
        });
        self.push(name, counts, begin);
    }

    /// Notes a step that failed before it could run.
    pub(super) fn failed(&mut self, name: &str) {
        self.push(name, Counts { failed: 1, ..Counts::default() }, clock::now());
    }

    /// Notes a step that is not run, and why.
    pub(super) fn not_run(&mut self, name: &str, why: &str) {
        let outcome = Outcome::NotRun(why.to_owned());
        self.rows.push(Row { name: name.to_owned(), outcome, took: Duration::ZERO });
    }

    fn push(&mut self, name: &str, counts: Counts, begin: Instant) {
        let row =
            Row { name: name.to_owned(), outcome: Outcome::Ran(counts), took: begin.elapsed() };
        self.rows.push(row);
    }

    /// Prints the summary; whether all that ran passed.
    pub(super) fn finish(self) -> bool {
        say::result("");
        for row in &self.rows {
            say::result(&row.to_string());
        }
        let total = self
            .rows
            .iter()
            .filter_map(Row::counts)
            .fold((0, 0), |(passed, failed), row| (passed + row.passed, failed + row.failed));
        say::result("");
        say::result(&format!("{} passed, {} failed", total.0, total.1));
        total.1 == 0
    }
}

impl Row {
    fn counts(&self) -> Option<Counts> {
        match self.outcome {
            Outcome::Ran(counts) => Some(counts),
            Outcome::NotRun(_) => None,
        }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = &self.name;
        match &self.outcome {
            Outcome::NotRun(why) => write!(formatter, "  {name:<32} not run: {why}"),
            Outcome::Ran(counts) => {
                let word = if counts.failed == 0 { "ok" } else { "FAILED" };
                write!(
                    formatter,
                    "  {name:<32} {word:<7} {:>5} passed {:>4} failed {:>4} ignored {:>5} s",
                    counts.passed,
                    counts.failed,
                    counts.ignored,
                    self.took.as_secs()
                )
            }
        }
    }
}

fn begin(name: &str) -> Instant {
    say::result(&format!("\n== {name}"));
    clock::now()
}

/// Passes the output of `cargo test` on while reading its counts. A run that fails without a
/// failed test (it did not build, or was killed) counts as one failure.
fn run_tests(mut command: Command) -> std::io::Result<Counts> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            counts.add(&line);
            say::result(&line);
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

impl Counts {
    /// Adds what a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...` says.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        let result = result.split_once(". ").map_or("", |(_, rest)| rest);
        for part in result.split("; ") {
            let Some((number, word)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_cargo_test_are_added_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; finished in 0.01s");
        counts.add("test something ... ok");
        assert_eq!(counts, Counts { passed: 5, failed: 4, ignored: 1 });
    }

    #[test]
    fn a_run_that_dies_without_a_result_is_a_failure() {
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo 'test result: ok. 2 passed; 0 failed'; exit 101");
        let counts = run_tests(command).expect("a shell");
        assert_eq!(counts, Counts { passed: 2, failed: 1, ignored: 0 });
    }
}
