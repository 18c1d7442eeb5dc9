//! All measurements, in turns: each load is made once, then in every round the ceilings and each
//! mirror have their go, another mirror first each time. What one mirror cannot do is noted, and
//! the others go on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::brokers::{Home, Jars};
use xtask::workspace;

use crate::{
    Error,
    arguments::{Alone, Clusters, Compare},
    case::Case,
    ends::End,
    floor::Ceiling,
    load,
    machine::Machine,
    mirrors::{Job, Mirror, Programs},
    report::{Failure, Measured, Report},
    run::{self, Outcome, Running},
    say,
};

/// The last version that has MirrorMaker 1, and the MirrorMaker 2 to compare with.
const MM1: &str = "3.9.1";
const MM2: &str = "4.3.0";

/// Measures everything that is asked for and writes the report.
///
/// # Errors
/// When brokers, programs or loads are not to be had.
pub async fn compare(arguments: &Compare) -> Result<Report, Error> {
    let directory = arguments.report.clone();
    let directory = directory.unwrap_or_else(|| workspace::target_directory().join("bench"));
    let programs = programs(arguments.kmirror.as_ref())?;
    let (source, destination) = clusters(&arguments.clusters).await?;
    let mut report = Report {
        machine: Machine::look(),
        source: source.version.clone(),
        destination: destination.version.clone(),
        kmirror: version(&programs.kmirror),
        streams: arguments.streams,
        cases: Vec::new(),
    };
    let mut bench = Bench { arguments, programs, source, destination, turns: 0 };
    for case in arguments.loads.cases() {
        let measured = bench.measure(case).await?;
        say::result(&measured.markdown());
        report.cases.push(measured);
        // After each load, so that an interrupted run leaves what it has.
        report.write(&directory)?;
    }
    say::progress(&format!("written: {}", directory.join("report.md").display()));
    Ok(report)
}

pub(crate) async fn clusters(clusters: &Clusters) -> Result<(End, End), Error> {
    let source = match &clusters.source_bootstrap {
        Some(bootstrap) => End::use_running(bootstrap).await?,
        None => End::start("source", &clusters.source).await?,
    };
    let destination = match &clusters.destination_bootstrap {
        Some(bootstrap) => End::use_running(bootstrap).await?,
        None => End::start("destination", &clusters.destination).await?,
    };
    Ok((source, destination))
}

pub(crate) fn programs(kmirror: Option<&PathBuf>) -> Result<Programs, Error> {
    let home = Home::from_environment();
    let released = || workspace::target_directory().join("release").join("kmirror");
    Ok(Programs {
        kmirror: kmirror.cloned().unwrap_or_else(released),
        mm1: Jars::fetch(&home, &MM1.parse()?)?,
        mm2: Jars::fetch(&home, &MM2.parse()?)?,
    })
}

/// What the binary calls itself; a binary that is not there is noted when it is its turn.
pub(crate) fn version(kmirror: &Path) -> String {
    let output = Command::new(kmirror).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "no kmirror".to_owned())
}

/// What the measurements share.
struct Bench<'a> {
    arguments: &'a Compare,
    programs: Programs,
    source: End,
    destination: End,
    /// How many mirrors have been started: makes each one's names its own.
    turns: u32,
}

impl Bench<'_> {
    async fn measure(&mut self, case: Case) -> Result<Measured, Error> {
        say::progress(&format!("== {}", case.title()));
        self.fill(&case).await?;
        self.warm_up(&case).await?;
        let mut measured = Measured::new(case);
        for round in 1..=self.arguments.rounds {
            if !self.arguments.no_ceilings {
                self.ceilings(round, &mut measured).await?;
            }
            let mut mirrors = self.arguments.mirrors.clone();
            let first = (round as usize - 1) % mirrors.len().max(1);
            mirrors.rotate_left(first);
            for mirror in mirrors {
                match self.turn(mirror, &measured.case).await {
                    Ok(outcome) => measured.outcomes.push(outcome),
                    Err(error) => measured.failed(mirror.name(), round, &error),
                }
            }
        }
        self.destination.remove(&[measured.case.topic().into()]).await?;
        Ok(measured)
    }

    /// Makes the load at the source, unless it is there.
    async fn fill(&self, case: &Case) -> Result<(), Error> {
        let (topic, partitions) = (case.topic(), case.partitions.source);
        if self.source.holds(&topic, partitions, case.records).await? {
            return Ok(());
        }
        self.source.make(&topic, partitions).await?;
        let bootstrap = self.source.bootstrap.clone();
        let (case, threads) = (case.clone(), usize::from(self.arguments.streams));
        let fill = move || load::produce(&bootstrap, &case.topic(), (&case, partitions), threads);
        let filled = tokio::task::spawn_blocking(fill).await;
        let filled = filled.expect("invariant: producing the load does not panic")?;
        say::progress(&format!("filled the source at {:.0} MB/s", filled.megabytes_per_second));
        Ok(())
    }

    /// Fetches and produces the load some times before anything counts: brokers run several times
    /// faster once their Java virtual machines have compiled what this load needs, and whoever
    /// came first would pay for it.
    async fn warm_up(&self, case: &Case) -> Result<(), Error> {
        let topic = case.topic();
        for _ in 0..self.arguments.warm_up {
            ceiling(Alone::Fetch, &self.source, case, self.arguments.streams).await?;
            self.destination.make(&topic, case.partitions.destination).await?;
            ceiling(Alone::Produce, &self.destination, case, self.arguments.streams).await?;
        }
        Ok(())
    }

    async fn ceilings(&self, round: u32, measured: &mut Measured) -> Result<(), Error> {
        let topic = measured.case.topic();
        for alone in [Alone::Fetch, Alone::Produce] {
            let end = match alone {
                Alone::Fetch => &self.source,
                Alone::Produce => {
                    let partitions = measured.case.partitions.destination;
                    self.destination.make(&topic, partitions).await?;
                    &self.destination
                }
            };
            match ceiling(alone, end, &measured.case, self.arguments.streams).await {
                Ok(ceiling) => {
                    let rate = ceiling.megabytes_per_second;
                    say::progress(&format!("{}: {rate:.0} MB/s", alone.name()));
                    match alone {
                        Alone::Fetch => measured.fetch.push(ceiling),
                        Alone::Produce => measured.produce.push(ceiling),
                    }
                }
                Err(error) => measured.failed(alone.name(), round, &error),
            }
        }
        Ok(())
    }

    async fn turn(&mut self, mirror: Mirror, case: &Case) -> Result<Outcome, Error> {
        self.turns += 1;
        let unique = format!("bench{}x{}", std::process::id(), self.turns);
        let topic = case.topic();
        self.destination.make(&topic, case.partitions.destination).await?;
        let temporary = std::env::temp_dir();
        let directory = tempfile::tempdir().map_err(Error::file("create", &temporary))?;
        let job = Job {
            source: &self.source.bootstrap,
            destination: &self.destination.bootstrap,
            topic: &topic,
            codec: case.codec,
            streams: self.arguments.streams.into(),
            unique: &unique,
            directory: directory.path(),
        };
        let command = job.command(mirror, &self.programs)?;
        let running = Running::start(mirror, command, directory.path().join("log"))?;
        let ends = (&self.source, &self.destination);
        let outcome = run::measure(running, &topic, case, ends).await;
        // MirrorMaker 2 leaves topics that carry its name for the source.
        self.destination.remove_named(&unique).await?;
        if let Ok(outcome) = &outcome {
            say::progress(&format!(
                "{}: {:.0} MB/s, {:.2} CPU s/GB, {:.0} MiB, first record after {:.2} s, \
                 {:.2} cores busy elsewhere",
                mirror.name(),
                outcome.megabytes_per_second,
                outcome.cpu_per_gigabyte,
                outcome.peak_memory_mib,
                outcome.first_record_seconds,
                outcome.other_cores.unwrap_or(f64::NAN)
            ));
        }
        outcome
    }
}

impl Measured {
    fn failed(&mut self, name: &'static str, round: u32, error: &Error) {
        say::chain(error);
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text.push_str(&format!("\n  because: {error}"));
            cause = error.source();
        }
        self.failures.push(Failure { name, round, error: text });
    }
}

/// Measures a ceiling in a process of its own, so that its memory and processor time are its own.
async fn ceiling(alone: Alone, end: &End, case: &Case, threads: u16) -> Result<Ceiling, Error> {
    let batching = match alone {
        Alone::Fetch => case.batching,
        Alone::Produce => case.batching_at_best(),
    };
    let failed = |source| Error::Run { program: format!("the ceiling {}", alone.name()), source };
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    let partitions = format!("{}:{}", case.partitions.source, case.partitions.destination);
    command.args(["ceiling", alone.name(), "--bootstrap", &end.bootstrap]);
    command.args(["--topic", &case.topic(), "--threads", &threads.to_string()]);
    command.args(["--records", &case.records.to_string()]);
    command.args(["--record-bytes", &case.record_bytes.to_string()]);
    command.args(["--keys", &case.keys.to_string(), "--codec", case.codec.name()]);
    command.args(["--batch", &batching.to_string(), "--partitions", &partitions]);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ran.expect("invariant: waiting for a process does not panic").map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).map_err(|source| Error::Answer {
        name: alone.name().to_owned(),
        text,
        source,
    })
}
