//! The one loop that asks for metadata.
//!
//! It asks when the view is too old, and at once when somebody wants one newer than they have seen.
//! All who want one share the same question.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, watch};

use super::pin::Pin;
use super::{Generation, View, merge};
use crate::backoff::Backoff;
use crate::broker::{Answer, Broker, Lane};
use crate::clock;
use crate::error::{Chain, Error};

/// Versions of Metadata used: 1 brings the controller and "none" apart from "all", 12 allows
/// topics without a name, which are ignored.
pub(crate) const VERSIONS: std::ops::RangeInclusive<i16> = 1..=12;

/// The least time between two questions, however many ask.
const SPACING: Duration = Duration::from_millis(20);

/// What the loop and those who wait for it share.
#[derive(Debug)]
pub(crate) struct Refresh {
    pin: Pin,
    views: watch::Sender<Arc<View>>,
    /// The last failure and the number of failures so far, for those who wait.
    failures: watch::Sender<(u64, Option<Error>)>,
    wanted: Notify,
    interest: Mutex<Interest>,
}

/// Which topics the metadata are asked for.
#[derive(Debug, Default, Clone)]
struct Interest {
    all: bool,
    topics: BTreeSet<Arc<str>>,
}

impl Refresh {
    pub(crate) fn new(pin: Pin) -> Self {
        Self {
            pin,
            views: watch::Sender::new(Arc::default()),
            failures: watch::Sender::new((0, None)),
            wanted: Notify::new(),
            interest: Mutex::default(),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<View>> {
        self.views.subscribe()
    }

    pub(crate) fn watch_topics(&self, topics: impl IntoIterator<Item = Arc<str>>) {
        let mut interest = self.interest();
        let before = interest.topics.len();
        interest.topics.extend(topics);
        let has_grown = interest.topics.len() > before && !interest.all;
        drop(interest);
        if has_grown {
            self.wanted.notify_one();
        }
    }

    pub(crate) fn watch_all_topics(&self) {
        let had_all = std::mem::replace(&mut self.interest().all, true);
        if !had_all {
            self.wanted.notify_one();
        }
    }

    /// Waits for a view newer than `seen`, or for the failure of a question asked from now on.
    pub(crate) async fn newer_than(&self, seen: Generation) -> Result<Arc<View>, Error> {
        if self.view().generation > seen {
            return Ok(self.view());
        }
        let mut views = self.views.subscribe();
        let mut failures = self.failures.subscribe();
        let failed_before = failures.borrow_and_update().0;
        self.wanted.notify_one();
        tokio::select! {
            view = views.wait_for(|view| view.generation > seen) => {
                Ok(Arc::clone(&*view.expect("invariant: the sender lives in self")))
            }
            failure = failures.wait_for(|(count, _)| *count > failed_before) => {
                let failure = failure.expect("invariant: the sender lives in self");
                Err(failure.1.clone().expect("invariant: a counted failure is kept"))
            }
        }
    }

    /// Asks `broker` once, and shows the new view. One of another cluster is not shown.
    pub(crate) async fn ask(&self, broker: &Broker) -> Result<Arc<View>, Error> {
        let answer = broker.call(Lane::Control, VERSIONS, |version| self.request(version)).await?;
        let Answer { version, body } = answer;
        let cluster_id = body.cluster_id.as_ref().map(|id| id.as_str());
        self.pin.check(broker.advertised(), cluster_id)?;
        let next = Arc::new(merge::next_view(&self.view(), &body, version));
        tracing::debug!(
            generation = next.generation.0,
            brokers = next.brokers.len(),
            topics = next.topics.len(),
            "metadata refreshed"
        );
        self.views.send_replace(Arc::clone(&next));
        Ok(next)
    }

    /// Waits until the next question is due, [`SPACING`] after the one before at the earliest.
    pub(crate) async fn due(&self, age_max: Duration) {
        clock::sleep(SPACING).await;
        tokio::select! {
            () = self.wanted.notified() => {}
            () = clock::sleep(age_max) => {}
        }
    }

    /// Tells those who wait that a question failed, and waits before the next.
    pub(crate) async fn failed(&self, error: Error, backoff: &mut Backoff) {
        tracing::debug!(error = %Chain(&error), "metadata not refreshed");
        self.failures.send_modify(|(count, last)| {
            *count += 1;
            *last = Some(error);
        });
        clock::sleep(backoff.next_delay()).await;
        self.wanted.notify_one();
    }

    /// Before version 4 a topic that is asked for by name may be created by the asking, so there
    /// all topics are asked for.
    fn request(&self, version: i16) -> MetadataRequest {
        let interest = self.interest().clone();
        let names = interest.topics.iter().map(|topic| {
            let name = StrBytes::from_string(topic.to_string());
            MetadataRequestTopic::default().with_name(Some(TopicName(name)))
        });
        let topics = (!interest.all && version >= 4).then(|| names.collect());
        MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(version < 4)
    }

    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
