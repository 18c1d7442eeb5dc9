//! Producing and fetching over real sockets, against a fake cluster in which things go wrong.

mod fetch;
mod logs;
mod produce;
mod support;
