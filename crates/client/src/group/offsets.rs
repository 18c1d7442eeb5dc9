//! Committed offsets of the group: written by its members, read by whoever starts a partition.
//!
//! Owned by the group module. Always true: a commit carries the generation and the member id, so
//! the coordinator refuses it once the partitions are somebody else's; and it leaves out what
//! this member no longer owns.
//!
//! - OffsetCommit 2 to 9: up to 4 it says how long the offset is kept ([`RETENTION_MS`]), 6 adds
//!   the leader epoch, 7 the instance id;
//! - OffsetFetch 1 to 8: 2 moves group errors out of the partitions, 5 adds the leader epoch, 7
//!   hides offsets of open transactions (KIP-447), 8 takes several groups (one is sent).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::coordinator::Coordinator;
use super::driver::{Command, Standing};
use super::error::Error;
use super::protocol::by_topic;
use super::requests::{group, optional_text, text};
use super::state::{Failure, Identity};
use crate::backoff::Backoff;
use crate::clock;
use crate::error;
use crate::error_code::ErrorCode;
use crate::name::TopicPartition;

/// How often a topic the coordinator does not know is asked for before that is believed: a new
/// topic may not have reached it yet, a deleted one never will.
const UNKNOWN_TOPIC_TRIES: u32 = 3;

/// How long brokers before 2.1 are asked to keep an offset after its last commit. By themselves
/// they forget it after a day, whether or not the group still has members (KIP-211): a mirror that
/// was stopped over a weekend would begin anew. A year is far above the settings that this
/// overrides, so that it hardly ever shortens one.
pub(crate) const RETENTION_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// The shortest and the longest wait between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The metadata of a commit that has none. Brokers before 2.1 refuse a null.
const NO_METADATA: &str = "";

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The next offset to read.
    pub next_offset: i64,
    /// The leader epoch of the record before it, -1 if not known.
    pub leader_epoch: i32,
    /// What the one who committed it wanted to remember.
    pub metadata: Arc<str>,
}

impl OffsetAndMetadata {
    /// A position without metadata; `leader_epoch` is -1 if not known.
    pub fn new(next_offset: i64, leader_epoch: i32) -> Self {
        Self { next_offset, leader_epoch, metadata: NO_METADATA.into() }
    }
}

/// What became of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Not committed, because they are not this member's (any more).
    pub not_owned: BTreeSet<TopicPartition>,
    /// Not committed, because the coordinator would not: deleted topics, no permission, metadata
    /// too large. The others were committed all the same.
    pub refused: BTreeMap<TopicPartition, ErrorCode>,
}

impl CommitReport {
    /// Whether everything was committed.
    pub fn is_complete(&self) -> bool {
        self.not_owned.is_empty() && self.refused.is_empty()
    }
}

/// What the group has committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The positions. A partition that is missing here and below was never committed.
    pub offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    /// Not told, and why: usually no permission.
    pub refused: BTreeMap<TopicPartition, ErrorCode>,
}

/// Commits for one member.
///
/// There is one for each membership and it takes `&mut self`, so that an older commit never
/// overtakes a newer one.
#[derive(Debug)]
pub struct Committer {
    coordinator: Arc<Coordinator>,
    standing: watch::Receiver<Standing>,
    commands: mpsc::Sender<Command>,
    timeout: Duration,
}

/// Reads what the group has committed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CommittedOffsets {
    coordinator: Arc<Coordinator>,
    timeout: Duration,
}

impl Committer {
    pub(super) fn new(
        coordinator: Arc<Coordinator>,
        standing: watch::Receiver<Standing>,
        commands: mpsc::Sender<Command>,
        timeout: Duration,
    ) -> Self {
        Self { coordinator, standing, commands, timeout }
    }

    /// Commits `offsets`, as far as this member owns the partitions.
    ///
    /// Waits out moves of the coordinator, lost connections and rebalances for the configured
    /// commit time-out. May be called while partitions are being handed back. Not cancel-safe: a
    /// dropped commit may or may not have been done.
    ///
    /// # Errors
    /// [`Error::TimedOut`], [`Error::Refused`] when the group itself is refused, or
    /// [`Error::Ended`].
    pub async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<CommitReport, Error> {
        let mut attempts = Attempts::new(&self.coordinator, self.timeout);
        let mut report = CommitReport::default();
        let mut pending: BTreeMap<&TopicPartition, &OffsetAndMetadata> = offsets.iter().collect();
        loop {
            let standing = self.standing.borrow_and_update().clone();
            if standing.is_over || self.standing.has_changed().is_err() {
                return Err(Error::Ended { group_id: Arc::clone(self.coordinator.group_id()) });
            }
            pending.retain(|partition, _| {
                let owned = standing.owned.contains(*partition);
                if !owned {
                    report.not_owned.insert((*partition).clone());
                }
                owned
            });
            if pending.is_empty() {
                return Ok(report);
            }
            if let Some(identity) = standing.identity {
                let time = attempts.time_left();
                let mut changes = self.standing.clone();
                let gone = changes.wait_for(|now| {
                    now.is_over || pending.keys().all(|partition| !now.owned.contains(*partition))
                });
                tokio::select! {
                    outcome = commit_once(&self.coordinator, &identity, &pending, time) => {
                        match outcome {
                            Ok(codes) => {
                                let refusal = attempts.sort(codes, &mut pending, &mut report)?;
                                self.report_refusal(identity, refusal);
                            }
                            Err(error) => attempts.note(error)?,
                        }
                    }
                    // Whoever waits to stop must not wait for a coordinator that went silent.
                    _ = gone => continue,
                }
            }
            if pending.is_empty() {
                return Ok(report);
            }
            // A rebalance that ends, or a loss, changes what can be committed: no need to wait
            // longer.
            attempts.pause(self.standing.changed()).await?;
        }
    }

    /// Lets the member know that the coordinator has other ideas about it. Its next heartbeat would
    /// find out as well, so a full queue is no harm.
    fn report_refusal(&self, sent: Identity, code: Option<ErrorCode>) {
        if let Some(code) = code {
            let _ = self.commands.try_send(Command::CommitRefused { sent, code });
        }
    }
}

impl CommittedOffsets {
    pub(super) fn new(coordinator: Arc<Coordinator>, timeout: Duration) -> Self {
        Self { coordinator, timeout }
    }

    /// What the group has committed for `partitions`. Offsets in an open transaction are waited
    /// for; what is not told in time is refused one by one, and does not take the others' answers
    /// away.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when nothing was answered for one of them, or [`Error::Refused`] when
    /// the group itself is refused.
    pub async fn of(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Committed, Error> {
        let mut attempts = Attempts::new(&self.coordinator, self.timeout);
        let mut committed = Committed::default();
        let mut pending: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        while !pending.is_empty() {
            match fetch_once(&self.coordinator, &pending, attempts.time_left()).await {
                Ok(found) => {
                    for (partition, result) in found {
                        attempts.sort_fetched(partition, result, &mut pending, &mut committed)?;
                    }
                }
                Err(error) => attempts.note(error)?,
            }
            if !pending.is_empty()
                && let Err(late) = attempts.pause(std::future::pending::<()>()).await
            {
                for partition in pending {
                    let Some(code) = attempts.unsettled.remove(&partition) else {
                        return Err(late);
                    };
                    committed.refused.insert(partition, code);
                }
                return Ok(committed);
            }
        }
        Ok(committed)
    }
}

/// The tries of one call: how much time is left, and what went wrong last.
struct Attempts<'a> {
    coordinator: &'a Coordinator,
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
    last: Option<error::Error>,
    unknown_topic: BTreeMap<TopicPartition, u32>,
    /// What was last said of partitions whose offset is not told yet.
    unsettled: BTreeMap<TopicPartition, ErrorCode>,
}

impl<'a> Attempts<'a> {
    fn new(coordinator: &'a Coordinator, timeout: Duration) -> Self {
        Self {
            coordinator,
            timeout,
            deadline: clock::now() + timeout,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            last: None,
            unknown_topic: BTreeMap::new(),
            unsettled: BTreeMap::new(),
        }
    }

    /// How long the next request may take: not all that is left, or a coordinator that went silent
    /// would take a second try's time too.
    fn time_left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(clock::now());
        let request = self.coordinator.client().config().request_timeout;
        left.min(request).min((self.timeout / 3).max(Duration::from_secs(1)))
    }

    /// Waits before the next try, until `sooner` at the most.
    async fn pause(&mut self, sooner: impl Future) -> Result<(), Error> {
        let now = clock::now();
        if now >= self.deadline {
            return Err(Error::TimedOut {
                group_id: Arc::clone(self.coordinator.group_id()),
                timeout: self.timeout,
                source: self.last.take(),
            });
        }
        let until = (now + self.backoff.next_delay()).min(self.deadline);
        // Either way it is time for the next try.
        let _ = timeout_at(until, sooner).await;
        Ok(())
    }

    /// Remembers a failure that may pass, and ends at one that will not.
    fn note(&mut self, error: error::Error) -> Result<(), Error> {
        match self.coordinator.failure(error.clone()) {
            Failure::Fatal(error) => Err(error),
            Failure::Code(code) if !code.is_retryable() => Err(self.refused(code)),
            Failure::Code(_) | Failure::Unreachable => {
                self.last = Some(error);
                Ok(())
            }
        }
    }

    fn refused(&self, code: ErrorCode) -> Error {
        Error::Refused { group_id: Arc::clone(self.coordinator.group_id()), code }
    }

    /// Takes out of `pending` what is settled. The code to tell the member of, if there is one.
    fn sort(
        &mut self,
        codes: Vec<(TopicPartition, ErrorCode)>,
        pending: &mut BTreeMap<&TopicPartition, &OffsetAndMetadata>,
        report: &mut CommitReport,
    ) -> Result<Option<ErrorCode>, Error> {
        let mut about_member = None;
        for (partition, code) in codes {
            match code {
                ErrorCode::NONE => {
                    pending.remove(&partition);
                }
                ErrorCode::ILLEGAL_GENERATION
                | ErrorCode::UNKNOWN_MEMBER_ID
                | ErrorCode::FENCED_INSTANCE_ID
                | ErrorCode::REBALANCE_IN_PROGRESS => about_member = Some(code),
                ErrorCode::GROUP_AUTHORIZATION_FAILED => return Err(self.refused(code)),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if self.may_be_new(&partition) => {}
                code if code.is_retryable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                    // The coordinator is forgotten if the code says so; the try itself is repeated.
                    let _ = self.coordinator.judge(code);
                }
                code => {
                    if pending.remove(&partition).is_some() {
                        report.refused.insert(partition, code);
                    }
                }
            }
        }
        Ok(about_member)
    }

    fn may_be_new(&mut self, partition: &TopicPartition) -> bool {
        let tries = self.unknown_topic.entry(partition.clone()).or_default();
        *tries += 1;
        *tries < UNKNOWN_TOPIC_TRIES
    }

    fn sort_fetched(
        &mut self,
        partition: TopicPartition,
        result: Result<OffsetAndMetadata, ErrorCode>,
        pending: &mut BTreeSet<TopicPartition>,
        committed: &mut Committed,
    ) -> Result<(), Error> {
        match result {
            Ok(found) => {
                // What was not asked for is not believed.
                if pending.remove(&partition) && found.next_offset >= 0 {
                    committed.offsets.insert(partition, found);
                }
            }
            Err(ErrorCode::GROUP_AUTHORIZATION_FAILED) => {
                return Err(self.refused(ErrorCode::GROUP_AUTHORIZATION_FAILED));
            }
            // Never "not committed": whoever believes that begins at the wrong place.
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if self.may_be_new(&partition) => {}
            Err(code) if code.is_retryable() && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => {
                let _ = self.coordinator.judge(code);
                self.unsettled.insert(partition, code);
            }
            Err(code) => {
                if pending.remove(&partition) {
                    committed.refused.insert(partition, code);
                }
            }
        }
        Ok(())
    }
}

async fn commit_once(
    coordinator: &Coordinator,
    identity: &Identity,
    offsets: &BTreeMap<&TopicPartition, &OffsetAndMetadata>,
    time: Duration,
) -> Result<Vec<(TopicPartition, ErrorCode)>, error::Error> {
    let build = |version| commit_request(coordinator, identity, offsets, version);
    let answer = coordinator.call(2..=9, time, build).await?;
    let mut codes = Vec::with_capacity(offsets.len());
    for topic in answer.body.topics {
        let name: Arc<str> = topic.name.as_str().into();
        codes.extend(topic.partitions.into_iter().map(|partition| {
            let code = ErrorCode(partition.error_code);
            (TopicPartition::new(Arc::clone(&name), partition.partition_index), code)
        }));
    }
    Ok(codes)
}

fn commit_request(
    coordinator: &Coordinator,
    identity: &Identity,
    offsets: &BTreeMap<&TopicPartition, &OffsetAndMetadata>,
    version: i16,
) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (partition, position) in offsets {
        let mut entry = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(position.next_offset)
            .with_committed_metadata(Some(text(&position.metadata)));
        if version >= 6 {
            entry.committed_leader_epoch = position.leader_epoch;
        }
        match topics.last_mut() {
            Some(topic) if topic.name.as_str() == &*partition.topic => topic.partitions.push(entry),
            _ => topics.push(
                OffsetCommitRequestTopic::default()
                    .with_name(TopicName(text(&partition.topic)))
                    .with_partitions(vec![entry]),
            ),
        }
    }
    let mut request = OffsetCommitRequest::default()
        .with_group_id(group(coordinator))
        .with_generation_id_or_member_epoch(identity.generation)
        .with_member_id(text(&identity.member_id))
        .with_topics(topics);
    if version <= 4 {
        request.retention_time_ms = RETENTION_MS;
    }
    if version >= 7 {
        request.group_instance_id = optional_text(identity.instance_id.as_ref());
    }
    request
}

type Fetched = Vec<(TopicPartition, Result<OffsetAndMetadata, ErrorCode>)>;

async fn fetch_once(
    coordinator: &Coordinator,
    partitions: &BTreeSet<TopicPartition>,
    time: Duration,
) -> Result<Fetched, error::Error> {
    let build = |version| fetch_request(coordinator, partitions, version);
    let answer = coordinator.call(1..=8, time, build).await?;
    let code = match answer.body.groups.first() {
        Some(group) if answer.version >= 8 => group.error_code,
        _ => answer.body.error_code,
    };
    if let Err(Failure::Code(code)) = coordinator.judge(ErrorCode(code)) {
        let subject = error::Subject::Group(Arc::clone(coordinator.group_id()));
        let api = kafka_protocol::messages::ApiKey::OffsetFetch;
        return Err(error::Error::broker(api, subject, code));
    }
    Ok(fetched(answer.body))
}

fn fetch_request(
    coordinator: &Coordinator,
    partitions: &BTreeSet<TopicPartition>,
    version: i16,
) -> OffsetFetchRequest {
    let partitions: Vec<TopicPartition> = partitions.iter().cloned().collect();
    let topics = by_topic(&partitions).into_iter();
    let mut request = OffsetFetchRequest::default();
    if version >= 7 {
        request.require_stable = true;
    }
    if version >= 8 {
        let topics = topics.map(|(topic, indexes)| {
            OffsetFetchRequestTopics::default()
                .with_name(TopicName(text(topic)))
                .with_partition_indexes(indexes)
        });
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(group(coordinator))
            .with_topics(Some(topics.collect()));
        return request.with_groups(vec![wanted]);
    }
    let topics = topics.map(|(topic, indexes)| {
        OffsetFetchRequestTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partition_indexes(indexes)
    });
    request.with_group_id(group(coordinator)).with_topics(Some(topics.collect()))
}

fn fetched(body: OffsetFetchResponse) -> Fetched {
    let position = |next_offset, leader_epoch, metadata: Option<&str>| OffsetAndMetadata {
        next_offset,
        leader_epoch,
        metadata: metadata.unwrap_or_default().into(),
    };
    let mut found = Fetched::new();
    for topic in body.topics {
        let name: Arc<str> = topic.name.as_str().into();
        for p in topic.partitions {
            let at = position(p.committed_offset, p.committed_leader_epoch, p.metadata.as_deref());
            let result = ErrorCode(p.error_code).check().map(|()| at);
            found.push((TopicPartition::new(Arc::clone(&name), p.partition_index), result));
        }
    }
    for topic in body.groups.into_iter().flat_map(|group| group.topics) {
        let name: Arc<str> = topic.name.as_str().into();
        for p in topic.partitions {
            let at = position(p.committed_offset, p.committed_leader_epoch, p.metadata.as_deref());
            let result = ErrorCode(p.error_code).check().map(|()| at);
            found.push((TopicPartition::new(Arc::clone(&name), p.partition_index), result));
        }
    }
    found
}
