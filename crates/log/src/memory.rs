//! The in-memory log: topics, groups, transactions and fencing in one process.
//!
//! It serves the demo, replays and simulations, and must behave as the others do: records appear
//! whole commits at a time, a second session of a member fences the first, and the members of a
//! group share its partitions. Its time is what [`MemoryLog::set_time`] last said. It keeps every
//! record until [`MemoryLog::forget`] drops it, as retention would, or [`MemoryLog::compact`] does.
//! What can go wrong with it is told by hand: see `faults`.

mod faults;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{
    Append, Assigned, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start,
    TopicPartition, TopicSpec,
};

pub use faults::CommitFault;

use faults::{Faults, Held, Undo};

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

/// The records of one partition, from the first one still there. Their offsets rise, with holes
/// where compaction or the mark of a transaction took one.
#[derive(Default)]
struct Kept {
    compacted: bool,
    low: u64,
    high: u64,
    records: VecDeque<(u64, Arc<Stored>)>,
}

impl Kept {
    /// Where the first record at or after an offset is.
    fn position(&self, offset: u64) -> usize {
        self.records.partition_point(|(at, _)| *at < offset)
    }

    /// The records from an offset on, with their offsets; those that are gone are left out.
    fn from(&self, offset: u64) -> impl Iterator<Item = (u64, &Arc<Stored>)> {
        let records = self.records.range(self.position(offset)..);
        records.map(|(offset, stored)| (*offset, stored))
    }

    fn push(&mut self, stored: Stored) {
        self.records.push_back((self.high, Arc::new(stored)));
        self.high += 1;
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
    topics: BTreeMap<String, Vec<Kept>>,
    groups: HashMap<String, Group>,
    /// The life of each member: a session of an earlier life is fenced.
    lives: HashMap<String, u64>,
    faults: Faults,
    /// How to take back each commit that is not durable, the oldest first.
    undo: VecDeque<Undo>,
    /// Commits so far, with those that are not durable.
    commits: u64,
}

impl Inner {
    fn kept(&self, of: &TopicPartition) -> Result<&Kept, Error> {
        self.topics
            .get(&*of.topic)
            .and_then(|partitions| partitions.get(of.partition as usize))
            .ok_or_else(|| Error::Fatal(format!("there is no topic partition {of}")))
    }

    fn kept_mut(&mut self, of: &TopicPartition) -> Option<&mut Kept> {
        let partitions = self.topics.get_mut(&*of.topic)?;
        partitions.get_mut(of.partition as usize)
    }

    /// All or nothing: to be looked at before the first record is taken.
    fn check(&self, appends: &[Append]) -> Result<(), Error> {
        appends
            .iter()
            .try_for_each(|append| self.kept(&append.to).map(drop))
    }

    fn append(&mut self, appends: Vec<Append>) {
        let timestamp_ms = self.now_ms;
        for Append {
            to,
            key,
            value,
            headers,
        } in appends
        {
            if let Some(kept) = self.kept_mut(&to) {
                kept.push(Stored {
                    timestamp_ms,
                    key,
                    value,
                    headers,
                });
            }
        }
    }

    fn join(&mut self, group: &str, member: &str, topics: BTreeSet<String>) {
        let members = &mut self.groups.entry(group.to_owned()).or_default().members;
        let joined = Member {
            topics,
            ..Member::default()
        };
        members.insert(member.to_owned(), joined);
        self.rebalance(group);
    }

    fn leave(&mut self, group: &str, member: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.members.remove(member);
        }
        self.rebalance(group);
    }

    /// Lands a commit, if its member still has the right to.
    fn land(&mut self, place: &Place, commit: Commit) -> Result<(), Error> {
        place.check(self)?;
        let group = self.groups.get(&place.group);
        let member = group.and_then(|group| group.members.get(&place.member));
        let owns = |partition: &TopicPartition| member.is_some_and(|m| m.owned.contains(partition));
        if let Some((partition, _)) = commit.offsets.iter().find(|(p, _)| !owns(p)) {
            return Err(Error::Retriable {
                doing: format!("committing an offset of {partition}"),
                source: "the partition belongs to another member".into(),
            });
        }
        self.check(&commit.appends)?;
        self.note_undo(&place.group, &commit);
        let written: BTreeSet<TopicPartition> =
            commit.appends.iter().map(|one| one.to.clone()).collect();
        self.append(commit.appends);
        self.mark(&written);
        if let Some(group) = self.groups.get_mut(&place.group) {
            group.offsets.extend(commit.offsets);
        }
        self.commits += 1;
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
        self.lock().kept(of).map_or(0, |kept| kept.high)
    }

    /// The offset before which every group that reads a partition has committed all; `None` where
    /// no group reads it.
    pub fn committed(&self, of: &TopicPartition) -> Option<u64> {
        let inner = self.lock();
        let reads = |group: &&Group| {
            let mut members = group.members.values();
            group.offsets.contains_key(of)
                || members.any(|member| member.topics.contains(&*of.topic))
        };
        let groups = inner.groups.values().filter(reads);
        groups
            .map(|group| group.offsets.get(of).copied().unwrap_or(0))
            .min()
    }

    /// Drops the records before an offset, as retention does. What is left keeps its offsets.
    pub fn forget(&self, of: &TopicPartition, before: u64) {
        let mut inner = self.lock();
        if let Some(kept) = inner.kept_mut(of) {
            let before = before.clamp(kept.low, kept.high);
            kept.records.drain(..kept.position(before));
            kept.low = before;
        }
    }

    /// Empties a partition and lets its offsets begin at 0 again, as deleting a topic and making
    /// it anew does. What groups committed stays.
    pub fn make_anew(&self, of: &TopicPartition) {
        let mut inner = self.lock();
        let partitions = inner.topics.get_mut(&*of.topic);
        if let Some(kept) = partitions.and_then(|all| all.get_mut(of.partition as usize)) {
            *kept = Kept::default();
        }
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
                    let kept = |_| Kept {
                        compacted: spec.compacted,
                        ..Kept::default()
                    };
                    let partitions = (0..spec.partitions).map(kept).collect();
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
        inner.faults.reach("opening a session")?;
        for topic in &spec.topics {
            if !inner.topics.contains_key(topic) {
                return Err(Error::Fatal(format!("there is no topic {topic}")));
            }
        }
        let life = inner.lives.entry(spec.member.clone()).or_default();
        *life += 1;
        let life = *life;
        let topics: BTreeSet<String> = spec.topics.iter().cloned().collect();
        inner.join(&spec.group, &spec.member, topics.clone());
        drop(inner);
        Ok(Box::new(MemorySession {
            log: self.clone(),
            place: Place {
                group: spec.group.clone(),
                member: spec.member.clone(),
                life,
            },
            topics,
            positions: Vec::new(),
            next: 0,
            batch: Vec::new(),
            commits: 0,
            broken: false,
        }))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        let mut inner = self.lock();
        inner.check(&appends)?;
        inner.settle_before(&appends);
        inner.append(appends);
        Ok(())
    }
}

/// Who a session is.
#[derive(Clone)]
struct Place {
    group: String,
    member: String,
    life: u64,
}

impl Place {
    /// Fails where a later life has taken over the name.
    fn check(&self, inner: &Inner) -> Result<(), Error> {
        if inner.lives.get(&self.member) == Some(&self.life) {
            Ok(())
        } else {
            Err(Error::Fenced {
                member: self.member.clone(),
            })
        }
    }
}

struct MemorySession {
    log: MemoryLog,
    place: Place,
    topics: BTreeSet<String>,
    positions: Vec<Option<(TopicPartition, u64)>>,
    /// Which partition is polled first, so that none starves.
    next: usize,
    batch: Vec<(usize, u64, Arc<Stored>)>,
    /// The number of its last commit.
    commits: u64,
    /// A commit went wrong: nothing more is to be had from it.
    broken: bool,
}

impl MemorySession {
    fn usable(&self, inner: &Inner) -> Result<(), Error> {
        self.place.check(inner)?;
        if self.broken {
            return Err(faults::failed("using a session whose commit failed"));
        }
        Ok(())
    }

    /// The group has given it up: it joins anew, and what it read is void.
    fn rejoin(&self, inner: &mut Inner) -> Option<Polled> {
        inner.join(&self.place.group, &self.place.member, self.topics.clone());
        let held = self.positions.iter().flatten();
        let lost: Vec<_> = held.map(|(partition, _)| partition.clone()).collect();
        (!lost.is_empty()).then_some(Polled::Lost(lost))
    }

    fn member_mut<'a>(&self, inner: &'a mut Inner) -> Option<&'a mut Member> {
        let group = inner.groups.get_mut(&self.place.group)?;
        group.members.get_mut(&self.place.member)
    }

    fn rebalanced(&self, inner: &mut Inner) -> Result<Option<Polled>, Error> {
        let Place { group, member, .. } = &self.place;
        let Some(group) = inner.groups.get(group) else {
            return Ok(None);
        };
        let Some(member) = group.members.get(member) else {
            return Ok(self.rejoin(inner));
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
            let kept = inner.kept(partition)?;
            assigned.push(Assigned {
                partitions: inner.topics[&*partition.topic].len() as u32,
                committed: group.offsets.get(partition).copied(),
                low: kept.low,
                high: kept.high,
                partition: partition.clone(),
            });
        }
        if let Some(member) = self.member_mut(inner) {
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
        self.usable(&inner)?;
        if inner.faults.is_away() {
            return Ok(Polled::Records(0));
        }
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
            let kept = inner.kept(partition)?;
            if *position < kept.low {
                return Err(Error::OutOfRange {
                    partition: partition.clone(),
                    offset: *position,
                    low: kept.low,
                    high: kept.high,
                });
            }
            let room = inner
                .faults
                .poll_records_max
                .saturating_sub(self.batch.len());
            let mut left = kept.from(*position);
            for (offset, stored) in left.by_ref().take(room) {
                self.batch.push((index, offset, Arc::clone(stored)));
                *position = offset + 1;
            }
            if left.next().is_none() {
                // Nothing but marks of transactions is left.
                *position = kept.high;
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
        self.usable(&inner)?;
        if let Some(member) = self.member_mut(&mut inner) {
            member
                .owned
                .retain(|partition| !partitions.contains(partition));
        }
        Ok(())
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        let inner = self.log.lock();
        inner.faults.reach("finding a start")?;
        let kept = inner.kept(partition)?;
        Ok(match start {
            Start::Earliest => kept.low,
            Start::Latest => kept.high,
            Start::At(at_ms) => {
                let is_before = |(_, stored): &(u64, Arc<Stored>)| stored.timestamp_ms < at_ms;
                let first = kept.records.partition_point(is_before);
                kept.records.get(first).map_or(kept.high, |(at, _)| *at)
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
        self.usable(&inner)?;
        let fault = inner.faults.next(&self.place.member);
        let landed = match fault {
            Err(error) => Err(error),
            Ok(None) => inner.land(&self.place, commit),
            Ok(Some(CommitFault::Refused)) => Err(faults::failed("sending a commit")),
            Ok(Some(CommitFault::Aborted)) => {
                inner.abort(&commit);
                Err(faults::failed("committing, and it was aborted"))
            }
            Ok(Some(CommitFault::Unanswered)) => {
                let landed = inner.land(&self.place, commit);
                landed.and(Err(faults::failed("awaiting the answer to a commit")))
            }
            Ok(Some(CommitFault::Held)) => {
                let place = self.place.clone();
                inner.faults.hold(Held { place, commit });
                Err(faults::failed("awaiting the answer to a commit"))
            }
        };
        self.broken = landed.is_err();
        self.commits = inner.commits;
        landed
    }

    fn durable(&mut self, _wait: Duration) -> Result<bool, Error> {
        let inner = self.log.lock();
        self.usable(&inner)?;
        Ok(self.commits <= inner.commits - inner.undo.len() as u64)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let inner = self.log.lock();
        self.usable(&inner)?;
        // What is restored may rest on an earlier life's commit that is not durable yet.
        self.commits = inner.commits;
        inner.faults.reach("restoring")?;
        let kept = inner.kept(partition)?;
        let read: Vec<(u64, Arc<Stored>)> = kept
            .from(from)
            .take_while(|(offset, _)| *offset < to)
            .map(|(offset, stored)| (offset, Arc::clone(stored)))
            .collect();
        drop(inner);
        for (offset, stored) in read {
            each(stored.as_record(offset));
        }
        Ok(())
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        let mut inner = self.log.lock();
        if self.place.check(&inner).is_ok() {
            inner.leave(&self.place.group, &self.place.member);
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod fault_tests;
