//! `fenghuo replay`: files of events through all stages in memory, in virtual time.
//!
//! Owns the clock, which is the running maximum of what the files say, and what is read off the
//! stages as it passes. It must never read another clock for anything but the account of its own
//! speed: the same files and config give the same report and the same readings, to the byte.

mod readings;
mod report;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use fenghuo_engine::record::DeliveryOutcome;
use fenghuo_engine::{Outcome, Playback};
use fenghuo_event::Timestamp;
use fenghuo_intake::{Input, Merge, Message, Messages, Rejected};

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;
use crate::load;
use crate::load::progress::{Done, Progress};
use readings::Readings;
pub use report::Events;
use report::{Report, Rows};

/// Time between commits while events come.
const STEP_MS: i64 = 1_000;

/// Rejected lines that are shown; the others are counted.
const SHOWN_MAX: u64 = 10;

/// Replays files and prints the report.
pub fn run(args: &cli::Replay) -> anyhow::Result<Exit> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::without_file()?,
    };
    let inputs = load::inputs(&args.files, &args.csv)?;
    let every_ms = i64::try_from(args.every.as_millis()).unwrap_or(i64::MAX);
    let to = args.readings.as_deref();
    let readings = to
        .map(|path| Readings::create(path, every_ms))
        .transpose()?;
    let mut progress = Progress::new(None);
    let report = replay(&config, inputs, args.until, readings, &mut progress)?;
    let took = progress.end().as_secs_f64();
    let read = report.events.read;
    let text = match args.report {
        cli::ReportForm::Json => report.json()?,
        cli::ReportForm::Text => text::report(&report, config.shop.utc_offset_min),
    };
    let exit = crate::signals::print(&text);
    // Apart from the report, which is the same each time.
    let speed = read as f64 / took.max(0.001);
    eprintln!("replayed {read} events in {took:.1} s, {speed:.0} events/s");
    Ok(exit)
}

/// Replays files, and lets time pass to `until_ms` at the end.
fn replay<W: Write>(
    config: &Config,
    inputs: Vec<Input>,
    until_ms: Option<i64>,
    readings: Option<Readings<W>>,
    progress: &mut Progress,
) -> anyhow::Result<Report> {
    let is_csv = |input: &Input| matches!(input, Input::CsvOrders(..));
    let mut rows = inputs.iter().any(is_csv).then(Rows::default);
    let opened: Result<Vec<Messages>, _> = inputs.into_iter().map(Messages::open).collect();
    let (items, reader) = read_ahead(opened?)?;
    let mut done = Done::default();
    let mut history = None;
    let mut readings = readings;
    for item in items.into_iter().flatten() {
        match item? {
            (at_ms, Ok(message)) => {
                done.events += 1;
                done.bytes += message.value.len() as u64;
                let history = match &mut history {
                    Some(history) => history,
                    none => none.insert(History::begin(config, at_ms, readings.take())?),
                };
                history.feed(at_ms, message)?;
            }
            (_, Err(rejected)) => {
                done.rejected += 1;
                if done.rejected <= SHOWN_MAX {
                    progress.say(&format!(
                        "rejected {}: {}",
                        rejected.origin, rejected.reason
                    ));
                }
            }
        }
        progress.show(done);
    }
    if done.rejected > SHOWN_MAX {
        let more = done.rejected - SHOWN_MAX;
        progress.say(&format!("rejected: {more} more"));
    }
    if let Some(rows) = &mut rows {
        rows.rejected = done.rejected;
        let skipped = reader.join();
        rows.skipped =
            skipped.map_err(|_| anyhow::anyhow!("the thread that reads files panicked"))?;
    }
    let mut report = match history {
        Some(history) => history.end(until_ms)?,
        None => Report::default(),
    };
    // A line is an event that could not be read; a row is only a part of one.
    if rows.is_none() {
        report.events.read += done.rejected;
        report.events.rejected += done.rejected;
    }
    report.rows = rows;
    Ok(report)
}

/// What files hold, in the order of time: each item with its time, in batches.
type Items = mpsc::Receiver<Vec<anyhow::Result<(i64, Result<Message, Rejected>)>>>;

/// Reads and decodes files in a thread of its own, a little ahead of the stages. It gives the number of
/// rows that were skipped.
fn read_ahead(mut messages: Vec<Messages>) -> io::Result<(Items, JoinHandle<u64>)> {
    const BATCH: usize = 256;
    const BATCHES: usize = 8;
    let (to, items) = mpsc::sync_channel(BATCHES);
    let read = move || {
        // Whatever stands before the first event has no time and goes first.
        let merged = Merge::new(messages.iter_mut(), i64::MIN);
        let mut merged = merged.map(|item| item.map_err(anyhow::Error::from));
        loop {
            let batch: Vec<_> = merged.by_ref().take(BATCH).collect();
            // Nobody takes more after an error.
            if batch.is_empty() || to.send(batch).is_err() {
                break;
            }
        }
        drop(merged);
        messages.iter().map(Messages::skipped).sum()
    };
    let reader = std::thread::Builder::new().name("files".to_owned());
    Ok((items, reader.spawn(read)?))
}

/// The stages, and the time that has passed for them.
struct History<W: Write> {
    playback: Playback,
    began_ms: i64,
    /// What was counted of the config's own events, which no file holds.
    before: Events,
    readings: Option<Readings<W>>,
}

impl<W: Write> History<W> {
    /// Opens the stages at the first event's time, and tells them of the config's plans.
    fn begin(
        config: &Config,
        began_ms: i64,
        mut readings: Option<Readings<W>>,
    ) -> anyhow::Result<Self> {
        let mut playback = stages(config, began_ms)?;
        if let Some(readings) = &mut readings {
            readings.begin(began_ms);
        }
        let before = counted(&mut playback);
        Ok(Self {
            playback,
            began_ms,
            before,
            readings,
        })
    }

    fn feed(&mut self, at_ms: i64, message: Message) -> anyhow::Result<()> {
        self.pass(at_ms - 1)?;
        let Message {
            stream,
            content_type,
            value,
            ..
        } = message;
        self.playback
            .feed(at_ms, Some(stream), Some(content_type), value)?;
        deliver(&mut self.playback);
        Ok(())
    }

    /// Lets time pass to every instant up to `to_ms` at which readings are to be written.
    fn pass(&mut self, to_ms: i64) -> anyhow::Result<()> {
        while let Some(at_ms) = self.readings.as_ref().and_then(|all| all.due_by(to_ms)) {
            self.playback.pass(at_ms)?;
            deliver(&mut self.playback);
            self.write(at_ms)?;
        }
        Ok(())
    }

    fn write(&mut self, at_ms: i64) -> anyhow::Result<()> {
        if let Some(readings) = &mut self.readings {
            let view = self.playback.topology().view();
            readings.write(at_ms, view).context("writing readings")?;
        }
        Ok(())
    }

    fn end(mut self, until_ms: Option<i64>) -> anyhow::Result<Report> {
        let last_ms = self.playback.now_ms();
        if let Some(until_ms) = until_ms.filter(|until_ms| *until_ms < last_ms) {
            let (until, last) = (Timestamp(until_ms), Timestamp(last_ms));
            tracing::warn!(%until, %last, "--until lies before the last event and changes nothing");
        }
        let ended_ms = until_ms.map_or(last_ms, |until_ms| until_ms.max(last_ms));
        self.pass(ended_ms)?;
        self.playback.pass(ended_ms)?;
        deliver(&mut self.playback);
        if self
            .readings
            .as_ref()
            .is_some_and(|all| !all.is_written(ended_ms))
        {
            self.write(ended_ms)?;
        }
        if let Some(readings) = self.readings.take() {
            readings.end().context("writing readings")?;
        }
        let events = counted(&mut self.playback) - self.before;
        let episodes = self.playback.episodes()?;
        let view = self.playback.topology().view();
        Ok(Report::new(
            (self.began_ms, ended_ms),
            events,
            view,
            episodes,
        ))
    }
}

/// Nobody is there to be paged: every page counts as taken at once.
pub fn deliver(playback: &mut Playback) {
    let at_ms = playback.now_ms();
    let dispatch = playback.topology().dispatch();
    for intent in dispatch.take_ready() {
        dispatch.outcome(DeliveryOutcome {
            delivery_id: intent.delivery_id.clone(),
            delivered: true,
            attempts: 1,
            reason: None,
            at_ms,
        });
    }
}

/// Opens the stages at `began_ms`, and tells them of the config's plans.
pub fn stages(config: &Config, began_ms: i64) -> anyhow::Result<Playback> {
    let mut playback = Playback::open(&config.topology(began_ms), began_ms, STEP_MS)?;
    for event in config.plans.events(began_ms, config.shop.id.as_deref()) {
        let stream = event.body.as_ref().map(|body| body.stream());
        if stream.is_some_and(|stream| config.topic_of(stream).is_some()) {
            let value = fenghuo_event::to_protobuf(&event);
            playback.feed(began_ms, stream, Some("application/protobuf"), value)?;
        }
    }
    playback.pass(began_ms)?;
    Ok(playback)
}

/// Events by what became of them.
pub fn counted(playback: &mut Playback) -> Events {
    let mut counted = Events::default();
    for (_, outcome, events) in playback.topology().view().events() {
        let count = match outcome {
            Outcome::Accepted => &mut counted.accepted,
            Outcome::Rejected => &mut counted.rejected,
            Outcome::Duplicate => &mut counted.duplicate,
            Outcome::Late => &mut counted.late,
            // No file holds one.
            Outcome::Tombstone => continue,
        };
        *count += events;
        counted.read += events;
    }
    counted
}

/// A file to write, which is an error that names it where it cannot be made.
fn create(path: &Path) -> anyhow::Result<io::BufWriter<std::fs::File>> {
    let file = std::fs::File::create(path);
    let file = file.with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(io::BufWriter::new(file))
}
