//! Membership of a consumer group: who copies which partitions, and how far the group has come.
//!
//! Owned by the group module. The membership is a pure state machine (`state`) run by a small
//! task (`driver`); `assignor` divides partitions as Kafka's own assignors do, so Java consumers
//! may be in the same group; `slot` lets a process that was killed resume its old place at once;
//! `offsets` commits and reads positions.
//!
//! | Event | The owner must |
//! |---|---|
//! | [`Event::Assigned`] | read the committed offsets of what was added, and start there |
//! | [`Event::Revoking`] | stop reading, finish or discard the rest, commit, drop the guard |
//! | [`Event::Lost`] | stop at once and discard: somebody else may have them already |
//! | [`Event::Refused`] | nothing, or leave: a right may be missing, and it is asked again and again |
//!
//! Always true: partitions are added by an assignment and leave only through a revocation or a
//! loss; a commit of partitions that are not owned is left out, here and by the coordinator.

mod assignor;
mod config;
mod coordinator;
mod driver;
mod error;
mod offsets;
mod protocol;
mod requests;
pub mod slot;
mod state;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::client::Client;
use crate::name::TopicPartition;
use crate::task::{self, Task};
use coordinator::Coordinator;
use driver::{Command, Driver, Ends, Standing};

pub use assignor::Assignor;
pub use config::{Config, Instance};
pub use error::Error;
pub(crate) use offsets::RETENTION_MS;
pub use offsets::{CommitReport, Committed, CommittedOffsets, Committer, OffsetAndMetadata};
pub use protocol::Error as ProtocolError;
pub use state::LostCause;

/// Events that wait for the owner. While they wait no new rebalance is joined.
const EVENTS_MAX: usize = 4;

/// Wishes of the owner that wait for the driver.
const COMMANDS_MAX: usize = 16;

/// Something the owner of a membership has to know.
#[derive(Debug)]
pub enum Event {
    /// A rebalance is over. What was owned before and is not being handed back is still owned.
    Assigned {
        /// Counts the assignments of this membership from 1, whatever the group's generation does.
        /// A partition that went and came back comes back in a higher epoch.
        epoch: u64,
        /// The group's generation.
        generation: i32,
        /// The partitions that are new.
        added: BTreeSet<TopicPartition>,
        /// All partitions, those being handed back included.
        owned: Arc<BTreeSet<TopicPartition>>,
    },
    /// These partitions go to another member as soon as the guard is dropped. They may be committed
    /// until then.
    Revoking {
        /// Which.
        partitions: BTreeSet<TopicPartition>,
        /// When they are taken without being handed back.
        deadline: Instant,
        /// To be dropped when done.
        hand_back: HandBack,
    },
    /// These partitions are gone and can no longer be committed.
    Lost {
        /// Which.
        partitions: BTreeSet<TopicPartition>,
        /// Why.
        cause: LostCause,
    },
    /// The coordinator refuses this member: a right was not granted or was taken away, the group is
    /// full, or the coordinator has a trouble of its own. It is asked again, with growing pauses,
    /// until it admits the member; the same refusal is told once until then.
    Refused {
        /// What it says.
        error: Error,
    },
}

/// The partitions in an assignment as the coordinator keeps it; none if it cannot be read.
pub(crate) fn assigned_partitions(assignment: &[u8]) -> Vec<TopicPartition> {
    protocol::Assignment::decode(assignment).map(|it| it.partitions).unwrap_or_default()
}

/// Held while partitions are being handed back; dropping it hands them back.
#[derive(Debug)]
#[must_use = "dropping it says that the partitions are handed back"]
pub struct HandBack {
    _guard: oneshot::Sender<()>,
}

impl HandBack {
    fn new(guard: oneshot::Sender<()>) -> Self {
        Self { _guard: guard }
    }

    /// Hands the partitions back. The same as dropping it, but says so.
    pub fn done(self) {}
}

/// A member of a consumer group.
///
/// ```no_run
/// # async fn example(client: kmirror_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use kmirror_client::group::{Config, Event, Membership};
///
/// let config = Config::new("mirror").with_topics(["orders"]);
/// let (mut membership, mut committer) = Membership::join(&client, config)?;
/// loop {
///     match membership.next().await? {
///         Event::Assigned { added, .. } => {
///             let _positions = membership.committed().of(added).await?;
///         }
///         Event::Revoking { hand_back, .. } => {
///             committer.commit(&Default::default()).await?;
///             hand_back.done();
///         }
///         Event::Lost { .. } | Event::Refused { .. } => {}
///     }
/// }
/// # }
/// ```
///
/// Dropping it ends the heartbeats without a word: the coordinator gives its partitions to others
/// when the session times out, or back to it if it is static and returns sooner. That is right
/// for a restart; a member that will not come back should [`leave`](Membership::leave).
#[derive(Debug)]
pub struct Membership {
    group_id: Arc<str>,
    events: mpsc::Receiver<Result<Event, Error>>,
    commands: mpsc::Sender<Command>,
    committed: CommittedOffsets,
    _driver: Task<()>,
}

impl Membership {
    /// Starts to join the group, and gives the one who may commit for this member.
    ///
    /// Returns at once; the first event tells that it has joined.
    ///
    /// # Errors
    /// [`Error::Config`] when a setting cannot be used.
    pub fn join(client: &Client, config: Config) -> Result<(Self, Committer), Error> {
        config.check()?;
        let (event_sender, events) = mpsc::channel(EVENTS_MAX);
        let (commands, command_receiver) = mpsc::channel(COMMANDS_MAX);
        let (standing_sender, standing) = watch::channel(Standing::default());
        let group_id = Arc::clone(&config.group_id);
        let coordinator = Arc::new(Coordinator::new(client.clone(), Arc::clone(&group_id)));
        let timeout = config.commit_timeout;
        let committed = CommittedOffsets::new(Arc::clone(&coordinator), timeout);
        let committer =
            Committer::new(Arc::clone(&coordinator), standing, commands.clone(), timeout);
        let ends =
            Ends { events: event_sender, commands: command_receiver, standing: standing_sender };
        // Chance only spreads the retries of members that failed together.
        let seed = RandomState::new().hash_one(0u8);
        let driver = Driver::new(coordinator, config, ends, seed);
        let driver = task::spawn("group membership", driver.run());
        Ok((Self { group_id, events, commands, committed, _driver: driver }, committer))
    }

    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// Once, why the membership is over; after that [`Error::Ended`].
    pub async fn next(&mut self) -> Result<Event, Error> {
        self.events.recv().await.unwrap_or_else(|| Err(self.ended()))
    }

    /// Where to read what the group has committed.
    pub fn committed(&self) -> &CommittedOffsets {
        &self.committed
    }

    /// Subscribes to these topics from now on. If they differ, the group rebalances.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn subscribe(&self, topics: BTreeSet<Arc<str>>) -> Result<(), Error> {
        let command = Command::Subscribe(topics);
        self.commands.send(command).await.map_err(|_| self.ended())
    }

    /// Leaves the group for good: the others get its partitions at once, even if it is static.
    ///
    /// Everything is given up without a further event; finish and commit before. Takes five
    /// seconds at most, however many events were not taken and however the coordinator fares.
    pub async fn leave(self) {
        let (sender, done) = oneshot::channel();
        if self.commands.send(Command::Leave(sender)).await.is_ok() {
            // An error means that the driver has ended, which is what was wanted.
            let _ = done.await;
        }
    }

    fn ended(&self) -> Error {
        Error::Ended { group_id: Arc::clone(&self.group_id) }
    }
}
