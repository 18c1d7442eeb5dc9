//! What is done about a batch that the destination refuses. Owned by the caller of the producer.

use crate::name::TopicPartition;

use super::error::Rejection;

/// What is done about a batch that the broker refused.
#[derive(Debug)]
pub enum Decision<B> {
    /// Fails the delivery and stops its partition, so that nothing overtakes what failed.
    Stop,
    /// Fails the delivery and goes on with the next batch.
    Skip,
    /// Sends these in its place, in this order; the delivery succeeds when all are written.
    /// An empty list is [`Decision::Skip`].
    Replace(Vec<B>),
}

/// Decides about refused batches. Called in the producer's task: it must not block, and what it
/// splits or rebuilds delays the producer's other partitions for as long.
pub trait OnRejected<B>: Send + Sync {
    /// Decides about `batch`, which `partition`'s leader refused with `rejection`.
    fn decide(&self, partition: &TopicPartition, batch: &B, rejection: &Rejection) -> Decision<B>;
}

impl<B, F> OnRejected<B> for F
where
    F: Fn(&TopicPartition, &B, &Rejection) -> Decision<B> + Send + Sync,
{
    fn decide(&self, partition: &TopicPartition, batch: &B, rejection: &Rejection) -> Decision<B> {
        self(partition, batch, rejection)
    }
}
