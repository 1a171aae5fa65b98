//! Since when each measure is counted: what was not counted yet cannot be told.
//!
//! A shop changes its catalogue while Fenghuo runs on. A measure that is new, or means something else
//! now, is counted from then on by every source partition whose ingest knows it. Owns that moment, and
//! what a signal may say before its window was counted whole.

use std::collections::BTreeMap;

use fenghuo_signal::{Judge, Next, Read, Reading, Signal};

use super::{AT_ONCE, Shard};
use crate::evaluate::checkpoint::CountedRow;
use crate::record::{CommitRecord, SourceRange};

/// What one source partition counts.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The catalogue of its last commit: the measures of equal ones are equal.
    pub(super) catalogue: u64,
    /// Since when, event time in Unix ms, by the measure's id; `None` = from its first record on.
    pub(super) since_ms: BTreeMap<u32, Option<i64>>,
}

impl Counted {
    /// A commit of the partition came. `is_first`: nothing of the partition was read before it.
    fn note(&mut self, commit: &CommitRecord, newest_ms: Option<i64>, is_first: bool) {
        if self.catalogue == commit.catalogue {
            return;
        }
        self.catalogue = commit.catalogue;
        // Going back to a catalogue without it ends a measure: it begins anew when it returns.
        self.since_ms.retain(|id, _| commit.measures.contains(id));
        let since_ms = if is_first { None } else { newest_ms };
        for id in &commit.measures {
            self.since_ms.entry(*id).or_insert(since_ms);
        }
    }

    pub(super) fn rows(&self) -> Vec<CountedRow> {
        let rows = self.since_ms.iter();
        rows.map(|(measure, since_ms)| CountedRow {
            measure: *measure,
            since_ms: *since_ms,
        })
        .collect()
    }

    pub(super) fn load(catalogue: u64, rows: &[CountedRow]) -> Self {
        Self {
            catalogue,
            since_ms: rows.iter().map(|row| (row.measure, row.since_ms)).collect(),
        }
    }
}

/// Since when all that a signal rests on is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// From the first record on.
    Always,
    /// From this event time on, Unix ms.
    At(i64),
    /// Some of it is not counted by every source partition.
    Never,
}

impl Shard {
    pub(super) fn note_counted(&mut self, source: &SourceRange, commit: &CommitRecord) {
        let known = self.sources.entry(&source.topic, source.partition);
        let is_first = known.counted.is_none();
        let counted = known.counted.get_or_insert_default();
        if counted.catalogue == commit.catalogue && !is_first {
            return;
        }
        counted.note(commit, source.newest_ms, is_first);
        self.since = None;
        if is_first {
            return;
        }
        // Rare: whatever can be told now, or no longer, is told at once.
        for id in 0..self.entries.len() as u32 {
            for at in 0..self.entries[id as usize].slots.len() {
                self.schedule(id, at, AT_ONCE);
                self.note_changed(id);
            }
        }
    }

    /// Since when a signal's measures are counted, by its number. Kept until a catalogue changes.
    pub(super) fn since(&mut self, signal: usize) -> Since {
        if self.since.is_none() {
            let signals = self.set.catalogue.signals().iter();
            self.since = Some(signals.map(|signal| self.since_of(signal)).collect());
        }
        let since = self.since.as_ref().and_then(|since| since.get(signal));
        since.copied().unwrap_or(Since::Always)
    }

    fn since_of(&self, signal: &Signal) -> Since {
        let mut since = Since::Always;
        for topic in self.topics(signal) {
            for counted in self.sources.counted(topic) {
                for series in &signal.rests_on {
                    match counted.since_ms.get(&self.set.catalogue.id(*series)) {
                        None => return Since::Never,
                        Some(None) => {}
                        Some(Some(at_ms)) => {
                            since = match since {
                                Since::At(before_ms) => Since::At(before_ms.max(*at_ms)),
                                _ => Since::At(*at_ms),
                            };
                        }
                    }
                }
            }
        }
        since
    }

    /// What a signal may not say yet: a window that was not counted whole is unknown. What is judged
    /// at each event is judged all the same: what was seen is true.
    pub(super) fn not_yet(&mut self, signal: &Signal, at_ms: i64) -> Option<Read> {
        if signal.judge == Judge::EachDelta {
            return None;
        }
        let next = match self.since(signal.number) {
            Since::Always => return None,
            Since::At(since_ms) => {
                let whole_ms = since_ms.saturating_add(signal.reach_ms);
                if whole_ms <= at_ms {
                    return None;
                }
                Next::At(whole_ms)
            }
            Since::Never => Next::Touched,
        };
        Some(Read {
            reading: Reading::unknown(),
            next,
        })
    }
}
