//! The audit: reads everything that the stages commit, as it comes, and holds it against what
//! must be so.
//!
//! It knows records, never stages: how a stage restores itself is none of its business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{State, Transition};
use fenghuo_engine::record::{
    AlertRecord, CommitRecord, DeliveryOutcome, DeliveryRecord, Intent, PageAction, topic,
};
use fenghuo_engine::{Evaluate, TopologyConfig, View};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Error, Log, Runner, Session, SessionSpec, Start, TopicPartition};
use fenghuo_signal::{Entity, Kind, ReadingState};

use super::Violation;
use super::kept::Kept;
use super::oracle::{Oracle, Sums, counted, id_of, name_of, width};
use super::scenario::{SHARDS, SOURCES, source};

/// The steps of every episode, by its id.
pub type Episodes = BTreeMap<String, Vec<Transition>>;

/// Totals of an entity, in the order of their series.
type Totals = [i64; 7];

/// A commit record as it lies in the log.
struct Piece {
    offset: u64,
    timestamp_ms: i64,
    bytes: Vec<u8>,
    record: CommitRecord,
}

/// One panes partition.
#[derive(Default)]
struct Shard {
    pieces: Vec<Piece>,
    /// Next offset of each source partition.
    covered: BTreeMap<(String, u32), u64>,
    /// Deltas of a commit whose last part has not come.
    sums: Sums,
    /// Pieces that are in `totals`.
    counted: usize,
    totals: BTreeMap<Entity, Totals>,
}

/// What was committed so far.
pub struct Audit {
    session: Box<dyn Session>,
    read: BTreeMap<TopicPartition, u64>,
    shards: Vec<Shard>,
    episodes: Episodes,
    /// The open episode of each rule and entity.
    open: BTreeMap<(String, Entity), String>,
    intents: BTreeMap<String, Arc<Intent>>,
    outcomes: BTreeMap<String, DeliveryOutcome>,
    letters: BTreeSet<(String, u32, u64)>,
    offsets: BTreeMap<(&'static str, TopicPartition), u64>,
}

/// How often a stage commits offsets of which it has nothing to say.
const OFFSETS_EVERY_MS: i64 = 1_000;

const GROUPS: [&str; 3] = ["fenghuo-ingest", "fenghuo-evaluate", "fenghuo-dispatch"];

fn broken(error: impl std::fmt::Display) -> Violation {
    Violation::new("every record can be read", error.to_string())
}

/// The panes partition of an entity.
pub fn home_of(entity: &Entity) -> usize {
    if matches!(entity.kind, Kind::SKU | Kind::SKU_LOCATION) {
        let hash = xxhash_rust::xxh3::xxh3_64(entity.first.as_bytes());
        (hash % u64::from(SHARDS)) as usize
    } else {
        0
    }
}

fn panes(shard: usize) -> TopicPartition {
    TopicPartition::new(topic::PANES, shard as u32)
}

impl Audit {
    /// Begins with what the log holds.
    pub fn new(log: &Kept) -> Result<Self, Error> {
        let session = log.log().open(&SessionSpec {
            group: "audit".to_owned(),
            member: "audit".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        })?;
        Ok(Self {
            session,
            read: BTreeMap::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            episodes: BTreeMap::new(),
            open: BTreeMap::new(),
            intents: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            letters: BTreeSet::new(),
            offsets: BTreeMap::new(),
        })
    }

    /// Reads what was committed since the last look.
    pub fn look(&mut self, log: &Kept, oracle: &Oracle) -> Result<(), Violation> {
        self.offsets(log)?;
        for shard in 0..self.shards.len() {
            for piece in self.fresh(log, &panes(shard))? {
                self.pane(shard, piece, oracle)?;
            }
        }
        let of = TopicPartition::new(topic::ALERTS, 0);
        for (_, _, value) in self.fresh(log, &of)? {
            let record: AlertRecord = serde_json::from_slice(&value).map_err(broken)?;
            self.alert(record.transition)?;
        }
        let of = TopicPartition::new(topic::DELIVERIES, 0);
        for (_, _, value) in self.fresh(log, &of)? {
            self.delivery(serde_json::from_slice(&value).map_err(broken)?)?;
        }
        let of = TopicPartition::new(topic::DEAD_LETTER, 0);
        for (offset, ..) in self.fresh(log, &of)? {
            self.letter(log, &of, offset)?;
        }
        Ok(())
    }

    fn fresh(
        &mut self,
        log: &Kept,
        of: &TopicPartition,
    ) -> Result<Vec<(u64, i64, Vec<u8>)>, Violation> {
        let from = self.read.get(of).copied().unwrap_or(0);
        let high = log.high(of);
        if high == from {
            return Ok(Vec::new());
        }
        let mut read = Vec::new();
        let mut each = |record: fenghuo_log::Record<'_>| {
            let value = record.value.unwrap_or_default().to_vec();
            read.push((record.offset, record.timestamp_ms, value));
        };
        self.session
            .read(of, from, high, &mut each)
            .map_err(broken)?;
        self.read.insert(of.clone(), high);
        Ok(read)
    }

    fn offsets(&mut self, log: &Kept) -> Result<(), Violation> {
        for group in GROUPS {
            for (of, offset) in log.offsets(group) {
                let before = self.offsets.insert((group, of.clone()), offset);
                if before.is_some_and(|before| before > offset) {
                    let detail = format!("{group} in {of}: from {before:?} to {offset}");
                    return Err(Violation::new("offsets never go back", detail));
                }
            }
        }
        Ok(())
    }

    /// A commit record: its ranges follow those before, and its deltas are what the messages of
    /// its ranges add up to.
    fn pane(
        &mut self,
        at: usize,
        (offset, timestamp_ms, bytes): (u64, i64, Vec<u8>),
        oracle: &Oracle,
    ) -> Result<(), Violation> {
        let record: CommitRecord = prost::Message::decode(&bytes[..]).map_err(broken)?;
        let shard = &mut self.shards[at];
        let place = format!("offset {offset} of {}", panes(at));
        let mut unnamed = false;
        each_row(&record, &mut |id, entity, start_ms, values| {
            let Some(fields) = counted(id) else { return };
            let Some(entity) = entity else {
                unnamed = true;
                return;
            };
            let cell = (id, entity, start_ms);
            let sums = shard.sums.entry(cell).or_insert_with(|| vec![0; width(id)]);
            for field in fields {
                sums[field] += values[field];
            }
        });
        if unnamed {
            return Err(broken(format!("{place}: an entity is not named")));
        }
        if !record.continues {
            let mut expected = Sums::new();
            for range in &record.sources {
                let key = (range.topic.clone(), range.partition);
                let covered = shard.covered.insert(key, range.to).unwrap_or(0);
                if covered != range.from {
                    let detail = format!(
                        "{place}: {}/{} from {} to {}, where {covered} is next",
                        range.topic, range.partition, range.from, range.to
                    );
                    return Err(Violation::new("each range is committed once", detail));
                }
                let of = TopicPartition::new(range.topic.as_str(), range.partition);
                let wanted = |entity: &Entity| home_of(entity) == at;
                oracle.sum(&of, range.from, range.to, &wanted, &mut expected);
            }
            let mut sums = std::mem::take(&mut shard.sums);
            sums.retain(|_, values| values.iter().any(|value| *value != 0));
            expected.retain(|_, values| values.iter().any(|value| *value != 0));
            if let Some(detail) = difference(&sums, &expected) {
                let detail = format!("{place}: {detail}");
                return Err(Violation::new("deltas are the naive sum", detail));
            }
        }
        shard.pieces.push(Piece {
            offset,
            timestamp_ms,
            bytes,
            record,
        });
        Ok(())
    }

    fn alert(&mut self, step: Transition) -> Result<(), Violation> {
        let what = format!(
            "{} of {} about {}: {} to {} at {}",
            step.episode,
            step.rule,
            step.entity,
            step.from.as_str(),
            step.to.as_str(),
            step.at_ms
        );
        let steps = self.episodes.entry(step.episode.clone()).or_default();
        let before = steps.last().map(|step| step.to);
        let fits = match before {
            None => {
                matches!(step.from, State::Inactive | State::Pending) && step.to == State::Firing
            }
            Some(State::Resolved) => false,
            Some(before) => before == step.from,
        };
        if !fits {
            let detail = format!("{what}, after {before:?}");
            return Err(Violation::new("an episode is decided once", detail));
        }
        if step.to == State::Resolved && step.reading.state != ReadingState::Ok {
            return Err(Violation::new("missing data resolves nothing", what));
        }
        let key = (step.rule.clone(), step.entity.clone());
        let open = self.open.get(&key);
        if open.is_some_and(|open| *open != step.episode) {
            let detail = format!("{what}, while {open:?} is open");
            return Err(Violation::new("one open episode a rule and entity", detail));
        }
        if step.to == State::Resolved {
            self.open.remove(&key);
        } else {
            self.open.insert(key, step.episode.clone());
        }
        steps.push(step);
        Ok(())
    }

    fn delivery(&mut self, record: DeliveryRecord) -> Result<(), Violation> {
        let twice = match record {
            DeliveryRecord::Intent(intent) => {
                if !self.episodes.contains_key(&intent.alert.episode) {
                    let detail = format!("{}, {}", intent.delivery_id, intent.alert.episode);
                    return Err(Violation::new("a page is about an episode", detail));
                }
                let key = intent.delivery_id.clone();
                self.intents.insert(key.clone(), intent).map(|_| key)
            }
            DeliveryRecord::Outcome(outcome) => {
                let key = outcome.delivery_id.clone();
                self.outcomes.insert(key.clone(), outcome).map(|_| key)
            }
        };
        match twice {
            Some(key) => {
                let detail = format!("{key} has two intents or two outcomes");
                Err(Violation::new("a delivery is recorded once", detail))
            }
            None => Ok(()),
        }
    }

    fn letter(&mut self, log: &Kept, of: &TopicPartition, offset: u64) -> Result<(), Violation> {
        let text = |name| -> Result<String, Violation> {
            let header = log.header(of, offset, name).map_err(broken)?;
            Ok(String::from_utf8_lossy(&header.unwrap_or_default()).into_owned())
        };
        let number = |name| text(name)?.parse::<u64>().map_err(broken);
        let origin = (
            text("topic")?,
            number("partition")? as u32,
            number("offset")?,
        );
        if !self.letters.insert(origin.clone()) {
            let detail = format!("{origin:?}");
            return Err(Violation::new("a message is dead-lettered once", detail));
        }
        Ok(())
    }

    /// The view of whoever holds a shard shows what is committed there up to an offset.
    pub fn view(&mut self, at: usize, offset: u64, view: &View) -> Result<(), Violation> {
        let shard = &mut self.shards[at];
        while let Some(piece) = shard.pieces.get(shard.counted)
            && piece.offset < offset
        {
            shard.counted += 1;
            let totals = &mut shard.totals;
            each_row(&piece.record, &mut |id, entity, _, values| {
                let at = match id {
                    _ if id == id_of("totals") => 0..6,
                    _ if id == id_of("placed") => 6..7,
                    _ => return,
                };
                let Some(entity) = entity else { return };
                let totals = &mut totals.entry(entity).or_default()[at];
                for (into, value) in totals.iter_mut().zip(values) {
                    *into += value;
                }
            });
        }
        let shown = view.totals();
        let mut shown = shown.iter().filter(|(entity, _)| home_of(entity) == at);
        let mut expected = shard.totals.iter();
        loop {
            let (shown, expected) = (shown.next(), expected.next());
            let same = match (shown, expected) {
                (None, None) => return Ok(()),
                (Some((one, totals)), Some((other, expected))) => {
                    one == other && in_order(totals) == *expected
                }
                _ => false,
            };
            if !same {
                let detail =
                    format!("shard {at} at offset {offset}: {shown:?}, expected {expected:?}");
                return Err(Violation::new("the view is the naive sum", detail));
            }
        }
    }

    /// What left the process is in the log.
    pub fn contains(&self, sent: &BTreeSet<String>, shown: &[Transition]) -> Result<(), Violation> {
        let invariant = "nothing leaves before it is durable";
        if let Some(key) = sent.iter().find(|key| !self.intents.contains_key(*key)) {
            return Err(Violation::new(invariant, format!("page {key} was sent")));
        }
        for step in shown {
            let steps = self.episodes.get(&step.episode);
            if !steps.is_some_and(|steps| steps.contains(step)) {
                let detail = format!("{} to {} was shown", step.episode, step.to.as_str());
                return Err(Violation::new(invariant, detail));
            }
        }
        Ok(())
    }

    /// Whether an episode of a rule about a sku fired.
    pub fn has_fired(&self, rule: &str, sku: &str) -> bool {
        let mut steps = self.episodes.values().flatten();
        steps
            .any(|step| step.rule == rule && &*step.entity.first == sku && step.to == State::Firing)
    }

    /// Every step of every episode, by its id.
    pub fn episodes(self) -> Episodes {
        self.episodes
    }

    /// How many episodes and intents there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.episodes.len(), self.intents.len())
    }

    /// At the end, when all is quiet.
    pub fn end(
        &self,
        log: &Kept,
        oracle: &Oracle,
        config: &TopologyConfig,
        taken: &BTreeSet<String>,
    ) -> Result<Life, Violation> {
        self.all_read(log)?;
        if self.letters != oracle.dead_letters() {
            let expected = oracle.dead_letters();
            let odd: Vec<_> = self.letters.symmetric_difference(&expected).collect();
            let detail = format!("{odd:?}");
            return Err(Violation::new("dead letters are what was refused", detail));
        }
        self.pages(config, taken)?;
        self.refold(config)
    }

    fn all_read(&self, log: &Kept) -> Result<(), Violation> {
        let stuck = |group: &str, of: &TopicPartition, at: Option<u64>, end: u64| {
            let detail = format!("{group} is at {at:?} of {of}, which ends at {end}");
            Violation::new("everything is read in the end", detail)
        };
        let ingest = log.offsets(GROUPS[0]);
        for (stream, partitions) in SOURCES {
            for partition in 0..partitions {
                let of = TopicPartition::new(source(stream), partition);
                let (at, end) = (ingest.get(&of).copied(), log.high(&of));
                if end > at.unwrap_or(0) {
                    return Err(stuck(GROUPS[0], &of, at, end));
                }
            }
        }
        let evaluate = log.offsets(GROUPS[1]);
        for (at, shard) in self.shards.iter().enumerate() {
            // Offsets alone are committed once a second; that the last records were read is seen by
            // what the views show.
            let last_ms = shard.pieces.last().map_or(0, |last| last.timestamp_ms);
            let mut older = shard.pieces.iter().rev();
            let older = older.find(|piece| piece.timestamp_ms <= last_ms - OFFSETS_EVERY_MS);
            let (of, end) = (panes(at), older.map_or(0, |piece| piece.offset + 1));
            let at = evaluate.get(&of).copied();
            if end > at.unwrap_or(0) {
                return Err(stuck(GROUPS[1], &of, at, end));
            }
        }
        Ok(())
    }

    /// Every page has its outcome, and everybody who is to be told is told.
    fn pages(&self, config: &TopologyConfig, taken: &BTreeSet<String>) -> Result<(), Violation> {
        for intent in self.intents.values() {
            let key = &intent.delivery_id;
            let Some(outcome) = self.outcomes.get(key) else {
                let detail = format!("{key} through {}", intent.channel);
                return Err(Violation::new("every page has an outcome", detail));
            };
            if outcome.delivered && !taken.contains(key) {
                let detail = format!("{key} through {}", intent.channel);
                return Err(Violation::new("what is delivered was taken", detail));
            }
            let steps = self.episodes.get(&intent.alert.episode);
            let over = steps.and_then(|steps| steps.last());
            let is_over = over.is_some_and(|step| step.to == State::Resolved);
            if intent.action == PageAction::Trigger && outcome.delivered && is_over {
                let resolved = self.intents.values().any(|other| {
                    other.action == PageAction::Resolve
                        && other.channel == intent.channel
                        && other.alert.episode == intent.alert.episode
                });
                if !resolved {
                    let detail = format!("{key} through {}", intent.channel);
                    return Err(Violation::new(
                        "who was told is told that it is over",
                        detail,
                    ));
                }
            }
        }
        for step in self.episodes.values().flatten() {
            let inhibited = config
                .set
                .get()
                .rules
                .named(&step.rule)
                .is_some_and(|(_, rule)| !rule.inhibited_by.is_empty());
            if step.to != State::Firing || inhibited {
                continue;
            }
            let route = config.routes.route(step);
            for channel in route.iter().flat_map(|route| &route.channels) {
                let told = self.intents.values().any(|intent| {
                    intent.channel == *channel
                        && intent.alert.episode == step.episode
                        && intent.severity >= step.severity
                });
                if !told {
                    let detail = format!("{} of {} through {channel}", step.episode, step.rule);
                    return Err(Violation::new("every firing episode is paged", detail));
                }
            }
        }
        Ok(())
    }

    /// One life that folds the panes without a fault decides the same, to the last word.
    fn refold(&self, config: &TopologyConfig) -> Result<Life, Violation> {
        let (episodes, life) = self.fold_again(config).map_err(broken)?;
        if episodes == self.episodes {
            return Ok(life);
        }
        let invariant = "decisions are those of a fault-free fold";
        let ids: BTreeSet<&String> = episodes.keys().chain(self.episodes.keys()).collect();
        for id in ids {
            let (here, there) = (self.episodes.get(id), episodes.get(id));
            if here != there {
                let say = |steps: Option<&Vec<Transition>>| {
                    let steps = steps.into_iter().flatten();
                    let steps = steps.map(|step| {
                        let (from, to) = (step.from.as_str(), step.to.as_str());
                        format!("{} {} {from}>{to} {}", step.rule, step.entity, step.at_ms)
                    });
                    steps.collect::<Vec<_>>().join(", ")
                };
                let detail = format!("{id}: [{}], expected [{}]", say(here), say(there));
                return Err(Violation::new(invariant, detail));
            }
        }
        Err(Violation::new(invariant, String::new()))
    }

    fn fold_again(&self, config: &TopologyConfig) -> Result<(Episodes, Life), Error> {
        let log = MemoryLog::new();
        log.ensure(&config.own_topics(&|_| 1))?;
        let mut now_ms = 0;
        for (at, shard) in self.shards.iter().enumerate() {
            for piece in &shard.pieces {
                log.skip_to(&panes(at), piece.offset);
                log.set_time(piece.timestamp_ms);
                log.append(vec![Append::new(panes(at), None, piece.bytes.clone())])?;
                now_ms = now_ms.max(piece.timestamp_ms);
            }
        }
        let view = Arc::new(View::new());
        let mut runner = config.evaluate(&log, &view, 0)?;
        let ends = self.shards.iter().enumerate();
        let ends: Vec<_> = ends
            .filter_map(|(at, shard)| Some((panes(at), shard.pieces.last()?.offset + 1)))
            .collect();
        let group = GROUPS[1];
        while ends
            .iter()
            .any(|(of, end)| log.offsets(group).get(of) != Some(end))
        {
            runner.step(now_ms, Duration::ZERO)?;
            // Offsets of which nothing is said are committed as time passes.
            now_ms += 1_000;
        }
        let kept = Kept::Memory(log);
        let mut again = Audit::new(&kept)?;
        let of = TopicPartition::new(topic::ALERTS, 0);
        let read = again
            .fresh(&kept, &of)
            .map_err(|v| Error::Fatal(v.to_string()))?;
        for (_, _, value) in read {
            let record: AlertRecord =
                serde_json::from_slice(&value).map_err(|error| Error::Fatal(error.to_string()))?;
            let steps = again.episodes.entry(record.transition.episode.clone());
            steps.or_default().push(record.transition);
        }
        let life = Life {
            view,
            _stage: runner,
        };
        Ok((again.episodes, life))
    }
}

/// A life of evaluate, and what it shows: it takes that with it when it ends.
pub struct Life {
    pub view: Arc<View>,
    _stage: Runner<Evaluate>,
}

fn in_order(totals: &fenghuo_engine::view::Totals) -> Totals {
    [
        totals.orders,
        totals.units,
        totals.revenue_minor,
        totals.cancelled_orders,
        totals.cancelled_units,
        totals.cancelled_revenue_minor,
        totals.placed_orders,
    ]
}

/// Takes measure, entity, start and columns of a row.
type EachRow<'a> = dyn FnMut(u32, Option<Entity>, i64, &[i64]) + 'a;

/// Calls `each` with measure, entity, start and columns of every row of a commit record. What is
/// packed column by column is laid out anew here, apart from the product's own reader.
fn each_row(record: &CommitRecord, each: &mut EachRow<'_>) {
    let mut entities = Vec::new();
    if let Some(table) = &record.entities {
        let mut names = table.names.as_str();
        for (at, kind) in table.kind.iter().enumerate() {
            let (first, rest) = names.split_at(table.lengths[2 * at] as usize);
            let (second, rest) = rest.split_at(table.lengths[2 * at + 1] as usize);
            names = rest;
            let kind = Kind::from_name(&table.kinds[*kind as usize]);
            entities.push(kind.map(|kind| Entity::pair(kind, first, second)));
        }
    }
    for rows in &record.rows {
        let (count, mut start_ms) = (rows.entities.len(), 0);
        for row in 0..count {
            start_ms += rows.starts.get(row).copied().unwrap_or(0);
            let mut values = [0; 64];
            let mut place = 0;
            for (column, value) in values.iter_mut().enumerate() {
                if rows.columns >> column & 1 == 1 {
                    *value = rows.values[place * count + row];
                    place += 1;
                }
            }
            let entity = entities.get(rows.entities[row] as usize);
            each(rows.id, entity.cloned().flatten(), start_ms, &values);
        }
    }
}

/// The first cell in which two sums differ.
fn difference(found: &Sums, expected: &Sums) -> Option<String> {
    let cells: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let cell = cells
        .into_iter()
        .find(|cell| found.get(cell) != expected.get(cell))?;
    let name = name_of(cell.0);
    Some(format!(
        "{name} of {} at {}: {:?}, expected {:?}",
        cell.1,
        cell.2,
        found.get(cell),
        expected.get(cell)
    ))
}
