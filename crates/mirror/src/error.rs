//! Why a mirror cannot start or go on ([`Error`]), and why one partition stopped while the mirror
//! goes on ([`Halt`]). Every `Display` speaks of its own level; causes are in `source()`.

use std::collections::BTreeSet;
use std::sync::Arc;

use kmirror_client::TopicPartition;
use kmirror_client::error::Chain;

/// Which of the two clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// The cluster that is read.
    Source,
    /// The cluster that is written.
    Destination,
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            End::Source => "source",
            End::Destination => "destination",
        })
    }
}

/// Why the mirror cannot start or has to end.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting makes no sense, alone or beside another.
    #[error("setting {setting}: {reason}")]
    Config {
        /// The field of [`Config`](crate::Config).
        setting: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A cluster could not be reached or did not answer as it must.
    #[error("{end} cluster")]
    Cluster {
        /// Which one.
        end: End,
        /// What happened.
        source: kmirror_client::Error,
    },
    /// Both ends are one cluster and topics keep their names: every record would be mirrored for
    /// ever.
    #[error(
        "source and destination are the same cluster {cluster_id}, and topics keep their names"
    )]
    SameCluster {
        /// The id both ends gave.
        cluster_id: Arc<str>,
    },
    /// The destination cannot take the batches of Kafka 0.11 and later, and has no idempotent
    /// producers.
    #[error(
        "the destination at {address} is older than Kafka 0.11, which is the oldest to write to"
    )]
    DestinationTooOld {
        /// The broker that was asked.
        address: String,
    },
    /// Another cluster answers behind the addresses than the one that was pinned.
    #[error("the {end} cluster is {found}, not {expected}")]
    ClusterChanged {
        /// Which end.
        end: End,
        /// The id that was pinned.
        expected: Arc<str>,
        /// The id that answered.
        found: Arc<str>,
    },
    /// A partition stopped, and the policy lets that stop the mirror
    /// ([`Reach::Mirror`](crate::policy::trouble::Reach::Mirror)).
    #[error("partition {partition} stopped")]
    Halted {
        /// The source partition.
        partition: TopicPartition,
        /// Why it stopped.
        source: Halt,
    },
    /// The source grants none of the topics that were selected, and nothing was mirrored.
    #[error("the source grants none of the topics: {}", list(topics))]
    Denied {
        /// Their names.
        topics: BTreeSet<Arc<str>>,
    },
    /// Nothing was there to be mirrored until it is caught up.
    #[error("no topic of the source matches {selection}")]
    Unmatched {
        /// What they had to match.
        selection: String,
    },
    /// A thread of the mirror ended by a bug of ours.
    #[error("{thread} panicked: {message}")]
    Panicked {
        /// The thread's name.
        thread: String,
        /// What it said.
        message: String,
    },
    /// The consumer group on the source refuses this member for good.
    #[error("the consumer group on the source")]
    Group {
        /// Why.
        source: kmirror_client::group::Error,
    },
    /// The producer cannot be set up.
    #[error("the producer")]
    Producer {
        /// Why.
        source: kmirror_client::produce::Error,
    },
    /// [`Mirror::run`](crate::Mirror::run) was called a second time.
    #[error("this mirror was run before; build another one")]
    RunTwice,
    /// The operating system refused a thread or a runtime.
    #[error("start {thread}: {reason}")]
    Thread {
        /// The thread's name.
        thread: String,
        /// The system's answer.
        reason: String,
    },
}

impl Error {
    /// What the client of one of the clusters says.
    pub(crate) fn of(end: End, source: kmirror_client::Error) -> Error {
        match source {
            kmirror_client::Error::ClusterChanged { expected, found, .. } => {
                Error::ClusterChanged { end, expected, found }
            }
            source => Error::Cluster { end, source },
        }
    }

    /// True when the same configuration may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Cluster { source, .. } => source.is_retryable(),
            Error::Group { source } => source.is_retryable(),
            Error::Producer { source } => source.is_retryable(),
            Error::Thread { .. } => true,
            Error::Config { .. }
            | Error::SameCluster { .. }
            | Error::DestinationTooOld { .. }
            | Error::ClusterChanged { .. }
            | Error::Halted { .. }
            | Error::Denied { .. }
            | Error::RunTwice
            | Error::Unmatched { .. }
            | Error::Panicked { .. } => false,
        }
    }
}

/// Names in a sentence.
fn list(names: &BTreeSet<Arc<str>>) -> String {
    names.iter().map(|name| &**name).collect::<Vec<_>>().join(", ")
}

/// Why a partition stopped alone. Offsets are the source's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// Retention or a deletion overtook the mirror.
    #[error("offsets {from} to {to} are gone from the source", to = before - 1)]
    Lost {
        /// The first offset that was lost.
        from: i64,
        /// The first offset that is still there.
        before: i64,
    },
    /// The source's log is shorter than what was read: an unclean leader election cut it off.
    #[error("the source's log was cut off at {end}, before the position {position}")]
    Truncated {
        /// Where the mirror stood.
        position: i64,
        /// The end of what both logs have in common.
        end: i64,
    },
    /// The source's log ends before what was read, and nothing shows how much of it is still the
    /// same: brokers before 2.3 cannot be asked about leader epochs, those before 2.8 have no topic
    /// ids.
    #[error(
        "the position {position} is beyond the end of the source's log at {end}: it was cut off, \
         or the topic was created again"
    )]
    Beyond {
        /// Where the mirror stood.
        position: i64,
        /// The end of the log.
        end: i64,
    },
    /// The topic was deleted and created again.
    #[error("the source topic was deleted and created again; the position was {position}")]
    Recreated {
        /// Where the mirror stood in the old topic.
        position: i64,
    },
    /// The destination topic was deleted and created again, or is another cluster's: what was
    /// mirrored is not in it.
    #[error(
        "the destination topic is a new one, without what was mirrored before offset {position}"
    )]
    Replaced {
        /// Where the mirror stood.
        position: i64,
    },
    /// No position is kept, and the policy names no place to start at.
    #[error("no position is kept, and auto.offset.reset or start names none to begin at")]
    NoPosition,
    /// A batch does not carry the checksum it claims, again and again.
    #[error("the batch at offset {offset} is corrupt: {reason}")]
    Corrupt {
        /// The offset the fetch asked for.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
    /// One record is larger than the destination takes.
    #[error("a record too large for the destination ({bytes} bytes) at {}", place(*first, *last))]
    Oversize {
        /// The first offset it may have.
        first: i64,
        /// The last offset it may have; the same where its place is known.
        last: i64,
        /// The bytes of the batch that holds it alone.
        bytes: usize,
    },
    /// A record without a key cannot go to a compacted topic.
    #[error("the record at offset {offset} has no key, and the destination topic is compacted")]
    NullKey {
        /// Its offset.
        offset: i64,
    },
    /// The destination refuses the batch for ever.
    #[error("the destination refuses records at {}: {rejection}", place(*first, *last))]
    Rejected {
        /// The first offset of the batch.
        first: i64,
        /// Its last.
        last: i64,
        /// The broker's answer, and its words if it had any.
        rejection: String,
    },
    /// The mirror's own client cannot read on.
    #[error("{what}: {reason}")]
    Client {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        reason: String,
    },
}

impl Halt {
    /// Whether the destination refuses records that the source has.
    pub fn is_refusal(&self) -> bool {
        match self {
            Halt::Oversize { .. } | Halt::NullKey { .. } | Halt::Rejected { .. } => true,
            Halt::Lost { .. }
            | Halt::Truncated { .. }
            | Halt::Beyond { .. }
            | Halt::Recreated { .. }
            | Halt::Replaced { .. }
            | Halt::NoPosition
            | Halt::Corrupt { .. }
            | Halt::Client { .. } => false,
        }
    }

    /// A word for metrics and the status.
    pub fn kind(&self) -> &'static str {
        match self {
            Halt::Lost { .. } => "lost",
            Halt::Truncated { .. } => "truncated",
            Halt::Beyond { .. } => "beyond",
            Halt::Recreated { .. } => "recreated",
            Halt::Replaced { .. } => "replaced",
            Halt::NoPosition => "no_position",
            Halt::Corrupt { .. } => "corrupt",
            Halt::Oversize { .. } => "oversize",
            Halt::NullKey { .. } => "null_key",
            Halt::Rejected { .. } => "rejected",
            Halt::Client { .. } => "client",
        }
    }
}

/// An error with its causes, in words: for what is shown where no error can be carried.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    Chain(error).to_string()
}

fn place(first: i64, last: i64) -> String {
    if first == last { format!("offset {first}") } else { format!("offsets {first} to {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_range_is_named_exactly() {
        let halt = Halt::Lost { from: 10, before: 20 };
        assert_eq!(halt.to_string(), "offsets 10 to 19 are gone from the source");
        assert_eq!(halt.kind(), "lost");
    }
}
