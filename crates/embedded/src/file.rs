//! The folder and its files: what is there, what is made, and who may read it.
//!
//! A folder that held a log never becomes an empty one by itself: a log that is gone, empty or
//! somebody else's is refused. A new one has its name only once it is whole and on the disk.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fs::OFlags;

use crate::OpenFile;
use crate::blocks::{self, Strange};
use crate::guard::StoreError;
use crate::lock::{self, Held};
use crate::mark::{self, Mark};
use crate::presence::Presence;
use crate::store::{Copied, Store};

/// The store.
const STORE: &str = "log.redb";

/// A store that is being made.
const PART: &str = "log.part";

/// A store of the first format that was copied into this one.
const OLD: &str = "log.redb.old";

/// A store of which rows were damaged, and which another one has replaced.
const DAMAGED: &str = "log.redb.damaged";

/// How what is this process's own is opened: never through a link, and never waiting for who would
/// write into a pipe.
pub const OWN_FLAGS: i32 = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .bits()
    .cast_signed();

/// How the log is opened: it may be a link to another disk.
const LOG_FLAGS: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Refuses a pipe, a device and a folder.
pub fn regular(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// All that belongs into a folder: one with nothing else in it is this log's own.
const OURS: [&str; 10] = [
    STORE,
    PART,
    OLD,
    DAMAGED,
    lock::NAME,
    mark::NAME,
    "identity.part",
    "control",
    "clock.json",
    "clock.json.part",
];

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
    #[error("{folder} is damaged:\n  {}", what.join("\n  "))]
    Damaged {
        /// The folder, as far as it is known.
        folder: String,
        /// Each thing that cannot be read, with its topic, and what can be done.
        what: Vec<String>,
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

/// A folder that this process holds.
pub struct Taken {
    /// Opens its store. The folder is held as long as this lives.
    pub file: OpenFile,
    /// Whether the open file is still the folder's.
    pub presence: Arc<Presence>,
    /// What was noted of its log; nothing in a folder that has no such note yet.
    pub mark: Option<(Mark, Option<mark::Known>)>,
}

fn unopened(path: &Path, source: io::Error) -> FolderError {
    FolderError::Open {
        path: path.display().to_string(),
        source,
    }
}

fn in_folder(folder: &Path, source: StoreError) -> FolderError {
    FolderError::Store {
        folder: folder.display().to_string(),
        source: Box::new(source),
    }
}

fn hold(folder: &Path) -> Result<File, FolderError> {
    let held = lock::hold(folder);
    held_here(
        folder,
        held.map_err(|error| unopened(&folder.join(lock::NAME), error))?,
    )
}

/// Holds the log itself, where there is one: another folder may lead to it as well, and the lock of a
/// folder can be removed.
fn hold_log(folder: &Path) -> Result<Option<File>, FolderError> {
    let path = folder.join(STORE);
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(LOG_FLAGS);
    let held = match options.open(&path) {
        Ok(file) => lock::hold_file(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => Err(error),
    };
    held_here(folder, held.map_err(|error| unopened(&path, error))?).map(Some)
}

fn held_here(folder: &Path, held: Held) -> Result<File, FolderError> {
    match held {
        Held::Here(file) => Ok(file),
        Held::Elsewhere(holder) => Err(FolderError::Held {
            folder: folder.display().to_string(),
            holder,
        }),
    }
}

/// Takes a folder for this process, for as long as what it gives back lives; makes it and an empty
/// log in it where there was none.
pub fn take(folder: &Path) -> Result<Taken, FolderError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    made.map_err(|error| unopened(folder, error))?;
    let held = hold(folder)?;
    close_to_others(folder);
    let path = folder.join(STORE);
    let mark = Mark::open(folder).map_err(|error| unopened(&folder.join(mark::NAME), error))?;
    match beginning(&path).map_err(|error| unopened(&path, error))? {
        Some((length, beginning)) => {
            let id = blocks::title(&beginning, length)
                .map_err(|strange| in_folder(folder, strange.into()))?;
            let noted = mark.as_ref().and_then(|(_, noted)| *noted);
            // Asked before it is opened, which would write into it.
            if noted.is_some_and(|noted| noted.id != id) {
                return Err(in_folder(folder, another(folder)));
            }
        }
        None if mark.is_some() => {
            let gone = "log.redb is gone, and a log was here".to_owned();
            return Err(in_folder(folder, StoreError::Strange(gone)));
        }
        None => make(folder, |file| Store::open(file, true, false).map(drop))?,
    }
    let log_held = hold_log(folder)?;
    let presence = Arc::new(Presence::new(path.clone()));
    let followed = Arc::clone(&presence);
    let file = Box::new(move || {
        // Held as long as this lives.
        let _ = (&held, &log_held);
        // What is opened anew must not pass for what was lost.
        followed.look();
        let file = open_file(&path)?;
        followed.follow(&file)?;
        Ok(followed.around(backend(file)?))
    });
    Ok(Taken {
        file,
        presence,
        mark,
    })
}

/// The log is not the one that was noted.
pub fn another(folder: &Path) -> StoreError {
    StoreError::Strange(format!(
        "log.redb is another log than the one that was here (to go on with this one all the same, \
         remove {})",
        folder.join(mark::NAME).display()
    ))
}

/// How long a file is, and its first bytes; `None` where there is none.
fn beginning(path: &Path) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(LOG_FLAGS);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    regular(&file)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(64).read_to_end(&mut bytes)?;
    Ok(Some((length, bytes)))
}

/// Takes from others the right to look into the folder and its files: events name customers. A
/// folder that holds other things too is left as it is, and that is said.
fn close_to_others(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut is_ours = true;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if OURS.iter().any(|ours| name == *ours) {
            narrow(&entry.path(), 0o600);
        } else {
            is_ours = false;
        }
    }
    if is_ours {
        narrow(folder, 0o700);
    } else if std::fs::metadata(folder).is_ok_and(|of| of.mode() & 0o077 != 0) {
        tracing::warn!(
            folder = %folder.display(),
            "others on this machine can list the folder; it holds other files too, so its mode was \
             left as it is: chmod 700 it, or give the log a folder of its own"
        );
    }
}

fn narrow(path: &Path, mode: u32) {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return;
    };
    if found.is_symlink() || found.mode() & 0o077 == 0 {
        return;
    }
    let found = found.mode() & 0o777;
    match std::fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) => tracing::warn!(
            path = %path.display(),
            "others on this machine could read this: its mode was {found:o} and is {mode:o} now"
        ),
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "others on this machine can read this, and its mode {found:o} could not be changed"
        ),
    }
}

/// Makes a store that has its name only once it is whole and on the disk.
fn make<T>(
    folder: &Path,
    write: impl FnOnce(Box<dyn StorageBackend>) -> Result<T, StoreError>,
) -> Result<T, FolderError> {
    let (part, whole) = (folder.join(PART), folder.join(STORE));
    // What one that was cut off has left.
    if let Err(error) = std::fs::remove_file(&part)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(unopened(&part, error));
    }
    let file = open(&part).map_err(|error| unopened(&part, error))?;
    let written = write(file).map_err(|source| in_folder(folder, source))?;
    let named = std::fs::rename(&part, &whole);
    let synced = named.and_then(|()| File::open(folder)?.sync_all());
    synced.map_err(|error| unopened(&whole, error))?;
    Ok(written)
}

/// Opens the store's file. What the system still holds of it in memory is dropped first: after a
/// failed sync that may be what never reached the disk.
fn open(path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    backend(open_file(path)?)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.mode(0o600).open(path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(file)
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    match FileBackend::new(file) {
        Ok(backend) => Ok(Box::new(backend)),
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Makes a folder with a copy in it. The copy has its name only once it is whole and on the disk.
pub fn copy(
    folder: &Path,
    write: impl FnOnce(Box<dyn StorageBackend>) -> Result<Copied, StoreError>,
) -> Result<(), FolderError> {
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| unopened(folder, error))?;
    let (id, synced) = make(folder, write)?;
    let noted = Mark::make(folder, mark::Known { id, synced });
    noted.map_err(|error| unopened(&folder.join(mark::NAME), error))?;
    Ok(())
}

/// Copies a folder of the first format into this one; the old file stays beside it under another
/// name. One that was cut off is done again. Tells what the old file is called now.
///
/// # Errors
/// When the folder is held or cannot be read, or is in this format already.
pub fn upgrade(folder: &Path) -> Result<PathBuf, FolderError> {
    let held = (hold(folder)?, hold_log(folder)?);
    close_to_others(folder);
    let (path, old) = (folder.join(STORE), folder.join(OLD));
    let found = beginning(&path).map_err(|error| unopened(&path, error))?;
    let strange = match found {
        // Between the two renames nothing has the name.
        None if old.exists() => {
            std::fs::rename(&old, &path).map_err(|error| unopened(&old, error))?;
            Strange::Older
        }
        None => {
            let missing = io::ErrorKind::NotFound.into();
            return Err(unopened(&path, missing));
        }
        Some((length, beginning)) => match blocks::title(&beginning, length) {
            Ok(_) => {
                let what = "it is in this build's format already".to_owned();
                return Err(in_folder(folder, StoreError::Strange(what)));
            }
            Err(strange) => strange,
        },
    };
    if strange != Strange::Older {
        return Err(in_folder(folder, strange.into()));
    }
    let part = folder.join(PART);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unopened(&part, error));
        }
        _ => {}
    }
    let file = |path: &PathBuf| open(path).map_err(|error| unopened(path, error));
    let (id, synced) = crate::upgrade::upgrade(file(&path)?, file(&part)?)
        .map_err(|source| in_folder(folder, source))?;
    let named = std::fs::rename(&path, &old)
        .and_then(|()| std::fs::rename(&part, &path))
        .and_then(|()| File::open(folder)?.sync_all());
    named.map_err(|error| unopened(&path, error))?;
    let noted = Mark::make(folder, mark::Known { id, synced });
    noted.map_err(|error| unopened(&folder.join(mark::NAME), error))?;
    drop(held);
    Ok(old)
}

/// Takes the rows of a compacted topic out of a folder, when they are damaged and can be made again
/// from the records of the topic `from`. The old file stays beside the new one under another name,
/// which is told.
///
/// # Errors
/// When the folder is held, when anything else in it is damaged, or when `from` has not every record.
pub fn without(folder: &Path, topic: &str, from: &str) -> Result<PathBuf, FolderError> {
    let held = (hold(folder)?, hold_log(folder)?);
    let (path, old) = (folder.join(STORE), folder.join(DAMAGED));
    if old.exists() {
        let kept = format!("{} is there from before; move it away first", old.display());
        return Err(in_folder(folder, StoreError::Strange(kept)));
    }
    let found = beginning(&path).map_err(|error| unopened(&path, error))?;
    let (length, beginning) =
        found.ok_or_else(|| unopened(&path, io::ErrorKind::NotFound.into()))?;
    let id =
        blocks::title(&beginning, length).map_err(|strange| in_folder(folder, strange.into()))?;
    let mark = Mark::open(folder).map_err(|error| unopened(&folder.join(mark::NAME), error))?;
    if mark
        .and_then(|(_, noted)| noted)
        .is_some_and(|noted| noted.id != id)
    {
        return Err(in_folder(folder, another(folder)));
    }
    let part = folder.join(PART);
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unopened(&part, error));
        }
        _ => {}
    }
    let file = |path: &PathBuf| open(path).map_err(|error| unopened(path, error));
    let store = Store::open(file(&path)?, false, false);
    let store = store.map_err(|source| in_folder(folder, source))?;
    let (id, synced) = store
        .copy_without(topic, from, file(&part)?)
        .map_err(|source| in_folder(folder, source))?;
    drop(store);
    let named = std::fs::rename(&path, &old)
        .and_then(|()| std::fs::rename(&part, &path))
        .and_then(|()| File::open(folder)?.sync_all());
    named.map_err(|error| unopened(&path, error))?;
    let noted = Mark::make(folder, mark::Known { id, synced });
    noted.map_err(|error| unopened(&folder.join(mark::NAME), error))?;
    drop(held);
    Ok(old)
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
