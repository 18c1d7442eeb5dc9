//! `kmirror demo`: two clusters in this process, a load on one, a mirror to the other, and a check
//! of every record at the end. No broker, no network, no file.

mod load;
mod pipe;
mod verify;

use std::cell::Cell;
use std::time::Duration;

use clap::Args as ClapArgs;
use kmirror::config::Group;
use kmirror::policy::filter::{Pattern, Selection};
use kmirror::shutdown::{self, Trigger};
use kmirror::{Config, Mirror, Report};
use kmirror_client::clock;
use kmirror_fake::Cluster;

use super::mirroring::Watch;
use crate::exit::{Code, Failure};
use crate::http;
use crate::plan::units::{parse_bytes, parse_duration};
use crate::signals::Signals;
use crate::watched::{Shared, Watched};
use crate::{output, progress, runtime};
use load::Load;

/// Watch a mirror at work, without any cluster: everything runs in this process
#[derive(Debug, ClapArgs)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// How many records are written to the source
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 60_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000)
    )]
    records: u64,

    /// The size of a record's value
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = parse_bytes)]
    record_size: u64,

    /// Streams of the mirror
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    streams: u16,

    /// How long the demonstration may take
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_duration)]
    timeout: Duration,

    /// Stop and start the brokers of both clusters, one after the other, all the while
    #[arg(long)]
    faults: bool,

    /// Lose one record at the destination, to see the check find it
    #[arg(long)]
    tamper: bool,

    #[command(flatten)]
    watch: Watch,
}

const EXAMPLES: &str = "\
Examples:
  kmirror demo
  kmirror demo --records 500000 --streams 4
  kmirror demo --faults
  kmirror demo --tamper; echo $?      # the check fails: exit code 3";

/// Runs the demonstration.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    runtime::block_on(async {
        let mut signals = Signals::listen()?;
        let topics = load::TOPICS.map(|topic| (topic.name, topic.partitions));
        let source = pipe::start("demo-source", &topics).await?;
        // One topic has fewer partitions at the destination, so its records go by their keys.
        let destination = pipe::start("demo-destination", &[("payments", 3)]).await?;
        output::line("source       3 brokers in this process, topics orders, clicks and payments")?;
        output::line("destination  3 brokers in this process")?;
        let mirror = tokio::select! {
            built = build(args, &source, &destination) => built?,
            _ = signals.next() => return Ok(()),
        };
        let stops = Cell::new(0);
        let report = tokio::select! {
            ended = mirror_all(args, signals, &source, mirror) => ended?,
            failure = stop_brokers(args.faults, [&source, &destination], &stops) => {
                return Err(failure);
            }
        };
        tell(&report)?;
        if args.faults {
            output::line(format_args!("brokers stopped meanwhile: {}", stops.get()))?;
        }
        if args.tamper {
            pipe::lose_a_record(&destination)?;
        }
        conclude(&source, &destination)
    })
}

async fn build(args: &Args, source: &Cluster, destination: &Cluster) -> Result<Shared, Failure> {
    let everything = Pattern::try_new(".*").map_err(Failure::runtime)?;
    let clients = (pipe::client(source)?, pipe::client(destination)?);
    let mut config = Config::new(clients.0, clients.1, Selection::new(everything))
        .with_group(Group::new("demo"))
        .with_streams(args.streams.into());
    config.commit_interval = Duration::from_secs(1);
    let mirror = Mirror::build(config).await.map_err(Failure::runtime)?;
    let watched = Watched::new("demo");
    watched.begin(mirror);
    Ok(Shared::new(vec![watched]))
}

/// Stops and starts one broker after the other for ever; gives back only why that failed.
async fn stop_brokers(wanted: bool, clusters: [&Cluster; 2], stops: &Cell<u32>) -> Failure {
    loop {
        for broker in 1..=3 {
            for cluster in clusters {
                if !wanted {
                    return std::future::pending().await;
                }
                clock::sleep(BROKER_UP).await;
                if let Err(error) = cluster.stop_broker(broker) {
                    return Failure::runtime(error);
                }
                stops.set(stops.get() + 1);
                clock::sleep(BROKER_DOWN).await;
                if let Err(error) = cluster.start_broker(broker).await {
                    return Failure::runtime(error);
                }
            }
        }
    }
}

/// How long all brokers run between two stops.
const BROKER_UP: Duration = Duration::from_millis(200);

/// How long a stopped broker stays away.
const BROKER_DOWN: Duration = Duration::from_millis(300);

async fn mirror_all(
    args: &Args,
    signals: Signals,
    source: &Cluster,
    mirrors: Shared,
) -> Result<Report, Failure> {
    let _http = match args.watch.http {
        Some(address) => Some(http::serve(address, Shared::clone(&mirrors)).await?),
        None => None,
    };
    let (trigger, shutdown) = shutdown::channel();
    let mirror = mirrors[0].mirror().expect("invariant: it was given its mirror");
    let work = async {
        let load = Load { records: args.records, record_bytes: args.record_size };
        let outcome = match load.write(pipe::client(source)?).await {
            Ok(()) => caught_up(mirror, &trigger, args.records).await,
            Err(failure) => Err(failure),
        };
        trigger.drain();
        outcome
    };
    let bounded = async {
        tokio::time::timeout(args.timeout, work).await.unwrap_or_else(|_| {
            trigger.drain();
            let text = format!("the records were not mirrored within {:?}", args.timeout);
            Err(Failure::runtime(text))
        })
    };
    let running = async { tokio::join!(mirror.run(shutdown), bounded) };
    let shown = async {
        if !args.watch.no_progress {
            progress::show(|| mirror.status().borrow().totals.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    let (report, worked) = tokio::select! {
        ended = running => ended,
        () = signals.forward(trigger.clone()) => unreachable!("signals are forwarded for ever"),
        () = shown => unreachable!("progress is shown for ever"),
    };
    let report = report.map_err(Failure::runtime)?;
    worked?;
    Ok(report)
}

/// Waits until as many records as were written have been acknowledged, or somebody asks for an end.
async fn caught_up(mirror: &Mirror, trigger: &Trigger, records: u64) -> Result<(), Failure> {
    let mut status = mirror.status();
    while status.borrow_and_update().totals.records < records {
        if trigger.phase() != shutdown::Phase::Running {
            return Err(Failure::new(Code::Aborted, "stopped before every record was mirrored"));
        }
        // The status may stand still for good when a partition has halted; the time-out ends that.
        let _ = tokio::time::timeout(LOOK_EVERY, status.changed()).await;
    }
    Ok(())
}

const LOOK_EVERY: Duration = Duration::from_millis(100);

fn tell(report: &Report) -> Result<(), Failure> {
    let totals = &report.totals;
    output::line(format_args!(
        "mirrored {} records in {} batches, {:.1} MB as compressed",
        totals.records,
        totals.batches,
        totals.bytes as f64 / 1e6
    ))?;
    for made in &totals.paths {
        let (path, reason) = (made.path, made.reason);
        output::line(format_args!("  {:>7} batches  {path} ({reason})", made.batches))?;
    }
    Ok(())
}

fn conclude(source: &Cluster, destination: &Cluster) -> Result<(), Failure> {
    let started = clock::now();
    let found = verify::compare(source, destination);
    if let Some(difference) = found.differences.first() {
        let text = format!("{} differences; the first: {difference}", found.differences.len());
        return Err(Failure::new(Code::Verification, text));
    }
    output::line(format_args!(
        "verified {} records in {:.1} s: each is at the destination once, in order, with its \
         key, value, headers and timestamp",
        found.records,
        (clock::now() - started).as_secs_f64()
    ))
}
