//! The oracle: what the messages of a run add up to, counted naively and apart from the product.
//!
//! It is told of each message as it is appended, in the order of its partition, and keeps what
//! each one adds to which cell. It must share no code with the stages: it knows what messages
//! mean, and decodes none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use fenghuo_event::pb::{courier::Status, order::Type};
use fenghuo_log::TopicPartition;
use fenghuo_signal::{Catalogue, Entity, Kind};

use super::input::{CAMPAIGN, CHANNEL, Line, Meaning, Message, Said, parcel_place};
use super::scenario::{AHEAD_MS_MAX, DUPLICATES_MS, HORIZON_MS, LATENESS_MS, SOURCES, source};

const PANE_MS: i64 = 10_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const REVIEW_PANE_MS: i64 = 600_000;
const SCAN_AGES_HOURS: [i64; 10] = [1, 2, 3, 4, 6, 8, 12, 24, 48, 72];

/// A cell: id of its measure, its entity, and when it begins, Unix ms.
pub type Cell = (u32, Entity, i64);

/// What cells hold: the fields of each that are sums.
pub type Sums = BTreeMap<Cell, Vec<i64>>;

/// The measures that the oracle counts, and which of their columns are sums.
const COUNTED: [(&str, std::ops::Range<usize>); 10] = [
    ("sold", 0..3),
    ("totals", 0..6),
    ("placed", 0..1),
    ("committed", 0..2),
    ("price", 2..3),
    ("first_scan", 0..11),
    ("promises", 0..2),
    ("reviews", 0..2),
    ("arrivals", 0..1),
    ("arrived", 0..1),
];

/// Ids and widths of those measures, by place.
fn measures() -> &'static [(u32, usize); 10] {
    static MEASURES: std::sync::OnceLock<[(u32, usize); 10]> = std::sync::OnceLock::new();
    MEASURES.get_or_init(|| {
        let catalogue = Catalogue::built_in();
        COUNTED.map(|(name, _)| {
            let series = catalogue.series_of(name);
            (catalogue.id(series.number), series.merges.len())
        })
    })
}

/// What the log calls a measure.
pub fn id_of(measure: &str) -> u32 {
    let at = COUNTED.iter().position(|(name, _)| *name == measure);
    at.map_or(0, |at| measures()[at].0)
}

/// How many columns a measure has.
pub fn width(id: u32) -> usize {
    let found = measures().iter().find(|(of, _)| *of == id);
    found.map_or(0, |(_, width)| *width)
}

/// The name of a measure.
pub fn name_of(id: u32) -> &'static str {
    let at = measures().iter().position(|(of, _)| *of == id);
    at.map_or("?", |at| COUNTED[at].0)
}

/// The columns of a measure that are sums and counted here. Absolute levels are none: they follow
/// the order of their source.
pub fn counted(id: u32) -> Option<std::ops::Range<usize>> {
    let at = measures().iter().position(|(of, _)| *of == id)?;
    Some(COUNTED[at].1.clone())
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Counted.
    Accepted,
    /// Counted but for panes, and dead-lettered.
    Late,
    /// Known already.
    Repeated,
    /// Dead-lettered.
    Rejected,
    /// Nothing to count.
    Tombstone,
}

/// What one message adds up to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What becomes of it.
    pub fate: Fate,
    adds: Vec<(Cell, usize, i64)>,
}

#[derive(Default)]
struct Parcel {
    from_the_start: bool,
    labelled_ms: Option<i64>,
    promised_ms: Option<i64>,
    scanned: bool,
    closed: bool,
}

/// One source partition.
#[derive(Default)]
struct Partition {
    /// When each event came first, Unix ms.
    seen: BTreeMap<u64, i64>,
    newest_ms: Option<i64>,
    parcels: HashMap<u64, Parcel>,
    entries: BTreeMap<u64, Entry>,
}

/// What all messages add up to.
#[derive(Default)]
pub struct Oracle {
    partitions: BTreeMap<TopicPartition, Partition>,
}

impl Oracle {
    /// Takes a message that was appended: when, and by how much the clock was set forward before.
    pub fn take(
        &mut self,
        of: &TopicPartition,
        offset: u64,
        (append_ms, jump_ms): (i64, i64),
        message: &Message,
    ) {
        let partition = self.partitions.entry(of.clone()).or_default();
        let mut adds = Vec::new();
        let fate = match &message.meaning {
            Meaning::Tombstone => Fate::Tombstone,
            Meaning::Garbage => Fate::Rejected,
            Meaning::Event { at_ms, .. } if *at_ms > append_ms + AHEAD_MS_MAX => Fate::Rejected,
            Meaning::Event { id, .. } if partition.seen.contains_key(id) => Fate::Repeated,
            Meaning::Event { id, at_ms, said } => {
                partition.seen.insert(*id, append_ms);
                // None may lie further ahead of the log than that, whatever its clock said before.
                let newest_ms = partition.newest_ms.unwrap_or(*at_ms);
                let newest_ms = newest_ms.min(append_ms + AHEAD_MS_MAX).max(*at_ms);
                partition.newest_ms = Some(newest_ms);
                let late_ms = newest_ms - at_ms - LATENESS_MS - HORIZON_MS;
                let late = late_ms > jump_ms.clamp(0, DAY_MS);
                let mut add = Add {
                    late,
                    at_ms: *at_ms,
                    adds: &mut adds,
                };
                add.event(&source(SOURCES[message.topic].0), said, partition);
                if late { Fate::Late } else { Fate::Accepted }
            }
        };
        partition.entries.insert(offset, Entry { fate, adds });
    }

    /// Whether a message repeats an event that may be forgotten by now, since it came late: while
    /// the disk failed, the shop could not send it. What becomes of it is not promised.
    pub fn is_undecided(&self, of: &TopicPartition, append_ms: i64, message: &Message) -> bool {
        let (Meaning::Event { id, .. }, Some(partition)) =
            (&message.meaning, self.partitions.get(of))
        else {
            return false;
        };
        let first = partition.seen.get(id);
        first.is_some_and(|first_ms| append_ms - first_ms >= DUPLICATES_MS)
    }

    /// The offset after the last message that was taken of a partition.
    pub fn next(&self, of: &TopicPartition) -> u64 {
        let partition = self.partitions.get(of);
        let last = partition.and_then(|partition| partition.entries.last_key_value());
        last.map_or(0, |(offset, _)| offset + 1)
    }

    /// What the messages of a partition from one offset to another add up to, of the cells that
    /// are wanted.
    pub fn sum(
        &self,
        of: &TopicPartition,
        from: u64,
        to: u64,
        wanted: &dyn Fn(&Entity) -> bool,
        sums: &mut Sums,
    ) {
        let Some(partition) = self.partitions.get(of) else {
            return;
        };
        for (_, entry) in partition.entries.range(from..to) {
            for (cell, field, value) in entry.adds.iter().filter(|(cell, ..)| wanted(&cell.1)) {
                let width = width(cell.0);
                let values = sums.entry(cell.clone()).or_insert_with(|| vec![0; width]);
                values[*field] += value;
            }
        }
    }

    /// Where dead letters come from: topic, partition, offset.
    pub fn dead_letters(&self) -> BTreeSet<(String, u32, u64)> {
        let mut all = BTreeSet::new();
        for (of, partition) in &self.partitions {
            for (offset, entry) in &partition.entries {
                if matches!(entry.fate, Fate::Rejected | Fate::Late) {
                    all.insert((of.topic.to_string(), of.partition, *offset));
                }
            }
        }
        all
    }

    /// How many messages had each fate.
    pub fn fates(&self) -> [(Fate, usize); 5] {
        let entries = || self.partitions.values().flat_map(|p| p.entries.values());
        [
            Fate::Accepted,
            Fate::Late,
            Fate::Repeated,
            Fate::Rejected,
            Fate::Tombstone,
        ]
        .map(|fate| (fate, entries().filter(|entry| entry.fate == fate).count()))
    }
}

/// What one event adds.
struct Add<'a> {
    late: bool,
    at_ms: i64,
    adds: &'a mut Vec<(Cell, usize, i64)>,
}

impl Add<'_> {
    fn level(&mut self, measure: &str, entity: Entity, values: &[(usize, i64)]) {
        self.cell(measure, entity, 0, values);
    }

    /// To the pane of the event; what is late is in none.
    fn pane(&mut self, measure: &str, entity: Entity, width_ms: i64, values: &[(usize, i64)]) {
        if !self.late {
            let start_ms = self.at_ms - self.at_ms.rem_euclid(width_ms);
            self.cell(measure, entity, start_ms, values);
        }
    }

    fn cell(&mut self, measure: &str, entity: Entity, start_ms: i64, values: &[(usize, i64)]) {
        let cell = (id_of(measure), entity, start_ms);
        let adds = values.iter().filter(|(_, value)| *value != 0);
        self.adds
            .extend(adds.map(|(field, value)| (cell.clone(), *field, *value)));
    }

    fn event(&mut self, source: &str, said: &Said, partition: &mut Partition) {
        let entity = Entity::one(Kind::SOURCE, source);
        self.pane("arrivals", entity.clone(), PANE_MS, &[(0, 1)]);
        self.level("arrived", entity, &[(0, 1)]);
        match said {
            Said::Order { step, paid, lines } => self.order(*step, *paid, lines),
            Said::Parcel {
                parcel,
                status,
                promised_ms,
            } => {
                let life = partition.parcels.entry(*parcel).or_insert_with(|| Parcel {
                    from_the_start: matches!(status, Status::LabelCreated | Status::PickedUp),
                    ..Parcel::default()
                });
                self.parcel(*parcel, life, *status, *promised_ms);
            }
            Said::Review { sku, rating } => {
                let entity = Entity::one(Kind::SKU, sku);
                let negative = i64::from(*rating <= 2);
                let values = [(0, 1), (1, negative)];
                self.pane("reviews", entity, REVIEW_PANE_MS, &values);
            }
            Said::Other => {}
        }
    }

    fn order(&mut self, step: Type, paid: bool, lines: &[Line]) {
        let wholes = [
            Entity::one(Kind::CAMPAIGN, CAMPAIGN),
            Entity::one(Kind::CHANNEL, CHANNEL),
            Entity::one(Kind::SHOP, ""),
        ];
        let skus: BTreeSet<&str> = lines.iter().map(|line| line.sku.as_str()).collect();
        let of = |sku: Option<&str>| {
            let lines = lines
                .iter()
                .filter(|line| sku.is_none_or(|sku| line.sku == sku));
            lines.fold((0, 0), |(units, revenue), line| {
                (
                    units + line.quantity,
                    revenue + line.quantity * line.price_minor,
                )
            })
        };
        let priced = matches!(step, Type::Placed | Type::Paid);
        for line in lines.iter().filter(|_| priced) {
            let entity = Entity::one(Kind::SKU, &line.sku);
            self.pane("price", entity, PANE_MS, &[(2, 1)]);
        }
        let sign = match step {
            Type::Paid => 1,
            Type::Consigned => -1,
            Type::Cancelled if paid => -1,
            _ => 0,
        };
        for line in lines {
            let values = match line.pack_units {
                0 => [(1, sign * line.quantity)],
                units => [(0, sign * line.quantity * units)],
            };
            self.level("committed", Entity::one(Kind::SKU, &line.sku), &values);
            if !line.warehouse.is_empty() {
                let place = Entity::pair(Kind::SKU_LOCATION, &line.sku, line.warehouse);
                self.level("committed", place, &values);
            }
        }
        let each = skus
            .into_iter()
            .map(|sku| (Entity::one(Kind::SKU, sku), of(Some(sku))))
            .chain(wholes.iter().map(|whole| (whole.clone(), of(None))));
        for (entity, (units, revenue)) in each {
            match step {
                Type::Paid => {
                    let values = [(0, 1), (1, units), (2, revenue)];
                    if entity.kind != Kind::SHOP {
                        self.pane("sold", entity.clone(), PANE_MS, &values);
                    }
                    self.level("totals", entity, &values);
                }
                Type::Cancelled => {
                    let values = [(3, 1), (4, units), (5, revenue)];
                    self.level("totals", entity, &values);
                }
                Type::Placed if entity.kind != Kind::SKU => {
                    self.level("placed", entity, &[(0, 1)]);
                }
                _ => {}
            }
        }
    }

    fn parcel(&mut self, parcel: u64, life: &mut Parcel, status: Status, told_ms: Option<i64>) {
        if life.closed {
            return;
        }
        let (courier, warehouse, lane) = parcel_place(parcel);
        let pair = Entity::pair(Kind::WAREHOUSE_COURIER, warehouse, courier);
        let hour = |at_ms: i64| at_ms - at_ms.rem_euclid(HOUR_MS);
        if status == Status::LabelCreated && life.labelled_ms.is_none() && !life.scanned {
            life.labelled_ms = Some(self.at_ms);
            self.cell("first_scan", pair.clone(), hour(self.at_ms), &[(0, 1)]);
        }
        let counts = life.from_the_start;
        let promise = |add: &mut Self, at_ms: i64, values: [(usize, i64); 1]| {
            let entities = [
                Entity::one(Kind::COURIER, courier),
                Entity::one(Kind::LANE, lane),
                Entity::one(Kind::CAMPAIGN, CAMPAIGN),
            ];
            for entity in entities.into_iter().filter(|_| counts) {
                add.cell("promises", entity, hour(at_ms), &values);
            }
        };
        if let Some(told_ms) = told_ms.filter(|told| life.promised_ms != Some(*told)) {
            if let Some(before_ms) = life.promised_ms {
                promise(self, before_ms, [(0, -1)]);
            }
            life.promised_ms = Some(told_ms);
            promise(self, told_ms, [(0, 1)]);
        }
        let is_paper = matches!(
            status,
            Status::LabelCreated | Status::EtaChanged | Status::Cancelled
        );
        if !is_paper && !life.scanned {
            life.scanned = true;
            if let Some(labelled_ms) = life.labelled_ms {
                let age_ms = self.at_ms - labelled_ms;
                let age = SCAN_AGES_HOURS
                    .iter()
                    .position(|hours| age_ms <= hours * HOUR_MS);
                if let Some(age) = age {
                    self.cell(
                        "first_scan",
                        pair.clone(),
                        hour(labelled_ms),
                        &[(1 + age, 1)],
                    );
                }
            }
        }
        match status {
            Status::Delivered => {
                let met = life.promised_ms.filter(|promised| self.at_ms <= *promised);
                if let Some(promised_ms) = met {
                    promise(self, promised_ms, [(1, 1)]);
                }
                life.closed = true;
            }
            Status::Cancelled => {
                if let Some(labelled_ms) = life.labelled_ms.filter(|_| !life.scanned) {
                    self.cell("first_scan", pair, hour(labelled_ms), &[(0, -1)]);
                }
                if let Some(promised_ms) = life.promised_ms {
                    promise(self, promised_ms, [(0, -1)]);
                }
                life.closed = true;
            }
            Status::Lost => life.closed = true,
            _ => {}
        }
    }
}
