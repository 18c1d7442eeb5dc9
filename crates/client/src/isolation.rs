//! Which records of transactions are wanted (KIP-98).

/// Which records of transactions are wanted (`isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Isolation {
    /// All that are in the log, those of open and aborted transactions included.
    ReadUncommitted,
    /// Only those of committed transactions and of none.
    #[default]
    ReadCommitted,
}

impl Isolation {
    /// The number that the protocol gives it.
    pub(crate) fn code(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}
