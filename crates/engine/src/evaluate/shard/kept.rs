//! A shard written down and read again: rows of entities, and the clocks as of a panes offset.
//!
//! What is not here cannot outlive a restart. Nothing is decided here but for one thing: what
//! becomes of an episode whose rule is gone.

use std::sync::Arc;

use fenghuo_alert::Rules;
use fenghuo_log::Append;
use fenghuo_signal::{Entity, Kind, Reading, ReadingState, State};
use fenghuo_window::{Dump, SourceState};

use super::counted::Counted;
use super::{AT_ONCE, Claim, Decision, Entry, Shard, Slot};
use crate::evaluate::checkpoint::{
    AlertRow, ClockRow, EntityRow, Head, Reader, ReadingRow, SEGMENTS, SeriesRow, SignalRow,
    SlotRow, SourceRow, TierRow, Unreadable, Writer, from_steps, to_steps,
};
use crate::record::{EntityName, FactRow, VERSION};
use crate::set::{Set, rules};

impl Shard {
    /// The segment whose rows cover least.
    pub(crate) fn oldest_segment(&self) -> usize {
        let segments = self.segments.iter().enumerate();
        let oldest = segments.min_by_key(|(_, segment)| segment.covered);
        oldest.map_or(0, |(number, _)| number)
    }

    /// Writes a segment down, as of the panes before `covered`: all of it where something in it
    /// changed, else only that nothing did.
    pub(crate) fn write_segment(
        &mut self,
        number: usize,
        covered: u64,
        to: &Writer,
        appends: &mut Vec<Append>,
    ) {
        let segment = &self.segments[number];
        if segment.covered >= covered {
            return;
        }
        let mut chunks = segment.chunks;
        if segment.changed {
            let entries = segment.entries.iter();
            let rows = entries.map(|id| self.row(&self.entries[*id as usize]));
            chunks = to.rows(number, chunks, rows, appends);
        }
        to.head(number, &self.head(covered, chunks), appends);
        let segment = &mut self.segments[number];
        segment.covered = covered;
        segment.chunks = chunks;
        segment.changed = false;
    }

    fn head(&self, covered: u64, chunks: u32) -> Head {
        let clock_of = |topic: &str, partition: u32| {
            let mut states = self.clocks.states();
            let state = states.find(|(name, _, at, _)| *name == topic && *at == partition);
            state.map(|(_, partitions, _, state)| ClockRow {
                partitions,
                newest_ms: state.newest_ms,
                lateness_ms: state.lateness_ms,
                at_ms: state.at_ms,
                at_end: state.at_end,
            })
        };
        let sources = self.sources.iter().map(|source| SourceRow {
            topic: source.topic.clone(),
            partition: source.partition,
            covered: source.covered,
            clock: clock_of(&source.topic, source.partition),
            catalogue: source
                .counted
                .as_ref()
                .map_or(0, |counted| counted.catalogue),
            counted: source.counted.as_ref().map_or_else(Vec::new, Counted::rows),
        });
        let signals = self.set.catalogue.signals().iter().enumerate();
        Head {
            version: VERSION,
            covered,
            chunks,
            sources: sources.collect(),
            signals: signals
                .map(|(number, signal)| SignalRow {
                    name: signal.name.to_string(),
                    muted: self.muted[number],
                    begun_ms: self.begun_ms[number],
                    held_ms: self.held_ms[number],
                    definition: signal.definition,
                })
                .collect(),
            repeating: self.repeating,
        }
    }

    fn row(&self, entry: &Entry) -> EntityRow {
        let fact = |fact| FactRow {
            entity: 0,
            fact: Some(fact),
        };
        EntityRow {
            name: Some(EntityName {
                kind: entry.entity.kind.name().to_owned(),
                first: entry.entity.first.to_string(),
                second: entry.entity.second.to_string(),
            }),
            series: entry
                .history
                .dump(self.set.catalogue.series())
                .map(|dump| self.series_row(dump))
                .collect(),
            facts: entry.facts.all().map(fact).collect(),
            slots: entry
                .slots
                .iter()
                .filter_map(|slot| self.slot_row(slot))
                .collect(),
            claim: entry.claim.number(),
        }
    }

    /// `None` where the slot was never used.
    fn slot_row(&self, slot: &Slot) -> Option<SlotRow> {
        let is_new = slot.reading.is_none() && slot.due_ms.is_none() && slot.alerts.is_empty();
        let alert =
            |(rule, alert): &(usize, _)| AlertRow::new(&self.set.rules.get(*rule)?.name, alert);
        let signal = &self.set.catalogue.signals()[slot.signal];
        (!is_new).then(|| SlotRow {
            signal: signal.name.to_string(),
            definition: signal.definition,
            state: slot.state.to_vec(),
            advanced_ms: slot.advanced_ms,
            due_ms: slot.due_ms,
            unjudged_ms: slot.unjudged.clone(),
            reading: slot.reading.map(reading_row),
            alerts: slot.alerts.iter().filter_map(alert).collect(),
        })
    }

    /// Takes what was written down, and returns the panes offset from which to fold on. Judges
    /// by the rules of then, until [`Shard::turn_to`].
    pub(crate) fn load(&mut self, from: &mut Reader) -> Result<u64, Unreadable> {
        // Of a set that this build cannot make the rules may do; texts that it does not understand
        // any more cannot be judged by.
        if let Some(row) = from.set().filter(|row| !self.set.is_like(row)) {
            let rules = rules(&row.texts, &self.set.catalogue).map(Arc::new);
            self.set = Arc::new(Set {
                number: row.number,
                catalogue: Arc::clone(&self.set.catalogue),
                rules: rules.unwrap_or_else(|| Arc::clone(&self.set.rules)),
            });
        }
        for (number, head) in from.heads() {
            let segment = self.segments.get_mut(number);
            let segment =
                segment.ok_or_else(|| Unreadable::Damaged(format!("segment {number}")))?;
            segment.covered = head.covered;
            segment.chunks = head.chunks;
        }
        let mut result = Ok(());
        from.rows(&mut |row| {
            if let Err(error) = self.load_row(row) {
                result = Err(error);
            }
        })?;
        result?;
        let least = from.heads().min_by_key(|(_, head)| head.covered);
        match least {
            Some((_, head)) if from.heads().count() == SEGMENTS => {
                self.load_clocks(head);
                Ok(head.covered)
            }
            // A young shard: some segments were never written down, and no clock is as old as
            // what they lack.
            _ => Ok(0),
        }
    }

    fn load_clocks(&mut self, head: &Head) {
        for source in &head.sources {
            let known = self.sources.entry(&source.topic, source.partition);
            known.covered = source.covered.or(known.covered);
            if !source.counted.is_empty() {
                known.counted = Some(Counted::load(source.catalogue, &source.counted));
            }
            if let Some(clock) = &source.clock {
                let state = SourceState {
                    newest_ms: clock.newest_ms,
                    lateness_ms: clock.lateness_ms,
                    at_ms: clock.at_ms,
                    at_end: clock.at_end,
                };
                let (topic, partition) = (&source.topic, source.partition);
                self.clocks
                    .update(topic, partition, clock.partitions, state);
            }
        }
        for row in &head.signals {
            if let Some(number) = self.number_of(&row.name)
                && self.set.catalogue.signals()[number].definition == row.definition
            {
                self.muted[number] = row.muted;
                self.begun_ms[number] = row.begun_ms;
                self.held_ms[number] = row.held_ms;
            }
        }
        self.repeating = head.repeating;
    }

    fn load_row(&mut self, row: EntityRow) -> Result<(), Unreadable> {
        let damaged = |what: &str| Unreadable::Damaged(format!("{what} of an entity"));
        let name = row.name.ok_or_else(|| damaged("no name"))?;
        let Ok(kind) = Kind::named(&name.kind) else {
            return Ok(());
        };
        let entity = Entity::pair(kind, &name.first, &name.second);
        let claim = Claim::from_number(row.claim);
        // One that there is no room for any more is told as those are that find none.
        let places = self.set.catalogue.places(kind);
        if !self.room.keep(&entity, claim, places) {
            return Ok(());
        }
        let id = self.insert(entity, claim);
        for fact in row.facts.into_iter().filter_map(|row| row.fact) {
            self.take_fact(id, fact, usize::MAX);
        }
        let catalogue = Arc::clone(&self.set.catalogue);
        for row in row.series {
            // A measure that this catalogue does not have any more.
            let Some(series) = catalogue.series_by_id(row.series) else {
                continue;
            };
            let width = series.width();
            let tiers = row.tiers.into_iter().map(|tier| cells(&tier, width));
            let tiers: Vec<Vec<i64>> = tiers.collect();
            let history = &mut self.entries[id as usize].history;
            if !history.load(series, &tiers, row.cut_ms) {
                return Err(damaged("a series"));
            }
            self.hold(id, series);
        }
        let entry = &mut self.entries[id as usize];
        for row in row.slots {
            // A signal that this catalogue does not have any more.
            let Some(signal) = catalogue.signal(&row.signal) else {
                continue;
            };
            let number = signal.number;
            if !signal.kinds.contains(&kind) {
                continue;
            }
            let at = entry.find_slot(number).unwrap_or_else(|at| {
                entry.insert_slot(at, number);
                at
            });
            let slot = &mut entry.slots[at];
            if row.definition == signal.definition {
                slot.state = State::from_slice(&row.state);
                slot.advanced_ms = row.advanced_ms;
                slot.due_ms = row.due_ms;
                slot.unjudged = row.unjudged_ms;
                slot.reading = row.reading.map(reading);
                slot.is_new = slot.reading.is_some();
            } else {
                // It means something else now: only its open episodes go on, by the new readings.
                slot.due_ms = Some(AT_ONCE);
            }
            for row in &row.alerts {
                let rule = self.set.rules.named(&row.rule).map(|(index, _)| index);
                if let (Some(rule), Some(alert)) = (rule, row.alert()) {
                    slot.alerts.push((rule, alert));
                }
            }
            if let Some(due_ms) = slot.due_ms {
                self.queues[number].push(std::cmp::Reverse((due_ms, id)));
            }
        }
        if !entry.changed {
            entry.changed = true;
            self.changed.push(id);
        }
        Ok(())
    }

    /// Goes on under another set, and returns whether anything is different.
    ///
    /// # Errors
    /// None that a shard which was in use can give.
    pub(crate) fn turn_to(
        &mut self,
        set: &Arc<Set>,
        decisions: &mut Vec<Decision>,
    ) -> Result<bool, Unreadable> {
        let mut is_other = self.adopt(&set.rules, decisions);
        if self.set.catalogue != set.catalogue {
            *self = self.under(Arc::clone(set))?;
            is_other = true;
        }
        self.set = Arc::clone(set);
        Ok(is_other)
    }

    /// The same under another catalogue: what both have goes on, what is new begins.
    fn under(&mut self, set: Arc<Set>) -> Result<Self, Unreadable> {
        let mut shard = Self::new(self.partition, Arc::clone(&self.config), set);
        for entry in std::mem::take(&mut self.entries) {
            shard.load_row(self.row(&entry))?;
        }
        shard.load_clocks(&self.head(0, 0));
        for (new, old) in shard.segments.iter_mut().zip(&self.segments) {
            new.covered = old.covered;
            new.chunks = old.chunks;
            new.changed = true;
        }
        shard.panes_cut = self.panes_cut;
        shard.holes = self.holes;
        shard.unreadable = self.unreadable;
        Ok(shard)
    }

    /// Judges by these rules from now on. An episode whose rule is gone, or watches its entity no
    /// more, ends here; one whose rule was edited goes on under the new limits. Returns whether
    /// anything is different.
    fn adopt(&mut self, rules: &Arc<Rules>, decisions: &mut Vec<Decision>) -> bool {
        if self.set.rules.texts() == rules.texts() {
            return false;
        }
        let before = Arc::clone(&self.set.rules);
        self.set = Arc::new(Set {
            rules: Arc::clone(rules),
            ..Set::clone(&self.set)
        });
        for id in 0..self.entries.len() as u32 {
            self.touch_used(id);
            let catalogue = Arc::clone(&self.set.catalogue);
            let Entry { entity, slots, .. } = &mut self.entries[id as usize];
            for slot in slots {
                let signal = &catalogue.signals()[slot.signal].name;
                let at_ms = slot.reading.map_or(i64::MIN, |(_, at_ms)| at_ms);
                for (rule, mut alert) in std::mem::take(&mut slot.alerts) {
                    let Some(old) = before.get(rule) else {
                        continue;
                    };
                    match rules.named(&old.name) {
                        Some((index, new)) if *new.signal == **signal && new.watches(entity) => {
                            slot.alerts.push((index, alert));
                        }
                        _ => decisions.extend(alert.close(old, entity, at_ms).map(|transition| {
                            Decision {
                                transition,
                                appended_ms: None,
                            }
                        })),
                    }
                }
            }
        }
        true
    }
}

impl Shard {
    fn series_row(&self, dump: Dump) -> SeriesRow {
        let series = &self.set.catalogue.series()[usize::from(dump.series)];
        let is_timed = !series.tiers().is_empty();
        let tiers = dump.tiers.into_iter();
        let tier = |numbers: Vec<i64>| match is_timed {
            true => {
                let cells = || numbers.chunks_exact(series.width() + 1);
                let starts_ms: Vec<i64> = cells().map(|cell| cell[0]).collect();
                TierRow {
                    starts_ms: to_steps(&starts_ms),
                    values: cells().flat_map(|cell| &cell[1..]).copied().collect(),
                }
            }
            false => TierRow {
                starts_ms: Vec::new(),
                values: numbers,
            },
        };
        SeriesRow {
            series: self.set.catalogue.id(dump.series),
            cut_ms: dump.cut_ms,
            tiers: tiers.map(tier).collect(),
        }
    }

    fn number_of(&self, signal: &str) -> Option<usize> {
        let signal = self.set.catalogue.signal(signal);
        signal.map(|signal| signal.number)
    }
}

/// A tier as its cells, each its start and its fields.
fn cells(tier: &TierRow, width: usize) -> Vec<i64> {
    if tier.starts_ms.is_empty() {
        return tier.values.clone();
    }
    let starts_ms = from_steps(&tier.starts_ms).into_iter();
    let cells = starts_ms.zip(tier.values.chunks(width.max(1)));
    cells
        .flat_map(|(start_ms, values)| std::iter::once(start_ms).chain(values.iter().copied()))
        .collect()
}

fn reading_row((reading, at_ms): (Reading, i64)) -> ReadingRow {
    ReadingRow {
        state: match reading.state {
            ReadingState::Ok => 0,
            ReadingState::Insufficient => 1,
            ReadingState::Unknown => 2,
        },
        value: reading.value,
        lower: reading.lower,
        upper: reading.upper,
        surprise: reading.surprise,
        n: reading.n,
        at_ms,
    }
}

fn reading(row: ReadingRow) -> (Reading, i64) {
    let reading = Reading {
        state: match row.state {
            0 => ReadingState::Ok,
            1 => ReadingState::Insufficient,
            _ => ReadingState::Unknown,
        },
        value: row.value,
        lower: row.lower,
        upper: row.upper,
        surprise: row.surprise,
        n: row.n,
    };
    (reading, row.at_ms)
}
