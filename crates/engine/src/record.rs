//! The records of Fenghuo's own topics, and the names of those topics.
//!
//! Every record carries the version of its form; a reader that meets a newer one must stop, never
//! skip it.

use std::sync::Arc;

use fenghuo_alert::{Severity, Transition};
use fenghuo_signal::{Entity, EntityRef, Fact, Kind};
use fenghuo_window::Series;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Version of the records that this build writes, and the newest that it reads.
pub const VERSION: u32 = 3;

/// The oldest version of commit records and checkpoints that this build reads. Before it, entities
/// were spread over the segments of a checkpoint in another way.
pub const PANES_SINCE: u32 = 3;

/// Fenghuo's own topics.
pub mod topic {
    /// Commit records: deltas, facts and clocks, by shard.
    pub const PANES: &str = "fenghuo.panes";
    /// Checkpoints of what evaluate knows; compacted, with as many partitions as the panes.
    pub const STATE: &str = "fenghuo.state";
    /// Transitions of alerts; one partition.
    pub const ALERTS: &str = "fenghuo.alerts";
    /// Intents to send a page and their outcomes; one partition.
    pub const DELIVERIES: &str = "fenghuo.deliveries";
    /// Messages that could not be taken, with their reason.
    pub const DEAD_LETTER: &str = "fenghuo.dead-letter";
    /// Sets of catalogue and rules, every one that was ever in force; one partition.
    pub const SETS: &str = "fenghuo.sets";
    /// Which dead letters were re-submitted; one partition.
    pub const REPLAYED: &str = "fenghuo.dead-letter.replayed";

    /// What is known of a source topic: open lives, and fingerprints of its events; compacted, with
    /// equal partitions.
    pub fn trackers(source: &str) -> String {
        format!("fenghuo.trackers.{source}")
    }
}

/// What one ingest commit says to one panes partition; several where it is large.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommitRecord {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// When the commit was made, Unix ms.
    #[prost(int64, tag = "2")]
    pub at_ms: i64,
    /// What it read.
    #[prost(message, repeated, tag = "3")]
    pub sources: Vec<SourceRange>,
    /// Facts, in the order they were told.
    #[prost(message, repeated, tag = "6")]
    pub facts: Vec<FactRow>,
    /// More of the same commit follows: the clocks count with the last part.
    #[prost(bool, tag = "7")]
    pub continues: bool,
    /// The offset that episodes which begin here are named after, where the record was written
    /// into another log first; absent = its own.
    #[prost(uint64, optional, tag = "8")]
    pub origin: Option<u64>,
    /// The hash of the catalogue by which it was counted.
    #[prost(fixed64, tag = "9")]
    pub catalogue: u64,
    /// The entities that increments and facts name by index.
    #[prost(message, optional, tag = "10")]
    pub entities: Option<EntityTable>,
    /// Increments, by measure.
    #[prost(message, repeated, tag = "11")]
    pub rows: Vec<MeasureRows>,
    /// Ids of all measures that were counted, also of those without an increment here.
    #[prost(fixed32, repeated, tag = "12")]
    pub measures: Vec<u32>,
    /// The last step forward of the clock that was followed: no time has passed between its ends.
    /// It is told from then on, so that whoever's time passes over it later knows of it.
    #[prost(message, optional, tag = "14")]
    pub jump: Option<JumpRow>,
    /// The number of the set by which it was counted.
    #[prost(uint64, tag = "15")]
    pub set_number: u64,
    /// That set: told once by each life of a worker, and when it came into force.
    #[prost(message, optional, tag = "16")]
    pub set: Option<SetRow>,
}

/// A set of catalogue and rules.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetRow {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Rule files, in the order in which they are laid over each other.
    #[prost(string, repeated, tag = "2")]
    pub texts: Vec<String>,
    /// The catalogue's hash.
    #[prost(fixed64, tag = "3")]
    pub catalogue: u64,
    /// The catalogue's files beside the built-in ones, in order.
    #[prost(message, repeated, tag = "4")]
    pub files: Vec<FileRow>,
    /// Its place among all sets; 0 = it has none.
    #[prost(uint64, tag = "5")]
    pub number: u64,
}

/// A file of the catalogue.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileRow {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it says.
    #[prost(string, tag = "2")]
    pub text: String,
}

/// A set that came into force.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetRecord {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The set; its number is its place in the topic, whatever it says of it.
    #[prost(message, optional, tag = "2")]
    pub set: Option<SetRow>,
    /// When it was proposed, Unix ms.
    #[prost(int64, tag = "3")]
    pub at_ms: i64,
    /// The instance that proposed it.
    #[prost(string, tag = "4")]
    pub by: String,
    /// The build of that instance.
    #[prost(string, tag = "5")]
    pub build: String,
}

impl SetRecord {
    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(self)
    }

    /// What was written; `None` where this build cannot read it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let read = <Self as prost::Message>::decode(bytes).ok()?;
        (read.version <= VERSION).then_some(read)
    }
}

/// A step forward of the clock.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct JumpRow {
    /// The time with which time went on, Unix ms.
    #[prost(int64, tag = "1")]
    pub to_ms: i64,
    /// How far that was ahead.
    #[prost(int64, tag = "2")]
    pub by_ms: i64,
}

/// What was read of one source partition, and its clock.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SourceRange {
    /// Source topic.
    #[prost(string, tag = "1")]
    pub topic: String,
    /// Its partition.
    #[prost(uint32, tag = "2")]
    pub partition: u32,
    /// How many partitions the topic has.
    #[prost(uint32, tag = "3")]
    pub partitions: u32,
    /// First offset read.
    #[prost(uint64, tag = "4")]
    pub from: u64,
    /// Offset after the last one read.
    #[prost(uint64, tag = "5")]
    pub to: u64,
    /// Newest event time seen, Unix ms; absent before the first event.
    #[prost(int64, optional, tag = "6")]
    pub newest_ms: Option<i64>,
    /// Allowed lateness.
    #[prost(int64, tag = "7")]
    pub lateness_ms: i64,
    /// Nothing more was there to read.
    #[prost(bool, tag = "8")]
    pub at_end: bool,
    /// Append time of the oldest record read, Unix ms; absent where none was.
    #[prost(int64, optional, tag = "9")]
    pub oldest_append_ms: Option<i64>,
    /// The partition was made anew: what was read of it before is no reason to take this for a
    /// repeat.
    #[prost(bool, tag = "10")]
    pub anew: bool,
}

/// The name of an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntityName {
    /// Its kind.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// First name.
    #[prost(string, tag = "2")]
    pub first: String,
    /// Second name of a pair.
    #[prost(string, tag = "3")]
    pub second: String,
}

/// Entities by index: the parts of their names one behind the other, so that reading them makes no
/// text of its own for each.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EntityTable {
    /// Names of the kinds.
    #[prost(string, repeated, tag = "1")]
    pub kinds: Vec<String>,
    /// The index of each entity's kind.
    #[prost(uint32, repeated, tag = "2")]
    pub kind: Vec<u32>,
    /// Bytes of each entity's first and second name.
    #[prost(uint32, repeated, tag = "3")]
    pub lengths: Vec<u32>,
    /// All names.
    #[prost(string, tag = "4")]
    pub names: String,
}

impl EntityTable {
    /// Adds an entity, and returns its index.
    pub fn push(&mut self, entity: &Entity) -> u32 {
        let name = entity.kind.name();
        let kind = self.kinds.iter().position(|known| known == name);
        let kind = kind.unwrap_or_else(|| {
            self.kinds.push(name.to_owned());
            self.kinds.len() - 1
        });
        self.kind.push(kind as u32);
        for name in [&entity.first, &entity.second] {
            self.lengths.push(name.len() as u32);
            self.names.push_str(name);
        }
        self.kind.len() as u32 - 1
    }

    /// The entities in order; `None` for one that cannot be read.
    pub fn entities(&self) -> impl Iterator<Item = Option<EntityRef<'_>>> {
        let kinds: Vec<Option<Kind>> = self
            .kinds
            .iter()
            .map(|name| Kind::named(name).ok())
            .collect();
        let mut at = 0;
        let lengths = self.lengths.chunks_exact(2);
        self.kind.iter().zip(lengths).map(move |(kind, lengths)| {
            let middle = at + lengths[0] as usize;
            let end = middle + lengths[1] as usize;
            let entity = EntityRef {
                kind: kinds.get(*kind as usize).copied().flatten()?,
                first: self.names.get(at..middle)?,
                second: self.names.get(middle..end)?,
            };
            at = end;
            Some(entity)
        })
    }
}

/// Increments of the cells of one measure, column by column.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MeasureRows {
    /// The measure's id, which follows from its definition.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// The entity of each row.
    #[prost(uint32, repeated, tag = "2")]
    pub entities: Vec<u32>,
    /// Start of each row's cell, Unix ms, as the step from the one before; none for levels and
    /// registers.
    #[prost(sint64, repeated, tag = "3")]
    pub starts: Vec<i64>,
    /// The columns that hold anything: the first one is the lowest bit. All others hold what changes
    /// nothing.
    #[prost(uint64, tag = "4")]
    pub columns: u64,
    /// The values of those columns, one column after the other.
    #[prost(sint64, repeated, tag = "5")]
    pub values: Vec<i64>,
}

impl MeasureRows {
    /// Calls `each` with the entity, start and fields of every row. False where the form is not that
    /// of the series: then nothing more can be read of it.
    #[must_use]
    pub fn each(&self, series: &Series, each: &mut dyn FnMut(u32, i64, &[i64])) -> bool {
        let rows = self.entities.len();
        let width = series.width();
        let is_timed = !series.tiers().is_empty();
        let present: SmallVec<[usize; 16]> = (0..width.min(64))
            .filter(|column| self.columns >> column & 1 == 1)
            .collect();
        let beyond = self.columns.checked_shr(width as u32).unwrap_or(0);
        let is_whole = beyond == 0
            && self.values.len() == rows * present.len()
            && self.starts.len() == if is_timed { rows } else { 0 };
        if !is_whole {
            return false;
        }
        let mut cell = series.identity();
        let mut start_ms = 0_i64;
        for (row, entity) in self.entities.iter().enumerate() {
            if let Some(step_ms) = self.starts.get(row) {
                start_ms = start_ms.wrapping_add(*step_ms);
            }
            for (at, column) in present.iter().enumerate() {
                cell[*column] = self.values[at * rows + row];
            }
            each(*entity, start_ms, &cell);
        }
        true
    }
}

/// A fact about an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FactRow {
    /// Index of the entity in this record.
    #[prost(uint32, tag = "1")]
    pub entity: u32,
    /// The fact.
    #[prost(oneof = "Fact", tags = "10, 11")]
    pub fact: Option<Fact>,
}

/// A record of [`topic::ALERTS`], in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The step.
    pub transition: Transition,
    /// Append time of the oldest event in the commit that led to it, Unix ms; absent where time
    /// alone did.
    pub appended_ms: Option<i64>,
}

/// What a page asks its receiver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageAction {
    /// Tell a person.
    Trigger,
    /// Tell that it is over.
    Resolve,
}

/// A page to be sent, once it is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The key of this delivery: the same whenever it is tried.
    pub delivery_id: String,
    /// The channel to send it through.
    pub channel: String,
    /// Trigger or resolve.
    pub action: PageAction,
    /// Severity that it tells of.
    pub severity: Severity,
    /// Channels to fall over to, in order.
    pub fallback: Vec<String>,
    /// When it was decided, Unix ms of the machine that decided.
    pub at_ms: i64,
    /// Append time of the oldest event that led to it, Unix ms.
    pub appended_ms: Option<i64>,
    /// What it is about.
    pub alert: Arc<Transition>,
}

/// What became of an [`Intent`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryOutcome {
    /// The intent's key.
    pub delivery_id: String,
    /// Whether the receiver took it.
    pub delivered: bool,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: Option<String>,
    /// When, Unix ms.
    pub at_ms: i64,
}

/// A record of [`topic::DELIVERIES`], in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryRecord {
    /// A page is to be sent.
    Intent(Arc<Intent>),
    /// A page was sent, or given up.
    Outcome(DeliveryOutcome),
}
