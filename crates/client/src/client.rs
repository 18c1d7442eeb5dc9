//! The client: a cheap handle to one cluster.
//!
//! It knows the cluster by an immutable [`View`] that one loop refreshes, and gives out [`Broker`]
//! handles. When every broker it knew is gone it goes back to the bootstrap servers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::broker::{Broker, Lane};
use crate::cluster::pin::Pin;
use crate::cluster::refresh::Refresh;
use crate::cluster::{Generation, View};
use crate::config::Config;
use crate::connection::Address;
use crate::error::Error;
use crate::name::BrokerId;
use crate::task::{self, Task};

/// How long one broker may think before the next is asked as well. At most as many are asked as
/// there are brokers and bootstrap servers.
const HEDGE_AFTER: Duration = Duration::from_secs(1);

/// A handle to one cluster. Clones share connections and metadata.
///
/// ```no_run
/// # async fn example() -> Result<(), kmirror_client::Error> {
/// use kmirror_client::{Client, Config};
///
/// let client = Client::connect(Config::new("localhost:9092")?).await?;
/// client.watch_all_topics();
/// let view = client.refresh(client.view().generation).await?;
/// for topic in view.topics() {
///     println!("{} has {} partitions", topic.name, topic.partitions.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    pin: Pin,
    refresh: Arc<Refresh>,
    brokers: Mutex<BTreeMap<BrokerId, Broker>>,
    bootstrap: Vec<Broker>,
    refresher: Mutex<Option<Task<()>>>,
}

impl Client {
    /// Reaches one of the bootstrap servers and learns the cluster from it. From then on brokers of
    /// any other cluster are refused, wherever they are met.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] when none answers, [`Error::ClusterChanged`] when only another cluster
    /// does than the one that was named.
    pub async fn connect(config: Config) -> Result<Self, Error> {
        let pin = Pin::new(config.cluster_id.clone());
        let bootstrap = config
            .bootstrap
            .iter()
            .map(|address| Broker::new(None, address.clone(), &config, &pin))
            .collect();
        let inner = Arc::new(Inner {
            config,
            refresh: Arc::new(Refresh::new(pin.clone())),
            pin,
            brokers: Mutex::default(),
            bootstrap,
            refresher: Mutex::default(),
        });
        inner.refresh_once().await?;
        let refresher = task::spawn("metadata", keep_fresh(Arc::downgrade(&inner)));
        *inner.refresher.lock().unwrap_or_else(PoisonError::into_inner) = Some(refresher);
        Ok(Self { inner })
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The cluster as it was last seen.
    pub fn view(&self) -> Arc<View> {
        self.inner.refresh.view()
    }

    /// Follows the views as they come.
    pub fn view_changes(&self) -> watch::Receiver<Arc<View>> {
        self.inner.refresh.subscribe()
    }

    /// Adds topics to those that the metadata are asked for.
    pub fn watch_topics(&self, topics: impl IntoIterator<Item = Arc<str>>) {
        self.inner.refresh.watch_topics(topics);
    }

    /// Asks for the metadata of all topics from now on.
    pub fn watch_all_topics(&self) {
        self.inner.refresh.watch_all_topics();
    }

    /// Waits for a view newer than `seen`. All who wait share one question to the cluster.
    ///
    /// # Errors
    /// Why the cluster could not be asked; the loop goes on trying. [`Error::ClusterChanged`] when
    /// another answers in its place, and no broker of it.
    pub async fn refresh(&self, seen: Generation) -> Result<Arc<View>, Error> {
        self.inner.refresh.newer_than(seen).await
    }

    /// The broker `id` of the current view.
    ///
    /// # Errors
    /// [`Error::UnknownBroker`] when the view has no such broker.
    pub fn broker(&self, id: BrokerId) -> Result<Broker, Error> {
        self.inner.broker(id)
    }

    /// A broker that answers: one of the view, or else one of the bootstrap servers. It is asked,
    /// since a connection that looks open may lead nowhere; a slow one is not waited for alone.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] when none answers, [`Error::ClusterChanged`] when only another cluster
    /// does.
    pub async fn any_broker(&self) -> Result<Broker, Error> {
        // It may have to wait behind a long request on the same connection.
        let timeout = self.inner.config.request_timeout;
        let greet = |broker: Broker| async move {
            let connection = broker.connection(Lane::Control).await?;
            broker.greet(&connection, timeout).await?;
            Ok(broker)
        };
        self.inner.first_of(greet).await
    }

    /// The cluster's controller.
    ///
    /// # Errors
    /// When the cluster has none now, or cannot be reached.
    pub async fn controller(&self) -> Result<Broker, Error> {
        let mut view = self.view();
        if view.controller.is_none() {
            view = self.refresh(view.generation).await?;
        }
        match view.controller {
            Some(id) => self.broker(id),
            None => self.any_broker().await,
        }
    }
}

impl Inner {
    async fn refresh_once(&self) -> Result<Arc<View>, Error> {
        let ask = |broker: Broker| async move { self.refresh.ask(&broker).await };
        self.first_of(ask).await
    }

    /// Asks one broker after the other until one answers; a slow one is not waited for alone.
    async fn first_of<T, F>(&self, ask: impl Fn(Broker) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut candidates = self.candidates().into_iter();
        let mut asking = FuturesUnordered::new();
        let mut last = None;
        loop {
            asking.extend(candidates.next().map(&ask));
            let answered = tokio::time::timeout(HEDGE_AFTER, asking.next());
            match answered.await {
                Ok(Some(Ok(answer))) => return Ok(answer),
                // That another cluster is there says more than that somebody is not.
                Ok(Some(Err(_))) if matches!(last, Some(Error::ClusterChanged { .. })) => {}
                Ok(Some(Err(error))) => last = Some(error),
                Ok(None) => return Err(self.nobody_answered(last)),
                Err(_) => {}
            }
        }
    }

    /// Whom to ask: the brokers of the view first, in turn, then the bootstrap servers.
    fn candidates(&self) -> Vec<Broker> {
        let view = self.refresh.view();
        let known: Vec<Broker> =
            view.brokers().filter_map(|broker| self.broker(broker.id).ok()).collect();
        let turn = usize::try_from(view.generation.0).unwrap_or(0) % known.len().max(1);
        let (later, first) = known.split_at(turn);
        first.iter().chain(later).chain(&self.bootstrap).cloned().collect()
    }

    fn broker(&self, id: BrokerId) -> Result<Broker, Error> {
        let view = self.refresh.view();
        let info = view.broker(id).ok_or(Error::UnknownBroker { id })?;
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        // Bounded by the cluster's size: brokers that have left the view are let go.
        brokers.retain(|id, _| view.broker(*id).is_some());
        match brokers.get(&id) {
            Some(broker) if *broker.advertised() == info.address => Ok(broker.clone()),
            _ => {
                let broker = Broker::new(Some(id), info.address.clone(), &self.config, &self.pin);
                brokers.insert(id, broker.clone());
                Ok(broker)
            }
        }
    }

    fn nobody_answered(&self, last: Option<Error>) -> Error {
        if let Some(error @ Error::ClusterChanged { .. }) = last {
            return error;
        }
        let addresses: Vec<String> = self.config.bootstrap.iter().map(Address::to_string).collect();
        let none = || Error::Config { problem: "no bootstrap server is named".to_owned() };
        let source = Box::new(last.unwrap_or_else(none));
        Error::Bootstrap { addresses: addresses.join(","), source }
    }
}

/// Keeps the view fresh until the last handle is gone.
async fn keep_fresh(client: Weak<Inner>) {
    let Some((refresh, config)) =
        client.upgrade().map(|inner| (Arc::clone(&inner.refresh), inner.config.clone()))
    else {
        return;
    };
    let mut backoff = Backoff::new(config.backoff_initial, config.backoff_max);
    loop {
        refresh.due(config.metadata_age_max).await;
        let Some(inner) = client.upgrade() else { return };
        let outcome = inner.refresh_once().await;
        drop(inner);
        match outcome {
            Ok(_) => backoff.reset(),
            Err(error) => refresh.failed(error, &mut backoff).await,
        }
    }
}
