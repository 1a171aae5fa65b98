//! [`KafkaLog`]: the entry point.
//!
//! It owns the config and the loader's producer. It must never keep an idle connection for
//! questions: each is asked by a consumer of its own.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use fenghuo_log::{Append, Error, Log, Session, SessionSpec, TopicPartition, TopicSpec};

use crate::admin;
use crate::config::{ConfigError, KafkaConfig, Pace};
use crate::import::Import;
use crate::producer::Appender;
use crate::query::{self, Member};
use crate::scan::{Scan, ScanFrom};
use crate::session::{KafkaSession, connect};

/// The name under which questions are asked; it never joins a group.
const NO_GROUP: &str = "fenghuo.queries";

/// Topics on Kafka.
pub struct KafkaLog {
    config: Arc<KafkaConfig>,
    appender: Mutex<Option<Appender>>,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl KafkaLog {
    /// Checks the config; connects to nothing yet.
    ///
    /// # Errors
    /// When no broker is named, a property is reserved or unknown to librdkafka, or a certificate
    /// lacks its key.
    pub fn new(config: KafkaConfig) -> Result<Self, ConfigError> {
        for client in [
            config.consumer(NO_GROUP, Pace::Restore)?,
            config.producer(None)?,
        ] {
            client
                .create_native_config()
                .map_err(|error| ConfigError::Property(error.to_string()))?;
        }
        Ok(Self {
            config: Arc::new(config),
            appender: Mutex::new(None),
        })
    }

    /// Begins to read a partition; `None` where there is no such topic.
    ///
    /// # Errors
    /// When the brokers cannot be asked or refuse.
    pub fn scan(&self, partition: TopicPartition, from: ScanFrom) -> Result<Option<Scan>, Error> {
        Scan::open(&self.config, NO_GROUP, partition, from)
    }

    /// The first offset of a partition and the one after the last that a reader can see.
    ///
    /// # Errors
    /// When the brokers cannot be asked or refuse.
    pub fn range(&self, partition: &TopicPartition) -> Result<(u64, u64), Error> {
        query::range(&connect(&self.config, NO_GROUP, Pace::Restore)?, partition)
    }

    /// One that brings records of another log. A second one of this name fences the first.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse.
    pub fn import(&self, group: &str, member: &str) -> Result<Import, Error> {
        Import::open(&self.config, group, member)
    }

    /// The members of a group, wherever they run.
    ///
    /// # Errors
    /// When the brokers do not answer, or may not tell.
    pub fn members(&self, group: &str) -> Result<Vec<Member>, Error> {
        query::members(&connect(&self.config, NO_GROUP, Pace::Restore)?, group)
    }
}

impl Log for KafkaLog {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        admin::ensure(
            &self.config,
            &connect(&self.config, NO_GROUP, Pace::Restore)?,
            topics,
        )
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        query::partitions(&connect(&self.config, NO_GROUP, Pace::Restore)?, topic)
    }

    fn open(&self, spec: &SessionSpec) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(KafkaSession::open(&self.config, spec)?))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        let mut appender = self.appender.lock().unwrap_or_else(PoisonError::into_inner);
        let appender = match &mut *appender {
            Some(appender) => appender,
            none => none.insert(Appender::open(&self.config)?),
        };
        appender.append(&appends)
    }
}
