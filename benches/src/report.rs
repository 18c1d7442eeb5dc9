//! What was measured: kept as JSON for programs, shown as Markdown for people. Pure, but for the
//! files.

use std::{fmt::Write as _, fs, path::Path};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    case::Case,
    floor::Ceiling,
    machine::Machine,
    mirrors::Mirror,
    plan::{Place, Planned, Setup},
    run::Outcome,
    suite::Suite,
    survey::Stored,
};

/// Everything that was measured of one suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which suite.
    pub suite: Suite,
    /// On what.
    pub machine: Machine,
    /// Version of the source.
    pub source: String,
    /// Version of the destination.
    pub destination: String,
    /// Version of kmirror, as it tells it.
    pub kmirror: String,
    /// The peers and their versions.
    pub peers: Vec<String>,
    /// Each kind of load.
    pub cases: Vec<Measured>,
}

/// What was measured with one kind of load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// The load.
    pub case: Case,
    /// How many worked at once.
    pub setup: Setup,
    /// Where it is shown.
    pub place: Place,
    /// What the source held.
    pub stored: Stored,
    /// Fetching alone, in each round.
    pub fetch: Vec<Ceiling>,
    /// Producing alone, in each round.
    pub produce: Vec<Ceiling>,
    /// Each mirror in each round.
    pub outcomes: Vec<Outcome>,
    /// What could not be measured.
    pub failures: Vec<Failure>,
}

/// A measurement that was not to be had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Which mirror, or which ceiling.
    pub name: String,
    /// In which round.
    pub round: u32,
    /// Why not, with all causes.
    pub error: String,
}

impl Report {
    /// Keeps it in `directory`, in the file of its suite.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn keep(&self, directory: &Path) -> Result<(), Error> {
        fs::create_dir_all(directory).map_err(Error::file("create", directory))?;
        let json = serde_json::to_string_pretty(self).expect("invariant: a report is plain data");
        let path = directory.join(file(self.suite));
        fs::write(&path, json + "\n").map_err(Error::file("write", &path))
    }

    /// The one of `suite` that is kept in `directory`, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn kept(directory: &Path, suite: Suite) -> Result<Option<Self>, Error> {
        let path = directory.join(file(suite));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let report = serde_json::from_str(&text);
        report.map(Some).map_err(|source| Error::Report { path, source })
    }

    /// On what, with what and by what it was measured, for people.
    #[must_use]
    pub fn conditions(&self) -> String {
        let peers = self.peers.join(", ");
        format!("{}\n\n{}. Peers: {peers}.", self.machine.title(), self.versions())
    }

    /// The versions of brokers and kmirror, in a line.
    #[must_use]
    pub fn versions(&self) -> String {
        let Self { machine, source, destination, kmirror, .. } = self;
        let commit = &machine.commit;
        format!("From Kafka {source} to Kafka {destination}, {kmirror} (commit {commit})")
    }
}

/// The file that keeps the report of `suite`.
fn file(suite: Suite) -> String {
    format!("{}.json", suite.name())
}

impl Measured {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(planned: &Planned, stored: Stored) -> Self {
        let Planned { case, setup, place, .. } = planned.clone();
        Self {
            case,
            setup,
            place,
            stored,
            fetch: vec![],
            produce: vec![],
            outcomes: vec![],
            failures: vec![],
        }
    }

    /// The part of the report for people.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "### {}\n\n{}\n\n| | records/s | MB/s | wire MB/s | CPU s/GB | peak MiB | \
             to first record s | R(1/F+1/P) | source CPU s/GB | destination CPU s/GB | \
             busy elsewhere cores | runs |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            self.setup.title_of(&self.case),
            self.source()
        );
        for (name, ceilings) in
            [("fetch alone (F)", &self.fetch), ("produce alone (P)", &self.produce)]
        {
            text.push_str(&self.ceiling_row(name, ceilings));
        }
        let mut mirrors: Vec<Mirror> = self.outcomes.iter().map(|one| one.mirror).collect();
        mirrors.sort_unstable();
        mirrors.dedup();
        for mirror in mirrors {
            text.push_str(&self.mirror_row(mirror));
        }
        for name in self.never_measured() {
            text.push_str(&format!("| {name} | not measured | | | | | | | | | | 0 |\n"));
        }
        for outcome in self.outcomes.iter().filter(|outcome| outcome.surplus != 0) {
            let (name, surplus) = (outcome.mirror.name(), outcome.surplus);
            line(&mut text, format_args!("\n{name} wrote {surplus} records more than there were."));
        }
        for Failure { name, round, error } in &self.failures {
            let error = error.trim_end();
            line(
                &mut text,
                format_args!("\nNot measured: {name} in round {round}:\n\n```\n{error}\n```"),
            );
        }
        text
    }

    /// The mirrors that failed in every round, once each.
    fn never_measured(&self) -> Vec<&str> {
        let measured = |name: &str| self.outcomes.iter().any(|one| one.mirror.name() == name);
        let mut names: Vec<&str> = self.failures.iter().map(|one| one.name.as_str()).collect();
        names.retain(|name| Mirror::from_str(name, false).is_ok() && !measured(name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the source held, in a sentence.
    fn source(&self) -> String {
        let Stored { records, batches, bytes } = self.stored;
        let (batch_bytes, each) = (bytes / batches.max(1), records / batches.max(1));
        format!(
            "At the source {:.0} MB in {batches} batches, on average {each} records in \
             {batch_bytes} B.",
            bytes as f64 / 1e6
        )
    }

    fn ceiling_row(&self, name: &str, ceilings: &[Ceiling]) -> String {
        let of = |figure: fn(&Ceiling) -> f64| median(ceilings.iter().map(figure));
        let Some(rate) = of(|one| one.megabytes_per_second) else { return String::new() };
        let cells = [
            number(Some(rate * 1e6 / self.case.record_bytes as f64), 0),
            number(Some(rate), 0),
            number(Some(rate * self.stored_share()), 0),
            number(of(|one| one.cpu_per_gigabyte), 2),
            number(of(|one| one.peak_memory_mib), 0),
        ];
        format!("| {name} | {} | | | | | | {} |\n", cells.join(" | "), ceilings.len())
    }

    fn mirror_row(&self, mirror: Mirror) -> String {
        let runs: Vec<&Outcome> = self.outcomes.iter().filter(|one| one.mirror == mirror).collect();
        let of = |figure: fn(&Outcome) -> f64| median(runs.iter().map(|one| figure(one)));
        let maybe =
            |figure: fn(&Outcome) -> Option<f64>| median(runs.iter().filter_map(|one| figure(one)));
        let rate = of(|one| one.megabytes_per_second);
        let cells = [
            number(of(|one| one.records_per_second), 0),
            number(rate, 0),
            number(of(|one| one.wire_megabytes_per_second), 0),
            number(of(|one| one.cpu_per_gigabyte), 2),
            number(of(|one| one.peak_memory_mib), 0),
            number(of(|one| one.first_record_seconds), 2),
            number(rate.and_then(|rate| self.efficiency(rate)), 2),
            number(maybe(|one| one.source_cpu_per_gigabyte), 2),
            number(maybe(|one| one.destination_cpu_per_gigabyte), 2),
            number(maybe(|one| one.other_cores), 2),
        ];
        format!("| {} | {} | {} |\n", mirror.name(), cells.join(" | "), runs.len())
    }

    /// Bytes that are stored for each logical byte.
    fn stored_share(&self) -> f64 {
        self.stored.bytes as f64 / self.case.logical_bytes().max(1) as f64
    }

    /// How much of what fetching and producing allow in turns a rate is.
    fn efficiency(&self, rate: f64) -> Option<f64> {
        let ceiling =
            |ceilings: &[Ceiling]| median(ceilings.iter().map(|one| one.megabytes_per_second));
        Some(rate * (1.0 / ceiling(&self.fetch)? + 1.0 / ceiling(&self.produce)?))
    }
}

pub(crate) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("invariant: writing to a string cannot fail");
}

pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// The value in the middle; of an even number of values the mean of the two there.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[values.len() / 2 - 1], upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(mirror: Mirror, rate: f64) -> Outcome {
        Outcome {
            mirror,
            first_record_seconds: 0.5,
            seconds: 1.0,
            records_per_second: rate * 1000.0,
            megabytes_per_second: rate,
            wire_megabytes_per_second: rate / 2.0,
            cpu_per_gigabyte: 1.5,
            cpu_per_gigabyte_moving: 1.25,
            peak_memory_mib: 64.0,
            source_cpu_per_gigabyte: None,
            destination_cpu_per_gigabyte: Some(3.8),
            other_cores: None,
            surplus: 0,
        }
    }

    fn ceiling(rate: f64) -> Ceiling {
        Ceiling {
            records: 10,
            seconds: 1.0,
            megabytes_per_second: rate,
            cpu_per_gigabyte: 0.5,
            peak_memory_mib: 40.0,
        }
    }

    fn measured() -> Measured {
        let mut planned = Suite::Codecs.plan().remove(0);
        (planned.case.records, planned.case.record_bytes) = (10, 1000);
        let stored = Stored { records: 10, batches: 2, bytes: 5_000 };
        Measured::new(&planned, stored)
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_row_holds_medians_and_the_efficiency() {
        let mut measured = measured();
        measured.outcomes = [90.0, 100.0, 300.0].map(|rate| outcome(Mirror::Kmirror, rate)).into();
        measured.outcomes.push(outcome(Mirror::Mm1, 50.0));
        measured.fetch.push(ceiling(400.0));
        measured.produce.push(ceiling(200.0));
        let text = measured.markdown();
        let row = "| kmirror | 100000 | 100 | 50 | 1.50 | 64 | 0.50 | 0.75 | - | 3.80 | - | 3 |\n";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| fetch alone (F) | 400000 | 400 | 200 | 0.50 | 40 |"), "{text}");
        assert!(text.find("| kmirror").expect("a row") < text.find("| mm1").expect("a row"));
    }

    #[test]
    fn what_went_wrong_is_said() {
        let mut measured = measured();
        measured.outcomes.push(Outcome { surplus: 7, ..outcome(Mirror::Mm1, 50.0) });
        let error = "it broke\n".to_owned();
        measured.failures.push(Failure { name: "mm2-tuned".to_owned(), round: 2, error });
        let text = measured.markdown();
        assert!(text.contains("mm1 wrote 7 records more than there were."), "{text}");
        assert!(text.contains("| mm2-tuned | not measured |"), "{text}");
        assert!(
            text.contains("Not measured: mm2-tuned in round 2:\n\n```\nit broke\n```"),
            "{text}"
        );
    }
}
