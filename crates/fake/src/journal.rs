//! Remembers the requests a cluster received, for assertions.
//!
//! Owned by the cluster. Always true: at most `KEPT` requests are kept, the newest; counters are
//! exact.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use kafka_protocol::messages::ApiKey;

/// Requests kept; older ones are only counted.
const KEPT: usize = 65_536;

/// One request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The broker it came to.
    pub broker: i32,
    /// The connection it came on; numbers are unique in a cluster and ascend.
    pub connection: u64,
    /// Which API.
    pub api: ApiKey,
    /// Which version of it.
    pub version: i16,
    /// The client's own number for it.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// Bytes of the frame.
    pub size_bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seen: VecDeque<Seen>,
    counts: BTreeMap<(i32, i16), u64>,
}

impl Journal {
    pub(crate) fn record(&self, seen: Seen) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        *inner.counts.entry((seen.broker, seen.api as i16)).or_default() += 1;
        if inner.seen.len() == KEPT {
            inner.seen.pop_front();
        }
        inner.seen.push_back(seen);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seen.iter().cloned().collect()
    }

    pub(crate) fn count(&self, broker: Option<i32>, api: ApiKey) -> u64 {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = inner.counts.iter().filter(|((at, key), _)| {
            *key == api as i16 && broker.is_none_or(|broker| broker == *at)
        });
        matching.map(|(_, count)| count).sum()
    }

    pub(crate) fn clear(&self) {
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = Inner::default();
    }
}
