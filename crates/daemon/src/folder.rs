//! `fenghuo log`: looking after a folder.
//!
//! Owns what a person asks of a folder: is it whole, what is in it, a copy of it, and its way to
//! Kafka. It must never change a record; what can be made again from records may be dropped.

pub mod copy;

use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fenghuo_embedded::{EmbeddedLog, FolderError};
use fenghuo_engine::record::topic;
use fenghuo_log::{TopicPartition, Whole};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::cli;
use crate::control;
use crate::exit::Exit;
use crate::topics::open_folder;

/// Does what was asked of a folder.
pub fn run(args: &cli::Log) -> anyhow::Result<Exit> {
    match args {
        cli::Log::Verify(args) => verify(&args.data),
        cli::Log::Dump(args) => dump(args),
        cli::Log::Backup(args) => backup(args),
        cli::Log::Copy(args) => copy::run(args),
        cli::Log::Upgrade(args) => upgrade(&args.data),
        cli::Log::Refold(args) => refold(&args.data),
    }
}

/// A folder that must be there: looking at one must not make it.
pub fn existing(folder: &Path) -> anyhow::Result<EmbeddedLog> {
    must_exist(folder)?;
    open_folder(folder)
}

/// Fails where a folder never held a log. One that has lost its log says so when it is opened.
pub fn must_exist(folder: &Path) -> anyhow::Result<()> {
    if folder.join("identity").exists() {
        return Ok(());
    }
    std::fs::metadata(folder.join("log.redb"))
        .with_context(|| format!("{} holds no log", folder.display()))?;
    Ok(())
}

/// Copies a folder of the first format into this build's.
fn upgrade(folder: &Path) -> anyhow::Result<Exit> {
    must_exist(folder)?;
    let old = fenghuo_embedded::upgrade(folder)?;
    println!(
        "{} is in this build's format now; what it was before is in {}",
        folder.display(),
        old.display()
    );
    Ok(Exit::Done)
}

/// Drops the rows of evaluate's state.
fn refold(folder: &Path) -> anyhow::Result<Exit> {
    must_exist(folder)?;
    let old = fenghuo_embedded::without(folder, topic::STATE, topic::PANES).with_context(|| {
        format!(
            "put the last backup in the place of {} (fenghuo log backup makes them)",
            folder.display()
        )
    })?;
    println!(
        "{} holds no state of evaluate any more, and the next start makes it again from {}; what it was \
         before is in {}",
        folder.display(),
        topic::PANES,
        old.display()
    );
    Ok(Exit::Done)
}

/// Copies a folder, by itself or through the daemon that holds it.
fn backup(args: &cli::LogBackup) -> anyhow::Result<Exit> {
    must_exist(&args.data)?;
    match EmbeddedLog::open(&args.data) {
        Ok(log) => log.backup(&args.to)?,
        Err(FolderError::Held { .. }) => control::backup(&args.data, &args.to)?,
        Err(error) => return Err(error.into()),
    }
    println!("{} is a copy of {}", args.to.display(), args.data.display());
    Ok(Exit::Done)
}

/// Reads a whole folder and says what it holds.
fn verify(folder: &Path) -> anyhow::Result<Exit> {
    let log = existing(folder)?;
    let mut out = std::io::stdout().lock();
    let checked = log.check().context(
        "put the last backup in the folder's place (fenghuo log backup makes them); where fenghuo.state \
         alone is damaged, fenghuo log refold makes it again; fenghuo log dump --topic T prints what can \
         still be read of the others",
    )?;
    for topic in &checked {
        let (records, batches) = (topic.records, topic.batches);
        let name = &topic.name;
        writeln!(out, "{name:<28} {records:>12} records in {batches} batches")?;
    }
    writeln!(out, "{} is whole", folder.display())?;
    Ok(Exit::Done)
}

/// Prints the records of a topic, or of all, one JSON object a line.
fn dump(args: &cli::LogDump) -> anyhow::Result<Exit> {
    let log = existing(&args.data)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let topics = log.topics()?;
    if let Some(topic) = &args.topic
        && !topics.contains_key(topic)
    {
        let known: Vec<&str> = topics.keys().map(String::as_str).collect();
        anyhow::bail!("there is no topic {topic}; there are {}", known.join(", "));
    }
    for (topic, partitions) in topics {
        if args.topic.as_ref().is_some_and(|only| *only != topic) {
            continue;
        }
        for partition in 0..partitions {
            let of = TopicPartition::new(topic.as_str(), partition);
            let mut written = Ok(());
            log.dump(&of, 0, &mut |record| {
                written = writeln!(out, "{}", plain(&line(&of, &record)));
                written.is_ok()
            })?;
            if let Err(error) = written {
                // Whoever reads has had enough.
                return match error.kind() {
                    std::io::ErrorKind::BrokenPipe => Ok(Exit::Done),
                    _ => Err(error.into()),
                };
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Done),
    }
}

fn line(of: &TopicPartition, record: &Whole) -> Value {
    let at = Timestamp::from_millisecond(record.timestamp_ms).ok();
    let headers: Map<String, Value> = record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), readable(value)))
        .collect();
    json!({
        "topic": &*of.topic,
        "partition": of.partition,
        "offset": record.offset,
        "at": at.map(|at| at.to_string()),
        "key": record.key.as_deref().map(readable),
        "value": record.value.as_deref().map(|value| shown(of, record, value)),
        "headers": headers,
    })
}

/// What is known of a source in words, anything else as it is.
fn shown(of: &TopicPartition, record: &Whole, value: &[u8]) -> Value {
    let is_trackers = of.topic.starts_with(&topic::trackers(""));
    let key = record.key.as_deref().filter(|_| is_trackers);
    let shown = key.and_then(|key| fenghuo_engine::kept::shown(key, value));
    shown.unwrap_or_else(|| readable(value))
}

/// JSON in which everything is written out that a terminal would obey or not show: control
/// characters beyond ASCII, bidirectional overrides, what has no width.
fn plain(json: &Value) -> String {
    let mut plain = String::new();
    for c in json.to_string().chars() {
        // Quotes and backslashes are JSON's own; ASCII control characters are escaped already.
        let is_plain = c.escape_debug().len() == 1 && !fenghuo_signal::is_invisible(c);
        if c != '\u{7f}' && (c.is_ascii() || is_plain) {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            plain += &format!("\\u{unit:04x}");
        }
    }
    plain
}

/// JSON as it is, text as text, and anything else in base64.
fn readable(bytes: &[u8]) -> Value {
    if bytes.starts_with(b"{")
        && let Ok(json) = serde_json::from_slice(bytes)
    {
        return json;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": BASE64.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out_and_read_back() {
        let text =
            "茶 \"\\\u{1b}[2J\u{9b}2J\u{85}\u{202e}\u{200b}\u{7f}\u{e0041}\u{feff}\u{3164}é🦀";
        let json = json!({ "value": text });
        let told = plain(&json);
        let bad = |c: &char| c.is_control() || fenghuo_signal::is_invisible(*c);
        assert_eq!(told.chars().find(bad), None, "{told:?}");
        assert!(told.contains("茶") && told.contains("🦀"), "{told}");
        assert_eq!(serde_json::from_str::<Value>(&told).unwrap(), json);
    }
}
