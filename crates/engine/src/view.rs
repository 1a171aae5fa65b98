//! The view: what the stages know now, for HTTP, metrics and the screen to read while the
//! stages write.
//!
//! Only what is committed and durable is put here. No guard of a map is held across a call:
//! readers get copies.

mod least;
mod pages;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use dashmap::DashMap;
use fenghuo_alert::{Severity, State, Transition};
use fenghuo_event::Stream;
use fenghuo_signal::{Entity, Reading};
use fenghuo_window::Jump;
use serde::Serialize;

use crate::record::{DeliveryOutcome, Intent};

pub use pages::{AlertPlace, EpisodePlace, OpenGroup, Rank, Summary, alert_place, episode_place};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Counted in panes, levels and totals.
    Accepted,
    /// Could not be taken; dead-lettered.
    Rejected,
    /// Seen before.
    Duplicate,
    /// Counted in levels and totals; its pane's share is dead-lettered.
    Late,
    /// A deleted key of a compacted topic; nothing to count.
    Tombstone,
}

impl Outcome {
    /// As in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Rejected => "rejected",
            Outcome::Duplicate => "duplicate",
            Outcome::Late => "late",
            Outcome::Tombstone => "tombstone",
        }
    }
}

/// A reading and the event time it is of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Published {
    /// The reading.
    #[serde(flatten)]
    pub reading: Reading,
    /// Event time, Unix ms.
    pub at_ms: i64,
}

/// Totals of an entity since the log began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Paid orders.
    pub orders: i64,
    /// Units paid.
    pub units: i64,
    /// Revenue paid, minor units.
    pub revenue_minor: i64,
    /// Cancelled orders.
    pub cancelled_orders: i64,
    /// Units cancelled.
    pub cancelled_units: i64,
    /// Revenue cancelled, minor units.
    pub cancelled_revenue_minor: i64,
    /// Placed orders; told of campaigns, channels and the shop.
    pub placed_orders: i64,
}

/// A minute of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChartPoint {
    /// It begins, Unix ms.
    pub at_ms: i64,
    /// Orders planned.
    pub planned: f64,
    /// Orders paid; absent for the minutes to come.
    pub paid: Option<i64>,
}

/// Where a delivery stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// What was to be sent.
    pub intent: Arc<Intent>,
    /// What became of it; absent while it is being tried.
    pub outcome: Option<DeliveryOutcome>,
}

/// Where a source partition stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceStanding {
    /// Newest event time, Unix ms.
    pub newest_ms: Option<i64>,
    /// Allowed lateness.
    pub lateness_ms: i64,
    /// Nothing more was there to read.
    pub at_end: bool,
    /// When it was said, Unix ms.
    pub at_ms: i64,
}

/// What was last heard of the shop's time, by a stage of this process that reads its events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Goes up whenever an event is heard.
    pub commits: u64,
    /// When the last event happened by its own word, Unix ms.
    pub occurred_ms: Option<i64>,
    /// When it was committed, Unix ms.
    pub at_ms: i64,
    /// The last event that was refused since it lies ahead of the log: how far, ms, and when that
    /// was committed.
    pub ahead: Option<(i64, i64)>,
    /// How many were, since one was last taken: one sender that is ahead is no clock that is behind.
    pub ahead_count: u32,
    /// An event was taken.
    pub taken: bool,
    /// How far the clock of the log is ahead of the one of the stage, ms, and when that was told:
    /// of records that came while nothing else was there to read.
    pub log_ahead: Option<(i64, i64)>,
}

/// Closed episodes and deliveries that are kept for people to look at.
const PAST_MAX: usize = 2_000;

/// The readings of one signal.
type OfSignal = Arc<DashMap<Entity, Published>>;

/// Readings by signal: whoever asks for one signal reads no other's.
/// A signal has its map from its first reading on.
#[derive(Default)]
struct Readings(RwLock<BTreeMap<Arc<str>, OfSignal>>);

impl Readings {
    fn of(&self, signal: &str) -> Option<OfSignal> {
        let signals = self.0.read().unwrap_or_else(PoisonError::into_inner);
        signals.get(signal).cloned()
    }

    fn publish(&self, signal: &Arc<str>, entity: Entity, published: Published) {
        let of = self.of(signal).unwrap_or_else(|| {
            let mut signals = self.0.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(signals.entry(Arc::clone(signal)).or_default())
        });
        of.insert(entity, published);
    }

    /// Every signal that has readings, sorted.
    fn all(&self) -> Vec<(Arc<str>, OfSignal)> {
        let signals = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let signals = signals.iter();
        signals
            .map(|(name, of)| (Arc::clone(name), Arc::clone(of)))
            .collect()
    }

    fn len(&self) -> usize {
        self.all().iter().map(|(_, of)| of.len()).sum()
    }
}

/// What the stages know now.
#[derive(Default)]
pub struct View {
    readings: Readings,
    totals: DashMap<Entity, Totals>,
    charts: DashMap<Entity, Vec<ChartPoint>>,
    /// Boxed, as a map keeps room for as many again.
    open: DashMap<String, Box<Transition>>,
    closed: Mutex<VecDeque<Transition>>,
    deliveries: DashMap<String, Delivery>,
    delivery_order: Mutex<VecDeque<String>>,
    sources: DashMap<(String, u32), SourceStanding>,
    /// Panes partitions whose content is on the view, and which stage put it there.
    shards: Mutex<BTreeMap<u32, u64>>,
    stages: AtomicU64,
    events: DashMap<(Stream, Outcome), u64>,
    dead_letters: DashMap<&'static str, u64>,
    /// Messages refused before it could be told of which stream they are.
    unknown: AtomicU64,
    /// Entries of each bounded map, by the stage that keeps it: a process has several of a kind.
    entries: DashMap<u64, Vec<(&'static str, u64)>>,
    /// The last few entities that found no room, by the stage that refused them.
    refused: DashMap<u64, Vec<String>>,
    holes: AtomicU64,
    undelivered: AtomicU64,
    heard: Mutex<Heard>,
    jump: Mutex<Option<Jump>>,
    /// By how much, ms; 0 where there is none.
    jump_by_ms: AtomicI64,
    /// Goes up with every change that a screen would show.
    revision: AtomicU64,
}

impl View {
    /// Nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes up with every change that a screen would show.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        self.revision.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn publish_reading(&self, signal: &Arc<str>, entity: Entity, published: Published) {
        self.readings.publish(signal, entity, published);
        self.changed();
    }

    pub(crate) fn publish_totals(&self, entity: Entity, totals: Totals) {
        self.totals.insert(entity, totals);
        self.changed();
    }

    /// When the chart of a campaign begins, Unix ms.
    pub(crate) fn chart_begins_ms(&self, campaign: &Entity) -> Option<i64> {
        let points = self.charts.get(campaign)?;
        points.first().map(|point| point.at_ms)
    }

    pub(crate) fn publish_chart(&self, campaign: Entity, points: Vec<ChartPoint>) {
        self.charts.insert(campaign, points);
        self.changed();
    }

    /// Shows a step of an alert that is durable.
    pub fn publish_transition(&self, transition: Transition) {
        if transition.to == State::Resolved {
            self.open.remove(&transition.episode);
            let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
            if closed.len() >= PAST_MAX {
                closed.pop_front();
            }
            closed.push_back(transition);
        } else {
            self.open
                .insert(transition.episode.clone(), Box::new(transition));
        }
        self.changed();
    }

    pub(crate) fn publish_intent(&self, intent: Arc<Intent>) {
        let key = intent.delivery_id.clone();
        let mut order = self
            .delivery_order
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if order.len() >= PAST_MAX
            && let Some(oldest) = order.pop_front()
        {
            self.deliveries.remove(&oldest);
        }
        order.push_back(key.clone());
        drop(order);
        self.deliveries.insert(
            key,
            Delivery {
                intent,
                outcome: None,
            },
        );
        self.changed();
    }

    pub(crate) fn publish_outcome(&self, outcome: DeliveryOutcome) {
        if let Some(mut delivery) = self.deliveries.get_mut(&outcome.delivery_id) {
            delivery.outcome = Some(outcome);
        }
        self.changed();
    }

    pub(crate) fn publish_source(&self, topic: &str, partition: u32, standing: SourceStanding) {
        self.sources.insert((topic.to_owned(), partition), standing);
    }

    pub(crate) fn count_events(&self, stream: Stream, outcome: Outcome, events: u64) {
        *self.events.entry((stream, outcome)).or_default() += events;
        self.changed();
    }

    pub(crate) fn count_dead_letters(&self, reason: &'static str, letters: u64) {
        *self.dead_letters.entry(reason).or_default() += letters;
    }

    /// Counts messages that were refused before a stage read them, and are dead letters; `None` where
    /// it cannot be told of which stream they are.
    pub fn count_refused(&self, stream: Option<Stream>, reason: &'static str, letters: u64) {
        match stream {
            Some(stream) => self.count_events(stream, Outcome::Rejected, letters),
            None => {
                self.unknown.fetch_add(letters, Ordering::Relaxed);
                self.changed();
            }
        }
        self.count_dead_letters(reason, letters);
    }

    /// Messages refused of which the stream cannot be told.
    pub fn refused_unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// What a stage has heard in a commit.
    pub(crate) fn hear(&self, heard: Heard) {
        let mut kept = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if heard.taken { 0 } else { kept.ahead_count };
        *kept = Heard {
            commits: kept.commits + 1,
            ahead_count: before.saturating_add(heard.ahead_count),
            ahead: heard.ahead.or(kept.ahead),
            log_ahead: heard.log_ahead.or(kept.log_ahead),
            ..heard
        };
    }

    /// What was last heard of the shop's time.
    pub fn heard(&self) -> Heard {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last step forward of the clock that the times follow which the stages are given from now
    /// on. To be told before they are.
    pub fn set_jump(&self, jump: Option<Jump>) {
        *self.jump.lock().unwrap_or_else(PoisonError::into_inner) = jump;
        let by_ms = jump.map_or(0, |jump| jump.by_ms);
        self.jump_by_ms.store(by_ms, Ordering::Relaxed);
    }

    pub(crate) fn jump(&self) -> Option<Jump> {
        *self.jump.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn jump_by_ms(&self) -> i64 {
        self.jump_by_ms.load(Ordering::Relaxed)
    }

    /// A name by which a stage owns what it puts on the view.
    pub(crate) fn new_owner(&self) -> u64 {
        self.stages.fetch_add(1, Ordering::Relaxed)
    }

    /// A panes partition is on the view now, put there by `owner`.
    pub(crate) fn publish_shard(&self, partition: u32, owner: u64) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.insert(partition, owner);
    }

    /// Takes a panes partition off the view, with its entities and its episodes, unless another
    /// stage of this process has put it there again.
    pub(crate) fn withdraw_shard<'a>(
        &self,
        partition: u32,
        owner: u64,
        entities: impl Iterator<Item = &'a Entity>,
        is_its: &dyn Fn(&Entity) -> bool,
    ) {
        // Held to the end: who takes over publishes the shard first, and waits here.
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.get(&partition) != Some(&owner) {
            return;
        }
        let readings = self.readings.all();
        for entity in entities {
            self.totals.remove(entity);
            self.charts.remove(entity);
            for (_, of) in &readings {
                of.remove(entity);
            }
        }
        self.open.retain(|_, episode| !is_its(&episode.entity));
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.retain(|episode| !is_its(&episode.entity));
        drop(closed);
        shards.remove(&partition);
        self.changed();
    }

    pub(crate) fn count_undelivered(&self) {
        self.undelivered.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_hole(&self) {
        self.holes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_entries(&self, owner: u64, entries: &[(&'static str, u64)]) {
        let mut held = self.entries.entry(owner).or_default();
        held.clear();
        held.extend_from_slice(entries);
    }

    pub(crate) fn set_refused(&self, owner: u64, names: Vec<String>) {
        self.refused.insert(owner, names);
    }

    /// A stage ends, and its maps with it.
    pub(crate) fn withdraw_entries(&self, owner: u64) {
        self.entries.remove(&owner);
        self.refused.remove(&owner);
    }

    /// Every reading, sorted by signal and entity.
    pub fn readings(&self) -> Vec<(Arc<str>, Entity, Published)> {
        let signals = self.readings.all().into_iter();
        signals
            .flat_map(|(signal, _)| {
                let of = self.readings_of(&signal).into_iter();
                of.map(move |(entity, published)| (Arc::clone(&signal), entity, published))
            })
            .collect()
    }

    /// Every reading of one signal, sorted by entity.
    pub fn readings_of(&self, signal: &str) -> Vec<(Entity, Published)> {
        let of = self.readings.of(signal);
        let mut all: Vec<_> = of
            .iter()
            .flat_map(|of| of.iter())
            .map(|entry| (entry.key().clone(), *entry.value()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The reading of one signal about one entity.
    pub fn reading(&self, signal: &str, entity: &Entity) -> Option<Published> {
        self.readings
            .of(signal)?
            .get(entity)
            .map(|entry| *entry.value())
    }

    /// Totals of every entity, sorted.
    pub fn totals(&self) -> Vec<(Entity, Totals)> {
        let mut all: Vec<_> = self
            .totals
            .iter()
            .map(|entry| (entry.key().clone(), *entry.value()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The chart of each campaign, sorted.
    pub fn charts(&self) -> Vec<(Entity, Vec<ChartPoint>)> {
        let mut all: Vec<_> = self
            .charts
            .iter()
            .map(|entry| (entry.key().clone(), entry.value().clone()))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Open episodes, the gravest and newest first.
    pub fn open(&self) -> Vec<Transition> {
        let mut all: Vec<Transition> = self
            .open
            .iter()
            .map(|entry| (**entry.value()).clone())
            .collect();
        all.sort_by(|a, b| {
            (b.severity, b.pending_at_ms, &b.episode).cmp(&(
                a.severity,
                a.pending_at_ms,
                &a.episode,
            ))
        });
        all
    }

    /// Closed episodes, the newest first; the oldest are forgotten.
    pub fn closed(&self) -> Vec<Transition> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.iter().rev().cloned().collect()
    }

    /// Deliveries, the newest first; the oldest are forgotten.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let order: Vec<String> = {
            let order = self
                .delivery_order
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            order.iter().rev().cloned().collect()
        };
        let get = |key: &String| self.deliveries.get(key).map(|entry| entry.value().clone());
        order.iter().filter_map(get).collect()
    }

    /// Where each source partition stands, sorted.
    pub fn sources(&self) -> Vec<(String, u32, SourceStanding)> {
        let mut all: Vec<_> = self
            .sources
            .iter()
            .map(|entry| (entry.key().0.clone(), entry.key().1, *entry.value()))
            .collect();
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all
    }

    /// Number of panes partitions whose content is shown.
    pub fn shards(&self) -> usize {
        self.shards
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Messages by stream and outcome since the process began.
    pub fn events(&self) -> Vec<(Stream, Outcome, u64)> {
        let mut all: Vec<_> = self
            .events
            .iter()
            .map(|entry| (entry.key().0, entry.key().1, *entry.value()))
            .collect();
        all.sort_unstable();
        all
    }

    /// Dead letters by reason since the process began.
    pub fn dead_letters(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<_> = self
            .dead_letters
            .iter()
            .map(|entry| (*entry.key(), *entry.value()))
            .collect();
        all.sort_unstable();
        all
    }

    /// Entries held by each bounded map, the view's own among them.
    pub fn entries(&self) -> Vec<(&'static str, u64)> {
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for entry in &self.entries {
            for (map, entries) in entry.value() {
                *sums.entry(map).or_default() += entries;
            }
        }
        let mut all: Vec<_> = sums.into_iter().collect();
        all.push(("readings", self.readings.len() as u64));
        all.push(("totals", self.totals.len() as u64));
        all.push(("episodes", self.open.len() as u64));
        all.sort_unstable();
        all
    }

    /// The last few entities that found no room, by name, without control characters.
    pub fn refused(&self) -> Vec<String> {
        let names = self.refused.iter();
        let mut names: Vec<String> = names.flat_map(|entry| entry.value().clone()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Pages that no channel could deliver, since this process began.
    pub fn undelivered(&self) -> u64 {
        self.undelivered.load(Ordering::Relaxed)
    }

    /// Ranges of source offsets that no commit record covered: something was lost.
    pub fn holes(&self) -> u64 {
        self.holes.load(Ordering::Relaxed)
    }

    /// Open episodes by state and severity.
    pub fn alert_counts(&self) -> Vec<(State, Severity, u64)> {
        let mut counts: Vec<(State, Severity, u64)> = Vec::new();
        for entry in &self.open {
            let key = (entry.to, entry.severity);
            match counts
                .iter_mut()
                .find(|(state, severity, _)| (*state, *severity) == key)
            {
                Some((_, _, count)) => *count += 1,
                None => counts.push((key.0, key.1, 1)),
            }
        }
        counts
    }
}
