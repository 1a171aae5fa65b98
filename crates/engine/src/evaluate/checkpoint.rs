//! Checkpoints: what a shard knows, written down a segment at a time, so that a restart reads that
//! and the few panes since instead of all there ever were.
//!
//! A shard's entities are spread over [`SEGMENTS`] segments; whatever is merged together lies in
//! the same one. In turn, each is written whole: its rows in chunks, and a head that says which
//! panes offset they cover, with the clocks as of then. A restart takes the clocks of the head
//! that covers least, folds the panes from there, and passes over what a segment covers already.
//! Rows and head are in the transaction that carries the panes offset, so that they always agree.

use std::collections::BTreeMap;

use fenghuo_alert::Alert;
use fenghuo_log::{Append, Record, TopicPartition};
use fenghuo_signal::Entity;

use crate::record::{EntityName, FactRow, PANES_SINCE, SetRow, VERSION, topic};
use crate::set::Set;

/// Parts that a shard's entities are spread over. Written into the log: another number makes every
/// checkpoint unreadable.
pub(crate) const SEGMENTS: usize = 64;

/// Entities in a chunk, and so the size of a record: some hundred kilobytes.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The segment of an entity: skus with their locations, all others by their own name.
pub(crate) fn segment_of(entity: &Entity) -> usize {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(entity.first.as_bytes());
    if !entity.kind.homed_by_sku() {
        hash.update(&[0xff]);
        hash.update(entity.kind.name().as_bytes());
        hash.update(entity.second.as_bytes());
    }
    // Other bits than those that tell a sku's shard: its skus are spread over all segments.
    ((hash.digest() >> 32) % SEGMENTS as u64) as usize
}

/// Up to where a segment is written down, and the clocks as of then.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Head {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    /// Panes before this offset are in the rows.
    #[prost(uint64, tag = "2")]
    pub(crate) covered: u64,
    /// Number of chunks.
    #[prost(uint32, tag = "3")]
    pub(crate) chunks: u32,
    #[prost(message, repeated, tag = "4")]
    pub(crate) sources: Vec<SourceRow>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) signals: Vec<SignalRow>,
    /// The last panes record was part of a commit that was applied before.
    #[prost(bool, tag = "6")]
    pub(crate) repeating: bool,
}

/// A source partition as a shard knows it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SourceRow {
    #[prost(string, tag = "1")]
    pub(crate) topic: String,
    #[prost(uint32, tag = "2")]
    pub(crate) partition: u32,
    /// Next offset expected of it; absent where no record of it was ever told.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) covered: Option<u64>,
    /// Its clock; absent before its first commit was whole.
    #[prost(message, optional, tag = "4")]
    pub(crate) clock: Option<ClockRow>,
    /// The catalogue of its last commit, and since when it counts each measure.
    #[prost(fixed64, tag = "5")]
    pub(crate) catalogue: u64,
    #[prost(message, repeated, tag = "6")]
    pub(crate) counted: Vec<CountedRow>,
}

/// A measure that a source partition counts.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct CountedRow {
    #[prost(fixed32, tag = "1")]
    pub(crate) measure: u32,
    /// Event time; absent = from the first record on.
    #[prost(int64, optional, tag = "2")]
    pub(crate) since_ms: Option<i64>,
}

/// The clock of a source partition.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ClockRow {
    #[prost(uint32, tag = "1")]
    pub(crate) partitions: u32,
    #[prost(int64, tag = "2")]
    pub(crate) newest_ms: i64,
    #[prost(int64, tag = "3")]
    pub(crate) lateness_ms: i64,
    #[prost(int64, tag = "4")]
    pub(crate) at_ms: i64,
    #[prost(bool, tag = "5")]
    pub(crate) at_end: bool,
}

/// What a shard knows of a signal as a whole.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SignalRow {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(bool, tag = "2")]
    pub(crate) muted: bool,
    #[prost(int64, optional, tag = "3")]
    pub(crate) begun_ms: Option<i64>,
    /// Until then it ends nothing, as its clock was set.
    #[prost(int64, optional, tag = "5")]
    pub(crate) held_ms: Option<i64>,
    /// What it was; of another one nothing is taken over.
    #[prost(fixed32, tag = "4")]
    pub(crate) definition: u32,
}

/// Some entities of a segment.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Chunk {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) entities: Vec<EntityRow>,
}

/// Everything known of an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EntityRow {
    #[prost(message, optional, tag = "1")]
    pub(crate) name: Option<EntityName>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) series: Vec<SeriesRow>,
    /// Its facts; the entity index in them means nothing here.
    #[prost(message, repeated, tag = "3")]
    pub(crate) facts: Vec<FactRow>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) slots: Vec<SlotRow>,
    /// By what it got its place.
    #[prost(uint32, tag = "5")]
    pub(crate) claim: u32,
}

/// A series of an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SeriesRow {
    #[prost(uint32, tag = "1")]
    pub(crate) series: u32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) tiers: Vec<TierRow>,
    /// Event time: panes that end at or before it were cut, as there were too many.
    #[prost(int64, optional, tag = "3")]
    pub(crate) cut_ms: Option<i64>,
}

/// A tier of a series.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TierRow {
    /// The first start, then how much later each next one is: small numbers take few bytes.
    #[prost(sint64, repeated, tag = "1")]
    pub(crate) starts_ms: Vec<i64>,
    #[prost(sint64, repeated, tag = "2")]
    pub(crate) values: Vec<i64>,
}

/// A signal of an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SlotRow {
    #[prost(string, tag = "1")]
    pub(crate) signal: String,
    #[prost(double, repeated, tag = "2")]
    pub(crate) state: Vec<f64>,
    #[prost(int64, optional, tag = "3")]
    pub(crate) advanced_ms: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    pub(crate) due_ms: Option<i64>,
    #[prost(message, optional, tag = "5")]
    pub(crate) reading: Option<ReadingRow>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) alerts: Vec<AlertRow>,
    /// What the signal was.
    #[prost(fixed32, tag = "7")]
    pub(crate) definition: u32,
    /// Panes that were not judged yet.
    #[prost(int64, repeated, tag = "8")]
    pub(crate) unjudged_ms: Vec<i64>,
}

/// The last reading of a signal.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct ReadingRow {
    /// 0 ok, 1 insufficient, 2 unknown.
    #[prost(uint32, tag = "1")]
    pub(crate) state: u32,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(double, tag = "3")]
    pub(crate) lower: f64,
    #[prost(double, tag = "4")]
    pub(crate) upper: f64,
    #[prost(double, tag = "5")]
    pub(crate) surprise: f64,
    #[prost(uint64, tag = "6")]
    pub(crate) n: u64,
    #[prost(int64, tag = "7")]
    pub(crate) at_ms: i64,
}

/// The row of a rule for an entity.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AlertRow {
    #[prost(string, tag = "1")]
    pub(crate) rule: String,
    /// The alert as JSON.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) alert: Vec<u8>,
}

impl AlertRow {
    pub(crate) fn new(rule: &str, alert: &Alert) -> Option<Self> {
        let alert = serde_json::to_vec(alert).ok()?;
        let rule = rule.to_owned();
        Some(Self { rule, alert })
    }

    pub(crate) fn alert(&self) -> Option<Alert> {
        serde_json::from_slice(&self.alert).ok()
    }
}

const RULES_KEY: &[u8] = b"rules";

fn head_key(segment: usize) -> Vec<u8> {
    format!("{segment}").into_bytes()
}

fn chunk_key(segment: usize, chunk: u32) -> Vec<u8> {
    format!("{segment}/{chunk}").into_bytes()
}

/// Writes checkpoints into the state partition of a shard.
pub(crate) struct Writer {
    to: TopicPartition,
}

impl Writer {
    pub(crate) fn new(partition: u32) -> Self {
        let to = TopicPartition::new(topic::STATE, partition);
        Self { to }
    }

    fn put(&self, key: Vec<u8>, message: &impl prost::Message, appends: &mut Vec<Append>) {
        let value = message.encode_to_vec();
        appends.push(Append::new(self.to.clone(), Some(key), value));
    }

    /// Writes the set under which the shard judges.
    pub(crate) fn set(&self, set: &Set, appends: &mut Vec<Append>) {
        self.put(RULES_KEY.to_vec(), &set.row(), appends);
    }

    /// Writes the rows of a segment in place of the `before` chunks that it had, and returns how
    /// many there are now.
    pub(crate) fn rows(
        &self,
        segment: usize,
        before: u32,
        rows: impl Iterator<Item = EntityRow>,
        appends: &mut Vec<Append>,
    ) -> u32 {
        let mut chunks = 0;
        let (mut entities, mut bytes) = (Vec::new(), 0);
        let mut put = |entities: Vec<EntityRow>, chunk: u32| {
            let version = VERSION;
            self.put(
                chunk_key(segment, chunk),
                &Chunk { version, entities },
                appends,
            );
        };
        for row in rows {
            bytes += prost::Message::encoded_len(&row);
            entities.push(row);
            if bytes >= CHUNK_BYTES_MAX {
                put(std::mem::take(&mut entities), chunks);
                chunks += 1;
                bytes = 0;
            }
        }
        if !entities.is_empty() {
            put(entities, chunks);
            chunks += 1;
        }
        for gone in chunks..before {
            appends.push(Append {
                to: self.to.clone(),
                key: Some(chunk_key(segment, gone)),
                value: None,
                headers: Vec::new(),
            });
        }
        chunks
    }

    /// Writes the head of a segment.
    pub(crate) fn head(&self, segment: usize, head: &Head, appends: &mut Vec<Append>) {
        self.put(head_key(segment), head, appends);
    }
}

/// A state partition as it is read: the last record of each key. Chunks stay bytes until it is
/// known which of them count.
#[derive(Default)]
pub(crate) struct Reader {
    set: Option<SetRow>,
    heads: BTreeMap<usize, Head>,
    chunks: BTreeMap<(usize, u32), Box<[u8]>>,
}

/// Why a state partition cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// A newer build wrote it.
    Newer(u32),
    /// It is none of ours, or damaged.
    Damaged(String),
}

impl Reader {
    /// Takes a record.
    pub(crate) fn take(&mut self, record: &Record<'_>) -> Result<(), Unreadable> {
        let damaged = |what: &str| Unreadable::Damaged(format!("{what} at {}", record.offset));
        let key = record.key.ok_or_else(|| damaged("no key"))?;
        if key == RULES_KEY {
            self.set = record
                .value
                .map(<SetRow as prost::Message>::decode)
                .transpose()
                .map_err(|_| damaged("rules"))?;
            return check_version(self.set.as_ref().map_or(0, |row| row.version));
        }
        let key = std::str::from_utf8(key).map_err(|_| damaged("a key"))?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| damaged("a key"));
        match key.split_once('/') {
            None => {
                let segment = number(key)? as usize;
                let Some(value) = record.value else {
                    self.heads.remove(&segment);
                    return Ok(());
                };
                let head =
                    <Head as prost::Message>::decode(value).map_err(|_| damaged("a head"))?;
                check_version(head.version)?;
                self.heads.insert(segment, head);
            }
            Some((segment, chunk)) => {
                let key = (number(segment)? as usize, number(chunk)?);
                match record.value {
                    Some(value) => self.chunks.insert(key, value.into()),
                    None => self.chunks.remove(&key),
                };
            }
        }
        Ok(())
    }

    /// The set under which the shard judged.
    pub(crate) fn set(&self) -> Option<&SetRow> {
        self.set.as_ref()
    }

    /// The head of every segment that was written; all of them, or the shard is young.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (usize, &Head)> {
        let heads = self.heads.iter();
        heads.map(|(segment, head)| (*segment, head))
    }

    /// The rows of the segments. Each is held no longer than until it was handed over: two copies
    /// of all that is known would be too many.
    pub(crate) fn rows(&mut self, each: &mut dyn FnMut(EntityRow)) -> Result<(), Unreadable> {
        for (segment, head) in &self.heads {
            for chunk in 0..head.chunks {
                let missing = || Unreadable::Damaged(format!("no chunk {segment}/{chunk}"));
                let bytes = self.chunks.remove(&(*segment, chunk)).ok_or_else(missing)?;
                let rows = <Chunk as prost::Message>::decode(&bytes[..])
                    .map_err(|error| Unreadable::Damaged(error.to_string()))?;
                check_version(rows.version)?;
                rows.entities.into_iter().for_each(&mut *each);
            }
        }
        Ok(())
    }
}

/// A record of a state partition, written for another log.
pub(crate) enum Rebased {
    /// It names no offsets.
    AsItWas,
    /// With its offsets as they are there.
    Value(Vec<u8>),
}

/// Lets a record name offsets as they are in another log: of its panes partition by `panes`, of
/// sources by `source`.
pub(crate) fn rebase(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    panes: &dyn Fn(u64) -> u64,
    source: &dyn Fn(&str, u32, u64) -> u64,
) -> Result<Rebased, Unreadable> {
    let is_head = key.is_some_and(|key| key != RULES_KEY && !key.contains(&b'/'));
    let Some(value) = value.filter(|_| is_head) else {
        return Ok(Rebased::AsItWas);
    };
    let head = <Head as prost::Message>::decode(value);
    let mut head = head.map_err(|error| Unreadable::Damaged(error.to_string()))?;
    check_version(head.version)?;
    head.covered = panes(head.covered);
    for row in &mut head.sources {
        row.covered = row
            .covered
            .map(|covered| source(&row.topic, row.partition, covered));
    }
    Ok(Rebased::Value(prost::Message::encode_to_vec(&head)))
}

fn check_version(version: u32) -> Result<(), Unreadable> {
    match version {
        PANES_SINCE..=VERSION => Ok(()),
        _ if version > VERSION => Err(Unreadable::Newer(version)),
        _ => Err(Unreadable::Damaged(format!(
            "it has version {version}, of an earlier build; this build reads {PANES_SINCE} to {VERSION}. Begin with \
             another group, or another folder that the events are loaded into again"
        ))),
    }
}

/// Absolute starts from what was written, or the other way round.
pub(crate) fn to_steps(starts_ms: &[i64]) -> Vec<i64> {
    let mut last = 0;
    let step = |start: &i64| start.wrapping_sub(std::mem::replace(&mut last, *start));
    starts_ms.iter().map(step).collect()
}

/// The inverse of [`to_steps`].
pub(crate) fn from_steps(steps: &[i64]) -> Vec<i64> {
    let mut at = 0_i64;
    let start = |step: &i64| {
        at = at.wrapping_add(*step);
        at
    };
    steps.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use fenghuo_signal::Kind;

    use super::*;
    use crate::ingest::home_of;

    #[test]
    fn the_skus_of_a_shard_are_spread_over_all_segments() {
        let skus = (0..4_000).map(|number| Entity::one(Kind::SKU, &format!("sku-{number}")));
        let mut counts = [0; SEGMENTS];
        for sku in skus.filter(|sku| home_of(sku, 4) == 1) {
            counts[segment_of(&sku)] += 1;
        }
        // Some 16 each.
        assert!(
            counts.iter().all(|count| (2..50).contains(count)),
            "{counts:?}"
        );
    }
}
