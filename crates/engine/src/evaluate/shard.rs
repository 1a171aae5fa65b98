//! A shard: everything that one panes partition knows, and the judging of it.
//!
//! Each signal of each entity is read when something that it reads changed, or when its last
//! reading said that it may change by itself; nothing is scanned. Time comes from the records.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use fenghuo_alert::{Alert, Origin, Transition};
use fenghuo_signal::{Entity, EntityRef, Fact, Facts, Judge, Kind, Reading, Seen, Signal, State};
use fenghuo_window::{Clock, Clocks, History, Jump, Shape, SourceState, Values};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::evaluate::EvaluateConfig;
use crate::evaluate::checkpoint::{SEGMENTS, segment_of};
use crate::ingest::home_of;
use crate::record::{CommitRecord, EntityTable, SourceRange};
use crate::set::Set;

mod counted;
mod judgement;
mod kept;
mod panes;
mod room;
mod sources;
mod step;

use counted::Since;
use panes::Held;
pub use room::POINTS_MAX as PLAN_POINTS_MAX;
use room::{Claim, Room};
use sources::Sources;

/// Due as soon as the clock is known.
const AT_ONCE: i64 = i64::MIN + 1;

/// The same for what is judged at each delta, when a pane that it reads has changed: it is read at a
/// time at which that pane counts, whatever the clock says.
const AT_PANE: i64 = i64::MIN;

/// A pane that begins longer ago than this is history, and is not judged as if it were new.
const HISTORY_MS: i64 = 7 * 86_400_000;

/// A pane of a signal that is judged at each delta counts for longer than this.
const PANE_COUNTS_MS: i64 = 60_000;

/// A step of an alert, and where it came from.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) transition: Transition,
    pub(crate) appended_ms: Option<i64>,
}

/// One signal of one entity.
struct Slot {
    signal: usize,
    state: State,
    /// Panes that end at or before this are in the state.
    advanced_ms: Option<i64>,
    due_ms: Option<i64>,
    /// Starts of panes that changed and were not judged yet, earliest first: of those that one reading
    /// sees the first. Of signals that are judged at each delta alone.
    unjudged: Vec<i64>,
    reading: Option<(Reading, i64)>,
    /// The reading was not handed over yet.
    is_new: bool,
    /// By index of the rule.
    alerts: Vec<(usize, Alert)>,
}

struct Entry {
    entity: Entity,
    segment: usize,
    history: History,
    facts: Facts,
    /// Those of its signals that something was to be read for, by number of the signal.
    slots: Vec<Slot>,
    claim: Claim,
    changed: bool,
}

impl Entry {
    /// Where the slot of a signal is, or would be. Most entities are read for few of their signals,
    /// so a slot is made when it is needed.
    fn find_slot(&self, signal: usize) -> Result<usize, usize> {
        self.slots.binary_search_by_key(&signal, |slot| slot.signal)
    }

    fn insert_slot(&mut self, at: usize, signal: usize) {
        let slot = Slot {
            signal,
            state: State::new(),
            advanced_ms: None,
            due_ms: None,
            unjudged: Vec::new(),
            reading: None,
            is_new: false,
            alerts: Vec::new(),
        };
        self.slots.reserve_exact(1);
        self.slots.insert(at, slot);
    }
}

impl Slot {
    /// A pane changed.
    fn note_unjudged(&mut self, start_ms: i64) {
        let at = self.unjudged.partition_point(|noted| *noted <= start_ms);
        let is_seen = at > 0 && start_ms < self.unjudged[at - 1] + PANE_COUNTS_MS;
        if !is_seen {
            self.unjudged.insert(at, start_ms);
        }
    }

    /// When the first of the panes that were not judged yet counts, at the latest.
    fn unjudged_ms(&self) -> Option<i64> {
        Some(self.unjudged.first()? + PANE_COUNTS_MS)
    }
}

/// Some of the entries, written down together.
#[derive(Default)]
struct Segment {
    entries: Vec<u32>,
    /// Panes before this offset are in what was written down.
    covered: u64,
    /// Records that hold its rows.
    chunks: u32,
    /// Something changed since.
    changed: bool,
    /// Bytes of the panes of its entries: see [`panes`](mod@panes).
    held: Held,
}

/// The record whose clocks let something be due.
#[derive(Clone, Copy)]
struct Place {
    offset: u64,
    origin: Origin,
    /// Append time of the oldest event that it is about.
    appended_ms: Option<i64>,
    /// When it was made, Unix ms.
    at_ms: i64,
    /// By how much the clock was set forward before.
    jump_ms: i64,
}

/// Entries by when one of their slots is due.
type Queue = BinaryHeap<Reverse<(i64, u32)>>;

/// An entity that changed.
pub(crate) struct Changed<'a> {
    pub(crate) entity: &'a Entity,
    pub(crate) history: &'a History,
    pub(crate) facts: &'a Facts,
    /// Its new readings: the signal's name, the reading, its event time.
    pub(crate) readings: Vec<(Arc<str>, Reading, i64)>,
}

/// Everything that one panes partition knows.
pub(crate) struct Shard {
    partition: u32,
    config: Arc<EvaluateConfig>,
    /// By which it counts, reads and judges.
    set: Arc<Set>,
    entries: Vec<Entry>,
    segments: Vec<Segment>,
    index: HashMap<Entity, u32, FixedState>,
    /// One queue a signal.
    queues: Vec<Queue>,
    muted: Vec<bool>,
    /// Event time at which each signal's sources were first heard.
    begun_ms: Vec<Option<i64>>,
    /// Event time until which each signal ends nothing, as its clock was set forward.
    held_ms: Vec<Option<i64>>,
    changed: Vec<u32>,
    clocks: Clocks,
    sources: Sources,
    /// By number of the signal; made when it is asked for.
    since: Option<Vec<Since>>,
    /// Part of a commit that was applied before, and is now being repeated.
    repeating: bool,
    /// Points of all plans.
    points: usize,
    pub(crate) room: Room,
    /// Panes that were cut, as there was no room for all.
    pub(crate) panes_cut: u64,
    pub(crate) holes: u64,
    /// Rows of measures that had another form than their id tells.
    pub(crate) unreadable: u64,
}

impl Shard {
    pub(crate) fn new(partition: u32, config: Arc<EvaluateConfig>, set: Arc<Set>) -> Self {
        let signals = set.catalogue.signals().len();
        Self {
            partition,
            set,
            room: Room::new(config.entities_max),
            points: 0,
            config,
            entries: Vec::new(),
            segments: (0..SEGMENTS).map(|_| Segment::default()).collect(),
            index: HashMap::default(),
            queues: (0..signals).map(|_| Queue::new()).collect(),
            muted: vec![false; signals],
            begun_ms: vec![None; signals],
            held_ms: vec![None; signals],
            changed: Vec::new(),
            clocks: Clocks::default(),
            sources: Sources::default(),
            since: None,
            repeating: false,
            panes_cut: 0,
            holes: 0,
            unreadable: 0,
        }
    }

    /// Number of its panes partition.
    pub(crate) fn partition(&self) -> u32 {
        self.partition
    }

    /// By what it counts, reads and judges.
    pub(crate) fn set(&self) -> &Set {
        &self.set
    }

    /// Places that its entities take.
    pub(crate) fn places(&self) -> usize {
        self.room.taken
    }

    /// Points of all plans.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// Where each source partition stands.
    pub(crate) fn clocks(&self) -> impl Iterator<Item = (&str, u32, SourceState)> {
        self.clocks
            .states()
            .map(|(topic, _, partition, state)| (topic, partition, state))
    }

    /// The entities.
    pub(crate) fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.entries.iter().map(|entry| &entry.entity)
    }

    /// Applies one part of a commit: merges it, moves the clocks, and judges what is due.
    pub(crate) fn apply(
        &mut self,
        commit: &CommitRecord,
        offset: u64,
        decisions: &mut Vec<Decision>,
    ) {
        if self.is_repeat(commit, offset) {
            return;
        }
        let place = self.place(commit, offset);
        self.merge(commit, place, decisions);
        if commit.continues {
            return;
        }
        let jump = commit.jump.map(|row| Jump {
            to_ms: row.to_ms,
            by_ms: row.by_ms,
        });
        // Nobody's time passes over it any more once it has passed over it everywhere.
        let jump = jump.filter(|jump| self.clocks.is_behind(jump.to_ms));
        let before = jump.map(|jump| (jump, self.clocks.clone()));
        let mut is_stepped = false;
        for source in &commit.sources {
            let state = SourceState {
                newest_ms: source.newest_ms.unwrap_or(i64::MIN),
                lateness_ms: source.lateness_ms,
                at_ms: commit.at_ms,
                at_end: source.at_end,
            };
            self.note_counted(source, commit);
            let (topic, partition) = (&source.topic, source.partition);
            is_stepped |= self
                .clocks
                .update(topic, partition, source.partitions, state);
        }
        if is_stepped {
            self.step_back(offset);
        }
        if let Some((jump, before)) = before {
            self.step_forward(jump, &before, offset);
        }
        for signal in 0..self.queues.len() {
            self.judge_due(signal, place, decisions);
        }
    }

    fn place(&self, commit: &CommitRecord, offset: u64) -> Place {
        let appended_ms = commit
            .sources
            .iter()
            .filter_map(|source| source.oldest_append_ms)
            .min();
        let origin = Origin {
            partition: self.partition,
            offset: commit.origin.unwrap_or(offset),
        };
        Place {
            offset,
            origin,
            appended_ms,
            at_ms: commit.at_ms,
            jump_ms: commit.jump.map_or(0, |jump| jump.by_ms),
        }
    }

    /// Whether the commit was applied before. Notes what it covers, and a hole before it.
    fn is_repeat(&mut self, commit: &CommitRecord, offset: u64) -> bool {
        let covered_before = |shard: &Self, source: &SourceRange| {
            let known = shard.sources.get(&source.topic, source.partition)?;
            known.covered.filter(|_| !source.anew)
        };
        let is_repeat = self.repeating
            || commit.sources.iter().any(|source| {
                source.to > source.from
                    && covered_before(self, source).is_some_and(|covered| covered > source.from)
            });
        self.repeating = is_repeat && commit.continues;
        if is_repeat || commit.continues {
            return is_repeat;
        }
        for source in &commit.sources {
            let covered = covered_before(self, source).unwrap_or(source.from);
            if covered < source.from {
                self.holes += 1;
                self.lose(&source.topic, source.from - covered, commit.at_ms, offset);
            }
            let known = self.sources.entry(&source.topic, source.partition);
            known.covered = Some(source.to);
        }
        false
    }

    /// Counts records of a source that were gone before they were read.
    fn lose(&mut self, source: &str, records: u64, at_ms: i64, offset: u64) {
        let source = Entity::one(Kind::SOURCE, source);
        // Every shard sees the hole; the one of the source tells it.
        if home_of(&source, u32::MAX) != self.partition {
            return;
        }
        let Some(id) = self
            .entry_of(source.as_ref(), Claim::Sold)
            .filter(|id| !self.is_covered(*id, offset))
        else {
            return;
        };
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        let catalogue = Arc::clone(&self.set.catalogue);
        for series in catalogue.program().lost() {
            let start_ms = series.cell_start(at_ms);
            self.add(id, series.number, start_ms, &[records], at_ms);
        }
    }

    fn merge(&mut self, commit: &CommitRecord, place: Place, decisions: &mut Vec<Decision>) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let entities: Vec<Option<EntityRef<'_>>> = commit
            .entities
            .iter()
            .flat_map(EntityTable::entities)
            .collect();
        let ids: Vec<Option<u32>> = entities
            .iter()
            .zip(Claim::all(commit, &entities, &catalogue))
            .map(|(entity, claim)| self.entry((*entity)?, claim, place.offset))
            .collect();
        let id_of = |index: u32| ids.get(index as usize).copied().flatten();
        for row in &commit.facts {
            if let (Some(id), Some(fact)) = (id_of(row.entity), row.fact.clone())
                && self.take_fact(id, fact, room::POINTS_MAX)
            {
                self.touch_all(id);
            }
        }
        for rows in &commit.rows {
            // Of a measure that this catalogue does not have.
            let Some(series) = catalogue.series_by_id(rows.id) else {
                continue;
            };
            // What is judged at each delta sees every pane, also where a commit spans more time than
            // is kept: it is read before a later one moves it out.
            let is_read = series.is_paned() && self.is_read_at_each(series.number);
            let mut ordered: Vec<(i64, u32, Values)> = Vec::new();
            let is_whole = rows.each(series, &mut |entity, start_ms, values| {
                let Some(id) = id_of(entity) else { return };
                match is_read {
                    true => ordered.push((start_ms, id, values.into())),
                    false => self.add(id, series.number, start_ms, values, commit.at_ms),
                }
            });
            ordered.sort_unstable_by_key(|(start_ms, id, _)| (*start_ms, *id));
            for (start_ms, id, values) in ordered {
                self.judge_before(id, series.number, start_ms, place, decisions);
                self.add(id, series.number, start_ms, &values, commit.at_ms);
            }
            if !is_whole {
                self.unreadable += 1;
            }
        }
    }

    /// Takes a fact, unless it is a plan whose points would be too many.
    fn take_fact(&mut self, id: u32, fact: Fact, points_max: usize) -> bool {
        let entry = &mut self.entries[id as usize];
        let before = entry.facts.points();
        if let Fact::Plan(plan) = &fact
            && self.points + plan.curve.len() > points_max
        {
            self.room.refuse_plan(&entry.entity);
            return false;
        }
        entry.facts.take(fact);
        self.points = self.points - before + entry.facts.points();
        true
    }

    fn add(&mut self, id: u32, series: u16, start_ms: i64, values: &[i64], at_ms: i64) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let series = &catalogue.series()[usize::from(series)];
        let change = self.count(id, series, start_ms, values, at_ms);
        self.touch(id, series.number, series.is_paned().then_some(start_ms));
        let (Some(change), Shape::Register { total }) = (change, &series.shape) else {
            return;
        };
        let total = &catalogue.series()[usize::from(*total)];
        // The sku is homed where its locations are.
        let sku = Entity::one(Kind::SKU, &self.entries[id as usize].entity.first);
        if let Some(sku) = self.entry_of(sku.as_ref(), Claim::Told) {
            self.entries[sku as usize].history.merge(total, 0, &change);
            self.touch(sku, total.number, None);
        }
    }

    /// The entry that a record at `offset` is to change; `None` where the record is in it.
    fn entry(&mut self, entity: EntityRef<'_>, claim: Claim, offset: u64) -> Option<u32> {
        let id = self.entry_of(entity, claim)?;
        (!self.is_covered(id, offset)).then_some(id)
    }

    /// Whether what is known of an entry rests on panes beyond `offset`: while a restart folds
    /// again what other segments lack.
    fn is_covered(&self, id: u32, offset: u64) -> bool {
        self.segments[self.entries[id as usize].segment].covered > offset
    }

    fn entry_of(&mut self, entity: EntityRef<'_>, claim: Claim) -> Option<u32> {
        if let Some(id) = self.index.get(&entity) {
            return Some(*id);
        }
        let entity = Entity::from(entity);
        let places = self.set.catalogue.places(entity.kind);
        let has_room = self.room.take(&entity, claim, places);
        has_room.then(|| self.insert(entity, claim))
    }

    fn insert(&mut self, entity: Entity, claim: Claim) -> u32 {
        let id = self.entries.len() as u32;
        let segment = segment_of(&entity);
        self.segments[segment].entries.push(id);
        self.index.insert(entity.clone(), id);
        self.entries.push(Entry {
            entity,
            segment,
            history: History::default(),
            facts: Facts::default(),
            slots: Vec::new(),
            claim,
            changed: false,
        });
        id
    }

    /// The clock of a signal about an entity.
    fn clock(&self, signal: &Signal, entity: &Entity) -> Option<Clock> {
        if signal.streams.is_empty() {
            return self.clocks.source(&entity.first);
        }
        self.clocks.all(self.topics(signal))
    }

    fn topics<'a>(&'a self, signal: &'a Signal) -> impl Iterator<Item = &'a str> {
        let carries = |stream: &fenghuo_event::Stream| {
            self.config
                .topics
                .iter()
                .find(move |(_, carried)| carried == stream)
        };
        // A stream without a topic never speaks: a name that no topic has stands for it.
        signal
            .streams
            .iter()
            .map(move |stream| carries(stream).map_or("", |(name, _)| name))
    }

    /// Something that signals read of an entity changed, in the pane that begins at `start_ms`.
    fn touch(&mut self, id: u32, series: u16, start_ms: Option<i64>) {
        self.note_changed(id);
        let catalogue = Arc::clone(&self.set.catalogue);
        for number in catalogue.touched_by(series) {
            self.touch_signal(id, &catalogue.signals()[usize::from(*number)], start_ms);
        }
    }

    /// Facts changed: every signal may read differently.
    fn touch_all(&mut self, id: u32) {
        self.note_changed(id);
        let catalogue = Arc::clone(&self.set.catalogue);
        for signal in catalogue.signals() {
            self.touch_signal(id, signal, None);
        }
    }

    /// Schedules a signal of an entity. One of which nothing can be said yet has no slot.
    fn touch_signal(&mut self, id: u32, signal: &Signal, start_ms: Option<i64>) {
        let entry = &mut self.entries[id as usize];
        if !signal.kinds.contains(&entry.entity.kind) {
            return;
        }
        let at = match entry.find_slot(signal.number) {
            Ok(at) => at,
            Err(at) => {
                let seen = Seen {
                    entity: &entry.entity,
                    history: &entry.history,
                    series: self.set.catalogue.series(),
                    facts: &entry.facts,
                    state: &State::new(),
                    now_ms: 0,
                    begun_ms: 0,
                    clock: Clock {
                        closed_ms: 0,
                        open_ms: 0,
                    },
                    short_ms: Cell::new(0),
                };
                if !signal.estimator.applies(&seen) {
                    return;
                }
                entry.insert_slot(at, signal.number);
                at
            }
        };
        self.schedule_touched(id, at, start_ms);
    }

    /// The rules changed: what is read of an entity may be beyond limits now.
    fn touch_used(&mut self, id: u32) {
        self.note_changed(id);
        for at in 0..self.entries[id as usize].slots.len() {
            self.schedule_touched(id, at, None);
        }
    }

    fn note_changed(&mut self, id: u32) {
        let entry = &mut self.entries[id as usize];
        self.segments[entry.segment].changed = true;
        if !entry.changed {
            entry.changed = true;
            self.changed.push(id);
        }
    }

    fn schedule_touched(&mut self, id: u32, at: usize, start_ms: Option<i64>) {
        let entry = &self.entries[id as usize];
        let signal = &self.set.catalogue.signals()[entry.slots[at].signal];
        let clock = self.clock(signal, &entry.entity);
        let due_ms = match (signal.judge, clock, start_ms) {
            (Judge::EachDelta, _, Some(start_ms)) => {
                self.entries[id as usize].slots[at].note_unjudged(start_ms);
                AT_PANE
            }
            (Judge::EachDelta, ..) | (_, None, _) => AT_ONCE,
            (Judge::ClosedPane { width_ms }, Some(clock), _) => {
                // The pane that the change falls into, but never one that was judged.
                let from_ms = start_ms.unwrap_or(clock.closed_ms).max(clock.closed_ms);
                from_ms - from_ms.rem_euclid(width_ms) + width_ms
            }
        };
        self.schedule(id, at, due_ms);
    }

    /// Lets a slot be due at `due_ms`, if it is not due sooner.
    fn schedule(&mut self, id: u32, at: usize, due_ms: i64) {
        let slot = &mut self.entries[id as usize].slots[at];
        if slot.due_ms.is_none_or(|due| due_ms < due) {
            slot.due_ms = Some(due_ms);
            self.queues[slot.signal].push(Reverse((due_ms, id)));
        }
    }

    /// Hands over every entity that changed since the last call, with its readings.
    pub(crate) fn drain_changed(&mut self, each: &mut dyn FnMut(Changed<'_>)) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let signals = catalogue.signals();
        for id in std::mem::take(&mut self.changed) {
            let entry = &mut self.entries[id as usize];
            entry.changed = false;
            let readings = entry
                .slots
                .iter_mut()
                .filter_map(|slot| {
                    let is_new = std::mem::take(&mut slot.is_new);
                    let (reading, at_ms) = slot.reading.filter(|_| is_new)?;
                    Some((Arc::clone(&signals[slot.signal].name), reading, at_ms))
                })
                .collect();
            each(Changed {
                entity: &entry.entity,
                history: &entry.history,
                facts: &entry.facts,
                readings,
            });
        }
    }
}
