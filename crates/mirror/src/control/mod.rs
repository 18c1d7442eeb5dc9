//! What is decided for whole topics, by one loop apart from the streams: [`plan`] says, purely,
//! what the two clusters' topics need; [`topics`] asks, creates, grows and publishes. Streams read
//! the outcome and never wait for it.

pub(crate) mod plan;
pub(crate) mod topics;
