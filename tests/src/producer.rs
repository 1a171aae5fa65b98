//! Foreign producers: they put events into topics without any code of ours.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::debian;
use xtask::services::{Kafka, with_wrong_clock};

/// What stands between key and value on a producer's line; no key or JSON has it.
const SEPARATOR: char = '\t';

/// Bytes that kcat reads at a time.
const BLOCK_BYTES: usize = 1_024;

/// Produces with kcat: a key and a JSON event each.
pub fn kcat(kafka: &Kafka, topic: &str, events: &[(String, Value)]) -> Result<()> {
    let mut command = Command::new(debian::kcat()?);
    command
        .args(["-P", "-b", &kafka.bootstrap(), "-t", topic, "-K"])
        .arg(SEPARATOR.to_string());
    feed(&mut command, events)
}

/// Produces with Apache Kafka's own console producer.
pub fn console(kafka: &Kafka, topic: &str, events: &[(String, Value)]) -> Result<()> {
    feed(&mut console_of(kafka, topic), events)
}

/// The same on a machine whose clock is ahead by so much: where the topic keeps the time of
/// creation, the records are stamped so.
pub fn console_at(
    kafka: &Kafka,
    topic: &str,
    events: &[(String, Value)],
    ahead_ms: i64,
) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let console = console_of(kafka, topic);
    let mut console = with_wrong_clock(&console, ahead_ms, directory.path())?;
    feed(&mut console, events)
}

fn console_of(kafka: &Kafka, topic: &str) -> Command {
    let mut command = kafka.tool("org.apache.kafka.tools.ConsoleProducer");
    command
        .args(["--bootstrap-server", &kafka.bootstrap(), "--topic", topic])
        .args(["--property", "parse.key=true"])
        .args(["--property", &format!("key.separator={SEPARATOR}")]);
    command
}

/// A kcat that produces what it is given for as long as it is kept, each message once and in
/// order, however long the broker is away.
#[derive(Debug)]
pub struct Stream {
    child: Child,
    input: Option<ChildStdin>,
    /// What it tells; a file, because nobody reads it before the end.
    told: File,
}

impl Stream {
    /// Starts one for a topic.
    pub fn start(bootstrap: &str, topic: &str) -> Result<Self> {
        let told = tempfile::tempfile().context("a file for what kcat tells")?;
        let mut child = Command::new(debian::kcat()?)
            .args(["-P", "-E", "-b", bootstrap, "-t", topic, "-K"])
            .arg(SEPARATOR.to_string())
            .args(["-X", "enable.idempotence=true", "-X", "acks=all"])
            .args(["-X", "linger.ms=20", "-X", "message.timeout.ms=600000"])
            // With more than one, the librdkafka 2.0 of kcat can lose the order of its own
            // retries over a restart of the broker, and gives up.
            .args(["-X", "max.in.flight.requests.per.connection=1"])
            .args(["-X", "reconnect.backoff.max.ms=500"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(told.try_clone()?)
            .spawn()
            .context("starting kcat")?;
        let input = child.stdin.take();
        Ok(Self { child, input, told })
    }

    /// Hands over a message. Key and value are text of one line, the value such that spaces behind
    /// it mean nothing.
    pub fn send(&mut self, key: &str, value: &str) -> Result<()> {
        let input = self.input.as_mut().context("kcat without input")?;
        // kcat reads whole blocks: what does not fill one would wait there for the next message.
        let length = key.len() + SEPARATOR.len_utf8() + value.len() + 1;
        let padding = length.next_multiple_of(BLOCK_BYTES) - length;
        let line = format!("{key}{SEPARATOR}{value}{:padding$}\n", "");
        let sent = input.write_all(line.as_bytes());
        sent.with_context(|| format!("kcat takes no more: {}", self.told()))
    }

    /// What it has told so far.
    fn told(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .told
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.told.read_to_string(&mut text));
        match read {
            Ok(_) => text,
            Err(error) => error.to_string(),
        }
    }

    /// Waits until the broker has acknowledged every message.
    pub fn finish(mut self) -> Result<()> {
        // The end of its input.
        self.input = None;
        let status = self.child.wait()?;
        let text = self.told();
        // kcat tells of what was given up, and of lost connections, which are none of its faults.
        if !status.success() || text.contains("Delivery failed") {
            bail!("kcat ended with {status}: {text}");
        }
        Ok(())
    }
}

fn feed(command: &mut Command, events: &[(String, Value)]) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let lines: String = events
        .iter()
        .map(|(key, event)| format!("{key}{SEPARATOR}{event}\n"))
        .collect();
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {told}", output.status);
    }
    Ok(())
}
