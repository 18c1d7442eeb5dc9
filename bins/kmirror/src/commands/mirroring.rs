//! What `mirror-maker` and `run` share: run the mirrors of a plan, show how far they are, end in
//! order.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use futures::future::join_all;
use kmirror::shutdown::{self, Trigger};
use kmirror::status::Totals;
use kmirror::{Ended, Mirror, Report};

use super::takeover;
use crate::exit::{Code, Failure};
use crate::http::{self, Named, Shared, parse_address};
use crate::plan::{Plan, engine};
use crate::signals::Signals;
use crate::{progress, runtime};

/// How a running mirror is watched.
#[derive(Debug, Clone, Args)]
pub(crate) struct Watch {
    /// Serve /metrics, /status, /live and /ready here; a port alone means loopback
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, help_heading = "Watching")]
    pub(super) http: Option<SocketAddr>,

    /// Neither a progress line nor a log line now and then
    #[arg(long, help_heading = "Watching")]
    pub(super) no_progress: bool,
}

/// Runs every flow of a plan until a signal, the end of the work, or a failure.
pub(crate) fn run(plan: &Plan, watch: &Watch) -> Result<(), Failure> {
    let address = match (&watch.http, &plan.http) {
        (Some(address), _) => Some(*address),
        (None, Some(text)) => {
            let parsed = parse_address(text);
            Some(parsed.map_err(|fault| Failure::usage(format!("http {fault}")))?)
        }
        (None, None) => None,
    };
    runtime::block_on(async {
        let mut signals = Signals::listen()?;
        let mirrors = tokio::select! {
            built = build(plan) => Arc::new(built?),
            // Nothing was mirrored yet, so there is nothing to drain.
            _ = signals.next() => return Ok(()),
        };
        let _http = match address {
            Some(address) => Some(http::serve(address, Arc::clone(&mirrors)).await?),
            None => None,
        };
        let reports = drive(&mirrors, signals, !watch.no_progress).await;
        conclude(&mirrors, reports)
    })
}

async fn build(plan: &Plan) -> Result<Vec<Named>, Failure> {
    let mut mirrors = Vec::with_capacity(plan.flows.len());
    for flow in &plan.flows {
        let config = engine::config(flow).await?;
        takeover::run(flow, &config).await?;
        let mirror = Mirror::build(config).await.map_err(|error| failed(&flow.name, error))?;
        mirrors.push(Named { name: flow.name.clone(), mirror });
    }
    Ok(mirrors)
}

/// Runs the mirrors side by side. When one fails the others drain, so that whoever supervises the
/// process sees it end and starts all of them again.
async fn drive(
    mirrors: &Shared,
    signals: Signals,
    with_progress: bool,
) -> Vec<Result<Report, kmirror::Error>> {
    let (trigger, _) = shutdown::channel();
    let running = join_all(mirrors.iter().map(|named| run_one(named, &trigger)));
    let sum = || sum(mirrors);
    let progress = async {
        if with_progress {
            progress::show(sum).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        reports = running => reports,
        () = signals.forward(trigger.clone()) => Vec::new(),
        () = progress => Vec::new(),
    }
}

async fn run_one(named: &Named, trigger: &Trigger) -> Result<Report, kmirror::Error> {
    let outcome = named.mirror.run(trigger.subscribe()).await;
    match &outcome {
        Ok(report) => {
            tracing::info!(
                flow = named.name,
                end = ?report.end,
                records = report.totals.records,
                bytes = report.totals.bytes,
                batches = report.totals.batches,
                paths = progress::paths(&report.totals),
                "mirror ended"
            );
        }
        Err(error) => {
            let error = crate::exit::chain(error);
            tracing::error!(flow = named.name, error, "mirror failed");
            trigger.drain();
        }
    }
    outcome
}

/// The sums of all flows.
pub(crate) fn sum(mirrors: &Shared) -> Totals {
    let mut sum = Totals::default();
    for named in mirrors.iter() {
        let status = Arc::clone(&named.mirror.status().borrow());
        sum.records += status.totals.records;
        sum.bytes += status.totals.bytes;
        sum.batches += status.totals.batches;
        sum.lag_records += status.totals.lag_records;
        sum.paths.extend(status.totals.paths.iter().cloned());
    }
    sum
}

fn conclude(mirrors: &Shared, reports: Vec<Result<Report, kmirror::Error>>) -> Result<(), Failure> {
    let mut halted = Vec::new();
    let mut blocked = Vec::new();
    let mut uncommitted = Vec::new();
    let mut unfinished = 0;
    let mut aborted = false;
    for (named, outcome) in mirrors.iter().zip(reports) {
        let report = outcome.map_err(|error| failed(&named.name, error))?;
        aborted |= report.end == Ended::Aborted;
        unfinished += report.unfinished.len();
        for (partition, offset) in report.uncommitted {
            uncommitted.push(format!("{partition} at {offset}"));
        }
        for (partition, halt) in report.halted {
            halted.push(format!("{partition}: {halt}"));
        }
        for (topic, why) in report.blocked {
            blocked.push(format!("{topic}: {why}"));
        }
    }
    if aborted {
        let text =
            format!("ended before the drain was complete: {unfinished} partitions unfinished");
        return Err(Failure::new(Code::Aborted, text)
            .with_help("nothing is lost; what was not committed is mirrored again next time"));
    }
    if !uncommitted.is_empty() {
        let (count, positions) = (uncommitted.len(), uncommitted.join("; "));
        let text = format!("{count} positions could not be committed at the end: {positions}");
        return Err(Failure::new(Code::Runtime, text).with_help(
            "nothing is lost; what is behind the last commit is mirrored again next time. The log \
             says what the source's group coordinator answered",
        ));
    }
    if !halted.is_empty() {
        let text = format!("{} partitions had stopped: {}", halted.len(), halted.join("; "));
        return Err(Failure::new(Code::Halted, text)
            .with_help("see docs/OPERATIONS.md for what each means and how to go on"));
    }
    if !blocked.is_empty() {
        let text =
            format!("{} topics could not be mirrored: {}", blocked.len(), blocked.join("; "));
        return Err(Failure::new(Code::Halted, text)
            .with_help("grant what they take, or leave them out of the selection"));
    }
    Ok(())
}

fn failed(flow: &str, error: kmirror::Error) -> Failure {
    let help = match &error {
        kmirror::Error::Config { .. } => return Failure::usage(error),
        kmirror::Error::SameCluster { .. } => "mirror to another cluster, or set prefix or suffix",
        kmirror::Error::ClusterChanged { .. } => {
            "check the addresses, or the cluster_id you pinned"
        }
        kmirror::Error::Denied { .. } => {
            "grant Read and Describe on the topics to whom this connects as, at the source"
        }
        kmirror::Error::Cluster { .. } => {
            "check the addresses, that this host reaches them (kmirror topics --list), and map \
             those that brokers advertise but this host cannot resolve"
        }
        _ => return Failure::runtime(Flow { flow: flow.to_owned(), source: error }),
    };
    Failure::runtime(Flow { flow: flow.to_owned(), source: error }).with_help(help)
}

#[derive(Debug, thiserror::Error)]
#[error("flow {flow}")]
struct Flow {
    flow: String,
    source: kmirror::Error,
}
