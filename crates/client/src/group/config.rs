//! How a member behaves: names, time-outs, assignors.
//!
//! Owned by the group module. The defaults are those of the Java consumer except where said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::assignor::Assignor;
use super::error::Error;
use super::slot::Slot;

/// The settings of one member.
#[derive(Clone, Debug)]
pub struct Config {
    /// The group (`group.id`).
    pub group_id: Arc<str>,
    /// Whether the member has a name that survives a restart.
    pub instance: Instance,
    /// What it can divide partitions by, in order of preference. Cooperative only if all are.
    pub assignors: Vec<Assignor>,
    /// How long the coordinator waits for a static member's heartbeat before it gives its
    /// partitions to others (`session.timeout.ms`).
    pub session_timeout: Duration,
    /// The same for a dynamic member. Shorter than Java's 45 s: a dynamic member that died is in
    /// its own successor's way for this long.
    pub session_timeout_dynamic: Duration,
    /// How long others wait for this member to give up its partitions and rejoin. Java uses
    /// `max.poll.interval.ms`, 5 minutes; a mirror flushes within seconds.
    pub rebalance_timeout: Duration,
    /// The time between heartbeats (`heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// How long a commit, or a look-up of committed offsets, is tried before it fails.
    pub commit_timeout: Duration,
    /// How long a member that is not the leader waits for the leader to notice that topics or
    /// partitions came or went, before it calls for a rebalance itself; and how long anybody waits
    /// before believing that partitions went.
    pub patience: Duration,
    /// The topics subscribed to at first.
    pub topics: BTreeSet<Arc<str>>,
}

/// Whether and how a member keeps its identity over a restart (KIP-345).
#[derive(Clone, Debug)]
pub enum Instance {
    /// A new member each time; the old one's session has to time out.
    Dynamic,
    /// A name given by the operator (`group.instance.id`); must be unique in the group.
    Named(Arc<str>),
    /// A name held by a lock on this host. Dynamic on brokers before 2.3.
    Slot {
        /// The lock.
        slot: Slot,
        /// Which of the process's members this is.
        stream: usize,
    },
}

impl Instance {
    /// The name to join with.
    pub(crate) fn id(&self) -> Option<Arc<str>> {
        match self {
            Instance::Dynamic => None,
            Instance::Named(id) => Some(Arc::clone(id)),
            Instance::Slot { slot, stream } => Some(slot.instance_id(*stream)),
        }
    }
}

impl Config {
    /// A dynamic member of `group_id` with the defaults: cooperative-sticky, no topics yet.
    pub fn new(group_id: impl Into<Arc<str>>) -> Self {
        Self {
            group_id: group_id.into(),
            instance: Instance::Dynamic,
            assignors: vec![Assignor::CooperativeSticky],
            session_timeout: Duration::from_secs(45),
            session_timeout_dynamic: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            commit_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            topics: BTreeSet::new(),
        }
    }

    /// With these topics.
    pub fn with_topics<T: Into<Arc<str>>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// With these assignors, the preferred one first.
    pub fn with_assignors(mut self, assignors: impl Into<Vec<Assignor>>) -> Self {
        self.assignors = assignors.into();
        self
    }

    /// With this identity.
    pub fn with_instance(mut self, instance: Instance) -> Self {
        self.instance = instance;
        self
    }

    /// Whether members keep their partitions while they rejoin: only if every assignor offered
    /// allows it, for the coordinator may choose any (`ConsumerCoordinator.java`).
    pub fn is_cooperative(&self) -> bool {
        self.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    /// Whether a member can live with these settings.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no assignor, or the same one twice; or when heartbeats are
    /// so rare that a session ends between two of them. Any member may come to be a dynamic one,
    /// for want of a slot or on brokers before 2.3, so the shorter session counts.
    pub fn check(&self) -> Result<(), Error> {
        let names: BTreeSet<&str> = self.assignors.iter().map(|assignor| assignor.name()).collect();
        if names.is_empty() {
            return Err(wrong("assignors", "there is none".to_owned()));
        }
        if names.len() < self.assignors.len() {
            return Err(wrong("assignors", "one is named twice".to_owned()));
        }
        let session = self.session_timeout.min(self.session_timeout_dynamic);
        let interval = self.heartbeat_interval;
        if interval.is_zero() || interval >= session {
            let problem =
                format!("{interval:?} is not between 0 and the session time-out {session:?}");
            return Err(wrong("heartbeat_interval", problem));
        }
        Ok(())
    }
}

fn wrong(setting: &'static str, problem: String) -> Error {
    Error::Config { setting, problem }
}

/// How long a heartbeat may go unanswered: twice more must fit into the session.
pub(super) fn heartbeat_timeout(session: Duration) -> Duration {
    (session / 3).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_cooperative_only_if_every_assignor_is() {
        let config = Config::new("g");
        assert!(config.is_cooperative());
        let mixed = [Assignor::CooperativeSticky, Assignor::Range];
        assert!(!config.with_assignors(mixed).is_cooperative());
    }

    #[test]
    fn heartbeats_fit_into_the_shorter_session() {
        let mut config = Config::new("g");
        config.heartbeat_interval = config.session_timeout_dynamic;
        let refused = config.check();
        assert!(
            matches!(refused, Err(Error::Config { setting: "heartbeat_interval", .. })),
            "a dynamic member would be expelled between two heartbeats: {refused:?}"
        );
        config.heartbeat_interval = config.session_timeout_dynamic / 2;
        assert!(config.check().is_ok());
    }

    #[test]
    fn assignors_are_checked() {
        assert!(Config::new("g").check().is_ok());
        assert!(Config::new("g").with_assignors([]).check().is_err());
        let twice = [Assignor::Range, Assignor::Range];
        assert!(Config::new("g").with_assignors(twice).check().is_err());
    }
}
