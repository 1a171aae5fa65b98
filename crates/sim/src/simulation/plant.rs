//! Bugs that are planted to see that a simulation finds them. They wrap the log, so that no stage
//! and no log that ships holds a line of them.

use std::time::Duration;

use fenghuo_alert::State;
use fenghuo_engine::kept::{Journal, Key, entries};
use fenghuo_engine::record::{AlertRecord, topic};
use fenghuo_log::{
    Append, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// Offsets are committed first, and what is to be appended after that.
    OffsetsFirst,
    /// A restart forgets a tracker.
    ForgottenTracker,
    /// Of what is written of a segment of trackers, only the first part lands.
    HalfSegment,
    /// An episode whose reading cannot be told is resolved.
    ResolvedUnknown,
    /// What is appended is acknowledged before it is synced.
    EarlyAnswer,
    /// A page is sent before its intent is durable.
    EarlyPage,
    /// After a failed sync it goes on as if nothing had happened.
    FailedSync,
    /// The time of stages and log follows the clock forward at once, and never goes back.
    NeverBack,
}

impl Plant {
    /// Whether only a disk can show it.
    pub fn needs_disk(self) -> bool {
        matches!(self, Self::EarlyAnswer | Self::EarlyPage | Self::FailedSync)
    }
}

/// A log with a bug in it.
pub struct Planted {
    log: Box<dyn Log>,
    plant: Plant,
}

impl Planted {
    /// Plants a bug.
    pub fn new(log: Box<dyn Log>, plant: Plant) -> Self {
        Self { log, plant }
    }
}

impl Log for Planted {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        self.log.ensure(topics)
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        self.log.partitions(topic)
    }

    fn open(&self, spec: &SessionSpec) -> Result<Box<dyn Session>, Error> {
        Ok(Box::new(PlantedSession {
            session: self.log.open(spec)?,
            plant: self.plant,
        }))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        if self.plant != Plant::EarlyAnswer {
            return self.log.append(appends);
        }
        // What a session commits is durable only when it is waited for.
        let mut session = self.log.open(&SessionSpec {
            group: "early".to_owned(),
            member: "early".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })?;
        let offsets = Vec::new();
        session.commit(Commit { appends, offsets })
    }
}

struct PlantedSession {
    session: Box<dyn Session>,
    plant: Plant,
}

impl Session for PlantedSession {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        self.session.poll(wait, each)
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        self.session.start(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.session.release(partitions)
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        self.session.resolve(partition, start)
    }

    fn at_end(&mut self, index: usize) -> bool {
        self.session.at_end(index)
    }

    fn lag(&mut self, index: usize) -> u64 {
        self.session.lag(index)
    }

    fn commit(&mut self, mut commit: Commit) -> Result<(), Error> {
        match self.plant {
            Plant::OffsetsFirst => {
                let offsets = std::mem::take(&mut commit.offsets);
                let appends = Vec::new();
                self.session.commit(Commit { appends, offsets })?;
            }
            Plant::HalfSegment => commit.appends.retain(|append| !is_later_part(append)),
            Plant::ResolvedUnknown => commit.appends.iter_mut().for_each(resolve_unknown),
            _ => {}
        }
        self.session.commit(commit)
    }

    fn durable(&mut self, wait: Duration) -> Result<bool, Error> {
        let durable = self.session.durable(wait)?;
        Ok(durable || self.plant == Plant::EarlyPage)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let is_trackers = partition.topic.starts_with(&topic::trackers(""));
        if self.plant != Plant::ForgottenTracker || !is_trackers {
            return self.session.read(partition, from, to, each);
        }
        // The last one of the newest journal record with any: most likely its life is still open.
        let mut newest = None;
        self.session.read(partition, from, to, &mut |record| {
            let journal = record.value.filter(|_| is_journal(record.key));
            if let Some(Ok(journal)) = journal.map(<Journal as prost::Message>::decode)
                && !journal.changed.is_empty()
            {
                newest = Some((record.offset, journal));
            }
        })?;
        let forgetful = newest.map(|(offset, mut journal)| {
            let lives: Vec<_> = entries(&journal.changed).flatten().collect();
            let last = lives.last().map_or(0, |(_, life)| 17 + life.len());
            journal.changed.truncate(journal.changed.len() - last);
            (offset, prost::Message::encode_to_vec(&journal))
        });
        self.session
            .read(partition, from, to, &mut |record| match &forgetful {
                Some((offset, value)) if *offset == record.offset => each(Record {
                    value: Some(value),
                    ..record
                }),
                _ => each(record),
            })
    }
}

fn is_later_part(append: &Append) -> bool {
    let key = append.key.as_deref().and_then(Key::parse);
    matches!(key, Some(Key::Lives(_, part)) if part > 0 && append.value.is_some())
}

fn is_journal(key: Option<&[u8]>) -> bool {
    matches!(key.and_then(Key::parse), Some(Key::Journal(_)))
}

fn resolve_unknown(append: &mut Append) {
    if *append.to.topic != *topic::ALERTS {
        return;
    }
    let value = append.value.as_deref().unwrap_or_default();
    if let Ok(mut record) = serde_json::from_slice::<AlertRecord>(value)
        && record.transition.to == State::Unknown
    {
        record.transition.to = State::Resolved;
        append.value = serde_json::to_vec(&record).ok();
    }
}
