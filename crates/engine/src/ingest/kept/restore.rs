//! What was written down, read again. Nothing is taken before all of it was read: records may
//! have been superseded by others behind them, and those count.

use std::collections::BTreeMap;

use fenghuo_log::{Broken, Record, TopicPartition};
use fenghuo_signal::Parcel;

use super::record::{
    Journal, Key, LivesPart, SeenPart, VERSION, Versioned, entries, fingerprints, keys,
};
use super::{Kept, Rewrite};
use crate::ingest::duplicates::Duplicates;
use crate::ingest::trackers::{Lives, SEGMENTS, segment_of};

/// A trackers partition as it is read: the last record of each key.
pub(crate) struct Restored {
    of: TopicPartition,
    journal: BTreeMap<u64, Box<[u8]>>,
    lives: BTreeMap<(usize, u32), Box<[u8]>>,
    seen: BTreeMap<u64, Box<[u8]>>,
}

impl Restored {
    pub(crate) fn new(of: TopicPartition) -> Self {
        Self {
            of,
            journal: BTreeMap::new(),
            lives: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn damaged(&self, what: impl std::fmt::Display) -> Broken {
        Broken::Damaged(format!("{} cannot be read: {what}", self.of))
    }

    /// Takes a record.
    pub(crate) fn take(&mut self, record: &Record<'_>) -> Result<(), Broken> {
        let parsed = record.key.and_then(Key::parse);
        let value = record.value.map(Box::from);
        match (parsed, value) {
            (Some(Key::Journal(number)), Some(value)) => {
                self.journal.insert(number, value);
            }
            (Some(Key::Journal(number)), None) => {
                self.journal.remove(&number);
            }
            (Some(Key::Lives(segment, part)), Some(value)) if segment < SEGMENTS => {
                self.lives.insert((segment, part), value);
            }
            (Some(Key::Lives(segment, part)), None) => {
                self.lives.remove(&(segment, part));
            }
            (Some(Key::Seen(number)), Some(value)) => {
                self.seen.insert(number, value);
            }
            (Some(Key::Seen(number)), None) => {
                self.seen.remove(&number);
            }
            // A former build deleted what it had written.
            (None, None) => {}
            (_, Some(value)) => {
                // A former build wrote one record a parcel, under the parcel's name.
                if <Parcel as prost::Message>::decode(&value[..]).is_ok() {
                    let topic = self.of.topic.to_string();
                    return Err(Broken::Former { topic });
                }
                return Err(self.damaged(format_args!("the key of record {}", record.offset)));
            }
        }
        Ok(())
    }

    fn decode<M: Versioned>(&self, key: Key, bytes: &[u8]) -> Result<M, Broken> {
        let name = || String::from_utf8_lossy(&key.to_bytes()).into_owned();
        let message = M::decode(bytes);
        let message = message.map_err(|error| self.damaged(format_args!("{}: {error}", name())))?;
        let version = message.version();
        if version > VERSION {
            return Err(Broken::Newer(format!(
                "{} of {} has version {version}; this build reads up to {VERSION}",
                name(),
                self.of
            )));
        }
        Ok(message)
    }

    /// Takes all that was read into what a partition knows. Returns how it is written on, and the
    /// newest event time.
    pub(crate) fn load(
        mut self,
        kind: u32,
        rewrite: Rewrite,
        lives: &mut Lives,
        seen: &mut Duplicates,
    ) -> Result<(Kept, Option<i64>), Broken> {
        let mut kept = Kept::new(self.of.clone(), kind, rewrite);
        let Some((last, bytes)) = self.journal.last_key_value() else {
            return match self.lives.is_empty() && self.seen.is_empty() {
                true => Ok((kept, None)),
                false => Err(self.damaged("there are segments, and no journal")),
            };
        };
        let last = *last;
        let newest: Journal = self.decode(Key::Journal(last), bytes)?;
        let clock = newest.clock.unwrap_or_default();
        seen.restore_clock(clock);
        kept.next = last + 1;

        let nexts = self.load_lives(&mut kept, lives)?;
        let seen_next = self.load_seen(&mut kept, clock.generation, seen)?;
        let first = newest.oldest.min(last);
        // Those before are needed no more, whether the log has dropped them or not.
        self.journal = self.journal.split_off(&first);
        for number in first..=last {
            let bytes = self.journal.remove(&number);
            let missing = || self.damaged(format_args!("journal/{number} is missing"));
            let bytes = bytes.ok_or_else(missing)?;
            let key = Key::Journal(number);
            let record: Journal = self.decode(key, &bytes)?;
            kept.sizes.push_back(bytes.len() as u32);
            kept.journal_bytes += bytes.len();
            self.apply(number, &record, &nexts, &mut kept, lives)?;
            if number >= seen_next {
                let keys = fingerprints(&record.seen);
                let keys = keys.ok_or_else(|| self.damaged("fingerprints"))?;
                let generation = record.clock.unwrap_or_default().generation;
                // Those of a generation that is gone are not known any more.
                let keys: Vec<u64> = keys.collect();
                for key in &keys {
                    seen.restore(generation, *key);
                }
                if generation == clock.generation {
                    kept.seen.restore_journal(number, keys.into_iter());
                }
            }
        }
        Ok((kept, newest.newest_ms))
    }

    /// Takes the segments, and returns for each the first journal record that is not in it.
    fn load_lives(&mut self, kept: &mut Kept, lives: &mut Lives) -> Result<Vec<u64>, Broken> {
        let mut nexts = vec![0; SEGMENTS];
        // How many parts each segment has in the commit that was read.
        let mut counts = vec![0; SEGMENTS];
        while let Some(((segment, number), bytes)) = self.lives.pop_first() {
            let key = Key::Lives(segment, number);
            let name = || String::from_utf8_lossy(&key.to_bytes()).into_owned();
            let part: LivesPart = self.decode(key, &bytes)?;
            if number == 0 {
                nexts[segment] = part.next;
                counts[segment] = part.parts;
                kept.parts[segment] = part.parts;
            }
            if number >= counts[segment] {
                return Err(self.damaged(format_args!("{} is one too many", name())));
            }
            if part.next != nexts[segment] || part.parts != counts[segment] {
                return Err(self.damaged(format_args!("{} is of another commit", name())));
            }
            let is_last = number + 1 == counts[segment];
            let follows = self.lives.contains_key(&(segment, number + 1));
            if is_last == follows {
                return Err(self.damaged(format_args!("parts of lives/{segment}")));
            }
            self.load_entries(
                kept.kind,
                part.kind,
                &part.lives,
                &part.words,
                lives,
                |_| true,
            )?;
        }
        Ok(nexts)
    }

    /// Takes the fingerprints, and returns the first journal record that is in no part of them.
    fn load_seen(
        &mut self,
        kept: &mut Kept,
        young: u64,
        seen: &mut Duplicates,
    ) -> Result<u64, Broken> {
        let mut next = 0;
        while let Some((number, bytes)) = self.seen.pop_first() {
            let key = Key::Seen(number);
            let part: SeenPart = self.decode(key, &bytes)?;
            let keys = fingerprints(&part.seen).ok_or_else(|| self.damaged("fingerprints"))?;
            let keys: Vec<u64> = keys.collect();
            for key in &keys {
                seen.restore(part.generation, *key);
            }
            next = next.max(part.next);
            kept.seen.restore_part(number, part.generation, keys);
        }
        kept.seen.restored_parts(young);
        Ok(next)
    }

    fn apply(
        &self,
        number: u64,
        record: &Journal,
        nexts: &[u64],
        kept: &mut Kept,
        lives: &mut Lives,
    ) -> Result<(), Broken> {
        let lacking = &mut kept.lacking;
        let mut is_new = |key: u128| {
            let segment = segment_of(key);
            let is_new = number >= nexts[segment];
            if is_new {
                lacking[segment] = lacking[segment].min(number);
            }
            is_new
        };
        let (kind, words) = (record.kind, &record.words);
        self.load_entries(kept.kind, kind, &record.changed, words, lives, &mut is_new)?;
        let forgotten = keys(&record.forgotten);
        let forgotten = forgotten.ok_or_else(|| self.damaged("keys of lives"))?;
        for key in forgotten {
            if is_new(key) {
                lives.remove(key);
            }
        }
        Ok(())
    }

    fn load_entries(
        &self,
        expected: u32,
        kind: u32,
        packed: &[u8],
        words: &[String],
        lives: &mut Lives,
        mut is_wanted: impl FnMut(u128) -> bool,
    ) -> Result<(), Broken> {
        for entry in entries(packed) {
            let (key, life) = entry.ok_or_else(|| self.damaged("lives"))?;
            if kind != expected {
                let what = format!("lives of kind {kind}, expected {expected}");
                return Err(self.damaged(what));
            }
            if is_wanted(key) && !lives.restore(key, life, words) {
                return Err(self.damaged("a life"));
            }
        }
        Ok(())
    }
}
