//! What can go wrong with a membership and with its offsets.
//!
//! Owned by the group module. Errors that pass by themselves (a coordinator that moves, a
//! rebalance, a lost connection) are handled inside and never seen here, save by a call that ran
//! out of time.

use std::sync::Arc;
use std::time::Duration;

use super::protocol;
use crate::error::Fate;
use crate::error_code::ErrorCode;

/// An error of a membership.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("setting {setting} of the group: {problem}")]
    Config {
        /// The field of [`Config`](super::Config).
        setting: &'static str,
        /// What is wrong with its value.
        problem: String,
    },

    /// Others use the group, and no assignor that this member offers is one of theirs. Partitions
    /// that an application reads are not to be shared with it: choose another `group.id`.
    #[error(
        "group {group_id} is in use by {users}, and this member offers {offered}: choose another \
         group.id"
    )]
    InUse {
        /// The group.
        group_id: Arc<str>,
        /// Who they are and how they divide partitions, as far as the coordinator tells.
        users: String,
        /// The assignors of this member, with commas.
        offered: String,
    },

    /// The coordinator refuses this member. See the code for what to change: an ACL, a time-out
    /// outside the broker's limits.
    #[error("join group {group_id}: {code}{}", remedy(*code))]
    Refused {
        /// The group.
        group_id: Arc<str>,
        /// What the coordinator says.
        code: ErrorCode,
    },

    /// Another member has joined with the same `group.instance.id`. Give each member its own.
    #[error("another member of group {group_id} took the instance id {instance_id}")]
    Fenced {
        /// The group.
        group_id: Arc<str>,
        /// The instance id both use.
        instance_id: Arc<str>,
    },

    /// The coordinator chose an assignor this member did not offer.
    #[error("group {group_id} chose the assignor {name:?}, which was not offered")]
    ForeignAssignor {
        /// The group.
        group_id: Arc<str>,
        /// The assignor's name.
        name: String,
    },

    /// The bytes of another member or of the leader cannot be read.
    #[error("read what members of group {group_id} wrote")]
    Protocol {
        /// The group.
        group_id: Arc<str>,
        /// Why not.
        source: protocol::Error,
    },

    /// A request cannot succeed: the broker is too old, or what it sends cannot be read.
    #[error("talk to the coordinator of group {group_id}")]
    Request {
        /// The group.
        group_id: Arc<str>,
        /// What happened.
        source: crate::error::Error,
    },

    /// The coordinator did not answer in the time the call had, however often it was asked.
    #[error("no answer from the coordinator of group {group_id} within {timeout:?}")]
    TimedOut {
        /// The group.
        group_id: Arc<str>,
        /// How long was tried.
        timeout: Duration,
        /// What went wrong last.
        source: Option<crate::error::Error>,
    },

    /// The membership has ended: it was left, or it failed and said so.
    #[error("the membership of group {group_id} has ended")]
    Ended {
        /// The group.
        group_id: Arc<str>,
    },
}

/// What to do about a refusal, where that is known.
fn remedy(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::GROUP_AUTHORIZATION_FAILED => " (grant Read on the group)",
        ErrorCode::GROUP_MAX_SIZE_REACHED => " (raise group.max.size or use fewer streams)",
        ErrorCode::INVALID_SESSION_TIMEOUT => {
            " (set session.timeout.ms within the broker's group.min.session.timeout.ms and \
             group.max.session.timeout.ms)"
        }
        _ => "",
    }
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::TimedOut { .. } => true,
            Error::Request { source, .. } => source.is_retryable(),
            Error::Config { .. }
            | Error::InUse { .. }
            | Error::Refused { .. }
            | Error::Fenced { .. }
            | Error::ForeignAssignor { .. }
            | Error::Protocol { .. }
            | Error::Ended { .. } => false,
        }
    }

    /// What became of a commit that ended with this error.
    pub fn fate(&self) -> Fate {
        match self {
            Error::TimedOut { .. } => Fate::Unknown,
            Error::Request { source, .. } => source.fate(),
            Error::Config { .. }
            | Error::InUse { .. }
            | Error::Refused { .. }
            | Error::Fenced { .. }
            | Error::ForeignAssignor { .. }
            | Error::Protocol { .. }
            | Error::Ended { .. } => Fate::NotWritten,
        }
    }
}
