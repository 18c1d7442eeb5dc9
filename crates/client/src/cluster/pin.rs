//! Which cluster this is: the one that was named, or else the one that answered first; never
//! another. Shared by a client's brokers and the loop that refreshes its view.

use std::sync::{Arc, OnceLock};

use crate::connection::Address;
use crate::error::Error;

/// The id of the one cluster that a client speaks with, once it is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pin(Arc<OnceLock<Arc<str>>>);

impl Pin {
    /// A pin on the cluster `id`, or on the first that answers.
    pub(crate) fn new(id: Option<Arc<str>>) -> Self {
        Self(Arc::new(id.map_or_else(OnceLock::new, OnceLock::from)))
    }

    /// Whether it is known which cluster is meant.
    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Takes the id that the broker at `address` gave. One that gives none (before 0.10.1) is
    /// believed.
    pub(crate) fn check(&self, address: &Address, found: Option<&str>) -> Result<(), Error> {
        let Some(found) = found else { return Ok(()) };
        let expected = self.0.get_or_init(|| found.into());
        if **expected == *found {
            return Ok(());
        }
        let (address, expected) = (address.clone(), Arc::clone(expected));
        Err(Error::ClusterChanged { address, expected, found: found.into() })
    }
}
