//! One connection to one broker.
//!
//! `driver` moves bytes and decides nothing; `state` decides and moves nothing; `handshake`
//! learns what the broker speaks; [`Connector`] says how a connection is dialled.
//!
//! Always true: a request whose first byte was written is finished, or the connection closes; an
//! answer reaches the request it belongs to or nobody; an unanswered request closes the connection
//! when its time is up, so that nothing waits for ever behind it.

mod address;
mod codec;
mod connector;
mod driver;
mod frame;
mod guard;
mod handshake;
mod round_trip;
mod state;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Sleep, sleep};

use crate::buffers::Buffers;
use crate::clock;
use crate::error::Error;
use crate::task::Task;
use state::{Cancelled, Outbound, Refused, State};

pub use address::{Address, AddressMap, InvalidAddress};
pub use codec::Api;
pub use connector::{Connector, Duplex, Tcp};
pub use round_trip::RoundTrip;

/// How a connection is made and what it accepts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name this client goes by in the broker's logs and quotas (`client.id`).
    pub client_id: Arc<str>,
    /// How long the dial may take, and each answer of the handshake.
    pub connect_timeout: Duration,
    /// The largest frame taken from a broker, in bytes.
    pub frame_bytes_max: usize,
    /// How long it may be without a request before it is closed.
    pub idle_max: Duration,
    /// How it is dialled.
    pub connector: Arc<dyn Connector>,
    /// Where it is kept how far the broker is; the connections to one broker share it.
    pub round_trip: RoundTrip,
}

/// A connection that is up and knows what its broker speaks. Cheap to clone.
///
/// Requests are pipelined. The connection closes when its last handle is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    versions: BTreeMap<i16, RangeInclusive<i16>>,
    _driver: Task<()>,
}

/// What the handles and the driver share.
#[derive(Debug)]
struct Shared {
    address: Address,
    client_id: Arc<str>,
    round_trip: RoundTrip,
    state: Mutex<State<Waiter>>,
    work: Notify,
    awaiting: Notify,
    closing: Notify,
    /// What came last was nothing that a broker sends.
    garbled: AtomicBool,
    /// Where the memory for answers comes from, if not from the allocator.
    buffers: OnceLock<Buffers>,
}

/// Whoever waits for one answer.
#[derive(Debug)]
struct Waiter {
    api: ApiKey,
    answer: oneshot::Sender<Result<Bytes, Error>>,
}

impl Connection {
    /// Dials `address` and learns what the broker speaks.
    ///
    /// # Errors
    /// [`Error::Connect`] when nothing answers in time, [`Error::NotKafka`] when something else
    /// than a Kafka broker does.
    pub async fn open(address: &Address, options: &Options) -> Result<Self, Error> {
        let failed = |source| Error::Connect { address: address.clone(), source: Arc::new(source) };
        let dialled = options.connector.connect(address);
        let duplex = match tokio::time::timeout(options.connect_timeout, dialled).await {
            Ok(dialled) => dialled.map_err(failed)?,
            Err(_) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
        };
        let shared = Arc::new(Shared {
            address: address.clone(),
            client_id: Arc::clone(&options.client_id),
            round_trip: options.round_trip.clone(),
            state: Mutex::default(),
            work: Notify::new(),
            awaiting: Notify::new(),
            closing: Notify::new(),
            garbled: AtomicBool::new(false),
            buffers: OnceLock::new(),
        });
        let driver = driver::start(duplex, Arc::clone(&shared), options);
        let versions = handshake::run(&shared, options.connect_timeout).await?;
        Ok(Self { inner: Arc::new(Inner { shared, versions, _driver: driver }) })
    }

    /// Where the broker is.
    pub fn address(&self) -> &Address {
        &self.inner.shared.address
    }

    /// How far the broker is, as [`Options::round_trip`] has it.
    pub fn round_trip(&self) -> &RoundTrip {
        &self.inner.shared.round_trip
    }

    /// The versions of `api` that the broker speaks.
    pub fn broker_versions(&self, api: ApiKey) -> Option<RangeInclusive<i16>> {
        self.inner.versions.get(&(api as i16)).cloned()
    }

    /// The highest version of `api` that both speak.
    ///
    /// # Errors
    /// [`Error::UnsupportedVersion`] when there is none.
    pub fn version(&self, api: ApiKey, ours: RangeInclusive<i16>) -> Result<i16, Error> {
        self.broker_versions(api)
            .map(|theirs| (*ours.start().max(theirs.start()), *ours.end().min(theirs.end())))
            .filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| Error::UnsupportedVersion {
                api,
                address: self.address().clone(),
                min: *ours.start(),
                max: *ours.end(),
            })
    }

    /// Sends `request` and waits for its answer, at most `timeout`.
    ///
    /// Dropping the future leaves nothing behind that another request could read as its own.
    ///
    /// # Errors
    /// [`Error::Timeout`] (the connection is closed if bytes had left), [`Error::Closed`],
    /// [`Error::Overloaded`], or an encoding or decoding that failed.
    pub async fn call<Q: Api>(
        &self,
        version: i16,
        request: &Q,
        timeout: Duration,
    ) -> Result<Q::Response, Error> {
        self.inner.shared.call(version, request, timeout).await
    }

    /// Sends a body that is encoded already, in pieces, with vectored writes and without copying.
    ///
    /// The place in the connection's order is taken before this returns. The answer's body comes
    /// back without its header.
    pub fn send(&self, api: ApiKey, version: i16, body: Vec<Bytes>, timeout: Duration) -> Pending {
        self.inner.shared.send(Call { api, version, is_answered: true, timeout }, body)
    }

    /// Sends a request that the broker does not answer (produce with `acks=0`).
    ///
    /// The future is ready, with nothing in it, when the request has been written.
    pub fn send_unanswered(
        &self,
        api: ApiKey,
        version: i16,
        body: Vec<Bytes>,
        timeout: Duration,
    ) -> Pending {
        self.inner.shared.send(Call { api, version, is_answered: false, timeout }, body)
    }

    /// Takes the memory for answers from `buffers` from now on. The first word counts.
    pub(crate) fn read_into(&self, buffers: &Buffers) {
        self.inner.shared.buffers.get_or_init(|| buffers.clone());
    }

    /// Whether it has been closed, by either side.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.lock().is_closed()
    }

    /// Closes it; everybody who waits gets [`Error::Closed`].
    pub fn close(&self, reason: &str) {
        self.inner.shared.close(reason);
    }
}

/// One request's particulars.
#[derive(Debug, Clone, Copy)]
struct Call {
    api: ApiKey,
    version: i16,
    is_answered: bool,
    timeout: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State<Waiter>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<Q: Api>(
        self: &Arc<Self>,
        version: i16,
        request: &Q,
        timeout: Duration,
    ) -> Result<Q::Response, Error> {
        let api = <Q as Api>::KEY;
        let body = codec::encode(request, version).map_err(|error| Error::Encode {
            api,
            version,
            source: Arc::new(error),
        })?;
        let call = Call { api, version, is_answered: true, timeout };
        let answer = self.send(call, vec![body]).await?;
        codec::decode(answer, version).map_err(|error| self.undecodable(call, error))
    }

    fn send(self: &Arc<Self>, call: Call, body: Vec<Bytes>) -> Pending {
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter { api: call.api, answer: sender };
        let id = self.enqueue(call, body, waiter);
        Pending {
            shared: Arc::clone(self),
            call,
            id,
            answer,
            time_limit: Box::pin(sleep(call.timeout)),
            is_done: false,
        }
    }

    /// Queues a request; on failure the waiter has been told why.
    fn enqueue(&self, call: Call, body: Vec<Bytes>, waiter: Waiter) -> Option<i32> {
        let body_bytes = body.iter().map(Bytes::len).sum();
        let mut state = self.lock();
        let id = state.next_id();
        let head = match codec::head(call.api, call.version, id, &self.client_id, body_bytes) {
            Ok(head) => head,
            Err(error) => {
                let Call { api, version, .. } = call;
                let error = Error::Encode { api, version, source: Arc::new(error) };
                waiter.tell(Err(error));
                return None;
            }
        };
        let mut segments = body;
        segments.insert(0, head);
        let deadline = clock::now() + call.timeout;
        let outbound = Outbound { segments, is_answered: call.is_answered, deadline };
        match state.enqueue(outbound, waiter) {
            Ok(id) => {
                self.work.notify_one();
                Some(id)
            }
            Err((Refused::Full, waiter)) => {
                waiter.tell(Err(Error::Overloaded {
                    address: self.address.clone(),
                    limit: state::REQUESTS_MAX,
                }));
                None
            }
            Err((Refused::Closed, waiter)) => {
                waiter.tell(Err(self.closed(call.api, "it was closed before", false)));
                None
            }
        }
    }

    fn close(&self, reason: &str) {
        let waiters = self.lock().close();
        for (waiter, written) in waiters {
            let error = self.closed(waiter.api, reason, written);
            waiter.tell(Err(error));
        }
        self.closing.notify_one();
    }

    fn closed(&self, api: ApiKey, reason: &str, written: bool) -> Error {
        Error::Closed { api, address: self.address.clone(), reason: reason.into(), written }
    }

    fn undecodable(&self, call: Call, error: codec::Failure) -> Error {
        Error::Decode {
            api: call.api,
            version: call.version,
            address: self.address.clone(),
            source: Arc::new(error),
        }
    }
}

impl Waiter {
    fn tell(self, answer: Result<Bytes, Error>) {
        // Nobody is left to tell when the caller went away: the answer is dropped on purpose.
        let _ = self.answer.send(answer);
    }
}

/// The answer to come, without its header.
///
/// When its time is up the connection closes, unless not a byte of the request had left. Dropped
/// early, a request that was not written yet never is; the answer of one that was is thrown away,
/// and the connection still closes when it does not come in time.
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    call: Call,
    id: Option<i32>,
    answer: oneshot::Receiver<Result<Bytes, Error>>,
    time_limit: Pin<Box<Sleep>>,
    is_done: bool,
}

impl Pending {
    fn finish(&mut self, answer: Result<Bytes, Error>) -> Poll<Result<Bytes, Error>> {
        self.is_done = true;
        let Call { api, version, is_answered, .. } = self.call;
        Poll::Ready(answer.and_then(|frame| {
            if !is_answered {
                return Ok(frame);
            }
            codec::open(api, version, frame)
                .map_err(|error| self.shared.undecodable(self.call, error))
        }))
    }

    fn time_out(&mut self) -> Poll<Result<Bytes, Error>> {
        self.is_done = true;
        let cancelled = self.id.map_or(Cancelled::TakenBack, |id| self.shared.lock().cancel(id));
        let written = cancelled == Cancelled::Written;
        if written {
            self.shared.close("a request was not answered in time");
        }
        Poll::Ready(Err(Error::Timeout {
            api: self.call.api,
            address: self.shared.address.clone(),
            timeout: self.call.timeout,
            written,
        }))
    }
}

impl Future for Pending {
    type Output = Result<Bytes, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(context) {
            let gone = || Err(self.shared.closed(self.call.api, "its driver ended", true));
            let answer = answer.unwrap_or_else(|_| gone());
            return self.finish(answer);
        }
        if self.time_limit.as_mut().poll(context).is_ready() {
            return self.time_out();
        }
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let (false, Some(id)) = (self.is_done, self.id) {
            self.shared.lock().cancel(id);
        }
    }
}

/// The lengths and counts in an answer to Fetch, checked; for [`testing`](crate::testing).
pub(crate) fn guard_fetch(version: i16, body: &[u8]) -> Option<()> {
    guard::check(ApiKey::Fetch, version, body).ok()
}

#[cfg(test)]
mod tests;
