//! `cargo xtask test`: everything that must hold before a change is merged, on a machine that may
//! have nothing but Rust. Nothing is skipped in silence: what cannot run fails, what was not asked
//! for is named in the summary.

mod steps;

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Args, ValueEnum};
use xtask::{
    brokers::{Home, Jars, Version},
    tidy, workspace,
};

use super::{Outcome, bench, brokers::Up, micro};
use crate::{machine, say};
use steps::Steps;

/// Run all checks: lint, unit, micro-benchmarks, real brokers and a short benchmark.
///
/// Missing programs (Java 17 with javac, Maven, kcat, valgrind) are installed with apt-get when
/// --yes is given or CI=true is set; otherwise the command that installs them is printed. The last
/// line says how many tests and checks passed and failed.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only these parts [default: all].
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Install what the machine lacks without asking.
    #[arg(long, short)]
    yes: bool,
    /// Run only the real-broker tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    #[command(flatten)]
    brokers: Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, clippy, tidy, documentation, cargo-deny.
    Lint,
    /// Unit, integration and documentation tests of every crate.
    Unit,
    /// Instructions and allocations on the way of a batch, against those that were accepted.
    Micro,
    /// The suites that need real Apache Kafka.
    Brokers,
    /// Small loads mirrored by the released kmirror and its peers, compared record by record.
    Bench,
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Unit => "unit tests",
            Self::Micro => "micro-benchmarks",
            Self::Brokers => "real brokers",
            Self::Bench => "benchmark, its shortest suite",
        }
    }
}

const PARTS: [Part; 5] = [Part::Lint, Part::Unit, Part::Micro, Part::Brokers, Part::Bench];

/// The pairs that the real-broker suites run on when none is asked for: the newest source and
/// destination with everything, then the versions of a managed cluster with what depends on
/// the version.
const PAIRS: &[(&str, &str, &[&str])] =
    &[("3.9.1", "4.3.0", &[]), ("2.4.1", "3.2.3", &["walkthrough", "fidelity"])];

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let wanted = |part: Part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let mut steps = Steps::new();
    let yes = arguments.yes || machine::is_ci();
    if wanted(Part::Brokers) || wanted(Part::Bench) {
        machine::for_brokers(yes)?;
    }
    if wanted(Part::Micro) {
        machine::for_micro(yes)?;
    }
    for part in PARTS {
        match part {
            _ if !wanted(part) => steps.not_run(part.title(), "not asked for"),
            Part::Lint => lint(&mut steps),
            Part::Unit => unit(&mut steps),
            Part::Micro => micro(&mut steps),
            Part::Brokers => real_brokers(&mut steps, arguments),
            Part::Bench => benchmark(&mut steps),
        }
    }
    Ok(if steps.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(arguments).current_dir(workspace::root());
    command
}

fn lint(steps: &mut Steps) {
    steps.check("format", cargo(&["fmt", "--all", "--check"]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet"];
    steps.check("clippy", cargo(&[&clippy[..], &["--", "-D", "warnings"]].concat()));
    steps.check_in_process("tidy", || match tidy::check(&workspace::root()) {
        Ok(report) => {
            report.findings.iter().for_each(|finding| say::result(&finding.to_string()));
            report.findings.is_empty()
        }
        Err(error) => {
            say::chain(&error);
            false
        }
    });
    let mut documentation = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    steps.check("documentation", documentation);
    deny(steps);
}

/// Bans, licences and sources need only the registry; advisories need a database from elsewhere.
fn deny(steps: &mut Steps) {
    let installed = cargo(&["deny", "--version"]).output().is_ok_and(|out| out.status.success());
    if !installed {
        // Unoptimised, because it takes half the time to build and runs for a second.
        steps.check("install cargo-deny", cargo(&["install", "--locked", "--debug", "cargo-deny"]));
    }
    let deny = ["deny", "--locked", "--workspace", "check", "bans", "licenses", "sources"];
    steps.check("cargo deny", cargo(&deny));
    say::result("not checked, its database must be fetched: cargo deny check advisories");
}

fn unit(steps: &mut Steps) {
    steps.tests("unit tests", cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]));
}

fn micro(steps: &mut Steps) {
    if steps.check("build micro-benchmarks", bench::build()) {
        steps.check("micro-benchmarks", micro::compare());
    } else {
        steps.not_run("micro-benchmarks", "they do not build");
    }
}

/// The copier in Go has to be asked for: nothing else here needs Go.
fn benchmark(steps: &mut Steps) {
    let title = Part::Bench.title();
    if !steps.check("build benchmark", bench::build()) {
        steps.not_run(title, "it does not build");
        return;
    }
    let mut compare = bench::compare();
    compare.args(["--suite", "ci", "--mirrors", "kmirror,mm1-tuned,mm2-tuned"]);
    steps.check(title, compare);
}

fn real_brokers(steps: &mut Steps, arguments: &Arguments) {
    // With the tests, which bring the binary along: built by itself it would choose features of its
    // own and build what they share again.
    let build = ["test", "--no-run", "--workspace", "--tests", "--locked", "--quiet"];
    if !steps.check("build real brokers' tests", cargo(&build)) {
        steps.not_run("real brokers", "they do not build");
        return;
    }
    if arguments.brokers.names_versions() {
        on_pair(steps, arguments, arguments.brokers.clone(), &[]);
        return;
    }
    for (source, destination, filter) in PAIRS {
        let mut up = arguments.brokers.clone();
        let version = |text: &str| text.parse::<Version>().expect("invariant: a version");
        up.set_versions(version(source), version(destination));
        if let Some(reason) = up.impossible() {
            steps.not_run(&format!("real brokers {}", up.title()), &reason);
            continue;
        }
        on_pair(steps, arguments, up, filter);
    }
}

/// Runs the ignored tests, which are those that need real brokers, on one pair of clusters.
fn on_pair(steps: &mut Steps, arguments: &Arguments, up: Up, filter: &[&str]) {
    let title = up.title();
    let home = Home::from_environment();
    let (jars, running) = match tools(&home).and_then(|jars| Ok((jars, up.guarded(&home)?))) {
        Ok(both) => both,
        Err(error) => {
            say::chain(&error);
            steps.failed(&format!("brokers {title}"));
            return;
        }
    };
    let mut test = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    if filter.is_empty() {
        // Not the examples in the documentation: those that are ignored there are not tests.
        test.args(["--lib", "--bins", "--tests"]);
    } else {
        test.args(["--test", "real"]);
    }
    test.args(["--", "--ignored", "--test-threads=1"]);
    if arguments.only.is_empty() {
        test.args(filter);
    }
    test.args(&arguments.only);
    test.envs(running.environment()).env("KMIRROR_BIN", binary()).env("KMIRROR_JARS", jars);
    steps.tests(&format!("real brokers {title}"), test);
    drop(running);
}

/// The jars that the suites' own Java programs run with.
fn tools(home: &Home) -> Result<PathBuf, xtask::brokers::Error> {
    let version = TOOLS.parse().expect("invariant: a version");
    Ok(Jars::fetch(home, &version)?.directory().to_owned())
}

/// Clients of this version speak to every broker from 0.10 to 4.x.
const TOOLS: &str = "3.9.1";

fn binary() -> PathBuf {
    workspace::target_directory().join("debug").join("kmirror")
}
