//! A folder as it is listed, and its files as they are opened.
//!
//! Owns what counts as a file of the folder: who may write there decides what is read, and so a link
//! that leads elsewhere is not followed; and whether the folder is still the one that was named. It
//! must never look into a file.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
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

/// A folder of a file system, as it was when it was named.
///
/// Whoever names it may name a link. Afterwards only a folder in the same place is taken for it: one
/// that came back or was mounted again is, a link to another one is not.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Where it leads, if it is a link.
    link: Option<PathBuf>,
    /// The folder itself, once it was there.
    real: OnceLock<PathBuf>,
    /// Set once something was mounted there: without it, the place is another folder, and empty.
    mounted: OnceLock<()>,
}

impl Directory {
    /// The folder that this path names now, if it is there already.
    pub fn new(path: PathBuf) -> Self {
        let directory = Self {
            link: fs::read_link(&path).ok(),
            path,
            real: OnceLock::new(),
            mounted: OnceLock::new(),
        };
        // What cannot be read now is told when it is listed.
        let _ = directory.root();
        directory
    }

    /// Its path, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself, where it is still the one that was named.
    fn root(&self) -> io::Result<&Path> {
        let link = match fs::read_link(&self.path) {
            // It is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            other => Some(other?),
        };
        let elsewhere = "it leads to another folder than at the start, which is not followed";
        if link != self.link {
            return Err(io::Error::other(elsewhere));
        }
        let now = fs::canonicalize(&self.path)?;
        let real = self.real.get_or_init(|| now.clone());
        if *real != now {
            return Err(io::Error::other(elsewhere));
        }
        if is_mounted(real)? {
            self.mounted.get_or_init(|| ());
        } else if self.mounted.get().is_some() {
            return Err(io::Error::other("what was mounted there no longer is"));
        }
        Ok(real)
    }

    /// The files that are there now: no folders, and none whose name begins with `.` or `~`, as
    /// those of programs that are still writing do. A name that is not UTF-8 is left out. A link to a
    /// file of the folder is that file; one that leads out of it is listed as it is, and not opened.
    ///
    /// # Errors
    /// When the folder cannot be read, or is not the one that was named.
    pub fn list(&self) -> io::Result<Vec<Seen>> {
        let root = self.root()?;
        let mut listing = Vec::new();
        for entry in fs::read_dir(root)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            if name.starts_with(['.', '~']) {
                continue;
            }
            let metadata = match fs::symlink_metadata(root.join(&name)) {
                Ok(own) if own.is_symlink() => linked(root, &name, own),
                // Names can be read here, but no file: it would look as if all had gone.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                own => own,
            };
            // One that went since it was listed is not there.
            let Ok(metadata) = metadata else {
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
}

/// Of what a link leads to in the folder; of a link out of it, the link's own.
fn linked(root: &Path, name: &str, own: Metadata) -> io::Result<Metadata> {
    let target = fs::metadata(root.join(name))?;
    match target.is_file() && real(root, name)?.is_none() {
        true => Ok(own),
        false => Ok(target),
    }
}

/// Where a file of the folder is, once all links are followed; nothing where that is elsewhere.
fn real(root: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    let real = fs::canonicalize(root.join(name))?;
    Ok((real.parent() == Some(root)).then_some(real))
}

/// Whether a file system of its own begins there.
fn is_mounted(root: &Path) -> io::Result<bool> {
    let Some(parent) = root.parent() else {
        return Ok(false);
    };
    Ok(fs::metadata(root)?.dev() != fs::metadata(parent)?.dev())
}

impl Folder for Directory {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let elsewhere = || io::Error::other("it is a link that leads out of the folder");
        let real = real(self.root()?, name)?.ok_or_else(elsewhere)?;
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
        for folder in [inside.path().to_owned(), by_link].map(Directory::new) {
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

    fn names(folder: &Directory) -> Result<Vec<String>, String> {
        let listing = folder.list().map_err(|error| error.to_string())?;
        Ok(listing.into_iter().map(|seen| seen.name).collect())
    }

    /// Guards: a link in the place of the folder was followed.
    #[test]
    fn a_link_that_comes_in_the_place_of_the_folder_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for (folder, file) in [("in", "a.csv"), ("other", "b.csv")] {
            fs::create_dir(at(folder)).unwrap();
            fs::write(at(folder).join(file), "").unwrap();
        }
        symlink("in", at("link")).unwrap();
        symlink("later", at("early")).unwrap();
        let folder = Directory::new(at("in"));
        let by_link = Directory::new(at("link"));
        let is_later = Directory::new(at("early"));
        let is_missing = Directory::new(at("missing"));
        let here = Ok(vec!["a.csv".to_owned()]);
        assert_eq!(
            (names(&folder), names(&by_link)),
            (here.clone(), here.clone())
        );
        assert!(names(&is_later).is_err() && names(&is_missing).is_err());

        fs::rename(at("in"), at("away")).unwrap();
        for folder in [&folder, &by_link] {
            assert!(names(folder).unwrap_err().contains("No such file"));
        }
        let elsewhere = |folder: &Directory, name: &str| {
            let problem = names(folder).unwrap_err();
            assert!(problem.contains("another folder"), "{problem}");
            let problem = folder.open(name).err().unwrap().to_string();
            assert!(problem.contains("another folder"), "{problem}");
        };
        symlink("other", at("in")).unwrap();
        symlink("other", at("missing")).unwrap();
        elsewhere(&folder, "b.csv");
        elsewhere(&by_link, "b.csv");
        elsewhere(&is_missing, "b.csv");
        // Another folder in its place is taken for it: it may have been made anew.
        fs::remove_file(at("in")).unwrap();
        fs::rename(at("away"), at("in")).unwrap();
        assert_eq!(
            (names(&folder), names(&by_link)),
            (here.clone(), here.clone())
        );

        fs::remove_file(at("link")).unwrap();
        symlink("other", at("link")).unwrap();
        elsewhere(&by_link, "b.csv");
        // What a link led to at the start may come later.
        fs::rename(at("in"), at("later")).unwrap();
        assert_eq!(names(&is_later), here);
        fs::rename(at("later"), at("in")).unwrap();
        fs::create_dir(at("deep")).unwrap();
        fs::rename(at("in"), at("deep/in")).unwrap();
        let deep = Directory::new(at("deep/in"));
        assert_eq!(names(&deep), here);
        // Nor is one further up.
        fs::rename(at("deep"), at("gone")).unwrap();
        fs::rename(at("other"), at("in")).unwrap();
        symlink(".", at("deep")).unwrap();
        elsewhere(&deep, "b.csv");
    }
}
