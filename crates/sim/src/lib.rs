//! The seeded shop: a simulated sale with troubles in it.
//!
//! [`Shop`] is an iterator over everything that a shop tells about itself from two days before a
//! flash sale until its end: plan, catalogue and stock first, then orders that follow the plan
//! but for chance, parcels, reviews, traffic and heartbeats, in the order in which a log would
//! take them. [`Trouble`]s are put into it by its config. The same config gives the same events
//! to the byte. It must never read a clock, and it holds no more than the lives that are not over.
//!
//! ```
//! use fenghuo_sim::{Shop, ShopConfig, Trouble};
//! let mut config = ShopConfig { orders_per_day: 1000.0, ..ShopConfig::default() };
//! config.troubles = Trouble::demo(&config);
//! let (at_ms, event) = Shop::new(config).next().unwrap();
//! assert!(at_ms > 0 && event.meta.is_some());
//! ```

mod assortment;
mod demand;
mod disk;
mod events;
mod life;
mod opening;
mod random;
pub mod simulation;
mod stock;
mod troubles;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fenghuo_event::pb;
use fenghuo_event::pb::event::Body;

use crate::assortment::{Assortment, WAREHOUSES};
use crate::demand::{Arrivals, Curve};
use crate::life::{Life, LifeStep, PAID_SHARE};
use crate::opening::Opening;
use crate::random::{Random, mix};
use crate::stock::Stock;
pub use crate::troubles::{Trouble, TroubleKind};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Plan, catalogue and stock are told within this time after the start.
const OPENING_MS: i64 = SECOND_MS;

/// How far back orders reach whose parcels are still under way at the start.
const HISTORY_MS: i64 = 84 * HOUR_MS;

/// How often each component says that it is alive.
const HEARTBEAT_MS: i64 = 10 * SECOND_MS;

/// Parts of the shop that send heartbeats, with their sites.
const COMPONENTS: [(&str, &str); 3] = [
    ("checkout", "cloud"),
    ("packing-bj", "WH-BJ"),
    ("packing-gz", "WH-GZ"),
];

/// Share of visits that buy.
const CONVERSION: f64 = 0.03;

/// A mistyped price brings so many orders a second, or as many as the sale has at the time.
const SWARM_ORDERS_PER_S: f64 = 1.5;

/// A count that finds a stock-out leaves what sells in this time.
const STOCK_OUT_LEFT_MS: i64 = MINUTE_MS;

/// What kind of shop and sale to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct ShopConfig {
    /// The same seed gives the same events.
    pub seed: u64,
    /// `meta.shop_id` of every event.
    pub shop_id: String,
    /// The one campaign.
    pub campaign_id: String,
    /// How many things it sells; at least one.
    pub skus: usize,
    /// How many of the best sellers have a curve of their own in the plan; the others sell by the
    /// campaign's curve and their planned units.
    pub sku_curves: usize,
    /// Paid orders on an ordinary day, of which the flash has many times as many.
    pub orders_per_day: f64,
    /// Variance of the number of orders over its mean.
    pub dispersion: f64,
    /// Local time less UTC.
    pub utc_offset_ms: i64,
    /// First event, and start of the campaign, Unix ms.
    pub start_ms: i64,
    /// Start of the flash, Unix ms.
    pub flash_ms: i64,
    /// End of the campaign, Unix ms.
    pub end_ms: i64,
    /// No event is appended at or after this time, Unix ms.
    pub until_ms: i64,
    /// What goes wrong.
    pub troubles: Vec<Trouble>,
}

impl Default for ShopConfig {
    /// Two days before a flash on 11 November at 20:00 in China, until midnight; no trouble.
    fn default() -> Self {
        Self::for_flash(1_794_398_400_000)
    }
}

impl ShopConfig {
    /// Two days before a flash until four hours after it; no trouble.
    pub fn for_flash(flash_ms: i64) -> Self {
        let end_ms = flash_ms + 4 * HOUR_MS;
        Self {
            seed: 1,
            shop_id: "42".to_owned(),
            campaign_id: "double-11".to_owned(),
            skus: 300,
            sku_curves: 10,
            orders_per_day: 20_000.0,
            dispersion: 2.0,
            utc_offset_ms: 8 * HOUR_MS,
            start_ms: flash_ms - 48 * HOUR_MS,
            flash_ms,
            end_ms,
            until_ms: end_ms,
            troubles: Vec::new(),
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// A cluster of orders from the arrivals of this number.
    Arrival(u32),
    /// The next step of the life in this slot.
    Life(LifeStep, u32),
    /// A component says that it is alive.
    Heartbeat(u32),
    /// The traffic since this was last due.
    Visits,
    /// A sku gets a wrong price.
    Mistyped(u32),
    /// It gets the right one again.
    Mended(u32),
    /// Little of a sku is found at a warehouse.
    Counted(u32, u32),
}

/// Due at an append time; the running number keeps the order of equal times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ms: i64,
    number: u64,
    step: Step,
}

/// A shop that runs: an iterator of append times, Unix ms, and events.
#[derive(Clone, Debug)]
pub struct Shop {
    config: ShopConfig,
    assortment: Assortment,
    curve: Curve,
    opening: Option<Opening>,
    queue: BinaryHeap<Reverse<Due>>,
    queued: u64,
    arrivals: Vec<ArrivalStream>,
    /// Orders that are not over, in slots that are used again.
    lives: Vec<Life>,
    free: Vec<u32>,
    /// Levels of each sku at each warehouse.
    stock: Vec<[Stock; WAREHOUSES.len()]>,
    orders: u64,
    events: u64,
}

#[derive(Clone, Debug)]
struct ArrivalStream {
    arrivals: Arrivals,
    /// Size of the cluster that is due.
    cluster: u32,
    /// All of its orders are of this sku.
    only_sku: Option<usize>,
}

impl Shop {
    /// Opens the shop. Troubles that name a sku, warehouse or courier that there is not do nothing.
    pub fn new(config: ShopConfig) -> Self {
        let assortment = Assortment::new(&config);
        let curve = Curve::new(&config, config.start_ms - HISTORY_MS, config.end_ms);
        let stock = opening::stock(&config, &assortment, &curve);
        let mut shop = Self {
            opening: Some(Opening::new(&config, &assortment)),
            assortment,
            curve,
            queue: BinaryHeap::new(),
            queued: 0,
            arrivals: Vec::new(),
            lives: Vec::new(),
            free: Vec::new(),
            stock,
            orders: 0,
            events: 0,
            config,
        };
        let main = Arrivals::new(
            shop.curve.clone(),
            Random::new(mix(shop.config.seed ^ 0xa441)),
            shop.config.dispersion,
            1.0 / PAID_SHARE,
        );
        shop.add_arrivals(main, None);
        for component in 0..COMPONENTS.len() {
            let first_ms = shop.config.start_ms + OPENING_MS + component as i64 * 700;
            shop.push(first_ms, Step::Heartbeat(component as u32));
        }
        shop.push(shop.config.start_ms + MINUTE_MS + OPENING_MS, Step::Visits);
        for number in 0..shop.config.troubles.len() {
            shop.add_trouble(number);
        }
        shop
    }

    /// What it was opened with.
    pub fn config(&self) -> &ShopConfig {
        &self.config
    }

    /// What goes wrong, and when.
    pub fn troubles(&self) -> &[Trouble] {
        &self.config.troubles
    }

    /// Paid orders that the plan expects between two times, Unix ms.
    pub fn expected_orders(&self, from_ms: i64, to_ms: i64) -> f64 {
        self.curve.expected(from_ms, to_ms)
    }

    fn push(&mut self, at_ms: i64, step: Step) {
        self.queue.push(Reverse(Due {
            at_ms,
            number: self.queued,
            step,
        }));
        self.queued += 1;
    }

    fn add_arrivals(&mut self, arrivals: Arrivals, only_sku: Option<usize>) {
        self.arrivals.push(ArrivalStream {
            arrivals,
            cluster: 0,
            only_sku,
        });
        self.next_arrival(self.arrivals.len() - 1);
    }

    /// Puts the next cluster of a stream into the queue, until the stream ends.
    fn next_arrival(&mut self, stream: usize) {
        if let Some((at_ms, cluster)) = self.arrivals[stream].arrivals.next() {
            self.arrivals[stream].cluster = cluster;
            self.push(at_ms, Step::Arrival(stream as u32));
        }
    }

    fn add_trouble(&mut self, number: usize) {
        let trouble = self.config.troubles[number];
        match trouble.kind {
            TroubleKind::MistypedPrice { sku } if sku < self.stock.len() => {
                self.push(trouble.start_ms, Step::Mistyped(sku as u32));
                self.push(trouble.end_ms, Step::Mended(sku as u32));
                let curve = Curve::even(trouble.start_ms, trouble.end_ms, SWARM_ORDERS_PER_S);
                let random = Random::new(mix(self.config.seed ^ (0x5_0000 + number as u64)));
                let swarm = Arrivals::new(curve, random, self.config.dispersion, 1.0);
                self.add_arrivals(swarm, Some(sku));
            }
            TroubleKind::StockOut { sku } if sku < self.stock.len() => {
                for warehouse in 0..WAREHOUSES.len() as u32 {
                    self.push(trouble.start_ms, Step::Counted(sku as u32, warehouse));
                }
            }
            // Nothing to sell, nothing to go wrong.
            TroubleKind::MistypedPrice { .. } | TroubleKind::StockOut { .. } => {}
            // What these two do, they do to the lives that they touch.
            TroubleKind::CourierStopped { .. } | TroubleKind::DeadCheckout => {}
        }
    }

    /// Carries out what is due, and tells when it happened and how it looks as an event.
    fn step(&mut self, due: Due) -> Option<(i64, Body)> {
        match due.step {
            Step::Arrival(stream) => {
                self.arrive(stream as usize, due.at_ms);
                None
            }
            Step::Life(step, slot) => self.live(step, slot, due.at_ms),
            Step::Heartbeat(component) => {
                self.push(due.at_ms + HEARTBEAT_MS, due.step);
                let (component, site) = COMPONENTS[component as usize];
                Some((due.at_ms - 40, events::heartbeat(component, site)))
            }
            Step::Visits => {
                self.push(due.at_ms + MINUTE_MS, due.step);
                let end_ms = due.at_ms - OPENING_MS;
                let orders = self.curve.expected(end_ms - MINUTE_MS, end_ms);
                let wobble = 0.9 + 0.2 * Random::new(self.config.seed ^ mix(end_ms as u64)).unit();
                let visits = (orders / CONVERSION * wobble) as i64;
                let campaign_id = &self.config.campaign_id;
                let body = events::visits(campaign_id, end_ms - MINUTE_MS, MINUTE_MS, visits);
                Some((end_ms, body))
            }
            Step::Mistyped(sku) => {
                let sku = &self.assortment.skus[sku as usize];
                Some((due.at_ms, events::price_changed(sku, sku.sale_minor / 10)))
            }
            Step::Mended(sku) => {
                let sku = &self.assortment.skus[sku as usize];
                Some((due.at_ms, events::price_changed(sku, sku.sale_minor)))
            }
            Step::Counted(sku, warehouse) => Some((
                due.at_ms,
                self.count(sku as usize, warehouse as usize, due.at_ms),
            )),
        }
    }

    fn arrive(&mut self, stream: usize, at_ms: i64) {
        for _ in 0..self.arrivals[stream].cluster {
            self.orders += 1;
            let only_sku = self.arrivals[stream].only_sku;
            let life = Life::new(&self.config, &self.assortment, self.orders, at_ms, only_sku);
            let slot = match self.free.pop() {
                Some(slot) => {
                    self.lives[slot as usize] = life;
                    slot
                }
                None => {
                    self.lives.push(life);
                    self.lives.len() as u32 - 1
                }
            };
            self.push_life(LifeStep::Placed, slot);
        }
        self.next_arrival(stream);
    }

    /// Puts the next step of a life into the queue, at the time when the log will take it.
    fn push_life(&mut self, step: LifeStep, slot: u32) {
        let life = &self.lives[slot as usize];
        let delay_ms = 20 + (mix(life.number ^ life.step_ms as u64) % 130) as i64;
        self.push(life.step_ms + delay_ms, Step::Life(step, slot));
    }

    fn live(&mut self, step: LifeStep, slot: u32, at_ms: i64) -> Option<(i64, Body)> {
        let life = &mut self.lives[slot as usize];
        let opens_ms = self.config.start_ms + OPENING_MS;
        // Of the days before, only parcels that are under way reach into the sale: orders that
        // were paid and not yet sent would need a story of their own.
        if !life.in_campaign && step <= LifeStep::PickedUp && at_ms >= opens_ms {
            self.free.push(slot);
            return None;
        }
        let step = life.actual(&self.config, step);
        self.keep_stock(step, slot);
        let life = &self.lives[slot as usize];
        let happened_ms = life.step_ms;
        let body = (at_ms >= opens_ms)
            .then(|| events::life_event(&self.config, &self.assortment, &self.stock, life, step));
        match self.lives[slot as usize].follow(&self.config, step) {
            Some(next) => self.push_life(next, slot),
            None => self.free.push(slot),
        }
        body.map(|body| (happened_ms, body))
    }

    /// Books what a step of a life does to the stock.
    fn keep_stock(&mut self, step: LifeStep, slot: u32) {
        let life = &mut self.lives[slot as usize];
        if step == LifeStep::Paid {
            life.paid_ms = life.step_ms;
        }
        if step == LifeStep::Shipped {
            life.shipped += 1;
        }
        // Orders of the days before left before the first count.
        if !life.in_campaign {
            return;
        }
        for (index, bought) in life.bought().iter().enumerate() {
            let sku = bought.sku as usize;
            let stock = &mut self.stock[sku][usize::from(life.warehouse)];
            let units = i64::from(bought.packs) * i64::from(self.assortment.skus[sku].pack_units);
            match step {
                LifeStep::Paid => stock.committed += units,
                LifeStep::Cancelled if life.paid_ms > 0 => stock.committed -= units,
                LifeStep::Shipped if index + 1 == usize::from(life.shipped) => stock.ship(units),
                _ => {}
            }
        }
    }

    /// A count at a warehouse finds that little more of a sku is there than is promised.
    fn count(&mut self, sku: usize, warehouse: usize, at_ms: i64) -> Body {
        let article = &self.assortment.skus[sku];
        let orders = self.curve.expected(at_ms, at_ms + STOCK_OUT_LEFT_MS);
        let left = orders * article.units_per_order * assortment::WAREHOUSE_SHARES[warehouse];
        let stock = &mut self.stock[sku][warehouse];
        stock.on_hand = stock.committed + stock.safety_stock + left as i64;
        events::snapshot(article, warehouse, stock)
    }

    fn event(&mut self, at_ms: i64, happened_ms: i64, body: Body) -> (i64, pb::Event) {
        self.events += 1;
        let meta = pb::Meta {
            event_id: format!("e{:010}", self.events),
            source: format!("/sim/shop/{}", self.config.shop_id),
            occurred_at: Some(events::timestamp(happened_ms)),
            recorded_at: Some(events::timestamp(at_ms)),
            utc_offset_min: (self.config.utc_offset_ms / MINUTE_MS) as i32,
            shop_id: self.config.shop_id.clone(),
            ..Default::default()
        };
        (
            at_ms,
            pb::Event {
                meta: Some(meta),
                body: Some(body),
            },
        )
    }
}

impl Iterator for Shop {
    type Item = (i64, pb::Event);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(opening) = &mut self.opening {
            match opening.next(&self.config, &self.assortment, &self.curve, &self.stock) {
                Some((at_ms, body)) => return Some(self.event(at_ms, at_ms, body)),
                None => self.opening = None,
            }
        }
        loop {
            let Reverse(due) = self.queue.pop()?;
            if due.at_ms >= self.config.until_ms {
                self.queue.clear();
                return None;
            }
            if let Some((happened_ms, body)) = self.step(due) {
                return Some(self.event(due.at_ms, happened_ms, body));
            }
        }
    }
}
