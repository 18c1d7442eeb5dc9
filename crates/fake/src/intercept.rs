//! Lets a test see every request before it is handled and decide what happens to it.
//!
//! Owned by the cluster. Always true: a rule is asked in the order rules were added, the first that
//! does not say [`Action::Continue`] decides, and no lock of the cluster is held while it is asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request as WireRequest;

use crate::error::Error;
use crate::wire::header::Incoming;
use crate::wire::{codec_error, shape};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Action {
    /// It is handled, unless a later rule decides otherwise.
    Continue,
    /// It is not handled; the answer carries this error wherever its shape has room for one:
    /// on every partition for data requests, at the top elsewhere.
    Error(ResponseError),
    /// It is not handled; the answer is these bytes after the response header.
    Reply(Bytes),
    /// It is handled after this time.
    Delay(Duration),
    /// It is handled at once, but the answer is sent after this time.
    DelayReply(Duration),
    /// It is not handled; the connection is closed.
    Disconnect,
    /// It is handled; the connection is closed instead of the answer being sent.
    HandleThenDisconnect,
    /// It is handled, but only so many bytes of the answer are sent before the connection closes.
    Truncate(usize),
    /// It is not handled; these bytes are sent instead of a response frame.
    Garbage(Bytes),
    /// It is not handled and never answered; the connection stays open, later requests are served.
    Ignore,
}

/// A request as a rule sees it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The broker it came to.
    pub broker: i32,
    /// The connection it came on.
    pub connection: u64,
    /// Which API.
    pub api: ApiKey,
    /// Which version of it.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
    /// How many requests of this rule's API the rule was asked about before.
    pub nth: u64,
    body: &'a Bytes,
}

impl Context<'_> {
    /// The request itself.
    ///
    /// # Errors
    /// [`Error::Codec`] or [`Error::Frame`] if the bytes are not a `Q`.
    pub fn decode<Q: WireRequest>(&self) -> Result<Q, Error> {
        shape::check(self.api, self.version, self.body)?;
        Q::decode(&mut self.body.clone(), self.version)
            .map_err(|error| codec_error(self.api, self.version, &error))
    }
}

type Decide = Box<dyn FnMut(&Context<'_>) -> Action + Send>;

struct Rule {
    id: u64,
    api: ApiKey,
    is_once: bool,
    is_done: AtomicBool,
    asked: AtomicU64,
    decide: Mutex<Decide>,
}

/// The rules in force.
#[derive(Default)]
pub(crate) struct Rules {
    rules: Mutex<Vec<Arc<Rule>>>,
    next_id: AtomicU64,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

/// Keeps a rule in force; dropping it withdraws the rule.
#[derive(Debug)]
#[must_use = "the rule ends when its guard is dropped"]
pub struct Intercept {
    rules: Weak<Rules>,
    id: u64,
}

impl Intercept {
    /// Leaves the rule in force for as long as the cluster lives.
    pub fn forget(mut self) {
        self.rules = Weak::new();
    }
}

impl Drop for Intercept {
    fn drop(&mut self) {
        if let Some(rules) = self.rules.upgrade() {
            rules.lock().retain(|rule| rule.id != self.id);
        }
    }
}

impl Rules {
    pub(crate) fn add(self: &Arc<Rules>, api: ApiKey, is_once: bool, decide: Decide) -> Intercept {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.lock().push(Arc::new(Rule {
            id,
            api,
            is_once,
            is_done: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            decide: Mutex::new(decide),
        }));
        Intercept { rules: Arc::downgrade(self), id }
    }

    /// What the rules say about a request.
    pub(crate) fn decide(&self, broker: i32, connection: u64, incoming: &Incoming) -> Action {
        let concerned: Vec<Arc<Rule>> =
            self.lock().iter().filter(|rule| rule.api == incoming.api).cloned().collect();
        for rule in concerned {
            let action = rule.ask(broker, connection, incoming);
            if action != Action::Continue {
                return action;
            }
        }
        Action::Continue
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Rule>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    fn ask(&self, broker: i32, connection: u64, incoming: &Incoming) -> Action {
        // The rule's own lock makes "once" exact when two connections ask at the same time.
        let mut decide = self.decide.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_done.load(Ordering::Relaxed) {
            return Action::Continue;
        }
        let context = Context {
            broker,
            connection,
            api: incoming.api,
            version: incoming.version,
            client_id: incoming.client_id.as_deref(),
            nth: self.asked.fetch_add(1, Ordering::Relaxed),
            body: &incoming.body,
        };
        let action = decide(&context);
        if self.is_once && action != Action::Continue {
            self.is_done.store(true, Ordering::Relaxed);
        }
        action
    }
}
