//! The loop that runs one stage on one session: poll, fold, and commit when it is time.
//!
//! Owns when a commit is made and what happens as partitions come and go. It keeps no thread and
//! reads no clock: whoever owns the thread calls [`Runner::step`] with the time.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::{Append, Assigned, Commit, Error, Polled, Record, Session, Start, TopicPartition};

/// A commit waits this long for the one before it to become durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(1);

/// Where nothing is said of what was read, its offsets alone are committed so often, in ms. Each
/// commit costs a transaction, and offsets alone change nothing: a second life reads those records
/// again and has nothing to say of them either.
const OFFSETS_EVERY_MS: i64 = 1_000;

/// Records to read before the first record of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// Where they are.
    pub partition: TopicPartition,
    /// First offset.
    pub from: u64,
    /// Offset after the last; capped by what can be seen.
    pub to: u64,
}

impl Restore {
    /// A whole partition.
    pub fn all(partition: TopicPartition) -> Self {
        Self {
            partition,
            from: 0,
            to: u64::MAX,
        }
    }
}

/// How far a partition was read since the last flush.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage's index for it.
    pub index: usize,
    /// The partition.
    pub partition: TopicPartition,
    /// How many partitions its topic has.
    pub partitions: u32,
    /// First offset not covered by the last flush.
    pub from: u64,
    /// Next offset to read.
    pub to: u64,
    /// Nothing more can be seen now.
    pub at_end: bool,
    /// Records that can be seen and were not read.
    pub lag: u64,
}

/// Why a stage cannot go on: it met a record that it must neither skip nor misread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A newer build wrote the record.
    Newer(String),
    /// The record is damaged, or none that belongs there.
    Damaged(String),
    /// A former build wrote the record in a form that is read no more.
    Former {
        /// The topic that it is in.
        topic: String,
    },
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Newer(why) => Error::Newer(why),
            Broken::Damaged(why) => Error::Fatal(why),
            Broken::Former { topic } => Error::Former { topic },
        }
    }
}

/// A pure fold over the records of its partitions.
///
/// What it says depends on the records and the times it is given, on nothing else, so that a
/// second life that starts from the same restore says the same.
pub trait Stage {
    /// A partition came, to be read from `from`. Returns what to read first, in this order.
    fn assign(&mut self, index: usize, assigned: &Assigned, from: u64) -> Vec<Restore>;

    /// A record of the `which`-th [`Restore`] of a partition.
    fn restore(&mut self, index: usize, which: usize, record: Record<'_>);

    /// The `which`-th [`Restore`] of a partition was read to its end: what else to read, now that
    /// this is known. It comes last and is numbered on.
    fn restored(&mut self, _index: usize, _which: usize) -> Option<Restore> {
        None
    }

    /// A partition is gone: forget what was kept for it.
    fn revoke(&mut self, index: usize);

    /// The next record of a partition.
    fn apply(&mut self, index: usize, record: Record<'_>);

    /// Whether there is something to say that no record read here led to.
    fn pending(&self) -> bool {
        false
    }

    /// Why the stage cannot go on, once it cannot. It took nothing of the record that it met last;
    /// what came before is committed, and nothing after.
    fn broken(&self) -> Option<&Broken> {
        None
    }

    /// Appends what there is to say about everything applied since the last flush. Where that is
    /// nothing, the offsets may be committed later, together with the next thing said: a second life
    /// then reads these records again, and must have nothing to say of them either.
    fn flush(&mut self, at_ms: i64, progress: &[Progress], appends: &mut Vec<Append>);

    /// What the last flush said is committed and durable: what rests on it may leave the process.
    fn committed(&mut self);
}

/// How often a runner commits.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// After the first thing worth a commit, wait this long for more.
    pub busy_ms: i64,
    /// With nothing worth a commit, flush this often all the same, so that time passes for the
    /// stages behind; `None` = say nothing.
    pub idle_ms: Option<i64>,
    /// Commit as soon as this many records were read.
    pub records_max: usize,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Records applied.
    pub records: usize,
    /// Whether it committed.
    pub committed: bool,
}

struct Slot {
    partition: TopicPartition,
    partitions: u32,
    /// Flushed up to here.
    from: u64,
    /// Read up to here.
    to: u64,
    /// Committed up to here.
    committed: u64,
}

/// Whether offsets of which nothing is said are worth a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offsets {
    /// Yes.
    Now,
    /// Every [`OFFSETS_EVERY_MS`].
    NowAndThen,
}

/// A stage on a session.
pub struct Runner<S> {
    session: Box<dyn Session>,
    stage: S,
    start: Start,
    cadence: Cadence,
    slots: Vec<Option<Slot>>,
    records_unflushed: usize,
    busy_since_ms: Option<i64>,
    flushed_at_ms: Option<i64>,
    committed_at_ms: Option<i64>,
    /// The last commit is not yet durable: nothing more is read until it is, so that what the
    /// stage then lets out of the process is what was committed, and nothing beyond.
    waiting: bool,
}

impl<S: Stage> Runner<S> {
    /// Runs `stage` on `session`; partitions that its group never committed begin at `start`.
    pub fn new(session: Box<dyn Session>, stage: S, start: Start, cadence: Cadence) -> Self {
        Self {
            session,
            stage,
            start,
            cadence,
            slots: Vec::new(),
            records_unflushed: 0,
            busy_since_ms: None,
            flushed_at_ms: None,
            committed_at_ms: None,
            waiting: false,
        }
    }

    /// The stage.
    pub fn stage(&self) -> &S {
        &self.stage
    }

    /// The stage, to hand it what comes from beside the log.
    pub fn stage_mut(&mut self) -> &mut S {
        &mut self.stage
    }

    /// The partitions held now.
    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots.iter().flatten().map(|slot| &slot.partition)
    }

    /// Polls once, waiting at most `wait`, folds what came, and commits if it is time.
    ///
    /// After an error the runner must be dropped: its stage may have folded records that were
    /// not committed. A new session and a new stage begin at the last commit.
    pub fn step(&mut self, now_ms: i64, wait: Duration) -> Result<Step, Error> {
        self.step_by(&mut || now_ms, wait)
    }

    /// The same by a clock, which is read again after the wait: what came in its course is committed
    /// at a time that is not before it, also where the clock was set meanwhile.
    pub fn step_by(
        &mut self,
        now_ms: &mut dyn FnMut() -> i64,
        wait: Duration,
    ) -> Result<Step, Error> {
        let clock = now_ms;
        let now_ms = clock();
        let mut step = Step::default();
        // A clock that stepped back lets nothing wait until it is there again.
        let not_after = |noted: Option<i64>| noted.map(|noted| noted.min(now_ms));
        self.busy_since_ms = not_after(self.busy_since_ms);
        self.flushed_at_ms = not_after(self.flushed_at_ms);
        self.committed_at_ms = not_after(self.committed_at_ms);
        if !self.settle(wait)? {
            return Ok(step);
        }
        let wait = wait.min(self.until_commit(now_ms));
        let (slots, stage) = (&mut self.slots, &mut self.stage);
        let polled = self.session.poll(wait, &mut |index, record| {
            let slot = slots.get_mut(index).and_then(Option::as_mut);
            if let Some(slot) = slot.filter(|_| stage.broken().is_none()) {
                let next = record.offset + 1;
                stage.apply(index, record);
                if stage.broken().is_none() {
                    slot.to = next;
                }
            }
        })?;
        let now_ms = clock();
        match polled {
            Polled::Records(records) => {
                step.records = records;
                self.records_unflushed += records;
            }
            Polled::Assigned(assigned) => self.assigned(&assigned)?,
            Polled::Revoked(partitions) => {
                self.commit(now_ms)?;
                step.committed = true;
                self.forget(&partitions)?;
            }
            Polled::Lost(partitions) => {
                self.forget(&partitions)?;
                // What was read of them is in the same fold as the rest: begin again.
                return Err(Error::Retriable {
                    doing: "partitions were taken away without notice".to_owned(),
                    source: partitions
                        .iter()
                        .map(|p| p.to_string())
                        .collect::<Vec<_>>()
                        .join(", ")
                        .into(),
                });
            }
        }
        if let Some(broken) = self.stage.broken().cloned() {
            self.commit(now_ms)?;
            return Err(broken.into());
        }
        if self.busy_since_ms.is_none() && (self.records_unflushed > 0 || self.stage.pending()) {
            self.busy_since_ms = Some(now_ms);
        }
        if self.is_due(now_ms) {
            step.committed |= self.flush(now_ms, Offsets::NowAndThen)?;
        }
        Ok(step)
    }

    /// Whether the last commit is not yet durable, so that nothing that rests on it was let out.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Whether everything that was read is in the last flush, and that was made as of this time.
    pub fn is_flushed(&self, now_ms: i64) -> bool {
        self.records_unflushed == 0 && self.flushed_at_ms == Some(now_ms)
    }

    /// Lets out what rests on the last commit as soon as that is durable; `false` if it is not.
    fn settle(&mut self, wait: Duration) -> Result<bool, Error> {
        if self.waiting && self.session.durable(wait)? {
            self.waiting = false;
            self.stage.committed();
        }
        Ok(!self.waiting)
    }

    /// Commits what was read, whatever the cadence says; for a drain. `false` where there was
    /// nothing to commit, or the commit before this one is not durable yet.
    pub fn commit(&mut self, now_ms: i64) -> Result<bool, Error> {
        self.flush(now_ms, Offsets::Now)
    }

    fn flush(&mut self, now_ms: i64, offsets: Offsets) -> Result<bool, Error> {
        if !self.settle(DURABLE_WITHIN)? {
            return Ok(false);
        }
        let mut progress = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(slot) = slot {
                progress.push(Progress {
                    index,
                    partition: slot.partition.clone(),
                    partitions: slot.partitions,
                    from: slot.from,
                    to: slot.to,
                    at_end: self.session.at_end(index),
                    lag: self.session.lag(index),
                });
            }
        }
        let mut commit = Commit::default();
        self.stage.flush(now_ms, &progress, &mut commit.appends);
        let is_due = offsets == Offsets::Now || self.offsets_due_ms(now_ms) <= now_ms;
        let worth = !commit.appends.is_empty() || (is_due && self.is_ahead());
        // Those that did not move as well: by its offsets the log tells a member whose partitions
        // have moved on, and what it has to say without having read anything must not land either.
        commit.offsets = progress
            .into_iter()
            .map(|progress| (progress.partition, progress.to))
            .collect();
        if worth {
            self.session.commit(commit)?;
            self.committed_at_ms = Some(now_ms);
        }
        for slot in self.slots.iter_mut().flatten() {
            slot.from = slot.to;
            if worth {
                slot.committed = slot.to;
            }
        }
        self.records_unflushed = 0;
        self.busy_since_ms = None;
        self.flushed_at_ms = Some(now_ms);
        self.waiting = true;
        self.settle(Duration::ZERO)?;
        Ok(worth)
    }

    fn is_due(&self, now_ms: i64) -> bool {
        self.records_unflushed >= self.cadence.records_max || self.due_ms(now_ms) <= now_ms
    }

    fn due_ms(&self, now_ms: i64) -> i64 {
        let busy = self.busy_since_ms.map(|since| since + self.cadence.busy_ms);
        let idle = self
            .cadence
            .idle_ms
            .map(|idle| self.flushed_at_ms.map_or(now_ms, |at| at + idle));
        // What is to be flushed soon takes them along.
        let is_left = busy.is_none() && self.is_ahead();
        let offsets = is_left.then(|| self.offsets_due_ms(now_ms));
        let all = busy.into_iter().chain(idle).chain(offsets);
        all.min().unwrap_or(i64::MAX)
    }

    /// When offsets of which nothing is said are to be committed.
    fn offsets_due_ms(&self, now_ms: i64) -> i64 {
        let committed_at_ms = self.committed_at_ms;
        committed_at_ms.map_or(now_ms, |at| at + OFFSETS_EVERY_MS)
    }

    /// Whether more was read than is committed.
    fn is_ahead(&self) -> bool {
        let mut slots = self.slots.iter().flatten();
        slots.any(|slot| slot.to > slot.committed)
    }

    fn until_commit(&self, now_ms: i64) -> Duration {
        let due_ms = self.due_ms(now_ms).saturating_sub(now_ms).max(0);
        Duration::from_millis(due_ms.unsigned_abs())
    }

    fn assigned(&mut self, assigned: &[Assigned]) -> Result<(), Error> {
        let mut begin = Vec::with_capacity(assigned.len());
        for one in assigned {
            let from = match one.committed {
                // Retention has passed us by, or the topic was deleted and made again: go on with
                // what is there. The stage sees it and says so.
                Some(offset) if offset < one.low || offset > one.high => one.low,
                Some(offset) => offset,
                None => self.session.resolve(&one.partition, self.start)?,
            };
            let free = self.slots.iter().position(Option::is_none);
            let index = free.unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            self.slots[index] = Some(Slot {
                partition: one.partition.clone(),
                partitions: one.partitions,
                from,
                to: from,
                committed: from,
            });
            let mut restores = self.stage.assign(index, one, from);
            let mut which = 0;
            while let Some(Restore {
                partition,
                from,
                to,
            }) = restores.get(which).cloned()
            {
                let stage = &mut self.stage;
                self.session.read(&partition, from, to, &mut |record| {
                    stage.restore(index, which, record);
                })?;
                restores.extend(self.stage.restored(index, which));
                which += 1;
            }
            if let Some(broken) = self.stage.broken() {
                return Err(broken.clone().into());
            }
            begin.push((index, one.partition.clone(), from));
        }
        self.session.start(&begin)
    }

    fn forget(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot
                .as_ref()
                .is_some_and(|slot| partitions.contains(&slot.partition))
            {
                *slot = None;
                self.stage.revoke(index);
            }
        }
        self.session.release(partitions)
    }
}
