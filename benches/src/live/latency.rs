//! End-to-end latency at a fixed, modest rate: from when a record is due at its producer to when a
//! waiting consumer has it, through each mirror and without any.

use std::time::Duration;

use kmirror_client::{batch::Codec, clock};
use serde::Serialize;

use super::{
    arguments::{LatencyArguments, Trickle},
    pages::{self, Failure, Head},
    receiver::Receiver,
    sender::{Kind, Sender},
    stamp::{Order, Schedule},
    stand::{self, Launched, Stand},
    tally::{Delays, Tally, milliseconds},
    window::{self, Window},
};
use crate::{
    Error, matrix,
    mirrors::Mirror,
    report::{median, number},
    say,
};

/// The way that records take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// Produced to and consumed from the source.
    Source,
    /// Produced to and consumed from the destination.
    Destination,
    /// Produced to the source, consumed from the destination.
    Through(Mirror),
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "none (source)",
            Self::Destination => "none (destination)",
            Self::Through(mirror) => mirror.name(),
        }
    }
}

/// What was measured once.
#[derive(Debug, Serialize)]
struct Outcome {
    way: Way,
    round: u32,
    #[serde(flatten)]
    delays: Delays,
    /// Processor time of the mirror in the window, in percent of a core.
    mirror_cpu_percent: Option<f64>,
    /// How late the sender itself was with 99 of 100 records, in milliseconds: noise.
    sender_p99_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    head: Head,
    rate: u32,
    record_bytes: usize,
    partitions: i32,
    seconds: u32,
    outcomes: Vec<Outcome>,
    failures: Vec<Failure>,
}

/// Measures every way in turns and writes the report. Whether all of it could be measured.
///
/// # Errors
/// When brokers or programs are not to be had.
pub async fn compare(arguments: &LatencyArguments) -> Result<bool, Error> {
    let directory = stand::directory(arguments.common.report.as_deref());
    let mut stand = Stand::new(matrix::clusters(&arguments.clusters).await?, &arguments.common)?;
    let mut report = Report {
        head: Head::of(&stand, &arguments.mirrors),
        rate: arguments.rate,
        record_bytes: arguments.trickle.record_bytes,
        partitions: arguments.partitions,
        seconds: arguments.trickle.seconds,
        outcomes: Vec::new(),
        failures: Vec::new(),
    };
    let mut ways = vec![Way::Source, Way::Destination];
    ways.extend(arguments.mirrors.iter().copied().map(Way::Through));
    // A round that does not count: fresh brokers are slow until their Java virtual machines have
    // compiled what each way needs, and that goes on beside whatever is measured meanwhile.
    for way in &ways {
        if let Err(error) = turn(&mut stand, arguments, *way, 0).await {
            say::progress(&format!("{} before the rounds: {error}", way.name()));
        }
    }
    for round in 1..=arguments.common.rounds {
        for way in &ways {
            match turn(&mut stand, arguments, *way, round).await {
                Ok(outcome) => report.outcomes.push(outcome),
                Err(error) => {
                    let name = format!("{} in round {round}", way.name());
                    report.failures.push(Failure::new(name, &error));
                }
            }
        }
        ways.rotate_left(1);
        pages::write(&directory, "latency", (&report.markdown(), &report))?;
    }
    say::result(&report.markdown());
    say::progress(&format!("written: {}", directory.join("latency.md").display()));
    Ok(report.failures.is_empty() && report.outcomes.iter().all(|one| one.delays.missing == 0))
}

async fn turn(
    stand: &mut Stand,
    arguments: &LatencyArguments,
    way: Way,
    round: u32,
) -> Result<Outcome, Error> {
    let (turn, unique) = stand.turn();
    let (topic, count) = (format!("latency-{unique}"), arguments.partitions);
    let (from, to) = match way {
        Way::Source => (&stand.source, &stand.source),
        Way::Destination => (&stand.destination, &stand.destination),
        Way::Through(_) => (&stand.source, &stand.destination),
    };
    from.make(&topic, count, &[]).await?;
    to.make(&topic, count, &[]).await?;
    let Trickle { record_bytes, seconds, warm_up, patience } = arguments.trickle;
    let (rate, partitions) = (arguments.rate, count.unsigned_abs());
    let schedule = Schedule { rate, warm_up, seconds, partitions, order: Order::Turns };
    let epoch = clock::now();
    let tally = (Tally::new(turn, schedule.count()), epoch);
    let mut receiver = Receiver::start(&to.bootstrap, stand::partitions(&topic, count), tally);
    let mut mirror = match way {
        Way::Through(mirror) => {
            let order = stand::Order {
                source: &from.bootstrap,
                destination: &to.bootstrap,
                topic: &topic,
                codec: Codec::None,
                unique: &unique,
            };
            Some(stand.launch(mirror, order)?)
        }
        Way::Source | Way::Destination => None,
    };
    let kind = Kind { record_bytes, turn, epoch };
    let sender = Sender::connect(&from.bootstrap, stand::partitions(&topic, count), kind).await?;
    let patience = Duration::from_secs(patience.into());
    open(&sender, (&mut receiver, count), (way, mirror.as_mut()), patience).await?;
    let usage = || mirror.as_ref().map(|mirror| mirror.running.usage()).transpose();
    let measured = window::measure(sender, &mut receiver, schedule, usage).await;
    if let Some(Launched { mut running, .. }) = mirror {
        running.ended(0)?;
        running.end().await;
    }
    from.remove(&[topic.as_str().into()]).await?;
    to.remove(&[topic.as_str().into()]).await?;
    // MirrorMaker 2 leaves topics that carry its name for the source.
    to.remove_named(&unique).await?;
    let Window { before, after, lateness } = measured?;
    let pair = before.zip(after).map(|(before, after)| (before.cpu, after.cpu));
    let mirror_cpu_percent = pair.map(|pair| window::percent_of_a_core(pair, &schedule));
    let delays = receiver.look()?.delays(schedule.window());
    let sender_p99_ms = milliseconds(Some(lateness));
    let outcome = Outcome { way, round, delays, mirror_cpu_percent, sender_p99_ms };
    say::progress(&outcome.title());
    Ok(outcome)
}

/// Waits until a probe has come through every partition: nothing is measured before all is ready.
async fn open(
    sender: &Sender,
    (receiver, partitions): (&mut Receiver, i32),
    (way, mut mirror): (Way, Option<&mut Launched>),
    patience: Duration,
) -> Result<(), Error> {
    let deadline = clock::now() + patience;
    let all: Vec<usize> = (0..partitions.unsigned_abs() as usize).collect();
    while receiver.look()?.open() < all.len() {
        if let Some(mirror) = &mut mirror {
            mirror.running.ended(0)?;
        }
        if clock::now() > deadline {
            let log = mirror.map(|mirror| mirror.running.tail()).unwrap_or_default();
            let (name, seconds) = (way.name().to_owned(), patience.as_secs());
            return Err(Error::Silent { name, seconds, log });
        }
        sender.probe(&all).await?;
        clock::sleep(PROBE_EVERY).await;
    }
    Ok(())
}

/// How often it is tried whether the way is open.
const PROBE_EVERY: Duration = Duration::from_millis(200);

impl Outcome {
    fn title(&self) -> String {
        let Self { way, delays, mirror_cpu_percent, .. } = self;
        format!(
            "{}: p50 {} ms, p99 {} ms, max {} ms, {} missing, {} % of a core",
            way.name(),
            number(delays.p50_ms, 2),
            number(delays.p99_ms, 2),
            number(delays.max_ms, 1),
            delays.missing,
            number(*mirror_cpu_percent, 1)
        )
    }
}

impl Report {
    fn markdown(&self) -> String {
        let Self { rate, record_bytes, partitions, seconds, .. } = self;
        let mut text = self.head.markdown("End-to-end latency");
        text.push_str(&format!(
            "\n{rate} records of {record_bytes} B in a second over {partitions} partitions, one \
             in each request, for {seconds} s. From when a record is due to when a waiting \
             consumer has it, in ms; medians of the rounds.\n\n"
        ));
        let mut ways: Vec<Way> = self.outcomes.iter().map(|one| one.way).collect();
        ways.sort_unstable();
        ways.dedup();
        let rows: Vec<Vec<String>> = ways.into_iter().map(|way| self.row(way)).collect();
        text.push_str(&pages::table(COLUMNS, &rows));
        text.push_str(&pages::failures(&self.failures));
        text
    }

    fn row(&self, way: Way) -> Vec<String> {
        let runs: Vec<&Outcome> = self.outcomes.iter().filter(|one| one.way == way).collect();
        let of =
            |figure: fn(&Outcome) -> Option<f64>| median(runs.iter().filter_map(|one| figure(one)));
        let sum = |figure: fn(&Delays) -> u64| {
            runs.iter().map(|one| figure(&one.delays)).sum::<u64>().to_string()
        };
        vec![
            way.name().to_owned(),
            number(of(|one| one.delays.p50_ms), 2),
            number(of(|one| one.delays.p99_ms), 2),
            number(of(|one| one.delays.p999_ms), 2),
            number(of(|one| one.delays.max_ms), 1),
            sum(|delays| delays.records),
            sum(|delays| delays.missing),
            sum(|delays| delays.twice),
            number(of(|one| one.mirror_cpu_percent), 1),
            number(of(|one| one.sender_p99_ms), 2),
            runs.len().to_string(),
        ]
    }
}

const COLUMNS: &[&str] = &[
    "",
    "p50",
    "p99",
    "p99.9",
    "max",
    "records",
    "missing",
    "twice",
    "mirror's % of a core",
    "sender's own p99",
    "runs",
];
