//! The in-memory log: topics, groups, transactions and fencing in one process.
//!
//! It serves the demo, replays and simulations, and must behave as the others do: records appear
//! whole commits at a time, a second session of a member fences the first, and the members of a
//! group share its partitions. Its time is what [`MemoryLog::set_time`] last said.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{
    Append, Assigned, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start,
    TopicPartition, TopicSpec,
};

/// Records handed over by one poll at most.
const POLL_RECORDS_MAX: usize = 4096;

#[derive(Debug)]
struct Stored {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

impl Stored {
    fn as_record(&self, offset: u64) -> Record<'_> {
        let content_type = self
            .headers
            .iter()
            .find(|(name, _)| *name == "content-type");
        Record {
            offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            content_type: content_type.map(|(_, value)| value.as_slice()),
        }
    }
}

#[derive(Default)]
struct Member {
    topics: BTreeSet<String>,
    owned: BTreeSet<TopicPartition>,
    target: BTreeSet<TopicPartition>,
}

#[derive(Default)]
struct Group {
    offsets: HashMap<TopicPartition, u64>,
    members: BTreeMap<String, Member>,
}

#[derive(Default)]
struct Inner {
    now_ms: i64,
    topics: BTreeMap<String, Vec<Vec<Arc<Stored>>>>,
    groups: HashMap<String, Group>,
    /// The life of each member: a session of an earlier life is fenced.
    lives: HashMap<String, u64>,
}

impl Inner {
    fn records(&self, of: &TopicPartition) -> Result<&Vec<Arc<Stored>>, Error> {
        self.topics
            .get(&*of.topic)
            .and_then(|partitions| partitions.get(of.partition as usize))
            .ok_or_else(|| Error::Fatal(format!("there is no topic partition {of}")))
    }

    fn append(&mut self, appends: Vec<Append>) -> Result<(), Error> {
        // All or nothing: look before the first one is taken.
        for append in &appends {
            self.records(&append.to)?;
        }
        let timestamp_ms = self.now_ms;
        for Append {
            to,
            key,
            value,
            headers,
        } in appends
        {
            if let Some(partitions) = self.topics.get_mut(&*to.topic) {
                partitions[to.partition as usize].push(Arc::new(Stored {
                    timestamp_ms,
                    key,
                    value,
                    headers,
                }));
            }
        }
        Ok(())
    }

    /// Shares the partitions of each topic among the members that read it, in turn.
    fn rebalance(&mut self, group: &str) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        let names: Vec<String> = group.members.keys().cloned().collect();
        for member in group.members.values_mut() {
            member.target.clear();
        }
        for (topic, partitions) in &self.topics {
            let readers: Vec<&String> = names
                .iter()
                .filter(|name| group.members[*name].topics.contains(topic))
                .collect();
            if readers.is_empty() {
                continue;
            }
            for partition in 0..partitions.len() {
                let reader = readers[partition % readers.len()];
                if let Some(member) = group.members.get_mut(reader) {
                    member
                        .target
                        .insert(TopicPartition::new(topic.as_str(), partition as u32));
                }
            }
        }
    }
}

/// A log in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryLog {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryLog {
    /// An empty log at time 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the append time of the records to come, Unix ms.
    pub fn set_time(&self, now_ms: i64) {
        self.lock().now_ms = now_ms;
    }

    /// The offset after the last record of a partition; 0 where there is none.
    pub fn high(&self, of: &TopicPartition) -> u64 {
        self.lock()
            .records(of)
            .map_or(0, |records| records.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the log whole: every change is made after its checks.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for MemoryLog {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        let mut inner = self.lock();
        for spec in topics {
            match inner.topics.get(&spec.name) {
                Some(found) if found.len() != spec.partitions as usize => {
                    return Err(Error::PartitionCount {
                        topic: spec.name.clone(),
                        found: found.len() as u32,
                        expected: spec.partitions,
                    });
                }
                Some(_) => {}
                None => {
                    let partitions = (0..spec.partitions).map(|_| Vec::new()).collect();
                    inner.topics.insert(spec.name.clone(), partitions);
                }
            }
        }
        let groups: Vec<String> = inner.groups.keys().cloned().collect();
        for group in groups {
            inner.rebalance(&group);
        }
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        Ok(self
            .lock()
            .topics
            .get(topic)
            .map(|partitions| partitions.len() as u32))
    }

    fn open(&self, spec: &SessionSpec) -> Result<Box<dyn Session>, Error> {
        let mut inner = self.lock();
        for topic in &spec.topics {
            if !inner.topics.contains_key(topic) {
                return Err(Error::Fatal(format!("there is no topic {topic}")));
            }
        }
        let life = inner.lives.entry(spec.member.clone()).or_default();
        *life += 1;
        let life = *life;
        let group = inner.groups.entry(spec.group.clone()).or_default();
        let topics = spec.topics.iter().cloned().collect();
        group.members.insert(
            spec.member.clone(),
            Member {
                topics,
                ..Member::default()
            },
        );
        inner.rebalance(&spec.group);
        drop(inner);
        Ok(Box::new(MemorySession {
            log: self.clone(),
            group: spec.group.clone(),
            member: spec.member.clone(),
            life,
            positions: Vec::new(),
            next: 0,
            batch: Vec::new(),
        }))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        self.lock().append(appends)
    }
}

struct MemorySession {
    log: MemoryLog,
    group: String,
    member: String,
    life: u64,
    positions: Vec<Option<(TopicPartition, u64)>>,
    /// Which partition is polled first, so that none starves.
    next: usize,
    batch: Vec<(usize, u64, Arc<Stored>)>,
}

impl MemorySession {
    fn fenced(&self, inner: &Inner) -> Result<(), Error> {
        if inner.lives.get(&self.member) == Some(&self.life) {
            Ok(())
        } else {
            Err(Error::Fenced {
                member: self.member.clone(),
            })
        }
    }

    fn rebalanced(&self, inner: &mut Inner) -> Result<Option<Polled>, Error> {
        let Some(group) = inner.groups.get(&self.group) else {
            return Ok(None);
        };
        let Some(member) = group.members.get(&self.member) else {
            return Ok(None);
        };
        let revoked: Vec<_> = member.owned.difference(&member.target).cloned().collect();
        if !revoked.is_empty() {
            return Ok(Some(Polled::Revoked(revoked)));
        }
        let taken: BTreeSet<_> = group
            .members
            .values()
            .flat_map(|other| &other.owned)
            .collect();
        let free: Vec<_> = member
            .target
            .iter()
            .filter(|partition| !taken.contains(partition))
            .cloned()
            .collect();
        if free.is_empty() {
            return Ok(None);
        }
        let mut assigned = Vec::with_capacity(free.len());
        for partition in &free {
            assigned.push(Assigned {
                partitions: inner.topics[&*partition.topic].len() as u32,
                committed: group.offsets.get(partition).copied(),
                low: 0,
                high: inner.records(partition)?.len() as u64,
                partition: partition.clone(),
            });
        }
        if let Some(member) = inner
            .groups
            .get_mut(&self.group)
            .and_then(|group| group.members.get_mut(&self.member))
        {
            member.owned.extend(free);
        }
        Ok(Some(Polled::Assigned(assigned)))
    }
}

impl Session for MemorySession {
    fn poll(
        &mut self,
        _wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        let log = self.log.clone();
        let mut inner = log.lock();
        self.fenced(&inner)?;
        if let Some(polled) = self.rebalanced(&mut inner)? {
            return Ok(polled);
        }
        self.batch.clear();
        let count = self.positions.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let Some((partition, position)) = &mut self.positions[index] else {
                continue;
            };
            let records = inner.records(partition)?;
            let room = POLL_RECORDS_MAX - self.batch.len();
            for stored in records.iter().skip(*position as usize).take(room) {
                self.batch.push((index, *position, Arc::clone(stored)));
                *position += 1;
            }
        }
        self.next = self.next.wrapping_add(1);
        drop(inner);
        for (index, offset, stored) in &self.batch {
            each(*index, stored.as_record(*offset));
        }
        Ok(Polled::Records(self.batch.len()))
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        for (index, partition, offset) in partitions {
            if self.positions.len() <= *index {
                self.positions.resize(*index + 1, None);
            }
            self.positions[*index] = Some((partition.clone(), *offset));
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for position in &mut self.positions {
            if position
                .as_ref()
                .is_some_and(|(partition, _)| partitions.contains(partition))
            {
                *position = None;
            }
        }
        let mut inner = self.log.lock();
        let member = inner
            .groups
            .get_mut(&self.group)
            .and_then(|group| group.members.get_mut(&self.member));
        if let Some(member) = member {
            member
                .owned
                .retain(|partition| !partitions.contains(partition));
        }
        Ok(())
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        let inner = self.log.lock();
        let records = inner.records(partition)?;
        Ok(match start {
            Start::Earliest => 0,
            Start::Latest => records.len() as u64,
            Start::At(at_ms) => {
                records.partition_point(|stored| stored.timestamp_ms < at_ms) as u64
            }
        })
    }

    fn at_end(&mut self, index: usize) -> bool {
        self.lag(index) == 0
    }

    fn lag(&mut self, index: usize) -> u64 {
        let Some(Some((partition, position))) = self.positions.get(index) else {
            return 0;
        };
        self.log.high(partition).saturating_sub(*position)
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        let mut inner = self.log.lock();
        self.fenced(&inner)?;
        let group = inner.groups.get(&self.group);
        let member = group.and_then(|group| group.members.get(&self.member));
        let owns = |partition: &TopicPartition| member.is_some_and(|m| m.owned.contains(partition));
        if let Some((partition, _)) = commit.offsets.iter().find(|(p, _)| !owns(p)) {
            return Err(Error::Retriable {
                doing: format!("committing an offset of {partition}"),
                source: "the partition belongs to another member".into(),
            });
        }
        inner.append(commit.appends)?;
        if let Some(group) = inner.groups.get_mut(&self.group) {
            group.offsets.extend(commit.offsets);
        }
        Ok(())
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let inner = self.log.lock();
        let records = inner.records(partition)?;
        let to = to.min(records.len() as u64);
        let read: Vec<Arc<Stored>> = records
            .get(from as usize..to as usize)
            .unwrap_or_default()
            .to_vec();
        drop(inner);
        for (offset, stored) in (from..).zip(read) {
            each(stored.as_record(offset));
        }
        Ok(())
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        let mut inner = self.log.lock();
        if self.fenced(&inner).is_ok() {
            if let Some(group) = inner.groups.get_mut(&self.group) {
                group.members.remove(&self.member);
            }
            inner.rebalance(&self.group);
        }
    }
}
