//! Records as text, by the rules of Kafka's console tools: how a line becomes a record, and how a
//! record becomes a line.

pub(crate) mod reader;
pub(crate) mod writer;
