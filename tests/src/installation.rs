//! An installation: a directory with a config, and the processes that run from it.
//!
//! A process must never outlive the value that stands for it, and none is ended by its name.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use xtask::{services, wait};

use crate::LIMIT;
use crate::http::{self, Answer};

/// Bytes of a log that an error shows.
const TAIL_BYTES: usize = 6_000;

/// A directory with a config, and the binary.
#[derive(Debug)]
pub struct Installation {
    dir: TempDir,
    binary: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    file_bytes_max: Option<u64>,
}

impl Installation {
    /// An installation without a config, with a port of its own.
    pub fn new() -> Result<Self> {
        let [port] = services::free_ports()?;
        let dir = tempfile::Builder::new()
            .prefix("fenghuo-tests-")
            .tempdir()
            .context("making a temporary directory")?;
        Ok(Self {
            dir,
            binary: binary()?,
            port,
            environment: Vec::new(),
            file_bytes_max: None,
        })
    }

    /// From now on no file of a process can grow beyond this: its writes fail, as on a disk that is
    /// full. [`Process::unlimit_files`] lifts it.
    pub fn limit_files(&mut self, bytes: u64) {
        self.file_bytes_max = Some(bytes);
    }

    /// Sets a variable for all processes from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Where its HTTP is to listen, `host:port`.
    pub fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into its directory.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Writes the config: where HTTP listens and the broker is, then the sections given.
    pub fn configure(&self, bootstrap: &str, sections: &str) -> Result<()> {
        let listen = self.listen();
        let text =
            format!("http.listen = {listen:?}\nkafka.bootstrap = [{bootstrap:?}]\n{sections}");
        self.write("fenghuo.toml", text).map(drop)
    }

    /// The binary with its arguments, in the installation's directory. The kernel ends it when the
    /// thread that starts it is gone: a test that is killed drops nothing.
    pub fn fenghuo<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if let Some(bytes) = self.file_bytes_max {
            // Without the signal that would end it, the write itself tells.
            let script = format!(
                "trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"",
                bytes / 512
            );
            command.args(["sh", "-c", &script]);
        }
        command
            .arg(&self.binary)
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }

    /// Runs the binary to its end; fails where it does.
    pub fn done<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<Output> {
        let output = self
            .fenghuo(arguments)
            .output()
            .context("starting fenghuo")?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            bail!("fenghuo ended with {}:\n{told}", output.status);
        }
        Ok(output)
    }

    /// Starts `fenghuo run` and waits until it is ready.
    pub fn run(&self) -> Result<Process> {
        let process = self.start(["run", "--config", "fenghuo.toml"])?;
        process.until("the daemon to be ready", |process| {
            let answer = process.get("/-/ready").ok()?;
            (answer.status == 200).then_some(())
        })?;
        Ok(process)
    }

    /// Starts the binary, which is expected to listen where the installation does.
    pub fn start<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Process> {
        // Each process has its own log, so that a later one's can be searched alone.
        let log = tempfile::Builder::new()
            .prefix("log-")
            .tempfile_in(self.dir.path())?
            .into_temp_path()
            .keep()?;
        let file = File::create(&log)?;
        let child = self
            .fenghuo(arguments)
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("starting fenghuo")?;
        Ok(Process {
            child,
            log,
            base: format!("http://{}", self.listen()),
            headers: Vec::new(),
        })
    }
}

/// The release build, or what FENGHUO_BINARY names: an installed one, or a build that is quick to
/// make.
fn binary() -> Result<PathBuf> {
    match env::var_os("FENGHUO_BINARY").filter(|path| !path.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => xtask::binary::fenghuo(),
    }
}

/// A running `fenghuo`. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    base: String,
    headers: Vec<(String, String)>,
}

impl Process {
    /// Sends a header with every request from now on.
    pub fn send_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Asks for a path.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        http::get(&self.url(path), &headers)
    }

    /// Asks for a path that answers with JSON and 200.
    pub fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        if answer.status != 200 {
            bail!("{path}: {} {}", answer.status, answer.body);
        }
        answer.json()
    }

    /// The sum of all samples of a metric whose labels have all these texts in them.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let text = self.get("/metrics")?.body;
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = rest.rsplit_once(' ')?;
            let is_it = (found.is_empty() || found.starts_with('{'))
                && labels.iter().all(|label| found.contains(label));
            is_it.then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(samples.sum())
    }

    /// Waits until `probe` finds something; tells the process's log where it does not.
    pub fn until<T>(&self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let mut over = false;
        let found = wait::until(what, LIMIT, || {
            let found = probe(self);
            over = found.is_none() && self.has_ended();
            if over { Some(None) } else { found.map(Some) }
        });
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => bail!("fenghuo ended while waiting for {what}:\n{}", self.tail()),
            Err(error) => Err(error).with_context(|| format!("fenghuo's log:\n{}", self.tail())),
        }
    }

    /// Sends it a signal, by the name that `kill` knows it by.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.id().to_string();
        let told = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()?;
        if !told.success() {
            bail!("kill -{name} {id}: {told}");
        }
        Ok(())
    }

    /// Its files may grow again.
    pub fn unlimit_files(&self) -> Result<()> {
        let told = Command::new("prlimit")
            .args(["--pid", &self.id().to_string(), "--fsize=unlimited:"])
            .status()?;
        if !told.success() {
            bail!("prlimit: {told}");
        }
        Ok(())
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub fn terminate(mut self) -> Result<(ExitStatus, String)> {
        self.signal("TERM")?;
        self.wait()
    }

    /// Waits until it has ended by itself; gives its log too.
    pub fn wait(&mut self) -> Result<(ExitStatus, String)> {
        let child = &mut self.child;
        let status = wait::until("fenghuo to end", LIMIT * 2, || child.try_wait().transpose());
        match status {
            Ok(status) => Ok((status?, self.log())),
            Err(error) => Err(error).with_context(|| format!("its log:\n{}", self.tail())),
        }
    }

    /// All that it has written to standard output and standard error so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether it has ended, without waiting for it: its directory in /proc has no program.
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(Path::new("/proc").join(self.id().to_string()).join("stat"));
        // Past the name in brackets comes the state; Z has ended and was not waited for.
        stat.map_or(true, |stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'))
        })
    }

    fn tail(&self) -> String {
        let log = self.log();
        let mut start = log.len().saturating_sub(TAIL_BYTES);
        while !log.is_char_boundary(start) {
            start += 1;
        }
        log[start..].to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
