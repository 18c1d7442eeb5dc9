//! The start of a flow: until both of its clusters answer it tries again, says so every few
//! seconds, and ends at a signal or at the bound that somebody set.
//!
//! Only what may pass is waited for. A name that cannot be resolved may be: the network of a host
//! that has just started often comes later.

use std::time::Duration;

use kmirror::shutdown::{Phase, Shutdown};
use kmirror::{Error, Mirror};
use kmirror_client::clock;

use super::takeover;
use crate::exit::{Code, Failure};
use crate::plan::units::show_duration;
use crate::plan::{Flow, engine};
use crate::watched::Watched;

/// The pause between two tries.
const RETRY: Duration = Duration::from_secs(1);

/// When it is said for the first time that a cluster is waited for.
const TELL_FIRST: Duration = Duration::from_secs(1);

/// How often it is said again.
const TELL: Duration = Duration::from_secs(5);

/// Reaches both clusters of a flow; none if the end was asked for meanwhile. Nothing was mirrored
/// then, so there is nothing to drain.
pub(super) async fn connect(
    flow: &Flow,
    watched: &Watched,
    mut shutdown: Shutdown,
) -> Result<Option<Mirror>, Failure> {
    tokio::select! { biased;
        () = shutdown.reached(Phase::Draining) => Ok(None),
        reached = try_for_long(flow, watched) => reached.map(Some),
        failure = give_up(flow, watched) => Err(failure),
        () = tell(flow, watched) => Ok(None),
    }
}

async fn try_for_long(flow: &Flow, watched: &Watched) -> Result<Mirror, Failure> {
    loop {
        match Box::pin(try_once(flow)).await {
            Err(failure) if failure.may_pass() => watched.set_back(failure.text()),
            outcome => return outcome,
        }
        clock::sleep(RETRY).await;
    }
}

async fn try_once(flow: &Flow) -> Result<Mirror, Failure> {
    let config = engine::config(flow).await?;
    takeover::run(flow, &config).await?;
    Mirror::build(config).await.map_err(|error| failed(flow, error))
}

/// Waits for the bound, if there is one.
async fn give_up(flow: &Flow, watched: &Watched) -> Failure {
    let Some(bound) = flow.connect_timeout() else { return std::future::pending().await };
    clock::sleep(bound).await;
    let bound = show_duration(bound);
    Failure::runtime(format!("not connected within {bound}: {}", watched.setback()))
        .with_help(REACH)
}

/// Says for ever what is waited for.
async fn tell(flow: &Flow, watched: &Watched) {
    let began = clock::now();
    let mut pause = TELL_FIRST;
    loop {
        clock::sleep(pause).await;
        pause = TELL;
        tracing::warn!(
            flow = flow.name,
            source = flow.source.place.shown(),
            destination = flow.destination.place.shown(),
            waited_seconds = (clock::now() - began).as_secs(),
            error = watched.setback(),
            help = REACH,
            "clusters not reached yet, trying again"
        );
    }
}

const REACH: &str = "check the addresses, that this host resolves and reaches them (kmirror topics \
                     --list), and map those that brokers advertise but this host cannot resolve";

/// A mirror's error with what to do about it.
pub(super) fn failed(flow: &Flow, error: Error) -> Failure {
    let help = match &error {
        Error::Config { .. } => return engine::refused(flow, error),
        Error::SameCluster { .. } => "mirror to another cluster, or set prefix or suffix",
        Error::ClusterChanged { .. } => "check the addresses, or the cluster_id you pinned",
        Error::Denied { .. } => {
            "grant Read and Describe on the topics to whom this connects as, at the source"
        }
        Error::Unmatched { .. } => {
            return Failure::new(Code::Unmatched, error).with_help(
                "kmirror topics --list shows the topics that the source grants; a pattern has to \
                 match the whole name of one",
            );
        }
        Error::Cluster { .. } => REACH,
        _ => "",
    };
    let may_pass = may_pass(&error);
    let failure = Failure::runtime(error).that_may_pass(may_pass);
    if help.is_empty() { failure } else { failure.with_help(help) }
}

/// Whether to try again. What answers with something else than Kafka's protocol goes on doing so.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Cluster { source: kmirror_client::Error::Bootstrap { source, .. }, .. } => {
            source.is_retryable()
        }
        error => error.is_retryable(),
    }
}
