//! The broker, and what tests share.

use std::sync::OnceLock;

use fenghuo_kafka::{KafkaConfig, KafkaLog};
use xtask::services::Kafka;

pub use fenghuo_log::contract::{Member, at, spec_of, text, texts, topic};

/// The broker of this binary; it ends with the process.
pub fn broker() -> &'static Kafka {
    static BROKER: OnceLock<Kafka> = OnceLock::new();
    BROKER.get_or_init(|| Kafka::start().unwrap())
}

pub fn log() -> KafkaLog {
    KafkaLog::new(KafkaConfig::new([broker().bootstrap()])).unwrap()
}
