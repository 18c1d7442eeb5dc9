//! The fetcher's pure parts: what is left out of an answer, and what becomes of positions.

mod answers;
mod batches;
mod identity;
mod isolation;
mod leaders;
mod sparse;
mod wire;
