//! The way to a daemon that holds a folder: a socket in it, which its owner alone may use.
//!
//! Owns one question and its answer, a line each. It must never do what the owner of the folder
//! could not do himself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fenghuo_embedded::EmbeddedLog;

use crate::clock;

/// The socket.
const NAME: &str = "control";
/// Bytes of a question.
const QUESTION_BYTES_MAX: u64 = 8 * 1024;
/// Who asks has this long to say what.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(100);

/// Listens in a folder that this process holds: what an earlier one left is taken away.
pub fn listen(folder: &Path) -> anyhow::Result<UnixListener> {
    let path = folder.join(NAME);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("{} cannot be removed", path.display()));
    }
    let bound = UnixListener::bind(&path);
    let listener = bound.with_context(|| format!("{} cannot be made", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers until `stop`.
pub fn serve(listener: &UnixListener, log: &EmbeddedLog, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, log) {
                    tracing::warn!(%error, "a question to the folder was not answered");
                }
            }
            Err(_) => clock::wait(STEP),
        }
    }
}

fn answer(stream: UnixStream, log: &EmbeddedLog) -> anyhow::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new((&stream).take(QUESTION_BYTES_MAX)).read_line(&mut question)?;
    let said = match question.trim_end().strip_prefix("backup ") {
        Some(to) => {
            tracing::info!(to, "copying the folder");
            let copied = log.backup(Path::new(to)).map_err(anyhow::Error::from);
            copied.map_err(|error| format!("{error:#}"))
        }
        None => Err("no question that is known".to_owned()),
    };
    let said = said.map_or_else(|why| format!("error: {why}\n"), |()| "ok\n".to_owned());
    (&stream).write_all(said.as_bytes())?;
    Ok(())
}

/// Lets the daemon that holds a folder copy it.
pub fn backup(folder: &Path, to: &Path) -> anyhow::Result<()> {
    let path = folder.join(NAME);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("{}: the daemon does not answer", path.display()))?;
    // The daemon has a working directory of its own.
    let to: PathBuf = std::path::absolute(to)?;
    let name = to.to_str().context("the name of the copy is no text")?;
    if name.contains('\n') {
        bail!("the name of the copy has a line feed in it");
    }
    writeln!(stream, "backup {name}")?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said)?;
    match said.trim_end() {
        "ok" => Ok(()),
        "" => bail!("the daemon ended before it answered"),
        why => bail!("{}", why.trim_start_matches("error: ")),
    }
}
