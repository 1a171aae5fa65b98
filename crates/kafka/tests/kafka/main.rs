//! The promises of the log, against a real Apache Kafka: one broker for all tests of this binary,
//! with topics and groups of its own for each test.

mod brokers;
mod groups;
mod member;
mod restarts;
mod topics;
mod transactions;

fenghuo_log::contract!(member::log());
