//! What is written down and read again: against what lives on without a restart.

use std::collections::{BTreeMap, BTreeSet};

use fenghuo_log::{Broken, Record};
use fenghuo_signal::Parcel;
use proptest::prelude::*;

use super::*;
use crate::ingest::duplicates::DuplicateBounds;
use crate::ingest::trackers::{Life, TrackerBounds, Trackers, key_of, tests::parcel};

const NOW_MS: i64 = 1_794_369_600_000;

const TRACKERS: TrackerBounds = TrackerBounds {
    entries_max: 100_000,
    bytes_max: 1 << 30,
    closed_ms: 600_000,
};
const DUPLICATES: DuplicateBounds = DuplicateBounds {
    horizon_ms: 1_200_000,
    entries_max: 60,
};
/// So that everything happens within a few commits.
const OFTEN: Rewrite = Rewrite {
    journal_bytes_min: 300,
    journal_records_max: 12,
    part_bytes_max: 64,
};

fn of() -> TopicPartition {
    TopicPartition::new("fenghuo.trackers.shop.couriers", 0)
}

/// A partition, and its trackers topic.
struct Partition {
    trackers: Trackers<Parcel>,
    duplicates: Duplicates,
    kept: Kept,
    newest_ms: Option<i64>,
}

/// Key, and value or tombstone.
type Topic = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl Partition {
    fn new(rewrite: Rewrite) -> Self {
        Self {
            trackers: Trackers::new(TRACKERS),
            duplicates: Duplicates::new(DUPLICATES),
            kept: Kept::new(of(), Parcel::KIND, rewrite),
            newest_ms: None,
        }
    }

    fn event(&mut self, event: u64, life: u64, at_ms: i64, change: impl FnOnce(&mut Parcel)) {
        let key = Duplicates::key("source", &event.to_string());
        if self.duplicates.contains(key) {
            return;
        }
        self.duplicates.insert(key, at_ms);
        self.newest_ms = Some(at_ms);
        let mut next = parcel(life);
        self.trackers.with(&life.to_string(), |life| {
            if let Some(life) = life {
                next = life.clone();
            }
            change(&mut next);
            *life = Some(next);
        });
    }

    fn commit(&mut self, topic: &mut Topic) {
        let mut appends = Vec::new();
        let lives = &mut self.trackers.lives;
        self.kept
            .flush(self.newest_ms, lives, &mut self.duplicates, &mut appends);
        topic.extend(appends.into_iter().map(|it| (it.key.unwrap(), it.value)));
    }

    fn restart(topic: &Topic, rewrite: Rewrite) -> Result<Self, Broken> {
        let mut it = Self::new(rewrite);
        let mut restored = Restored::new(of());
        for (offset, (key, value)) in (0..).zip(topic) {
            restored.take(&Record {
                offset,
                timestamp_ms: 0,
                key: Some(key),
                value: value.as_deref(),
                content_type: None,
            })?;
        }
        let lives = &mut it.trackers.lives;
        (it.kept, it.newest_ms) =
            restored.load(Parcel::KIND, rewrite, lives, &mut it.duplicates)?;
        Ok(it)
    }

    /// All that is known, in words.
    fn known(&mut self) -> (BTreeMap<u64, Parcel>, String, Option<i64>) {
        let mut lives = BTreeMap::new();
        for number in 0..200 {
            self.trackers.with(&number.to_string(), |life| {
                lives.extend(life.clone().map(|life| (number, life)));
            });
        }
        assert_eq!(lives.len(), self.trackers.len());
        (lives, format!("{:?}", self.duplicates), self.newest_ms)
    }

    fn contains(&self) -> Vec<bool> {
        let key = |event: u64| Duplicates::key("source", &event.to_string());
        (0..3_000)
            .map(|event| self.duplicates.contains(key(event)))
            .collect()
    }
}

/// What a log may drop of a compacted topic: any record that another one supersedes, and any
/// tombstone behind which it keeps nothing.
fn compact(topic: &mut Topic, mut drops: impl FnMut() -> bool) {
    let mut later: BTreeSet<Vec<u8>> = BTreeSet::new();
    // A tombstone never goes while what it deletes stays.
    let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut kept = Vec::new();
    for (key, value) in topic.drain(..).rev() {
        let is_last = later.insert(key.clone());
        let is_needed = is_last && value.is_some();
        if is_needed || !gone.contains(&key) && !drops() {
            kept.push((key, value));
        } else {
            gone.insert(key);
        }
    }
    kept.reverse();
    *topic = kept;
}

fn size(topic: &Topic) -> usize {
    let mut last: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (key, value) in topic {
        match value {
            Some(value) => last.insert(key, key.len() + value.len()),
            None => last.remove(&key[..]),
        };
    }
    last.values().sum()
}

#[derive(Clone, Debug)]
enum Step {
    Event {
        event: u64,
        life: u64,
        later_ms: i64,
    },
    Close {
        event: u64,
        life: u64,
    },
    Commit,
    Compact,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (0..3_000_u64, 0..200_u64, 0..20_000_i64);
    let event = event.prop_map(|(event, life, later_ms)| Step::Event {
        event,
        life,
        later_ms,
    });
    let close = (0..3_000_u64, 0..200_u64).prop_map(|(event, life)| Step::Close { event, life });
    prop::collection::vec(
        prop_oneof![
            12 => event,
            3 => close,
            6 => Just(Step::Commit),
            1 => Just(Step::Compact),
            1 => Just(Step::Restart),
        ],
        1..600,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_restart_at_any_commit_knows_what_was_known(steps in steps(), seed in any::<u64>()) {
        let mut topic = Topic::new();
        let mut live = Partition::new(OFTEN);
        let mut now_ms = NOW_MS;
        let mut random = seed | 1;
        for step in steps {
            match step {
                Step::Event { event, life, later_ms } => {
                    now_ms += later_ms;
                    live.event(event, life, now_ms, |parcel| parcel.promised_ms += 1);
                }
                Step::Close { event, life } => {
                    live.event(event, life, now_ms, |parcel| parcel.closed_ms = now_ms);
                }
                Step::Commit => live.commit(&mut topic),
                Step::Compact => compact(&mut topic, || {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    random >> 63 == 0
                }),
                Step::Restart => {
                    live.commit(&mut topic);
                    let mut again = Partition::restart(&topic, OFTEN).unwrap();
                    let (lives, _, newest_ms) = live.known();
                    let (found, _, found_ms) = again.known();
                    prop_assert_eq!(lives, found);
                    prop_assert_eq!(newest_ms, found_ms);
                    prop_assert_eq!(live.contains(), again.contains());
                    prop_assert_eq!(live.duplicates.clock(), again.duplicates.clock());
                    prop_assert_eq!(live.duplicates.len(), again.duplicates.len());
                    // Half of the time the new one goes on.
                    if random >> 62 & 1 == 0 {
                        live = again;
                    }
                }
            }
        }
    }
}

/// Guards the two promises about size: what a restart reads, and how much is written.
#[test]
fn the_journal_stays_short_and_segments_are_written_about_as_often_as_they_change() {
    let mut topic = Topic::new();
    let mut live = Partition::new(Rewrite {
        journal_bytes_min: 1_000,
        ..Rewrite::default()
    });
    let (mut journal, mut all) = (0, 0);
    for commit in 0..3_000_u64 {
        for event in 0..20 {
            let number = commit * 20 + event;
            let life = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
            live.event(number, life, NOW_MS, |parcel| parcel.promised_ms += 1);
        }
        let before = topic.len();
        live.commit(&mut topic);
        for (key, value) in &topic[before..] {
            let bytes = value.as_ref().map_or(0, Vec::len);
            all += bytes;
            if key.starts_with(b"journal/") {
                journal += bytes;
            }
        }
        if commit % 100 != 99 {
            continue;
        }
        compact(&mut topic, || true);
        let known = live.trackers.lives.bytes() + 16 * DUPLICATES.entries_max;
        assert!(
            size(&topic) <= 4 * known + 10_000,
            "{} of {known}",
            size(&topic)
        );
    }
    assert!(live.trackers.len() > 4_000);
    assert!(all < 5 * journal / 2, "{all} bytes for {journal}");
    let again = Partition::restart(&topic, Rewrite::default()).unwrap();
    assert_eq!(again.trackers.len(), live.trackers.len());
}

#[test]
fn the_records_of_the_journal_are_bounded_however_small_they_are() {
    let mut topic = Topic::new();
    let mut live = Partition::new(Rewrite {
        journal_bytes_min: usize::MAX,
        journal_records_max: 40,
        ..Rewrite::default()
    });
    for commit in 0..2_000_u64 {
        live.event(commit, commit % 300, NOW_MS, |parcel| {
            parcel.promised_ms += 1
        });
        live.commit(&mut topic);
        if commit % 20 != 19 {
            continue;
        }
        compact(&mut topic, || true);
        let records = topic.iter().filter(|(key, _)| key.starts_with(b"journal/"));
        assert!(records.count() <= 82);
    }
}

fn some() -> Topic {
    let mut topic = Topic::new();
    let mut live = Partition::new(OFTEN);
    for number in 0..400 {
        live.event(number, number, NOW_MS, |_| {});
        live.commit(&mut topic);
    }
    compact(&mut topic, || true);
    topic
}

/// The last journal record.
fn last(topic: &Topic) -> u64 {
    let numbers = topic.iter().filter_map(|(key, _)| match Key::parse(key) {
        Some(Key::Journal(number)) => Some(number),
        _ => None,
    });
    numbers.max().unwrap()
}

fn refused(topic: &Topic) -> Broken {
    let refused = Partition::restart(topic, OFTEN).err();
    refused.unwrap_or_else(|| panic!("it was taken"))
}

#[test]
fn a_record_that_is_missing_or_of_another_commit_stops_a_restart() {
    let topic = some();
    assert!(Partition::restart(&topic, OFTEN).is_ok());
    let mut parts = 0;
    for at in 0..topic.len() {
        let mut damaged = topic.clone();
        let (key, _) = damaged.remove(at);
        // Without the last journal record the one before it is the last: that no reader can see.
        let is_last = Some(Key::Journal(last(&topic))) == Key::parse(&key);
        // A fingerprint that is not there is one that never was, and a segment may not be yet.
        let is_whole = match Key::parse(&key) {
            Some(Key::Lives(segment, part)) => {
                let all = Key::Lives(segment, 1).to_bytes();
                parts += 1;
                part == 0 && !topic.iter().any(|(key, _)| *key == all)
            }
            Some(Key::Seen(_)) => true,
            _ => is_last,
        };
        if !is_whole {
            let refused = refused(&damaged);
            assert!(matches!(refused, Broken::Damaged(_)), "{refused:?}");
        }
    }
    assert!(parts > SEGMENTS, "{parts} parts");
}

#[test]
fn a_newer_form_and_a_former_one_stop_a_restart() {
    let mut newer = some();
    let last = Key::Journal(last(&newer));
    for (key, value) in &mut newer {
        if Key::parse(key) == Some(last) {
            let record = <Journal as prost::Message>::decode(&value.take().unwrap()[..]);
            let version = VERSION + 1;
            let record = Journal {
                version,
                ..record.unwrap()
            };
            *value = Some(prost::Message::encode_to_vec(&record));
        }
    }
    let newer = refused(&newer);
    assert!(matches!(newer, Broken::Newer(_)), "{newer:?}");

    let value = prost::Message::encode_to_vec(&parcel(1));
    let former = vec![(b"SF1".to_vec(), Some(value.clone()))];
    let topic = of().topic.to_string();
    assert_eq!(refused(&former), Broken::Former { topic });
    // A parcel of that name, too, is no journal.
    let former = vec![(b"journal/1".to_vec(), Some(value))];
    assert!(matches!(refused(&former), Broken::Damaged(_)));
    // What a former build deleted is in nobody's way.
    assert!(Partition::restart(&vec![(b"SF1".to_vec(), None)], OFTEN).is_ok());
}

#[test]
fn every_record_is_shown_in_words_and_no_other_is() {
    let topic = some();
    for (key, value) in &topic {
        let shown = record::shown(key, value.as_deref().unwrap()).unwrap();
        assert_eq!(shown["version"], VERSION);
    }
    let lives = topic.iter().filter(|(key, _)| key.starts_with(b"lives/"));
    let lives = lives.map(|(key, value)| record::shown(key, value.as_deref().unwrap()).unwrap());
    let count: usize = lives
        .map(|shown| shown["lives"].as_array().unwrap().len())
        .sum();
    assert!(count > 300, "{count}");
    assert_eq!(record::shown(b"SF1", &[]), None);
}

#[test]
fn keys_are_read_as_they_are_written() {
    for key in [Key::Journal(7), Key::Lives(63, 2), Key::Seen(0)] {
        assert_eq!(Key::parse(&key.to_bytes()), Some(key));
    }
    for other in [
        "",
        "journal",
        "journal/",
        "lives/1",
        "lives/1/x",
        "o1",
        "seen/-1",
    ] {
        assert_eq!(Key::parse(other.as_bytes()), None, "{other}");
    }
    assert!(key_of("a") != key_of("b"));
}
