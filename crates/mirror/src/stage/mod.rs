//! The five stages, in the order data takes them. They do not know each other: only the stream
//! wires them. A stage is a value, those that wait with a cancel-safe `next`; none of them is a
//! task. [`small`] is a rule that two of them share.

pub(crate) mod assign;
pub(crate) mod commit;
pub(crate) mod fetch;
pub(crate) mod produce;
pub(crate) mod route;
mod small;
