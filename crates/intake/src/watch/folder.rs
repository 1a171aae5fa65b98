//! A folder as it is listed, and its files as they are opened.
//!
//! Owns what counts as a file of the folder: who may write there decides what is read, and so a link
//! that leads elsewhere is not followed. It must never look into a file.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use rustix::fs::OFlags;

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
    /// those of programs that are still writing do. A name that is not UTF-8 is left out. A link to a
    /// file of the folder is that file; one that leads out of it is listed as it is, and not opened.
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
            let Ok(metadata) = self.metadata(&name) else {
                continue;
            };
            if !metadata.is_file() && !metadata.is_symlink() {
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

    /// Of a file or what a link leads to in the folder; of a link out of it, the link's own.
    fn metadata(&self, name: &str) -> io::Result<Metadata> {
        let path = self.0.join(name);
        let own = fs::symlink_metadata(&path)?;
        if !own.is_symlink() {
            return Ok(own);
        }
        let target = fs::metadata(&path)?;
        match target.is_file() && self.real(name)?.is_none() {
            true => Ok(own),
            false => Ok(target),
        }
    }

    /// Where a file of the folder is, once all links are followed; nothing where that is elsewhere.
    fn real(&self, name: &str) -> io::Result<Option<PathBuf>> {
        let folder = fs::canonicalize(&self.0)?;
        let real = fs::canonicalize(folder.join(name))?;
        Ok((real.parent() == Some(&*folder)).then_some(real))
    }
}

impl Folder for Directory {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let elsewhere = || io::Error::other("it is a link that leads out of the folder");
        let real = self.real(name)?.ok_or_else(elsewhere)?;
        // It may have become a link or a pipe since it was listed.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let mut options = OpenOptions::new();
        let options = options.read(true).custom_flags(flags.cast_signed());
        let file = options.open(real)?;
        match file.metadata()?.is_file() {
            true => Ok(Box::new(file)),
            false => Err(io::Error::other("it is no file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(folder: &Directory, name: &str) -> io::Result<String> {
        let mut text = String::new();
        folder.open(name)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_link_is_followed_within_the_folder_alone() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.csv"), "secret").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let at = |name: &str| inside.path().join(name);
        fs::write(at("a.csv"), "a").unwrap();
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("deep/b.csv"), "b").unwrap();
        symlink("a.csv", at("link.csv")).unwrap();
        symlink("out.csv", at("twice.csv")).unwrap();
        symlink(outside.path().join("secret.csv"), at("out.csv")).unwrap();
        symlink("nowhere", at("dangling.csv")).unwrap();
        symlink(".", at("itself.csv")).unwrap();
        symlink("/dev/zero", at("device.csv")).unwrap();
        // The folder itself may be named by a link.
        let by_link = outside.path().join("in");
        symlink(inside.path(), &by_link).unwrap();
        for folder in [inside.path().to_owned(), by_link].map(Directory) {
            let mut names: Vec<_> = folder.list().unwrap();
            names.sort_by(|a, b| a.name.cmp(&b.name));
            let names: Vec<&str> = names.iter().map(|seen| &*seen.name).collect();
            assert_eq!(names, ["a.csv", "link.csv", "out.csv", "twice.csv"]);
            assert_eq!(read(&folder, "a.csv").unwrap(), "a");
            assert_eq!(read(&folder, "link.csv").unwrap(), "a");
            for name in ["out.csv", "twice.csv", "device.csv"] {
                let problem = read(&folder, name).unwrap_err().to_string();
                assert!(problem.contains("leads out of the folder"), "{problem}");
            }
            assert!(read(&folder, "itself.csv").is_err());
            assert!(read(&folder, "deep").is_err());
        }
    }
}
