//! A source whose log has gaps: more records than are to be mirrored are produced, every fourth of
//! them with a key that comes again, and the broker's cleaner takes those away. What is left is
//! the batches that were there, with records and offsets missing inside them.

use std::time::Duration;

use kmirror_client::{TopicPartition, clock};

use crate::{
    Error,
    case::{Batching, Case},
    ends::End,
    floor::{in_threads, shares},
    load::Sender,
    maker::{Keys, Maker, count},
    say,
    survey::Stored,
};

/// What makes the cleaner clean all but the last segment at once.
const EAGER: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "1000"),
];
/// After this long the next record begins another segment.
const SEGMENT: Duration = Duration::from_millis(1_500);
/// How long the cleaner may take.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(500);

/// Makes the topic of `case` at `source`, fills it, and waits until it is compacted; then the
/// cleaner is sent away, so that the log stays as it is.
///
/// # Errors
/// When the cluster refuses, or the cleaner does not do its work in time.
pub async fn make(source: &End, case: &Case, threads: usize) -> Result<Stored, Error> {
    let topic = case.topic();
    source.make(&topic, case.partitions.source, EAGER).await?;
    let (bootstrap, wanted) = (source.bootstrap.clone(), case.clone());
    let filled = tokio::task::spawn_blocking(move || fill(&bootstrap, &wanted, threads)).await;
    filled.expect("invariant: producing the load does not panic")?;
    say::progress("filled the source; waiting for its cleaner");
    let begin = clock::now();
    loop {
        let stored = source.stored(&topic, case.partitions.source, threads).await?;
        if stored.records == case.records {
            source.reset_configs(&topic, EAGER).await?;
            return Ok(stored);
        }
        if begin.elapsed() > PATIENCE || stored.records < case.records {
            let (records, expected) = (stored.records, case.records);
            let seconds = begin.elapsed().as_secs();
            return Err(Error::NotCompacted { topic, records, expected, seconds });
        }
        clock::sleep(POLL).await;
    }
}

fn fill(bootstrap: &str, case: &Case, threads: usize) -> Result<(), Error> {
    let shares = shares(&case.topic(), case.partitions.source, threads);
    let threads = shares.len() as u64;
    let shares = shares.into_iter().zip(0_u64..);
    in_threads(shares.map(|(own, thread)| {
        let records = case.records / threads + u64::from(thread < case.records % threads);
        move || fill_share(bootstrap, own, case, (thread, records))
    }))
}

/// Produces so many records that `records` of them are left in the end, by thread `thread`.
async fn fill_share(
    bootstrap: &str,
    own: Vec<TopicPartition>,
    case: &Case,
    (thread, records): (u64, u64),
) -> Result<(), Error> {
    // The cleaner leaves the last segment alone, and does not look for keys there. So it keeps two
    // records of each partition beside those with a key of their own: the last superseded one it
    // sees, and the one in the last segment.
    let last = own.len();
    let mut left = Keys::made_for(records.saturating_sub(2 * last as u64));
    // Few records are put into so small batches that each partition gets one that has a gap.
    let batch_records_max = (left / (2 * last as u64)).max(4);
    let mut sender = Sender::connect(bootstrap, own).await?;
    let mut maker = Maker::new(case, Keys::Superseded { thread }, thread)?;
    while left > 0 {
        let batch = maker.batch(left.min(batch_records_max))?;
        left -= count(&batch);
        sender.send(batch).await?;
    }
    sender.wait().await?;
    clock::sleep(SEGMENT).await;
    let lonely = Case { batching: Batching::One, ..case.clone() };
    let mut maker = Maker::new(&lonely, Keys::Last, thread)?;
    for _ in 0..last {
        sender.send(maker.batch(1)?).await?;
    }
    sender.wait().await
}
