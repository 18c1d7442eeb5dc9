//! What the mirror decides, apart from how it does it: which topics ([`filter`]), under which name
//! ([`naming`]), to which partition ([`partitioning`]), and what happens when a record or a
//! position cannot be mirrored ([`trouble`]). Pure: no clock, no network. Stages ask, policies
//! answer.

pub mod filter;
pub mod naming;
pub mod overlap;
pub mod partitioning;
pub mod trouble;
