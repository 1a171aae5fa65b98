//! Reads one partition from its first record to its end, headers and all: for a person who looks
//! into a topic.
//!
//! It joins no group and commits nothing. It must never be a stage's way to read: what a stage
//! does follows from keys and values alone.

use std::time::Duration;

use fenghuo_log::{Error, TopicPartition, Whole};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Headers as _, Message as _};

use crate::config::{KafkaConfig, Pace};
use crate::context::Context;
use crate::fault::{fault, fault_of};
use crate::query;
use crate::session::connect;

/// How long one look for the next record waits.
const LOOK: Duration = Duration::from_millis(50);
/// Looks in a row that may bring nothing before the brokers count as gone: 30 s.
const LOOKS_MAX: u32 = 600;

/// Where a reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanFrom {
    /// The first record there is.
    First,
    /// The first record at or after this time, Unix ms.
    Time(i64),
    /// This offset, or the first record that is left behind it.
    Offset(u64),
}

/// A partition being read up to the end that it had when the reading began.
pub struct Scan {
    consumer: BaseConsumer<Context>,
    partition: TopicPartition,
    position: u64,
    end: u64,
}

impl Scan {
    /// `None` where there is no such topic.
    pub(crate) fn open(
        config: &KafkaConfig,
        group: &str,
        partition: TopicPartition,
        from: ScanFrom,
    ) -> Result<Option<Self>, Error> {
        let consumer = connect(config, group, Pace::Restore)?;
        if query::partitions(&consumer, &partition.topic)?.is_none() {
            return Ok(None);
        }
        let (low, end) = query::range(&consumer, &partition)?;
        let position = match from {
            ScanFrom::First => low,
            ScanFrom::Offset(offset) => offset.max(low),
            ScanFrom::Time(at_ms) => {
                let at = query::Which::At(at_ms);
                let found = query::offsets(&consumer, std::slice::from_ref(&partition), at)?;
                found.first().copied().flatten().unwrap_or(end).max(low)
            }
        };
        let scan = Self {
            consumer,
            partition,
            position,
            end,
        };
        scan.assign()?;
        Ok(Some(scan))
    }

    fn doing(&self) -> String {
        format!("reading {} up to {}", self.partition, self.end)
    }

    /// Goes on, up to the end that there is now.
    ///
    /// # Errors
    /// When the brokers do not tell it.
    pub fn go_on(&mut self) -> Result<(), Error> {
        (_, self.end) = query::range(&self.consumer, &self.partition)?;
        if self.position < self.end {
            // Taken up anew: an end that was met before and not told yet is none any more.
            self.assign()?;
        }
        Ok(())
    }

    fn assign(&self) -> Result<(), Error> {
        let assignment = query::list([(&self.partition, query::offset(self.position))])?;
        let assigned = self.consumer.assign(&assignment);
        assigned.map_err(|error| fault(self.doing(), "", error))
    }

    /// The next committed record; `None` behind the last.
    ///
    /// # Errors
    /// When the brokers refuse, or say nothing for 30 s.
    pub fn next_record(&mut self) -> Result<Option<Whole>, Error> {
        let mut looks = 0;
        while self.position < self.end {
            match self.consumer.poll(LOOK) {
                None => {
                    looks += 1;
                    if looks == LOOKS_MAX {
                        return Err(fault_of(self.doing(), Code::OperationTimedOut));
                    }
                }
                // The end can lie past the last record: transactions leave marks.
                Some(Err(KafkaError::PartitionEOF(_))) => self.position = self.end,
                Some(Err(error)) => return Err(fault(self.doing(), "", error)),
                Some(Ok(message)) => {
                    let offset = u64::try_from(message.offset()).unwrap_or(0);
                    self.position = offset + 1;
                    if offset >= self.end {
                        break;
                    }
                    let headers = message.headers().map(|headers| {
                        let each = headers.iter().map(|header| {
                            let value = header.value.unwrap_or_default().to_vec();
                            (header.key.to_owned(), value)
                        });
                        each.collect()
                    });
                    return Ok(Some(Whole {
                        offset,
                        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers.unwrap_or_default(),
                    }));
                }
            }
        }
        Ok(None)
    }
}
