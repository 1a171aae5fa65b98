//! The records of Fenghuo's own topics, and the names of those topics.
//!
//! Every record carries the version of its form; a reader that meets a newer one must stop, never
//! skip it.

use fenghuo_alert::{Severity, Transition};
use fenghuo_signal::Fact;
use serde::{Deserialize, Serialize};

/// Version of the records that this build writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// Fenghuo's own topics.
pub mod topic {
    /// Commit records: deltas, facts and clocks, by home.
    pub const PANES: &str = "fenghuo.panes";
    /// Checkpoints of what evaluate knows; compacted, with as many partitions as the panes.
    pub const STATE: &str = "fenghuo.state";
    /// Transitions of alerts; one partition.
    pub const ALERTS: &str = "fenghuo.alerts";
    /// Intents to send a page and their outcomes; one partition.
    pub const DELIVERIES: &str = "fenghuo.deliveries";
    /// Messages that could not be taken, with their reason.
    pub const DEAD_LETTER: &str = "fenghuo.dead-letter";
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
    /// The entities that deltas and facts name by index.
    #[prost(message, repeated, tag = "4")]
    pub entities: Vec<EntityName>,
    /// Deltas.
    #[prost(message, repeated, tag = "5")]
    pub deltas: Vec<Delta>,
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
    /// Number of its kind.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// First name.
    #[prost(string, tag = "2")]
    pub first: String,
    /// Second name of a pair.
    #[prost(string, tag = "3")]
    pub second: String,
}

/// An increment of a cell.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Delta {
    /// Id of the series.
    #[prost(uint32, tag = "1")]
    pub series: u32,
    /// Index of the entity in this record.
    #[prost(uint32, tag = "2")]
    pub entity: u32,
    /// Start of the cell, Unix ms; 0 for levels and registers.
    #[prost(int64, tag = "3")]
    pub start_ms: i64,
    /// The fields of the series, in order.
    #[prost(sint64, repeated, tag = "4")]
    pub values: Vec<i64>,
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
    pub alert: Transition,
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
    Intent(Box<Intent>),
    /// A page was sent, or given up.
    Outcome(DeliveryOutcome),
}
