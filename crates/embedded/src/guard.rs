//! What can go wrong with the store, and how it is told.
//!
//! Owns that damage is told from everything else: it never passes, whoever tries again. What the
//! store panics over is damage; what a caller panics over while it is handed a record is not.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::batch::DamagedError;
use crate::blocks::{Damage, FORMAT, Strange};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file says so.
    #[error(transparent)]
    File(Box<redb::Error>),
    /// Another process has the file.
    #[error("another process has it")]
    Taken,
    /// What was written cannot be read.
    #[error("{}{what}; {MENDED_BY}", from(*offset))]
    Damaged {
        /// The offset from which on a partition cannot be read, where one was being read.
        offset: Option<u64>,
        /// What is wrong.
        what: String,
    },
    /// A newer build wrote it.
    #[error("it has format {0}, and this build knows {FORMAT}")]
    Newer(u64),
    /// A build before this one wrote it.
    #[error(
        "it has format 1, whose records carry no checksums, and this build reads format {FORMAT}; \
         fenghuo log upgrade --data DIR copies it into that format, and keeps the old file beside it"
    )]
    Older,
    /// It is no log, or not the one that was here.
    #[error("{0}; {RESTORED_BY}")]
    Strange(String),
}

/// How damage is mended.
const MENDED_BY: &str = "stop the daemon, let fenghuo log verify --data DIR name all that is \
    damaged, and put the last backup in the folder's place (fenghuo log backup makes them, and \
    fenghuo run --data goes on from one)";

/// How a log that is gone comes back.
const RESTORED_BY: &str = "nothing was changed; put the last backup in the folder's place (fenghuo \
    log backup makes them), or name another folder to begin an empty history";

fn from(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| {
        format!("it cannot be read from offset {offset} on: ")
    })
}

impl StoreError {
    /// Whether trying again would meet the same.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Older | Self::Strange(_))
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::File(Box::new(error.into()))
    }
}

impl From<DamagedError> for StoreError {
    fn from(DamagedError(what): DamagedError) -> Self {
        damaged(format!("a batch is damaged: {what}"))
    }
}

impl From<Strange> for StoreError {
    fn from(strange: Strange) -> Self {
        let what = match strange {
            Strange::Older => return Self::Older,
            Strange::Newer(format) => return Self::Newer(format),
            Strange::Empty => "log.redb has 0 bytes: it was emptied",
            Strange::Cut => "log.redb is cut off before its first record",
            Strange::Damaged => "the first bytes of log.redb are damaged",
            Strange::Foreign => "log.redb is no log of fenghuo",
        };
        Self::Strange(what.to_owned())
    }
}

/// Damage that is met away from any partition.
pub fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged {
        offset: None,
        what: what.into(),
    }
}

/// Damage that was met in a partition, from an offset on.
pub fn behind(error: StoreError, reached: u64) -> StoreError {
    match error {
        StoreError::Damaged { offset: None, what } => StoreError::Damaged {
            offset: Some(reached),
            what,
        },
        error => error,
    }
}

thread_local! {
    /// Whether what runs now is not the store's.
    static OUTSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Runs what was handed in: a panic in it is none of the store's.
pub fn outside<T>(run: impl FnOnce() -> T) -> T {
    OUTSIDE.set(true);
    let done = run();
    OUTSIDE.set(false);
    done
}

/// Runs something on the file. What is found damaged, or makes the store panic, is damage; what was
/// found before is told again, since the store is not to be used any more.
pub fn guarded<T>(
    damage: &Damage,
    run: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        if OUTSIDE.replace(false) {
            resume_unwind(panic);
        }
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        Err(damaged(format!(
            "its tables make no sense: {}",
            text.unwrap_or("the store panicked")
        )))
    });
    result.map_err(|error| match (error, damage.get()) {
        (StoreError::Damaged { offset, .. }, Some(what)) => StoreError::Damaged {
            offset,
            what: what.clone(),
        },
        (error, None) => match error {
            StoreError::File(of) => match *of {
                redb::Error::Corrupted(what) => damaged(what),
                redb::Error::TableDoesNotExist(table) => {
                    damaged(format!("the table {table} is not there"))
                }
                other => StoreError::File(Box::new(other)),
            },
            error => error,
        },
        (_, Some(what)) => damaged(what.clone()),
    })
}
