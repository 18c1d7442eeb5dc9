//! A mirror of many partitions that are mostly idle: what it costs, and how soon it notices what
//! little there is.

use std::time::Duration;

use kmirror_client::{TopicPartition, batch::Codec, clock};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    arguments::{IdleArguments, Trickle},
    pages::{self, Failure, Head},
    receiver::Receiver,
    sender::{Kind, Sender},
    stamp::{Order, Schedule},
    stand::{self, Launched, Stand},
    tally::{Delays, Tally},
    window::{self, Window},
};
use crate::{
    Error,
    arguments::Clusters,
    ends::End,
    mirrors::Mirror,
    process::{self, Usage},
    report::{median, number},
    say,
    settle::settle,
};

/// Partitions of each topic.
const TOPIC_PARTITIONS: i32 = 1000;
/// Brokers with so many partitions need more than those of the other measurements.
const BROKER_HEAP: &str = "2g";

/// What was measured once.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Without one, records are produced to and consumed from the destination.
    mirror: Option<Mirror>,
    partitions: i32,
    round: u32,
    /// From the start of the mirror to its first record, in seconds.
    first_record_seconds: Option<f64>,
    #[serde(flatten)]
    cost: Cost,
    #[serde(flatten)]
    delays: Delays,
}

/// What a mirror costs in the window.
#[derive(Debug, Serialize)]
struct Cost {
    /// Processor time in the window, in percent of a core.
    cpu_percent: Option<f64>,
    /// Memory at the end of the window, in MiB.
    resident_mib: Option<f64>,
    /// The most memory until then, in MiB.
    peak_mib: Option<f64>,
    /// Processor time of the source's brokers in the window, in percent of a core.
    source_cpu_percent: Option<f64>,
    /// Processor time of the destination's brokers in the window, in percent of a core.
    destination_cpu_percent: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    head: Head,
    rate: u32,
    record_bytes: usize,
    seconds: u32,
    outcomes: Vec<Outcome>,
    failures: Vec<Failure>,
}

/// Measures every mirror with every number of partitions and writes the report. Whether all of it
/// could be measured.
///
/// # Errors
/// When brokers, topics or programs are not to be had.
pub async fn compare(arguments: &IdleArguments) -> Result<bool, Error> {
    let directory = stand::directory(arguments.common.report.as_deref());
    let ends = clusters(&arguments.clusters).await?;
    let mut stand = Stand::new(ends, &arguments.common)?;
    let mut report = Report {
        head: Head::of(&stand, &arguments.mirrors),
        rate: arguments.rate,
        record_bytes: arguments.trickle.record_bytes,
        seconds: arguments.trickle.seconds,
        outcomes: Vec::new(),
        failures: Vec::new(),
    };
    for partitions in &arguments.partitions {
        let topics = Topics::make(&stand, *partitions).await?;
        let mut mirrors = vec![None];
        mirrors.extend(arguments.mirrors.iter().copied().map(Some));
        for round in 1..=arguments.common.rounds {
            for mirror in &mirrors {
                match turn(&mut stand, arguments, &topics, (*mirror, round)).await {
                    Ok(outcome) => report.outcomes.push(outcome),
                    Err(error) => {
                        let name = name(*mirror);
                        let name = format!("{name}, {partitions} partitions, round {round}");
                        report.failures.push(Failure::new(name, &error));
                    }
                }
                pages::write(&directory, "idle", (&report.markdown(), &report))?;
            }
            mirrors.rotate_left(1);
        }
        topics.remove(&stand).await?;
    }
    say::result(&report.markdown());
    say::progress(&format!("written: {}", directory.join("idle.md").display()));
    Ok(report.failures.is_empty() && report.outcomes.iter().all(|one| one.delays.missing == 0))
}

async fn clusters(clusters: &Clusters) -> Result<(End, End), Error> {
    let start = async |name, version, bootstrap: &Option<String>| match bootstrap {
        Some(bootstrap) => End::use_running(bootstrap).await,
        None => {
            let mut options = End::options(name, version);
            BROKER_HEAP.clone_into(&mut options.heap);
            End::start_with(&options, None).await
        }
    };
    let source = start("source", &clusters.source, &clusters.source_bootstrap).await?;
    let destination = &clusters.destination_bootstrap;
    Ok((source, start("destination", &clusters.destination, destination).await?))
}

/// The topics of one number of partitions, the same for all mirrors.
struct Topics {
    names: Vec<String>,
    partitions: i32,
    /// What finds them all.
    pattern: String,
}

impl Topics {
    async fn make(stand: &Stand, partitions: i32) -> Result<Self, Error> {
        let begin = clock::now();
        let prefix = format!("idle-{partitions}-{}", std::process::id());
        let topics = Self {
            names: sizes(partitions).map(|(index, _)| format!("{prefix}-{index}")).collect(),
            partitions,
            pattern: format!("{prefix}-.*"),
        };
        for (name, (_, size)) in topics.names.iter().zip(sizes(partitions)) {
            stand.source.make(name, size, &[]).await?;
            stand.destination.make(name, size, &[]).await?;
        }
        let seconds = begin.elapsed().as_secs();
        say::progress(&format!("made 2 x {partitions} partitions in {seconds} s"));
        Ok(topics)
    }

    async fn remove(&self, stand: &Stand) -> Result<(), Error> {
        let names: Vec<std::sync::Arc<str>> =
            self.names.iter().map(|name| name.as_str().into()).collect();
        stand.source.remove(&names).await?;
        stand.destination.remove(&names).await
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let topics = self.names.iter().zip(sizes(self.partitions));
        topics.flat_map(|(name, (_, size))| stand::partitions(name, size)).collect()
    }
}

/// The number and the partitions of each topic.
fn sizes(partitions: i32) -> impl Iterator<Item = (i32, i32)> {
    let topics = 0..partitions.div_euclid(TOPIC_PARTITIONS) + 1;
    let left = move |index: i32| partitions - index * TOPIC_PARTITIONS;
    topics
        .map(move |index| (index, left(index).min(TOPIC_PARTITIONS)))
        .filter(|(_, size)| *size > 0)
}

fn name(mirror: Option<Mirror>) -> &'static str {
    mirror.map_or("none (destination)", Mirror::name)
}

async fn turn(
    stand: &mut Stand,
    arguments: &IdleArguments,
    topics: &Topics,
    (mirror, round): (Option<Mirror>, u32),
) -> Result<Outcome, Error> {
    settle().await?;
    let (turn, unique) = stand.turn();
    let destination = &stand.destination;
    let from = if mirror.is_some() { &stand.source } else { destination };
    let Trickle { record_bytes, seconds, warm_up, patience } = arguments.trickle;
    let (rate, partitions) = (arguments.rate, topics.partitions.unsigned_abs());
    let schedule = Schedule { rate, warm_up, seconds, partitions, order: Order::Scattered };
    let epoch = clock::now();
    let tally = (Tally::new(turn, schedule.count()), epoch);
    let mut receiver = Receiver::start(&destination.bootstrap, topics.partitions(), tally);
    let kind = Kind { record_bytes, turn, epoch };
    let sender = Sender::connect(&from.bootstrap, topics.partitions(), kind).await?;
    // The sender learns of its partitions before the mirror's time is counted.
    sender.probe(&[0]).await?;
    let order = stand::Order {
        source: &stand.source.bootstrap,
        destination: &destination.bootstrap,
        topic: &topics.pattern,
        codec: Codec::None,
        unique: &unique,
    };
    let begin = clock::now();
    let mut launched = mirror.map(|mirror| stand.launch(mirror, order)).transpose()?;
    let patience = Duration::from_secs(patience.into());
    let opened = wait(&mut receiver, (mirror, launched.as_mut()), begin + patience).await;
    let cost = match opened {
        Ok(()) => run(sender, &mut receiver, (stand, launched.as_ref()), schedule).await,
        Err(error) => Err(error),
    };
    if let Some(Launched { running, .. }) = launched {
        running.end().await;
    }
    // MirrorMaker 2 leaves topics that carry its name for the source.
    destination.remove_named(&unique).await?;
    let cost = cost?;
    let first = receiver.look()?.first().filter(|_| mirror.is_some());
    let first = first.map(|first| first.saturating_sub(begin - epoch).as_secs_f64());
    let delays = receiver.look()?.delays(schedule.window());
    let partitions = topics.partitions;
    let outcome = Outcome { mirror, partitions, round, first_record_seconds: first, cost, delays };
    say::progress(&outcome.title());
    Ok(outcome)
}

/// Waits for the first record.
async fn wait(
    receiver: &mut Receiver,
    (mirror, mut launched): (Option<Mirror>, Option<&mut Launched>),
    deadline: Instant,
) -> Result<(), Error> {
    let begin = clock::now();
    while receiver.look()?.first().is_none() {
        if let Some(launched) = &mut launched {
            launched.running.ended(0)?;
        }
        if clock::now() > deadline {
            let log = launched.map(|launched| launched.running.tail()).unwrap_or_default();
            let seconds = begin.elapsed().as_secs();
            return Err(Error::Silent { name: name(mirror).to_owned(), seconds, log });
        }
        clock::sleep(POLL).await;
    }
    Ok(())
}

/// How often it is looked whether the first record has come.
const POLL: Duration = Duration::from_millis(20);

/// Sends as scheduled, and says what that cost in the window.
async fn run(
    sender: Sender,
    receiver: &mut Receiver,
    (stand, launched): (&Stand, Option<&Launched>),
    schedule: Schedule,
) -> Result<Cost, Error> {
    let look = || {
        let usage = launched.map(|launched| launched.running.usage()).transpose()?;
        let resident = launched.map(|launched| process::resident_bytes(launched.running.id()));
        Ok((usage, resident.transpose()?, stand.source.cpu(), stand.destination.cpu()))
    };
    let Window { before, after, .. } = window::measure(sender, receiver, schedule, look).await?;
    let percent = |before: Option<Duration>, after: Option<Duration>| {
        before.zip(after).map(|pair| window::percent_of_a_core(pair, &schedule))
    };
    let cpu = |usage: Option<Usage>| usage.map(|usage| usage.cpu);
    Ok(Cost {
        cpu_percent: percent(cpu(before.0), cpu(after.0)),
        resident_mib: after.1.map(mebibytes),
        peak_mib: after.0.map(|usage| mebibytes(usage.peak_memory_bytes)),
        source_cpu_percent: percent(before.2, after.2),
        destination_cpu_percent: percent(before.3, after.3),
    })
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Outcome {
    fn title(&self) -> String {
        let Self { mirror, partitions, first_record_seconds, cost, delays, .. } = self;
        format!(
            "{} with {partitions} partitions: first record after {} s, {} % of a core, {} MiB \
             (peak {}), p50 {} ms, p99 {} ms, {} missing",
            name(*mirror),
            number(*first_record_seconds, 2),
            number(cost.cpu_percent, 1),
            number(cost.resident_mib, 0),
            number(cost.peak_mib, 0),
            number(delays.p50_ms, 1),
            number(delays.p99_ms, 1),
            delays.missing
        )
    }
}

impl Report {
    fn markdown(&self) -> String {
        let Self { rate, record_bytes, seconds, .. } = self;
        let mut text = self.head.markdown("Many idle partitions");
        text.push_str(&format!(
            "\n{rate} records of {record_bytes} B in a second, each to some partition, over \
             {seconds} s. Processor time in % of a core, memory in MiB, how late records come in \
             ms; medians of the rounds.\n\n"
        ));
        let mut cases: Vec<(i32, Option<Mirror>)> =
            self.outcomes.iter().map(|one| (one.partitions, one.mirror)).collect();
        cases.sort_unstable();
        cases.dedup();
        let rows: Vec<Vec<String>> = cases.into_iter().map(|case| self.row(case)).collect();
        text.push_str(&pages::table(COLUMNS, &rows));
        text.push_str(&pages::failures(&self.failures));
        text
    }

    fn row(&self, case: (i32, Option<Mirror>)) -> Vec<String> {
        let is_of = |one: &&Outcome| (one.partitions, one.mirror) == case;
        let runs: Vec<&Outcome> = self.outcomes.iter().filter(is_of).collect();
        let of =
            |figure: fn(&Outcome) -> Option<f64>| median(runs.iter().filter_map(|one| figure(one)));
        vec![
            case.0.to_string(),
            name(case.1).to_owned(),
            number(of(|one| one.first_record_seconds), 2),
            number(of(|one| one.cost.cpu_percent), 1),
            number(of(|one| one.cost.resident_mib), 0),
            number(of(|one| one.cost.peak_mib), 0),
            number(of(|one| one.delays.p50_ms), 1),
            number(of(|one| one.delays.p99_ms), 1),
            number(of(|one| one.delays.max_ms), 1),
            runs.iter().map(|one| one.delays.missing).sum::<u64>().to_string(),
            number(of(|one| one.cost.source_cpu_percent), 1),
            number(of(|one| one.cost.destination_cpu_percent), 1),
            runs.len().to_string(),
        ]
    }
}

const COLUMNS: &[&str] = &[
    "partitions",
    "",
    "to first record s",
    "% of a core",
    "resident",
    "peak",
    "p50",
    "p99",
    "max",
    "missing",
    "source brokers %",
    "destination brokers %",
    "runs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_hold_all_partitions() {
        let of = |partitions| sizes(partitions).collect::<Vec<_>>();
        assert_eq!(of(1), [(0, 1)]);
        assert_eq!(of(1000), [(0, 1000)]);
        assert_eq!(of(2001), [(0, 1000), (1, 1000), (2, 1)]);
        assert_eq!(sizes(10_000).map(|(_, size)| size).sum::<i32>(), 10_000);
    }
}
