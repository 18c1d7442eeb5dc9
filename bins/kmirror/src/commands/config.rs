//! `kmirror config`: prints every option there is, or checks files without running anything.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use kmirror_client::config::keys::{Finding, Kind, Level, Role};
use kmirror_client::config::properties::Properties;

use crate::exit::Failure;
use crate::plan::files::File;
use crate::plan::options::Value;
use crate::plan::units::show_duration;
use crate::plan::{Plan, engine, native};
use crate::{docs, output};

/// Print every option with its default, or check files
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print the options as docs/CONFIGURATION.md
    #[arg(long, conflicts_with_all = ["check", "check_consumer", "check_producer"])]
    markdown: bool,

    /// Check a file of kmirror's own and print what it comes to
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,

    /// Check a properties file of Kafka's consumer
    #[arg(long, value_name = "FILE")]
    check_consumer: Option<PathBuf>,

    /// Check a properties file of Kafka's producer
    #[arg(long, value_name = "FILE")]
    check_producer: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kmirror config | less
  kmirror config --check kmirror.toml
  kmirror config --check-consumer consumer.properties --check-producer producer.properties";

/// Prints or checks.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.markdown {
        return output::raw(docs::markdown().as_bytes());
    }
    let mut checked = false;
    let properties =
        [(&args.check_consumer, Role::Consumer), (&args.check_producer, Role::Producer)];
    for (path, role) in properties {
        if let Some(path) = path {
            checked = true;
            check_properties(path, role)?;
        }
    }
    if let Some(path) = &args.check {
        checked = true;
        let plan = native::load(path)?;
        print_findings(&plan.findings)?;
        print_plan(&plan)?;
    }
    if checked { Ok(()) } else { output::raw(docs::text().as_bytes()) }
}

fn check_properties(path: &Path, role: Role) -> Result<(), Failure> {
    let properties = Properties::read(path).map_err(Failure::usage)?;
    let file = File::new(path, properties, role);
    print_findings(file.findings())?;
    output::line(format_args!("{}: checked", path.display()))
}

/// What a check finds is its result, so it goes to standard output; errors fail the check.
fn print_findings(findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings {
        let level = match finding.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        output::line(format_args!("{level}: {finding}"))?;
    }
    match findings.iter().filter(|finding| finding.level == Level::Error).count() {
        0 => Ok(()),
        1 => Err(Failure::usage("1 error was found")),
        count => Err(Failure::usage(format!("{count} errors were found"))),
    }
}

/// Prints what a plan comes to. The engine checks it too, without connecting to anything.
pub(crate) fn print_plan(plan: &Plan) -> Result<(), Failure> {
    let mut text = String::new();
    for flow in &plan.flows {
        let _ = writeln!(text, "flow {}", flow.name);
        let _ = writeln!(text, "  source       {}", flow.source.place.shown());
        let _ = writeln!(text, "  destination  {}", flow.destination.place.shown());
        for (name, value, origin) in flow.settings.iter() {
            let _ = writeln!(text, "  {name} = {}  ({origin})", show(value));
        }
        let ends = [(&flow.source, Role::Consumer), (&flow.destination, Role::Producer)];
        for (cluster, role) in ends {
            for entry in cluster.properties.iter() {
                let is_secret = role.key(&entry.key).is_none_or(|key| key.kind == Kind::Secret);
                let value = if is_secret { "[hidden]" } else { entry.value.trim() };
                let _ = writeln!(text, "  {} = {value}  ({})", entry.key, entry.origin);
            }
        }
        engine::check(flow)?;
    }
    output::raw(text.as_bytes())
}

fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Texts(texts) => texts.join(", "),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Duration(duration) => show_duration(*duration),
        Value::Bytes(size) => format!("{size} bytes"),
        Value::Pairs(pairs) => {
            let pairs: Vec<_> =
                pairs.iter().map(|(left, right)| format!("{left}={right}")).collect();
            pairs.join(", ")
        }
    }
}
