//! The transaction coordinator: producer ids, epochs, which partitions a transaction touched, its
//! end.
//!
//! Owned by the cluster state, which holds the lock; the rules are `TransactionCoordinator`'s.
//! Always true: a transaction ends in one step here (markers are written under the same lock), so
//! the states PrepareCommit and PrepareAbort are never seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use tokio::time::Instant;

use crate::batch::build::marker;
use crate::state::State;
use crate::versions::Release;

/// `transaction.max.timeout.ms`.
const TIMEOUT_MS_MAX: i32 = 900_000;

/// Transactional ids a cluster keeps at most.
const IDS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    transactions: BTreeMap<String, Transaction>,
    next_producer_id: i64,
}

/// Where a transaction is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    Ongoing,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    producer_id: i64,
    epoch: i16,
    timeout: Duration,
    phase: Phase,
    deadline: Option<Instant>,
    partitions: BTreeSet<(String, i32)>,
    groups: BTreeSet<String>,
}

/// A producer as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Coordinator {
    /// A producer id nobody had before.
    pub(crate) fn allocate(&mut self) -> Producer {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        Producer { id, epoch: 0 }
    }

    /// Whether a transactional batch for this partition belongs to an announced transaction.
    /// Releases before KIP-890 did not look.
    pub(crate) fn verify(
        &self,
        id: &str,
        producer: Producer,
        at: (&str, i32),
        release: Release,
    ) -> Result<(), ResponseError> {
        if release < Release::V3_9 {
            return Ok(());
        }
        let transaction = self.find(id, producer).map_err(for_produce)?;
        let is_announced =
            transaction.partitions.iter().any(|(topic, index)| (topic.as_str(), *index) == at);
        if transaction.phase != Phase::Ongoing || !is_announced {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(())
    }

    /// Adds partitions, beginning the transaction if need be.
    pub(crate) fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = (String, i32)>,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.find(id, producer)?;
        if let Some(transaction) = self.transactions.get_mut(id) {
            transaction.begin(now);
            transaction.partitions.extend(partitions);
        }
        Ok(())
    }

    /// Adds a group whose offsets the transaction will commit.
    pub(crate) fn add_group(
        &mut self,
        id: &str,
        producer: Producer,
        group: &str,
        now: Instant,
    ) -> Result<(), ResponseError> {
        self.find(id, producer)?;
        if let Some(transaction) = self.transactions.get_mut(id) {
            transaction.begin(now);
            transaction.groups.insert(group.to_owned());
        }
        Ok(())
    }

    /// Whether offsets of this group may be committed in the transaction.
    pub(crate) fn verify_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ResponseError> {
        let transaction = self.find(id, producer).map_err(for_produce)?;
        if transaction.phase != Phase::Ongoing || !transaction.groups.contains(group) {
            return Err(ResponseError::InvalidTxnState);
        }
        Ok(())
    }

    /// Where a transactional id stands.
    pub(crate) fn status(&self, id: &str) -> Option<(Producer, Phase)> {
        let transaction = self.transactions.get(id)?;
        Some((transaction.producer(), transaction.phase))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.transactions.values().filter_map(|transaction| transaction.deadline).min()
    }

    fn find(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        let transaction =
            self.transactions.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if transaction.producer_id != producer.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if transaction.epoch != producer.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(transaction)
    }
}

impl Transaction {
    fn producer(&self) -> Producer {
        Producer { id: self.producer_id, epoch: self.epoch }
    }

    fn begin(&mut self, now: Instant) {
        if self.phase != Phase::Ongoing {
            self.phase = Phase::Ongoing;
            self.deadline = Some(now + self.timeout);
        }
    }
}

impl State {
    /// InitProducerId for a transactional id: ends what was open and moves to the next epoch.
    /// `known` is the producer a client believes it is (KIP-360).
    pub(crate) fn init_transactions(
        &mut self,
        id: &str,
        timeout_ms: i32,
        known: Option<Producer>,
        now_ms: i64,
    ) -> Result<Producer, ResponseError> {
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let timeout = crate::clock::millis(timeout_ms);
        let coordinator = &mut self.transactions;
        let Some(transaction) = coordinator.transactions.get(id) else {
            if coordinator.transactions.len() >= IDS_MAX {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            let producer = coordinator.allocate();
            let transaction = Transaction {
                producer_id: producer.id,
                epoch: producer.epoch,
                timeout,
                phase: Phase::Empty,
                deadline: None,
                partitions: BTreeSet::new(),
                groups: BTreeSet::new(),
            };
            coordinator.transactions.insert(id.to_owned(), transaction);
            return Ok(producer);
        };
        if known.is_some_and(|known| known != transaction.producer()) {
            return Err(ResponseError::ProducerFenced);
        }
        let producer = self.bump(id)?;
        self.finish(id, false, now_ms);
        if let Some(transaction) = self.transactions.transactions.get_mut(id) {
            transaction.phase = Phase::Empty;
            transaction.timeout = timeout;
        }
        Ok(producer)
    }

    /// EndTxn: writes the markers and decides the groups' offsets. Repeating the same end succeeds.
    pub(crate) fn end_transaction(
        &mut self,
        id: &str,
        producer: Producer,
        commit: bool,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let transaction = self.transactions.find(id, producer)?;
        match transaction.phase {
            Phase::Ongoing => {
                self.finish(id, commit, now_ms);
                Ok(())
            }
            Phase::Committed if commit => Ok(()),
            Phase::Aborted if !commit => Ok(()),
            Phase::Empty | Phase::Committed | Phase::Aborted => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Aborts transactions that ran out of time and fences their producers.
    pub(crate) fn expire_transactions(&mut self, now: Instant, now_ms: i64) {
        let is_over = |t: &Transaction| t.deadline.is_some_and(|deadline| deadline <= now);
        let over = self.transactions.transactions.iter().filter(|(_, t)| is_over(t));
        let over: Vec<String> = over.map(|(id, _)| id.clone()).collect();
        for id in over {
            if self.bump(&id).is_ok() {
                self.finish(&id, false, now_ms);
            }
        }
    }

    /// The next epoch, or a new producer id after the last one. The open transaction's markers
    /// carry the new epoch, so that the old producer is fenced in every partition.
    fn bump(&mut self, id: &str) -> Result<Producer, ResponseError> {
        let coordinator = &mut self.transactions;
        let Some(transaction) = coordinator.transactions.get_mut(id) else {
            return Err(ResponseError::InvalidProducerIdMapping);
        };
        if transaction.epoch < i16::MAX - 1 || transaction.phase == Phase::Ongoing {
            transaction.epoch = transaction.epoch.saturating_add(1);
            return Ok(transaction.producer());
        }
        transaction.producer_id = coordinator.next_producer_id;
        coordinator.next_producer_id += 1;
        transaction.epoch = 0;
        Ok(transaction.producer())
    }

    fn finish(&mut self, id: &str, commit: bool, now_ms: i64) {
        let Some(transaction) = self.transactions.transactions.get_mut(id) else { return };
        if transaction.phase != Phase::Ongoing {
            return;
        }
        transaction.phase = if commit { Phase::Committed } else { Phase::Aborted };
        transaction.deadline = None;
        let Producer { id: producer_id, epoch } = transaction.producer();
        let partitions = std::mem::take(&mut transaction.partitions);
        let groups = std::mem::take(&mut transaction.groups);
        for (topic, index) in partitions {
            let Some(partition) = self.partition_mut(&topic, index) else { continue };
            let leader_epoch = partition.leader_epoch;
            let marker = marker(producer_id, epoch, commit, now_ms);
            let size = marker.size_bytes() as u64;
            partition.log.append_marker(marker, leader_epoch, commit);
            partition.wake();
            self.add_stored_bytes(size);
        }
        for group in groups {
            if let Some(group) = self.groups.find_mut(&group) {
                group.decide(producer_id, commit);
            }
        }
    }
}

/// Produce and TxnOffsetCommit name a fenced epoch by its older code.
fn for_produce(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        other => other,
    }
}
