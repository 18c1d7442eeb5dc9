//! What a refusal by the destination means. The producer asks [`Refusals`] on the spot: a batch
//! that is too much at once is halved there, so nothing stops and nothing is written twice. What is
//! left is one record that will never be taken (or a batch the policy does not want taken apart):
//! its partition stops, and the lane, which knows where the record came from, decides by
//! [`verdict`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kmirror_client::batch::rebuild::{Builder, Recoder};
use kmirror_client::batch::{Compressor, Decompressor, Levels, Outgoing};
use kmirror_client::produce::{self, Decision, OnRejected, Rejection};
use kmirror_client::{ErrorCode, Fate, TopicPartition};

use crate::config::Trouble;
use crate::error::{Halt, chain};
use crate::flow::Offsets;
use crate::policy::trouble::Refused;
use crate::stage::route::DECOMPRESSED_BYTES_MAX;

/// The one who is asked about refused batches; shared by the producer's task and the lanes.
#[derive(Debug)]
pub(crate) struct Refusals {
    trouble: Trouble,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What stopped a partition, until its lane asks. One for each stopped partition at most.
    stopped: HashMap<TopicPartition, Outgoing>,
    /// How many batches were made of refused ones since the lane last asked.
    made: HashMap<TopicPartition, u64>,
}

impl Refusals {
    pub(crate) fn new(trouble: Trouble) -> Refusals {
        Refusals { trouble, inner: Mutex::default() }
    }

    /// What stopped `partition`.
    pub(super) fn take_stopped(&self, partition: &TopicPartition) -> Option<Outgoing> {
        self.inner().stopped.remove(partition)
    }

    /// How many more batches than parcels were written to `partition` since the last call.
    pub(super) fn take_made(&self, partition: &TopicPartition) -> u64 {
        let mut inner = self.inner();
        if inner.made.is_empty() { 0 } else { inner.made.remove(partition).unwrap_or(0) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnRejected<Outgoing> for Refusals {
    fn decide(
        &self,
        partition: &TopicPartition,
        batch: &Outgoing,
        rejection: &Rejection,
    ) -> Decision<Outgoing> {
        let mut inner = self.inner();
        let apart = is_too_large(rejection.code)
            || (self.trouble.rejected == Refused::Skip && !may_pass(rejection.code));
        // Rare enough to make the tables anew each time.
        let halve = || Recoder::new(Levels::default(), DECOMPRESSED_BYTES_MAX).halve(batch);
        if apart && let Ok(halves) = halve() {
            *inner.made.entry(partition.clone()).or_default() += 1;
            return Decision::Replace(halves.into());
        }
        inner.stopped.insert(partition.clone(), batch.clone());
        Decision::Stop
    }
}

/// What is done about one failed delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not written and may be sent again where it stood.
    Again,
    /// One record of it is left out; what is behind that record is sent again.
    Skip(&'static str),
    /// Nobody knows: its partition begins again from its position.
    Restart,
    /// It will never be taken.
    Halt,
}

/// Decides about a failure. `first` is the lane's first one: if that batch was refused and is not
/// written, nothing behind it is. An idempotent producer's batches have numbers, and a leader that
/// has refused one takes none with a higher number; before the leader has taken a first one, no
/// second is under way.
pub(super) fn verdict(
    error: &produce::Error,
    first: &produce::Error,
    trouble: &Trouble,
) -> Verdict {
    let (policy, reason) = match error {
        produce::Error::Rejected { rejection, .. } if may_pass(rejection.code) => {
            return Verdict::Restart;
        }
        produce::Error::Rejected { rejection, .. } if is_too_large(rejection.code) => {
            (trouble.oversize, "oversize")
        }
        produce::Error::Rejected { .. } => (trouble.rejected, "rejected"),
        produce::Error::Stopped { fate: Fate::NotWritten, .. } => return Verdict::Again,
        produce::Error::Stopped { .. } if is_unwritten(first) => return Verdict::Again,
        _ => return Verdict::Restart,
    };
    match policy {
        Refused::Halt => Verdict::Halt,
        Refused::Skip => Verdict::Skip(reason),
    }
}

fn is_unwritten(first: &produce::Error) -> bool {
    matches!(first, produce::Error::Rejected { fate: Fate::NotWritten, .. })
}

/// Too large in one piece.
fn is_too_large(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE)
}

/// Somebody can grant it, or create what is missing, while the mirror runs.
fn may_pass(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    )
}

/// Where in `parcel` the record stands that `single` holds alone; 0 if it holds several.
pub(super) fn place_of(single: &Outgoing, parcel: &Outgoing) -> i32 {
    let mut decompressor = Decompressor::new(DECOMPRESSED_BYTES_MAX);
    let mut decompressor_of_parcel = Decompressor::new(DECOMPRESSED_BYTES_MAX);
    let wanted =
        single.records(&mut decompressor).ok().and_then(|mut records| records.next()?.ok());
    let records = parcel.records(&mut decompressor_of_parcel);
    let (Some(wanted), Ok(records)) = (wanted, records) else { return 0 };
    let same = |record: &kmirror_client::batch::Record<'_>| {
        (record.timestamp, record.key, record.value, record.headers)
            == (wanted.timestamp, wanted.key, wanted.value, wanted.headers)
    };
    let place = records.flatten().position(|record| same(&record));
    place.and_then(|place| i32::try_from(place).ok()).unwrap_or(0)
}

/// The records of `parcel` behind the one at `place`.
pub(super) fn behind(parcel: &Outgoing, place: i32) -> Option<Outgoing> {
    let mut decompressor = Decompressor::new(DECOMPRESSED_BYTES_MAX);
    let mut builder = Builder::new(parcel.codec());
    let skip = usize::try_from(place).unwrap_or(0) + 1;
    for record in parcel.records(&mut decompressor).ok()?.skip(skip) {
        builder.push(&record.ok()?).ok()?;
    }
    builder.finish(&mut Compressor::default())
}

/// Where the record at `place` is among `offsets`, which `records` records share.
pub(super) fn offsets_at(offsets: Offsets, records: i32, place: i32) -> Offsets {
    let (_, from) = offsets.split(records, place);
    from.split(records - place, 1).0
}

/// Why the partition stops.
pub(super) fn halt(error: &produce::Error, at: Offsets, bytes: usize) -> Halt {
    let Offsets { first, last } = at;
    match error {
        produce::Error::Rejected { rejection, .. } if is_too_large(rejection.code) => {
            Halt::Oversize { first, last, bytes }
        }
        produce::Error::Rejected { rejection, .. } => {
            Halt::Rejected { first, last, rejection: rejection.to_string() }
        }
        error => Halt::Rejected { first, last, rejection: chain(error) },
    }
}

/// A word for the failure, for counting.
pub(super) fn kind(error: &produce::Error) -> &'static str {
    match error {
        produce::Error::Rejected { rejection, .. } => match rejection.code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => "unauthorized",
            code if is_too_large(code) => "too_large",
            _ => "rejected",
        },
        produce::Error::Stopped { .. } => "stopped",
        produce::Error::Expired { .. } => "expired",
        produce::Error::MissingPartition { .. } => "missing_partition",
        produce::Error::OrderLost { .. } => "order_lost",
        produce::Error::Fenced { .. } => "fenced",
        produce::Error::Refused { .. } => "refused",
        produce::Error::Closed { .. } => "closed",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use kmirror_client::batch::Record;

    use super::*;

    fn batch(values: &[&str]) -> Outgoing {
        let mut builder = Builder::new(kmirror_client::batch::Codec::Lz4);
        for value in values {
            builder.push(&Record::new(Some(b"k"), Some(value.as_bytes()))).unwrap();
        }
        builder.finish(&mut Compressor::default()).unwrap()
    }

    fn too_large() -> Rejection {
        Rejection::of(ErrorCode::MESSAGE_TOO_LARGE)
    }

    #[test]
    fn a_batch_is_halved_until_one_record_is_left() {
        let refusals = Refusals::new(Trouble::default());
        let partition = TopicPartition::new("orders", 0);
        let mut batches = vec![batch(&["a", "b", "c", "d"])];
        let mut stopped = 0;
        while let Some(batch) = batches.pop() {
            match refusals.decide(&partition, &batch, &too_large()) {
                Decision::Replace(halves) => batches.extend(halves),
                Decision::Stop => stopped += 1,
                Decision::Skip => panic!("never skipped by the producer"),
            }
        }
        assert_eq!((stopped, refusals.take_made(&partition)), (4, 3));
        assert_eq!(refusals.take_made(&partition), 0);
        assert_eq!(refusals.take_stopped(&partition).unwrap().records_count(), 1);
    }

    #[test]
    fn the_refused_record_is_found_again_with_its_offset() {
        let parcel = batch(&["a", "b", "c", "d"]);
        let place = place_of(&batch(&["c"]), &parcel);
        assert_eq!(place, 2);
        let gapless = Offsets { first: 10, last: 13 };
        assert_eq!(offsets_at(gapless, 4, place), Offsets { first: 12, last: 12 });
        assert_eq!(offsets_at(gapless, 4, 0), Offsets { first: 10, last: 10 });
        let a_gap_of_two = Offsets { first: 10, last: 15 };
        assert_eq!(offsets_at(a_gap_of_two, 4, place), Offsets { first: 12, last: 14 });
        assert_eq!(offsets_at(a_gap_of_two, 4, 3), Offsets { first: 13, last: 15 });
        assert_eq!(behind(&parcel, place).unwrap().records_count(), 1);
        assert!(behind(&parcel, 3).is_none());
    }

    #[test]
    fn what_can_be_granted_is_tried_again_and_the_rest_follows_the_policy() {
        let partition = TopicPartition::new("orders", 0);
        let error = |code| produce::Error::Rejected {
            partition: partition.clone(),
            rejection: Rejection::of(code),
            fate: Fate::NotWritten,
        };
        let mut trouble = Trouble::default();
        let judge = |trouble: &Trouble, code| verdict(&error(code), &error(code), trouble);
        let forbidden = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        assert_eq!(judge(&trouble, forbidden), Verdict::Restart);
        assert_eq!(judge(&trouble, ErrorCode::MESSAGE_TOO_LARGE), Verdict::Halt);
        assert_eq!(judge(&trouble, ErrorCode::INVALID_TIMESTAMP), Verdict::Halt);
        let stopped = produce::Error::Stopped { partition: partition.clone(), fate: Fate::Unknown };
        let first = error(ErrorCode::MESSAGE_TOO_LARGE);
        assert_eq!(verdict(&stopped, &first, &trouble), Verdict::Again);
        assert_eq!(verdict(&stopped, &stopped, &trouble), Verdict::Restart);
        trouble.oversize = Refused::Skip;
        assert_eq!(judge(&trouble, ErrorCode::MESSAGE_TOO_LARGE), Verdict::Skip("oversize"));
        assert_eq!(judge(&trouble, ErrorCode::INVALID_TIMESTAMP), Verdict::Halt);
    }
}
