//! Prometheus and Alertmanager as test services, on free loopback ports, in temporary
//! directories.
//!
//! They end with the value that started them. This file must never read what a test asserts: it
//! hands out the services' own answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::debian;
use crate::keeper::Kept;
use crate::services::free_ports;

const UP_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A Prometheus server with an empty disk.
#[derive(Debug)]
pub struct Prometheus {
    kept: Kept,
    port: u16,
}

impl Prometheus {
    /// Starts it on this config (YAML) and waits until it is ready.
    pub fn start(config: &str) -> Result<Self> {
        let program = debian::prometheus()?;
        let [port] = free_ports()?;
        let directory = directory("prometheus")?;
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, config)?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={}", address(port)));
        let kept = Kept::start(&command, directory)?;
        kept.wait_until_up("Prometheus", UP_WITHIN, || is_ready(port))?;
        Ok(Self { kept, port })
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// What an instant query gives now: the `result` of its answer, a list of series.
    pub fn query(&self, expr: &str) -> Result<Vec<Value>> {
        let path = format!("/api/v1/query?query={}", encoded(expr));
        let mut answer = get_json(self.port, &path)?;
        match answer["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            _ => bail!("Prometheus answered `{expr}` with {answer}"),
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.kept.log()
    }
}

/// An Alertmanager server with an empty disk, alone in its cluster.
#[derive(Debug)]
pub struct Alertmanager {
    kept: Kept,
    port: u16,
}

impl Alertmanager {
    /// Starts it with one receiver that sends nothing.
    pub fn start() -> Result<Self> {
        Self::start_with("route: { receiver: none }\nreceivers: [{ name: none }]\n")
    }

    /// Starts it on this config (YAML) and waits until it is ready.
    pub fn start_with(config: &str) -> Result<Self> {
        let program = debian::alertmanager()?;
        let [port] = free_ports()?;
        let directory = directory("alertmanager")?;
        let file = directory.path().join("alertmanager.yml");
        fs::write(&file, config)?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={}", address(port)))
            .arg("--cluster.listen-address=");
        let kept = Kept::start(&command, directory)?;
        kept.wait_until_up("Alertmanager", UP_WITHIN, || is_ready(port))?;
        Ok(Self { kept, port })
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        address(self.port)
    }

    /// The alerts that it holds now, as its API v2 tells them. Resolved ones are not among them.
    pub fn alerts(&self) -> Result<Vec<Value>> {
        match get_json(self.port, "/api/v2/alerts")? {
            Value::Array(alerts) => Ok(alerts),
            other => bail!("Alertmanager answered with {other}"),
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.kept.log()
    }
}

fn directory(service: &str) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("fenghuo-{service}-"))
        .tempdir()
        .context("making a temporary directory")
}

fn address(port: u16) -> String {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string()
}

fn is_ready(port: u16) -> bool {
    get(port, "/-/ready").is_ok_and(|(status, _)| status == 200)
}

fn get_json(port: u16, path: &str) -> Result<Value> {
    let (status, body) = get(port, path)?;
    serde_json::from_str(&body)
        .with_context(|| format!("reading the answer to {path}: status {status}, {body}"))
}

/// The status and the body that a service on loopback answers. HTTP 1.0, so that the body ends
/// with the connection and comes in one piece; an HTTP client would be a dependency for ten lines.
fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&to, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no end of its head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((
        status.with_context(|| format!("no status in `{head}`"))?,
        body.to_owned(),
    ))
}

/// Percent-encoding of all but letters and digits.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_whole() {
        assert_eq!(encoded("a{b=\"c d\"}"), "a%7Bb%3D%22c%20d%22%7D");
        assert_eq!(encoded("é"), "%C3%A9");
    }
}
