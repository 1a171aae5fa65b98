//! A folder as it is listed, and its files as they are opened.
//!
//! Owns what counts as a file of the folder. It must never look into one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name in the folder.
    pub name: String,
    /// Its size as it lies there, packed or not.
    pub size_bytes: u64,
    /// When it was last changed, Unix ms.
    pub modified_ms: i64,
}

/// Where files are opened.
pub trait Folder {
    /// Opens a file of the folder at its beginning.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;
}

/// A folder of a file system.
#[derive(Clone, Debug)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// The files that are there now: no folders, and none whose name begins with `.` or `~`, as
    /// those of programs that are still writing do. A name that is not UTF-8 is left out.
    pub fn list(&self) -> io::Result<Vec<Seen>> {
        let mut listing = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if name.starts_with(['.', '~']) {
                continue;
            }
            // One that went since it was listed is not there.
            let Ok(metadata) = fs::metadata(self.0.join(&name)) else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
            let modified_ms = modified.map_or(0, |since| since.as_millis() as i64);
            listing.push(Seen {
                name,
                size_bytes: metadata.len(),
                modified_ms,
            });
        }
        Ok(listing)
    }
}

impl Folder for Directory {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }
}
