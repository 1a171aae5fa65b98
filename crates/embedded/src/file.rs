//! The folder and its file: who holds it, and the real file layer.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::OpenFile;
use crate::store::StoreError;

/// The store.
const STORE: &str = "log.redb";

/// Locked while a process holds the folder; it says which.
const LOCK: &str = "lock";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made or opened.
    #[error("{path}: cannot be opened")]
    Open {
        /// What.
        path: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another process holds it.
    #[error("{folder}: {holder} holds this folder; stop it first, or name another folder")]
    Held {
        /// The folder.
        folder: String,
        /// Who.
        holder: String,
    },
    /// Something in it cannot be read.
    #[error("it is damaged")]
    Damaged {
        /// The cause.
        #[source]
        source: Box<StoreError>,
    },
    /// It was closed meanwhile.
    #[error("it is closed")]
    Closed,
    /// The store in it cannot be opened.
    #[error("{folder}")]
    Store {
        /// The folder.
        folder: String,
        /// The cause.
        #[source]
        source: Box<StoreError>,
    },
}

impl FolderError {
    /// Whether a newer build wrote the folder.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Store { source, .. } if matches!(**source, StoreError::Newer(_)))
    }
}

/// Takes a folder for this process, for as long as what it gives back lives.
pub fn opener(folder: &Path) -> Result<OpenFile, FolderError> {
    let fail = |path: &Path, source| FolderError::Open {
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(|error| fail(folder, error))?;
    let held = hold(folder)?;
    let path = folder.join(STORE);
    Ok(Box::new(move || {
        // Held as long as this lives.
        let _ = &held;
        open(&path)
    }))
}

fn hold(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(LOCK);
    let fail = |source| FolderError::Open {
        path: path.display().to_string(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(fail(error)),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.take(100).read_to_string(&mut holder);
            let is_told = read.is_ok() && !holder.trim().is_empty();
            return Err(FolderError::Held {
                folder: folder.display().to_string(),
                holder: match is_told {
                    true => format!("process {}", holder.trim()),
                    false => "another process".to_owned(),
                },
            });
        }
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(fail)?;
    Ok(file)
}

/// Opens the store's file. What the system still holds of it in memory is dropped first: after a
/// failed sync that may be what never reached the disk.
fn open(path: &PathBuf) -> io::Result<Box<dyn StorageBackend>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path)?;
    if file.metadata()?.len() == 0
        && let Some(folder) = path.parent()
    {
        // That the file is there must outlive a power cut as what is in it does.
        File::open(folder)?.sync_all()?;
    }
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    match FileBackend::new(file) {
        Ok(backend) => Ok(Box::new(backend)),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Makes a folder with a copy in it. The copy has its name only once it is whole and on the disk.
pub fn copy(
    folder: &Path,
    write: impl FnOnce(Box<dyn StorageBackend>) -> Result<(), StoreError>,
) -> Result<(), FolderError> {
    let fail = |path: &Path, source| FolderError::Open {
        path: path.display().to_string(),
        source,
    };
    std::fs::create_dir(folder).map_err(|error| fail(folder, error))?;
    let (part, whole) = (folder.join("log.part"), folder.join(STORE));
    let file = open(&part).map_err(|error| fail(&part, error))?;
    write(file).map_err(|source| FolderError::Store {
        folder: folder.display().to_string(),
        source: Box::new(source),
    })?;
    let named = std::fs::rename(&part, &whole);
    let synced = named.and_then(|()| File::open(folder)?.sync_all());
    synced.map_err(|error| fail(&whole, error))
}

/// Bytes that are left on the disk of a folder, for who is not root.
///
/// # Errors
/// When the folder cannot be asked.
pub fn room(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Unix ms.
pub fn now_ms() -> i64 {
    // Append times are what this log stamps its records with.
    #[allow(clippy::disallowed_methods)]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}
