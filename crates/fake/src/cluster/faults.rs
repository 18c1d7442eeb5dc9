//! What a test does to the brokers: stop, start, freeze, move leaders, intercept, look at requests.
//!
//! Always true: a call takes effect before it returns.

use kafka_protocol::messages::ApiKey;
use tokio::net::TcpListener;

use super::Cluster;
use crate::error::Error;
use crate::intercept::{Action, Context, Intercept};
use crate::journal::Seen;
use crate::shared::{Handle, Phase};

impl Cluster {
    /// Stops a broker: its connections close, new ones are refused, its partitions elect other live
    /// replicas in a new leader epoch, or have no leader.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`].
    pub fn stop_broker(&self, broker: i32) -> Result<(), Error> {
        self.handle(broker)?.phase.send_replace(Phase::Stopped);
        self.shared.tasks.stop(broker);
        self.shared.state().mark_alive(broker, false);
        Ok(())
    }

    /// Starts a stopped broker at its old address. Leaders do not move back by themselves.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`]; [`Error::Listen`] if the port was taken meanwhile.
    pub async fn start_broker(&self, broker: i32) -> Result<(), Error> {
        let handle = self.handle(broker)?;
        if *handle.phase.borrow() != Phase::Stopped {
            return self.thaw_broker(broker);
        }
        let listener = match handle.listening {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| Error::Listen { broker, source })?)
            }
        };
        handle.phase.send_replace(Phase::Running);
        self.shared.state().mark_alive(broker, true);
        self.run_broker(broker, listener);
        Ok(())
    }

    /// Freezes a broker: connections stay open and are accepted, nothing is handled or answered.
    /// The cluster still counts it as alive.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`].
    pub fn freeze_broker(&self, broker: i32) -> Result<(), Error> {
        self.handle(broker)?.phase.send_replace(Phase::Frozen);
        Ok(())
    }

    /// Lets a frozen broker go on where it stopped.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`].
    pub fn thaw_broker(&self, broker: i32) -> Result<(), Error> {
        self.handle(broker)?.phase.send_if_modified(|phase| {
            let is_frozen = *phase == Phase::Frozen;
            if is_frozen {
                *phase = Phase::Running;
            }
            is_frozen
        });
        Ok(())
    }

    /// Closes every connection of a broker; it goes on accepting.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`].
    pub fn disconnect_all(&self, broker: i32) -> Result<(), Error> {
        self.handle(broker)?.cuts.send_modify(|cuts| *cuts += 1);
        Ok(())
    }

    /// Makes `broker` lead the partition in a new leader epoch; it becomes a replica if it was
    /// none.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`], [`Error::UnknownPartition`].
    pub fn move_leader(&self, topic: &str, partition: i32, broker: i32) -> Result<(), Error> {
        self.handle(broker)?;
        self.with_partition(topic, partition, |partition| {
            if !partition.replicas.contains(&broker) {
                partition.replicas.push(broker);
            }
            partition.elect(broker);
        })
    }

    /// The leader (-1: none) and the leader epoch of a partition.
    ///
    /// # Errors
    /// [`Error::UnknownPartition`].
    pub fn leader(&self, topic: &str, partition: i32) -> Result<(i32, i32), Error> {
        self.with_partition(topic, partition, |p| (p.leader, p.leader_epoch))
    }

    /// The controller's id.
    #[must_use]
    pub fn controller(&self) -> i32 {
        self.shared.state().controller
    }

    /// Makes another broker the controller.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`].
    pub fn move_controller(&self, broker: i32) -> Result<(), Error> {
        self.handle(broker)?;
        self.shared.state().controller = broker;
        Ok(())
    }

    /// Asks `decide` about every request of this API until the guard is dropped.
    pub fn intercept(
        &self,
        api: ApiKey,
        decide: impl FnMut(&Context<'_>) -> Action + Send + 'static,
    ) -> Intercept {
        self.shared.rules.add(api, false, Box::new(decide))
    }

    /// As [`Cluster::intercept`], until `decide` first returns something else than
    /// [`Action::Continue`].
    pub fn intercept_once(
        &self,
        api: ApiKey,
        decide: impl FnMut(&Context<'_>) -> Action + Send + 'static,
    ) -> Intercept {
        self.shared.rules.add(api, true, Box::new(decide))
    }

    /// Offers an API up to this version only, from the next request on.
    pub fn lower_max_version(&self, api: ApiKey, version: i16) {
        self.shared.versions().lower(api, version);
    }

    /// Forgets every fetch session, as a broker under memory pressure does.
    pub fn evict_fetch_sessions(&self) {
        self.shared.sessions().clear();
    }

    /// The requests received, oldest first; at most the newest 65,536.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.journal.seen()
    }

    /// How many requests of this API came to any broker.
    #[must_use]
    pub fn request_count(&self, api: ApiKey) -> u64 {
        self.shared.journal.count(None, api)
    }

    /// How many requests of this API came to this broker.
    #[must_use]
    pub fn request_count_on(&self, broker: i32, api: ApiKey) -> u64 {
        self.shared.journal.count(Some(broker), api)
    }

    /// Forgets the requests received so far and their counts.
    pub fn clear_requests(&self) {
        self.shared.journal.clear();
    }

    fn handle(&self, broker: i32) -> Result<&Handle, Error> {
        self.shared.handles.get(&broker).ok_or(Error::UnknownBroker { broker })
    }
}
