//! Programs from Debian's archive that tests run: Prometheus, Alertmanager, kcat, Chromium.
//!
//! A program on the PATH is taken as it is. The servers are otherwise unpacked into the cache and
//! never installed: their packages would start services of the whole machine.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::services::{cache_dir, require, run};

/// Names under which Chromium is known; any will do.
const CHROMIUM: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// Where Debian's Alertmanager looks for its templates.
const ALERTMANAGER_SHARE: &str = "/usr/share/prometheus/alertmanager";

/// The Prometheus server.
pub fn prometheus() -> Result<PathBuf> {
    unpacked("prometheus", "prometheus")
}

/// Prometheus's tool, which checks configs, rules and metrics.
pub fn promtool() -> Result<PathBuf> {
    unpacked("prometheus", "promtool")
}

/// The Alertmanager server.
pub fn alertmanager() -> Result<PathBuf> {
    let program = unpacked("prometheus-alertmanager", "prometheus-alertmanager")?;
    provide_templates(&program)?;
    Ok(program)
}

/// Alertmanager's tool, which checks configs.
pub fn amtool() -> Result<PathBuf> {
    unpacked("prometheus-alertmanager", "amtool")
}

/// A Kafka client that shares no code of ours but librdkafka. It starts nothing and is installed.
pub fn kcat() -> Result<PathBuf> {
    installed(&["kcat", "kafkacat"], "kcat")
}

/// A browser. It is installed, since it needs a hundred libraries.
pub fn chromium() -> Result<PathBuf> {
    installed(&CHROMIUM, "chromium")
}

/// Makes sure that all of the above are there, so that a missing one is named before anything
/// long begins.
pub fn provide_all() -> Result<()> {
    for provide in [prometheus, promtool, alertmanager, amtool, kcat, chromium] {
        let path = provide()?;
        println!("  {}", path.display());
    }
    Ok(())
}

fn installed(names: &[&str], package: &str) -> Result<PathBuf> {
    let find = || names.iter().find_map(|name| on_path(name));
    if let Some(path) = find() {
        return Ok(path);
    }
    require(package, &[package])?;
    find().with_context(|| format!("`{package}` was installed and is not on the PATH"))
}

/// `program` of Debian's `package`: from the PATH, else from the cache, else unpacked there first.
fn unpacked(package: &str, program: &str) -> Result<PathBuf> {
    if let Some(path) = on_path(program) {
        return Ok(path);
    }
    let home = cache_dir()?.join("debian").join(package);
    let path = home.join("usr/bin").join(program);
    if !path.is_file() {
        unpack(package, &home).with_context(|| {
            format!("`{program}` was not found: install Debian's {package}, or put it on the PATH")
        })?;
    }
    if !path.is_file() {
        bail!(
            "Debian's {package} was unpacked into {} and has no {program}",
            home.display()
        );
    }
    Ok(path)
}

/// Makes the templates of an unpacked Alertmanager visible where Debian's build looks for them, by
/// a link that takes root to make: no flag of it names another place.
fn provide_templates(program: &Path) -> Result<()> {
    let wanted = Path::new(ALERTMANAGER_SHARE);
    if wanted.join("default.tmpl").is_file() {
        return Ok(());
    }
    let home = program
        .ancestors()
        .nth(3)
        .context("the server lies outside its package's tree")?;
    let own = home.join(wanted.strip_prefix("/")?);
    let link = || {
        if wanted.is_symlink() {
            // Left by an earlier cache that is gone.
            fs::remove_file(wanted)?;
        }
        fs::create_dir_all(wanted.parent().unwrap_or(wanted))?;
        symlink(&own, wanted)
    };
    match link() {
        // Another process may have been faster, which is as good.
        Err(_) if wanted.join("default.tmpl").is_file() => Ok(()),
        linked => linked.with_context(|| {
            format!(
                "linking {ALERTMANAGER_SHARE}, where Debian's Alertmanager looks for its \
                 templates: run once as root, or `apt-get install prometheus-alertmanager`"
            )
        }),
    }
}

/// Downloads `package` and unpacks it as `home`.
fn unpack(package: &str, home: &Path) -> Result<()> {
    let parent = home.parent().context("a cache without parent")?;
    fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let work = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(parent)?;
    let download = || {
        // A download as root drops its rights to a user who cannot write here; that is a warning
        // of apt's, which this setting spares us.
        run(Command::new("apt-get")
            .args(["download", "-q", "-o", "APT::Sandbox::User=root", package])
            .current_dir(work.path()))
    };
    if download().is_err() {
        // The package lists are missing or old. Only root can fetch them.
        run(Command::new("apt-get").args(["update", "-q"]))?;
        download()?;
    }
    let archive = fs::read_dir(work.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("`apt-get download {package}` left no archive"))?;
    let tree = work.path().join("tree");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
    // The whole tree appears at once. Another process may have been faster, which is as good.
    if let Err(error) = fs::rename(&tree, home)
        && !home.is_dir()
    {
        return Err(error).with_context(|| format!("moving to {}", home.display()));
    }
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_the_path_is_taken_from_there() {
        assert!(on_path("sh").is_some());
        assert_eq!(on_path("fenghuo-no-such-program"), None);
        assert_eq!(
            unpacked("no-such-package", "sh").unwrap(),
            on_path("sh").unwrap()
        );
    }
}
