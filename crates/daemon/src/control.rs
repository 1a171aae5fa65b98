//! The way to a daemon that holds a folder: a socket in it, which its owner alone may use.
//!
//! Owns one question and its answer, a line each. It must never do what the owner of the folder
//! could not do himself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fenghuo_embedded::EmbeddedLog;

use crate::clock;
use crate::identity::{Correction, Identity, Known};

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
    if std::fs::symlink_metadata(&path).is_ok_and(|of| !of.file_type().is_socket()) {
        bail!("{} is no socket: take it away", path.display());
    }
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
pub fn serve(listener: &UnixListener, log: &EmbeddedLog, identity: &Identity, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = answer(stream, log, identity) {
                    tracing::warn!(%error, "a question to the folder was not answered");
                }
            }
            Err(_) => clock::wait(STEP),
        }
    }
}

fn answer(stream: UnixStream, log: &EmbeddedLog, identity: &Identity) -> anyhow::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new((&stream).take(QUESTION_BYTES_MAX)).read_line(&mut question)?;
    let question = question.trim_end();
    let said = match question.split_once(' ').unwrap_or((question, "")) {
        ("backup", to) => {
            tracing::info!(to, "copying the folder");
            let copied = log.backup(Path::new(to)).map_err(anyhow::Error::from);
            copied.map(|()| String::new())
        }
        ("shop", correction) => shop_of(identity, log, correction),
        _ => Err(anyhow::anyhow!("no question that is known")),
    };
    let said = match said {
        Ok(what) if what.is_empty() => "ok\n".to_owned(),
        Ok(what) => format!("ok {what}\n"),
        // One line, whatever the cause has in it.
        Err(why) => format!("error: {}\n", format!("{why:#}").replace('\n', " ")),
    };
    (&stream).write_all(said.as_bytes())?;
    Ok(())
}

/// What shop it is, once corrected where that is asked.
fn shop_of(identity: &Identity, log: &EmbeddedLog, correction: &str) -> anyhow::Result<String> {
    let known = match correction {
        "" => identity.known(),
        text => identity.correct(&serde_json::from_str(text)?, log)?,
    };
    Ok(serde_json::to_string(&known)?)
}

/// Asks the daemon that holds a folder what shop it is of, or corrects that.
pub fn shop(folder: &Path, correction: Option<&Correction>) -> anyhow::Result<Known> {
    let correction = correction.map(serde_json::to_string).transpose()?;
    let said = ask(folder, &format!("shop {}", correction.unwrap_or_default()))?;
    Ok(serde_json::from_str(&said)?)
}

/// Asks the daemon that holds a folder.
fn ask(folder: &Path, question: &str) -> anyhow::Result<String> {
    let path = folder.join(NAME);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("{}: the daemon does not answer", path.display()))?;
    writeln!(stream, "{question}")?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said)?;
    match said.trim_end() {
        "" => bail!("the daemon ended before it answered"),
        said => match said.strip_prefix("ok") {
            Some(what) => Ok(what.trim_start().to_owned()),
            None => bail!("{}", said.trim_start_matches("error: ")),
        },
    }
}

/// Lets the daemon that holds a folder copy it.
pub fn backup(folder: &Path, to: &Path) -> anyhow::Result<()> {
    // The daemon has a working directory of its own.
    let to: PathBuf = std::path::absolute(to)?;
    let name = to.to_str().context("the name of the copy is no text")?;
    if name.contains('\n') {
        bail!("the name of the copy has a line feed in it");
    }
    ask(folder, &format!("backup {name}")).map(drop)
}
