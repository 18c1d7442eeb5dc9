//! Where progress is kept. At-least-once: a position is written after everything before it was
//! acknowledged, to the consumer group on the source, as MirrorMaker does. A [`Keeper`] writes in
//! order: it is moved into each commit and comes back with its outcome. What is acknowledged and
//! not written yet is in [`progress`], for all streams of the process.

pub(crate) mod caught_up;
pub(crate) mod progress;

mod memo;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kmirror_client::admin::Admin;
use kmirror_client::fetch::Position;
use kmirror_client::group::{CommitReport, CommittedOffsets, Committer, OffsetAndMetadata};
use kmirror_client::{Error as ClientError, TopicPartition};
use tokio::time::Instant;

use crate::control::plan::Destination;
use crate::error::chain;

/// Places by source partition.
pub(crate) type Positions = BTreeMap<TopicPartition, Place>;

/// How far a partition is, and where it was mirrored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Everything before is acknowledged.
    pub(crate) position: Position,
    /// The topic that everything before was mirrored to. Unknown where others wrote the position.
    pub(crate) destination: Option<Arc<Destination>>,
}

/// The age at which a position is written again though it did not move. Brokers forget positions
/// that were not written for a while: those before 2.1 after a day even of a group that is alive,
/// later ones after a week if it has no members. Operators rarely make that less than an hour.
const RENEWAL: Duration = Duration::from_secs(600);

/// What is kept of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The position.
    pub(crate) next_offset: i64,
    /// When this process wrote it; it may be of any age if another one did.
    pub(crate) written_at: Option<Instant>,
}

impl Kept {
    /// Whether it is to be written again at `now`.
    pub(crate) fn is_old(&self, now: Instant) -> bool {
        self.written_at.is_none_or(|at| now.duration_since(at) >= RENEWAL)
    }
}

/// Who writes positions.
#[derive(Debug)]
pub(crate) enum Keeper {
    /// A member of the group.
    Member(Committer),
    /// The group's offsets, written from outside: only while it has no members.
    Outside(Group),
    /// Nobody: every run begins where the configuration says.
    Nowhere,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) struct Written {
    /// The keeper, for the next one.
    pub(crate) keeper: Keeper,
    /// What is kept now.
    pub(crate) positions: Positions,
    /// What went wrong with the rest.
    pub(crate) failure: Option<String>,
}

impl Keeper {
    /// Whether anything is kept at all.
    pub(crate) fn keeps(&self) -> bool {
        match self {
            Keeper::Member(_) | Keeper::Outside(_) => true,
            Keeper::Nowhere => false,
        }
    }

    /// Writes `positions`. Not cancel-safe: dropped, they may or may not have been written.
    pub(crate) async fn write(mut self, mut positions: Positions) -> Written {
        let wanted = offsets(&positions);
        let refused = match &mut self {
            Keeper::Nowhere => return Written { keeper: self, positions, failure: None },
            Keeper::Member(committer) => committer.commit(&wanted).await.map(refused_member),
            Keeper::Outside(group) => Ok(group.write(&wanted).await),
        };
        let failure = match refused {
            Ok(refused) => {
                positions.retain(|partition, _| !refused.contains_key(partition));
                refused.into_iter().find_map(|(partition, why)| {
                    why.map(|why| format!("commit {partition}: {why}"))
                })
            }
            Err(error) => {
                positions.clear();
                Some(chain(&error))
            }
        };
        Written { keeper: self, positions, failure }
    }
}

/// What was not written, with the reason unless there is nothing wrong with that.
type Unwritten = BTreeMap<TopicPartition, Option<String>>;

fn refused_member(report: CommitReport) -> Unwritten {
    // What went to another member in the meantime is that member's to commit.
    let not_owned = report.not_owned.into_iter().map(|partition| (partition, None));
    let refused = report.refused.into_iter();
    not_owned.chain(refused.map(|(partition, code)| (partition, Some(code.to_string())))).collect()
}

/// A consumer group on the source that nobody is a member of.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) admin: Admin,
    pub(crate) id: Arc<str>,
}

impl Group {
    /// Those of `positions` that the group does not have. What another instance took over and
    /// committed, here or further on in the same topic, is kept; what cannot be asked is not.
    pub(crate) async fn lacks(
        self,
        mut positions: BTreeMap<TopicPartition, Position>,
    ) -> BTreeMap<TopicPartition, Position> {
        let partitions: Vec<TopicPartition> = positions.keys().cloned().collect();
        match Reader::Outside(self).read(&partitions).await {
            Ok(found) => positions.retain(|partition, position| {
                let found = found.positions.get(partition).map(|place| place.position);
                !found.is_some_and(|found| covers(&found, position))
            }),
            Err(error) => tracing::warn!(error, "the group's positions not read"),
        }
        positions
    }

    async fn write(&self, wanted: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Unwritten {
        match self.admin.alter_group_offsets(&self.id, wanted).await {
            Ok(results) => {
                let failed = |(partition, outcome): (TopicPartition, Result<(), ClientError>)| {
                    let error = outcome.err()?;
                    Some((partition, Some(chain(&error))))
                };
                results.into_iter().filter_map(failed).collect()
            }
            Err(error) => {
                let why = chain(&error);
                wanted.keys().map(|partition| (partition.clone(), Some(why.clone()))).collect()
            }
        }
    }
}

/// Whether a position that is kept is `position` or further on in the same topic.
fn covers(kept: &Position, position: &Position) -> bool {
    let are_others = kept.topic_id.zip(position.topic_id).is_some_and(|(one, it)| one != it);
    !are_others && kept.next_offset >= position.next_offset
}

/// Who reads positions. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Reader {
    /// The committed offsets of the member's group.
    Member(CommittedOffsets),
    /// Those of a group without members.
    Outside(Group),
    /// There are none.
    Nowhere,
}

/// What was read of some partitions; one that is in neither has no position.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// What is kept.
    pub(crate) positions: Positions,
    /// What could not be read, and why; it may be asked again.
    pub(crate) refused: BTreeMap<TopicPartition, String>,
}

impl Reader {
    /// What is kept of `partitions`.
    ///
    /// # Errors
    /// In words, when nobody could be asked; it may be asked again.
    pub(crate) async fn read(&self, partitions: &[TopicPartition]) -> Result<Committed, String> {
        let (found, refused) = match self {
            Reader::Nowhere => return Ok(Committed::default()),
            Reader::Outside(group) => {
                let found = group.admin.group_offsets(&group.id).await;
                (found.map_err(|error| chain(&error))?, BTreeMap::new())
            }
            Reader::Member(committed) => {
                let found = committed.of(partitions.iter().cloned()).await;
                let found = found.map_err(|error| chain(&error))?;
                (found.offsets, found.refused)
            }
        };
        let place = |offset: OffsetAndMetadata| {
            memo::read(offset.next_offset, offset.leader_epoch, &offset.metadata)
        };
        Ok(Committed {
            positions: found.into_iter().map(|(at, offset)| (at, place(offset))).collect(),
            refused: refused
                .into_iter()
                .map(|(at, code)| (at, format!("read its committed position: {code}")))
                .collect(),
        })
    }
}

fn offsets(positions: &Positions) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
    let offset = |place: &Place| OffsetAndMetadata {
        next_offset: place.position.next_offset,
        leader_epoch: place.position.leader_epoch.unwrap_or(-1),
        metadata: memo::write(place),
    };
    positions.iter().map(|(partition, place)| (partition.clone(), offset(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_covers_what_is_before_it_in_the_same_topic() {
        let at = |next_offset, id: Option<u128>| Position {
            topic_id: id.map(uuid::Uuid::from_u128),
            ..Position::at(next_offset)
        };
        for id in [None, Some(1)] {
            assert!(covers(&at(5, id), &at(5, Some(1))));
            assert!(covers(&at(6, Some(1)), &at(5, id)));
            assert!(!covers(&at(4, id), &at(5, Some(1))));
        }
        assert!(!covers(&at(6, Some(1)), &at(5, Some(2))), "it is another topic's");
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_that_does_not_move_is_written_again_long_before_brokers_forget_it() {
        const SHORTEST_RETENTION: Duration = Duration::from_secs(3600);
        let now = kmirror_client::clock::now();
        let by_another = Kept { next_offset: 5, written_at: None };
        assert!(by_another.is_old(now), "nobody knows how old it is");
        let kept = Kept { next_offset: 5, written_at: Some(now) };
        assert!(!kept.is_old(now + RENEWAL / 2));
        assert!(kept.is_old(now + SHORTEST_RETENTION / 4));
    }
}
