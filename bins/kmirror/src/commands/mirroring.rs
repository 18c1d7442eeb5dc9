//! What `mirror-maker` and `run` share: run the mirrors of a plan, show how far they are, end in
//! order.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use futures::future::join_all;
use kmirror::shutdown::{self, Trigger};
use kmirror::{Ended, Report};

use super::connecting::{connect, failed};
use crate::exit::{Code, Failure};
use crate::http::{self, parse_address};
use crate::plan::{Flow, Plan, engine};
use crate::signals::Signals;
use crate::watched::{Shared, Watched, sum};
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
    // A setting that is wrong in one flow is told before any other flow begins.
    plan.flows.iter().try_for_each(engine::check)?;
    runtime::block_on(async {
        let signals = Signals::listen()?;
        let flows: Shared =
            Arc::new(plan.flows.iter().map(|flow| Watched::new(&flow.name)).collect());
        let _http = match address {
            Some(address) => Some(http::serve(address, Arc::clone(&flows)).await?),
            None => None,
        };
        let outcomes = drive(plan, &flows, signals, !watch.no_progress).await;
        conclude(plan, outcomes)
    })
}

/// How a flow ended; without a report if it was asked to before its clusters were reached.
type Outcome = Result<Option<Report>, Failure>;

/// Runs the flows side by side: none waits for another's clusters. When one fails the others drain,
/// so that whoever supervises the process sees it end and starts all of them again.
async fn drive(plan: &Plan, flows: &Shared, signals: Signals, with_progress: bool) -> Vec<Outcome> {
    let (trigger, _) = shutdown::channel();
    let each = plan.flows.iter().zip(flows.iter());
    let running = join_all(each.map(|(flow, watched)| run_one(flow, watched, &trigger)));
    let progress = async {
        if with_progress {
            progress::show(|| sum(flows)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcomes = running => outcomes,
        () = signals.forward(trigger.clone()) => Vec::new(),
        () = progress => Vec::new(),
    }
}

async fn run_one(flow: &Flow, watched: &Watched, trigger: &Trigger) -> Outcome {
    let outcome = connect_and_run(flow, watched, trigger).await;
    match &outcome {
        Ok(Some(report)) => tracing::info!(
            flow = flow.name,
            end = ?report.end,
            is_clean = report.is_clean(),
            records = report.totals.records,
            bytes = report.totals.bytes,
            batches = report.totals.batches,
            paths = progress::paths(&report.totals),
            "mirror ended"
        ),
        Ok(None) => tracing::info!(flow = flow.name, "mirror ended before it began"),
        Err(failure) => {
            tracing::error!(flow = flow.name, error = failure.text(), "mirror failed");
            trigger.drain();
        }
    }
    outcome.map_err(|failure| failure.within(format!("flow {}", flow.name)))
}

async fn connect_and_run(flow: &Flow, watched: &Watched, trigger: &Trigger) -> Outcome {
    let Some(mirror) = connect(flow, watched, trigger.subscribe()).await? else { return Ok(None) };
    let outcome = watched.begin(mirror).run(trigger.subscribe()).await;
    outcome.map(Some).map_err(|error| failed(flow, error))
}

/// What all flows came to together: everything that is not as it should be is said, and the code is
/// the one of the worst.
fn conclude(plan: &Plan, outcomes: Vec<Outcome>) -> Result<(), Failure> {
    let several = plan.flows.len() > 1;
    let mut failures = Vec::new();
    for (flow, outcome) in plan.flows.iter().zip(outcomes) {
        let place = if several { format!("flow {}: ", flow.name) } else { String::new() };
        let wants_all = flow.ends_once_caught_up();
        match outcome {
            Ok(Some(report)) => failures.extend(faults(&report, wants_all, &place)),
            Ok(None) if wants_all => failures.push(not_caught_up(&place)),
            Ok(None) => {}
            Err(failure) => failures.push(failure),
        }
    }
    Failure::all(failures)
}

/// What is wrong about an end, if anything.
fn faults(report: &Report, wants_all: bool, place: &str) -> Vec<Failure> {
    let mut faults = Vec::new();
    if report.end == Ended::Aborted {
        let count = report.unfinished.len();
        let text =
            format!("{place}ended before the drain was complete: {count} partitions unfinished");
        let help = "nothing is lost; what was not committed is mirrored again next time";
        faults.push(Failure::new(Code::Aborted, text).with_help(help));
    } else if !report.uncommitted.is_empty() {
        let positions =
            report.uncommitted.iter().map(|(partition, offset)| format!("{partition} at {offset}"));
        let positions: Vec<_> = positions.collect();
        let (count, positions) = (positions.len(), positions.join("; "));
        let text =
            format!("{place}{count} positions could not be committed at the end: {positions}");
        let help = "nothing is lost; what is behind the last commit is mirrored again next time. \
                    The log says what the source's group coordinator answered";
        faults.push(Failure::new(Code::Runtime, text).with_help(help));
    }
    if !report.halted.is_empty() {
        let halted = report.halted.iter().map(|(partition, halt)| format!("{partition}: {halt}"));
        let halted: Vec<_> = halted.collect();
        let text = format!("{place}{} partitions had stopped: {}", halted.len(), halted.join("; "));
        let help = "see docs/OPERATIONS.md for what each means and how to go on";
        faults.push(Failure::new(Code::Incomplete, text).with_help(help));
    }
    if !report.blocked.is_empty() {
        let blocked: Vec<_> =
            report.blocked.iter().map(|(topic, why)| format!("{topic}: {why}")).collect();
        let count = blocked.len();
        let text = format!("{place}{count} topics could not be mirrored: {}", blocked.join("; "));
        let help = "grant what they take, or leave them out of the selection";
        faults.push(Failure::new(Code::Incomplete, text).with_help(help));
    }
    if wants_all && report.end == Ended::Drained {
        faults.push(not_caught_up(place));
    }
    if faults.is_empty() && !report.is_clean() {
        faults.push(Failure::new(Code::Incomplete, format!("{place}not everything was finished")));
    }
    faults
}

fn not_caught_up(place: &str) -> Failure {
    let text = format!("{place}ended before everything that was there at the start was mirrored");
    Failure::new(Code::Incomplete, text).with_help("start it again to mirror the rest")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(name: &str, until_caught_up: bool) -> Flow {
        let text = format!(
            "[clusters.a]\nbootstrap = \"a:1\"\n[clusters.b]\nbootstrap = \"b:1\"\n[[flows]]\n\
             name = \"{name}\"\nsource = \"a\"\ndestination = \"b\"\ntopics = \"t\"\n\
             until_caught_up = {until_caught_up}\n"
        );
        let document = crate::plan::document::read("k.toml", &text);
        crate::plan::native::resolve_document(document).flows.remove(0)
    }

    fn plan(until_caught_up: bool) -> Plan {
        let flows = vec![flow("one", until_caught_up), flow("two", until_caught_up)];
        Plan { flows, ..Plan::default() }
    }

    fn stopped(text: &str) -> Outcome {
        Err(Failure::new(Code::Incomplete, text.to_owned()))
    }

    #[test]
    fn every_flow_is_spoken_of_and_the_worst_gives_the_code() {
        let failed = Err(Failure::runtime("the source is gone").with_help("bring it back"));
        let outcomes = vec![stopped("orders-0 stopped"), failed];
        let failure = conclude(&plan(false), outcomes).unwrap_err();
        assert_eq!(failure.code(), Code::Runtime);
        assert_eq!(failure.text(), "orders-0 stopped\nerror: the source is gone");
    }

    #[test]
    fn an_end_before_everything_was_copied_is_no_success() {
        assert!(conclude(&plan(false), vec![Ok(None), Ok(None)]).is_ok());
        let failure = conclude(&plan(true), vec![Ok(None), Ok(None)]).unwrap_err();
        assert_eq!(failure.code(), Code::Incomplete);
        assert!(failure.text().starts_with("flow one: ended before everything"));
    }
}
