//! The log of a run: in memory, or in a folder on a disk that fails.
//!
//! Owns what only one of the two can do. What a run asks of the other then does nothing, so that
//! the world need not know which it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use fenghuo_embedded::{EmbeddedLog, Syncing};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Error, Log, TopicPartition};

use crate::disk::Disk;

/// The log of a run.
pub enum Kept {
    /// In memory.
    Memory(MemoryLog),
    /// In a folder.
    Folder(Folder),
}

/// A log in a folder of a simulated disk.
pub struct Folder {
    pub log: EmbeddedLog,
    pub disk: Disk,
    clock: Arc<AtomicI64>,
}

impl Folder {
    /// A new process opens what the disk has.
    pub fn open(disk: Disk, now_ms: i64) -> Self {
        let clock = Arc::new(AtomicI64::new(now_ms));
        let told = Arc::clone(&clock);
        let now_ms = Box::new(move || told.load(Ordering::Relaxed));
        Self {
            log: EmbeddedLog::with_file(disk.opener(), now_ms, Syncing::ByHand),
            disk,
            clock,
        }
    }
}

impl Kept {
    /// The log itself.
    pub fn log(&self) -> Box<dyn Log> {
        match self {
            Kept::Memory(log) => Box::new(log.clone()),
            Kept::Folder(folder) => Box::new(folder.log.clone()),
        }
    }

    /// The in-memory log, where it is one.
    pub fn memory(&self) -> Option<&MemoryLog> {
        match self {
            Kept::Memory(log) => Some(log),
            Kept::Folder(_) => None,
        }
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Folder> {
        match self {
            Kept::Memory(_) => None,
            Kept::Folder(folder) => Some(folder),
        }
    }

    /// What is appended from now on is appended now.
    pub fn set_time(&self, now_ms: i64) {
        match self {
            Kept::Memory(log) => log.set_time(now_ms),
            Kept::Folder(folder) => folder.clock.store(now_ms, Ordering::Relaxed),
        }
    }

    /// The offset after the last record.
    pub fn high(&self, of: &TopicPartition) -> u64 {
        match self {
            Kept::Memory(log) => log.high(of),
            Kept::Folder(folder) => folder.log.high(of),
        }
    }

    /// Where a group stands.
    pub fn offsets(&self, group: &str) -> BTreeMap<TopicPartition, u64> {
        match self {
            Kept::Memory(log) => log.offsets(group),
            Kept::Folder(folder) => folder.log.offsets(group),
        }
    }

    /// A header of a record.
    pub fn header(
        &self,
        of: &TopicPartition,
        offset: u64,
        name: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Kept::Memory(log) => Ok(log.header(of, offset, name)),
            Kept::Folder(folder) => {
                let mut found = None;
                folder.log.dump(of, offset, &mut |record| {
                    let mut headers = record.headers.into_iter();
                    let header = headers.find(|(of, _)| of == name);
                    found = header.map(|(_, value)| value);
                    false
                })?;
                Ok(found)
            }
        }
    }

    /// Whether a commit of a member is on its way.
    pub fn is_held(&self, member: &str) -> bool {
        self.memory().is_some_and(|log| log.is_held(member))
    }

    /// Makes what is committed durable. A fault of the disk is nobody's but the log's.
    pub fn sync(&self) {
        match self {
            Kept::Memory(log) => log.sync(),
            Kept::Folder(folder) => drop(folder.log.sync()),
        }
    }

    /// How often it was opened: what was read before has to be read anew. `None` while it is not
    /// open.
    pub fn opened(&self) -> Option<u64> {
        match self {
            Kept::Memory(_) => Some(0),
            Kept::Folder(folder) => folder.log.opened(),
        }
    }
}
