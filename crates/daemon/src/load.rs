//! `fenghuo load`: files of events into the shop's topics.
//!
//! Owns where each event goes: its stream's topic, and the partition that the shop's own
//! producers would choose for its key. A line that is no event goes to the dead letters with its
//! file and line, and the rest goes on. It must never change an event.

mod appends;
mod partition;
pub mod progress;
mod remote;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use fenghuo_engine::record::topic;
use fenghuo_intake::{Input, Mapping, Message, Messages, Rejected};
use fenghuo_log::Log;

use crate::cli;
use crate::config::{self, Config};
use crate::exit::Exit;
use crate::identity::Identity;
use crate::topics::Topics;
use progress::{Done, Progress};
use remote::Remote;

pub use appends::Appends;
pub use partition::partition_for;

/// Lines or bytes after which a batch is appended.
const BATCH_LINES_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Rejected lines that are shown; the others are counted.
const SHOWN_MAX: u64 = 10;

/// Loads files.
pub fn run(args: &cli::Load) -> anyhow::Result<Exit> {
    let (config, inputs) = prepare(args)?;
    if let Some(to) = &args.to {
        let remote = Remote::new(to, args.token_file.as_deref())?;
        eprintln!("{}", send(&remote, &config, inputs)?);
        return Ok(Exit::Done);
    }
    let log = Topics::open(&config)?.log();
    // On Kafka the daemon that reads says whose events it takes.
    let identity = match &config.log {
        config::Log::Kafka => None,
        config::Log::Embedded(_) => Some(Identity::open(&config, &*log)?),
    };
    eprintln!("{}", load(&*log, &config, identity.as_ref(), inputs)?);
    Ok(Exit::Done)
}

/// The config, from its file or from the arguments, and the files with their form.
fn prepare(args: &cli::Load) -> anyhow::Result<(Config, Vec<Input>)> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None if args.data.is_some() || args.to.is_some() => Config::without_file()?,
        None => {
            let prefix = toml::Value::from(args.topic_prefix.as_str());
            let bootstrap = toml::Value::from(args.bootstrap.clone());
            let text = format!("topics.prefix = {prefix}\nkafka.bootstrap = {bootstrap}\n");
            Config::parse("arguments", &text)?
        }
    };
    let config = match &args.data {
        Some(folder) => config.in_folder(folder.clone()),
        None => config,
    };
    for file in &args.files {
        // A mistyped name should not be found out halfway.
        std::fs::metadata(file).with_context(|| format!("{} cannot be read", file.display()))?;
    }
    Ok((config, inputs(&args.files, &args.csv)?))
}

/// Files with the form that the arguments say they have.
pub fn inputs(files: &[PathBuf], csv: &cli::Csv) -> anyhow::Result<Vec<Input>> {
    let mapping = csv
        .mapping()?
        .map(|path| Mapping::load(&path))
        .transpose()?;
    let files = files.iter().cloned();
    Ok(files
        .map(|file| match &mapping {
            None => Input::JsonLines(file),
            Some(mapping) => Input::CsvOrders(file, Box::new(mapping.clone())),
        })
        .collect())
}

/// What a load came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Events appended, by topic.
    pub events: BTreeMap<Arc<str>, u64>,
    /// Lines that are no events, appended to the dead letters.
    pub rejected: u64,
    /// CSV rows that the mapping passes over.
    pub skipped: u64,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: u64 = self.events.values().sum();
        let seconds = self.took.as_secs_f64();
        write!(f, "loaded {events} events in {seconds:.1} s")?;
        for (topic, events) in &self.events {
            write!(f, "\n  {topic}: {events}")?;
        }
        if self.rejected > 0 {
            write!(
                f,
                "\n  rejected, in {}: {}",
                topic::DEAD_LETTER,
                self.rejected
            )?;
        }
        if self.skipped > 0 {
            write!(f, "\n  passed over, as the mapping says: {}", self.skipped)?;
        }
        Ok(())
    }
}

/// Lines that are appended together.
#[derive(Default)]
struct Batch {
    lines: Vec<Result<Message, Rejected>>,
    bytes: usize,
    skipped: u64,
}

/// Loads files into a log, reading the next lines while the last ones are being appended.
pub fn load(
    log: &dyn Log,
    config: &Config,
    identity: Option<&Identity>,
    inputs: Vec<Input>,
) -> anyhow::Result<Loaded> {
    let mut progress = Progress::new(bytes_of(&inputs));
    let mut loader = Loader {
        log,
        identity,
        appends: Appends::new(log, config),
        loaded: Loaded::default(),
        done: Done::default(),
    };
    reading(inputs, |batches| loader.append_all(batches, &mut progress))?;
    let mut loaded = loader.loaded;
    loaded.took = progress.end();
    Ok(loaded)
}

/// Sends files to a daemon, reading the next lines while the last ones are on their way.
fn send(remote: &Remote, config: &Config, inputs: Vec<Input>) -> anyhow::Result<Loaded> {
    let mut progress = Progress::new(bytes_of(&inputs));
    let (mut loaded, mut done) = (Loaded::default(), Done::default());
    reading(inputs, |batches| {
        for batch in batches {
            let mut messages = Vec::with_capacity(batch.lines.len());
            let mut refused = Vec::new();
            for line in batch.lines {
                match line {
                    Ok(message) => messages.push(message),
                    Err(rejected) => refused.push((rejected.origin, rejected.reason)),
                }
            }
            let there = match messages.is_empty() {
                true => BTreeMap::new(),
                false => remote.post(&messages)?,
            };
            for (place, message) in messages.into_iter().enumerate() {
                done.bytes += message.value.len() as u64 + 1;
                if let Some(reason) = there.get(&place) {
                    refused.push((message.origin, reason.clone()));
                } else if let Some(topic) = config.topic_of(message.stream) {
                    done.events += 1;
                    *loaded.events.entry(Arc::clone(topic)).or_default() += 1;
                }
            }
            for (origin, reason) in refused {
                done.rejected += 1;
                if done.rejected <= SHOWN_MAX {
                    progress.say(&format!("rejected {origin}: {reason}"));
                }
            }
            loaded.skipped += batch.skipped;
            loaded.rejected = done.rejected;
            progress.show(done);
        }
        Ok(())
    })?;
    loaded.took = progress.end();
    Ok(loaded)
}

/// Reads files in a thread of its own, and hands their batches over.
fn reading(
    inputs: Vec<Input>,
    take: impl FnOnce(Receiver<Batch>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel::<Batch>(2);
        let reader = scope.spawn(move || read(inputs, &sender));
        // The receiver is gone when this fails, which ends the reader.
        let taken = take(batches);
        let read = reader
            .join()
            .map_err(|_| anyhow!("the reader of files broke off"));
        taken.and(read.and_then(|read| read))
    })
}

/// Bytes of all files, if these are the bytes that will be appended.
fn bytes_of(inputs: &[Input]) -> Option<u64> {
    let sizes = inputs.iter().map(|input| match input {
        Input::JsonLines(path) if path.extension().is_none_or(|extension| extension != "gz") => {
            std::fs::metadata(path).ok().map(|metadata| metadata.len())
        }
        _ => None,
    });
    sizes.sum()
}

/// Reads files in their order into batches. Ends early, without an error, when nobody takes them.
fn read(inputs: Vec<Input>, sender: &SyncSender<Batch>) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    let mut inputs = inputs.into_iter();
    let read = inputs.try_for_each(|input| read_file(input, &mut batch, sender));
    // What was read before a fault is loaded all the same.
    let _ = sender.send(batch);
    read
}

fn read_file(input: Input, batch: &mut Batch, sender: &SyncSender<Batch>) -> anyhow::Result<()> {
    let mut messages = Messages::open(input)?;
    for line in messages.by_ref() {
        let line = line?;
        batch.bytes += match &line {
            Ok(message) => message.value.len(),
            Err(rejected) => rejected.bytes.len(),
        };
        batch.lines.push(line);
        let is_full = batch.lines.len() >= BATCH_LINES_MAX || batch.bytes >= BATCH_BYTES_MAX;
        if is_full && sender.send(std::mem::take(batch)).is_err() {
            return Ok(());
        }
    }
    batch.skipped += messages.skipped();
    Ok(())
}

struct Loader<'a> {
    log: &'a dyn Log,
    /// Whose events are taken, where that is known here.
    identity: Option<&'a Identity>,
    appends: Appends<'a>,
    loaded: Loaded,
    done: Done,
}

impl Loader<'_> {
    fn append_all(
        &mut self,
        batches: Receiver<Batch>,
        progress: &mut Progress,
    ) -> anyhow::Result<()> {
        for batch in batches {
            let mut appends = Vec::with_capacity(batch.lines.len());
            let mut done = self.done;
            for line in batch.lines {
                let line = line.and_then(|message| match self.identity {
                    Some(identity) => identity.admitted(message),
                    None => Ok(message),
                });
                match line {
                    Ok(message) => {
                        done.events += 1;
                        // The line's end was read as well.
                        done.bytes += message.value.len() as u64 + 1;
                        let append = self.appends.event(message)?;
                        let topic = Arc::clone(&append.to.topic);
                        *self.loaded.events.entry(topic).or_default() += 1;
                        appends.push(append);
                    }
                    Err(rejected) => {
                        done.rejected += 1;
                        if done.rejected <= SHOWN_MAX {
                            let reason = &rejected.reason;
                            progress.say(&format!("rejected {}: {reason}", rejected.origin));
                        }
                        done.bytes += rejected.bytes.len() as u64 + 1;
                        self.loaded.rejected += 1;
                        appends.push(self.appends.dead_letter(rejected)?);
                    }
                }
            }
            self.loaded.skipped += batch.skipped;
            let learned = self.identity.and_then(Identity::unkept);
            appends.extend(learned.clone());
            if !appends.is_empty() {
                self.log
                    .append(appends)
                    .with_context(|| format!("after {} events were loaded", self.done.events))?;
            }
            if let (Some(identity), Some(learned)) = (self.identity, learned) {
                identity.kept(&learned);
            }
            self.done = done;
            progress.show(done);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
