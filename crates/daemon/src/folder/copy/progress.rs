//! How far a copy came: the topic `fenghuo.copy`.
//!
//! Owns the form of its records. Each lands in the transaction that brings what it tells of.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use fenghuo_engine::rebase::{Moves, Run};
use fenghuo_kafka::{KafkaLog, ScanFrom};
use fenghuo_log::{Append, Error, TopicPartition};
use serde::{Deserialize, Serialize};

/// Where a copy tells how far it came.
pub const TOPIC: &str = "fenghuo.copy";

/// The form of what it tells.
const VERSION: u32 = 1;

/// A record of [`TOPIC`], in JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    version: u32,
    step: Step,
}

/// The part of a [`Note`] that every build reads.
#[derive(Debug, Deserialize)]
struct Form {
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// What the folder held when it began: its ranges of offsets, by topic and partition.
    Begun(Ranges),
    /// What came, and where to.
    Brought(Vec<Brought>),
    /// All came, and the groups stand where they stood.
    Done,
}

/// First offset and the one after the last, by topic and partition.
pub type Ranges = BTreeMap<String, Vec<(u64, u64)>>;

/// Records that came, one behind the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Brought {
    /// Their topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// Where they were and are.
    #[serde(flatten)]
    pub run: Run,
}

impl Brought {
    /// Whether the record at `offset`, which is at `to` now, is the next one of these.
    pub fn ends_at(&self, of: &TopicPartition, offset: u64, to: u64) -> bool {
        let Run { from, records, .. } = self.run;
        let is_there = (&*of.topic, of.partition) == (self.topic.as_str(), self.partition);
        is_there && from + records == offset && self.run.to + records == to
    }
}

impl Note {
    /// The record that tells of a step.
    pub fn append(step: Step) -> Result<Append, Error> {
        let version = VERSION;
        let value = serde_json::to_vec(&Note { version, step })
            .map_err(|error| Error::Fatal(format!("writing a note: {error}")))?;
        Ok(Append::new(TopicPartition::new(TOPIC, 0), None, value))
    }
}

/// How far a copy came.
#[derive(Debug, Default)]
pub struct Came {
    /// What the folder held when it began, once it did.
    pub begun: Option<Ranges>,
    /// Where what was brought is.
    pub moves: Moves,
    /// The next record of each partition of the folder.
    pub next: BTreeMap<TopicPartition, u64>,
    /// The offset after the last one brought, where it is now.
    pub end: BTreeMap<TopicPartition, u64>,
    /// All of it is there.
    pub done: bool,
}

impl Came {
    /// Reads what was told.
    pub fn read(log: &KafkaLog) -> anyhow::Result<Self> {
        let mut came = Self::default();
        let Some(mut scan) = log.scan(TopicPartition::new(TOPIC, 0), ScanFrom::First)? else {
            return Ok(came);
        };
        while let Some(record) = scan.next_record()? {
            let value = record.value.unwrap_or_default();
            let what = || format!("record {} of {TOPIC}", record.offset);
            let form: Form = serde_json::from_slice(&value).with_context(what)?;
            ensure!(
                form.version <= VERSION,
                "{TOPIC} was written by a newer build; go on with that one"
            );
            let note: Note = serde_json::from_slice(&value).with_context(what)?;
            came.take(note.step);
        }
        Ok(came)
    }

    /// Takes note of a step.
    pub fn take(&mut self, step: Step) {
        match step {
            Step::Begun(ranges) => self.begun = Some(ranges),
            Step::Brought(brought) => {
                for Brought {
                    topic,
                    partition,
                    run,
                } in brought
                {
                    let of = TopicPartition::new(topic, partition);
                    self.next.insert(of.clone(), run.from + run.records);
                    self.end.insert(of.clone(), run.to + run.records);
                    self.moves.add(of, run);
                }
            }
            Step::Done => self.done = true,
        }
    }
}
