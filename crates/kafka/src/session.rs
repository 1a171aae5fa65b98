//! One member of one group: the implementation of [`fenghuo_log::Session`].
//!
//! It keeps where each partition stands and turns the group's requests into answers of the
//! caller. It must never answer a request by itself while it lives: between the request and the
//! answer lies the caller's last commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fenghuo_log::{
    Assigned, Commit, Error, Polled, Record, Session, SessionSpec, Start, TopicPartition,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use crate::batch::{BatchConsumer, Origin, Source, Taken};
use crate::config::{KafkaConfig, Pace};
use crate::context::{Change, Context};
use crate::fault::{fault, fault_of, fault_told, is_stale, unusable};
use crate::producer::Transactions;
use crate::query::{self, Which};
use crate::reader::Reader;

/// How long records are waited for before the group's requests are looked at again.
const SLICE: Duration = Duration::from_millis(50);
/// How long librdkafka may take to note a position; it asks nobody for it.
const SEEK_WITHIN: Duration = Duration::from_secs(10);

/// How often a commit is tried while the group changes, and how long the news is waited for.
const GENERATION_TRIES: u32 = 20;
const GENERATION_WAIT: Duration = Duration::from_millis(50);

/// A member of a group with its transactional producer.
pub(crate) struct KafkaSession {
    config: Arc<KafkaConfig>,
    group: String,
    // Dropped before the producer: the member leaves its group first.
    records: BatchConsumer,
    transactions: Transactions,
    slots: Slots,
    gather: Duration,
    unanswered: Option<Change>,
    reader: Option<Reader>,
}

/// A consumer of committed records whose partitions flow into a queue of their own.
pub(crate) fn consume(
    config: &KafkaConfig,
    group: &str,
    pace: Pace,
) -> Result<BatchConsumer, Error> {
    let consumer = connect(config, group, pace)?;
    BatchConsumer::new(consumer)
        .ok_or_else(|| fault_of("making a queue", Code::CriticalSystemResource))
}

/// A consumer, not connected yet.
pub(crate) fn connect(
    config: &KafkaConfig,
    group: &str,
    pace: Pace,
) -> Result<BaseConsumer<Context>, Error> {
    let config = config.consumer(group, pace).map_err(unusable)?;
    BaseConsumer::from_config_and_context(&config, Context::default())
        .map_err(|error| fault("making a consumer", "", error))
}

impl KafkaSession {
    pub(crate) fn open(config: &Arc<KafkaConfig>, spec: &SessionSpec) -> Result<Self, Error> {
        let SessionSpec {
            group,
            member,
            topics,
            low_latency,
            ..
        } = spec;
        let pace = if *low_latency {
            Pace::Prompt
        } else {
            Pace::Bulk
        };
        let records = consume(config, group, pace)?;
        // The first question also finds out whether the brokers take us at all.
        for topic in topics {
            if query::partitions(records.consumer(), topic)?.is_none() {
                return Err(fault_of(
                    format!("reading topic {topic}"),
                    Code::UnknownTopic,
                ));
            }
        }
        // A first life under this name is fenced before the group hears of the second.
        let transactions = Transactions::open(config, group, member)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let subscribed = records.consumer().subscribe(&topics);
        subscribed.map_err(|error| fault(format!("joining group {group}"), member, error))?;
        Ok(Self {
            config: Arc::clone(config),
            group: group.clone(),
            records,
            transactions,
            slots: Slots::default(),
            gather: pace.gather(),
            unanswered: None,
            reader: None,
        })
    }

    /// Serves the group and reports its next request, if there is one.
    fn control(&mut self) -> Result<Option<Polled>, Error> {
        self.transactions.serve();
        match self.records.consumer().poll(Duration::ZERO) {
            None => {}
            Some(Ok(_)) => {
                // Its order against the rest is unknown, so begin again from the last commit.
                return Err(fault_of(
                    "a record came beside its queue",
                    Code::Inconsistent,
                ));
            }
            Some(Err(error)) => judge(error)?,
        }
        let change = self.records.consumer().client().context().next_change();
        let Some(change) = change else {
            return Ok(None);
        };
        if change.list().count() == 0 {
            // A change of nothing needs an answer and concerns nobody.
            self.settle()?;
            answer(self.records.consumer(), &change)
                .map_err(|error| fault("answering a rebalance", "", error))?;
            return Ok(None);
        }
        let partitions = query::named(change.list());
        let polled = match change {
            Change::Assign(_) => Polled::Assigned(self.assigned(partitions)?),
            Change::Revoke(_) => Polled::Revoked(partitions),
            Change::Lost(_) => Polled::Lost(partitions),
        };
        self.unanswered = Some(change);
        Ok(Some(polled))
    }

    /// Puts right where librdkafka believes each partition at its end to be.
    ///
    /// Handing out the end of a partition in a batch, librdkafka counts it as a record, and is one
    /// past the end from then on. That matters only when it takes up reading again at its own
    /// position, as it does after every request of the group: it would skip a record, or find
    /// the offset out of range. So before each answer the true position is set.
    fn settle(&self) -> Result<(), Error> {
        let at_end = self.slots.slots.iter().filter(|slot| slot.at_end);
        let list = query::list(at_end.map(|slot| (&slot.partition, query::offset(slot.position))))?;
        if list.count() == 0 {
            return Ok(());
        }
        let doing = "keeping the position over a rebalance";
        let sought = self.records.consumer().seek_partitions(list, SEEK_WITHIN);
        let sought = sought.map_err(|error| fault(doing, "", error))?;
        for one in sought.elements() {
            one.error().map_err(|error| fault(doing, "", error))?;
        }
        Ok(())
    }

    fn assigned(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Assigned>, Error> {
        let consumer = self.records.consumer();
        let committed = query::committed(consumer, &partitions)?;
        let low = query::offsets(consumer, &partitions, Which::Low)?;
        let high = query::offsets(consumer, &partitions, Which::High)?;
        let mut counts: HashMap<Arc<str>, u32> = HashMap::new();
        for partition in &partitions {
            if !counts.contains_key(&partition.topic) {
                let count = query::partitions(consumer, &partition.topic)?.unwrap_or(0);
                counts.insert(Arc::clone(&partition.topic), count);
            }
        }
        let offsets = committed.into_iter().zip(low).zip(high);
        Ok(partitions
            .into_iter()
            .zip(offsets)
            .map(|(partition, ((committed, low), high))| Assigned {
                partitions: counts.get(&partition.topic).copied().unwrap_or(0),
                partition,
                committed,
                low: low.unwrap_or(0),
                high: high.unwrap_or(0),
            })
            .collect())
    }

    /// Takes records for up to `wait`; `None` if nothing came at all.
    fn take(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Option<usize>, Error> {
        let slots = &mut self.slots;
        let mut records = 0;
        let mut failed = None;
        let taken = self.records.take(wait, self.gather, &mut |origin, taken| {
            let Some(slot) = slots.find(origin) else {
                return;
            };
            match taken {
                Taken::Record(record) => {
                    slot.position = record.offset + 1;
                    slot.at_end = false;
                    records += 1;
                    each(slot.index, record);
                }
                Taken::End(offset) => {
                    slot.position = slot.position.max(offset);
                    slot.at_end = true;
                }
                Taken::Failed(code, reason) => {
                    failed = Some((slot.partition.clone(), slot.position, code, reason));
                }
            }
        });
        match failed {
            Some((partition, position, code, reason)) => {
                Err(self.failed(partition, position, code, &reason))
            }
            None => Ok((taken > 0).then_some(records)),
        }
    }

    fn failed(&self, partition: TopicPartition, position: u64, code: Code, reason: &str) -> Error {
        if !matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange) {
            return fault_told(format!("reading {partition} at {position}"), code, reason);
        }
        match query::range(self.records.consumer(), &partition) {
            // It is there: librdkafka asked one past the end that it had handed out, as it does
            // when it connects anew. Nothing is gone; the next session reads from the last commit.
            Ok((low, high)) if (low..=high).contains(&position) => {
                fault_told(format!("reading {partition} at {position}"), code, reason)
            }
            Ok((low, high)) => Error::OutOfRange {
                partition,
                offset: position,
                low,
                high,
            },
            Err(error) => error,
        }
    }
}

impl Session for KafkaSession {
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error> {
        let mut left = wait;
        loop {
            if let Some(polled) = self.control()? {
                return Ok(polled);
            }
            let slice = left.min(SLICE);
            if let Some(records) = self.take(slice, each)? {
                return Ok(Polled::Records(records));
            }
            left -= slice;
            if left.is_zero() {
                return Ok(Polled::Records(0));
            }
        }
    }

    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error> {
        // Restoring is over.
        self.reader = None;
        self.settle()?;
        for (index, partition, from) in partitions {
            if !self.records.forward(partition) {
                return Err(fault_of(
                    format!("reading {partition}"),
                    Code::UnknownPartition,
                ));
            }
            self.slots.add(*index, partition.clone(), *from);
        }
        let list = partitions
            .iter()
            .map(|(_, at, from)| (at, query::offset(*from)));
        let list = query::list(list)?;
        self.unanswered = None;
        let assigned = self.records.consumer().incremental_assign(&list);
        assigned.map_err(|error| fault("taking partitions", "", error))
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.slots.remove(partitions);
        self.settle()?;
        let list = query::list(partitions.iter().map(|at| (at, query::offset(0))))?;
        self.unanswered = None;
        let unassigned = self.records.consumer().incremental_unassign(&list);
        unassigned.map_err(|error| fault("giving back partitions", "", error))
    }

    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error> {
        let consumer = self.records.consumer();
        let ask = |which| {
            let offsets = query::offsets(consumer, std::slice::from_ref(partition), which)?;
            Ok::<_, Error>(offsets.first().copied().flatten())
        };
        let found = match start {
            Start::Earliest => ask(Which::Low)?,
            Start::Latest => ask(Which::High)?,
            // Nothing is that young: only what comes from now on.
            Start::At(at_ms) => match ask(Which::At(at_ms))? {
                Some(offset) => Some(offset),
                None => ask(Which::High)?,
            },
        };
        found.ok_or_else(|| fault_of(format!("finding a start in {partition}"), Code::NoOffset))
    }

    fn at_end(&mut self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.at_end)
    }

    /// Between two ends of the partition this is counted to the high watermark, which is ahead of
    /// the last stable offset by what is in open transactions.
    fn lag(&mut self, index: usize) -> u64 {
        match self.slots.get(index) {
            Some(slot) if !slot.at_end => {
                let high = self
                    .records
                    .high_cached(&slot.partition)
                    .unwrap_or(slot.position);
                high.saturating_sub(slot.position)
            }
            _ => 0,
        }
    }

    fn commit(&mut self, mut commit: Commit) -> Result<(), Error> {
        self.slots.leave_out_unmoved(&mut commit.offsets);
        let consumer = self.records.consumer();
        let mut tried = 1;
        loop {
            let error = match self.transactions.commit(&commit, consumer) {
                Ok(()) => {
                    self.slots.note_committed(&commit.offsets);
                    return Ok(());
                }
                Err(error) => error,
            };
            // The group has gone on to a generation that this member is about to hear of. What it
            // reads is its own until it answers; where it was thrown out it hears of no generation
            // before it has answered for what it lost, and is refused to the last.
            let lost = consumer.client().context().is_lost();
            if tried == GENERATION_TRIES || lost || !is_stale(&error) {
                return Err(error);
            }
            tried += 1;
            match consumer.poll(GENERATION_WAIT) {
                None => {}
                Some(Ok(_)) => {
                    return Err(fault_of(
                        "a record came beside its queue",
                        Code::Inconsistent,
                    ));
                }
                Some(Err(error)) => judge(error)?,
            }
        }
    }

    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error> {
        let reader = match self
            .reader
            .take()
            .filter(|reader| reader.is_fresh_for(partition))
        {
            Some(reader) => reader,
            None => Reader::open(&self.config, &self.group)?,
        };
        self.reader.insert(reader).read(partition, from, to, each)
    }
}

impl Drop for KafkaSession {
    fn drop(&mut self) {
        // Closing the consumer waits for every request of the group to be answered.
        let consumer = self.records.consumer();
        let context = consumer.client().context();
        context.close();
        let open = self.unanswered.take();
        for change in open
            .into_iter()
            .chain(std::iter::from_fn(|| context.next_change()))
        {
            if let Err(error) = answer(consumer, &change) {
                tracing::debug!(%error, "answering a rebalance before leaving");
            }
        }
    }
}

/// Does what the group asks for, whatever was made of it.
fn answer(consumer: &BaseConsumer<Context>, change: &Change) -> KafkaResult<()> {
    match change {
        Change::Assign(list) => consumer.incremental_assign(list),
        Change::Revoke(list) | Change::Lost(list) => consumer.incremental_unassign(list),
    }
}

/// Whether an error of the consumer ends the session. librdkafka connects again by itself, so
/// most are only for the log, where the context put them.
fn judge(error: KafkaError) -> Result<(), Error> {
    let doing = "reading from its group";
    match error {
        KafkaError::PartitionEOF(_) => Ok(()),
        KafkaError::MessageConsumptionFatal(_) => Err(Error::Retriable {
            doing: doing.to_owned(),
            source: Box::new(error),
        }),
        // It worked before, so it may be the broker's trouble: opening again finds out.
        KafkaError::MessageConsumption(Code::Authentication | Code::SSL) => Err(Error::Retriable {
            doing: doing.to_owned(),
            source: Box::new(error),
        }),
        error => match fault(doing, "", error) {
            Error::Retriable { .. } => Ok(()),
            error => Err(error),
        },
    }
}

/// The partitions being read.
#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    /// Where a source is in `slots`, and the last one met: records come in runs.
    known: HashMap<Source, usize>,
    last: Option<(Source, usize)>,
}

struct Slot {
    /// The caller's number for it.
    index: usize,
    partition: TopicPartition,
    /// The next offset.
    position: u64,
    /// What this session committed last.
    committed: Option<u64>,
    at_end: bool,
}

impl Slots {
    fn add(&mut self, index: usize, partition: TopicPartition, position: u64) {
        self.forget_sources();
        self.slots.push(Slot {
            index,
            partition,
            position,
            committed: None,
            at_end: false,
        });
    }

    fn remove(&mut self, partitions: &[TopicPartition]) {
        self.forget_sources();
        self.slots
            .retain(|slot| !partitions.contains(&slot.partition));
    }

    /// Leaves out what the group knows from this session already: each offset is a record of the
    /// broker's. One is always left, because by the offsets of a transaction the broker knows the
    /// member, and refuses it where the group has gone on without it.
    fn leave_out_unmoved(&self, offsets: &mut Vec<(TopicPartition, u64)>) {
        let one = offsets.first().cloned();
        offsets.retain(|(partition, next)| {
            let slot = self.slots.iter().find(|slot| slot.partition == *partition);
            slot.is_none_or(|slot| slot.committed != Some(*next))
        });
        if offsets.is_empty() {
            offsets.extend(one);
        }
    }

    fn note_committed(&mut self, offsets: &[(TopicPartition, u64)]) {
        for (partition, next) in offsets {
            let mut slots = self.slots.iter_mut();
            if let Some(slot) = slots.find(|slot| slot.partition == *partition) {
                slot.committed = Some(*next);
            }
        }
    }

    fn get(&self, index: usize) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.index == index)
    }

    fn find(&mut self, origin: &Origin<'_>) -> Option<&mut Slot> {
        let at = match self.last {
            Some((source, at)) if source == origin.source => at,
            _ => {
                let at = match self.known.get(&origin.source) {
                    Some(at) => *at,
                    None => self
                        .slots
                        .iter()
                        .position(|slot| origin.is(&slot.partition))?,
                };
                self.known.insert(origin.source, at);
                self.last = Some((origin.source, at));
                at
            }
        };
        self.slots.get_mut(at)
    }

    /// A source may name another partition, and a slot may lie elsewhere, from now on.
    fn forget_sources(&mut self) {
        self.known.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_told_to_the_group_once_and_one_always() {
        let of = |partition| TopicPartition::new("t", partition);
        let mut slots = Slots::default();
        for partition in 0..2 {
            slots.add(partition as usize, of(partition), 5);
        }
        let mut commit = |first, second| {
            let mut offsets = vec![(of(0), first), (of(1), second)];
            slots.leave_out_unmoved(&mut offsets);
            slots.note_committed(&offsets);
            offsets
        };
        // Where it stands at the begin, the group may never have heard.
        assert_eq!(commit(5, 5), [(of(0), 5), (of(1), 5)]);
        assert_eq!(commit(5, 7), [(of(1), 7)]);
        assert_eq!(commit(8, 7), [(of(0), 8)]);
        assert_eq!(commit(8, 7), [(of(0), 8)], "the member shows itself by one");
    }
}
