//! Playback: messages through all stages on the in-memory log, in virtual time.
//!
//! Time is what the messages say. It jumps from one message to the next, and everything that was
//! due between them is judged at the time it was due; so the same messages lead to the same
//! readings, alerts and pages, whenever and wherever they are played. Of the log only the alerts
//! are kept; everything else is forgotten as soon as it was read, so that a long history needs no
//! more memory than what is open.

use std::collections::BTreeMap;

use fenghuo_alert::Transition;
use fenghuo_event::Stream;
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Error, Log, SessionSpec, Start, TopicPartition, TopicSpec};

use crate::record::{AlertRecord, topic};
use crate::topology::{Topology, TopologyConfig};

/// After so many messages and commits what was read is forgotten: it takes some megabytes.
const PASSED_MAX: usize = 1_000;

/// All stages on a log of their own.
pub struct Playback {
    log: MemoryLog,
    topology: Topology,
    topics: Vec<(Stream, TopicPartition)>,
    /// Whose records nobody needs once they were read.
    passing: Vec<TopicPartition>,
    /// Commits are at whole multiples of it while messages come.
    step_ms: i64,
    now_ms: i64,
    /// Time of the last message.
    fed_ms: i64,
    /// Messages since what was read was last forgotten, and commits.
    passed: usize,
    /// Messages were appended since the last commit, which is due at this time.
    due_ms: Option<i64>,
    /// Where a message goes that names no stream.
    unknown: TopicPartition,
}

impl Playback {
    /// Opens the stages at `start_ms`, with one partition for each source topic; what is fed is
    /// committed at the next whole multiple of `step_ms`.
    pub fn open(config: &TopologyConfig, start_ms: i64, step_ms: i64) -> Result<Self, Error> {
        let log = MemoryLog::new();
        log.set_time(start_ms);
        let spec = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 1,
            compacted: false,
            retention_ms: None,
        };
        let sources = &config.ingest.topics;
        log.ensure(
            &sources
                .iter()
                .map(|source| spec(&source.name))
                .collect::<Vec<_>>(),
        )?;
        let mut config = config.clone();
        config.ingest.panes_partitions = 1;
        // It has one life and forgets what it has read.
        config.checkpoint_ms = None;
        // What is fed before the first commit is to be read as well.
        config.start = Start::Earliest;
        let topology = Topology::open(&config, &log)?;
        let mut own = config.own_topics(&|_| 1);
        own.retain(|spec| spec.name != topic::ALERTS);
        let passing = own
            .into_iter()
            .map(|spec| TopicPartition::new(spec.name, 0))
            .chain(
                sources
                    .iter()
                    .map(|source| TopicPartition::new(source.name.clone(), 0)),
            )
            .collect();
        let topics: Vec<_> = sources
            .iter()
            .map(|source| (source.stream, TopicPartition::new(source.name.clone(), 0)))
            .collect();
        let first = topics.first().map(|(_, topic)| topic.clone());
        let unknown =
            first.ok_or_else(|| Error::Fatal("no source topic is configured".to_owned()))?;
        Ok(Self {
            log,
            topology,
            topics,
            passing,
            step_ms: step_ms.max(1),
            now_ms: start_ms,
            fed_ms: start_ms,
            passed: 0,
            due_ms: None,
            unknown,
        })
    }

    /// The stages.
    pub fn topology(&mut self) -> &mut Topology {
        &mut self.topology
    }

    /// The log, to read what the stages wrote.
    pub fn log(&self) -> &MemoryLog {
        &self.log
    }

    /// Now, Unix ms.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Appends a message at `at_ms`, or now, whichever is later. What names no stream of the
    /// config goes to the first topic, to be rejected there.
    pub fn feed(
        &mut self,
        at_ms: i64,
        stream: Option<Stream>,
        content_type: Option<&str>,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        let at_ms = at_ms.max(self.now_ms);
        if let Some(due_ms) = self.due_ms.filter(|due_ms| *due_ms < at_ms) {
            self.settle(due_ms)?;
        }
        if at_ms - self.fed_ms > self.step_ms {
            self.pass(at_ms)?;
        }
        self.now_ms = at_ms;
        self.fed_ms = at_ms;
        self.log.set_time(at_ms);
        let topic = self
            .topics
            .iter()
            .find(|(carried, _)| Some(*carried) == stream);
        let to = topic.map_or(&self.unknown, |(_, topic)| topic).clone();
        let mut append = Append::new(to, None, value);
        if let Some(content_type) = content_type {
            append
                .headers
                .push(("content-type", content_type.as_bytes().to_vec()));
        }
        self.log.append(vec![append])?;
        self.passed += 1;
        // A whole multiple, so that it does not matter where else time was looked at.
        let until_due_ms = (-at_ms).rem_euclid(self.step_ms);
        self.due_ms.get_or_insert(at_ms + until_due_ms);
        Ok(())
    }

    /// Commits what was fed, and lets time pass to `at_ms`.
    pub fn pass(&mut self, at_ms: i64) -> Result<(), Error> {
        if let Some(due_ms) = self.due_ms {
            self.settle(due_ms.min(at_ms))?;
        }
        if at_ms > self.now_ms {
            self.settle(at_ms)?;
        }
        Ok(())
    }

    /// The last step of every episode, by its id.
    pub fn episodes(&self) -> Result<Vec<Transition>, Error> {
        let partition = TopicPartition::new(topic::ALERTS, 0);
        let mut session = self.log.open(&SessionSpec {
            group: "playback".to_owned(),
            member: "playback".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })?;
        let mut last = BTreeMap::new();
        let mut broken = None;
        session.read(&partition, 0, u64::MAX, &mut |record| {
            let value = record.value.unwrap_or_default();
            match serde_json::from_slice::<AlertRecord>(value) {
                Ok(AlertRecord { transition, .. }) => {
                    last.insert(transition.episode.clone(), transition);
                }
                Err(error) => broken = Some(format!("record {}: {error}", record.offset)),
            }
        })?;
        match broken {
            Some(why) => Err(Error::Fatal(format!("{partition}: {why}"))),
            None => Ok(last.into_values().collect()),
        }
    }

    fn settle(&mut self, at_ms: i64) -> Result<(), Error> {
        self.due_ms = None;
        self.now_ms = self.now_ms.max(at_ms);
        self.log.set_time(self.now_ms);
        self.topology.settle(self.now_ms)?;
        self.passed += 1;
        if self.passed < PASSED_MAX {
            return Ok(());
        }
        self.passed = 0;
        for partition in &self.passing {
            let high = || self.log.high(partition);
            let before = self.log.committed(partition).unwrap_or_else(high);
            self.log.forget(partition, before);
        }
        Ok(())
    }
}
