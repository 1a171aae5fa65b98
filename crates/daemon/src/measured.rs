//! A log that is measured: how long commits take, which partitions this process holds, and how
//! far it is behind in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fenghuo_log::{
    Append, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

use crate::clock::Watch;
use crate::http::Held;

/// The partitions that this process holds, by stage.
#[derive(Clone, Default)]
pub struct Holdings(Arc<Mutex<BTreeMap<(&'static str, TopicPartition), Standing>>>);

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
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Records that a stage has yet to read.
    pub fn behind(&self, stage: &str) -> u64 {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_stage = held.iter().filter(|((of, _), _)| *of == stage);
        let behind = of_stage.map(|(_, standing)| match standing {
            Standing::Restoring => 0,
            Standing::Reading(records) => *records,
        });
        behind.sum()
    }

    fn set(&self, stage: &'static str, partition: &TopicPartition, standing: Standing) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert((stage, partition.clone()), standing);
    }

    fn remove(&self, stage: &'static str, partition: &TopicPartition) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
}

impl Session for Measured {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        let polled = self.session.poll(wait, each)?;
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
