//! A foreign consumer: what is in a topic, read without any code of ours.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use xtask::debian;

/// A record as kcat tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Offset.
    pub offset: u64,
    /// Append time, Unix ms.
    pub at_ms: i64,
    /// Headers by name.
    pub headers: Vec<(String, String)>,
    /// Value, as text.
    pub value: String,
}

impl Record {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// All committed records of a topic, partition by partition. Their values have to be text.
pub fn read(bootstrap: &str, topic: &str) -> Result<Vec<Record>> {
    let output = Command::new(debian::kcat()?)
        .args(["-C", "-b", bootstrap, "-t", topic, "-J", "-e", "-q"])
        .args(["-o", "beginning", "-X", "isolation.level=read_committed"])
        .output()
        .context("starting kcat")?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("kcat ended with {}: {told}", output.status);
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| record(line).with_context(|| format!("kcat wrote {line:?}")))
        .collect()
}

fn record(line: &str) -> Result<Record> {
    let row: Value = serde_json::from_str(line)?;
    let texts: Vec<String> = row["headers"]
        .as_array()
        .map(|texts| texts.iter().map(text).collect())
        .unwrap_or_default();
    // Names and values by turns.
    let headers = texts
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()));
    Ok(Record {
        offset: row["offset"].as_u64().context("no offset")?,
        at_ms: row["ts"].as_i64().context("no time")?,
        headers: headers.collect(),
        value: text(&row["payload"]),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
