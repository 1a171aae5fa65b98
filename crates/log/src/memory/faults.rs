//! What can go wrong with the in-memory log, told by hand: for simulations and tests.
//!
//! Owns the faults that are armed, the commits that a crash may take back, and compaction. It
//! must never draw a random number: whoever runs it says what happens when.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Inner, MemoryLog};
use crate::groups::Place;
use crate::{Append, Commit, Error, TopicPartition};

/// Records handed over by one poll at most, unless it is told otherwise.
const POLL_RECORDS_MAX: usize = 4096;

/// What goes wrong with a commit. Whatever it is, its session must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It is not sent: nothing lands.
    Refused,
    /// It is sent and aborted: nothing lands, but the offsets of its records are used up.
    Aborted,
    /// All of it lands, and the answer is lost.
    Unanswered,
    /// It is on its way until [`MemoryLog::deliver`], and lands then if its member still has the
    /// right to.
    Held,
}

/// A commit that is on its way.
pub(super) struct Held {
    pub(super) place: Place,
    pub(super) commit: Commit,
}

/// How to take a commit back: where the partitions it wrote ended, and where the group stood.
pub(super) struct Undo {
    highs: BTreeMap<TopicPartition, u64>,
    group: String,
    offsets: Vec<(TopicPartition, Option<u64>)>,
}

/// What is armed.
pub(super) struct Faults {
    pub(super) poll_records_max: usize,
    armed: HashMap<String, CommitFault>,
    held: HashMap<String, Held>,
    away: bool,
    durable_by_hand: bool,
    marks: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            poll_records_max: POLL_RECORDS_MAX,
            armed: HashMap::new(),
            held: HashMap::new(),
            away: false,
            durable_by_hand: false,
            marks: false,
        }
    }
}

impl Faults {
    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    /// Fails while the log is away.
    pub(super) fn reach(&self, doing: &str) -> Result<(), Error> {
        if self.away {
            Err(failed(doing))
        } else {
            Ok(())
        }
    }

    /// What goes wrong with the commit that a member makes now.
    pub(super) fn next(&mut self, member: &str) -> Result<Option<CommitFault>, Error> {
        self.reach("committing")?;
        Ok(self.armed.remove(member))
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.held.insert(held.place.member.clone(), held);
    }
}

/// A fault that a new session may not meet again.
pub(super) fn failed(doing: &str) -> Error {
    Error::Retriable {
        doing: doing.to_owned(),
        source: "a fault that was asked for".into(),
    }
}

impl Inner {
    /// Notes how to take a commit back, where that is wanted.
    pub(super) fn note_undo(&mut self, group: &str, commit: &Commit) {
        if !self.faults.durable_by_hand {
            return;
        }
        let mut highs = BTreeMap::new();
        for append in &commit.appends {
            if let Ok(kept) = self.kept(&append.to) {
                highs.insert(append.to.clone(), kept.high);
            }
        }
        let before = |of| self.groups.offset(group, of);
        let offsets = commit.offsets.iter();
        let offsets = offsets.map(|(of, _)| (of.clone(), before(of))).collect();
        self.undo.push_back(Undo {
            highs,
            group: group.to_owned(),
            offsets,
        });
    }

    /// What is appended beside commits is durable, and then so is what lies before it in its
    /// partition, with every commit before that.
    pub(super) fn settle_before(&mut self, appends: &[Append]) {
        let lies_before = |undo: &Undo| {
            appends
                .iter()
                .any(|append| undo.highs.contains_key(&append.to))
        };
        if let Some(last) = self.undo.iter().rposition(lies_before) {
            self.undo.drain(..=last);
        }
    }

    /// Takes an offset in each partition that a transaction wrote, where that is wanted.
    pub(super) fn mark(&mut self, written: &BTreeSet<TopicPartition>) {
        for of in written.iter().filter(|_| self.faults.marks) {
            let partitions = self.topics.get_mut(&*of.topic);
            if let Some(kept) = partitions.and_then(|all| all.get_mut(of.partition as usize)) {
                kept.high += 1;
            }
        }
    }

    /// Uses up the offsets of a commit that was aborted.
    pub(super) fn abort(&mut self, commit: &Commit) {
        for append in &commit.appends {
            if let Some(kept) = self.kept_mut(&append.to) {
                kept.high += 1;
            }
        }
        let written = commit.appends.iter().map(|one| one.to.clone()).collect();
        self.mark(&written);
    }

    fn take_back(&mut self, undo: Undo) {
        for (of, high) in undo.highs {
            if let Some(kept) = self.kept_mut(&of) {
                let left = kept.position(high);
                kept.records.truncate(left);
                kept.high = high;
            }
        }
        for (of, offset) in undo.offsets {
            self.groups.set_offset(&undo.group, of, offset);
        }
    }
}

impl MemoryLog {
    /// Lets the next commit of a member go wrong.
    pub fn fail_commit(&self, member: &str, fault: CommitFault) {
        self.lock().faults.armed.insert(member.to_owned(), fault);
    }

    /// Lets the commit that a member has under way arrive. `None` if there is none.
    pub fn deliver(&self, member: &str) -> Option<Result<(), Error>> {
        let mut inner = self.lock();
        let held = inner.faults.held.remove(member)?;
        Some(inner.land(&held.place, held.commit))
    }

    /// Whether a commit of a member is on its way.
    pub fn is_held(&self, member: &str) -> bool {
        self.lock().faults.held.contains_key(member)
    }

    /// Nothing goes wrong with the commits of a member that are to come.
    pub fn heal(&self, member: &str) {
        self.lock().faults.armed.remove(member);
    }

    /// The process of a member is gone without a word. Its session can do nothing more; its group
    /// keeps its place until [`MemoryLog::expel`], or until it is opened again.
    pub fn sever(&self, member: &str) {
        let mut inner = self.lock();
        inner.groups.fence(member);
        inner.faults.armed.remove(member);
        inner.faults.held.remove(member);
    }

    /// The groups have waited long enough for a member that says nothing: its partitions go to
    /// others. If it lives, it learns of it at its next poll, and joins anew.
    pub fn expel(&self, member: &str) {
        self.lock().groups.expel(member);
    }

    /// While the log is away, nothing comes from it and every call but a poll fails.
    pub fn set_away(&self, away: bool) {
        self.lock().faults.away = away;
    }

    /// Limits what one poll hands over; `None` is the usual limit.
    pub fn limit_polls(&self, records_max: Option<usize>) {
        self.lock().faults.poll_records_max = records_max.unwrap_or(POLL_RECORDS_MAX);
    }

    /// Each commit takes one offset more in every partition that it writes, as the marks of
    /// Kafka's transactions do.
    pub fn mark_transactions(&self) {
        self.lock().faults.marks = true;
    }

    /// From now on a commit is durable only when [`MemoryLog::sync`] is called.
    pub fn hold_durability(&self) {
        self.lock().faults.durable_by_hand = true;
    }

    /// Makes every commit so far durable.
    pub fn sync(&self) {
        self.lock().undo.clear();
    }

    /// Commits that are not durable.
    pub fn unsynced(&self) -> usize {
        self.lock().undo.len()
    }

    /// The machine stops: every session ends, and of the commits that are not durable only the
    /// first `kept` are left. What was appended beside commits stays.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.lock();
        while inner.undo.len() > kept {
            if let Some(undo) = inner.undo.pop_back() {
                inner.take_back(undo);
            }
        }
        inner.undo.clear();
        inner.faults.armed.clear();
        inner.faults.held.clear();
        inner.groups.end_all();
    }

    /// Drops, of a compacted topic, records that a later durable one of their key supersedes, and
    /// tombstones, but for those that `keeps` wants to see a while longer. The others keep their
    /// offsets.
    pub fn compact(&self, of: &TopicPartition, keeps: &mut dyn FnMut(u64) -> bool) {
        let mut inner = self.lock();
        let unsynced = inner
            .undo
            .iter()
            .find_map(|undo| undo.highs.get(of).copied());
        let Some(kept) = inner.kept_mut(of).filter(|kept| kept.compacted) else {
            return;
        };
        let durable = unsynced.unwrap_or(kept.high);
        let mut last: HashMap<Option<Vec<u8>>, u64> = HashMap::new();
        for (offset, stored) in kept.records.iter().filter(|(at, _)| *at < durable) {
            last.insert(stored.key.clone(), *offset);
        }
        kept.records.retain(|(offset, stored)| {
            let is_last = last.get(&stored.key).is_none_or(|last| last == offset);
            *offset >= durable || is_last || keeps(*offset)
        });
        // A tombstone goes last: without it, what it deletes would be there again.
        let mut records_of: HashMap<Option<Vec<u8>>, usize> = HashMap::new();
        for (_, stored) in &kept.records {
            *records_of.entry(stored.key.clone()).or_default() += 1;
        }
        kept.records.retain(|(offset, stored)| {
            let is_alone = records_of.get(&stored.key) == Some(&1);
            stored.value.is_some() || *offset >= durable || !is_alone || keeps(*offset)
        });
    }

    /// Leaves a hole up to an offset, as if what lay there was aborted.
    pub fn skip_to(&self, of: &TopicPartition, offset: u64) {
        if let Some(kept) = self.lock().kept_mut(of) {
            kept.high = kept.high.max(offset);
        }
    }

    /// A header of a record, by its name.
    pub fn header(&self, of: &TopicPartition, offset: u64, name: &str) -> Option<Vec<u8>> {
        let inner = self.lock();
        let (at, stored) = inner.kept(of).ok()?.from(offset).next()?;
        let mut headers = stored.headers.iter().filter(|_| at == offset);
        let header = headers.find(|(found, _)| *found == name)?;
        Some(header.1.clone())
    }

    /// Where a group stands.
    pub fn offsets(&self, group: &str) -> BTreeMap<TopicPartition, u64> {
        self.lock().groups.offsets(group)
    }
}
