//! What the shop of a simulation says, and what each message means.
//!
//! Owns the drawing of messages: mostly true ones, and among them repeats, late and future ones,
//! steps that overtake each other, and what cannot be read. The meaning is kept beside the bytes,
//! so that the oracle never decodes anything.

use std::collections::VecDeque;

use fenghuo_event::pb::{self, courier::Status, order::Type};
use fenghuo_event::{Stream, to_json, to_protobuf};
use fenghuo_log::TopicPartition;

use super::scenario::{
    AHEAD_MS_MAX, DUPLICATES_MS, HORIZON_MS, LATENESS_MS, REPEATED_WITHIN, SOURCES, START_MS,
    source,
};
use crate::events::{money, timestamp};
use crate::random::{Random, mix};

const SKUS: i64 = 12;
const WAREHOUSES: [&str; 2] = ["WH-BJ", "WH-GZ"];
const COURIERS: [&str; 2] = ["SF", "ZTO"];
const FLOOR_MINOR: i64 = 1_000;
const PLAN_MS: i64 = 8 * 60_000;
const MESSAGES: (i64, i64) = (2_050, 2_300);
/// Ids from here on are those of sales that are watched.
const PROBES: u64 = 1 << 40;
/// The campaign of the shop.
pub const CAMPAIGN: &str = "c1";
/// Where orders come from.
pub const CHANNEL: &str = "app";

/// A line of an order.
#[derive(Clone, Debug)]
pub struct Line {
    /// What.
    pub sku: String,
    /// Packs.
    pub quantity: i64,
    /// Base units in one; 0 = not told.
    pub pack_units: i64,
    /// For one pack.
    pub price_minor: i64,
    /// From where; may be empty.
    pub warehouse: &'static str,
}

/// What an event says.
#[derive(Clone, Debug)]
pub enum Said {
    /// A step of an order.
    Order {
        /// Which.
        step: Type,
        /// It was paid before.
        paid: bool,
        /// Its lines.
        lines: Vec<Line>,
    },
    /// A step of a parcel.
    Parcel {
        /// Which parcel.
        parcel: u64,
        /// Which step.
        status: Status,
        /// When it is promised, Unix ms.
        promised_ms: Option<i64>,
    },
    /// A review.
    Review {
        /// Of what.
        sku: String,
        /// Stars.
        rating: i32,
    },
    /// What only facts and registers take.
    Other,
}

/// What a message means.
#[derive(Clone, Debug)]
pub enum Meaning {
    /// A deleted key.
    Tombstone,
    /// Nothing that can be taken.
    Garbage,
    /// An event.
    Event {
        /// Its id.
        id: u64,
        /// When it happened, Unix ms.
        at_ms: i64,
        /// What it says.
        said: Said,
    },
}

/// A message of the shop.
#[derive(Clone, Debug)]
pub struct Message {
    /// It is appended before this turn.
    pub turn: usize,
    /// Index of its topic.
    pub topic: usize,
    /// Its partition.
    pub partition: u32,
    /// Its bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// What it means.
    pub meaning: Meaning,
}

impl Message {
    /// Where it is appended.
    pub fn to(&self) -> TopicPartition {
        TopicPartition::new(source(SOURCES[self.topic].0), self.partition)
    }
}

/// Courier, warehouse and lane of a parcel.
pub fn parcel_place(parcel: u64) -> (&'static str, &'static str, &'static str) {
    let courier = COURIERS[(mix(parcel) % 2) as usize];
    let lane = if mix(parcel ^ 1).is_multiple_of(2) {
        "BJ>SH"
    } else {
        "GZ>CD"
    };
    (courier, WAREHOUSES[(mix(parcel ^ 2) % 2) as usize], lane)
}

/// Draws what the shop says in the course of these turns.
pub(super) fn draw(random: &mut Random, times_ms: &[i64]) -> Vec<Message> {
    let mut shop = Shop {
        random: Random::new(random.bits()),
        times_ms,
        messages: Vec::new(),
        events: 0,
    };
    shop.open();
    let most = random.between(MESSAGES.0, MESSAGES.1) as usize;
    let mut lives = 0;
    while shop.messages.len() < most {
        lives += 1;
        let turn = shop.random.between(0, times_ms.len() as i64) as usize;
        match shop.random.between(0, 100) {
            0..55 => shop.order(lives, turn),
            55..68 => shop.inventory(turn),
            68..88 => shop.parcel(lives, turn),
            88..93 => shop.review(turn),
            93..95 => shop.catalog(turn),
            95..96 => shop.plan(turn),
            _ => shop.garbage(turn),
        }
    }
    // Sorted by turn alone, and stably: what one turn brings keeps the order of its drawing.
    shop.messages.sort_by_key(|message| message.turn);
    let mut messages = shop.messages;
    repeat(random, &mut messages, times_ms);
    messages
}

struct Shop<'a> {
    random: Random,
    times_ms: &'a [i64],
    messages: Vec<Message>,
    events: u64,
}

impl Shop<'_> {
    /// Plan, catalogue and stock, before all else.
    fn open(&mut self) {
        self.plan(0);
        for sku in 0..SKUS {
            self.floor(0, sku, Some(FLOOR_MINOR));
            self.snapshot(0, sku, 300);
        }
    }

    fn sku(&mut self) -> String {
        // Some sell more than others.
        let sku = self
            .random
            .between(0, SKUS)
            .min(self.random.between(0, SKUS));
        format!("sku{sku}")
    }

    /// The turn at which what happens `after_ms` after a turn is told.
    fn later(&self, turn: usize, after_ms: i64) -> usize {
        let at_ms = self.times_ms[turn] + after_ms;
        self.times_ms
            .partition_point(|time| *time < at_ms)
            .min(self.times_ms.len() - 1)
    }

    /// Puts an event into its topic. Most are told at once; some late, some too late, some ahead
    /// of their time.
    fn tell(&mut self, turn: usize, stream: Stream, key: u64, body: pb::event::Body, said: Said) {
        let told_ms = self.times_ms[turn];
        let at_ms = match self.random.between(0, 1_000) {
            0..900 => told_ms - self.random.between(0, 800),
            900..950 => told_ms - self.random.between(800, LATENESS_MS),
            950..975 => told_ms - self.random.between(LATENESS_MS, HORIZON_MS),
            975..985 => told_ms - self.random.between(HORIZON_MS, 20 * HORIZON_MS),
            985..993 => told_ms + self.random.between(0, AHEAD_MS_MAX),
            _ => told_ms + AHEAD_MS_MAX + self.random.between(1, 100_000),
        };
        self.events += 1;
        let meta = pb::Meta {
            event_id: format!("e{}", self.events),
            source: "sim".to_owned(),
            occurred_at: Some(timestamp(at_ms)),
            ..pb::Meta::default()
        };
        let event = pb::Event {
            meta: Some(meta),
            body: Some(body),
        };
        let value = if self.random.chance(0.5) {
            to_json(&event).into_bytes()
        } else {
            to_protobuf(&event)
        };
        let meaning = Meaning::Event {
            id: self.events,
            at_ms,
            said,
        };
        self.push(turn, stream, key, Some(value), meaning);
    }

    fn push(
        &mut self,
        turn: usize,
        stream: Stream,
        key: u64,
        value: Option<Vec<u8>>,
        meaning: Meaning,
    ) {
        let topic = SOURCES.iter().position(|(carried, _)| *carried == stream);
        let topic = topic.unwrap_or_default();
        let partition = (mix(key) % u64::from(SOURCES[topic].1)) as u32;
        self.messages.push(Message {
            turn,
            topic,
            partition,
            value,
            meaning,
        });
    }

    fn order(&mut self, life: u64, turn: usize) {
        let mut lines = Vec::new();
        for _ in 0..self.random.between(1, 4) {
            let cheap = self.random.chance(0.01);
            lines.push(Line {
                sku: self.sku(),
                quantity: self.random.between(1, 6),
                pack_units: self.random.between(0, 3),
                price_minor: if cheap {
                    self.random.between(1, FLOOR_MINOR)
                } else {
                    self.random.between(3 * FLOOR_MINOR, 9 * FLOOR_MINOR)
                },
                warehouse: ["", WAREHOUSES[0], WAREHOUSES[1]][self.random.between(0, 3) as usize],
            });
        }
        let mut turn = turn;
        let mut steps = vec![Type::Placed];
        let mut paid = false;
        match self.random.between(0, 10) {
            0 => {}
            1 => steps.push(Type::Cancelled),
            2 => steps.extend([Type::Paid, Type::Cancelled]),
            3..6 => steps.push(Type::Paid),
            _ => steps.extend([Type::Paid, Type::Consigned]),
        }
        for step in steps {
            let said = Said::Order {
                step,
                paid,
                lines: lines.clone(),
            };
            let body = order(life, step, paid, &lines);
            self.tell(turn, Stream::Orders, life, body, said);
            paid |= step == Type::Paid;
            let after_ms = self.random.between(0, 60_000);
            turn = self.later(turn, after_ms);
        }
    }

    fn inventory(&mut self, turn: usize) {
        let sku = self.random.between(0, SKUS);
        if self.random.chance(0.5) {
            let on_hand = self.random.between(0, 400);
            return self.snapshot(turn, sku, on_hand);
        }
        let body = pb::event::Body::Inventory(pb::Inventory {
            r#type: pb::inventory::Type::Adjust.into(),
            sku_id: format!("sku{sku}"),
            location_id: WAREHOUSES[(sku % 2) as usize].to_owned(),
            delta: self.random.between(-30, 30),
            ..pb::Inventory::default()
        });
        self.tell(turn, Stream::Inventory, sku as u64, body, Said::Other);
    }

    fn snapshot(&mut self, turn: usize, sku: i64, on_hand: i64) {
        let body = pb::event::Body::Inventory(pb::Inventory {
            r#type: pb::inventory::Type::Snapshot.into(),
            sku_id: format!("sku{sku}"),
            location_id: WAREHOUSES[(sku % 2) as usize].to_owned(),
            levels: Some(pb::InventoryLevels {
                on_hand,
                ..pb::InventoryLevels::default()
            }),
            ..pb::Inventory::default()
        });
        self.tell(turn, Stream::Inventory, sku as u64, body, Said::Other);
    }

    fn floor(&mut self, turn: usize, sku: i64, floor_minor: Option<i64>) {
        let body = catalog(format!("sku{sku}"), floor_minor);
        self.tell(turn, Stream::Catalog, sku as u64, body, Said::Other);
    }

    /// The floor is raised, or no longer told.
    fn catalog(&mut self, turn: usize) {
        let sku = self.random.between(0, SKUS);
        let floor_minor = match self.random.between(0, 3) {
            0 => None,
            1 => Some(FLOOR_MINOR),
            _ => Some(2 * FLOOR_MINOR),
        };
        self.floor(turn, sku, floor_minor);
    }

    fn plan(&mut self, turn: usize) {
        let point = |offset_s, orders| pb::PlanPoint {
            offset_s,
            orders,
            units: 2.0 * orders,
            ..pb::PlanPoint::default()
        };
        let orders = self.random.between(100, 400) as f64;
        let skus = (0..SKUS / 2).map(|sku| pb::SkuPlan {
            sku_id: format!("sku{sku}"),
            planned_units: 200,
            sales_cap: 400,
            ..pb::SkuPlan::default()
        });
        let body = pb::event::Body::Plan(pb::Plan {
            r#type: pb::plan::Type::Upsert.into(),
            campaign_id: CAMPAIGN.to_owned(),
            start: Some(timestamp(START_MS)),
            end: Some(timestamp(START_MS + PLAN_MS)),
            curve: vec![point(0, orders), point(240, 2.0 * orders)],
            skus: skus.collect(),
            ..pb::Plan::default()
        });
        self.tell(turn, Stream::Plans, 0, body, Said::Other);
    }

    /// The steps of a parcel, of which some overtake others.
    fn parcel(&mut self, life: u64, turn: usize) {
        let mut steps = vec![Status::LabelCreated, Status::PickedUp, Status::InTransit];
        match self.random.between(0, 6) {
            0 => steps.truncate(1),
            1 => steps.push(Status::EtaChanged),
            2 => steps.insert(1, Status::Cancelled),
            3 => steps.push(Status::Lost),
            _ => steps.push(Status::Delivered),
        }
        if self.random.chance(0.15) && steps.len() > 1 {
            let at = self.random.between(1, steps.len() as i64) as usize;
            steps.swap(at - 1, at);
        }
        let first_ms = self.times_ms[turn];
        let mut promised_ms = first_ms + self.random.between(-1_800_000, 3_600_000);
        let mut turn = turn;
        for status in steps {
            if status == Status::EtaChanged {
                promised_ms += self.random.between(1, 3) * 3_600_000;
            }
            let told = matches!(status, Status::LabelCreated | Status::EtaChanged);
            let promised_ms = told.then_some(promised_ms);
            let said = Said::Parcel {
                parcel: life,
                status,
                promised_ms,
            };
            let body = courier(life, status, promised_ms);
            self.tell(turn, Stream::Couriers, life, body, said);
            let after_ms = self.random.between(0, 900_000);
            turn = self.later(turn, after_ms);
        }
    }

    fn review(&mut self, turn: usize) {
        let (sku, rating) = (self.sku(), self.random.between(1, 6) as i32);
        let key = self.events;
        let body = pb::event::Body::Feedback(pb::Feedback {
            kind: pb::feedback::Kind::Review.into(),
            phase: pb::feedback::Phase::Opened.into(),
            feedback_id: format!("f{key}"),
            sku_id: sku.clone(),
            rating,
            ..pb::Feedback::default()
        });
        self.tell(
            turn,
            Stream::Feedback,
            key,
            body,
            Said::Review { sku, rating },
        );
    }

    fn garbage(&mut self, turn: usize) {
        let key = self.random.bits();
        let (stream, _) = SOURCES[self.random.between(0, SOURCES.len() as i64) as usize];
        let value = match self.random.between(0, 4) {
            0 => return self.push(turn, stream, key, None, Meaning::Tombstone),
            1 => b"{\"meta\":{\"event_id\":\"x\",".to_vec(),
            2 => key.to_le_bytes().repeat(3),
            // Of another stream than its topic's.
            _ => {
                let body = courier(1, Status::Delivered, None);
                let meta = pb::Meta {
                    event_id: format!("g{key}"),
                    source: source(stream),
                    occurred_at: Some(timestamp(self.times_ms[turn])),
                    ..pb::Meta::default()
                };
                let event = pb::Event {
                    meta: Some(meta),
                    body: Some(body),
                };
                let elsewhere = if stream == Stream::Couriers {
                    Stream::Orders
                } else {
                    stream
                };
                let value = Some(to_json(&event).into_bytes());
                return self.push(turn, elsewhere, key, value, Meaning::Garbage);
            }
        };
        self.push(turn, stream, key, Some(value), Meaning::Garbage);
    }
}

/// Appends messages a second time, within the horizon in which a repeat is known.
fn repeat(random: &mut Random, messages: &mut Vec<Message>, times_ms: &[i64]) {
    let mut repeated: Vec<Message> = Vec::with_capacity(messages.len());
    let mut recent: Vec<VecDeque<Message>> = vec![VecDeque::new(); 16 * SOURCES.len()];
    for message in messages.drain(..) {
        let turn = message.turn;
        let recent = &mut recent[16 * message.topic + message.partition as usize];
        recent.push_back(message.clone());
        repeated.push(message);
        if random.chance(0.06) {
            let at = random.between(0, recent.len() as i64) as usize;
            let age_ms = times_ms[turn] - times_ms[recent[at].turn];
            if age_ms < DUPLICATES_MS / 2 {
                let again = Message {
                    turn,
                    ..recent[at].clone()
                };
                recent.push_back(again.clone());
                repeated.push(again);
            }
        }
        while recent.len() > REPEATED_WITHIN {
            recent.pop_front();
        }
    }
    *messages = repeated;
}

/// Whether an event is of a sale that [`below_floor`] made.
pub(super) fn is_probe(id: u64) -> bool {
    id >= PROBES
}

/// A sku with a floor, and a sale of it below that: they are told at their time, in this order.
pub(super) fn below_floor(number: u64, turn: usize, at_ms: i64) -> Vec<Message> {
    let sku = format!("probe{number}");
    let lines = vec![Line {
        sku: sku.clone(),
        quantity: 1,
        pack_units: 1,
        price_minor: 1,
        warehouse: "",
    }];
    // Ids and orders that no other message has.
    let id = PROBES + 2 * number;
    let (step, paid) = (Type::Paid, false);
    let sale = order(id, step, paid, &lines);
    let said = Said::Order { step, paid, lines };
    let floor = catalog(sku, Some(FLOOR_MINOR));
    let told = [
        (turn, Stream::Catalog, id, floor, Said::Other),
        (turn + 1, Stream::Orders, id + 1, sale, said),
    ];
    told.into_iter()
        .map(|(turn, stream, id, body, said)| {
            let meta = pb::Meta {
                event_id: format!("e{id}"),
                source: "sim".to_owned(),
                occurred_at: Some(timestamp(at_ms)),
                ..pb::Meta::default()
            };
            let event = pb::Event {
                meta: Some(meta),
                body: Some(body),
            };
            let topic = SOURCES.iter().position(|(carried, _)| *carried == stream);
            let topic = topic.unwrap_or_default();
            Message {
                turn,
                topic,
                partition: (mix(id) % u64::from(SOURCES[topic].1)) as u32,
                value: Some(to_json(&event).into_bytes()),
                meaning: Meaning::Event { id, at_ms, said },
            }
        })
        .collect()
}

fn catalog(sku_id: String, floor_minor: Option<i64>) -> pb::event::Body {
    pb::event::Body::Catalog(pb::Catalog {
        r#type: pb::catalog::Type::Upsert.into(),
        sku_id,
        pack_units: 1,
        price_floor: floor_minor.map(money),
        ..pb::Catalog::default()
    })
}

fn order(life: u64, step: Type, paid: bool, lines: &[Line]) -> pb::event::Body {
    let lines = lines.iter().map(|line| pb::OrderLine {
        sku_id: line.sku.clone(),
        quantity: line.quantity,
        pack_units: line.pack_units as i32,
        unit_price: Some(money(line.price_minor)),
        warehouse_id: line.warehouse.to_owned(),
        ..pb::OrderLine::default()
    });
    pb::event::Body::Order(pb::Order {
        r#type: step.into(),
        order_id: format!("o{life}"),
        campaign_id: CAMPAIGN.to_owned(),
        channel: CHANNEL.to_owned(),
        lines: lines.collect(),
        paid_at: paid.then(|| timestamp(START_MS)),
        ..pb::Order::default()
    })
}

fn courier(parcel: u64, status: Status, promised_ms: Option<i64>) -> pb::event::Body {
    let (courier, warehouse, lane) = parcel_place(parcel);
    let (origin, dest) = lane.split_once('>').unwrap_or_default();
    pb::event::Body::Courier(pb::Courier {
        status: status.into(),
        parcel_id: format!("p{parcel}"),
        courier_id: courier.to_owned(),
        warehouse_id: warehouse.to_owned(),
        origin_region: origin.to_owned(),
        dest_region: dest.to_owned(),
        campaign_id: CAMPAIGN.to_owned(),
        promised_by: promised_ms.map(timestamp),
        ..pb::Courier::default()
    })
}
