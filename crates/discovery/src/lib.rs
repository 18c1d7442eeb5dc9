//! Broker discovery.
