//! The second stage: batches out of the source. The client's fetcher keeps sessions, leaders and
//! memory; this stage knows which partitions are read and drops what belongs to an older reading of
//! one.
//!
//! Always true: memory is reserved before a fetch is sent, so a destination that is slow stops the
//! fetching and nothing else.

use kmirror_client::budget::Budget;
use kmirror_client::fetch::{self, Event, Fetched, Fetcher, Position, Trouble};
use kmirror_client::{Client, Lane, TopicPartition};

use crate::config::Config;
use crate::error::Halt;
use crate::policy::trouble::Lost;

/// The stage.
pub(crate) struct Fetch {
    fetcher: Fetcher,
    budget: Budget,
}

/// What comes out of it.
#[derive(Debug)]
pub(crate) enum News {
    /// Batches, or where a partition stands.
    Fetched(Box<Fetched>),
    /// A partition stopped.
    Trouble { partition: TopicPartition, position: Position, trouble: Trouble },
}

impl Fetch {
    pub(crate) fn new(client: Client, config: &Config, stream: usize, budget: Budget) -> Fetch {
        let lane = u16::try_from(stream).unwrap_or(u16::MAX);
        let config = fetch::Config {
            isolation: config.fetch.isolation.into(),
            fetch_bytes_max: config.fetch.bytes_max as usize,
            partition_bytes_max: config.fetch.partition_bytes_max as usize,
            wait_max: config.fetch.wait_max,
            bytes_min: config.fetch.bytes_min as usize,
            lane: Lane::Fetch(lane),
            ..fetch::Config::default()
        };
        Fetch { fetcher: Fetcher::new(client, config, budget.clone()), budget }
    }

    /// The bytes of the memory that are this stream's, as long as so many streams read.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.budget.part_bytes()
    }

    /// Whether others wait for memory, or soon will: half of it is in use.
    pub(crate) fn is_memory_short(&self) -> bool {
        self.budget.waiting() > 0 || self.budget.used() > self.budget.limit() / 2
    }

    /// Reads `partition` from `position` on.
    pub(crate) fn begin(&mut self, partition: &TopicPartition, position: Position) {
        self.fetcher.assign(partition, position);
    }

    /// Stops reading it.
    pub(crate) fn end(&mut self, partition: &TopicPartition) {
        self.fetcher.remove(partition);
    }

    /// Reads no more of it for now.
    pub(crate) fn pause(&mut self, partition: &TopicPartition) {
        self.fetcher.pause(partition);
    }

    /// Reads on.
    pub(crate) fn resume(&mut self, partition: &TopicPartition) {
        self.fetcher.resume(partition);
    }

    /// What comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            match self.fetcher.next().await {
                Event::Fetched(fetched) => return News::Fetched(Box::new(fetched)),
                Event::Trouble { partition, position, kind } => {
                    return News::Trouble { partition, position, trouble: kind };
                }
                other => tracing::debug!(?other, "unknown event of the fetcher"),
            }
        }
    }
}

/// What a partition in trouble does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It stops.
    Halt(Halt),
    /// It is tried again later, from where it stood.
    Retry,
    /// It goes on elsewhere, since the policy says so; the halt says what was lost.
    Continue { from: Position, lost: Halt },
}

/// What the policy says about a trouble at `position`.
pub(crate) fn remedy(trouble: &Trouble, position: Position, config: &Config) -> Remedy {
    let at = position.next_offset;
    let same_topic = |next_offset, leader_epoch| Position { next_offset, leader_epoch, ..position };
    let (lost, from) = match trouble {
        Trouble::OutOfRange { log_start_offset: start, .. } if at < *start => {
            (Halt::Lost { from: at, before: *start }, same_topic(*start, None))
        }
        // Nothing shows that this log has anything in common with the one that was read.
        Trouble::OutOfRange { log_start_offset: start, log_end_offset: end } => {
            (Halt::Beyond { position: at, end: *end }, same_topic(*start, None))
        }
        Trouble::Truncated { end_offset: end, leader_epoch } => {
            (Halt::Truncated { position: at, end: *end }, same_topic(*end, Some(*leader_epoch)))
        }
        Trouble::Recreated { .. } => (Halt::Recreated { position: at }, Position::at(0)),
        Trouble::Missing | Trouble::Unauthorized => return Remedy::Retry,
        Trouble::Corrupt { source } => {
            let reason = source.as_ref().map_or_else(
                || "the broker says so".to_owned(),
                |source| crate::error::chain(source),
            );
            return Remedy::Halt(Halt::Corrupt { offset: at, reason });
        }
        other => {
            let what = "read from the source";
            return Remedy::Halt(Halt::Client { what, reason: other.to_string() });
        }
    };
    match config.trouble.lost {
        Lost::Halt => Remedy::Halt(lost),
        Lost::Continue => Remedy::Continue { from, lost },
    }
}

/// Whether what was read before it, or some of it, can no longer be read.
pub(crate) fn is_log_gone(trouble: &Trouble) -> bool {
    matches!(
        trouble,
        Trouble::OutOfRange { .. } | Trouble::Truncated { .. } | Trouble::Recreated { .. }
    )
}

/// A word for a trouble, for counting.
pub(crate) fn kind(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::OutOfRange { .. } => "out_of_range",
        Trouble::Truncated { .. } => "truncated",
        Trouble::Recreated { .. } => "recreated",
        Trouble::Missing => "missing",
        Trouble::Unauthorized => "unauthorized",
        Trouble::Corrupt { .. } => "corrupt",
        Trouble::TooLarge { .. } => "too_large",
        Trouble::Refused { .. } => "refused",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use kmirror_client::Config as Cluster;

    use super::*;
    use crate::policy::filter::{Pattern, Selection};

    fn config(lost: Lost) -> Config {
        let cluster = || Cluster::new("localhost:9092").unwrap();
        let topics = Selection::new(Pattern::try_new(".*").unwrap());
        let mut config = Config::new(cluster(), cluster(), topics);
        config.trouble.lost = lost;
        config
    }

    #[test]
    fn a_position_that_retention_overtook_halts_with_the_exact_range() {
        let trouble = Trouble::OutOfRange { log_start_offset: 40, log_end_offset: 90 };
        let remedy_of = |lost| remedy(&trouble, Position::at(10), &config(lost));
        let lost = Halt::Lost { from: 10, before: 40 };
        assert_eq!(remedy_of(Lost::Halt), Remedy::Halt(lost.clone()));
        let from = Position::at(40);
        assert_eq!(remedy_of(Lost::Continue), Remedy::Continue { from, lost });
    }

    #[test]
    fn a_log_that_ends_before_the_position_is_read_anew_unless_it_shows_what_is_still_the_same() {
        let outside = Trouble::OutOfRange { log_start_offset: 30, log_end_offset: 90 };
        let remedy_of = |trouble, lost| remedy(trouble, Position::at(100), &config(lost));
        let lost = Halt::Beyond { position: 100, end: 90 };
        assert_eq!(remedy_of(&outside, Lost::Halt), Remedy::Halt(lost.clone()));
        let from = Position::at(30);
        assert_eq!(remedy_of(&outside, Lost::Continue), Remedy::Continue { from, lost });
        let cut = Trouble::Truncated { end_offset: 90, leader_epoch: 4 };
        let from = Position { leader_epoch: Some(4), ..Position::at(90) };
        let lost = Halt::Truncated { position: 100, end: 90 };
        assert_eq!(remedy_of(&cut, Lost::Continue), Remedy::Continue { from, lost });
    }

    #[test]
    fn what_an_operator_can_grant_is_tried_again() {
        let config = config(Lost::Halt);
        assert_eq!(remedy(&Trouble::Unauthorized, Position::at(0), &config), Remedy::Retry);
        assert_eq!(remedy(&Trouble::Missing, Position::at(0), &config), Remedy::Retry);
    }
}
