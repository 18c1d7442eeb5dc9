//! What can go wrong between this client and a cluster.
//!
//! Every error says at its own level what was being done; its cause is its `source`. Broker, topic,
//! partition and code are fields. Two questions are answered for whoever retries:
//! [`Error::is_retryable`] and [`Error::fate`].

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use crate::connection::Address;
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

/// What became of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker never got it, or refused it: it can be done again without doing it twice.
    NotWritten,
    /// It may have been done.
    Unknown,
}

/// What a broker's error code speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The request as a whole.
    Request,
    /// A topic.
    Topic(Arc<str>),
    /// A partition.
    Partition(TopicPartition),
    /// A consumer group.
    Group(Arc<str>),
    /// A broker.
    Broker(BrokerId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Request => f.write_str("the request"),
            Subject::Topic(topic) => write!(f, "topic {topic}"),
            Subject::Partition(partition) => write!(f, "partition {partition}"),
            Subject::Group(group) => write!(f, "group {group}"),
            Subject::Broker(id) => write!(f, "broker {id}"),
        }
    }
}

/// An error with all its causes, as `what: why: why that`. What is shown where no error can be
/// carried, a log line above all, shows this: an error's own text speaks of its own level only.
///
/// ```
/// use kmirror_client::error::Chain;
///
/// let error = "x".parse::<i32>().unwrap_err();
/// assert_eq!(Chain(&error).to_string(), "invalid digit found in string");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a dyn std::error::Error);

/// The most causes that are shown: for errors that contain themselves.
const CAUSES_MAX: usize = 20;

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let causes = std::iter::successors(self.0.source(), |error| error.source());
        causes.take(CAUSES_MAX).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// A cause from another library, shared because many callers may wait for one connection.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// An error of the client.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration holds something that cannot be used.
    #[error("configuration: {problem}")]
    Config {
        /// What is wrong and what to write instead.
        problem: String,
    },

    /// No connection could be made. Check the address, the network and that the broker runs.
    #[error("connect to {address}")]
    Connect {
        /// Where to.
        address: Address,
        /// Why not.
        source: Cause,
    },

    /// None of the bootstrap addresses answered.
    #[error("reach the cluster: none of the bootstrap servers {addresses} answered")]
    Bootstrap {
        /// The addresses, with commas.
        addresses: String,
        /// Why the last one did not.
        source: Box<Error>,
    },

    /// What answers at the address does not speak the Kafka protocol (or speaks it through TLS).
    #[error("{address} does not speak plain Kafka: {problem}")]
    NotKafka {
        /// Where.
        address: Address,
        /// What it sent or did.
        problem: String,
    },

    /// No answer came in time.
    #[error("{api:?} request to {address} unanswered after {timeout:?}")]
    Timeout {
        /// Which request.
        api: ApiKey,
        /// To whom.
        address: Address,
        /// How long was waited.
        timeout: Duration,
        /// Whether any of its bytes had left.
        written: bool,
    },

    /// The connection ended before the answer came.
    #[error("connection to {address} closed during {api:?}: {reason}")]
    Closed {
        /// Which request waited.
        api: ApiKey,
        /// To whom.
        address: Address,
        /// Why it was closed.
        reason: Arc<str>,
        /// Whether any of the request's bytes had left.
        written: bool,
    },

    /// As many requests wait on the connection as it takes.
    #[error("{limit} requests wait on the connection to {address} already")]
    Overloaded {
        /// Which connection.
        address: Address,
        /// How many requests it takes.
        limit: usize,
    },

    /// A request could not be put into the version the broker speaks.
    #[error("encode {api:?} version {version}")]
    Encode {
        /// Which request.
        api: ApiKey,
        /// Its version.
        version: i16,
        /// Why not.
        source: Cause,
    },

    /// An answer could not be read.
    #[error("decode {api:?} version {version} from {address}")]
    Decode {
        /// Which answer.
        api: ApiKey,
        /// Its version.
        version: i16,
        /// From whom.
        address: Address,
        /// Why not.
        source: Cause,
    },

    /// The broker is too old or too new for this request.
    #[error("{address} offers no version of {api:?} that this client speaks ({min} to {max})")]
    UnsupportedVersion {
        /// Which request.
        api: ApiKey,
        /// Which broker.
        address: Address,
        /// The lowest version of ours.
        min: i16,
        /// The highest version of ours.
        max: i16,
    },

    /// A broker of another cluster answers than of the one that was named or answered first.
    #[error("the broker at {address} is of cluster {found}, not {expected}")]
    ClusterChanged {
        /// Where it was met.
        address: Address,
        /// The cluster that is meant.
        expected: Arc<str>,
        /// The cluster that answered.
        found: Arc<str>,
    },

    /// The metadata know no such broker.
    #[error("no broker {id} in the cluster's metadata")]
    UnknownBroker {
        /// The broker asked for.
        id: BrokerId,
    },

    /// A broker answered with an error code.
    #[error("{api:?} for {subject}: {code}{}", in_brackets(detail.as_deref()))]
    Broker {
        /// Which request.
        api: ApiKey,
        /// What it was about.
        subject: Subject,
        /// What the broker says.
        code: ErrorCode,
        /// Its own words, where it sent any.
        detail: Option<Arc<str>>,
    },
}

impl Error {
    /// A broker's error code as an error, without words of its own.
    pub fn broker(api: ApiKey, subject: Subject, code: ErrorCode) -> Self {
        Error::Broker { api, subject, code, detail: None }
    }

    /// The broker's error code, if that is what this is.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same thing may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Bootstrap { .. }
            | Error::Timeout { .. }
            | Error::Closed { .. }
            | Error::Overloaded { .. }
            | Error::UnknownBroker { .. } => true,
            Error::Config { .. }
            | Error::NotKafka { .. }
            | Error::Encode { .. }
            | Error::Decode { .. }
            | Error::ClusterChanged { .. }
            | Error::UnsupportedVersion { .. } => false,
            Error::Broker { code, .. } => code.is_retryable(),
        }
    }

    /// What became of the request, should it have been one that changes something.
    pub fn fate(&self) -> Fate {
        match self {
            Error::Timeout { written: true, .. }
            | Error::Closed { written: true, .. }
            | Error::Decode { .. } => Fate::Unknown,
            Error::Timeout { written: false, .. }
            | Error::Closed { written: false, .. }
            | Error::Config { .. }
            | Error::Connect { .. }
            | Error::Bootstrap { .. }
            | Error::NotKafka { .. }
            | Error::Overloaded { .. }
            | Error::Encode { .. }
            | Error::UnsupportedVersion { .. }
            | Error::ClusterChanged { .. }
            | Error::UnknownBroker { .. } => Fate::NotWritten,
            Error::Broker { code, .. } => code_fate(*code),
        }
    }
}

/// What a broker adds in its own words, behind what was said already.
fn in_brackets(detail: Option<&str>) -> String {
    detail.map(|detail| format!(" ({detail})")).unwrap_or_default()
}

/// Codes after which the broker may have written nevertheless.
fn code_fate(code: ErrorCode) -> Fate {
    match code {
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::NETWORK_EXCEPTION
        | ErrorCode::UNKNOWN_SERVER_ERROR => Fate::Unknown,
        _ => Fate::NotWritten,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_whose_bytes_left_has_an_unknown_fate() {
        let closed = |written| Error::Closed {
            api: ApiKey::Produce,
            address: Address::new("broker", 9092),
            reason: "end of stream".into(),
            written,
        };
        assert_eq!(closed(true).fate(), Fate::Unknown);
        assert_eq!(closed(false).fate(), Fate::NotWritten);
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::Bootstrap {
            addresses: "broker:9092".to_owned(),
            source: Box::new(Error::Connect {
                address: Address::new("broker", 9092),
                source: Arc::new(refused),
            }),
        };
        assert_eq!(
            Chain(&error).to_string(),
            "reach the cluster: none of the bootstrap servers broker:9092 answered: connect to \
             broker:9092: connection refused"
        );
    }

    #[test]
    fn a_broker_error_names_what_was_done_and_to_what() {
        let partition = TopicPartition::new("orders", 3);
        let error = Error::broker(
            ApiKey::Produce,
            Subject::Partition(partition),
            ErrorCode::NOT_ENOUGH_REPLICAS,
        );
        assert_eq!(error.to_string(), "Produce for partition orders-3: NOT_ENOUGH_REPLICAS");
        assert!(error.is_retryable());
    }
}
