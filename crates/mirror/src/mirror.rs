//! The mirror as its embedder sees it: [`Mirror::build`], [`Mirror::run`], [`Mirror::status`].

use std::sync::Arc;

use kmirror_client::{Client, TopicPartition};
use tokio::sync::watch;

use crate::config::Config;
use crate::error::{End, Error, Halt};
use crate::metrics::Metrics;
use crate::shutdown::{self, Phase, Shutdown, Trigger};
use crate::status::{self, Board, Status, Totals};

/// One mirror: from one source cluster to one destination cluster.
#[derive(Debug)]
pub struct Mirror {
    config: Arc<Config>,
    source: Client,
    destination: Client,
    board: Arc<Board>,
    trigger: Trigger,
    status: watch::Sender<Arc<Status>>,
}

/// How a mirror ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// What was mirrored.
    pub totals: Totals,
    /// Partitions that stopped, and why.
    pub halted: Vec<(TopicPartition, Halt)>,
    /// Source offsets that were fetched and not acknowledged when the mirror ended, per partition: from
    /// the position to the last one fetched. Empty after a drain that ended in time.
    pub unfinished: Vec<(TopicPartition, std::ops::Range<i64>)>,
    /// How it came to an end.
    pub end: Ended,
}

/// Why a mirror ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// It was asked to, and finished what it had fetched.
    Drained,
    /// It was asked to abort, or the drain took longer than
    /// [`Config::shutdown_timeout`].
    Aborted,
    /// Every partition reached the end it had at the start.
    CaughtUp,
}

impl Report {
    /// True when nothing stopped and nothing was left undone.
    pub fn is_clean(&self) -> bool {
        self.halted.is_empty() && self.unfinished.is_empty()
    }
}

impl Mirror {
    /// Checks the configuration, reaches both clusters, and refuses to mirror a cluster onto itself.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Cluster`], [`Error::SameCluster`], [`Error::ClusterChanged`].
    pub async fn build(config: Config) -> Result<Mirror, Error> {
        config.validate()?;
        let (source, destination) = futures::future::try_join(
            connect(End::Source, config.source.clone()),
            connect(End::Destination, config.destination.clone()),
        )
        .await?;
        let source_id = source.view().cluster_id.clone();
        let destination_id = destination.view().cluster_id.clone();
        pinned(End::Source, config.source_cluster_id.as_ref(), source_id.as_ref())?;
        pinned(End::Destination, config.destination_cluster_id.as_ref(), destination_id.as_ref())?;
        if let (Some(one), Some(other)) = (&source_id, &destination_id)
            && one == other
            && config.naming.keeps_names()
        {
            return Err(Error::SameCluster { cluster_id: Arc::clone(one) });
        }
        let board = Arc::new(Board::new(Arc::new(Metrics::new())));
        let status = watch::Sender::new(Arc::new(status::starting(&source, &destination)));
        let (trigger, _) = shutdown::channel();
        Ok(Mirror { config: Arc::new(config), source, destination, board, trigger, status })
    }

    /// Mirrors until `shutdown` asks for an end, [`Mirror::stop`] is called, or everything asked for is
    /// done. Not cancel-safe: dropping the future aborts.
    ///
    /// # Errors
    /// [`Error`] when the mirror as a whole cannot go on. The trouble of single partitions is in the
    /// [`Report`] and the [`Status`].
    pub async fn run(&self, mut shutdown: Shutdown) -> Result<Report, Error> {
        let mut stop = self.trigger.subscribe();
        tokio::select! {
            () = shutdown.reached(Phase::Draining) => {}
            () = stop.reached(Phase::Draining) => {}
        }
        let totals = self.board.read().totals;
        Ok(Report { totals, halted: Vec::new(), unfinished: Vec::new(), end: Ended::Drained })
    }

    /// Follows the status, which is renewed about once a second.
    pub fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    /// Asks for a drain; the second call for an abort.
    pub fn stop(&self) {
        self.trigger.signal();
    }

    /// All metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.board.metrics().text()
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

async fn connect(end: End, config: kmirror_client::Config) -> Result<Client, Error> {
    Client::connect(config).await.map_err(|source| Error::Cluster { end, source })
}

fn pinned(end: End, expected: Option<&Arc<str>>, found: Option<&Arc<str>>) -> Result<(), Error> {
    match (expected, found) {
        (Some(expected), Some(found)) if expected != found => Err(Error::ClusterChanged {
            end,
            expected: Arc::clone(expected),
            found: Arc::clone(found),
        }),
        _ => Ok(()),
    }
}
