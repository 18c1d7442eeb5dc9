//! Throughput over a link with a long round trip between the mirror and the brokers of one side,
//! or of both.
//!
//! The brokers advertise the near end of the link, so that every client that asks them goes over
//! it; only the benchmark's own questions go straight to their ports.

use std::{net::Ipv4Addr, time::Duration};

use kmirror_client::clock;
use serde::Serialize;
use xtask::brokers::Version;

use super::{
    arguments::{LinkArguments, Side},
    pages::{self, Failure, Head},
    proxy::{Entrance, Proxy},
    stand::{self, Launched, Stand},
};
use crate::{
    Error,
    case::{Case, Partitions},
    ends::End,
    load,
    mirrors::Mirror,
    process::Usage,
    report::{median, number},
    say,
};

/// How often the destination is asked.
const POLL: Duration = Duration::from_millis(50);
/// How long nothing may arrive before a mirror counts as stuck.
const STALL: Duration = Duration::from_secs(60);
/// Threads that fill the source.
const LOAD_THREADS: usize = 2;

/// What was measured once.
#[derive(Debug, Serialize)]
struct Outcome {
    mirror: Mirror,
    partitions: i32,
    round: u32,
    /// From the start of the mirror to the first record, in seconds.
    first_record_seconds: f64,
    /// Logical megabytes in a second from then on.
    megabytes_per_second: f64,
    /// How much of the load was mirrored in the time given, in percent.
    mirrored_percent: f64,
    /// Seconds of processor time of the mirror for each logical gigabyte, from its start on.
    cpu_per_gigabyte: f64,
    /// The most memory of the mirror, in MiB.
    peak_mib: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    head: Head,
    round_trip_ms: u32,
    side: Side,
    load: String,
    outcomes: Vec<Outcome>,
    failures: Vec<Failure>,
}

/// Measures every mirror with every number of partitions and writes the report. Whether all of it
/// could be measured.
///
/// # Errors
/// When brokers, loads or programs are not to be had.
pub async fn compare(arguments: &LinkArguments) -> Result<bool, Error> {
    let directory = stand::directory(arguments.common.report.as_deref());
    let round_trip = Duration::from_millis(arguments.round_trip_ms.into());
    let side = arguments.side;
    let far = |is_far: bool| is_far.then_some(round_trip);
    let source = start("source", &arguments.source, far(side.is_before_source())).await?;
    let destination = far(side.is_before_destination());
    let destination = start("destination", &arguments.destination, destination).await?;
    let told = (source.told(), destination.told());
    let mut stand = Stand::new((source.end, destination.end), &arguments.common)?;
    let mut report = Report {
        head: Head::of(&stand, &arguments.mirrors),
        round_trip_ms: arguments.round_trip_ms,
        side,
        load: load_title(arguments),
        outcomes: Vec::new(),
        failures: Vec::new(),
    };
    for partitions in &arguments.partitions {
        let case = case(arguments, *partitions);
        fill(&stand, &case).await?;
        let mut mirrors = arguments.mirrors.clone();
        for round in 1..=arguments.common.rounds {
            for mirror in &mirrors {
                let told = (told.0.as_str(), told.1.as_str());
                let limit = Duration::from_secs(arguments.seconds.into());
                match turn(&mut stand, *mirror, &case, (told, limit)).await {
                    Ok(outcome) => report.outcomes.push(Outcome { round, ..outcome }),
                    Err(error) => {
                        let name = mirror.name();
                        let name = format!("{name}, {partitions} partitions, round {round}");
                        report.failures.push(Failure::new(name, &error));
                    }
                }
                pages::write(&directory, "link", (&report.markdown(), &report))?;
            }
            mirrors.rotate_left(1);
        }
    }
    say::result(&report.markdown());
    say::progress(&format!("written: {}", directory.join("link.md").display()));
    Ok(report.failures.is_empty())
}

fn load_title(arguments: &LinkArguments) -> String {
    let LinkArguments { records, record_bytes, codec, batch, .. } = arguments;
    format!("{records} records of {record_bytes} B, {codec}, batches of {batch}")
}

fn case(arguments: &LinkArguments, partitions: i32) -> Case {
    Case {
        records: arguments.records,
        record_bytes: arguments.record_bytes,
        keys: 0,
        codec: arguments.codec,
        batching: arguments.batch,
        partitions: Partitions { source: partitions, destination: partitions },
        gaps: false,
    }
}

/// A cluster, and the link before it if there is one.
struct Far {
    end: End,
    proxy: Option<Proxy>,
}

impl Far {
    /// The address that mirrors are told.
    fn told(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.end.bootstrap.clone(), Proxy::address)
    }
}

/// Starts a cluster, that far away.
async fn start(name: &str, version: &Version, round_trip: Option<Duration>) -> Result<Far, Error> {
    let Some(round_trip) = round_trip else {
        return Ok(Far { end: End::start(name, version).await?, proxy: None });
    };
    let entrance = Entrance::open()?;
    let port = entrance.port()?;
    let advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let options = End::options(name, version).with("advertised.listeners", &advertised);
    let end = End::start_with(&options, Some(port)).await?;
    let own = end.bootstrap.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let own = own.expect("invariant: a broker that was started here has one port");
    let proxy = entrance.lead_to((Ipv4Addr::LOCALHOST, own).into(), round_trip)?;
    Ok(Far { end, proxy: Some(proxy) })
}

/// Makes the load at the source. It may go over the link; nobody measures it.
async fn fill(stand: &Stand, case: &Case) -> Result<(), Error> {
    let (topic, partitions) = (case.topic(), case.partitions.source);
    stand.source.make(&topic, partitions, &[]).await?;
    let (bootstrap, case) = (stand.source.bootstrap.clone(), case.clone());
    let fill = move || load::produce(&bootstrap, &topic, (&case, partitions), LOAD_THREADS);
    let filled = tokio::task::spawn_blocking(fill).await;
    let filled = filled.expect("invariant: producing the load does not panic")?;
    say::progress(&format!("filled the source at {:.0} MB/s", filled.megabytes_per_second));
    Ok(())
}

async fn turn(
    stand: &mut Stand,
    mirror: Mirror,
    case: &Case,
    (told, limit): ((&str, &str), Duration),
) -> Result<Outcome, Error> {
    let (_, unique) = stand.turn();
    let topic = case.topic();
    stand.destination.make(&topic, case.partitions.destination, &[]).await?;
    let order = stand::Order {
        source: told.0,
        destination: told.1,
        topic: &topic,
        codec: case.codec,
        unique: &unique,
    };
    let begin = clock::now();
    let mut launched = stand.launch(mirror, order)?;
    let measured = measure(&stand.destination, &mut launched, (mirror, case), limit).await;
    launched.running.end().await;
    // MirrorMaker 2 leaves topics that carry its name for the source.
    stand.destination.remove_named(&unique).await?;
    let (first, last) = measured?;
    let seconds = last.at.duration_since(first.at).max(POLL).as_secs_f64();
    let gigabytes = |records: u64| records as f64 * case.record_bytes as f64 / 1e9;
    let outcome = Outcome {
        mirror,
        partitions: case.partitions.source,
        round: 0,
        first_record_seconds: first.at.duration_since(begin).as_secs_f64(),
        megabytes_per_second: gigabytes(last.records - first.records) * 1e3 / seconds,
        mirrored_percent: last.records as f64 / case.records as f64 * 100.0,
        cpu_per_gigabyte: last.usage.cpu.as_secs_f64() / gigabytes(last.records),
        peak_mib: last.usage.peak_memory_bytes as f64 / f64::from(1 << 20),
    };
    say::progress(&outcome.title());
    Ok(outcome)
}

/// How far a mirror had come.
#[derive(Clone, Copy)]
struct Moment {
    at: tokio::time::Instant,
    records: u64,
    usage: Usage,
}

/// Watches a mirror from its first record until the last, or for as long as `limit`.
async fn measure(
    destination: &End,
    launched: &mut Launched,
    (mirror, case): (Mirror, &Case),
    limit: Duration,
) -> Result<(Moment, Moment), Error> {
    let topic = case.topic();
    let mut progress = (0, clock::now());
    let mut first: Option<Moment> = None;
    loop {
        let records = destination.length(&topic, case.partitions.destination).await?;
        let at = clock::now();
        launched.running.ended(records)?;
        if records > progress.0 {
            progress = (records, at);
            let now = Moment { at, records, usage: launched.running.usage()? };
            let first = *first.get_or_insert(now);
            if records >= case.records || at.duration_since(first.at) > limit {
                return Ok((first, now));
            }
        }
        if at.duration_since(progress.1) > STALL {
            return Err(Error::Stalled {
                name: mirror.name().to_owned(),
                seconds: STALL.as_secs(),
                records,
                expected: case.records,
                log: launched.running.tail(),
            });
        }
        clock::sleep(POLL).await;
    }
}

impl Outcome {
    fn title(&self) -> String {
        let Self { mirror, partitions, megabytes_per_second, mirrored_percent, .. } = self;
        format!(
            "{}, {partitions} partitions: {megabytes_per_second:.2} MB/s, \
             {mirrored_percent:.0} % mirrored, first record after {:.2} s",
            mirror.name(),
            self.first_record_seconds
        )
    }
}

impl Report {
    fn markdown(&self) -> String {
        let Self { round_trip_ms, side, load, .. } = self;
        let mut text = self.head.markdown("Over a long link");
        text.push_str(&format!(
            "\nA round trip of {round_trip_ms} ms {}; {load}. MB are decimal and count values, \
             from the first record at the destination on; medians of the rounds.\n\n",
            side.title()
        ));
        let mut cases: Vec<(i32, Mirror)> =
            self.outcomes.iter().map(|one| (one.partitions, one.mirror)).collect();
        cases.sort_unstable();
        cases.dedup();
        let rows: Vec<Vec<String>> = cases.into_iter().map(|case| self.row(case)).collect();
        text.push_str(&pages::table(COLUMNS, &rows));
        text.push_str(&pages::failures(&self.failures));
        text
    }

    /// The median of a figure over the rounds.
    fn of(&self, case: (i32, Mirror), figure: fn(&Outcome) -> f64) -> Option<f64> {
        let runs = self.outcomes.iter().filter(|one| (one.partitions, one.mirror) == case);
        median(runs.map(figure))
    }

    fn row(&self, case: (i32, Mirror)) -> Vec<String> {
        let rate = self.of(case, |one| one.megabytes_per_second);
        let other = self.of((case.0, Mirror::Mm2), |one| one.megabytes_per_second);
        let times = rate.zip(other).map(|(rate, other)| rate / other);
        let runs = self.outcomes.iter().filter(|one| (one.partitions, one.mirror) == case);
        vec![
            case.0.to_string(),
            case.1.name().to_owned(),
            number(rate, 2),
            number(times, 1),
            number(self.of(case, |one| one.first_record_seconds), 2),
            number(self.of(case, |one| one.cpu_per_gigabyte), 2),
            number(self.of(case, |one| one.peak_mib), 0),
            number(self.of(case, |one| one.mirrored_percent), 0),
            runs.count().to_string(),
        ]
    }
}

const COLUMNS: &[&str] = &[
    "partitions",
    "",
    "MB/s",
    "times mm2",
    "to first record s",
    "CPU s/GB",
    "peak MiB",
    "mirrored %",
    "runs",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_with_mirror_maker_2_as_it_comes() {
        let outcome = |mirror, rate| Outcome {
            mirror,
            partitions: 1,
            round: 1,
            first_record_seconds: 1.0,
            megabytes_per_second: rate,
            mirrored_percent: 100.0,
            cpu_per_gigabyte: 0.5,
            peak_mib: 40.0,
        };
        let report = Report {
            head: Head::unknown(),
            round_trip_ms: 50,
            side: Side::Source,
            load: "a load".to_owned(),
            outcomes: vec![
                outcome(Mirror::Mm2, 2.0),
                outcome(Mirror::Kmirror, 90.0),
                outcome(Mirror::Kmirror, 110.0),
            ],
            failures: Vec::new(),
        };
        let text = report.markdown();
        assert!(text.contains("| 1 | kmirror | 100.00 | 50.0 | 1.00 | 0.50 | 40 | 100 | 2 |"));
        assert!(text.contains("| 1 | mm2 | 2.00 | 1.0 |"), "{text}");
    }
}
