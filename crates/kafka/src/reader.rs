//! Reads a range of any partition, outside the group: for restoring.
//!
//! It joins no group and commits nothing, so it disturbs nobody. It must never wait for records
//! that do not come: the end is fixed when the reading begins.

use std::collections::HashSet;
use std::time::Duration;

use fenghuo_log::{Error, Record, TopicPartition};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::batch::{BatchConsumer, Taken};
use crate::config::{KafkaConfig, Pace};
use crate::fault::{fault, fault_of, fault_told};
use crate::query;
use crate::session::consume;

/// How long one look into the queue waits.
const LOOK: Duration = Duration::from_millis(50);
/// Looks in a row that may bring nothing before the brokers count as gone: 30 s.
const LOOKS_MAX: u32 = 600;

/// A consumer that reads one partition at a time.
pub(crate) struct Reader {
    records: BatchConsumer,
    used: HashSet<TopicPartition>,
}

impl Reader {
    pub(crate) fn open(config: &KafkaConfig, group: &str) -> Result<Self, Error> {
        Ok(Self {
            records: consume(config, group, Pace::Restore)?,
            used: HashSet::new(),
        })
    }

    /// Whether this reader can read the partition. librdkafka ends a reading in the background,
    /// and a second one of the same partition could be caught in it: that takes a new reader.
    pub(crate) fn is_fresh_for(&self, partition: &TopicPartition) -> bool {
        !self.used.contains(partition)
    }

    /// Hands over what can be seen now of `from..to`.
    pub(crate) fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        // Known partitions are asked for their offsets at once; looking for unknown ones,
        // librdkafka tends to miss the answer and to look again half a second later.
        if query::partitions(self.records.consumer(), &partition.topic)?.is_none() {
            let doing = format!("reading {partition}");
            return Err(fault_of(doing, Code::UnknownTopic));
        }
        let (low, high) = query::range(self.records.consumer(), partition)?;
        let (from, to) = (from.max(low), to.min(high));
        if from >= to {
            return Ok(());
        }
        self.used.insert(partition.clone());
        let doing = || format!("reading {partition} from {from} to {to}");
        if !self.records.forward(partition) {
            return Err(fault_of(doing(), Code::UnknownPartition));
        }
        let assignment = query::list([(partition, query::offset(from))])?;
        let consumer = self.records.consumer();
        consumer
            .assign(&assignment)
            .map_err(|error| fault(doing(), "", error))?;
        self.drain(partition, to, each, &doing)?;
        let consumer = self.records.consumer();
        consumer
            .unassign()
            .map_err(|error| fault(doing(), "", error))
    }

    fn drain(
        &mut self,
        partition: &TopicPartition,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
        doing: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        let mut position = 0;
        let mut looks = 0;
        while position < to {
            let mut failed = None;
            let taken = self
                .records
                .take(LOOK, Duration::ZERO, &mut |origin, taken| {
                    // Leftovers of the partition read before this one.
                    if !origin.is(partition) {
                        return;
                    }
                    match taken {
                        Taken::Record(record) => {
                            position = record.offset + 1;
                            if record.offset < to {
                                each(record);
                            }
                        }
                        // The end can lie past the last record: transactions leave marks.
                        Taken::End(offset) => position = position.max(offset),
                        Taken::Failed(code, reason) => failed = Some((code, reason)),
                    }
                });
            drop(self.records.consumer().poll(Duration::ZERO));
            if let Some((code, reason)) = failed {
                return Err(fault_told(doing(), code, &reason));
            }
            looks = if taken == 0 { looks + 1 } else { 0 };
            if looks == LOOKS_MAX {
                return Err(fault_of(doing(), Code::OperationTimedOut));
            }
        }
        Ok(())
    }
}
