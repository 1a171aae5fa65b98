//! Keeps a service's process under watch, so that it never outlives its owner.
//!
//! It must never signal a process that it did not start, and never write outside the temporary
//! directory it was given.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::wait;

/// How many bytes of a service's log an error shows.
const TAIL_BYTES: usize = 4096;
/// How long a killed process may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// The watch over the service: a shell that ends it, by its process id, when the pipe to the
/// shell's standard input closes. So a service that is held in a static, or whose owner was
/// killed, ends all the same: no destructor is needed. The shell's arguments are the temporary
/// directory, which it removes at the end, and the service's command line.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
dir=$1; shift
(
    sh -c 'echo $$ > "$0/pid"; exec "$@"' "$dir" "$@" < /dev/null
    touch "$dir/ended"
) &
cat > /dev/null
[ -e "$dir/ended" ] || kill -KILL "$(cat "$dir/pid")"
wait
rm -rf "$dir"
"#;

/// A running process with a temporary directory of its own. Both end with this value, and also
/// when the process that owns it ends without dropping it.
#[derive(Debug)]
pub struct Kept {
    watch: Child,
    directory: PathBuf,
}

impl Kept {
    /// Starts `command`, which writes its output to `log` in `directory`.
    pub fn start(command: &Command, directory: TempDir) -> Result<Self> {
        let log = File::create(directory.path().join("log")).context("making a service's log")?;
        let watch = Command::new("sh")
            .args(["-c", SCRIPT, "fenghuo-keeper"])
            .arg(directory.path())
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting the shell that watches a service")?;
        // From here on the watch removes the directory.
        Ok(Self {
            watch,
            directory: directory.keep(),
        })
    }

    /// The process's own directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kills the process as a crash would, and waits until it is gone; its directory stays.
    ///
    /// # Errors
    /// When it has no id yet, or does not go.
    pub fn kill(&self) -> Result<()> {
        let id = fs::read_to_string(self.directory.join("pid")).context("a process without id")?;
        let ended = self.directory.join("ended");
        if !ended.exists() {
            let told = Command::new("kill").args(["-KILL", id.trim()]).status()?;
            // It may have ended by itself between the look and the signal.
            if !told.success() && !ended.exists() {
                bail!("kill -KILL {}: {told}", id.trim());
            }
        }
        wait::until("a killed process to be gone", GONE_WITHIN, || {
            ended.exists().then_some(())
        })
    }

    /// All that the process has written so far.
    pub fn log(&self) -> String {
        fs::read(self.directory.join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `up` says so; fails with the end of the log when `limit` is over or the
    /// process has ended.
    pub fn wait_until_up(
        &self,
        what: &str,
        limit: Duration,
        mut up: impl FnMut() -> bool,
    ) -> Result<()> {
        let ended = self.directory.join("ended");
        let state = wait::until(what, limit, || {
            if up() {
                Some(true)
            } else {
                ended.exists().then_some(false)
            }
        });
        if matches!(state, Ok(true)) {
            return Ok(());
        }
        let log = self.log();
        let start = log.len().saturating_sub(TAIL_BYTES);
        let start = (start..log.len())
            .find(|at| log.is_char_boundary(*at))
            .unwrap_or(0);
        bail!(
            "{what} did not come up; the end of its log:\n{}",
            &log[start..]
        );
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.watch.stdin.take());
        // An error means that the watch is gone already.
        let _ = self.watch.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn start(script: &str) -> Kept {
        let directory = tempfile::tempdir().unwrap();
        Kept::start(Command::new("sh").args(["-c", script]), directory).unwrap()
    }

    #[test]
    fn ends_the_process_and_its_directory() {
        let kept = start("echo up; exec cat /dev/zero > /dev/null");
        kept.wait_until_up("a busy process", LIMIT, || kept.log() == "up\n")
            .unwrap();
        let directory = kept.directory().to_owned();
        let pid = fs::read_to_string(directory.join("pid")).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        assert!(process.exists() || !Path::new("/proc/self").exists());
        drop(kept);
        assert!(!process.exists());
        assert!(!directory.exists());
    }

    #[test]
    fn what_was_killed_leaves_its_directory_to_who_comes_after() {
        let kept = start("echo up; exec cat /dev/zero > /dev/null");
        kept.wait_until_up("a busy process", LIMIT, || kept.log() == "up\n")
            .unwrap();
        kept.kill().unwrap();
        let pid = fs::read_to_string(kept.directory().join("pid")).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists());
        assert!(kept.log().starts_with("up\n"));
        kept.kill().unwrap();
    }

    #[test]
    fn says_why_a_process_ended_at_once() {
        let kept = start("echo no such disk >&2; exit 1");
        let error = kept
            .wait_until_up("a failing process", LIMIT, || false)
            .unwrap_err();
        assert!(error.to_string().contains("no such disk"), "{error}");
    }
}
