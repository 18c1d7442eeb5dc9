//! What an answer to Fetch does to the partitions it speaks of. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::budget::{Lease, Pins};
use crate::error_code::ErrorCode;
use crate::name::{BrokerId, TopicPartition};

use super::digest::{Aborted, Digest, digest};
use super::event::{Event, Fetched, Trouble};
use super::identity::Found;
use super::partition::{Ends, Phase};
use super::questions::final_trouble;
use super::standing::Why;
use super::state::State;

/// The largest batch that is asked for. Kafka's own limit for a whole request is as much.
const BATCH_BYTES_MAX: usize = 100 << 20;

/// An answer, whatever version it came in.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) throttle: Duration,
    pub(super) code: ErrorCode,
    pub(super) session_id: i32,
    pub(super) partitions: Vec<PartitionAnswer>,
}

/// What it says of one partition.
#[derive(Debug)]
pub(super) struct PartitionAnswer {
    pub(super) partition: TopicPartition,
    pub(super) code: ErrorCode,
    pub(super) ends: Ends,
    pub(super) aborted: Vec<Aborted>,
    pub(super) records: Bytes,
    /// The broker cuts off even the first batch at the limit (before Fetch 3).
    pub(super) cuts_first: bool,
}

impl Answer {
    /// The bytes of records in it.
    pub(super) fn bytes(&self) -> usize {
        self.partitions.iter().map(|partition| partition.records.len()).sum()
    }
}

impl State {
    /// The fetch under way was answered. `lease` holds the bytes of the answer's records.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        broker: BrokerId,
        answer: Answer,
        mut lease: Lease,
    ) {
        let Some(link) = self.links.get_mut(&broker) else { return };
        if let Err(code) = answer.code.check()
            && !(is_about_session(code) && link.session.goes_on())
        {
            self.handle_failure(now, broker);
            self.say_failure(now, broker, &code);
            return;
        }
        self.answered(now, broker, answer.throttle);
        let Some(link) = self.links.get_mut(&broker) else { return };
        if answer.code != ErrorCode::NONE {
            link.session.reset();
            return;
        }
        link.answered(now, answer.bytes());
        link.session.answered(answer.session_id);
        for partition in answer.partitions {
            let share = lease.split(partition.records.len());
            self.handle_partition(now, broker, partition, share);
        }
    }

    fn handle_partition(
        &mut self,
        now: Instant,
        broker: BrokerId,
        answer: PartitionAnswer,
        lease: Lease,
    ) {
        let name = answer.partition.clone();
        let asked = self.links.get(&broker).and_then(|link| link.session.asked(&name));
        let (Some(asked), Some(entry)) = (asked, self.change(&name)) else { return };
        if !entry.awaits(broker, asked) {
            return;
        }
        match answer.code {
            ErrorCode::NONE => {}
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => entry.identity.vanish(),
            _ => entry.identity.interrupt(),
        }
        match answer.code {
            ErrorCode::NONE => self.handle_data(now, broker, answer, lease),
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                entry.phase = Phase::Outside;
                self.remind(now, &name);
            }
            ErrorCode::CORRUPT_MESSAGE => self.handle_corrupt(now, &name, None),
            ErrorCode::OFFSET_NOT_AVAILABLE => {
                let at = entry.back_off(now);
                self.remind(at, &name);
                self.stand(now, &name, Why::Refused(answer.code));
            }
            code => match final_trouble(code) {
                Some(kind) => self.stop(&name, kind),
                None => {
                    let at = entry.back_off(now);
                    self.remind(at, &name);
                    self.stand(now, &name, Why::Refused(code));
                    self.wants_metadata = true;
                }
            },
        }
    }

    fn handle_data(
        &mut self,
        now: Instant,
        broker: BrokerId,
        answer: PartitionAnswer,
        lease: Lease,
    ) {
        let PartitionAnswer { partition: name, ends, aborted, records, cuts_first, .. } = answer;
        let isolation = self.config.isolation;
        let Some(entry) = self.change(&name) else { return };
        let (fetch_offset, asked_from) = (entry.position.next_offset, entry.fetch_offset());
        if asked_from == fetch_offset {
            entry.disputed = 0;
        }
        if entry.identity.find_end() {
            // Nothing of this is taken before what was read last was found.
            return;
        }
        entry.identity.compare(entry.ends, ends);
        if entry.fetch_offset() != asked_from {
            // What was read last is to be seen again first.
            return;
        }
        let (asked_bytes, is_cut) = (entry.bytes_needed, cuts_first && !records.is_empty());
        let read = digest(records, fetch_offset, isolation, aborted);
        match entry.identity.find(read.first, fetch_offset) {
            Found::Another => return self.stop_recreated(&name),
            Found::Nothing if entry.identity.seek_end(ends.high_watermark) => {
                return self.stand(now, &name, Why::Behind);
            }
            Found::Same | Found::Nothing => {}
        }
        let has_moved = read.next_offset > fetch_offset;
        if let (Some(error), false) = (&read.error, has_moved) {
            self.handle_corrupt(now, &name, Some(error.clone()));
            return;
        }
        if !has_moved && is_cut {
            self.handle_cut_off(&name, asked_bytes, &read);
            return;
        }
        entry.advance(read.next_offset, read.leader_epoch);
        entry.go_on(&name);
        entry.identity.read(read.last);
        let has_news = entry.ends.replace(ends) != Some(ends);
        if !has_moved && !has_news {
            return;
        }
        let (generation, position) = (entry.generation, entry.stands());
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let fetched = Fetched {
            partition: name.clone(),
            fetch_offset,
            lease: lease_of(&read, lease, &entry.pins),
            entries: read.entries,
            next_offset: position.next_offset,
            leader_epoch: position.leader_epoch,
            topic_id: position.topic_id,
            high_watermark: ends.high_watermark,
            last_stable_offset: known(ends.last_stable_offset),
            log_start_offset: known(ends.log_start_offset),
        };
        self.push(&name, generation, Some(broker), Event::Fetched(fetched));
    }

    fn handle_corrupt(
        &mut self,
        now: Instant,
        name: &TopicPartition,
        source: Option<crate::batch::split::Error>,
    ) {
        let retries = self.config.corrupt_retries;
        let Some(entry) = self.change(name) else { return };
        let is_final = source.as_ref().is_some_and(|error| !error.is_retryable());
        entry.corrupt += 1;
        if is_final || entry.corrupt > retries {
            self.stop(name, Trouble::Corrupt { source });
            return;
        }
        let at = entry.back_off(now);
        self.remind(at, name);
    }

    /// Nothing but the beginning of a batch came: brokers before Fetch 3 cut even the first one off
    /// at the limit.
    fn handle_cut_off(&mut self, name: &TopicPartition, asked_bytes: usize, read: &Digest) {
        let asked_bytes = asked_bytes.max(self.config.partition_bytes_max);
        let Some(entry) = self.change(name) else { return };
        let needed = read.cut_off_bytes.unwrap_or(0).max(asked_bytes.saturating_mul(2));
        if asked_bytes >= BATCH_BYTES_MAX {
            self.stop(name, Trouble::TooLarge { limit: asked_bytes });
        } else {
            entry.bytes_needed = needed.min(BATCH_BYTES_MAX);
        }
    }
}

/// The memory that goes along. Nothing of the answer is held on to where nothing is handed out.
fn lease_of(read: &Digest, mut lease: Lease, pins: &Arc<Pins>) -> Lease {
    if read.entries.is_empty() {
        lease = lease.split(0);
        lease.detach();
    } else {
        lease.pin(pins);
    }
    lease
}

/// Codes after which a new session puts everything right, unless that is what they answer to.
fn is_about_session(code: ErrorCode) -> bool {
    /// The session was begun with names and goes on with ids, or the other way about (KIP-516).
    const FETCH_SESSION_TOPIC_ID_ERROR: ErrorCode = ErrorCode(106);
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | FETCH_SESSION_TOPIC_ID_ERROR
    )
}
