//! Ingest: from the shop's messages to deltas, one source partition at a time.
//!
//! Decodes, checks, drops duplicates, keeps trackers, and combines what a batch says into one
//! delta for each cell. It decides what is late, and by nothing but the log: event times, append
//! times and the order of its partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_event::{Event, Rejected, Stream};
use fenghuo_log::{Append, Assigned, Broken, Progress, Record, Restore, Stage, TopicPartition};
use fenghuo_signal::{Entity, Fact, Fold, Parcel, Program, life_key};
use fenghuo_window::{Combiner, STEP_MS};

use crate::letters;
use crate::record::{CommitRecord, JumpRow, SourceRange, VERSION, topic};
use crate::set::{InForce, Set};
use crate::view::{Heard, Outcome, View};

pub(crate) mod duplicates;
pub(crate) mod kept;
mod pack;
mod trackers;

pub use duplicates::DuplicateBounds;
pub use kept::Rewrite;
pub use trackers::TrackerBounds;

use duplicates::Duplicates;
use kept::{Kept, Restored};
use pack::Pack;
use trackers::{Life, Trackers};

/// Bytes of a rejected message that are kept.
const DEAD_LETTER_BYTES_MAX: usize = 900 * 1024;
/// Bytes of its key and of its content type that are kept. Key, value and headers are one record
/// again, and one that is too large to be sent would stop its partition for good.
const DEAD_LETTER_KEY_BYTES_MAX: usize = 4 * 1024;
const DEAD_LETTER_HEADER_BYTES_MAX: usize = 256;

/// The reason of events that levels and totals took and panes did not.
const LATE: &str = "late";

/// A clock that was set forward makes nobody later than by this.
const JUMP_MS_MAX: i64 = 86_400_000;

/// The reason of events that lie ahead of the log.
const FUTURE: &str = "future";

/// A source topic and the stream that it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTopic {
    /// Full name.
    pub name: Arc<str>,
    /// Its stream.
    pub stream: Stream,
    /// How long after a newer one an event may come and still find its pane open.
    pub lateness_ms: i64,
}

/// What ingest is told.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Source topics.
    pub topics: Vec<SourceTopic>,
    /// The one shop; `None` takes any.
    pub shop: Option<String>,
    /// The one currency; `None` takes any.
    pub currency: Option<String>,
    /// Beyond the allowed lateness, how much older than the newest an event may be and still
    /// count in its pane.
    pub horizon_ms: i64,
    /// How far an event may lie ahead of the log's time.
    pub ahead_ms_max: i64,
    /// Bounds of the duplicate sets, for each partition.
    pub duplicates: DuplicateBounds,
    /// Bounds of the trackers, for each partition.
    pub trackers: TrackerBounds,
    /// When what is known is written down whole.
    pub rewrite: Rewrite,
    /// Number of panes partitions.
    pub panes_partitions: u32,
    /// Seed of the combining table.
    pub seed: u64,
}

struct Partition {
    id: TopicPartition,
    source: usize,
    newest_ms: Option<i64>,
    /// The same as commits tell it: not in the future of a clock that stepped back.
    told_ms: Option<i64>,
    /// When it was last committed here.
    flushed_ms: Option<i64>,
    /// Then nothing more was there to read.
    was_at_end: bool,
    /// Append time of the newest record read since.
    appended_ms: Option<i64>,
    oldest_append_ms: Option<i64>,
    duplicates: Duplicates,
    trackers: Trackers<Parcel>,
    /// How the two above are written down.
    kept: Kept,
    arrivals: Arrivals,
    /// It begins before what was read of it: it was made anew.
    anew: bool,
    /// Its group has not read it before.
    first: bool,
    restoring: Option<Restored>,
}

impl Partition {
    /// Takes the time of an event into the newest one. No event may lie further ahead of the log
    /// than `ahead_ms_max`, so one that does by now was taken under a clock that was wrong.
    fn see(&mut self, at_ms: i64, appended_ms: i64, ahead_ms_max: i64) -> i64 {
        let most_ms = appended_ms.saturating_add(ahead_ms_max);
        let newest_ms = self.newest_ms.unwrap_or(at_ms).min(most_ms).max(at_ms);
        self.newest_ms = Some(newest_ms);
        self.told_ms = Some(newest_ms);
        newest_ms
    }

    /// How far the log's clock is ahead of that of a commit, for sure: of what was read, all came
    /// between the commit before and this one.
    fn log_ahead_ms(&mut self, at_ms: i64, is_at_end: bool) -> Option<i64> {
        let was_at_end = std::mem::replace(&mut self.was_at_end, is_at_end);
        let appended_ms = self.appended_ms.take()?;
        let before_ms = self.flushed_ms.filter(|_| was_at_end && is_at_end)?;
        Some(appended_ms - appended_ms.clamp(before_ms.min(at_ms), at_ms))
    }

    /// A commit is made. Where its clock stepped back, or an earlier life committed before, what
    /// was newest may lie in its future; then that is not told until another event came.
    fn flush_at(&mut self, at_ms: i64, ahead_ms_max: i64) {
        let flushed_ms = self.flushed_ms.replace(at_ms);
        let is_stepped = flushed_ms.is_none_or(|before| at_ms < before.saturating_sub(STEP_MS));
        let most_ms = at_ms.saturating_add(ahead_ms_max);
        if is_stepped && self.told_ms.is_some_and(|told| told > most_ms + STEP_MS) {
            self.told_ms = Some(most_ms);
        }
    }
}

/// Events of one second that are not yet in a cell.
#[derive(Default)]
struct Arrivals {
    second_ms: i64,
    newest_ms: i64,
    events: i64,
}

/// The stage.
pub struct Ingest {
    config: IngestConfig,
    in_force: InForce,
    /// By which it counts now.
    set: Arc<Set>,
    /// The panes were told that set.
    is_told: bool,
    view: Arc<View>,
    owner: u64,
    partitions: Vec<Option<Partition>>,
    cells: Combiner<Entity>,
    facts: Vec<(Entity, Fact)>,
    dead_letters: Vec<Append>,
    broken: Option<Broken>,
    /// What was heard of the shop's time since the last commit.
    heard: Option<Heard>,
    counts: BTreeMap<(Stream, Outcome), u64>,
    reasons: BTreeMap<&'static str, u64>,
}

/// Why a message is not taken, beyond what decoding can tell.
enum Refusal {
    Duplicate,
    Rejected {
        reason: &'static str,
        detail: String,
    },
}

impl Ingest {
    /// A stage without partitions.
    pub fn new(config: IngestConfig, in_force: InForce, view: Arc<View>) -> Self {
        let cells = Combiner::new(config.seed);
        Self {
            config,
            set: in_force.get(),
            in_force,
            is_told: false,
            owner: view.new_owner(),
            view,
            partitions: Vec::new(),
            cells,
            facts: Vec::new(),
            dead_letters: Vec::new(),
            broken: None,
            heard: None,
            counts: BTreeMap::new(),
            reasons: BTreeMap::new(),
        }
    }

    fn count(&mut self, stream: Stream, outcome: Outcome) {
        *self.counts.entry((stream, outcome)).or_default() += 1;
    }

    fn dead_letter(
        &mut self,
        id: &TopicPartition,
        record: &Record<'_>,
        reason: &'static str,
        detail: String,
    ) {
        *self.reasons.entry(reason).or_default() += 1;
        let value = record.value.unwrap_or_default();
        let kept = &value[..value.len().min(DEAD_LETTER_BYTES_MAX)];
        let mut headers = vec![
            ("reason", reason.as_bytes().to_vec()),
            ("detail", detail.into_bytes()),
            ("topic", id.topic.as_bytes().to_vec()),
            ("partition", id.partition.to_string().into_bytes()),
            ("offset", record.offset.to_string().into_bytes()),
            ("timestamp-ms", record.timestamp_ms.to_string().into_bytes()),
        ];
        if let Some(content_type) = record.content_type {
            let kept = &content_type[..content_type.len().min(DEAD_LETTER_HEADER_BYTES_MAX)];
            headers.push(("content-type", kept.to_vec()));
        }
        if kept.len() < value.len() {
            headers.push(("bytes", value.len().to_string().into_bytes()));
        }
        if let Some(key) = record.key {
            let kept = &key[..key.len().min(DEAD_LETTER_KEY_BYTES_MAX)];
            headers.push(("key", kept.to_vec()));
            if kept.len() < key.len() {
                headers.push(("key-bytes", key.len().to_string().into_bytes()));
            }
        }
        // What is late was taken, so it is under no place from which it could be submitted again.
        let key = match reason {
            LATE => LATE.as_bytes().to_vec(),
            _ => letters::key(id, record.offset),
        };
        self.dead_letters.push(Append {
            to: TopicPartition::new(topic::DEAD_LETTER, 0),
            key: Some(key),
            value: Some(kept.to_vec()),
            headers,
        });
    }

    /// Why a record of `source` would be rejected if it came now, as reason and detail, by what it
    /// says alone: whether it is a repeat or late is known where its partition is read.
    pub fn examine(
        config: &IngestConfig,
        source: &SourceTopic,
        record: &Record<'_>,
    ) -> Result<(), (&'static str, String)> {
        let decoded = fenghuo_event::decode(record.value.unwrap_or_default(), record.content_type);
        let event = decoded.map_err(|rejected| (rejected.reason.as_str(), rejected.detail))?;
        let none = Duplicates::new(config.duplicates);
        match Self::check(config, source, &event, record, &none, 0) {
            Err(Refusal::Rejected { reason, detail }) => Err((reason, detail)),
            Err(Refusal::Duplicate) | Ok(()) => Ok(()),
        }
    }

    /// Everything that can be wrong with an event that decodes.
    fn check(
        config: &IngestConfig,
        source: &SourceTopic,
        event: &Event<'_>,
        record: &Record<'_>,
        duplicates: &Duplicates,
        key: u128,
    ) -> Result<(), Refusal> {
        let rejected = |reason, detail| Err(Refusal::Rejected { reason, detail });
        if event.stream() != source.stream {
            let detail = format!("{} carries {} events", source.name, source.stream.topic());
            return rejected("wrong_topic", detail);
        }
        if let Some(shop) = &config.shop
            && event.meta.shop_id != shop.as_str()
            && !event.meta.shop_id.is_empty()
        {
            return rejected("other_shop", format!("meta.shop_id: expected {shop}"));
        }
        if let Some(currency) = &config.currency
            && let Some(other) = event.currencies().find(|other| other != currency)
        {
            return rejected(
                "other_currency",
                format!("expected {currency}, found {other}"),
            );
        }
        let at_ms = event.meta.occurred_at.map_or(0, |at| at.0);
        if at_ms > record.timestamp_ms.saturating_add(config.ahead_ms_max) {
            let ahead_ms = at_ms - record.timestamp_ms;
            let detail = format!(
                "meta.occurred_at: {ahead_ms} ms ahead of the log, at most {} are allowed",
                config.ahead_ms_max
            );
            return rejected(FUTURE, detail);
        }
        if duplicates.contains(key) {
            return Err(Refusal::Duplicate);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, event: &Event<'_>, key: u128, record: &Record<'_>) {
        let Some(mut partition) = self.partitions[index].take() else {
            return;
        };
        let source = &self.config.topics[partition.source];
        let stream = source.stream;
        let at_ms = event.meta.occurred_at.map_or(0, |at| at.0);
        partition.duplicates.insert(key, record.timestamp_ms);
        let newest_ms = partition.see(at_ms, record.timestamp_ms, self.config.ahead_ms_max);
        let late_ms = newest_ms - at_ms - source.lateness_ms;
        // Where the clock was set forward, who tells the time from before is late by that much.
        let late = late_ms > self.config.horizon_ms
            && late_ms - self.config.horizon_ms > self.view.jump_by_ms().min(JUMP_MS_MAX);

        let program = self.set.catalogue.program();
        let mut out = Fold {
            cells: &mut self.cells,
            facts: &mut self.facts,
            late,
        };
        match life_key(event) {
            Some(life) => partition.trackers.with(life, |tracker| {
                program.fold(event, tracker, &mut out);
            }),
            None => program.fold(event, &mut None, &mut out),
        }
        if late {
            program.fold_arrivals(&mut self.cells, &partition.id.topic, at_ms, 1, true);
            let detail = format!("meta.occurred_at: {late_ms} ms behind the watermark");
            self.dead_letter(&partition.id, record, LATE, detail);
        } else {
            partition
                .arrivals
                .add(program, &mut self.cells, &partition.id.topic, at_ms);
        }
        self.partitions[index] = Some(partition);
        self.count(
            stream,
            if late {
                Outcome::Late
            } else {
                Outcome::Accepted
            },
        );
    }

    /// Counts by the set in force from here on. Nothing is gathered now: a commit is of one set.
    fn take_up(&mut self) {
        let set = self.in_force.get();
        if set.number != self.set.number {
            self.set = set;
            self.is_told = false;
        }
    }

    /// Writes the commit record of each panes partition, in parts of bounded size.
    fn write_panes(&mut self, at_ms: i64, sources: Vec<SourceRange>, appends: &mut Vec<Append>) {
        let shards = self.config.panes_partitions.max(1);
        let jump = self.view.jump().map(|jump| JumpRow {
            to_ms: jump.to_ms,
            by_ms: jump.by_ms,
        });
        let mut packs: Vec<Pack> = (0..shards).map(|_| Pack::default()).collect();
        // The rows of one entity come together.
        let mut last: Option<(&Entity, u32)> = None;
        for row in self.cells.rows() {
            let shard = match last {
                Some((entity, shard)) if std::ptr::eq(entity, row.entity) => shard,
                _ => home_of(row.entity, shards),
            };
            last = Some((row.entity, shard));
            packs[shard as usize].row(&row);
        }
        for (entity, fact) in self.facts.drain(..) {
            packs[home_of(&entity, shards) as usize].fact(&entity, fact);
        }
        self.cells.clear();
        // One without a place is the only one there is.
        let is_told = std::mem::replace(&mut self.is_told, true) || self.set.number == 0;
        let set = (!is_told).then(|| self.set.row());
        for (shard, pack) in (0..shards).zip(packs) {
            let to = TopicPartition::new(topic::PANES, shard);
            let mut parts = pack.into_parts(&self.set.catalogue);
            if let Some(set) = &set {
                // A part of its own: with rows beside it, it may be larger than a broker takes.
                let told = CommitRecord {
                    set: Some(set.clone()),
                    ..CommitRecord::default()
                };
                parts.insert(0, told);
            }
            let last = parts.len() - 1;
            for (at, part) in parts.into_iter().enumerate() {
                let record = CommitRecord {
                    version: VERSION,
                    at_ms,
                    sources: sources.clone(),
                    continues: at < last,
                    jump,
                    set_number: self.set.number,
                    ..part
                };
                appends.push(Append::new(
                    to.clone(),
                    None,
                    prost::Message::encode_to_vec(&record),
                ));
            }
        }
    }
}

impl Arrivals {
    fn add(&mut self, program: &Program, cells: &mut Combiner<Entity>, source: &str, at_ms: i64) {
        let second_ms = at_ms - at_ms.rem_euclid(1_000);
        if second_ms != self.second_ms {
            self.flush(program, cells, source);
            self.second_ms = second_ms;
            self.newest_ms = at_ms;
        }
        self.newest_ms = self.newest_ms.max(at_ms);
        self.events += 1;
    }

    fn flush(&mut self, program: &Program, cells: &mut Combiner<Entity>, source: &str) {
        if self.events > 0 {
            program.fold_arrivals(cells, source, self.newest_ms, self.events, false);
            self.events = 0;
        }
    }
}

/// The panes partition of an entity: by its sku, or, for all others, by the shop.
pub(crate) fn home_of(entity: &Entity, shards: u32) -> u32 {
    if !entity.kind.homed_by_sku() {
        return 0;
    }
    let hash = xxhash_rust::xxh3::xxh3_64(entity.first.as_bytes());
    (hash % u64::from(shards)) as u32
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.view.withdraw_entries(self.owner);
    }
}

impl Stage for Ingest {
    fn assign(&mut self, index: usize, assigned: &Assigned, from: u64) -> Vec<Restore> {
        let id = assigned.partition.clone();
        let Some(source) = self
            .config
            .topics
            .iter()
            .position(|topic| topic.name == id.topic)
        else {
            return Vec::new();
        };
        if self.partitions.len() <= index {
            self.partitions.resize_with(index + 1, || None);
        }
        let to = TopicPartition::new(topic::trackers(&id.topic), id.partition);
        self.partitions[index] = Some(Partition {
            source,
            newest_ms: None,
            told_ms: None,
            flushed_ms: None,
            was_at_end: false,
            appended_ms: None,
            oldest_append_ms: None,
            duplicates: Duplicates::new(self.config.duplicates),
            trackers: Trackers::new(self.config.trackers),
            kept: Kept::new(to.clone(), 0, self.config.rewrite),
            arrivals: Arrivals::default(),
            anew: assigned.committed.is_some_and(|committed| from < committed),
            first: assigned.committed.is_none(),
            restoring: Some(Restored::new(to.clone())),
            id,
        });
        vec![Restore::all(to)]
    }

    fn restore(&mut self, index: usize, _which: usize, record: Record<'_>) {
        let Some(Some(partition)) = self.partitions.get_mut(index) else {
            return;
        };
        if let Some(restoring) = &mut partition.restoring
            && let Err(broken) = restoring.take(&record)
        {
            self.broken.get_or_insert(broken);
        }
    }

    fn restored(&mut self, index: usize, _which: usize) -> Option<Restore> {
        let partition = self.partitions.get_mut(index)?.as_mut()?;
        let restoring = partition.restoring.take()?;
        if self.broken.is_some() {
            return None;
        }
        let kind = match self.config.topics[partition.source].stream {
            Stream::Couriers => Parcel::KIND,
            _ => 0,
        };
        let (lives, duplicates) = (&mut partition.trackers.lives, &mut partition.duplicates);
        match restoring.load(kind, self.config.rewrite, lives, duplicates) {
            Ok((kept, newest_ms)) => {
                partition.kept = kept;
                (partition.newest_ms, partition.told_ms) = (newest_ms, newest_ms);
            }
            Err(broken) => {
                self.broken = Some(broken);
                return None;
            }
        }
        if std::mem::take(&mut partition.first) && !partition.kept.is_new() {
            // What an earlier group saw may be read again by this one, as it is meant to.
            partition.duplicates.clear();
            (partition.newest_ms, partition.told_ms) = (None, None);
            partition.kept.say();
        }
        None
    }

    fn revoke(&mut self, index: usize) {
        if let Some(partition) = self.partitions.get_mut(index) {
            *partition = None;
        }
    }

    fn apply(&mut self, index: usize, record: Record<'_>) {
        let Some(Some(partition)) = self.partitions.get_mut(index) else {
            return;
        };
        partition
            .oldest_append_ms
            .get_or_insert(record.timestamp_ms);
        partition.appended_ms = Some(record.timestamp_ms);
        let source = &self.config.topics[partition.source];
        let stream = source.stream;
        // A tombstone on a compacted topic says nothing about the past.
        let Some(value) = record.value else {
            return self.count(stream, Outcome::Tombstone);
        };
        let refusal = match fenghuo_event::decode(value, record.content_type) {
            Ok(event) => {
                self.heard.get_or_insert_default().occurred_ms =
                    event.meta.occurred_at.map(|at| at.0);
                let key = Duplicates::key(&event.meta.source, &event.meta.event_id);
                match Self::check(
                    &self.config,
                    source,
                    &event,
                    &record,
                    &partition.duplicates,
                    key,
                ) {
                    Ok(()) => {
                        let heard = self.heard.get_or_insert_default();
                        (heard.taken, heard.ahead_count) = (true, 0);
                        return self.take(index, &event, key, &record);
                    }
                    Err(refusal) => refusal,
                }
            }
            Err(Rejected { reason, detail }) => Refusal::Rejected {
                reason: reason.as_str(),
                detail,
            },
        };
        match refusal {
            Refusal::Duplicate => self.count(stream, Outcome::Duplicate),
            Refusal::Rejected { reason, detail } => {
                let id = partition.id.clone();
                if reason == FUTURE {
                    let heard = self.heard.get_or_insert_default();
                    let ahead_ms = heard.occurred_ms.map(|at| at - record.timestamp_ms);
                    heard.ahead = ahead_ms.map(|ahead_ms| (ahead_ms, record.timestamp_ms));
                    heard.ahead_count += 1;
                }
                self.dead_letter(&id, &record, reason, detail);
                self.count(stream, Outcome::Rejected);
            }
        }
    }

    fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    fn flush(&mut self, at_ms: i64, progress: &[Progress], appends: &mut Vec<Append>) {
        let mut sources = Vec::with_capacity(progress.len());
        for progress in progress {
            let Some(Some(partition)) = self.partitions.get_mut(progress.index) else {
                continue;
            };
            if let Some(ahead_ms) = partition.log_ahead_ms(at_ms, progress.at_end) {
                let heard = self.heard.get_or_insert_default();
                heard.log_ahead = Some((ahead_ms, at_ms));
            }
            partition.flush_at(at_ms, self.config.ahead_ms_max);
            let id = &partition.id;
            let program = self.set.catalogue.program();
            partition
                .arrivals
                .flush(program, &mut self.cells, &id.topic);
            let (lives, duplicates) = (&mut partition.trackers.lives, &mut partition.duplicates);
            partition
                .kept
                .flush(partition.newest_ms, lives, duplicates, appends);
            sources.push(SourceRange {
                topic: String::from(&*id.topic),
                partition: id.partition,
                partitions: progress.partitions,
                from: progress.from,
                to: progress.to,
                newest_ms: partition.told_ms,
                lateness_ms: self.config.topics[partition.source].lateness_ms,
                at_end: progress.at_end,
                oldest_append_ms: partition.oldest_append_ms.take(),
                anew: std::mem::take(&mut partition.anew),
            });
        }
        if let Some(heard) = &mut self.heard {
            heard.at_ms = at_ms;
            // Its place is that of the commit, as the log's clock may be another one.
            heard.ahead = heard.ahead.map(|(ahead_ms, _)| (ahead_ms, at_ms));
        }
        appends.append(&mut self.dead_letters);
        if !sources.is_empty() {
            self.write_panes(at_ms, sources, appends);
        }
        self.take_up();
    }

    fn committed(&mut self) {
        if let Some(heard) = self.heard.take() {
            self.view.hear(heard);
        }
        for ((stream, outcome), events) in std::mem::take(&mut self.counts) {
            self.view.count_events(stream, outcome, events);
        }
        for (reason, letters) in std::mem::take(&mut self.reasons) {
            self.view.count_dead_letters(reason, letters);
        }
        let sum = |of: fn(&Partition) -> u64| self.partitions.iter().flatten().map(of).sum::<u64>();
        let entries = [
            ("duplicates", sum(|of| of.duplicates.len() as u64)),
            ("duplicates_forgotten", sum(|of| of.duplicates.forgotten)),
            ("trackers", sum(|of| of.trackers.len() as u64)),
            ("trackers_bytes", sum(|of| of.trackers.held_bytes() as u64)),
            ("trackers_refused", sum(|of| of.trackers.refused)),
        ];
        self.view.set_entries(self.owner, &entries);
    }
}
