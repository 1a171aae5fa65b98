//! The daemon as a process of its own, on a broker.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fenghuo_benches::machine::{Result, cpu_s, get, judged};

use crate::Arguments;
use crate::broker::Broker;

/// What the daemon's log is kept in.
const LOG: &str = "target/agreed.log";
/// How long it may take until it answers, or until it has counted everything.
const WITHIN: Duration = Duration::from_secs(600);
/// How often it is asked how far it is; asking costs it something as well.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// A running daemon; it ends with this value.
pub struct Daemon {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts one with every signal and every default, that tells `hook`, a port on loopback.
    pub fn start(arguments: &Arguments, broker: &Broker, hook: u16) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("agreed-")
            .tempdir_in("target")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let config = format!(
            "http.listen = \"{address}\"\nkafka.bootstrap = [{:?}]\n\
             [[channel]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{hook}/\"\n\
             unsigned = true\nrate_per_minute = 60000\nburst = 1000\n\
             [[route]]\nchannels = [\"hook\"]\n{}",
            broker.bootstrap, arguments.config
        );
        let path = folder.path().join("fenghuo.toml");
        std::fs::write(&path, config)?;
        let log = std::fs::File::create(LOG)?;
        let child = Command::new(std::fs::canonicalize(&arguments.binary)?)
            .args(["run", "--log", "warn", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Self {
            child,
            address,
            _folder: folder,
        })
    }

    /// CPU time that it has used so far, in s.
    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.child.id())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Events that it has counted.
    pub fn judged(&self) -> u64 {
        judged(self.address).unwrap_or(0)
    }

    /// Waits until it says that it is ready.
    pub fn until_ready(&mut self) -> Result<()> {
        self.until("be ready", |daemon| {
            get(daemon.address, "/-/ready").is_ok_and(|answer| answer.contains("\"ok\":true"))
        })
    }

    /// Waits until it has counted so many events.
    pub fn until_judged(&mut self, events: u64) -> Result<()> {
        self.until(&format!("count {events} events"), |daemon| {
            daemon.judged() >= events
        })
    }

    fn until(&mut self, what: &str, mut probe: impl FnMut(&Self) -> bool) -> Result<()> {
        let began = Instant::now();
        while !probe(self) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the daemon ended with {status}: see {LOG}").into());
            }
            if began.elapsed() > WITHIN {
                let judged = self.judged();
                return Err(format!("it did not {what} (counted {judged}): see {LOG}").into());
            }
            std::thread::sleep(ASKED_EVERY);
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
