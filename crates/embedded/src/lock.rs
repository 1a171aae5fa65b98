//! Who holds the folder.
//!
//! Owns the lock and what is said of its holder: what the system knows goes before what the file
//! says, since whoever may open the file can lock it without writing into it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Locked while a process holds the folder; it says which.
pub const NAME: &str = "lock";

/// What came of trying to hold a folder.
#[derive(Debug)]
pub enum Held {
    /// It is held as long as this lives.
    Here(File),
    /// Somebody else holds it.
    Elsewhere(String),
}

/// Tries to hold a folder.
pub fn hold(folder: &Path) -> io::Result<Held> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // Not through a link: what that leads to would be emptied. Nor a pipe, which would wait.
    options.mode(0o600).custom_flags(crate::file::OWN_FLAGS);
    let mut file = options.open(folder.join(NAME))?;
    crate::file::regular(&file)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => return Ok(Held::Elsewhere(holder(&mut file))),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Held::Here(file))
}

/// Tries to hold a file that says nothing of who holds it.
pub fn hold_file(file: File) -> io::Result<Held> {
    match file.try_lock() {
        Ok(()) => Ok(Held::Here(file)),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Ok(Held::Elsewhere(known_holder(&file, None))),
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(100).read_to_string(&mut text);
    known_holder(file, text.trim().parse().ok())
}

/// Who has locked a file, by what the system says; `named` says so itself.
fn known_holder(file: &File, named: Option<u32>) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let known = file.metadata().ok().and_then(|of| locker(&locks, of.ino()));
    match (known, named) {
        (Some(known), _) => format!("process {known}"),
        (None, Some(named)) if Path::new(&format!("/proc/{named}")).exists() => {
            format!("process {named}")
        }
        (None, Some(named)) => format!(
            "another process (the lock file names process {named}, which is not running here)"
        ),
        (None, None) => "another process".to_owned(),
    }
}

/// The process that has locked a file, by the table of the system: `1: FLOCK ADVISORY WRITE 812
/// 08:02:1311 0 EOF`. Inodes of several disks may be alike; with more than one match nobody is named.
fn locker(locks: &str, inode: u64) -> Option<u32> {
    let mut found = None;
    for line in locks.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, file, ..] = words[..] else {
            continue;
        };
        let is_it = file.rsplit(':').next() == Some(inode.to_string().as_str());
        if is_it && found.replace(process.parse().ok()?).is_some() {
            return None;
        }
    }
    found.filter(|process| *process > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_who_the_system_says() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:1c:99 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 812 08:02:1311 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 08:02:1312 0 EOF\n";
        assert_eq!(locker(locks, 1311), Some(812));
        for other in [99, 1312, 1313] {
            assert_eq!(locker(locks, other), None, "{other}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join(NAME)).unwrap();
        assert!(hold(folder.path()).is_err());
        assert_eq!(std::fs::read(other).unwrap(), b"precious");
    }

    #[test]
    fn a_process_that_is_gone_is_not_blamed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        // Above what a process can be numbered.
        std::fs::write(&path, "4999999\n").unwrap();
        let stranger = File::open(&path).unwrap();
        stranger.lock().unwrap();
        let Held::Elsewhere(holder) = hold(folder.path()).unwrap() else {
            panic!("it is held");
        };
        // Where the system does not tell who it is, no process that is gone is named as if it ran.
        let own = format!("process {}", std::process::id());
        assert!(holder == own || holder.contains("not running"), "{holder}");
        drop(stranger);
        assert!(matches!(hold(folder.path()).unwrap(), Held::Here(_)));
    }
}
