//! A member of a group that keeps what it reads, and what tests share.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use fenghuo_kafka::{KafkaConfig, KafkaLog};
use fenghuo_log::{
    Append, Commit, Error, Log, Polled, Session, SessionSpec, Start, TopicPartition, TopicSpec,
};
use xtask::services::Kafka;

/// Polls after which a condition counts as never met: 20 s.
const POLLS_MAX: u32 = 400;
const WAIT: Duration = Duration::from_millis(50);

/// The broker of this binary; it ends with the process.
pub fn broker() -> &'static Kafka {
    static BROKER: OnceLock<Kafka> = OnceLock::new();
    BROKER.get_or_init(|| Kafka::start().unwrap())
}

pub fn log() -> KafkaLog {
    KafkaLog::new(KafkaConfig::new([broker().bootstrap()])).unwrap()
}

pub fn topic(log: &KafkaLog, name: &str, partitions: u32) {
    log.ensure(&[spec_of(name, partitions)]).unwrap();
}

pub fn spec_of(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        compacted: false,
        retention_ms: None,
    }
}

pub fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

pub fn text(to: &TopicPartition, value: impl ToString) -> Append {
    Append::new(to.clone(), None, value.to_string().into_bytes())
}

pub fn texts(to: &TopicPartition, values: std::ops::Range<u32>) -> Vec<Append> {
    values.map(|value| text(to, value)).collect()
}

/// What was read of each partition: offset and value, in order.
pub type Seen = BTreeMap<TopicPartition, Vec<(u64, String)>>;

pub struct Member {
    pub session: Box<dyn Session>,
    pub start: Start,
    /// By the index given to the session.
    pub held: Vec<Option<TopicPartition>>,
    /// Next offsets, to be committed.
    pub next: BTreeMap<TopicPartition, u64>,
    pub seen: Seen,
}

impl Member {
    pub fn open(log: &KafkaLog, group: &str, member: &str, topics: &[&str]) -> Self {
        Self::try_open(log, group, member, topics).unwrap()
    }

    pub fn try_open(
        log: &KafkaLog,
        group: &str,
        member: &str,
        topics: &[&str],
    ) -> Result<Self, Error> {
        let session = log.open(&SessionSpec {
            group: group.to_owned(),
            member: member.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start: Start::Earliest,
            low_latency: true,
        })?;
        Ok(Self {
            session,
            start: Start::Earliest,
            held: Vec::new(),
            next: BTreeMap::new(),
            seen: Seen::new(),
        })
    }

    /// Polls once and answers the group as a stage's runner does.
    pub fn step(&mut self) -> Result<(), Error> {
        let Self {
            session,
            held,
            next,
            seen,
            ..
        } = self;
        let polled = session.poll(WAIT, &mut |index, record| {
            let partition = held[index].clone().unwrap();
            next.insert(partition.clone(), record.offset + 1);
            let value = String::from_utf8(record.value.unwrap_or(b"-").to_vec()).unwrap();
            seen.entry(partition)
                .or_default()
                .push((record.offset, value));
        })?;
        match polled {
            Polled::Records(_) => {}
            Polled::Assigned(assigned) => {
                let mut begin = Vec::new();
                for one in assigned {
                    let from = match one.committed {
                        Some(offset) => offset,
                        None => self.session.resolve(&one.partition, self.start)?,
                    };
                    begin.push((self.held.len(), one.partition.clone(), from));
                    self.held.push(Some(one.partition));
                }
                self.session.start(&begin)?;
            }
            Polled::Revoked(partitions) => {
                self.commit(Vec::new())?;
                self.forget(&partitions)?;
            }
            Polled::Lost(partitions) => self.forget(&partitions)?,
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for held in &mut self.held {
            held.take_if(|held| partitions.contains(held));
        }
        self.next
            .retain(|partition, _| !partitions.contains(partition));
        self.session.release(partitions)
    }

    /// Commits everything read, with these appends.
    pub fn commit(&mut self, appends: Vec<Append>) -> Result<(), Error> {
        let offsets = std::mem::take(&mut self.next).into_iter().collect();
        self.session.commit(Commit { appends, offsets })
    }

    pub fn step_until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        for _ in 0..POLLS_MAX {
            if condition(self) {
                return;
            }
            self.step().unwrap();
        }
        panic!("never came true: {what}; seen {:?}", self.seen);
    }

    pub fn holds(&self) -> usize {
        self.held.iter().flatten().count()
    }

    pub fn count(&self) -> usize {
        self.seen.values().map(Vec::len).sum()
    }

    /// Values read of a partition.
    pub fn values(&self, partition: &TopicPartition) -> Vec<&str> {
        self.seen
            .get(partition)
            .into_iter()
            .flatten()
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn is_at_end(&mut self) -> bool {
        let held: Vec<usize> = (0..self.held.len())
            .filter(|index| self.held[*index].is_some())
            .collect();
        !held.is_empty() && held.into_iter().all(|index| self.session.at_end(index))
    }
}
