//! `fenghuo log copy`: the history of a folder moves to Kafka.
//!
//! Owns the order in which it is brought, and the transactions: what is brought and the note of it
//! land together, so that whoever was cut off goes on there. It must never change the folder, nor
//! go on where anybody else has written.

mod progress;
mod source;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use fenghuo_engine::TopologyConfig;
use fenghuo_engine::rebase::{Run, rebase, turn};
use fenghuo_engine::record::topic;
use fenghuo_intake::watch::TOPIC as FILES;
use fenghuo_kafka::{Import, KafkaLog, Landed, ScanFrom};
use fenghuo_log::{Error, Log, TopicPartition, TopicSpec, Whole};

use crate::cli;
use crate::clock::{self, Watch};
use crate::config::{self, Config};
use crate::dead_letter::Replayed;
use crate::exit::Exit;
use crate::run::STAGES;
use crate::watch::STAGE as FILES_STAGE;

use progress::{Brought, Came, Note, Step, TOPIC};
use source::Source;

/// What one transaction brings at most; one record may go beyond.
const RECORDS_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 << 20;
/// Runs that one note tells of: in a compacted topic every record may be one of its own, and a note
/// is one record.
const RUNS_MAX: usize = 4_000;

/// How long the brokers may take to let a batch be read that they have.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// How often it is said how far it came.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// Why no stage may run on these topics, where that is so: they hold a part of a history.
pub fn broken_off(log: &KafkaLog) -> anyhow::Result<Option<String>> {
    let came = match Came::read(log) {
        // Who may not see that topic has not written it.
        Err(error) if matches!(error.downcast_ref(), Some(Error::Fatal(_))) => return Ok(None),
        came => came?,
    };
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
    let from = Source::open(&folder, &config)?;
    let log = KafkaLog::new(config.kafka()?).context("kafka")?;
    let topology = config.topology(clock::now_ms());
    let watch = Watch::start();

    nobody_runs(&log, &topology)?;
    make_topics(&from, &config, &topology, &log)?;
    // Whoever copies there too is fenced, and what they left open is taken back; so this comes
    // before anything is read.
    let import = log.import(&topology.group, "copy")?;
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
        free: BTreeMap::new(),
        letters: None,
        said: None,
        brought: 0,
    };
    copy.begin()?;
    // One that was started meanwhile knows nothing of the copy; from here on it would be told.
    nobody_runs(&log, &topology)?;
    copy.bring_all()?;
    nobody_runs(&log, &topology)?;
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
    from: &Source<'_>,
    config: &Config,
    topology: &TopologyConfig,
    log: &KafkaLog,
) -> anyhow::Result<()> {
    let count = |name: &str| from.ranges.get(name).map_or(1, Vec::len) as u32;
    let mut specs = topology.own_topics(&count);
    for spec in config.source_topics() {
        if !from.ranges.contains_key(&spec.name) {
            // A stream that the folder knows nothing of: the daemon there makes its topic, and then as
            // many trackers as that has partitions.
            let trackers = topic::trackers(&spec.name);
            specs.retain(|own| own.name != trackers);
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
    from: &'a Source<'a>,
    log: &'a KafkaLog,
    import: Import,
    came: Came,
    /// The offset that the next record brought to a partition has to get.
    free: BTreeMap<TopicPartition, u64>,
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
                    "the folder has changed since a copy of it was begun; {ANEW}"
                );
                println!("going on with a copy that was broken off");
                for of in self.partitions() {
                    self.take_up(of)?;
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
                    self.free.insert(of, 0);
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

    /// Goes on with a partition where nobody else has written behind what was brought. Where all of
    /// it was brought, others may: the shop has begun to send there.
    fn take_up(&mut self, of: TopicPartition) -> anyhow::Result<()> {
        let end = self.came.end.get(&of).copied().unwrap_or(0);
        let next = self.came.next.get(&of).copied().unwrap_or(0);
        let (_, high) = self.log.range(&of)?;
        ensure!(
            high >= end,
            "{of} has {high} records where {end} were brought: it was deleted; {ANEW}"
        );
        let (low, last) = self.from.folder.range(&of);
        if next.max(low) < last {
            let scan = self.log.scan(of.clone(), ScanFrom::Offset(end))?;
            if let Some(record) = scan
                .map(|mut scan| scan.next_record())
                .transpose()?
                .flatten()
            {
                return Err(others(&of, record.offset).into());
            }
        }
        self.free.insert(of, high);
        Ok(())
    }

    fn bring_all(&mut self) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        let mut last_turn = 0;
        for of in self.partitions() {
            // What is named must have its place before it is named.
            if turn(&of.topic) != last_turn {
                last_turn = turn(&of.topic);
                self.bring(std::mem::take(&mut batch))?;
            }
            let mut next = self.came.next.get(&of).copied().unwrap_or(0);
            loop {
                self.from.folder.dump(&of, next, &mut |record| {
                    next = record.offset + 1;
                    batch.push(&of, record);
                    !batch.is_full()
                })?;
                if !batch.is_full() {
                    break;
                }
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
    fn bring(&mut self, batch: Batch) -> anyhow::Result<()> {
        let Batch {
            records: mut batch, ..
        } = batch;
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
        for Brought {
            topic,
            partition,
            run,
        } in &brought
        {
            let of = TopicPartition::new(topic.as_str(), *partition);
            // Behind a transaction there is its mark.
            self.free.insert(of, run.to + run.records + 1);
        }
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
            let free = self.free.get(of).copied().unwrap_or(0);
            if *first != free {
                return Err(others(of, free));
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
            none => {
                let end = self.came.end.get(&of).copied().unwrap_or(0);
                none.insert(times(self.log, &of, end)?)
            }
        };
        let named = record.key.as_deref().and_then(Replayed::parse);
        let now = named.and_then(|(offset, _)| self.came.moves.offset(&of, offset));
        let key = now.map(|now| {
            let at_ms = letters.get(&now);
            let at_ms = at_ms.with_context(|| format!("{of}@{now} cannot be read"))?;
            Ok::<_, anyhow::Error>(Replayed::key(now, *at_ms))
        });
        record.key = key.transpose()?;
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
            let copied = |of: &TopicPartition| self.from.ranges.contains_key(&*of.topic);
            let stood = stood.into_iter().filter(|(of, _)| copied(of));
            let stands = stood.map(|(of, next)| {
                let next = self.came.moves.next(&of, next);
                (of, next)
            });
            (topology.group_of(stage), stands.collect::<Vec<_>>())
        });
        groups.filter(|(_, stands)| !stands.is_empty()).collect()
    }
}

/// When each record of a partition before `end` was appended, by its offset.
fn times(log: &KafkaLog, of: &TopicPartition, end: u64) -> anyhow::Result<BTreeMap<u64, i64>> {
    // What is committed can be read a moment later.
    let watch = Watch::start();
    while log.range(of)?.1 < end {
        ensure!(
            watch.elapsed() < SEEN_WITHIN,
            "{of} cannot be read up to {end}"
        );
        clock::wait(Duration::from_millis(50));
    }
    let mut times = BTreeMap::new();
    if let Some(mut scan) = log.scan(of.clone(), ScanFrom::First)? {
        while let Some(record) = scan.next_record()? {
            times.insert(record.offset, record.timestamp_ms);
        }
    }
    Ok(times)
}

/// Records for one transaction.
#[derive(Default)]
struct Batch {
    records: Vec<(TopicPartition, Whole)>,
    bytes: usize,
    runs: usize,
}

impl Batch {
    fn push(&mut self, of: &TopicPartition, record: Whole) {
        let last = self.records.last();
        let goes_on =
            last.is_some_and(|(last_of, last)| last_of == of && last.offset + 1 == record.offset);
        self.runs += usize::from(!goes_on);
        self.bytes += record.value.as_ref().map_or(0, Vec::len);
        self.records.push((of.clone(), record));
    }

    fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX || self.runs >= RUNS_MAX
    }
}

/// What to do where a copy cannot be taken up.
const ANEW: &str = "delete the topics there, fenghuo.copy among them, and begin anew";

/// Somebody else writes there.
fn others(of: &TopicPartition, offset: u64) -> Error {
    Error::Fatal(format!(
        "somebody else has written to {of}, at offset {offset}, and nothing may come in between: \
         stop whoever sends there; {ANEW}"
    ))
}
