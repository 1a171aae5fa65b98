//! The small file beside the log that says which log belongs here, and how far it had come.
//!
//! Owns the check that a log is the one that was here: a file that was replaced, or put back as it
//! was earlier, would otherwise go on as if what came since had never been. It is written after
//! each sync and never synced itself, so it can lag behind the log and never leads it. It must
//! never keep a log from being opened by being lost or damaged itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::file::{OWN_FLAGS, regular};

/// Its name.
pub const NAME: &str = "identity";

/// What a log is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The id of its file.
    pub id: u64,
    /// How often something was made durable in it.
    pub synced: u64,
}

impl Known {
    /// One line, of the same length always.
    fn line(self) -> String {
        let text = format!("fenghuo-log {:016x} {:020}", self.id, self.synced);
        format!("{text} {:016x}\n", xxh3_64(text.as_bytes()))
    }

    fn read(line: &str) -> Option<Self> {
        let (text, _) = line.trim_end().rsplit_once(' ')?;
        let (text, synced) = text.rsplit_once(' ')?;
        let (_, id) = text.rsplit_once(' ')?;
        let known = Self {
            id: u64::from_str_radix(id, 16).ok()?,
            synced: synced.parse().ok()?,
        };
        (known.line() == line).then_some(known)
    }
}

/// The file, open.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    file: File,
}

impl Mark {
    /// Opens what is there. What it says is `None` where it cannot be read; there is no mark where
    /// there is no file.
    pub fn open(folder: &Path) -> io::Result<Option<(Self, Option<Known>)>> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OWN_FLAGS);
        let mut file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        regular(&file)?;
        let mut line = String::new();
        let read = (&mut file).take(200).read_to_string(&mut line);
        let known = read.ok().and_then(|_| Known::read(&line));
        Ok(Some((Self { path, file }, known)))
    }

    /// Makes it, whole or not at all.
    pub fn make(folder: &Path, known: Known) -> io::Result<Self> {
        let (part, path) = (folder.join("identity.part"), folder.join(NAME));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.custom_flags(OWN_FLAGS);
        let mut file = options.open(&part)?;
        file.write_all(known.line().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        File::open(folder)?.sync_all()?;
        Ok(Self { path, file })
    }

    /// Notes how far the log has come. It is in one sector: a power cut leaves the line of before.
    pub fn set(&self, known: Known) {
        if let Err(error) = self.file.write_all_at(known.line().as_bytes(), 0) {
            tracing::warn!(%error, path = %self.path.display(), "how far the log has come was not noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_what_was_changed_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Mark::open(folder.path()).unwrap().is_none());
        let known = Known { id: 7, synced: 9 };
        let mark = Mark::make(folder.path(), known).unwrap();
        let later = Known {
            synced: 1_000,
            ..known
        };
        mark.set(later);
        let read = || Mark::open(folder.path()).unwrap().unwrap().1;
        assert_eq!(read(), Some(later));
        let path = folder.path().join(NAME);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(), None, "byte {at}");
        }
    }
}
