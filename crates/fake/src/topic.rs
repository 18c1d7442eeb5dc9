//! Topics: their configuration and their partitions.
//!
//! Owned by the cluster state, which holds the lock. Always true: a leader is a live replica or -1,
//! and a leader epoch only grows.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::batch::Codec;
use crate::log::Log;
use crate::log::validate::Rules;
use crate::versions::Release;

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) is_internal: bool,
    pub(crate) partitions: Vec<Partition>,
    /// What was set on the topic; everything else is [`DEFAULTS`].
    pub(crate) overrides: BTreeMap<String, String>,
}

/// One partition, shared by all its replicas: the fake replicates nothing.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) log: Log,
    /// -1 when no replica is alive.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    /// Long polls to wake; bounded by the number of connections.
    waiters: Vec<Weak<Notify>>,
}

impl Partition {
    pub(crate) fn new(replicas: Vec<i32>) -> Partition {
        let leader = replicas.first().copied().unwrap_or(-1);
        let mut log = Log::default();
        log.start_epoch(0);
        Partition { log, leader, leader_epoch: 0, replicas, waiters: Vec::new() }
    }

    /// Makes `leader` lead in a new epoch.
    pub(crate) fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader >= 0 {
            self.log.start_epoch(self.leader_epoch);
        }
        self.wake();
    }

    /// Wakes every long poll that waits for this partition.
    pub(crate) fn wake(&mut self) {
        for waiter in self.waiters.drain(..) {
            if let Some(waiter) = waiter.upgrade() {
                // One permit is kept if the poll is not waiting yet, so no wake-up is lost.
                waiter.notify_one();
            }
        }
    }

    /// Wakes `waiter` at the next change.
    pub(crate) fn watch(&mut self, waiter: &Arc<Notify>) {
        self.waiters.retain(|known| known.strong_count() > 0);
        if !self.waiters.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(waiter))) {
            self.waiters.push(Arc::downgrade(waiter));
        }
    }
}

impl Topic {
    /// The value of a setting: the override or the default.
    pub(crate) fn config(&self, name: &str) -> Option<&str> {
        self.overrides.get(name).map(String::as_str).or_else(|| default_of(name))
    }

    pub(crate) fn is_compacted(&self) -> bool {
        self.config("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.config(name).and_then(|value| value.parse().ok()).unwrap_or(i64::MAX)
    }

    /// What a batch produced to this topic must satisfy.
    pub(crate) fn rules(&self, produce_version: i16, release: Release, now_ms: i64) -> Rules {
        let after_default = if release >= Release::V4_0 { AFTER_MAX_MS_SINCE_V4 } else { i64::MAX };
        let after_key = "message.timestamp.after.max.ms";
        let after_max_ms = match self.overrides.get(after_key) {
            Some(value) => value.parse().unwrap_or(after_default),
            None => after_default,
        };
        let difference_ms = self.number("message.timestamp.difference.max.ms");
        let before_max_ms = self.number("message.timestamp.before.max.ms");
        Rules {
            produce_version,
            release,
            is_strict: false,
            is_compacted: self.is_compacted(),
            is_log_append_time: self.config("message.timestamp.type") == Some("LogAppendTime"),
            compression: self.config("compression.type").and_then(Codec::from_name),
            bytes_max: usize::try_from(self.number("max.message.bytes")).unwrap_or(0),
            before_max_ms: before_max_ms.min(difference_ms),
            after_max_ms: after_max_ms.min(difference_ms),
            now_ms,
        }
    }
}

/// The default of a topic setting; `None` for a name no topic has.
pub(crate) fn default_of(name: &str) -> Option<&'static str> {
    DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Whether a topic may have this name (`Topic.validate`).
pub(crate) fn is_legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

/// KIP-1030's new default: one hour.
const AFTER_MAX_MS_SINCE_V4: i64 = 3_600_000;

/// Topic settings and their defaults, as `TopicConfig` and `LogConfig` have them in 3.9.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("follower.replication.throttled.replicas", ""),
    ("index.interval.bytes", "4096"),
    ("leader.replication.throttled.replicas", ""),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    ("message.downconversion.enable", "true"),
    ("message.format.version", "3.0-IV1"),
    ("message.timestamp.after.max.ms", "9223372036854775807"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.difference.max.ms", "9223372036854775807"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];
