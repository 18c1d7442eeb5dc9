//! Consumer groups.

/// The groups of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Groups {}

impl Groups {
    pub(crate) fn pinned_coordinator(&self, _key: &str) -> Option<i32> {
        None
    }
}
