//! What the process knows of the folder: its topics, its groups, and the newest batches.
//!
//! Owns what sessions look at without the store. It follows the store and never leads: it is
//! changed after a transaction has ended well, and read anew when the store was opened again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fenghuo_log::groups::Groups;
use fenghuo_log::{Error, TopicPartition, TopicSpec};

use crate::batch::Batch;
use crate::store::{Ends, Known, Place, Store, Topic};

/// Bytes of the newest batches that are kept for readers, of all partitions together: who keeps up
/// never touches the store.
const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The store, while it is open.
#[derive(Default)]
pub enum Open {
    /// It was not needed yet, or a fault closed it.
    #[default]
    Closed,
    /// Readers may hold it a moment longer than this.
    Store(Arc<Store>),
}

/// What is known.
#[derive(Default)]
pub struct State {
    open: Open,
    /// How often the store was opened: sessions of before are over.
    pub epoch: u64,
    /// Why it was closed, until something is durable again.
    pub fault: Option<String>,
    /// Why it will not be opened again: what it holds cannot be trusted.
    damage: Option<String>,
    topics: BTreeMap<Arc<str>, Topic>,
    /// Who reads what.
    pub groups: Groups,
    /// When the last record was appended, Unix ms.
    pub last_ms: i64,
    /// The same, when the store was opened.
    opened_ms: i64,
    /// When old records were looked for last, and since when the clock has gone evenly, Unix ms.
    looked_ms: Option<(i64, i64)>,
    /// Commits since the store was opened.
    pub committed: u64,
    /// How many of them are durable.
    pub durable: u64,
    tails: BTreeMap<TopicPartition, VecDeque<Batch>>,
    /// Whose batch was kept, the oldest first.
    kept: VecDeque<TopicPartition>,
    kept_bytes: usize,
}

/// Threads that append at a time read the clock in any order: what is less than this behind the last
/// append is no step of the clock.
const STEP_MS: i64 = 2_000;

/// A clock that has gone evenly for so long is believed.
const STEADY_MS: i64 = 3_600_000;

/// Old records are looked for more often than this, ms.
const LOOKED_EVERY_MS: i64 = 600_000;

/// A folder may have been closed for so long.
const CLOSED_MS_MAX: i64 = 7 * 86_400_000;

impl State {
    /// When what is appended now is, by a clock that says `now_ms`: never before the last append, but
    /// for a step back of the clock, which is followed at once, so that time does not stand still.
    pub fn append_ms(&self, now_ms: i64) -> i64 {
        match now_ms < self.last_ms - STEP_MS {
            true => now_ms,
            false => now_ms.max(self.last_ms),
        }
    }

    /// Whether the clock has gone evenly for long enough to drop what is old by it. To be asked
    /// whenever that is about to be done.
    pub fn is_steady(&mut self, now_ms: i64) -> bool {
        let since_ms = match self.looked_ms {
            Some((before_ms, since_ms)) if (0..LOOKED_EVERY_MS).contains(&(now_ms - before_ms)) => {
                since_ms
            }
            None if now_ms - self.opened_ms < CLOSED_MS_MAX => now_ms - STEADY_MS,
            _ => now_ms,
        };
        self.looked_ms = Some((now_ms, since_ms));
        now_ms - since_ms >= STEADY_MS
    }

    /// The store was opened.
    pub fn open(&mut self, open: Open, known: Known) {
        *self = Self {
            open,
            epoch: self.epoch + 1,
            fault: self.fault.take(),
            last_ms: known.last_ms,
            opened_ms: known.last_ms,
            looked_ms: self.looked_ms,
            ..Self::default()
        };
        let mut names = BTreeMap::new();
        for (name, topic) in known.topics {
            self.groups.add_topic(&name, topic.ends.len() as u32);
            names.insert(topic.id, Arc::clone(&name));
            self.topics.insert(name, topic);
        }
        for (group, at, offset) in known.offsets {
            if let Some(name) = names.get(&at.topic) {
                let of = TopicPartition::new(Arc::clone(name), at.partition);
                self.groups.set_offset(&group, of, Some(offset));
            }
        }
    }

    /// A fault has closed the store, if it is still the one that was opened then.
    pub fn close(&mut self, epoch: u64, fault: String) {
        // Of several that meet it, the first one knows the cause.
        if self.epoch == epoch && self.store().is_ok() {
            self.open = Open::Closed;
            self.fault = Some(fault);
        }
    }

    /// The store is damaged: nothing more is read from it or written to it.
    pub fn give_up(&mut self, why: String) {
        self.open = Open::Closed;
        self.fault.get_or_insert_with(|| why.clone());
        self.damage.get_or_insert(why);
    }

    /// The store may be opened again, to look what of it can be read.
    pub fn forgive(&mut self) {
        self.open = Open::Closed;
        self.damage = None;
    }

    /// The store.
    pub fn store(&self) -> Result<Arc<Store>, Error> {
        if let Some(why) = &self.damage {
            return Err(Error::Fatal(why.clone()));
        }
        match &self.open {
            Open::Store(store) => Ok(Arc::clone(store)),
            Open::Closed => Err(closed(self.fault.as_deref().unwrap_or("it was not opened"))),
        }
    }

    /// Fails where the store was closed since.
    pub fn check(&self, epoch: u64) -> Result<(), Error> {
        self.store()?;
        if self.epoch == epoch {
            Ok(())
        } else {
            Err(closed("it was opened anew since"))
        }
    }

    /// A topic, by its name.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topics with their numbers of partitions.
    pub fn counts(&self) -> BTreeMap<String, u32> {
        let topics = self.topics.iter();
        topics
            .map(|(name, topic)| (name.to_string(), topic.ends.len() as u32))
            .collect()
    }

    /// The topics.
    pub fn all(&self) -> Vec<(String, Topic)> {
        let topics = self.topics.iter();
        topics
            .map(|(name, topic)| (name.to_string(), topic.clone()))
            .collect()
    }

    /// A number that no topic has.
    pub fn next_topic_id(&self) -> u32 {
        let ids = self.topics.values().map(|topic| topic.id);
        ids.max().map_or(0, |last| last + 1)
    }

    /// A topic was made or changed.
    pub fn put_topic(&mut self, id: u32, spec: &TopicSpec) {
        let topic = self.topics.entry(spec.name.as_str().into());
        let topic = topic.or_insert_with(|| Topic {
            id,
            compacted: spec.compacted,
            retention_ms: None,
            ends: vec![Ends::default(); spec.partitions as usize],
        });
        topic.retention_ms = spec.retention_ms;
        self.groups.add_topic(&spec.name, spec.partitions);
    }

    fn topic_of(&self, of: &TopicPartition) -> Result<&Topic, Error> {
        let topic = self.topics.get(&of.topic);
        let topic = topic.filter(|topic| (of.partition as usize) < topic.ends.len());
        topic.ok_or_else(|| Error::Fatal(format!("there is no topic partition {of}")))
    }

    /// Where a partition is in the store, and what it holds.
    pub fn place(&self, of: &TopicPartition) -> Result<(Place, Ends), Error> {
        let topic = self.topic_of(of)?;
        let place = Place {
            topic: topic.id,
            partition: of.partition,
        };
        Ok((place, topic.ends[of.partition as usize]))
    }

    /// What a partition holds.
    pub fn ends(&self, of: &TopicPartition) -> Result<Ends, Error> {
        self.place(of).map(|(_, ends)| ends)
    }

    /// The partitions of plain topics, with how long their records are kept.
    pub fn plain(&self) -> Vec<(TopicPartition, Option<i64>)> {
        let topics = self.topics.iter().filter(|(_, topic)| !topic.compacted);
        topics
            .flat_map(|(name, topic)| {
                let of = |partition| TopicPartition::new(Arc::clone(name), partition as u32);
                (0..topic.ends.len()).map(move |at| (of(at), topic.retention_ms))
            })
            .collect()
    }

    /// Bytes of the batches of each plain topic on the disk.
    pub fn bytes_by_topic(&self) -> BTreeMap<Arc<str>, u64> {
        let topics = self.topics.iter().filter(|(_, topic)| !topic.compacted);
        let bytes = |topic: &Topic| topic.ends.iter().map(|ends| ends.bytes).sum();
        topics
            .map(|(name, topic)| (Arc::clone(name), bytes(topic)))
            .collect()
    }

    /// Whether a partition keeps the last record of each key.
    pub fn is_compacted(&self, of: &TopicPartition) -> Result<bool, Error> {
        self.topic_of(of).map(|topic| topic.compacted)
    }

    /// What a partition holds has changed.
    pub fn set_ends(&mut self, of: &TopicPartition, ends: Ends) {
        let topic = self.topics.get_mut(&of.topic);
        if let Some(known) = topic.and_then(|topic| topic.ends.get_mut(of.partition as usize)) {
            *known = ends;
        }
    }

    /// Keeps a batch for readers, and lets the oldest ones go.
    pub fn keep(&mut self, of: TopicPartition, batch: Batch) {
        self.kept_bytes += batch.bytes();
        self.tails.entry(of.clone()).or_default().push_back(batch);
        self.kept.push_back(of);
        while self.kept_bytes > TAIL_BYTES_MAX
            && let Some(oldest) = self.kept.pop_front()
        {
            let tail = self.tails.get_mut(&oldest);
            if let Some(batch) = tail.and_then(VecDeque::pop_front) {
                self.kept_bytes -= batch.bytes();
            }
        }
    }

    /// The kept batches from an offset on, where the first of them has it.
    pub fn tail(&self, of: &TopicPartition, from: u64) -> impl Iterator<Item = &Batch> {
        let tail = self.tails.get(of);
        let tail = tail.filter(|tail| tail.front().is_some_and(|first| first.base() <= from));
        let begin = tail.map_or(0, |tail| tail.partition_point(|batch| batch.end() <= from));
        tail.into_iter().flat_map(move |tail| tail.range(begin..))
    }
}

fn closed(why: &str) -> Error {
    Error::Retriable {
        doing: "using the store, which is closed".to_owned(),
        source: why.to_owned().into(),
    }
}
