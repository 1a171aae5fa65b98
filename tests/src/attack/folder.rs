//! What is on the disk: who may read it, who holds it, and a log that is not what it was.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::wait;

use super::site::Site;
use super::{Attack, Finding, Settings};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "modes",
        done: "looked at who may read the folder and a backup of it",
        expected: "directories 0700, files 0600",
        on_kafka: false,
        in_short: true,
        play: modes,
    },
    Attack {
        name: "foreign-lock",
        done: "a foreign process holds the lock, which names the process id of a daemon that is gone",
        expected: "run ends, and what it says does not name a process that does not hold it",
        on_kafka: false,
        in_short: true,
        play: foreign_lock,
    },
    Attack {
        name: "lost-log",
        done: "the stopped folder's log is emptied, halved, removed, or another folder's",
        expected: "verify, dump and run end with an error that names a backup, and nothing is begun anew",
        on_kafka: false,
        in_short: true,
        play: lost_log,
    },
    Attack {
        name: "second-daemon",
        done: "while a daemon runs, others are started on its log: by its folder, a link to the folder, and a \
               folder with a hard link to the log",
        expected: "each ends and tells that the log is held; the first one goes on, and nothing is lost",
        on_kafka: false,
        in_short: true,
        play: second_daemon,
    },
];

const ENDS_WITHIN: Duration = Duration::from_secs(8);

/// The file of a folder that holds the records: the largest one.
pub fn store_of(folder: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            files.push((metadata.len(), entry.path()));
        }
    }
    files.sort();
    let (_, path) = files.pop().context("no file in the folder")?;
    Ok(path)
}

/// Copies the regular files of a folder that is stopped.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.metadata()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// A folder with some orders and an alert in it, stopped.
pub fn stopped(settings: &Settings, name: &str) -> Result<(Site, PathBuf)> {
    let mut site = Site::running(settings, name, "")?;
    for number in 0..10 {
        site.page_ms(&format!("kept-{number}"), Duration::from_secs(5))?;
    }
    site.stop()?;
    let folder = site.installation.path("fenghuo-data");
    Ok((site, folder))
}

fn second_daemon(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "second-daemon", "")?;
    site.page_ms("kept-1", Duration::from_secs(5))?;
    let folder = site.installation.path("fenghuo-data");
    let (link, twin) = (
        site.installation.path("link"),
        site.installation.path("twin"),
    );
    std::os::unix::fs::symlink(&folder, &link)?;
    fs::create_dir_all(&twin)?;
    fs::set_permissions(&twin, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.metadata()?.is_file() && entry.file_name() != "lock" {
            fs::hard_link(entry.path(), twin.join(entry.file_name()))?;
        }
    }
    for of in [&folder, &link, &twin] {
        let mut second = site.installation.fenghuo(["run", "--data"]);
        second.arg(of).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = second.spawn()?;
        let ended = wait::until("the second one to end", ENDS_WITHIN, || {
            child.try_wait().transpose()
        });
        if ended.is_err() {
            child.kill()?;
        }
        let output = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let name = of.file_name().unwrap_or_default().to_string_lossy();
        finding.expect(
            ended.is_ok() && !output.status.success() && told.contains("holds"),
            format!("by {name}: {}, {told:.300}", output.status),
        );
    }
    let after = site.page_ms("kept-2", Duration::from_secs(5))?;
    finding.expect(after.is_some(), "the first one pages nobody any more");
    finding.measure("three others were refused");
    Ok(finding)
}

/// What stands against the modes of a folder and everything in it.
fn open_to_others(folder: &Path) -> Result<Vec<String>> {
    let mut paths = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    let mut open = Vec::new();
    for path in paths {
        let mode = fs::symlink_metadata(&path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            open.push(format!("{name} is {mode:04o}"));
        }
    }
    Ok(open)
}

fn modes(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "modes", "")?;
    site.page_ms("kept", Duration::from_secs(5))?;
    let folder = open_to_others(&site.installation.path("fenghuo-data"))?;
    finding.expect(
        folder.is_empty(),
        format!("the folder: {}", folder.join(", ")),
    );
    site.installation.done(["log", "backup", "copy"])?;
    let backup = open_to_others(&site.installation.path("copy"))?;
    finding.expect(
        backup.is_empty(),
        format!("the backup: {}", backup.join(", ")),
    );
    finding.measure(format!("{} open to others", folder.len() + backup.len()));
    Ok(finding)
}

/// A process that is killed with this value.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn foreign_lock(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let (site, folder) = stopped(settings, "foreign-lock")?;
    let lock = folder.join("lock");
    if !lock.exists() {
        finding.skipped = Some("the folder has no file named lock".to_owned());
        return Ok(finding);
    }
    let stale = fs::read_to_string(&lock)?.trim().to_owned();
    let holder = Command::new("flock")
        .args(["--no-fork", "--exclusive"])
        .arg(&lock)
        .args(["sleep", "60"])
        .stdin(Stdio::null())
        .spawn()
        .context("starting flock")?;
    let holder = Holder(holder);
    wait::until("the lock to be held", ENDS_WITHIN, || {
        let free = Command::new("flock")
            .arg("--nonblock")
            .arg(&lock)
            .arg("true")
            .status();
        free.is_ok_and(|status| !status.success()).then_some(())
    })?;
    let ended = until_it_ends(&site, &["run", "--config", "fenghuo.toml"])?;
    let (code, told) = ended;
    let last = told.lines().last().unwrap_or_default().to_owned();
    finding.measure(format!("run ended with {code:?}: {last}"));
    finding.expect(
        code.is_some_and(|code| code != 0),
        "run did not end with an error",
    );
    let is_false = !stale.is_empty() && told.contains(&stale) && stale != holder.0.id().to_string();
    finding.expect(
        !is_false,
        format!("it names process {stale}, which is gone: {last}"),
    );
    Ok(finding)
}

/// Starts the binary and gives its code, where it ended by itself, and what it wrote.
pub fn until_it_ends(site: &Site, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut process = site.installation.start(arguments)?;
    let ended = wait::until("it to end", ENDS_WITHIN, || {
        process.has_ended().then_some(())
    });
    if ended.is_err() {
        return Ok((None, process.log()));
    }
    let (status, log) = process.wait()?;
    // One that was ended by a signal has no code; by custom it is so many and the signal.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok((status.code().or(signal.map(|signal| 128 + signal)), log))
}

fn lost_log(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let (site, folder) = stopped(settings, "lost-log")?;
    let (_other, other_folder) = stopped(settings, "lost-log-other")?;
    let store = store_of(&folder)?;
    let length = fs::metadata(&store)?.len();
    let kept = site.installation.path("kept");
    copy(&folder, &kept)?;
    type Harm = Box<dyn Fn() -> Result<()>>;
    let shorten = |bytes: u64| -> Harm {
        let store = store.clone();
        Box::new(move || {
            Ok(OpenOptions::new()
                .write(true)
                .open(&store)?
                .set_len(bytes)?)
        })
    };
    let (gone, replaced) = (store.clone(), store.clone());
    let foreign = store_of(&other_folder)?;
    let harms: [(&str, Harm); 5] = [
        ("emptied", shorten(0)),
        ("halved", shorten(length / 2)),
        ("cut by a byte", shorten(length - 1)),
        ("removed", Box::new(move || Ok(fs::remove_file(&gone)?))),
        (
            "another folder's",
            Box::new(move || {
                fs::copy(&foreign, &replaced)?;
                Ok(())
            }),
        ),
    ];
    for (what, harm) in harms {
        for command in [
            &["log", "verify"][..],
            &["log", "dump"],
            &["run", "--config", "fenghuo.toml"],
        ] {
            copy(&kept, &folder)?;
            harm()?;
            let (code, told) = until_it_ends(&site, command)?;
            let last = told.lines().last().unwrap_or_default();
            let is_refused = code.is_some_and(|code| code != 0 && code < 100);
            let command = command.join(" ");
            finding.expect(
                is_refused,
                format!("a log that was {what}: {command} gave {code:?}: {last}"),
            );
            finding.expect(
                !is_refused || told.to_lowercase().contains("backup"),
                format!("a log that was {what}: {command} tells of no backup: {last}"),
            );
        }
    }
    finding.measure("5 harms, 3 commands");
    Ok(finding)
}
