//! Questions to the brokers: partitions of a topic, first and last offsets, committed offsets.
//!
//! Each is bounded in time, is asked again while trying can help, and answers with the brokers'
//! own reason when they refuse. It must never create anything.

use std::time::Duration;

use fenghuo_log::{Error, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::context::Context;
use crate::fault::{fault, fault_of, refused};

/// How often a question is asked before it is given up; with the two waits below about 12 s.
const TRIES: u32 = 20;
/// How long one try waits for its answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long the client's own events, among them why brokers refuse it, are served between tries.
const BETWEEN: Duration = Duration::from_millis(100);

/// Asks until there is an answer, a reason to stop, or no try left.
fn ask<T>(
    consumer: &BaseConsumer<Context>,
    doing: &str,
    mut question: impl FnMut() -> KafkaResult<T>,
) -> Result<T, Error> {
    let mut tried = 0;
    loop {
        let error = match question() {
            Ok(answer) => return Ok(answer),
            Err(error) => fault(doing, "", error),
        };
        tried += 1;
        // Errors arrive as events, and the context notes them. No message can come here: records
        // flow into queues of their own.
        drop(consumer.poll(BETWEEN));
        if let Some(refusal) = consumer.client().context().refusal() {
            return Err(refused(doing, &refusal));
        }
        if tried == TRIES || !matches!(error, Error::Retriable { .. }) {
            return Err(error);
        }
    }
}

/// Number of partitions of a topic, or `None` where there is no such topic.
pub(crate) fn partitions(
    consumer: &BaseConsumer<Context>,
    topic: &str,
) -> Result<Option<u32>, Error> {
    let doing = format!("looking up topic {topic}");
    let mut tried = 0;
    loop {
        let metadata = ask(consumer, &doing, || {
            consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)
        })?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(Code::from) {
            None => {
                return Ok(Some(
                    u32::try_from(found.partitions().len()).unwrap_or(u32::MAX),
                ));
            }
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
            // A topic that was just created has no leaders for a moment.
            Some(Code::LeaderNotAvailable) if tried < TRIES => {
                tried += 1;
                drop(consumer.poll(BETWEEN));
            }
            Some(code) => return Err(fault_of(doing, code)),
        }
    }
}

/// A member of a group, and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name under which the brokers know the client.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What the group gave it.
    pub partitions: Vec<TopicPartition>,
}

/// The members of a group.
pub(crate) fn members(consumer: &BaseConsumer<Context>, group: &str) -> Result<Vec<Member>, Error> {
    let doing = format!("asking who is in group {group}");
    let list = ask(consumer, &doing, || {
        consumer.fetch_group_list(Some(group), ANSWER_WITHIN)
    })?;
    let members = list.groups().iter().flat_map(|group| group.members());
    Ok(members
        .map(|member| Member {
            client_id: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
            partitions: member.assignment().and_then(assignment).unwrap_or_default(),
        })
        .collect())
}

/// An assignment as consumers write it: a version, then topics with their partitions.
fn assignment(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        rest = left;
        Some(taken)
    };
    let mut number = |bytes: usize| -> Option<i64> {
        let taken = take(bytes)?.iter();
        Some(taken.fold(0, |number, byte| number << 8 | i64::from(*byte)))
    };
    let _version = number(2)?;
    let topics = number(4)?;
    let mut all = Vec::new();
    for _ in 0..topics {
        let length = usize::try_from(number(2)?).ok()?;
        let name: Vec<u8> = (0..length)
            .map(|_| number(1).map(|byte| byte as u8))
            .collect::<Option<_>>()?;
        let topic: std::sync::Arc<str> = String::from_utf8(name).ok()?.into();
        for _ in 0..number(4)? {
            let partition = u32::try_from(number(4)?).ok()?;
            all.push(TopicPartition::new(
                std::sync::Arc::clone(&topic),
                partition,
            ));
        }
    }
    Some(all)
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// The first one there.
    Low,
    /// The one after the last that a reader of committed records can see.
    High,
    /// The first record at or after this time, Unix ms.
    At(i64),
}

/// One offset of each partition, in the order given; `None` where no record is that young.
pub(crate) fn offsets(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    which: Which,
) -> Result<Vec<Option<u64>>, Error> {
    let at = match which {
        Which::Low => Offset::Beginning,
        Which::High => Offset::End,
        // The brokers take times where they give offsets.
        Which::At(at_ms) => Offset::Offset(at_ms.max(0)),
    };
    let list = list(partitions.iter().map(|partition| (partition, at)))?;
    let doing = "asking for offsets";
    let found = ask(consumer, doing, || {
        consumer.offsets_for_times(list.clone(), 10 * ANSWER_WITHIN)
    })?;
    partitions
        .iter()
        .map(|partition| offset_in(&found, partition, doing))
        .collect()
}

/// What the group committed for each partition, in the order given.
pub(crate) fn committed(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<u64>>, Error> {
    let list = list(
        partitions
            .iter()
            .map(|partition| (partition, Offset::Invalid)),
    )?;
    let doing = "asking for committed offsets";
    let found = ask(consumer, doing, || {
        consumer.committed_offsets(list.clone(), 10 * ANSWER_WITHIN)
    })?;
    partitions
        .iter()
        .map(|partition| offset_in(&found, partition, doing))
        .collect()
}

/// The low and the high of one partition.
pub(crate) fn range(
    consumer: &BaseConsumer<Context>,
    partition: &TopicPartition,
) -> Result<(u64, u64), Error> {
    let partition = std::slice::from_ref(partition);
    let first = |offsets: Vec<Option<u64>>| offsets.first().copied().flatten().unwrap_or(0);
    let low = first(offsets(consumer, partition, Which::Low)?);
    let high = first(offsets(consumer, partition, Which::High)?);
    Ok((low, high))
}

/// librdkafka's list of partitions with offsets.
pub(crate) fn list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(&partition.topic, number(partition)?, offset)
            .map_err(|error| fault(format!("naming {partition} at {offset:?}"), "", error))?;
    }
    Ok(list)
}

/// A partition's number as Kafka has it.
pub(crate) fn number(partition: &TopicPartition) -> Result<i32, Error> {
    i32::try_from(partition.partition)
        .map_err(|_| Error::Fatal(format!("{partition}: no partition has such a number")))
}

/// An offset as Kafka has it.
pub(crate) fn offset(offset: u64) -> Offset {
    // Past the largest offset there is nothing, and the broker will say so.
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// The partitions of librdkafka's list.
pub(crate) fn named(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .filter_map(|one| {
            Some(TopicPartition::new(
                one.topic(),
                u32::try_from(one.partition()).ok()?,
            ))
        })
        .collect()
}

fn offset_in(
    found: &TopicPartitionList,
    partition: &TopicPartition,
    doing: &str,
) -> Result<Option<u64>, Error> {
    let doing = || format!("{doing} of {partition}");
    let Some(one) = found.find_partition(&partition.topic, number(partition)?) else {
        return Ok(None);
    };
    one.error().map_err(|error| fault(doing(), "", error))?;
    match one.offset() {
        Offset::Offset(offset) => Ok(u64::try_from(offset).ok()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_a_broken_one_is_none() {
        let bytes = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x03\0\0\0\x07\0\0\0\0";
        let read = assignment(bytes).unwrap();
        let expected = [3, 7].map(|partition| TopicPartition::new("ab", partition));
        assert_eq!(read, expected);
        assert_eq!(assignment(b""), None);
        assert_eq!(assignment(&bytes[..20]), None);
        assert_eq!(assignment(b"\0\0\x7f\xff\xff\xff"), None);
    }
}
