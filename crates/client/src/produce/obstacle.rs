//! Why a partition's batches are not written yet, while they are still tried.

use crate::error_code::ErrorCode;
use crate::name::BrokerId;

/// What stands between a partition's oldest batch and its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// The destination has not given the producer an identity yet.
    #[error("the destination has given no producer id yet")]
    NoIdentity,
    /// The metadata name no leader for the partition.
    #[error("the partition has no leader")]
    NoLeader,
    /// There is no connection to the partition's leader.
    #[error("its leader, broker {}, cannot be reached", .0.0)]
    Unreachable(BrokerId),
    /// The last try ended with this code.
    #[error("its leader answers {0}")]
    Code(ErrorCode),
    /// The leader has not answered yet.
    #[error("its leader, broker {}, has not answered yet", .0.0)]
    Unanswered(BrokerId),
}
