//! `fenghuo dead-letter replay`: what may be re-submitted, and the memory of what was.
//!
//! A letter's bytes go back in the transaction that also notes the letter in
//! `fenghuo.dead-letter.replayed`, by its offset and its time: either both are there or neither. A
//! second replay at the same time fences the first, since both have one transactional id. It must
//! never re-submit what levels have already, a message that is no longer whole, or a row of a CSV
//! file, of which a letter holds what may be shown alone.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use fenghuo_engine::record::topic;
use fenghuo_engine::{Ingest, IngestConfig};
use fenghuo_event::Encoding;
use fenghuo_log::{
    Append, Commit, Log, Record, Session, SessionSpec, Start, TopicPartition, TopicSpec,
};

use super::letter::{self, Letter, Origin};
use crate::cli;
use crate::clock;
use crate::config::Config;
use crate::exit::Exit;
use crate::identity::Identity;
use crate::load::partition_for;
use crate::topics::Topics;

/// Letters or bytes after which a transaction is committed.
const BATCH_LETTERS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long one look waits for a commit to be durable.
const DURABLE_WITHIN: Duration = Duration::from_secs(1);

/// Letters of each fate that are shown; the others are counted.
const SHOWN_MAX: u64 = 20;

/// The reason of events that levels and totals took.
const LATE: &str = "late";

/// Which letters were re-submitted. It holds as many as the topic of dead letters did.
#[derive(Debug, Default)]
pub struct Replayed(HashSet<(u64, i64)>);

impl Replayed {
    /// Reads what was noted.
    pub fn read(topics: &Topics) -> anyhow::Result<Self> {
        let mut replayed = Self::default();
        let partition = TopicPartition::new(topic::REPLAYED, 0);
        topics.scan(&partition, None, &mut |record| {
            replayed.note(record.key.as_deref().unwrap_or_default());
            Ok(())
        })?;
        Ok(replayed)
    }

    pub(super) fn note(&mut self, key: &[u8]) {
        self.0.extend(Self::parse(key));
    }

    /// The offset and the time of the letter that a note is about.
    pub fn parse(key: &[u8]) -> Option<(u64, i64)> {
        let (offset, at_ms) = std::str::from_utf8(key).ok()?.split_once('@')?;
        Some((offset.parse().ok()?, at_ms.parse().ok()?))
    }

    /// Whether this letter was. A topic that was made anew counts its offsets from 0 again: the
    /// time tells the letters apart.
    pub fn has(&self, letter: &Letter) -> bool {
        self.0.contains(&(letter.offset, letter.at_ms))
    }

    /// The key of the note about a letter.
    pub fn key(offset: u64, at_ms: i64) -> Vec<u8> {
        format!("{offset}@{at_ms}").into_bytes()
    }
}

/// What becomes of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It would be taken now, as this record.
    Submit(Append),
    /// It was re-submitted before.
    Replayed,
    /// Totals and levels have it.
    Late,
    /// It was a row of a CSV file, and of those no letter holds all.
    Row,
    /// It is not whole.
    Cut,
    /// This config does not read the topic that it belongs to.
    NoTopic(String),
    /// It would be rejected again.
    StillBad(&'static str, String),
}

impl Fate {
    const fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "re-submitted",
            Self::Replayed => "re-submitted before",
            Self::Late => "late: totals and levels have them",
            Self::Row => {
                "rows of CSV files: mend the file or its mapping, and let it be read again"
            }
            Self::Cut => "cut: the message or its key is no longer whole",
            Self::NoTopic(_) => "of a topic that the config does not read",
            Self::StillBad(..) => "still bad",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit(append) => write!(f, "to {}", append.to),
            Self::NoTopic(topic) => write!(f, "the config does not read {}", letter::shown(topic)),
            Self::StillBad(reason, detail) => write!(f, "{reason}: {}", letter::shown(detail)),
            other => f.write_str(other.name()),
        }
    }
}

/// Judges letters by this build and this config.
pub struct Judge<'a> {
    pub config: &'a IngestConfig,
    pub replayed: &'a Replayed,
    /// Partitions of each source topic that there is.
    pub partitions: &'a BTreeMap<String, u32>,
    pub now_ms: i64,
}

impl Judge<'_> {
    /// What becomes of `letter`.
    pub fn fate(&self, letter: &Letter) -> Fate {
        if self.replayed.has(letter) {
            return Fate::Replayed;
        }
        if letter.reason == LATE {
            return Fate::Late;
        }
        if letter.is_row() {
            return Fate::Row;
        }
        if letter.is_cut() {
            return Fate::Cut;
        }
        let content_type = match (&letter.content_type, &letter.origin) {
            // What is loaded is JSON, line by line; what a mapping made of rows, or came in one body
            // with others, may be protobuf, and begins with its meta.
            (None, Origin::File { .. }) => {
                let encoding = match letter.value.first() {
                    Some(b'\n') => Encoding::guess(&letter.value),
                    _ => Encoding::Json,
                };
                Some(encoding.content_type().as_bytes())
            }
            (content_type, _) => content_type.as_deref(),
        };
        let (topic, key) = match &letter.origin {
            Origin::Record { topic, .. } => (topic.clone(), letter.key.clone()),
            // A line of a file goes where it would have been loaded to.
            Origin::File { .. } | Origin::Unknown => {
                let peeked = fenghuo_event::peek(&letter.value, content_type);
                let stream = peeked.as_ref().and_then(|peeked| peeked.stream);
                let found = self
                    .config
                    .topics
                    .iter()
                    .find(|one| Some(one.stream) == stream);
                let name = found.map_or_else(String::new, |source| source.name.to_string());
                let key = peeked.and_then(|peeked| peeked.key).map(String::into_bytes);
                (name, key)
            }
        };
        let source = self.config.topics.iter().find(|one| *one.name == *topic);
        let (Some(source), Some(partitions)) = (source, self.partitions.get(&topic)) else {
            return match fenghuo_event::decode(&letter.value, content_type) {
                Err(rejected) => Fate::StillBad(rejected.reason.as_str(), rejected.detail),
                Ok(event) if topic.is_empty() => Fate::NoTopic(event.stream().topic().to_owned()),
                Ok(_) => Fate::NoTopic(topic),
            };
        };
        let record = Record {
            offset: 0,
            timestamp_ms: self.now_ms,
            key: key.as_deref(),
            value: Some(&letter.value),
            content_type,
        };
        if let Err((reason, detail)) = Ingest::examine(self.config, source, &record) {
            return Fate::StillBad(reason, detail);
        }
        let partition = match letter.origin {
            Origin::Record { partition, .. } if partition < *partitions => partition,
            _ => partition_for(key.as_deref().unwrap_or_default(), *partitions),
        };
        let headers = content_type.map(|value| ("content-type", value.to_vec()));
        Fate::Submit(Append {
            to: TopicPartition::new(source.name.clone(), partition),
            key,
            value: Some(letter.value.clone()),
            headers: headers.into_iter().collect(),
        })
    }
}

/// Letters that go back together.
#[derive(Default)]
pub struct Batch {
    commit: Commit,
    bytes: usize,
}

impl Batch {
    /// Puts in what a letter goes back as, and the note of it.
    pub fn add(&mut self, letter: &Letter, append: Append) {
        self.bytes += letter.value.len();
        self.commit.appends.push(append);
        let note = TopicPartition::new(topic::REPLAYED, 0);
        let key = Replayed::key(letter.offset, letter.at_ms);
        let note = Append::new(note, Some(key), Vec::new());
        self.commit.appends.push(note);
    }

    fn is_full(&self) -> bool {
        self.commit.appends.len() >= 2 * BATCH_LETTERS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// Re-submits and notes, in one transaction, and is empty then.
    pub fn submit(&mut self, session: &mut dyn Session) -> Result<(), fenghuo_log::Error> {
        let Self { commit, .. } = std::mem::take(self);
        match commit.appends.is_empty() {
            true => Ok(()),
            false => {
                session.commit(commit)?;
                while !session.durable(DURABLE_WITHIN)? {}
                Ok(())
            }
        }
    }
}

/// What was done, for the last lines.
#[derive(Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Counts a letter, and shows it where it is one of the first of its fate.
    fn count(&mut self, letter: &Letter, fate: &Fate) {
        let count = self.0.entry(fate.name()).or_default();
        *count += 1;
        if *count <= SHOWN_MAX && *fate != Fate::Replayed {
            let at = &letter.origin;
            crate::signals::print(&format!("{} {at}: {fate}\n", letter.offset));
        }
    }

    fn text(&self, dry_run: bool) -> String {
        let mut out = String::new();
        for (name, count) in &self.0 {
            let name = match (*name, dry_run) {
                ("re-submitted", true) => "would be re-submitted",
                (name, _) => name,
            };
            out.push_str(&format!("{count} {name}\n"));
        }
        match out.is_empty() {
            true => "no dead letters\n".to_owned(),
            false => out,
        }
    }
}

/// Re-submits what would be taken now.
pub fn run(args: &cli::DeadLetterReplay) -> anyhow::Result<Exit> {
    let (config, topics) = args.of.open()?;
    let log = topics.log();
    // Taking over the transactional id settles what a replay before this one left open, so its
    // notes are read after that.
    let mut session = match args.dry_run {
        true => None,
        false => Some(open(&config, &*log)?),
    };
    let mut ingest = config.topology(clock::now_ms()).ingest;
    let known = Identity::open(&config, &*log)?.known();
    (ingest.shop, ingest.currency) = (known.shop, known.currency);
    let mut partitions = BTreeMap::new();
    for source in &ingest.topics {
        if let Some(count) = log.partitions(&source.name)? {
            partitions.insert(source.name.to_string(), count);
        }
    }
    let judge = Judge {
        config: &ingest,
        replayed: &Replayed::read(&topics)?,
        partitions: &partitions,
        now_ms: clock::now_ms(),
    };
    let mut tally = Tally::default();
    let mut batch = Batch::default();
    super::letters(&topics, &args.filter, &mut |letter| {
        let fate = judge.fate(&letter);
        tally.count(&letter, &fate);
        if let (Fate::Submit(append), Some(session)) = (fate, &mut session) {
            batch.add(&letter, append);
            if batch.is_full() {
                batch.submit(session.as_mut())?;
            }
        }
        Ok(())
    })?;
    if let Some(session) = &mut session {
        batch.submit(session.as_mut())?;
    }
    Ok(crate::signals::print(&tally.text(args.dry_run)))
}

/// The one who re-submits, for all processes of the group.
fn open(config: &Config, log: &dyn Log) -> anyhow::Result<Box<dyn Session>> {
    log.ensure(&[TopicSpec {
        name: topic::REPLAYED.to_owned(),
        partitions: 1,
        compacted: false,
        retention_ms: None,
    }])?;
    let name = format!("{}-dead-letter", config.kafka.group);
    Ok(log.open(&SessionSpec {
        group: name.clone(),
        member: name,
        topics: vec![topic::REPLAYED.to_owned()],
        start: Start::Earliest,
        low_latency: false,
    })?)
}
