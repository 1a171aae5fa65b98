//! `fenghuo log copy`: the history of a folder moves to Kafka.
//!
//! Owns when it may, in which order, and how far a copy came that was broken off: the topic
//! `fenghuo.copy` tells, whose records land with what they are about, in one transaction. It must
//! never change the folder, nor go on where anybody else has written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use fenghuo_embedded::EmbeddedLog;
use fenghuo_engine::TopologyConfig;
use fenghuo_engine::rebase::{Moves, Run, rebase, turn};
use fenghuo_engine::record::topic;
use fenghuo_intake::watch::TOPIC as FILES;
use fenghuo_kafka::{Import, KafkaLog, Landed, ScanFrom};
use fenghuo_log::{Append, Error, Log, TopicPartition, TopicSpec, Whole};
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::clock::{self, Watch};
use crate::config::{self, Config};
use crate::dead_letter::Replayed;
use crate::exit::Exit;
use crate::identity::{self, Identity, Known};
use crate::run::STAGES;
use crate::watch::STAGE as FILES_STAGE;

/// Where a copy tells how far it came.
const TOPIC: &str = "fenghuo.copy";

/// The form of what it tells.
const VERSION: u32 = 1;

/// What one transaction brings at most; one record may go beyond.
const RECORDS_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;

/// How often it is said how far it came.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// A record of [`TOPIC`], in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    step: Step,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// What the folder held when it began: its ranges of offsets, by topic and partition.
    Begun(Ranges),
    /// What came, and where to.
    Brought(Vec<Brought>),
    /// All came, and the groups stand where they stood.
    Done,
}

type Ranges = BTreeMap<String, Vec<(u64, u64)>>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Brought {
    topic: String,
    partition: u32,
    #[serde(flatten)]
    run: Run,
}

impl Brought {
    /// Whether the record at `offset`, which is at `to` now, is the next one of these.
    fn ends_at(&self, of: &TopicPartition, offset: u64, to: u64) -> bool {
        let Run { from, records, .. } = self.run;
        let is_there = (&*of.topic, of.partition) == (self.topic.as_str(), self.partition);
        is_there && from + records == offset && self.run.to + records == to
    }
}

impl Note {
    fn append(step: Step) -> Result<Append, Error> {
        let version = VERSION;
        let value = serde_json::to_vec(&Note { version, step })
            .map_err(|error| Error::Fatal(format!("writing a note: {error}")))?;
        Ok(Append::new(TopicPartition::new(TOPIC, 0), None, value))
    }
}

/// How far a copy came.
#[derive(Debug, Default)]
struct Came {
    begun: Option<Ranges>,
    moves: Moves,
    /// The next record of each partition of the folder.
    next: BTreeMap<TopicPartition, u64>,
    /// The offset after the last one brought, where it is now.
    end: BTreeMap<TopicPartition, u64>,
    done: bool,
}

impl Came {
    fn read(log: &KafkaLog) -> anyhow::Result<Self> {
        let mut came = Self::default();
        let Some(mut scan) = log.scan(TopicPartition::new(TOPIC, 0), ScanFrom::First)? else {
            return Ok(came);
        };
        while let Some(record) = scan.next_record()? {
            let note = serde_json::from_slice::<Note>(&record.value.unwrap_or_default());
            let note = note.with_context(|| format!("record {} of {TOPIC}", record.offset))?;
            ensure!(
                note.version <= VERSION,
                "{TOPIC} was written by a newer build; go on with that one"
            );
            came.take(note.step);
        }
        Ok(came)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Begun(ranges) => self.begun = Some(ranges),
            Step::Brought(brought) => {
                for Brought {
                    topic,
                    partition,
                    run,
                } in brought
                {
                    let of = TopicPartition::new(topic, partition);
                    self.next.insert(of.clone(), run.from + run.records);
                    self.end.insert(of.clone(), run.to + run.records);
                    self.moves.add(of, run);
                }
            }
            Step::Done => self.done = true,
        }
    }
}

/// Why no stage may run on these topics, where that is so: they hold a part of a history.
pub fn broken_off(log: &KafkaLog) -> anyhow::Result<Option<String>> {
    let came = Came::read(log)?;
    let is_part = came.begun.is_some() && !came.done;
    Ok(is_part.then(|| {
        "a folder was being copied into these topics and not all of it is there: take it up again \
         with fenghuo log copy"
            .to_owned()
    }))
}

/// Copies a folder, or takes up again what was broken off.
pub fn run(args: &cli::LogCopy) -> anyhow::Result<Exit> {
    let config = Config::load(&args.to)?;
    ensure!(
        config.log == config::Log::Kafka,
        "{} keeps its log in a folder; a copy goes to Kafka: leave out [log] and name brokers in \
         [kafka]",
        args.to.display()
    );
    let folder = super::existing(&args.from)?;
    let from = From::open(&folder, &config)?;
    let log = KafkaLog::new(config.kafka()?).context("kafka")?;
    let topology = config.topology(clock::now_ms());
    let watch = Watch::start();

    nobody_runs(&log, &topology)?;
    make_topics(&from, &config, &topology, &log)?;
    // Whoever copies there too is fenced, and what they left open is taken back; so this comes
    // before anything is read.
    let import = log.import(&format!("{}-copy", topology.group))?;
    let came = Came::read(&log)?;
    ensure!(
        !came.done,
        "a folder was copied into these topics already; {TOPIC} tells"
    );
    let mut copy = Copy {
        from: &from,
        log: &log,
        import,
        came,
        letters: None,
        said: None,
        brought: 0,
    };
    copy.begin()?;
    copy.bring_all()?;
    let groups = copy.groups(&topology);
    copy.import.finish(&Note::append(Step::Done)?, &groups)?;

    for (name, ranges) in &from.ranges {
        let of = |partition| TopicPartition::new(name.as_str(), partition as u32);
        let records = (0..ranges.len()).map(|at| copy.came.moves.records(&of(at)));
        println!("{name:<28} {:>12} records", records.sum::<u64>());
    }
    println!(
        "{} was copied in {} s. Go on with: fenghuo run --config {}\n\
         The folder stays as it is. Do not run on it any more: both would page.",
        args.from.display(),
        watch.elapsed().as_secs(),
        args.to.display()
    );
    Ok(Exit::Done)
}

/// A folder that may be copied.
struct From<'a> {
    folder: &'a EmbeddedLog,
    /// What is copied.
    ranges: Ranges,
    /// What its groups' names begin with.
    group: String,
}

impl<'a> From<'a> {
    /// Looks whether everything in it is known to the config and judged.
    fn open(folder: &'a EmbeddedLog, config: &Config) -> anyhow::Result<Self> {
        same_shop(folder, config)?;
        let mut from = Self {
            folder,
            ranges: Ranges::new(),
            group: group(folder)?,
        };
        let own = config.topology(0).own_topics(&|_| 1);
        let sources = config.source_topics();
        let known: BTreeSet<&str> = own
            .iter()
            .chain(&sources)
            .map(|spec| spec.name.as_str())
            .chain([topic::REPLAYED, FILES])
            .collect();
        for (name, partitions) in folder.topics()? {
            // On Kafka the config says what shop it is.
            if name == identity::TOPIC {
                continue;
            }
            let range = |at| folder.range(&TopicPartition::new(name.as_str(), at));
            let ranges: Vec<(u64, u64)> = (0..partitions).map(range).collect();
            if known.contains(name.as_str()) {
                from.ranges.insert(name, ranges);
            } else if ranges.iter().any(|(_, high)| *high > 0) {
                let names: Vec<&str> = sources.iter().map(|spec| spec.name.as_str()).collect();
                bail!(
                    "the folder holds {name}, which the config does not read: it reads {}; see \
                     streams, names and prefix in [topics]",
                    names.join(", ")
                );
            }
        }
        let panes = from.ranges.get(topic::PANES).map_or(0, Vec::len);
        ensure!(
            panes == config.topics.panes_partitions as usize,
            "the folder has {panes} partitions of {}: set panes_partitions = {panes} in [topics]",
            topic::PANES
        );
        from.is_at_end(&sources)?;
        Ok(from)
    }

    /// Fails where a stage has something to read.
    fn is_at_end(&self, sources: &[TopicSpec]) -> anyhow::Result<()> {
        let sources: Vec<&str> = sources.iter().map(|spec| spec.name.as_str()).collect();
        let read: [(&str, &[&str]); 3] = [
            ("ingest", &sources),
            ("evaluate", &[topic::PANES]),
            ("dispatch", &[topic::ALERTS]),
        ];
        for (stage, topics) in read {
            let stands = self.folder.offsets(&format!("{}-{stage}", self.group));
            let ranges = topics
                .iter()
                .filter_map(|name| self.ranges.get_key_value(*name));
            for (name, ranges) in ranges {
                for (partition, (low, high)) in (0..).zip(ranges) {
                    let of = TopicPartition::new(name.as_str(), partition);
                    let next = stands.get(&of).copied().unwrap_or(0).max(*low);
                    ensure!(
                        next >= *high,
                        "{stage} has yet to read {} records of {of}: run the daemon on the folder \
                         once more until /-/ready says so, stop it with SIGTERM, and copy then",
                        high - next
                    );
                }
            }
        }
        Ok(())
    }
}

/// What the names of the groups begin with that judged a folder.
fn group(folder: &EmbeddedLog) -> anyhow::Result<String> {
    let groups = folder.groups()?;
    let names = groups
        .iter()
        .filter_map(|name| name.strip_suffix("-ingest"));
    let names: Vec<&str> = names.collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => bail!("no daemon ever judged what is in the folder: run one on it first"),
        _ => bail!(
            "several groups judged what is in the folder: {}; one history cannot be told from them",
            names.join(", ")
        ),
    }
}

/// Fails where the config would refuse what the folder has taken.
fn same_shop(folder: &EmbeddedLog, config: &Config) -> anyhow::Result<()> {
    let kept = Identity::restore(Known::default(), folder)?.known();
    let said = Known::of(&config.shop);
    for (key, kept, said) in [
        ("id", &kept.shop, &said.shop),
        ("currency", &kept.currency, &said.currency),
    ] {
        if let (Some(kept), Some(said)) = (kept, said) {
            ensure!(
                kept == said,
                "the folder's events are of {key} {kept}, and the config takes {said} alone: set \
                 {key} = {kept:?} in [shop]"
            );
        }
    }
    Ok(())
}

/// Fails where a daemon reads what is to be written.
fn nobody_runs(log: &KafkaLog, topology: &TopologyConfig) -> anyhow::Result<()> {
    for stage in STAGES {
        let group = topology.group_of(stage);
        let members = log.members(&group)?;
        ensure!(
            members.is_empty(),
            "group {group} has a member at {}: stop the daemon there first",
            members[0].host
        );
    }
    Ok(())
}

/// Makes what is missing there, with as many partitions as here.
fn make_topics(
    from: &From<'_>,
    config: &Config,
    topology: &TopologyConfig,
    log: &KafkaLog,
) -> anyhow::Result<()> {
    let count = |name: &str| from.ranges.get(name).map_or(1, Vec::len) as u32;
    let mut specs = topology.own_topics(&count);
    for spec in config.source_topics() {
        if !from.ranges.contains_key(&spec.name) {
            continue;
        }
        let is_there = log.partitions(&spec.name)?.is_some();
        ensure!(
            is_there || config.topics.create,
            "there is no topic {}; make it with {} partitions, or set create = true in [topics]",
            spec.name,
            count(&spec.name)
        );
        let partitions = count(&spec.name);
        specs.push(TopicSpec { partitions, ..spec });
    }
    let plain = |name: &str, compacted| TopicSpec {
        name: name.to_owned(),
        partitions: 1,
        compacted,
        retention_ms: None,
    };
    specs.push(plain(TOPIC, false));
    for (name, compacted) in [(topic::REPLAYED, false), (FILES, true)] {
        if from.ranges.contains_key(name) {
            specs.push(plain(name, compacted));
        }
    }
    log.ensure(&specs).context("making the topics")
}

/// A copy under way.
struct Copy<'a> {
    from: &'a From<'a>,
    log: &'a KafkaLog,
    import: Import,
    came: Came,
    /// When each letter was written, by where it is now; once it is asked for.
    letters: Option<BTreeMap<u64, i64>>,
    said: Option<Watch>,
    brought: u64,
}

impl Copy<'_> {
    /// Begins where nothing is yet, or goes on where only this copy has written.
    fn begin(&mut self) -> anyhow::Result<()> {
        match &self.came.begun {
            Some(begun) => {
                ensure!(
                    *begun == self.from.ranges,
                    "the folder has changed since a copy of it was begun; delete the topics there \
                     and begin anew"
                );
                println!("going on with a copy that was broken off");
                for of in self.partitions() {
                    let end = self.came.end.get(&of).copied().unwrap_or(0);
                    self.nobody_wrote(&of, end)?;
                }
            }
            None => {
                for of in self.partitions() {
                    let (_, high) = self.log.range(&of)?;
                    ensure!(
                        high == 0,
                        "{of} is not empty: {high} offsets are taken. A history cannot be put \
                         before another one; delete the topic, or name others in [topics]"
                    );
                }
                let begun = || Step::Begun(self.from.ranges.clone());
                self.import.commit(&[], |_| Note::append(begun()))?;
            }
        }
        Ok(())
    }

    /// Every partition, those first that others name.
    fn partitions(&self) -> Vec<TopicPartition> {
        let mut topics: Vec<_> = self.from.ranges.iter().collect();
        topics.sort_by_key(|(name, _)| turn(name));
        let all = topics.into_iter().flat_map(|(name, ranges)| {
            let of = |at| TopicPartition::new(name.as_str(), at as u32);
            (0..ranges.len()).map(of)
        });
        all.collect()
    }

    /// Fails where others have written behind what was brought.
    fn nobody_wrote(&self, of: &TopicPartition, end: u64) -> Result<(), Error> {
        let scan = self.log.scan(of.clone(), ScanFrom::Offset(end))?;
        let Some(mut scan) = scan else { return Ok(()) };
        match scan.next_record()? {
            None => Ok(()),
            Some(record) => Err(others(of, record.offset)),
        }
    }

    fn bring_all(&mut self) -> anyhow::Result<()> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut last_turn = 0;
        for of in self.partitions() {
            // What is named must have its place before it is named.
            if turn(&of.topic) != last_turn {
                last_turn = turn(&of.topic);
                bytes = 0;
                self.bring(std::mem::take(&mut batch))?;
            }
            let mut next = self.came.next.get(&of).copied().unwrap_or(0);
            loop {
                let is_full = |records: usize, bytes| records >= RECORDS_MAX || bytes >= BYTES_MAX;
                self.from.folder.dump(&of, next, &mut |record| {
                    next = record.offset + 1;
                    bytes += record.value.as_ref().map_or(0, Vec::len);
                    batch.push((of.clone(), record));
                    !is_full(batch.len(), bytes)
                })?;
                if !is_full(batch.len(), bytes) {
                    break;
                }
                bytes = 0;
                self.bring(std::mem::take(&mut batch))?;
                self.say(&of, next);
            }
        }
        self.bring(batch)
    }

    fn say(&mut self, of: &TopicPartition, next: u64) {
        if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            let (_, high) = self.from.folder.range(of);
            println!("{} records; {of}: {next} of {high}", self.brought);
            self.said = Some(Watch::start());
        }
    }

    /// Brings records in one transaction, with the note of it.
    fn bring(&mut self, mut batch: Vec<(TopicPartition, Whole)>) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        for (of, record) in &mut batch {
            if &*of.topic == topic::REPLAYED {
                self.replayed(record)?;
            } else {
                rebase(of, record, &self.came.moves).map_err(Error::from)?;
            }
        }
        let mut brought = Vec::new();
        self.import.commit(&batch, |landed| {
            brought = self.runs(&batch, &landed)?;
            Note::append(Step::Brought(brought.clone()))
        })?;
        self.brought += batch.len() as u64;
        self.came.take(Step::Brought(brought));
        Ok(())
    }

    /// Which records came to lie where.
    fn runs(
        &self,
        batch: &[(TopicPartition, Whole)],
        landed: &[Landed],
    ) -> Result<Vec<Brought>, Error> {
        let mut offsets: BTreeMap<&TopicPartition, Vec<u64>> = BTreeMap::new();
        for (of, record) in batch {
            offsets.entry(of).or_default().push(record.offset);
        }
        let mut brought: Vec<Brought> = Vec::new();
        for Landed {
            partition: of,
            first,
            records,
        } in landed
        {
            let end = self.came.end.get(of).copied().unwrap_or(0);
            // Behind a transaction of ours there is its mark, and nothing else; or what was taken
            // back of one that was broken off.
            if *first != end && *first != end + 1 {
                self.nobody_wrote(of, end)?;
            }
            let offsets = offsets.remove(of).unwrap_or_default();
            if offsets.len() as u64 != *records {
                return Err(others(of, first + records));
            }
            for (to, offset) in (*first..).zip(offsets) {
                let last = brought.last_mut();
                let last = last.filter(|last| last.ends_at(of, offset, to));
                match last {
                    Some(last) => last.run.records += 1,
                    None => brought.push(Brought {
                        topic: of.topic.to_string(),
                        partition: of.partition,
                        run: Run {
                            from: offset,
                            to,
                            records: 1,
                        },
                    }),
                }
            }
        }
        match offsets.first_key_value() {
            None => Ok(brought),
            Some((of, _)) => Err(Error::Fatal(format!(
                "nobody told where records of {of} are"
            ))),
        }
    }

    /// A note of a letter that was re-submitted names it by its offset and time, which both are
    /// others now.
    fn replayed(&mut self, record: &mut Whole) -> anyhow::Result<()> {
        let of = TopicPartition::new(topic::DEAD_LETTER, 0);
        let letters = match &mut self.letters {
            Some(letters) => letters,
            none => none.insert(times(self.log, &of)?),
        };
        let named = record.key.as_deref().and_then(Replayed::parse);
        let now = named.and_then(|(offset, _)| self.came.moves.offset(&of, offset));
        let key = now.and_then(|now| Some(Replayed::key(now, *letters.get(&now)?)));
        record.key = key;
        Ok(())
    }

    /// Where each group of the folder stands there.
    fn groups(&self, topology: &TopologyConfig) -> Vec<(String, Vec<(TopicPartition, u64)>)> {
        let stages = STAGES.into_iter().chain([FILES_STAGE]);
        let groups = stages.map(|stage| {
            let stood = self
                .from
                .folder
                .offsets(&format!("{}-{stage}", self.from.group));
            let stands = stood.into_iter().map(|(of, next)| {
                let next = self.came.moves.next(&of, next);
                (of, next)
            });
            (topology.group_of(stage), stands.collect::<Vec<_>>())
        });
        groups.filter(|(_, stands)| !stands.is_empty()).collect()
    }
}

/// When each record of a partition was appended, by its offset.
fn times(log: &KafkaLog, of: &TopicPartition) -> anyhow::Result<BTreeMap<u64, i64>> {
    let mut times = BTreeMap::new();
    if let Some(mut scan) = log.scan(of.clone(), ScanFrom::First)? {
        while let Some(record) = scan.next_record()? {
            times.insert(record.offset, record.timestamp_ms);
        }
    }
    Ok(times)
}

/// Somebody else writes there.
fn others(of: &TopicPartition, offset: u64) -> Error {
    Error::Fatal(format!(
        "somebody else has written to {of}, at offset {offset}: nothing may come in between. Stop \
         whoever sends there, delete the topics, and begin anew"
    ))
}
