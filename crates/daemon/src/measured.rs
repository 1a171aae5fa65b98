//! A log that is measured: how long commits take, which partitions this process holds, and how
//! far it is behind in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use fenghuo_log::{
    Append, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

use crate::clock::Watch;
use crate::http::Held;

/// The partitions that this process holds, by stage, and how old what is being read is.
#[derive(Clone, Default)]
pub struct Holdings {
    partitions: Arc<Mutex<BTreeMap<(&'static str, TopicPartition), Standing>>>,
    /// By session: when the record that it works on was appended, Unix ms; [`IDLE`] without one.
    at_work: Arc<Mutex<Vec<Weak<AtomicI64>>>>,
}

/// Nothing is being worked on.
const IDLE: i64 = i64::MAX;

/// Where a partition stands.
#[derive(Clone, Copy)]
enum Standing {
    /// What was known of it is being read.
    Restoring,
    /// It is read, and this many records are left.
    Reading(u64),
}

impl Holdings {
    /// All of them, sorted.
    pub fn all(&self) -> Vec<Held> {
        let held = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.iter()
            .map(|((stage, partition), standing)| Held {
                stage,
                topic: partition.topic.to_string(),
                partition: partition.partition,
                behind: match standing {
                    Standing::Restoring => None,
                    Standing::Reading(records) => Some(*records),
                },
            })
            .collect()
    }

    /// How long ago the oldest of the records was appended that stages work on now: what comes after
    /// them waits for longer, however few they are. Zero where everything is read.
    pub fn delay_ms(&self, now_ms: i64) -> i64 {
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.retain(|session| session.strong_count() > 0);
        let at_ms = at_work
            .iter()
            .filter_map(|session| Some(session.upgrade()?.load(Ordering::Relaxed)));
        let oldest_ms = at_ms.min().unwrap_or(IDLE);
        now_ms.saturating_sub(oldest_ms).max(0)
    }

    fn session(&self) -> Arc<AtomicI64> {
        let session = Arc::new(AtomicI64::new(IDLE));
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.push(Arc::downgrade(&session));
        session
    }

    /// Records that a stage has yet to read.
    pub fn behind(&self, stage: &str) -> u64 {
        let held = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_stage = held.iter().filter(|((of, _), _)| *of == stage);
        let behind = of_stage.map(|(_, standing)| match standing {
            Standing::Restoring => 0,
            Standing::Reading(records) => *records,
        });
        behind.sum()
    }

    fn set(&self, stage: &'static str, partition: &TopicPartition, standing: Standing) {
        let mut held = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.insert((stage, partition.clone()), standing);
    }

    fn remove(&self, stage: &'static str, partition: &TopicPartition) {
        let mut held = self
            .partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        held.remove(&(stage, partition.clone()));
    }
}

/// A log, measured.
pub struct MeasuredLog {
    log: Arc<dyn Log>,
    holdings: Holdings,
}

impl MeasuredLog {
    /// Measures a log.
    pub fn new(log: Arc<dyn Log>, holdings: Holdings) -> Self {
        Self { log, holdings }
    }
}

impl Log for MeasuredLog {
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), Error> {
        self.log.ensure(topics)
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, Error> {
        self.log.partitions(topic)
    }

    fn open(&self, spec: &SessionSpec) -> Result<Box<dyn Session>, Error> {
        let stages = ["ingest", "evaluate", "dispatch"];
        let stage = stages
            .into_iter()
            .find(|stage| spec.group.ends_with(stage))
            .unwrap_or("other");
        Ok(Box::new(Measured {
            session: self.log.open(spec)?,
            holdings: self.holdings.clone(),
            stage,
            committed: metrics::histogram!("fenghuo_commit_duration_seconds", "stage" => stage),
            partitions: BTreeMap::new(),
            held: BTreeSet::new(),
            at_work: self.holdings.session(),
        }))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        self.log.append(appends)
    }
}

struct Measured {
    session: Box<dyn Session>,
    holdings: Holdings,
    stage: &'static str,
    committed: metrics::Histogram,
    /// Those being read, by their number.
    partitions: BTreeMap<usize, TopicPartition>,
    held: BTreeSet<TopicPartition>,
    at_work: Arc<AtomicI64>,
}

impl Session for Measured {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        let at_work = &self.at_work;
        let polled = self.session.poll(wait, &mut |index, record| {
            at_work.store(record.timestamp_ms, Ordering::Relaxed);
            each(index, record);
        })?;
        if polled == Polled::Records(0) {
            at_work.store(IDLE, Ordering::Relaxed);
        }
        if let Polled::Assigned(assigned) = &polled {
            for one in assigned {
                self.held.insert(one.partition.clone());
                self.holdings
                    .set(self.stage, &one.partition, Standing::Restoring);
            }
        }
        Ok(polled)
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        for (index, partition, _) in partitions {
            self.partitions.insert(*index, partition.clone());
            self.holdings
                .set(self.stage, partition, Standing::Reading(0));
        }
        self.session.start(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.partitions.retain(|_, held| !partitions.contains(held));
        for partition in partitions {
            self.held.remove(partition);
            self.holdings.remove(self.stage, partition);
        }
        self.session.release(partitions)
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        self.session.resolve(partition, start)
    }

    fn at_end(&mut self, index: usize) -> bool {
        self.session.at_end(index)
    }

    fn lag(&mut self, index: usize) -> u64 {
        let records = self.session.lag(index);
        if let Some(partition) = self.partitions.get(&index) {
            self.holdings
                .set(self.stage, partition, Standing::Reading(records));
        }
        records
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        let watch = Watch::start();
        let result = self.session.commit(commit);
        self.committed.record(watch.elapsed().as_secs_f64());
        result
    }

    fn durable(&mut self, wait: Duration) -> Result<bool, Error> {
        self.session.durable(wait)
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        self.session.read(partition, from, to, each)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        for partition in &self.held {
            self.holdings.remove(self.stage, partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use fenghuo_log::memory::MemoryLog;

    use super::*;

    #[test]
    fn what_is_being_read_is_as_old_as_the_record_that_is_worked_on() {
        let memory = MemoryLog::new();
        memory.set_time(1_000);
        let spec = TopicSpec {
            name: "events".to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        };
        memory.ensure(&[spec]).unwrap();
        let of = TopicPartition::new("events", 0);
        let append = Append::new(of.clone(), None, vec![1]);
        memory.append(vec![append.clone(), append]).unwrap();
        let holdings = Holdings::default();
        let log = MeasuredLog::new(Arc::new(memory), holdings.clone());
        let spec = SessionSpec {
            group: "shop-ingest".to_owned(),
            member: "one".to_owned(),
            topics: vec!["events".to_owned()],
            start: Start::Earliest,
            low_latency: false,
        };
        let mut session = log.open(&spec).unwrap();
        let assigned = session.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
        assert!(matches!(assigned, Polled::Assigned(_)));
        session.start(&[(0, of, 0)]).unwrap();
        assert_eq!(holdings.delay_ms(9_000), 0, "nothing was read");
        let mut during = Vec::new();
        let mut each = |_, _: Record<'_>| during.push(holdings.delay_ms(9_000));
        session.poll(Duration::ZERO, &mut each).unwrap();
        assert_eq!(during, [8_000, 8_000], "it is told while it is worked on");
        session.poll(Duration::ZERO, &mut |_, _| {}).unwrap();
        assert_eq!(holdings.delay_ms(9_000), 0, "all of it was read");
        drop(session);
        assert_eq!(holdings.delay_ms(9_000), 0);
    }
}
