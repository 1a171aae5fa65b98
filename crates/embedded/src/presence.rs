//! Whether the file that is open is still the one that the folder has.
//!
//! A file that was removed, replaced, cut or overwritten while it is open goes on taking writes, and
//! none of them is there after a restart. Owns the comparison of the open file with what its path
//! leads to. What was found lost stays so: a file that grows again does not bring back what was cut
//! off. It must never write.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redb::StorageBackend;

use crate::blocks;

/// A file that shrinks, or a header that is written, while it is looked at may look like what it is
/// not. So many looks have to agree.
const TRIES: usize = 3;

/// The file as it was opened, and what became of it.
#[derive(Debug)]
pub struct Presence {
    path: PathBuf,
    /// Device and inode of the open file.
    opened: Mutex<Option<(u64, u64)>>,
    /// Bytes that the file has at least, by what was done to it through this process.
    bytes: Arc<AtomicU64>,
    lost: OnceLock<String>,
}

impl Presence {
    /// Nothing is open yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            opened: Mutex::default(),
            bytes: Arc::default(),
            lost: OnceLock::new(),
        }
    }

    /// Follows a file that was opened just now.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn follow(&self, file: &File) -> io::Result<()> {
        let of = file.metadata()?;
        self.bytes.store(of.len(), Ordering::SeqCst);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened = Some((of.dev(), of.ino()));
        Ok(())
    }

    /// Puts what counts its bytes around an open file.
    pub fn around(&self, file: Box<dyn StorageBackend>) -> Box<dyn StorageBackend> {
        let bytes = Arc::clone(&self.bytes);
        Box::new(Followed { file, bytes })
    }

    /// What was found.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Compares what a name tells: one call of the system.
    pub fn look(&self) -> Option<&str> {
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(opened)) = (self.lost(), opened) {
            let compared = agreed(|| {
                // Asked before the file is: it may grow meanwhile.
                let bytes = self.bytes.load(Ordering::SeqCst);
                compare(&self.path, opened, bytes)
            });
            if let Err(what) = compared {
                self.lose(what);
            }
        }
        self.lost()
    }

    /// As [`look`](Self::look), and compares the beginning of the file with its checksums.
    pub fn look_inside(&self, id: u64) -> Option<&str> {
        self.look();
        if self.lost().is_none()
            && let Err(what) = agreed(|| inside(&self.path, id))
        {
            self.lose(what);
        }
        self.lost()
    }

    fn lose(&self, what: String) {
        let path = self.path.display();
        let what = format!("{path} {what} while this process has it open");
        if self.lost.set(what.clone()).is_ok() {
            tracing::error!(
                process = std::process::id(),
                "{what}: what is acknowledged from now on would be gone after a restart, so nothing \
                 is. Take a backup NOW, before this process ends: fenghuo log backup TO --data DIR \
                 copies all that the open file still holds"
            );
        }
    }
}

/// What is found by each of several looks.
fn agreed(mut look: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let mut found = look();
    for _ in 1..TRIES {
        if found.is_err() {
            found = look();
        }
    }
    found
}

fn compare(path: &Path, opened: (u64, u64), bytes: u64) -> Result<(), String> {
    let found = match std::fs::symlink_metadata(path) {
        // Whoever opened it through a link opened what the link leads to.
        Ok(of) if of.is_symlink() => std::fs::metadata(path),
        other => other,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("was removed".to_owned());
        }
        // What cannot be asked now may be asked again.
        Err(_) => return Ok(()),
    };
    if (found.dev(), found.ino()) != opened {
        return Err("was replaced by another file".to_owned());
    }
    if found.len() < bytes {
        let length = found.len();
        return Err(format!(
            "was cut to {length} bytes, and {bytes} were written"
        ));
    }
    Ok(())
}

fn inside(path: &Path, id: u64) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    options.read(true).custom_flags(flags.cast_signed());
    let Ok(file) = options.open(path) else {
        return Ok(());
    };
    let mut beginning = Vec::new();
    if (&file).take(64).read_to_end(&mut beginning).is_err() {
        return Ok(());
    }
    let length = file.metadata().map_or(0, |of| of.len());
    let is_it = blocks::title(&beginning, length).is_ok_and(|found| found == id);
    let read = |at, out: &mut [u8]| file.read_exact_at(out, at);
    if !is_it || !blocks::has_head(id, read) {
        return Err("was overwritten".to_owned());
    }
    Ok(())
}

/// A file whose bytes are counted: so many are there.
#[derive(Debug)]
struct Followed {
    file: Box<dyn StorageBackend>,
    bytes: Arc<AtomicU64>,
}

impl StorageBackend for Followed {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // The file is never shorter than is said here, whoever looks meanwhile.
        self.bytes.fetch_min(len, Ordering::SeqCst);
        self.file.set_len(len)?;
        self.bytes.store(len, Ordering::SeqCst);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use fenghuo_log::{Append, Log as _, TopicPartition, TopicSpec};

    use super::*;
    use crate::EmbeddedLog;

    fn log(folder: &Path) -> EmbeddedLog {
        let log = EmbeddedLog::open(folder).unwrap();
        let spec = TopicSpec {
            name: "t".to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        };
        log.ensure(&[spec]).unwrap();
        append(&log, 100).unwrap();
        log
    }

    fn append(log: &EmbeddedLog, count: usize) -> Result<(), fenghuo_log::Error> {
        let one = |n: usize| {
            // What does not pack well, so that the file grows.
            let noise = (0..50_u64).map(|at| (at + n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let noise = noise.flat_map(u64::to_le_bytes).collect();
            Append::new(TopicPartition::new("t", 0), None, noise)
        };
        log.append((0..count).map(one).collect()).map(drop)
    }

    type Harm = fn(&Path);

    const HARMS: [(&str, Harm); 5] = [
        ("was removed", |path| std::fs::remove_file(path).unwrap()),
        ("was replaced", |path| {
            let copy = path.with_extension("copy");
            std::fs::copy(path, &copy).unwrap();
            std::fs::rename(copy, path).unwrap();
        }),
        ("was cut to 0", |path| cut(path, 0)),
        ("was cut to", |path| {
            cut(path, std::fs::metadata(path).unwrap().len() / 2)
        }),
        ("was overwritten", |path| {
            let length = std::fs::metadata(path).unwrap().len();
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(&vec![0; length as usize], 0).unwrap();
        }),
    ];

    fn cut(path: &Path, length: u64) {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(length)
            .unwrap();
    }

    #[test]
    fn what_becomes_of_the_file_while_it_is_open_is_noticed() {
        for (told, harm) in HARMS {
            let folder = tempfile::tempdir().unwrap();
            let log = log(folder.path());
            assert_eq!(log.lost(), None);
            harm(&folder.path().join("log.redb"));
            let lost = log.lost().unwrap_or_else(|| panic!("{told}: not noticed"));
            assert!(lost.contains(told), "{lost}");
            assert_eq!(log.known_lost(), Some(lost));
        }
    }

    #[test]
    fn the_next_commit_notices_it_too_though_the_file_grows_again() {
        for (told, harm) in HARMS.into_iter().take(4) {
            let folder = tempfile::tempdir().unwrap();
            let log = log(folder.path());
            harm(&folder.path().join("log.redb"));
            // It may fail or not, as the store finds what it needs in memory.
            let _ = append(&log, 1);
            let lost = log
                .known_lost()
                .unwrap_or_else(|| panic!("{told}: not noticed"));
            assert!(lost.contains(told), "{lost}");
        }
    }

    #[test]
    fn a_file_that_was_removed_can_still_be_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (here, copy) = (folder.path().join("here"), folder.path().join("copy"));
        let log = log(&here);
        std::fs::remove_file(here.join("log.redb")).unwrap();
        assert!(log.lost().is_some());
        log.backup(&copy).unwrap();
        let copied = EmbeddedLog::open(&copy).unwrap();
        assert_eq!(copied.high(&TopicPartition::new("t", 0)), 100);
    }

    #[test]
    fn a_file_that_grows_and_shrinks_by_itself_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looking = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(log.lost(), None);
                }
            });
            for _ in 0..20 {
                append(&log, 2_000).unwrap();
                let of = TopicPartition::new("t", 0);
                log.forget(&of, log.high(&of)).unwrap();
                log.sync().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            looking.join().unwrap();
        });
    }
}
