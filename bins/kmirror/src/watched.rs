//! The flows of this process as they are watched from outside: each waits until its clusters
//! answer, and has a mirror from then on.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kmirror::Mirror;
use kmirror::status::Totals;

/// All flows, in the order of the plan.
pub(crate) type Shared = Arc<Vec<Watched>>;

/// A flow.
pub(crate) struct Watched {
    /// Its name.
    pub(crate) name: String,
    mirror: OnceLock<Mirror>,
    /// What the last try to reach its clusters came to.
    setback: Mutex<Option<String>>,
}

impl Watched {
    /// A flow whose clusters were not reached yet.
    pub(crate) fn new(name: &str) -> Self {
        let setback = Mutex::new(None);
        Self { name: name.to_owned(), mirror: OnceLock::new(), setback }
    }

    /// Gives it its mirror; a second one would change nothing.
    pub(crate) fn begin(&self, mirror: Mirror) -> &Mirror {
        self.mirror.get_or_init(|| mirror)
    }

    /// Its mirror, once both clusters answered.
    pub(crate) fn mirror(&self) -> Option<&Mirror> {
        self.mirror.get()
    }

    /// Says why its clusters were not reached.
    pub(crate) fn set_back(&self, why: String) {
        *self.setback.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// Why its clusters were not reached so far.
    pub(crate) fn setback(&self) -> String {
        let why = self.setback.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone().unwrap_or_else(|| "no answer yet".to_owned())
    }

    /// Why it does not mirror, if it does not.
    pub(crate) fn unready(&self) -> Option<String> {
        match self.mirror() {
            Some(mirror) => mirror.status().borrow().unready(),
            None => Some(format!("its clusters are not reached: {}", self.setback())),
        }
    }
}

/// The sums of all flows.
pub(crate) fn sum(flows: &[Watched]) -> Totals {
    let mut sum = Totals::default();
    for mirror in flows.iter().filter_map(Watched::mirror) {
        let status = Arc::clone(&mirror.status().borrow());
        sum.records += status.totals.records;
        sum.bytes += status.totals.bytes;
        sum.batches += status.totals.batches;
        sum.lag_records += status.totals.lag_records;
        sum.paths.extend(status.totals.paths.iter().cloned());
    }
    sum
}
