//! The log as a trait: partitioned topics of byte records, read in order, appended to in
//! transactions that carry the offsets read.
//!
//! This crate owns the contract between a stage and whatever keeps its topics: [`Log`] and
//! [`Session`] (Kafka, memory, one folder), [`Stage`] (a pure fold), and [`Runner`] (the loop that
//! joins the two). It knows bytes only. It must never read a clock, start a thread or look inside
//! a record: time comes in as an argument, in milliseconds since the Unix epoch.

#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod groups;
pub mod memory;
mod runner;

use std::sync::Arc;
use std::time::Duration;

pub use runner::{Broken, Cadence, Progress, Restore, Runner, Stage, Step};

/// One partition of one topic. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's full name, with the prefix of the installation.
    pub topic: Arc<str>,
    /// Counted from 0.
    pub partition: u32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record as read: it borrows from the log's buffer and is gone when the callback returns.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Position in its partition.
    pub offset: u64,
    /// When the log took the record (append time where the log states it), Unix ms.
    pub timestamp_ms: i64,
    /// The key, where the producer gave one.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone (compacted topics) and no event.
    pub value: Option<&'a [u8]>,
    /// The `content-type` header, where there is one.
    pub content_type: Option<&'a [u8]>,
}

/// A record with all that was said of it: for whoever looks into a topic or copies it. What a
/// stage does follows from a [`Record`] alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Position in its partition.
    pub offset: u64,
    /// When the log took it, Unix ms.
    pub timestamp_ms: i64,
    /// The key, where there is one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, name and value, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where it goes.
    pub to: TopicPartition,
    /// The key, by which a compacted topic keeps the last record.
    pub key: Option<Vec<u8>>,
    /// The value; `None` deletes the key on a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Headers, name and value, in order.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl Append {
    /// A record with a key and a value and no headers.
    pub fn new(to: TopicPartition, key: Option<Vec<u8>>, value: Vec<u8>) -> Self {
        Self {
            to,
            key,
            value: Some(value),
            headers: Vec::new(),
        }
    }
}

/// Everything that one transaction carries: it lands whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Records, appended in this order within each partition.
    pub appends: Vec<Append>,
    /// For each input partition the next offset to read.
    pub offsets: Vec<(TopicPartition, u64)>,
}

/// A topic as an installation wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Full name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Keep the last record of each key instead of deleting by age.
    pub compacted: bool,
    /// How long records are kept, in ms; `None` = for ever. Ignored by compacted topics.
    pub retention_ms: Option<i64>,
}

/// A partition handed to a session by its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// How many partitions its topic has.
    pub partitions: u32,
    /// The next offset to read that the group committed, if it ever did.
    pub committed: Option<u64>,
    /// The first offset still there.
    pub low: u64,
    /// The offset after the last one that a reader can see now.
    pub high: u64,
}

/// Where a reader begins in a partition that its group never committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The first record still there.
    Earliest,
    /// Only what comes from now on.
    Latest,
    /// The first record at or after this time, Unix ms.
    At(i64),
}

/// What a poll brought beside records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    /// Records were handed over, or nothing was there within the wait.
    Records(usize),
    /// The group gave partitions; nothing comes from them before [`Session::start`].
    Assigned(Vec<Assigned>),
    /// The group takes partitions back: commit what was read of them, then call
    /// [`Session::release`]. Nothing more comes from them.
    Revoked(Vec<TopicPartition>),
    /// Partitions were lost: what was read of them since the last commit is void.
    Lost(Vec<TopicPartition>),
}

/// What a session is for.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Consumer group; its members share the partitions of `topics`.
    pub group: String,
    /// The member's stable name: the transactional id, by which a second life fences the first.
    pub member: String,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Start for partitions without a commit.
    pub start: Start,
    /// Small polls at once (a page waits for this hop) rather than large ones.
    pub low_latency: bool,
}

/// One member of one group: reads its partitions and appends in transactions.
///
/// Records of one partition come in offset order; only committed ones are seen.
pub trait Session: Send {
    /// Waits up to `wait` for something to happen and hands each record to `each` with the
    /// index of its partition (see [`Session::start`]). Returns early when there was anything.
    fn poll(
        &mut self,
        wait: Duration,
        each: &mut dyn FnMut(usize, Record<'_>),
    ) -> Result<Polled, Error>;

    /// Begins to read partitions just assigned, each at an offset. The number given with each is
    /// the index under which [`Session::poll`] will name it.
    fn start(&mut self, partitions: &[(usize, TopicPartition, u64)]) -> Result<(), Error>;

    /// Gives back partitions that [`Polled::Revoked`] or [`Polled::Lost`] named.
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), Error>;

    /// Resolves where a partition without a commit begins.
    fn resolve(&mut self, partition: &TopicPartition, start: Start) -> Result<u64, Error>;

    /// Whether every record of a started partition that can be seen now has been handed over.
    fn at_end(&mut self, index: usize) -> bool;

    /// Records between the position and the last stable offset of a started partition.
    fn lag(&mut self, index: usize) -> u64;

    /// Commits in one transaction. After an error, nothing or (outcome unknown) all of it landed;
    /// the session must be dropped and opened again under the same member name, which settles it.
    fn commit(&mut self, commit: Commit) -> Result<(), Error>;

    /// Waits up to `wait` until the last commit, and all that was [polled](Self::poll) or
    /// [read](Self::read), is durable, that is, no crash can take it back.
    /// Where a commit is durable when it returns, as on Kafka, there is nothing to wait for.
    fn durable(&mut self, wait: Duration) -> Result<bool, Error> {
        let _ = wait;
        Ok(true)
    }

    /// Reads `from..to` of any partition in order, outside the group, committed records only;
    /// `to` is capped by what can be seen when the call begins. For restoring.
    fn read(
        &mut self,
        partition: &TopicPartition,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Record<'_>),
    ) -> Result<(), Error>;
}

/// A place that keeps topics.
pub trait Log: Send + Sync {
    /// Creates topics that are missing. A topic that exists with another number of partitions is
    /// an error.
    fn ensure(&self, topics: &[TopicSpec]) -> Result<(), Error>;

    /// Number of partitions of a topic, or `None` where it does not exist.
    fn partitions(&self, topic: &str) -> Result<Option<u32>, Error>;

    /// Opens a member of a group.
    fn open(&self, spec: &SessionSpec) -> Result<Box<dyn Session>, Error>;

    /// Appends records without reading any (a loader); durable when it returns.
    fn append(&self, appends: Vec<Append>) -> Result<(), Error>;
}

/// Why the log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another session took over this member's name: this one must end.
    #[error("fenced: another session took over {member}")]
    Fenced {
        /// The member's name.
        member: String,
    },
    /// Worth another try with a new session.
    #[error("{doing}")]
    Retriable {
        /// What was being done, for a person.
        doing: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A newer build wrote a record that this one must neither skip nor misread: it has to give
    /// way to the newer one.
    #[error("{0}")]
    Newer(String),
    /// A former build wrote the records of a topic in a form that this one does not read.
    #[error(
        "topic {topic} holds records in the form of a former build, which this build does not read; \
         go on with that build, or begin anew with other topics"
    )]
    Former {
        /// The topic.
        topic: String,
    },
    /// Will not get better by itself: wrong credentials, missing topic, missing right.
    #[error("{0}")]
    Fatal(String),
    /// A topic does not have the number of partitions that it must have.
    #[error(
        "topic {topic} has {found} partitions where {expected} are expected; a changed number of partitions needs a migration"
    )]
    PartitionCount {
        /// The topic.
        topic: String,
        /// What the log has.
        found: u32,
        /// What was asked for.
        expected: u32,
    },
    /// An offset that retention has deleted, or that never was.
    #[error("offset {offset} of {partition} is out of range {low}..{high}")]
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// What was asked for.
        offset: u64,
        /// First offset there.
        low: u64,
        /// Offset after the last.
        high: u64,
    },
}
