//! In-process Kafka cluster.
