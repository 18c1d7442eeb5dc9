//! The parts of a batch's way. A name says the part, and how its batches are made.

mod codecs;
mod slow;
mod whole;
mod wire;

pub(crate) use slow::{coalesce, gaps, keys};
pub(crate) use whole::pass;

use std::fmt;

/// Does the work of a case once.
pub(crate) type Work = Box<dyn FnMut()>;

/// One part of the way, on one kind of batch.
pub(crate) struct Case {
    /// Its name: what baselines know it by.
    pub(crate) name: String,
    /// Bytes one turn works on; uncompressed, where records are read.
    pub(crate) bytes: usize,
    /// Records, keys or batches one turn works on; 0 where that means nothing.
    pub(crate) records: usize,
    prepare: Box<dyn Fn() -> Work>,
}

impl Case {
    fn new(
        name: impl Into<String>,
        (bytes, records): (usize, usize),
        prepare: impl Fn() -> Work + 'static,
    ) -> Self {
        Self { name: name.into(), bytes, records, prepare: Box::new(prepare) }
    }

    /// Makes what it works on.
    pub(crate) fn prepare(&self) -> Work {
        (self.prepare)()
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Case> {
    let parts = [wire::cases(), whole::cases(), slow::cases(), codecs::cases()];
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_comes_twice() {
        let names: BTreeSet<String> = all().into_iter().map(|case| case.name).collect();
        assert_eq!(names.len(), all().len());
    }
}
