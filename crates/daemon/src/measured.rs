//! A log that is measured: how long commits take, and how far readers are behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fenghuo_log::{
    Append, Commit, Error, Log, Polled, Record, Session, SessionSpec, Start, TopicPartition,
    TopicSpec,
};

use crate::clock::Watch;
use crate::http::Lag;

/// How far readers are behind, by stage and partition.
#[derive(Clone, Default)]
pub struct Lags(Arc<Mutex<BTreeMap<(&'static str, TopicPartition), u64>>>);

impl Lags {
    /// All of them, sorted.
    pub fn all(&self) -> Vec<Lag> {
        let lags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lags.iter()
            .map(|((stage, partition), records)| Lag {
                stage,
                topic: partition.topic.to_string(),
                partition: partition.partition,
                records: *records,
            })
            .collect()
    }

    fn set(&self, stage: &'static str, partition: &TopicPartition, records: Option<u64>) {
        let mut lags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (stage, partition.clone());
        match records {
            Some(records) => lags.insert(key, records),
            None => lags.remove(&key),
        };
    }
}

/// A log, measured.
pub struct MeasuredLog {
    log: Box<dyn Log>,
    lags: Lags,
}

impl MeasuredLog {
    /// Measures a log.
    pub fn new(log: impl Log + 'static, lags: Lags) -> Self {
        Self {
            log: Box::new(log),
            lags,
        }
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
            lags: self.lags.clone(),
            stage,
            committed: metrics::histogram!("fenghuo_commit_duration_seconds", "stage" => stage),
            partitions: BTreeMap::new(),
        }))
    }

    fn append(&self, appends: Vec<Append>) -> Result<(), Error> {
        self.log.append(appends)
    }
}

struct Measured {
    session: Box<dyn Session>,
    lags: Lags,
    stage: &'static str,
    committed: metrics::Histogram,
    partitions: BTreeMap<usize, TopicPartition>,
}

impl Session for Measured {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        self.session.poll(wait, each)
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        for (index, partition, _) in partitions {
            self.partitions.insert(*index, partition.clone());
        }
        self.session.start(partitions)
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.partitions.retain(|_, held| !partitions.contains(held));
        for partition in partitions {
            self.lags.set(self.stage, partition, None);
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
            self.lags.set(self.stage, partition, Some(records));
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
        for partition in self.partitions.values() {
            self.lags.set(self.stage, partition, None);
        }
    }
}
