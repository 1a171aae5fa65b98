//! Where the topics are: on Kafka, or in a folder of this machine.
//!
//! Owns what only one of the two can tell: who else is in a group, how much room is left, why
//! nothing can be written. It must never know what a topic holds.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use fenghuo_embedded::{EmbeddedLog, Kept};
use fenghuo_engine::record::topic;
use fenghuo_kafka::{KafkaLog, Member, Scan, ScanFrom};
use fenghuo_log::{Error, Log, TopicPartition, Whole};

use crate::clock;
use crate::config::{self, Config, Folder};
use crate::run::NewerError;

/// When the disk is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Now.
    Now,
    /// With the last commit, or when somebody asked last.
    Before,
}

/// Where the topics are.
#[derive(Clone)]
pub enum Topics {
    /// On Kafka.
    Kafka(Arc<KafkaLog>),
    /// In a folder.
    Folder(EmbeddedLog, Folder),
}

impl Topics {
    /// Opens what a config names.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.log {
            config::Log::Kafka => {
                let mut kafka = config.kafka()?;
                if let Some(url) = &config.http.public_url {
                    // The other members of the group learn from the brokers where this one is.
                    kafka.client_id = format!("{} {url}", kafka.client_id);
                }
                let log = KafkaLog::new(kafka).context("kafka")?;
                Ok(Self::Kafka(Arc::new(log)))
            }
            config::Log::Embedded(folder) => {
                let log = open_folder(&folder.path)?;
                Ok(Self::Folder(log, folder.clone()))
            }
        }
    }

    /// Notes beside the log what is known of the clock, for the next process.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_clock(&self) -> std::io::Result<()> {
        match self {
            // There the brokers' clocks count.
            Topics::Kafka(_) => Ok(()),
            Topics::Folder(_, folder) => clock::note(&folder.path),
        }
    }

    /// The log that keeps them.
    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Topics::Kafka(log) => Arc::<KafkaLog>::clone(log),
            Topics::Folder(log, _) => Arc::new(log.clone()),
        }
    }

    /// The members of a group, as the brokers know them; a folder has none but this process.
    pub fn members(&self, group: &str) -> Result<Vec<Member>, Error> {
        match self {
            Topics::Kafka(log) => log.members(group),
            Topics::Folder(..) => Ok(Vec::new()),
        }
    }

    /// Hands over the records of a partition that are there now, headers and all, from its first
    /// one at or after a time, Unix ms, or from the first there is; none where there is no such topic.
    pub fn scan(
        &self,
        of: &TopicPartition,
        from_ms: Option<i64>,
        each: &mut dyn FnMut(Whole) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Topics::Kafka(log) => {
                let from = from_ms.map_or(ScanFrom::First, ScanFrom::Time);
                let Some(mut scan) = log.scan(of.clone(), from)? else {
                    return Ok(());
                };
                while let Some(record) = scan.next_record()? {
                    each(record)?;
                }
                Ok(())
            }
            Topics::Folder(log, _) => {
                if log.partitions(&of.topic)?.is_none() {
                    return Ok(());
                }
                let mut taken = Ok(());
                log.dump(of, 0, &mut |record| {
                    if from_ms.is_none_or(|from_ms| record.timestamp_ms >= from_ms) {
                        taken = each(record);
                    }
                    taken.is_ok()
                })?;
                taken
            }
        }
    }

    /// A reader of a partition that has read nothing yet, and may be asked again and again.
    pub fn follow(&self, of: TopicPartition) -> Follow {
        Follow {
            topics: self.clone(),
            of,
            next: 0,
            scan: None,
        }
    }

    /// Why nothing can be written now, where that is known.
    pub fn fault(&self) -> Option<String> {
        match self {
            Topics::Kafka(_) => None,
            Topics::Folder(log, _) => log.fault(),
        }
    }

    /// Why nothing that is taken in would be there after a restart: the log's file is not the folder's
    /// any more. `looks` asks the disk now; else it is what was found so far.
    pub fn lost(&self, looks: Looks) -> Option<String> {
        match (self, looks) {
            (Topics::Kafka(_), _) => None,
            (Topics::Folder(log, _), Looks::Now) => log.lost(),
            (Topics::Folder(log, _), Looks::Before) => log.known_lost(),
        }
    }

    /// Why nothing more may be taken in: the disk has no room beyond what the stages need.
    pub fn full(&self) -> Option<String> {
        let Topics::Folder(_, folder) = self else {
            return None;
        };
        let room = fenghuo_embedded::room(&folder.path).ok()?;
        let (room, reserve) = (room >> 20, folder.reserve_bytes >> 20);
        (room < reserve).then(|| {
            format!(
                "{} MiB are left on the disk of {}, and {} MiB are kept for what was taken already",
                room,
                folder.path.display(),
                reserve
            )
        })
    }

    /// Drops what is older than it has to be, and what is beyond the limits of a folder.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn tidy(&self) -> Result<(), Error> {
        let Topics::Folder(log, folder) = self else {
            return Ok(());
        };
        let kept = Kept {
            bytes_max: folder.bytes_max,
            // Whoever may send can fill it.
            topics: vec![(
                topic::DEAD_LETTER.to_owned(),
                folder.dead_letter_bytes_max(),
            )],
        };
        for (topic, bytes) in log.drop_old(&kept)? {
            metrics::counter!("fenghuo_log_dropped_bytes_total", "topic" => topic.clone())
                .increment(bytes);
            tracing::info!(
                topic,
                bytes,
                "the oldest records were dropped: a limit is reached"
            );
        }
        Ok(())
    }
}

/// Opens a folder for this process alone.
pub fn open_folder(path: &Path) -> anyhow::Result<EmbeddedLog> {
    let opened = EmbeddedLog::open_at(path, Box::new(clock::now_ms));
    let log = opened.map_err(|error| {
        let is_newer = error.is_newer();
        let error = anyhow::Error::from(error);
        match is_newer {
            true => NewerError::new(format!("{error:#}")).into(),
            false => error,
        }
    })?;
    clock::begin(log.last_ms(), path);
    Ok(log)
}

/// Reads a partition of few records as it grows.
pub struct Follow {
    topics: Topics,
    of: TopicPartition,
    next: u64,
    /// Kept from one reading to the next: a connection is not made each time.
    scan: Option<Scan>,
}

impl Follow {
    /// Hands over what came since the last call; none where there is no such topic.
    ///
    /// # Errors
    /// When it cannot be read; what was handed over is not read again.
    pub fn read(&mut self, each: &mut dyn FnMut(Whole)) -> anyhow::Result<()> {
        let from = self.next;
        let mut take = |record: Whole| {
            self.next = record.offset + 1;
            each(record);
        };
        match &self.topics {
            Topics::Folder(log, _) => {
                if log.partitions(&self.of.topic)?.is_some() {
                    log.dump(&self.of, from, &mut |record| {
                        take(record);
                        true
                    })?;
                }
                Ok(())
            }
            Topics::Kafka(log) => {
                let mut scan = match self.scan.take() {
                    Some(mut scan) => {
                        scan.go_on()?;
                        scan
                    }
                    None => match log.scan(self.of.clone(), ScanFrom::Offset(from))? {
                        Some(scan) => scan,
                        None => return Ok(()),
                    },
                };
                while let Some(record) = scan.next_record()? {
                    take(record);
                }
                self.scan = Some(scan);
                Ok(())
            }
        }
    }
}
