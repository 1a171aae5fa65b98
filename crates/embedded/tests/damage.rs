//! Damage to a folder, one piece at a time: what is read is what was written, or an error.
//!
//! `FENGHUO_DAMAGE=1000 cargo test -p fenghuo-embedded --test damage -- --nocapture` tries more.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fenghuo_embedded::{EmbeddedLog, FolderError};
use fenghuo_log::contract::{at, spec_of};
use fenghuo_log::{
    Append, Commit, Error, Log, Polled, SessionSpec, Start, TopicPartition, TopicSpec, Whole,
};

const TOPICS: [(&str, u32); 4] = [("orders", 2), ("letters", 1), ("state", 2), ("alerts", 1)];
const GROUP: &str = "judges";

fn spec(topic: &str) -> SessionSpec {
    SessionSpec {
        group: GROUP.to_owned(),
        member: "one".to_owned(),
        topics: vec![topic.to_owned()],
        start: Start::Earliest,
        low_latency: false,
    }
}

/// Bytes that follow from a number, and do not pack.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Fills a folder: plain and compacted topics, batches of one piece and of many, keys that were
/// written again and deleted, dropped records, a group that stands in the middle.
fn fill(folder: &Path) {
    let log = EmbeddedLog::open(folder).unwrap();
    for (topic, partitions) in TOPICS {
        let compacted = topic == "state";
        let spec = TopicSpec {
            compacted,
            ..spec_of(topic, partitions)
        };
        log.ensure(&[spec]).unwrap();
    }
    for round in 0..30_u64 {
        let mut appends = Vec::new();
        for number in 0..20 {
            let to = at("orders", (number % 2) as u32);
            let value = format!("{{\"order\":{round},\"line\":{number}}}").into_bytes();
            appends.push(Append::new(to, Some(vec![number as u8]), value));
        }
        let key = vec![(round % 11) as u8; 5];
        let to = at("state", (round % 2) as u32);
        appends.push(Append::new(to.clone(), Some(key), noise(round, 600)));
        if round % 7 == 3 {
            let gone = Append {
                value: None,
                ..Append::new(to, Some(vec![(round % 11) as u8 - 2; 5]), Vec::new())
            };
            appends.push(gone);
        }
        if round % 10 == 0 {
            let large = noise(round, 40_000);
            appends.push(Append::new(at("alerts", 0), None, large));
        }
        appends.push(Append::new(at("letters", 0), None, noise(round, 300)));
        log.append(appends).unwrap();
    }
    log.forget(&at("orders", 0), 35).unwrap();
    for topic in ["orders", "alerts"] {
        let mut session = log.open(&spec(topic)).unwrap();
        let held = loop {
            match session.poll(Duration::ZERO, &mut |_, _| {}).unwrap() {
                Polled::Assigned(held) => break held,
                _ => continue,
            }
        };
        let starts = held.iter().enumerate();
        let starts: Vec<_> = starts
            .map(|(index, held)| (index, held.partition.clone(), held.low))
            .collect();
        session.start(&starts).unwrap();
        let offsets = held
            .iter()
            .map(|held| (held.partition.clone(), held.high / 2 + 20));
        let commit = Commit {
            offsets: offsets.collect(),
            ..Commit::default()
        };
        session.commit(commit).unwrap();
    }
    log.sync().unwrap();
}

/// All that can be seen of a log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    topics: BTreeMap<String, u32>,
    offsets: BTreeMap<TopicPartition, u64>,
    ranges: BTreeMap<TopicPartition, (u64, u64)>,
    dumped: BTreeMap<TopicPartition, Vec<Whole>>,
    polled: BTreeMap<TopicPartition, Vec<Whole>>,
}

/// What one look came to.
#[derive(Debug)]
enum Met {
    Same,
    Damage(String),
}

fn damage(error: &Error) -> Met {
    let Error::Fatal(why) = error else {
        panic!("damage is no error to try again after: {error:?}");
    };
    Met::Damage(why.clone())
}

/// Looks at a log in one way; an error must be one of damage.
fn look(folder: &Path, expected: &Seen, by: &str) -> Met {
    let log = match EmbeddedLog::open(folder) {
        Ok(log) => log,
        Err(error @ FolderError::Store { .. }) => return Met::Damage(chain(&error)),
        Err(error) => panic!("damage is nothing else: {error:?}"),
    };
    let topics = match log.topics() {
        Ok(topics) => topics,
        Err(error) => return damage(&error),
    };
    let mut seen = Seen {
        topics,
        offsets: log.offsets(GROUP),
        ..Seen::default()
    };
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            let of = at(topic, partition);
            seen.ranges.insert(of.clone(), log.range(&of));
        }
    }
    assert_eq!(seen.topics, expected.topics);
    assert_eq!(seen.offsets, expected.offsets);
    assert_eq!(seen.ranges, expected.ranges);
    let read = match by {
        "dump" => dump(&log, expected),
        "poll" => poll(&log, expected),
        _ => check(&log, expected),
    };
    match read {
        Ok(()) => Met::Same,
        Err(met) => met,
    }
}

fn dump(log: &EmbeddedLog, expected: &Seen) -> Result<(), Met> {
    let mut met = Ok(());
    for (of, records) in &expected.dumped {
        let mut found = Vec::new();
        let read = log.dump(of, 0, &mut |record| {
            found.push(record);
            true
        });
        assert!(records.starts_with(&found), "{of} has what was not written");
        match read {
            Ok(()) => assert_eq!(
                found.len(),
                records.len(),
                "{of} ends early, and nobody said so"
            ),
            Err(error) => {
                let first = damage(&error);
                met = met.and(Err(first));
            }
        }
    }
    met
}

fn poll(log: &EmbeddedLog, expected: &Seen) -> Result<(), Met> {
    for (topic, partitions) in TOPICS {
        let mut session = log.open(&spec(topic)).map_err(|error| damage(&error))?;
        let mut found: Vec<Vec<Whole>> = vec![Vec::new(); partitions as usize];
        let mut each = |index: usize, record: fenghuo_log::Record<'_>| {
            found[index].push(Whole {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: Vec::new(),
            });
        };
        let mut failed = None;
        let mut is_started = false;
        loop {
            match session.poll(Duration::ZERO, &mut each) {
                Ok(Polled::Assigned(held)) => {
                    let starts = held.iter();
                    let starts: Vec<_> = starts
                        .map(|held| {
                            let of = held.partition.clone();
                            (of.partition as usize, of, held.low)
                        })
                        .collect();
                    session.start(&starts).unwrap();
                    is_started = true;
                }
                Ok(Polled::Records(0)) if is_started => break,
                Ok(_) => {}
                Err(error) => {
                    failed = Some(damage(&error));
                    break;
                }
            }
        }
        for (partition, found) in (0..).zip(found) {
            let records = &expected.dumped[&at(topic, partition)];
            assert!(
                records.starts_with(&found),
                "{topic} has what was not written"
            );
            assert!(
                failed.is_some() || found.len() == records.len(),
                "{topic} ends early"
            );
        }
        if let Some(met) = failed {
            return Err(met);
        }
    }
    Ok(())
}

fn check(log: &EmbeddedLog, expected: &Seen) -> Result<(), Met> {
    match log.check() {
        Ok(checked) => {
            for topic in checked {
                let records = expected.dumped.iter();
                let records = records.filter(|(of, _)| *of.topic == *topic.name);
                let count: usize = records.map(|(_, records)| records.len()).sum();
                assert_eq!(topic.records, count as u64, "{}", topic.name);
            }
            Ok(())
        }
        Err(error) => Err(Met::Damage(chain(&error))),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(chain).unwrap_or_default();
    format!("{error}: {source}")
}

/// What a whole folder shows.
fn seen(folder: &Path) -> Seen {
    let log = EmbeddedLog::open(folder).unwrap();
    let mut seen = Seen {
        topics: log.topics().unwrap(),
        offsets: log.offsets(GROUP),
        ..Seen::default()
    };
    for (topic, partitions) in TOPICS {
        for partition in 0..partitions {
            let of = at(topic, partition);
            seen.ranges.insert(of.clone(), log.range(&of));
            let mut records = Vec::new();
            log.dump(&of, 0, &mut |record| {
                records.push(record);
                true
            })
            .unwrap();
            seen.dumped.insert(of, records);
        }
    }
    seen
}

/// A folder, and its file as it was.
struct Folder {
    root: tempfile::TempDir,
    whole: Vec<u8>,
    identity: Vec<u8>,
    expected: Seen,
}

impl Folder {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        fill(&path);
        let expected = seen(&path);
        assert_eq!(expected.dumped[&at("orders", 1)].len(), 300);
        assert!(expected.offsets.values().all(|offset| *offset > 0));
        let whole = std::fs::read(path.join("log.redb")).unwrap();
        let identity = std::fs::read(path.join("identity")).unwrap();
        Self {
            root,
            whole,
            identity,
            expected,
        }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Looks at the folder with some bytes changed, in every way.
    fn with(&self, change: impl Fn(&std::fs::File)) -> [Met; 3] {
        ["dump", "poll", "check"].map(|by| {
            let path = self.path();
            std::fs::write(path.join("log.redb"), &self.whole).unwrap();
            std::fs::write(path.join("identity"), &self.identity).unwrap();
            let file = std::fs::File::options();
            change(
                &file
                    .clone()
                    .write(true)
                    .open(path.join("log.redb"))
                    .unwrap(),
            );
            look(&path, &self.expected, by)
        })
    }
}

/// How many changes to try.
#[allow(clippy::disallowed_methods, reason = "more are asked for by hand")]
fn tries(usual: u64) -> u64 {
    let told = std::env::var("FENGHUO_DAMAGE").ok();
    told.and_then(|told| told.parse().ok()).unwrap_or(usual)
}

/// Counts of looks: what was found, and what did no harm.
#[derive(Debug, Default)]
struct Tally {
    detected: u64,
    harmless: u64,
}

impl Tally {
    fn add(&mut self, met: &[Met; 3]) {
        let damage = met.iter().find_map(|met| match met {
            Met::Damage(why) => Some(why),
            Met::Same => None,
        });
        match damage {
            Some(why) => {
                assert!(why.contains("log.redb") || why.contains(" file"), "{why}");
                self.detected += 1;
            }
            None => self.harmless += 1,
        }
    }
}

#[test]
fn flipped_bytes_are_never_served() {
    let folder = Folder::new();
    let length = folder.whole.len() as u64;
    let mut tally = Tally::default();
    for number in 0..tries(150) {
        let byte = u64::from_le_bytes(noise(number + 1, 8).try_into().unwrap());
        // Most of it is free; half of the tries go where the store's own tables begin.
        let at = match number % 3 {
            0 => byte % 40_000,
            _ => byte % length,
        };
        let flip = 1 << (byte >> 40 & 7);
        let met = folder.with(|file| {
            let old = folder.whole[at as usize];
            file.write_all_at(&[old ^ flip], at).unwrap();
        });
        tally.add(&met);
    }
    println!("flipped bytes of {length}: {tally:?}");
    assert!(tally.detected > 10, "{tally:?}");
}

#[test]
fn zeroed_blocks_are_never_served() {
    let folder = Folder::new();
    let blocks = folder.whole.len() as u64 / 4096;
    let mut tally = Tally::default();
    for number in 0..tries(60).min(blocks) {
        let at = match number < 20 {
            true => number,
            false => number * 7 % blocks,
        } * 4096;
        let met = folder.with(|file| file.write_all_at(&[0; 4096], at).unwrap());
        tally.add(&met);
    }
    println!("zeroed blocks: {tally:?}");
    assert!(tally.detected > 10, "{tally:?}");
}

#[test]
fn a_file_that_was_cut_is_never_served() {
    let folder = Folder::new();
    let length = folder.whole.len() as u64;
    let mut tally = Tally::default();
    let edges = [0, 1, 40, 4_095, 4_096, 12_288, 16_392, length / 2];
    for left in edges.into_iter().chain([length - 4_104, length - 1]) {
        let met = folder.with(|file| file.set_len(left).unwrap());
        tally.add(&met);
    }
    println!("cuts: {tally:?}");
    assert!(tally.detected >= 8, "{tally:?}");
}

#[test]
fn parts_of_an_older_state_are_never_served() {
    let folder = Folder::new();
    let (older, newer, identity) = {
        let log = EmbeddedLog::open(&folder.path()).unwrap();
        log.append(vec![Append::new(at("orders", 1), None, b"more".to_vec())])
            .unwrap();
        drop(log);
        let newer = std::fs::read(folder.path().join("log.redb")).unwrap();
        let identity = std::fs::read(folder.path().join("identity")).unwrap();
        (folder.whole.clone(), newer, identity)
    };
    let expected = {
        std::fs::write(folder.path().join("log.redb"), &newer).unwrap();
        seen(&folder.path())
    };
    let folder = Folder {
        whole: newer,
        identity,
        expected,
        ..folder
    };
    // The whole file as it was, and each copy of its header.
    let met = folder.with(|file| file.write_all_at(&older, 0).unwrap());
    assert!(
        met.iter().all(|met| matches!(met, Met::Damage(_))),
        "{met:?}"
    );
    for copy in [4096, 8192] {
        folder.with(|file| {
            let head = &older[copy..copy + 512];
            file.write_all_at(head, copy as u64).unwrap();
        });
    }
}
