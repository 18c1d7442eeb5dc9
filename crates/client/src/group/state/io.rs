//! What goes into the state machine of a membership and what comes out of it.
//!
//! Owned by the group module. Plain values; nothing here does anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error_code::ErrorCode;
use crate::group::assignor::Counts;
use crate::group::error::Error;
use crate::group::protocol::Subscription;
use crate::name::TopicPartition;

/// Who a member is to the coordinator. Every request carries it, and an answer to a request sent
/// under another identity than the present one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Given by the coordinator; empty before that.
    pub(crate) member_id: Arc<str>,
    /// The group's generation this member is part of, -1 when of none.
    pub(crate) generation: i32,
    /// The name of a static member.
    pub(crate) instance_id: Option<Arc<str>>,
}

/// Counts the tries to join. What belongs to one that was given up changes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt(pub(crate) u64);

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// JoinGroup was answered.
    Joined(Attempt, Result<Joined, Failure>),
    /// JoinGroup was refused until it is sent again with the member id that came along (KIP-394).
    MemberIdGiven(Attempt, Arc<str>),
    /// The partition counts of the topics of [`Action::LookUp`] are known.
    Counted(Attempt, Counts),
    /// SyncGroup was answered.
    Synced(Attempt, Result<Vec<TopicPartition>, Failure>),
    /// A heartbeat was answered.
    HeartbeatAnswered(Result<(), Failure>),
    /// The coordinator refused a commit sent under `sent`.
    CommitRefused {
        /// Who the commit was from.
        sent: Identity,
        /// What the coordinator said.
        code: ErrorCode,
    },
    /// The owner has given back the partitions of this [`Notice::Revoking`].
    HandedBack(u64),
    /// The owner wants these topics from now on.
    Subscribe(BTreeSet<Arc<str>>),
    /// The metadata changed: what [`Machine::watched`](super::Machine::watched) topics have now.
    Seen(Counts),
    /// What there is now, and what all members were given, as the coordinator has it; `None` if it
    /// would not say.
    Audited {
        /// The counts of the topics of [`Action::Audit`].
        counts: Counts,
        /// What any member holds.
        held: Option<BTreeSet<TopicPartition>>,
    },
    /// The owner wants to leave.
    Leave,
    /// LeaveGroup was answered, or given up.
    Left,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The coordinator answered with an error code.
    Code(ErrorCode),
    /// There was no answer: no coordinator, no connection, no time. It may work later.
    Unreachable,
    /// It will never work.
    Fatal(Error),
}

/// A JoinGroup answer without an error.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Our id.
    pub(crate) member_id: Arc<str>,
    /// The group's new generation.
    pub(crate) generation: i32,
    /// The name of the assignor the coordinator chose.
    pub(crate) assignor: String,
    /// The id of the leader.
    pub(crate) leader_id: Arc<str>,
    /// The leader shall not assign anew (KIP-814): a static member has come back.
    pub(crate) skip_assignment: bool,
    /// Whether the broker knows static membership (JoinGroup 5 and later).
    pub(crate) knows_instances: bool,
    /// All members, if we lead.
    pub(crate) members: Vec<(Arc<str>, Option<Arc<str>>, Subscription)>,
}

/// Something to do. Each is answered by one [`Input`], save where it says otherwise.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send JoinGroup, on a connection of its own: it may take the whole rebalance time-out.
    Join(Join),
    /// Find out how many partitions these topics have.
    LookUp(Attempt, BTreeSet<Arc<str>>),
    /// Send SyncGroup, with the plan if we lead.
    Sync {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Who we are.
        identity: Identity,
        /// The name of the assignor.
        assignor: &'static str,
        /// The encoded assignment of each member; empty for followers.
        plan: Vec<(Arc<str>, Bytes)>,
    },
    /// Wait no longer for the JoinGroup or SyncGroup under way. Not answered.
    GiveUpJoining,
    /// Send a heartbeat.
    Heartbeat(Identity),
    /// Find out how many partitions these topics have, and what all members were given.
    Audit(BTreeSet<Arc<str>>),
    /// Send LeaveGroup.
    Leave(Identity),
}

/// A JoinGroup to send.
#[derive(Debug)]
pub(crate) struct Join {
    /// Which attempt this is.
    pub(crate) attempt: Attempt,
    /// Who we are.
    pub(crate) identity: Identity,
    /// For each assignor its name and our subscription, the preferred one first.
    pub(crate) protocols: Vec<(&'static str, Bytes)>,
    /// Why, for the broker's log (JoinGroup 8 and later).
    pub(crate) reason: &'static str,
}

/// Something to tell the owner.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A rebalance is over.
    Assigned {
        /// Counts assignments of this membership, from 1.
        epoch: u64,
        /// The group's generation.
        generation: i32,
        /// What is new.
        added: BTreeSet<TopicPartition>,
        /// Everything that is ours now, what is being handed back included.
        owned: Arc<BTreeSet<TopicPartition>>,
    },
    /// These have to be given back by the deadline.
    Revoking {
        /// To be named in [`Input::HandedBack`].
        id: u64,
        /// Which.
        partitions: BTreeSet<TopicPartition>,
        /// After this they are lost.
        deadline: Instant,
    },
    /// These are ours no more, and somebody else may have them already.
    Lost {
        /// Which.
        partitions: BTreeSet<TopicPartition>,
        /// Why.
        cause: LostCause,
    },
    /// The coordinator refuses us, and is asked again.
    Refused(Error),
    /// The membership is over.
    Failed(Error),
}

/// Why partitions were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostCause {
    /// The coordinator no longer knows this member, or has moved on without it.
    Expelled,
    /// The coordinator was out of reach for the whole session time-out; it will have given the
    /// partitions to others.
    SessionTimedOut,
    /// They were not given back in time.
    HandBackTimedOut,
    /// Another process joined under the same instance id.
    Fenced,
    /// The membership failed for good.
    Failed,
}
