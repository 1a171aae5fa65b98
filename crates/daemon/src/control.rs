//! The way to a daemon that holds a folder: a socket in it, which its owner alone may use.
//!
//! Owns one question and its answer, a line each. It must never do what the owner of the folder
//! could not do himself. Nobody waits for others who say nothing: all are heard in turns, and whoever
//! has not asked in time is left.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use fenghuo_embedded::EmbeddedLog;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::clock;
use crate::config::Folder;
use crate::identity::{Correction, Identity, Known};
use crate::sets::{self, Came};
use crate::topics::Topics;

/// The socket.
const NAME: &str = "control";
/// Bytes of a question.
const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// Who has not asked yet; of more, the oldest is left.
const ASKING_MAX: usize = 64;
/// Who asks has this long to say what.
const PATIENCE: Duration = Duration::from_secs(2);
/// What costs the daemon nothing is answered by then.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(100);

/// Bytes of a socket's path at most: the system keeps 108 for it and for the zero byte behind it,
/// and other systems than Linux 104.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Why no socket can be made in a folder: its name is too long. Known before anything is made.
pub fn too_long(folder: &Path) -> Option<String> {
    let folder_bytes_max = PATH_BYTES_MAX - NAME.len() - 1;
    let bytes = folder.join(NAME).as_os_str().len();
    (bytes > PATH_BYTES_MAX).then(|| {
        let folder_bytes = bytes - NAME.len() - 1;
        format!(
            "the folder {} has a name of {folder_bytes} bytes; a socket is made in it, so that at \
             most {folder_bytes_max} can be used: expected a shorter path",
            folder.display()
        )
    })
}

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
    serve_with(listener, &|question| said(question, log, identity), stop);
}

/// What is said to a question.
type Say<'a> = dyn Fn(&str) -> anyhow::Result<String> + 'a;

fn serve_with(listener: &UnixListener, say: &Say<'_>, stop: &AtomicBool) {
    let mut asking: VecDeque<Asking> = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let mut is_quiet = true;
        for _ in 0..ASKING_MAX {
            let Ok((stream, _)) = listener.accept() else {
                break;
            };
            is_quiet = false;
            if asking.len() == ASKING_MAX {
                asking.pop_front();
            }
            asking.push_back(Asking::new(stream));
        }
        asking.retain_mut(|one| match one.hear() {
            Ok(None) => one.since.elapsed() < PATIENCE,
            Ok(Some(question)) => {
                is_quiet = false;
                if let Err(error) = answer(&one.stream, &say(&question)) {
                    tracing::warn!(%error, "a question to the folder was not answered");
                }
                false
            }
            Err(_) => false,
        });
        if is_quiet {
            clock::wait(STEP);
        }
    }
}

/// Who is connected and has not asked yet.
struct Asking {
    stream: UnixStream,
    heard: Vec<u8>,
    since: clock::Watch,
}

impl Asking {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            heard: Vec::new(),
            since: clock::Watch::start(),
        }
    }

    /// The question, once it is there. An error where there will be none.
    fn hear(&mut self) -> io::Result<Option<String>> {
        self.stream.set_nonblocking(true)?;
        let mut bytes = [0; 1024];
        while self.heard.len() < QUESTION_BYTES_MAX {
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => self.heard.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(
                    String::from_utf8_lossy(&self.heard[..end]).into_owned(),
                ));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn said(question: &str, log: &EmbeddedLog, identity: &Identity) -> anyhow::Result<String> {
    match question.split_once(' ').unwrap_or((question, "")) {
        ("backup", to) => {
            tracing::info!(to, "copying the folder");
            let copied = log.backup(Path::new(to)).map_err(anyhow::Error::from);
            copied.map(|()| String::new())
        }
        ("shop", correction) => shop_of(identity, log, correction),
        ("sets", number) => sets_of(log, number),
        _ => Err(anyhow::anyhow!("no question that is known")),
    }
}

fn answer(mut stream: &UnixStream, said: &anyhow::Result<String>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let said = match said {
        Ok(what) if what.is_empty() => "ok\n".to_owned(),
        Ok(what) => format!("ok {what}\n"),
        // One line, whatever the cause has in it.
        Err(why) => format!("error: {}\n", format!("{why:#}").replace('\n', " ")),
    };
    stream.write_all(said.as_bytes())
}

/// What shop it is, once corrected where that is asked.
fn shop_of(identity: &Identity, log: &EmbeddedLog, correction: &str) -> anyhow::Result<String> {
    let known = match correction {
        "" => identity.known(),
        text => identity.correct(&serde_json::from_str(text)?, log)?,
    };
    Ok(serde_json::to_string(&known)?)
}

/// The sets that were in force, after going back to one where that is asked.
fn sets_of(log: &EmbeddedLog, number: &str) -> anyhow::Result<String> {
    let number = (!number.is_empty()).then(|| number.parse()).transpose()?;
    // Where the folder lies is of no use to whoever reads sets.
    let topics = Topics::Folder(log.clone(), Folder::at(PathBuf::new()));
    let all = sets::asked(&topics, "fenghuo set", number)?;
    Ok(serde_json::to_string(&all)?)
}

/// Asks the daemon that holds a folder which sets were in force, or lets it go back to one.
pub fn sets(folder: &Path, number: Option<u64>) -> anyhow::Result<Vec<Came>> {
    let number = number.map(|number| number.to_string());
    let question = format!("sets {}", number.unwrap_or_default());
    let said = ask(folder, &question, Some(ANSWER_MAX))?;
    Ok(serde_json::from_str(&said)?)
}

/// Asks the daemon that holds a folder what shop it is of, or corrects that.
pub fn shop(folder: &Path, correction: Option<&Correction>) -> anyhow::Result<Known> {
    let correction = correction.map(serde_json::to_string).transpose()?;
    let question = format!("shop {}", correction.unwrap_or_default());
    let said = ask(folder, &question, Some(ANSWER_MAX))?;
    Ok(serde_json::from_str(&said)?)
}

/// Asks the daemon that holds a folder, and waits for its answer no longer than that.
fn ask(folder: &Path, question: &str, most: Option<Duration>) -> anyhow::Result<String> {
    let path = folder.join(NAME);
    let stream = connect(&path)
        .with_context(|| format!("{}: the daemon does not answer", path.display()))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    stream.set_read_timeout(most)?;
    writeln!(&stream, "{question}")?;
    let mut said = String::new();
    if let Err(error) = BufReader::new(stream).read_line(&mut said) {
        if matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ) {
            bail!(
                "{}: the daemon has not answered for {} s; it may be copying its folder",
                path.display(),
                most.unwrap_or_default().as_secs()
            );
        }
        return Err(error.into());
    }
    match said.trim_end() {
        "" => bail!("the daemon ended before it answered"),
        said => match said.strip_prefix("ok") {
            Some(what) => Ok(what.trim_start().to_owned()),
            None => bail!("{}", said.trim_start_matches("error: ")),
        },
    }
}

/// Connects, also where many others are about to.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    let watch = clock::Watch::start();
    loop {
        match socket.connect_timeout(&address, ANSWER_MAX) {
            Ok(()) => return Ok(UnixStream::from(OwnedFd::from(socket))),
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && watch.elapsed() < ANSWER_MAX =>
            {
                clock::wait(STEP);
            }
            Err(error) => return Err(error),
        }
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
    // A copy takes as long as it takes.
    ask(folder, &format!("backup {name}"), None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_nothing_holds_up_nobody_and_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path()).unwrap();
        let stop = AtomicBool::new(false);
        let say = |question: &str| Ok(format!("heard {question}"));
        std::thread::scope(|scope| {
            scope.spawn(|| serve_with(&listener, &say, &stop));
            let watch = clock::Watch::start();
            let connect = || connect(&folder.path().join(NAME)).unwrap();
            let idle: Vec<UnixStream> = (0..500).map(|_| connect()).collect();
            let mut part = connect();
            part.write_all(b"sh").unwrap();
            let said = ask(folder.path(), "shop", Some(ANSWER_MAX));
            let took = watch.elapsed();
            let mut left = String::new();
            let is_left = part.read_to_string(&mut left).is_ok();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(said.unwrap(), "heard shop");
            assert!(took < Duration::from_secs(8), "{took:?}");
            assert!(is_left && left.is_empty(), "{left}");
            drop(idle);
        });
    }

    #[test]
    fn a_folder_is_too_long_where_its_socket_cannot_be_made() {
        let root = tempfile::tempdir().unwrap();
        let root_bytes = root.path().as_os_str().len();
        let longest = PATH_BYTES_MAX - NAME.len() - 1;
        for bytes in [longest, longest + 1] {
            let folder = root.path().join("d".repeat(bytes - root_bytes - 1));
            std::fs::create_dir(&folder).unwrap();
            assert_eq!(too_long(&folder).is_none(), listen(&folder).is_ok());
            assert_eq!(too_long(&folder).is_none(), bytes == longest);
        }
    }

    #[test]
    fn a_daemon_that_hangs_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = listen(folder.path()).unwrap();
        let told = ask(folder.path(), "shop", Some(Duration::from_millis(50)));
        let told = told.unwrap_err().to_string();
        assert!(told.contains("has not answered"), "{told}");
    }
}
