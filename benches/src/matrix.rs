//! All measurements, in turns, suite by suite: each load is made once, then in every round the
//! ceilings and each mirror have their go, another mirror first each time. What one mirror cannot
//! do is noted, and the others go on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::brokers::{Home, Jars};
use xtask::workspace;

use crate::{
    Error,
    arguments::{Alone, Clusters, Compare},
    case::Case,
    compacted,
    ends::{Configs, End},
    floor::Ceiling,
    load,
    machine::Machine,
    mirrors::{Job, Load, Mirror, Programs},
    peers::FranzGo,
    plan::Planned,
    render,
    report::{Failure, Measured, Report},
    run::{self, Outcome, Running},
    say,
    settle::settle,
    suite::Suite,
    survey::{Digest, Stored},
};

/// The last version that has MirrorMaker 1, and the MirrorMaker 2 to compare with.
const MM1: &str = "3.9.1";
const MM2: &str = "4.3.0";

/// Measures everything that is asked for and writes the reports; whether all of it could be
/// measured.
///
/// # Errors
/// When brokers, programs or loads are not to be had.
pub async fn compare(arguments: &Compare) -> Result<bool, Error> {
    let directory = arguments.report.clone();
    let directory = directory.unwrap_or_else(|| workspace::target_directory().join("bench"));
    let plans = arguments.plans();
    let programs = programs(arguments.kmirror.as_ref())?;
    let (source, destination) = clusters(&arguments.clusters).await?;
    let mut bench = Bench { programs, source, destination, turns: 0 };
    let mut all_measured = true;
    for (suite, plan) in plans {
        let mut report = bench.report(suite, &plan);
        let effort = Effort::of(arguments, suite);
        for (index, planned) in plan.iter().enumerate() {
            let measured = bench.measure(planned, effort).await?;
            say::result(&measured.markdown());
            all_measured &= measured.failures.is_empty();
            report.cases.push(measured);
            // After each load, so that an interrupted run leaves what it has.
            report.keep(&directory)?;
            render::render(&directory)?;
            let topic = planned.case.topic();
            if plan[index + 1..].iter().all(|later| later.case.topic() != topic) {
                bench.forget(&topic).await?;
            }
        }
    }
    say::progress(&format!("written: {}", directory.join("report.md").display()));
    Ok(all_measured)
}

/// How much is done about each load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effort {
    rounds: u32,
    warm_up: u32,
    ceilings: bool,
    verify: bool,
}

impl Effort {
    fn of(arguments: &Compare, suite: Suite) -> Self {
        let (rounds, warm_up) = if suite == Suite::Ci { (1, 0) } else { (3, 3) };
        Self {
            rounds: arguments.rounds.unwrap_or(rounds),
            warm_up: arguments.warm_up.unwrap_or(warm_up),
            ceilings: !arguments.no_ceilings && suite != Suite::Ci,
            verify: arguments.verify || suite == Suite::Ci,
        }
    }
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
        franz_go: FranzGo::default(),
    })
}

/// What the binary calls itself; a binary that is not there is noted when it is its turn.
pub(crate) fn version(kmirror: &Path) -> String {
    let output = Command::new(kmirror).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "no kmirror".to_owned())
}

/// The peers with their versions, with the one in Go if it is wanted and can be built.
pub(crate) fn peers(programs: &Programs, is_go_wanted: bool) -> Vec<String> {
    let franz_go = is_go_wanted.then(|| programs.franz_go.version()).flatten();
    let mut peers =
        vec![format!("MirrorMaker 1 of Kafka {MM1}"), format!("MirrorMaker 2 of Kafka {MM2}")];
    peers.extend(franz_go);
    peers
}

/// What the measurements share.
struct Bench {
    programs: Programs,
    source: End,
    destination: End,
    /// How many mirrors have been started: makes each one's names its own.
    turns: u32,
}

impl Bench {
    /// A report on nothing yet.
    fn report(&self, suite: Suite, plan: &[Planned]) -> Report {
        let is_wanted = plan.iter().any(|planned| planned.mirrors.contains(&Mirror::FranzGo));
        let peers = peers(&self.programs, is_wanted);
        Report {
            suite,
            machine: Machine::look(),
            source: self.source.version.clone(),
            destination: self.destination.version.clone(),
            kmirror: version(&self.programs.kmirror),
            peers,
            cases: Vec::new(),
        }
    }

    async fn measure(&mut self, planned: &Planned, effort: Effort) -> Result<Measured, Error> {
        let Planned { case, setup, .. } = planned;
        say::progress(&format!("== {}", planned.title()));
        let stored = self.fill(case, setup.streams).await?;
        let batch_bytes = stored.bytes / stored.batches.max(1);
        say::progress(&format!("{} batches of {batch_bytes} B each", stored.batches));
        self.warm_up(case, setup.streams, effort.warm_up).await?;
        let mut measured = Measured::new(planned, stored);
        let digest = match effort.verify {
            true => Some(self.source.digest(case, case.partitions.source).await?),
            false => None,
        };
        for round in 1..=effort.rounds {
            if effort.ceilings {
                self.ceilings(round, &mut measured).await?;
            }
            let mut mirrors = planned.mirrors.clone();
            let first = (round as usize - 1) % mirrors.len().max(1);
            mirrors.rotate_left(first);
            for mirror in mirrors {
                let digest = digest.as_ref().filter(|_| round == 1);
                match self.turn(mirror, &measured, digest).await {
                    Ok(outcome) => measured.outcomes.push(outcome),
                    Err(error) => measured.failed(mirror.name(), round, &error),
                }
            }
        }
        self.destination.remove(&[case.topic().into()]).await?;
        Ok(measured)
    }

    /// Makes the load at the source, unless it is there; what it came to.
    async fn fill(&self, case: &Case, streams: u16) -> Result<Stored, Error> {
        let (topic, partitions, threads) =
            (case.topic(), case.partitions.source, usize::from(streams));
        if self.source.has(&topic, partitions).await? {
            let stored = self.source.stored(&topic, partitions, threads).await?;
            if stored.records == case.records {
                return Ok(stored);
            }
        }
        if case.gaps {
            return compacted::make(&self.source, case, threads).await;
        }
        self.source.make(&topic, partitions, configs(case)).await?;
        let (bootstrap, case) = (self.source.bootstrap.clone(), case.clone());
        let fill = move || load::produce(&bootstrap, &case.topic(), (&case, partitions), threads);
        let filled = tokio::task::spawn_blocking(fill).await;
        let filled = filled.expect("invariant: producing the load does not panic")?;
        say::progress(&format!("filled the source at {:.0} MB/s", filled.megabytes_per_second));
        self.source.stored(&topic, partitions, threads).await
    }

    /// Removes the load from a source that was started here, to have room for the next one.
    async fn forget(&self, topic: &str) -> Result<(), Error> {
        if self.source.is_own() { self.source.remove(&[topic.into()]).await } else { Ok(()) }
    }

    /// Makes the topic of `case` anew at the destination.
    async fn make(&self, case: &Case) -> Result<(), Error> {
        self.destination.make(&case.topic(), case.partitions.destination, configs(case)).await
    }

    /// Fetches and produces the load some times before anything counts: brokers run several times
    /// faster once their Java virtual machines have compiled what this load needs, and whoever
    /// came first would pay for it.
    async fn warm_up(&self, case: &Case, streams: u16, times: u32) -> Result<(), Error> {
        for _ in 0..times {
            ceiling(Alone::Fetch, &self.source, case, streams).await?;
            self.make(case).await?;
            ceiling(Alone::Produce, &self.destination, case, streams).await?;
        }
        Ok(())
    }

    async fn ceilings(&self, round: u32, measured: &mut Measured) -> Result<(), Error> {
        for alone in [Alone::Fetch, Alone::Produce] {
            let end = match alone {
                Alone::Fetch => &self.source,
                Alone::Produce => {
                    self.make(&measured.case).await?;
                    &self.destination
                }
            };
            settle().await?;
            match ceiling(alone, end, &measured.case, measured.setup.streams).await {
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

    /// Lets one mirror copy everything, and compares the copy with `digest` if there is one.
    async fn turn(
        &mut self,
        mirror: Mirror,
        measured: &Measured,
        digest: Option<&Digest>,
    ) -> Result<Outcome, Error> {
        self.turns += 1;
        let unique = format!("bench{}x{}", std::process::id(), self.turns);
        let Measured { case, setup, stored, .. } = measured;
        self.make(case).await?;
        let temporary = std::env::temp_dir();
        let directory = tempfile::tempdir().map_err(Error::file("create", &temporary))?;
        let job = Job {
            source: &self.source.bootstrap,
            destination: &self.destination.bootstrap,
            topic: &case.topic(),
            codec: case.codec,
            load: Load::of(case),
            streams: setup.streams.into(),
            unique: &unique,
            directory: directory.path(),
        };
        // All files are written before anybody reads them.
        let commands = (0..setup.instances).map(|_| job.command(mirror, &self.programs));
        let commands = commands.collect::<Result<Vec<_>, _>>()?;
        settle().await?;
        let mut running = Vec::new();
        for (index, command) in commands.into_iter().enumerate() {
            let log = directory.path().join(format!("log-{index}"));
            running.push(Running::start(mirror, command, log)?);
        }
        let ends = (&self.source, &self.destination);
        let outcome = run::measure(running, (case, stored), ends).await;
        // MirrorMaker 2 leaves topics that carry its name for the source.
        self.destination.remove_named(&unique).await?;
        let outcome = outcome?;
        say::progress(&outcome.line());
        if let Some(digest) = digest {
            let copy = self.destination.digest(case, case.partitions.destination).await?;
            let in_place = case.keeps_partitions() && mirror.keeps_partitions();
            if let Some(difference) = digest.difference(&copy, in_place) {
                return Err(Error::Differs { name: mirror.name(), difference });
            }
        }
        Ok(outcome)
    }
}

/// What the configuration of a topic must say for the records of `case`.
fn configs(case: &Case) -> Configs<'static> {
    if case.is_large() { &[("max.message.bytes", "4194304")] } else { &[] }
}

impl Measured {
    fn failed(&mut self, name: &'static str, round: u32, error: &Error) {
        let (name, error) = (name.to_owned(), say::failure(error));
        self.failures.push(Failure { name, round, error });
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
