//! Committed offsets of a group, decided and undecided.
//!
//! Owned by the group. Always true: an offset committed in a transaction is invisible until the
//! transaction is, and a later plain commit is not overwritten by an earlier transaction's.

use kafka_protocol::error::ResponseError;
use tokio::time::Instant;

use super::membership::Claim;
use super::{Group, Phase};

/// `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;

/// A topic and a partition.
pub(crate) type Place = (String, i32);

/// A committed position: the next offset to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) next_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<String>,
}

impl Group {
    /// Whether this member (or nobody, for a group without members) may commit.
    pub(crate) fn check_commit(
        &mut self,
        claim: Claim<'_>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        if claim.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        self.check(claim)?;
        if let Some(member) = self.members.get_mut(claim.member_id) {
            member.touch(now);
        }
        if self.phase == Phase::Completing {
            return Err(ResponseError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Whether a transaction may commit offsets for this member (KIP-447); a claim without a member
    /// is not checked.
    pub(crate) fn check_transactional_commit(&self, claim: Claim<'_>) -> Result<(), ResponseError> {
        if claim.generation < 0 && claim.member_id.is_empty() && claim.instance_id.is_none() {
            return Ok(());
        }
        self.check(claim)
    }

    /// Commits one position.
    pub(crate) fn commit(
        &mut self,
        place: Place,
        committed: Committed,
    ) -> Result<(), ResponseError> {
        check_metadata(&committed)?;
        self.offsets.insert(place, committed);
        Ok(())
    }

    /// Notes one position that counts only if the producer's transaction commits.
    pub(crate) fn commit_undecided(
        &mut self,
        producer_id: i64,
        place: Place,
        committed: Committed,
    ) -> Result<(), ResponseError> {
        check_metadata(&committed)?;
        self.undecided.entry(producer_id).or_default().insert(place, committed);
        Ok(())
    }

    /// Ends a producer's transaction for this group.
    pub(crate) fn decide(&mut self, producer_id: i64, commit: bool) {
        let noted = self.undecided.remove(&producer_id).unwrap_or_default();
        if commit {
            self.offsets.extend(noted);
        }
    }

    /// Whether a position waits for a transaction's end (KIP-447).
    pub(crate) fn is_undecided(&self, place: &Place) -> bool {
        self.undecided.values().any(|noted| noted.contains_key(place))
    }

    /// Forgets a position, unless a member of the group may be subscribed to its topic.
    pub(crate) fn delete_offset(&mut self, place: &Place) -> Result<(), ResponseError> {
        if self.phase != Phase::Empty && self.subscribes(&place.0) {
            return Err(ResponseError::GroupSubscribedToTopic);
        }
        self.offsets.remove(place);
        Ok(())
    }

    /// Whether some member's subscription names the topic: the metadata is searched for the
    /// length-prefixed name, which is how `ConsumerProtocolSubscription` holds it.
    fn subscribes(&self, topic: &str) -> bool {
        let mut needle = (topic.len() as i16).to_be_bytes().to_vec();
        needle.extend_from_slice(topic.as_bytes());
        self.members.values().any(|member| {
            let metadata = member.metadata(self.protocol.as_deref());
            metadata.windows(needle.len()).any(|window| window == needle)
        })
    }
}

fn check_metadata(committed: &Committed) -> Result<(), ResponseError> {
    let length = committed.metadata.as_ref().map_or(0, String::len);
    if length > METADATA_BYTES_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(())
}
