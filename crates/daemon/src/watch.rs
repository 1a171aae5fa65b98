//! `[intake] watch`: the files of a folder into the shop's topics, as long as the process runs.
//!
//! Owns the pace of looking, and the transaction in which events, dead letters and what is
//! remembered of files land together. The folder is listed again and again, since network shares
//! tell nobody what changes. Of all processes of the group one watches, the one that is given the
//! partition of what is remembered; with each commit it shows that it still has it. It must never
//! decide what is new: that is the watcher's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use fenghuo_intake::watch::{Batch, Directory, Seen, TOPIC, Watcher};
use fenghuo_log::{
    Append, Assigned, Commit, Error, Log, Polled, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

use crate::clock;
use crate::config::{Config, Watched};
use crate::identity::Identity;
use crate::load::Appends;

/// How its group is named, beside those of the stages.
pub const STAGE: &str = "files";

/// Between two looks at the folder.
const PACE: Duration = Duration::from_secs(1);

/// A file that is being read for so long is told.
const SLOW: Duration = Duration::from_secs(30);

/// A folder that cannot be read for so long is told.
const AWAY_MS: i64 = 30_000;

/// A folder that nobody has looked at for so long is not told any more: another process may watch now.
const UNSEEN_MS: i64 = 60_000;

/// How soon a stop is noticed.
const STEP: Duration = Duration::from_millis(100);

/// Between two lives after an error: the first time, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// When nothing is read.
#[derive(Clone, Copy)]
pub struct Halt<'a> {
    /// Nothing more is.
    pub stop: &'a AtomicBool,
    /// Nothing is for now: what is committed would be lost.
    pub pause: &'a dyn Fn() -> bool,
    /// Is told the file that has been read for long, its bytes so far and for how long, or that none
    /// has.
    pub slow: &'a Slow<'a>,
    /// Is told how many files have found no place for long, and how many places there are.
    pub left: &'a dyn Fn(Option<(usize, usize)>),
    /// Is told for how many ms the folder has been out of reach and why, or that it has not for long.
    pub away: &'a Absent<'a>,
}

/// The folder, as it was named when the process began, and whether it is out of reach. Lives come and
/// go, and it must not seem to come back with each of them.
struct Place {
    directory: Directory,
    away: Option<Away>,
}

/// The folder is out of reach.
struct Away {
    since_ms: i64,
    /// When it was looked at last.
    seen_ms: i64,
    why: String,
}

impl Place {
    fn new(settings: &Watched) -> Self {
        Self {
            directory: Directory::new(settings.folder.clone()),
            away: None,
        }
    }

    /// The files that are there; nothing where it is out of reach, since an empty listing would look
    /// as if all files had gone.
    fn list(&mut self, now_ms: i64) -> Option<Vec<Seen>> {
        let error = match self.directory.list() {
            Ok(listing) => {
                if self.away.take().is_some() {
                    let folder = self.directory.path().display().to_string();
                    tracing::info!(folder, "the watched folder is read again");
                }
                return Some(listing);
            }
            Err(error) => error,
        };
        let since_ms = match &self.away {
            Some(away) => away.since_ms,
            None => {
                let folder = self.directory.path().display().to_string();
                tracing::warn!(folder, %error, "the watched folder cannot be read");
                now_ms
            }
        };
        self.away = Some(Away {
            since_ms,
            seen_ms: now_ms,
            why: error.to_string(),
        });
        None
    }

    /// For how many ms it has been out of reach, where that is long, and why.
    fn away(&self, now_ms: i64) -> Option<(i64, &str)> {
        let away = self.away.as_ref()?;
        let is_told = now_ms - away.since_ms >= AWAY_MS && now_ms - away.seen_ms < UNSEEN_MS;
        is_told.then(|| (now_ms - away.since_ms, &*away.why))
    }
}

/// For how many ms, and why.
type Absent<'a> = dyn Fn(Option<(i64, &str)>) + 'a;

/// A file, its bytes so far, and for how long.
type Slow<'a> = dyn Fn(Option<(&str, u64, Duration)>) + 'a;

/// Watches until it is to stop. An error is one that does not go away by itself.
pub fn watch(
    log: &dyn Log,
    config: &Config,
    identity: &Identity,
    settings: &Watched,
    halt: Halt<'_>,
) -> anyhow::Result<()> {
    let stop = halt.stop;
    let mut backoff = BACKOFF.0;
    let mut place = Place::new(settings);
    // How long a file has rested is a span: a clock that is put right must not change it.
    let watch = clock::Watch::start();
    while !stop.load(Ordering::Relaxed) {
        let life = Life::open(log, config, identity, settings, &mut place);
        let ended = life.and_then(|life| live(life, &watch, halt, &mut backoff));
        let error = match ended {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match error.downcast_ref::<Error>() {
            Some(Error::Retriable { .. } | Error::OutOfRange { .. }) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "files are read again from the last commit");
            }
            _ => return Err(error),
        }
        wait(backoff, stop);
        backoff = (backoff * 2).min(BACKOFF.1);
    }
    Ok(())
}

fn wait(time: Duration, stop: &AtomicBool) {
    let watch = clock::Watch::start();
    while !stop.load(Ordering::Relaxed) && watch.elapsed() < time {
        clock::wait(STEP);
    }
}

/// From an open session to its end.
fn live(
    mut life: Life<'_>,
    watch: &clock::Watch,
    halt: Halt<'_>,
    backoff: &mut Duration,
) -> anyhow::Result<()> {
    let Halt {
        stop,
        pause,
        slow,
        left,
        away,
    } = halt;
    let mut reading: BTreeMap<String, clock::Watch> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        if pause() {
            wait(PACE, stop);
            continue;
        }
        let now_ms = i64::try_from(watch.elapsed().as_millis()).unwrap_or(i64::MAX);
        let more = life.turn(now_ms)?;
        slow(life.slowest(&mut reading));
        left(life.left(now_ms));
        away(life.place.away(now_ms));
        *backoff = BACKOFF.0;
        if !more {
            wait(PACE, stop);
        }
    }
    Ok(())
}

/// One member of the group of those that watch.
struct Life<'a> {
    session: Box<dyn Session>,
    appends: Appends<'a>,
    /// Whose events are taken.
    identity: &'a Identity,
    settings: &'a Watched,
    place: &'a mut Place,
    /// What is known, while this member is the one that watches.
    watcher: Option<Watcher>,
}

impl<'a> Life<'a> {
    fn open(
        log: &'a dyn Log,
        config: &'a Config,
        identity: &'a Identity,
        settings: &'a Watched,
        place: &'a mut Place,
    ) -> anyhow::Result<Self> {
        log.ensure(&[TopicSpec {
            name: TOPIC.to_owned(),
            partitions: 1,
            compacted: true,
            retention_ms: None,
        }])?;
        let group = format!("{}-{STAGE}", config.kafka.group);
        let session = log.open(&SessionSpec {
            member: format!("{group}-{}", config.kafka.instance),
            group,
            topics: vec![TOPIC.to_owned()],
            start: Start::Earliest,
            low_latency: false,
        })?;
        Ok(Self {
            session,
            appends: Appends::new(log, config),
            identity,
            settings,
            place,
            watcher: None,
        })
    }

    /// Hears the group, and takes one batch from the folder, so many ms after some instant. Whether
    /// there is more at once.
    fn turn(&mut self, now_ms: i64) -> anyhow::Result<bool> {
        match self.session.poll(Duration::ZERO, &mut |_, _| {})? {
            Polled::Records(_) => {}
            Polled::Assigned(given) => {
                for assigned in given {
                    self.begin(&assigned)?;
                }
            }
            Polled::Revoked(taken) | Polled::Lost(taken) => {
                self.watcher = None;
                self.place.away = None;
                self.session.release(&taken)?;
            }
        }
        let Some(watcher) = &mut self.watcher else {
            return Ok(false);
        };
        let Some(listing) = self.place.list(now_ms) else {
            return Ok(false);
        };
        let batch = watcher.look(now_ms, &listing, &self.place.directory);
        let more = batch.more;
        self.commit(batch)?;
        Ok(more)
    }

    /// The file that has been read for longest, where that is long.
    fn slowest(
        &self,
        reading: &mut BTreeMap<String, clock::Watch>,
    ) -> Option<(&str, u64, Duration)> {
        let now: Vec<(&str, u64)> = self.watcher.iter().flat_map(Watcher::reading).collect();
        reading.retain(|name, _| now.iter().any(|(one, _)| one == name));
        for (name, _) in &now {
            let name = (*name).to_owned();
            reading.entry(name).or_insert_with(clock::Watch::start);
        }
        let took = |name: &str| {
            reading
                .get(name)
                .map_or(Duration::ZERO, clock::Watch::elapsed)
        };
        let longest = now.iter().map(|(name, bytes)| (*name, *bytes, took(name)));
        let longest = longest.max_by_key(|(_, _, took)| *took);
        let seconds = longest.map_or(0.0, |(_, _, took)| took.as_secs_f64());
        metrics::gauge!("fenghuo_files_reading_seconds").set(seconds);
        longest.filter(|(_, _, took)| *took >= SLOW)
    }

    /// How many files have found no place for long, and how many places there are.
    fn left(&self, now_ms: i64) -> Option<(usize, usize)> {
        let left = self
            .watcher
            .as_ref()
            .and_then(|watcher| watcher.left(now_ms));
        metrics::gauge!("fenghuo_files_left").set(left.unwrap_or(0) as f64);
        Some((left?, self.settings.settings.files_max))
    }

    /// Takes over: what an earlier life remembered is read first.
    fn begin(&mut self, assigned: &Assigned) -> anyhow::Result<()> {
        let mut watcher = Watcher::new(self.settings.settings.clone());
        let mut restored = Ok(());
        let (from, to) = (assigned.low, u64::MAX);
        self.session
            .read(&assigned.partition, from, to, &mut |record| {
                let key = record.key.unwrap_or_default();
                if restored.is_ok() {
                    restored = watcher.restore(key, record.value);
                }
            })?;
        let newer = |error: fenghuo_intake::watch::KeptError| Error::Newer(error.to_string());
        restored.map_err(newer)?;
        watcher.restored().map_err(newer)?;
        // What is written from now on is known here.
        let start = [(0, assigned.partition.clone(), assigned.high)];
        self.session.start(&start)?;
        let folder = self.place.directory.path().display().to_string();
        let (files, rows) = (watcher.files(), watcher.rows());
        tracing::info!(folder, files, rows, "watching");
        self.watcher = Some(watcher);
        self.measure();
        Ok(())
    }

    /// What is remembered, and how much of it there may be.
    fn measure(&self) {
        let Some(watcher) = &self.watcher else { return };
        let settings = &self.settings.settings;
        metrics::gauge!("fenghuo_files_watched").set(watcher.files() as f64);
        metrics::gauge!("fenghuo_files_watched_limit").set(settings.files_max as f64);
        metrics::gauge!("fenghuo_files_rows").set(watcher.rows() as f64);
        metrics::gauge!("fenghuo_files_rows_limit").set(settings.rows_max as f64);
    }

    fn commit(&mut self, batch: Batch) -> anyhow::Result<()> {
        for notice in &batch.notices {
            tracing::warn!(
                file = notice.file,
                problem = notice.problem,
                "a watched file"
            );
        }
        if batch.is_empty() {
            return Ok(());
        }
        let files = TopicPartition::new(TOPIC, 0);
        let count = batch.messages.len() + batch.rejected.len() + batch.kept.len();
        let mut appends = Vec::with_capacity(count);
        let mut refused = batch.rejected;
        for message in batch.messages {
            match self.identity.admitted(message) {
                Ok(message) => appends.push(self.appends.event(message)?),
                Err(foreign) => refused.push(foreign),
            }
        }
        let (events, rejected) = (appends.len(), refused.len());
        for rejected in refused {
            tracing::debug!(row = %rejected.origin, reason = rejected.reason, "rejected");
            appends.push(self.appends.dead_letter(rejected)?);
        }
        appends.extend(batch.kept.into_iter().map(|kept| Append {
            to: files.clone(),
            key: Some(kept.key),
            value: kept.value,
            headers: Vec::new(),
        }));
        let learned = self.identity.unkept();
        appends.extend(learned.clone());
        // The offset says nothing to anyone; that it may be committed shows who watches.
        let offsets = vec![(files, 0)];
        let committed = self.session.commit(Commit { appends, offsets });
        if committed.is_err() && learned.is_some() {
            self.identity.unlearn();
        }
        committed.context("what was read from files")?;
        if let Some(learned) = learned {
            self.identity.kept(&learned);
        }
        if events + rejected > 0 {
            tracing::info!(events, rejected, "read from files");
        }
        metrics::counter!("fenghuo_files_events_total").increment(events as u64);
        metrics::counter!("fenghuo_files_rejected_total").increment(rejected as u64);
        self.measure();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
