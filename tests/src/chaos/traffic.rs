//! What the shop does: events from a seed, and the naive count of them.
//!
//! The count is made from what is sent, event by event, without any code of what it checks. It
//! must never send two events under one id, but for the repeats that are meant.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::plan::{Plan, Staged, Trouble};
use super::random::Random;
use crate::oracle::{Count, Counted};
use crate::rfc3339;

/// Skus that are sold all the time.
const SKUS: u64 = 200;
/// Stock of each of them at the beginning.
const ON_HAND: i64 = 10_000_000;
/// Packs of a sku that is sold out.
const FEW: i64 = 1_000;
/// The floor of a sku that will be sold below it, in minor units.
const FLOOR_MINOR: i64 = 1_800;
/// How long a price is remembered.
const REMEMBERED_MS: i64 = 600_000;
/// Orders that are late enough to count in totals alone were made so long ago, at least and less
/// than.
const LATE_MS: (u64, u64) = (1_200_000, 3_600_000);
/// Before this time no order is late: a partition has to know a newer one.
const NONE_LATE_MS: u64 = 5_000;
/// Events that may be repeated.
const REPEATABLE: usize = 2_000;
/// How often, in a thousand orders, one is repeated, wrong, late, or cancelled.
const REPEATED: u64 = 30;
const WRONG: u64 = 10;
const LATE: u64 = 10;
const CANCELLED: u64 = 50;

/// A message of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Topic.
    pub topic: &'static str,
    /// Key.
    pub key: String,
    /// Value: JSON, or what somebody took for it.
    pub value: String,
}

/// What was sent and what it has to lead to.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// What was sold, all and by sku.
    pub sold: Counted,
    /// What can still be promised of each sku whose stock was told.
    pub available: BTreeMap<String, i64>,
    /// Messages that nobody can take.
    pub wrong: u64,
    /// Orders that are too late for their pane.
    pub late: u64,
    /// Events that were sent again.
    pub repeated: u64,
    /// Messages by topic.
    pub messages: BTreeMap<&'static str, u64>,
    /// Each trouble that was told, by the sku that it is about.
    pub troubles: BTreeMap<String, Told>,
}

/// A trouble that was told, with its times, Unix ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is.
    pub trouble: Trouble,
    /// When it was told.
    pub from_ms: i64,
    /// When it is over.
    pub to_ms: i64,
}

/// The shop.
#[derive(Debug)]
pub struct Shop {
    random: Random,
    rate: u64,
    orders_until_ms: u64,
    troubles: VecDeque<(usize, Staged)>,
    /// Sold out, and when there is stock again.
    sold_out: Vec<(u64, String)>,
    recent: VecDeque<Message>,
    orders_sent: u64,
    number: u64,
    ledger: Ledger,
    out: Vec<Message>,
}

/// The sku of a trouble.
pub fn sku_of(number: usize, trouble: Trouble) -> String {
    match trouble {
        Trouble::Dip => format!("dip-{number:04}"),
        Trouble::SoldOut => format!("out-{number:04}"),
    }
}

impl Shop {
    /// A shop that has not opened yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            random: Random::new(plan.settings.seed ^ 0x5807),
            rate: plan.settings.rate,
            orders_until_ms: plan.settings.traffic_ms,
            troubles: plan.troubles.iter().copied().enumerate().collect(),
            sold_out: Vec::new(),
            recent: VecDeque::new(),
            orders_sent: 0,
            number: 0,
            ledger: Ledger::default(),
            out: Vec::new(),
        }
    }

    /// What has to be known before the first order: stock, and floors.
    pub fn open(&mut self, now_ms: i64) -> Vec<Message> {
        for number in 0..SKUS {
            self.stock(&format!("sku-{number:03}"), ON_HAND, now_ms);
        }
        for (number, staged) in self.troubles.clone() {
            let sku = sku_of(number, staged.trouble);
            match staged.trouble {
                Trouble::Dip => self.floor(&sku, now_ms),
                Trouble::SoldOut => self.stock(&sku, FEW, now_ms),
            }
        }
        std::mem::take(&mut self.out)
    }

    /// What is due `since_ms` after it opened.
    pub fn tick(&mut self, since_ms: u64, now_ms: i64) -> Vec<Message> {
        let orders = since_ms.min(self.orders_until_ms) * self.rate / 1_000;
        while self.orders_sent < orders {
            self.orders_sent += 1;
            self.any_order(since_ms, now_ms);
        }
        while let Some((number, staged)) = self.troubles.front().copied()
            && staged.from_ms <= since_ms
        {
            self.troubles.pop_front();
            self.begin(number, &staged, now_ms);
        }
        let over: Vec<String> = self
            .sold_out
            .extract_if(.., |(to_ms, _)| *to_ms <= since_ms)
            .map(|(_, sku)| sku)
            .collect();
        for sku in over {
            self.stock(&sku, FEW, now_ms);
        }
        std::mem::take(&mut self.out)
    }

    /// Whether all orders are sent and every trouble is ended.
    pub fn is_closed(&self, since_ms: u64) -> bool {
        since_ms >= self.orders_until_ms && self.troubles.is_empty() && self.sold_out.is_empty()
    }

    /// What was sent so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn begin(&mut self, number: usize, staged: &Staged, now_ms: i64) {
        let sku = sku_of(number, staged.trouble);
        let lasts_ms = (staged.to_ms - staged.from_ms) as i64;
        let told = Told {
            trouble: staged.trouble,
            from_ms: now_ms,
            to_ms: now_ms + lasts_ms,
        };
        self.ledger.troubles.insert(sku.clone(), told);
        match staged.trouble {
            Trouble::Dip => {
                // So old that it is forgotten when the trouble is over.
                let at_ms = now_ms - REMEMBERED_MS + lasts_ms;
                self.paid(&[(sku, 1, FLOOR_MINOR / 10)], at_ms);
            }
            Trouble::SoldOut => {
                self.paid(&[(sku.clone(), 5, FLOOR_MINOR)], now_ms);
                self.stock(&sku, 0, now_ms);
                self.sold_out.push((staged.to_ms, sku));
            }
        }
    }

    fn any_order(&mut self, since_ms: u64, now_ms: i64) {
        if self.random.one_of_thousand(WRONG) {
            self.wrong(now_ms);
        }
        if self.random.one_of_thousand(REPEATED) && !self.recent.is_empty() {
            let which = self.random.below(self.recent.len() as u64) as usize;
            let message = self.recent[which].clone();
            self.ledger.repeated += 1;
            self.send(message);
        }
        let mut lines: Vec<(String, i64, i64)> = Vec::new();
        for _ in 0..=self.random.below(3) {
            // The smaller of two numbers: some skus are sold more than others.
            let number = self.random.below(SKUS).min(self.random.below(SKUS));
            let sku = format!("sku-{number:03}");
            let quantity = 1 + self.random.below(3) as i64;
            let price_minor = self.random.between(2_000, 10_000) as i64;
            if lines.iter().all(|(other, _, _)| *other != sku) {
                lines.push((sku, quantity, price_minor));
            }
        }
        let is_late = since_ms >= NONE_LATE_MS && self.random.one_of_thousand(LATE);
        let at_ms = if is_late {
            self.ledger.late += 1;
            now_ms - self.random.between(LATE_MS.0, LATE_MS.1) as i64
        } else {
            now_ms - self.random.below(300) as i64
        };
        let order = self.paid(&lines, at_ms);
        if self.random.one_of_thousand(CANCELLED) {
            self.cancelled(&order, &lines, at_ms, now_ms);
        }
        // A parcel now and then; its life is told at once.
        if self.random.one_of_thousand(100) {
            self.parcel(now_ms);
        }
    }

    /// Sends a paid order and counts it; gives its id back.
    fn paid(&mut self, lines: &[(String, i64, i64)], at_ms: i64) -> String {
        let id = format!("o-{}", self.next());
        let event = json!({
            "meta": meta(&id, at_ms),
            "order": {"type": "PAID", "order_id": id, "lines": rows(lines)},
        });
        self.count(lines, false);
        self.event("shop.orders", id.clone(), &event);
        id
    }

    fn cancelled(&mut self, order: &str, lines: &[(String, i64, i64)], paid_ms: i64, at_ms: i64) {
        let event = json!({
            "meta": meta(&format!("{order}-cancelled"), at_ms),
            "order": {
                "type": "CANCELLED", "order_id": order, "lines": rows(lines),
                "paid_at": rfc3339(paid_ms),
            },
        });
        self.count(lines, true);
        self.event("shop.orders", order.to_owned(), &event);
    }

    fn count(&mut self, lines: &[(String, i64, i64)], is_cancelled: bool) {
        let Ledger {
            sold, available, ..
        } = &mut self.ledger;
        let add = |count: &mut Count, orders: i64, units: i64, revenue_minor: i64| {
            if is_cancelled {
                count.cancelled_orders += orders;
                count.cancelled_units += units;
                count.cancelled_revenue_minor += revenue_minor;
            } else {
                count.orders += orders;
                count.units += units;
                count.revenue_minor += revenue_minor;
            }
        };
        add(&mut sold.all, 1, 0, 0);
        for (sku, quantity, price_minor) in lines {
            let revenue_minor = quantity * price_minor;
            add(&mut sold.all, 0, *quantity, revenue_minor);
            let of_sku = sold.skus.entry(sku.clone()).or_default();
            add(of_sku, 1, *quantity, revenue_minor);
            if let Some(available) = available.get_mut(sku) {
                *available += if is_cancelled { *quantity } else { -quantity };
            }
        }
    }

    fn stock(&mut self, sku: &str, on_hand: i64, at_ms: i64) {
        let id = format!("stock-{}", self.next());
        let event = json!({
            "meta": meta(&id, at_ms),
            "inventory": {
                "type": "SNAPSHOT", "sku_id": sku, "location_id": "wh-1",
                "levels": {"on_hand": on_hand},
            },
        });
        let sold = self.ledger.sold.skus.get(sku).copied().unwrap_or_default();
        let committed = sold.units - sold.cancelled_units;
        let available = on_hand - committed;
        self.ledger.available.insert(sku.to_owned(), available);
        self.event("shop.inventory", sku.to_owned(), &event);
    }

    fn floor(&mut self, sku: &str, at_ms: i64) {
        let id = format!("floor-{}", self.next());
        let floor = json!({"currency_code": "CNY", "minor_units": FLOOR_MINOR});
        let event = json!({
            "meta": meta(&id, at_ms),
            "catalog": {"type": "UPSERT", "sku_id": sku, "pack_units": 1, "price_floor": floor},
        });
        self.event("shop.catalog", sku.to_owned(), &event);
    }

    fn parcel(&mut self, at_ms: i64) {
        let parcel = format!("p-{}", self.next());
        for (step, status) in ["LABEL_CREATED", "PICKED_UP", "DELIVERED"]
            .iter()
            .enumerate()
        {
            let event = json!({
                "meta": meta(&format!("{parcel}-{step}"), at_ms),
                "courier": {
                    "status": status, "parcel_id": parcel, "courier_id": "SF",
                    "warehouse_id": "wh-1", "promised_by": rfc3339(at_ms + 3_600_000),
                },
            });
            self.event("shop.couriers", parcel.clone(), &event);
        }
    }

    /// A message that nobody can take, of one kind or another.
    fn wrong(&mut self, at_ms: i64) {
        let id = format!("wrong-{}", self.next());
        let value = match self.random.below(4) {
            0 => "{\"meta\":".to_owned(),
            1 => json!({"meta": meta(&id, at_ms)}).to_string(),
            2 => json!({
                "meta": meta(&id, at_ms),
                "order": {"type": "PAID", "order_id": id, "lines": [{"sku_id": "sku-001", "quantity": -1}]},
            })
            .to_string(),
            _ => json!({
                "meta": meta(&id, at_ms),
                "inventory": {"type": "SNAPSHOT", "sku_id": "sku-001", "levels": {"on_hand": 1}},
            })
            .to_string(),
        };
        self.ledger.wrong += 1;
        self.send(Message {
            topic: "shop.orders",
            key: id,
            value,
        });
    }

    fn event(&mut self, topic: &'static str, key: String, event: &Value) {
        let message = Message {
            topic,
            key,
            value: event.to_string(),
        };
        // A repeated level would be an older one that comes later: repeats are of orders and
        // parcels alone.
        if topic != "shop.inventory" && topic != "shop.catalog" {
            if self.recent.len() >= REPEATABLE {
                self.recent.pop_front();
            }
            self.recent.push_back(message.clone());
        }
        self.send(message);
    }

    fn send(&mut self, message: Message) {
        *self.ledger.messages.entry(message.topic).or_default() += 1;
        self.out.push(message);
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        self.number
    }
}

fn meta(id: &str, at_ms: i64) -> Value {
    json!({"event_id": id, "source": "erp", "shop_id": "shop-42", "occurred_at": rfc3339(at_ms)})
}

fn rows(lines: &[(String, i64, i64)]) -> Vec<Value> {
    let row = |(sku, quantity, price_minor): &(String, i64, i64)| {
        let price = json!({"currency_code": "CNY", "minor_units": price_minor});
        json!({"sku_id": sku, "quantity": quantity, "pack_units": 1, "unit_price": price})
    };
    lines.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::Settings;
    use super::*;

    fn plan() -> Plan {
        Plan::new(Settings {
            traffic_ms: 60_000,
            kills: 3,
            seed: 5,
            instances: 2,
            rate: 100,
        })
        .unwrap()
    }

    #[test]
    fn the_count_is_that_of_the_messages_told_once_each() {
        let plan = plan();
        let mut shop = Shop::new(&plan);
        let mut all = shop.open(0);
        let mut at_ms = 0;
        while !shop.is_closed(at_ms) {
            at_ms += 100;
            all.extend(shop.tick(at_ms, at_ms as i64));
        }
        let ledger = shop.ledger();
        let mut seen = std::collections::BTreeSet::new();
        let (mut orders, mut revenue_minor, mut wrong, mut repeated) = (0, 0, 0, 0);
        for message in &all {
            let Ok(event) = serde_json::from_str::<Value>(&message.value) else {
                wrong += 1;
                continue;
            };
            let id = event["meta"]["event_id"].to_string();
            if id.contains("wrong") {
                wrong += 1;
            } else if !seen.insert(id) {
                repeated += 1;
            } else if event["order"]["type"] == "PAID" {
                orders += 1;
                let lines = event["order"]["lines"].as_array().unwrap();
                revenue_minor += lines
                    .iter()
                    .map(|line| {
                        let price = line["unit_price"]["minor_units"].as_i64().unwrap();
                        line["quantity"].as_i64().unwrap() * price
                    })
                    .sum::<i64>();
            }
        }
        assert!(wrong > 20 && repeated > 50 && ledger.late > 20);
        assert_eq!((ledger.wrong, ledger.repeated), (wrong, repeated));
        let sold = ledger.sold.all;
        assert_eq!((sold.orders, sold.revenue_minor), (orders, revenue_minor));
        let of_skus: i64 = ledger.sold.skus.values().map(|sku| sku.revenue_minor).sum();
        assert_eq!(of_skus, revenue_minor);
        assert!(sold.cancelled_orders > 50);
        assert_eq!(ledger.troubles.len(), plan.troubles.len());
        assert_eq!(ledger.messages.values().sum::<u64>(), all.len() as u64);
        // What is sold out has stock again, less what was sold of it.
        assert_eq!(ledger.available["out-0001"], FEW - 5);
    }
}
