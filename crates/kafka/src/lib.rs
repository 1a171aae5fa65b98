//! The log on Apache Kafka: [`fenghuo_log::Log`] and [`fenghuo_log::Session`] on librdkafka.
//!
//! This crate owns everything that is particular to Kafka: settings, groups, transactions, what
//! its errors mean. It must never look inside a record, and it never begins a transaction before
//! it has all that goes into it, because an open one holds back every reader behind it.
//!
//! A session is one consumer of a group and one transactional producer. When a process is killed
//! in the middle of a commit, readers behind it wait until the broker ends its transaction: up to
//! the transaction timeout of 10 s and the broker's own scan, every 10 s by default. A new session
//! under the same member name ends it at once.

mod admin;
mod batch;
mod config;
mod context;
mod fault;
mod import;
mod log;
mod producer;
mod query;
mod reader;
mod scan;
mod session;

pub use config::{ConfigError, KafkaConfig, Mechanism, Sasl, Security, Tls};
pub use import::{Import, Landed};
pub use log::KafkaLog;
pub use query::Member;
pub use scan::{Scan, ScanFrom};
