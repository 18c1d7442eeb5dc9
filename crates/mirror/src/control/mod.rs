//! What is decided for whole topics, by one loop apart from the streams: [`plan`] says, purely,
//! what the two clusters' topics need; [`topics`] asks, publishes, and has it done. Streams read
//! the outcome and never wait for it.

mod attempts;
mod changes;
mod configs;
pub(crate) mod plan;
pub(crate) mod topics;
