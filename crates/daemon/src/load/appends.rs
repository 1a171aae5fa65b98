//! What came from a file, as records: events for the shop's topics, and dead letters.
//!
//! Owns the topic, the partition and the headers of each. It must never change an event.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::bail;
use fenghuo_engine::record::topic;
use fenghuo_event::Stream;
use fenghuo_intake::{Message, Rejected};
use fenghuo_log::{Append, Log, TopicSpec};

use crate::config::Config;
use crate::intake;

/// Makes records, and the topics that they need.
pub struct Appends<'a> {
    log: &'a dyn Log,
    config: &'a Config,
    /// Topics that were met, and their numbers of partitions.
    partitions: BTreeMap<Arc<str>, u32>,
    has_letters: bool,
}

impl<'a> Appends<'a> {
    /// For the topics of a config.
    pub fn new(log: &'a dyn Log, config: &'a Config) -> Self {
        Self {
            log,
            config,
            partitions: BTreeMap::new(),
            has_letters: false,
        }
    }

    /// The record of an event, in the partition that the shop's producers would choose.
    pub fn event(&mut self, message: Message) -> anyhow::Result<Append> {
        let origin = &message.origin;
        let Some(topic) = self.config.topic_of(message.stream) else {
            bail!(
                "{origin}: a {} event, but topics.streams leaves that stream out",
                message.stream
            );
        };
        let partitions = self.partitions_of(message.stream, topic)?;
        Ok(intake::event(message, topic, partitions))
    }

    /// The number of a topic's partitions; a topic that is missing is made, where that is allowed.
    fn partitions_of(&mut self, stream: Stream, topic: &Arc<str>) -> anyhow::Result<u32> {
        if let Some(partitions) = self.partitions.get(topic) {
            return Ok(*partitions);
        }
        let partitions = match self.log.partitions(topic)? {
            Some(partitions) => partitions,
            None if !self.config.topics.create => {
                bail!("there is no topic {topic}, and topics.create is false");
            }
            None => {
                let topics = &self.config.topics;
                self.log.ensure(&[TopicSpec {
                    name: topic.to_string(),
                    partitions: topics.source_partitions,
                    compacted: stream.is_compacted(),
                    retention_ms: None,
                }])?;
                topics.source_partitions
            }
        };
        self.partitions.insert(Arc::clone(topic), partitions);
        Ok(partitions)
    }

    /// The dead letter of a line or row, with its file and line.
    pub fn dead_letter(&mut self, rejected: Rejected) -> anyhow::Result<Append> {
        if !std::mem::replace(&mut self.has_letters, true) {
            self.log.ensure(&[TopicSpec {
                name: topic::DEAD_LETTER.to_owned(),
                partitions: 1,
                compacted: false,
                retention_ms: None,
            }])?;
        }
        Ok(intake::dead_letter(rejected))
    }
}
