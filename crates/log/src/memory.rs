//! The in-memory log: topics, groups, transactions and fencing in one process.
//!
//! It serves the demo, replays and simulations, and must behave as the others do: records appear
//! whole commits at a time, a second session of a member fences the first, and the members of a
//! group share its partitions. Its time is what [`MemoryLog::set_time`] last said. It keeps every
//! record until [`MemoryLog::forget`] drops it, as retention would, or [`MemoryLog::compact`] does.
//! What can go wrong with it is told by hand: see `faults`.

mod faults;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::groups::{Groups, Place};
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
struct Inner {
    now_ms: i64,
    topics: HashMap<String, Vec<Kept>, foldhash::fast::FixedState>,
    groups: Groups,
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

    /// Lands a commit, if its member still has the right to.
    fn land(&mut self, place: &Place, commit: Commit) -> Result<(), Error> {
        self.groups.may_commit(place, &commit.offsets)?;
        self.check(&commit.appends)?;
        self.note_undo(&place.group, &commit);
        let written: BTreeSet<TopicPartition> =
            commit.appends.iter().map(|one| one.to.clone()).collect();
        self.append(commit.appends);
        self.mark(&written);
        for (of, offset) in commit.offsets {
            self.groups.set_offset(&place.group, of, Some(offset));
        }
        self.commits += 1;
        Ok(())
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
        self.lock().groups.committed_by_all(of)
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
                    inner.groups.add_topic(&spec.name, spec.partitions);
                }
            }
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
        let place = inner.groups.open(spec)?;
        drop(inner);
        Ok(Box::new(MemorySession {
            log: self.clone(),
            place,
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

struct MemorySession {
    log: MemoryLog,
    place: Place,
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
        inner.groups.check(&self.place)?;
        if self.broken {
            return Err(faults::failed("using a session whose commit failed"));
        }
        Ok(())
    }

    /// What its group has to say to it before it reads on.
    fn told(&self, inner: &mut Inner) -> Result<Option<Polled>, Error> {
        let held = self.positions.iter().flatten();
        let turn = inner.groups.turn(&self.place);
        turn.polled(held.map(|(partition, _)| partition), |partition| {
            let kept = inner.kept(&partition)?;
            Ok(Assigned {
                partitions: inner.topics[&*partition.topic].len() as u32,
                committed: inner.groups.offset(&self.place.group, &partition),
                low: kept.low,
                high: kept.high,
                partition,
            })
        })
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
        if let Some(polled) = self.told(&mut inner)? {
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
        if !self.batch.is_empty() {
            self.commits = inner.commits;
        }
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
        inner.groups.release(&self.place, partitions);
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
        self.log.lock().groups.close(&self.place);
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod fault_tests;
