//! Foreign producers: they put events into topics without any code of ours.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::debian;
use xtask::services::Kafka;

/// What stands between key and value on a producer's line; no key or JSON has it.
const SEPARATOR: char = '\t';

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
    let mut command = kafka.tool("org.apache.kafka.tools.ConsoleProducer");
    command
        .args(["--bootstrap-server", &kafka.bootstrap(), "--topic", topic])
        .args(["--property", "parse.key=true"])
        .args(["--property", &format!("key.separator={SEPARATOR}")]);
    feed(&mut command, events)
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
