//! The life of an order, step by step: placed, paid, shipped, delivered, reviewed.
//!
//! Owns what happens next and when. Each order draws from its own stream of random numbers, so
//! that a trouble changes the lives that it touches and no others. It must never build messages:
//! that is `events`.

use crate::assortment::{
    Assortment, COURIER_SHARES, LINE_SHARES, PACK_SHARES, REGION_SHARES, REGIONS,
};
use crate::random::{Random, mix};
use crate::{ShopConfig, Trouble, TroubleKind};

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// From payment to consignment, as promised and as the platform wants it.
pub(crate) const SHIP_SLA_MS: i64 = 48 * HOUR_MS;
/// From payment to delivery, as promised.
pub(crate) const DELIVER_SLA_MS: i64 = 72 * HOUR_MS;
/// An order that nobody pays for is cancelled after this.
const UNPAID_MS: i64 = 15 * MINUTE_MS;

/// Two steps of a life are at least this far apart: more than the delays until the log takes an
/// event differ by, so that the log takes them in order.
const STEP_MS_MIN: i64 = 200;

/// Share of placed orders that are paid: 2 % give up, and of 2 % whose first attempt fails half.
pub(crate) const PAID_SHARE: f64 = 0.97;

/// Hours from payment to consignment.
const CONSIGN_HOURS: [(f64, f64); 5] =
    [(0.0, 1.0), (0.25, 2.0), (0.5, 3.5), (0.9, 8.0), (1.0, 14.0)];
/// Hours from label to first scan: log-normal in shape, median 3, 98.5 % within 24.
const PICKUP_HOURS: [(f64, f64); 10] = [
    (0.0, 0.3),
    (0.05, 0.6),
    (0.25, 1.6),
    (0.5, 3.0),
    (0.75, 5.7),
    (0.9, 10.2),
    (0.95, 14.5),
    (0.985, 24.0),
    (0.997, 42.0),
    (1.0, 72.0),
];
/// Share of parcels that miss their promise.
const LATE_SHARE: f64 = 0.04;
/// Share of parcels about which somebody writes a review.
const REVIEW_SHARE: f64 = 0.12;

/// What can happen to an order next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LifeStep {
    Placed,
    PaymentFailed,
    Paid,
    Cancelled,
    Consigned,
    /// The goods of one line leave the warehouse.
    Shipped,
    Labelled,
    PickedUp,
    InTransit,
    OutForDelivery,
    Delivered,
    Reviewed,
}

/// One line of an order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bought {
    /// Rank of the sku.
    pub(crate) sku: u32,
    pub(crate) packs: u32,
    /// Paid for one pack.
    pub(crate) price_minor: i64,
}

/// An order that is not over.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) number: u64,
    /// When its next step happens.
    pub(crate) step_ms: i64,
    pub(crate) placed_ms: i64,
    /// 0 until it is paid.
    pub(crate) paid_ms: i64,
    /// When the courier has it; 0 before.
    picked_up_ms: i64,
    delivered_ms: i64,
    bought: [Bought; 3],
    lines: u8,
    /// Lines that have left the warehouse.
    pub(crate) shipped: u8,
    pub(crate) warehouse: u8,
    pub(crate) region: u8,
    pub(crate) courier: u8,
    /// Belongs to the sale, not to the days before it.
    pub(crate) in_campaign: bool,
}

impl Life {
    /// An order that comes at a time, of what its own random numbers say.
    pub(crate) fn new(
        config: &ShopConfig,
        assortment: &Assortment,
        number: u64,
        at_ms: i64,
        only_sku: Option<usize>,
    ) -> Self {
        let mut random = Random::new(mix(config.seed) ^ mix(number << 8));
        let region = random.weighted(&REGION_SHARES);
        let placed_ms = at_ms + random.between(0, 800);
        let mut life = Self {
            number,
            step_ms: placed_ms,
            placed_ms,
            paid_ms: 0,
            picked_up_ms: 0,
            delivered_ms: 0,
            bought: Default::default(),
            lines: 0,
            shipped: 0,
            warehouse: REGIONS[region].1 as u8,
            region: region as u8,
            courier: random.weighted(&COURIER_SHARES) as u8,
            in_campaign: placed_ms >= config.start_ms,
        };
        let draws = if only_sku.is_some() {
            1
        } else {
            random.weighted(&LINE_SHARES) + 1
        };
        for _ in 0..draws {
            let sku = only_sku.unwrap_or_else(|| random.weighted(&assortment.shares));
            let packs = random.weighted(&PACK_SHARES) as u32 + 1;
            life.put(sku as u32, packs);
        }
        for bought in &mut life.bought[..usize::from(life.lines)] {
            bought.price_minor = price(config, assortment, bought.sku as usize, placed_ms);
        }
        life
    }

    /// Its lines.
    pub(crate) fn bought(&self) -> &[Bought] {
        &self.bought[..usize::from(self.lines)]
    }

    /// By when its parcel was promised.
    pub(crate) fn promised_ms(&self) -> i64 {
        self.paid_ms + DELIVER_SLA_MS
    }

    fn put(&mut self, sku: u32, packs: u32) {
        let lines = usize::from(self.lines);
        match self.bought[..lines]
            .iter_mut()
            .find(|bought| bought.sku == sku)
        {
            Some(bought) => bought.packs += packs,
            None => {
                self.bought[lines] = Bought {
                    sku,
                    packs,
                    price_minor: 0,
                };
                self.lines += 1;
            }
        }
    }

    /// What really happens at a step that is due: a payment fails while the checkout is dead.
    pub(crate) fn actual(&self, config: &ShopConfig, step: LifeStep) -> LifeStep {
        if step == LifeStep::Paid && dead_checkout(config, self.step_ms).is_some() {
            LifeStep::PaymentFailed
        } else {
            step
        }
    }

    /// What follows a step that happened, with `step_ms` set to its time; `None` at the end.
    pub(crate) fn follow(&mut self, config: &ShopConfig, step: LifeStep) -> Option<LifeStep> {
        let salt = (self.number << 8) | (step as u64 + 1);
        let mut random = Random::new(mix(config.seed) ^ mix(salt));
        let now_ms = self.step_ms;
        let (next, next_ms) = match step {
            LifeStep::Placed => match random.unit() {
                u if u < 0.02 => (LifeStep::Cancelled, self.placed_ms + UNPAID_MS),
                u if u < 0.04 => (
                    LifeStep::PaymentFailed,
                    now_ms + seconds(&mut random, 3, 20),
                ),
                _ => (LifeStep::Paid, now_ms + seconds(&mut random, 2, 9)),
            },
            LifeStep::PaymentFailed => self.after_failure(config, &mut random),
            LifeStep::Paid => {
                if random.chance(0.015) {
                    (
                        LifeStep::Cancelled,
                        now_ms + seconds(&mut random, 120, 2400),
                    )
                } else {
                    (
                        LifeStep::Consigned,
                        now_ms + hours(&mut random, &CONSIGN_HOURS),
                    )
                }
            }
            LifeStep::Consigned => (LifeStep::Shipped, now_ms + random.between(STEP_MS_MIN, 700)),
            LifeStep::Shipped if self.shipped < self.lines => {
                (LifeStep::Shipped, now_ms + random.between(STEP_MS_MIN, 700))
            }
            LifeStep::Shipped => (LifeStep::Labelled, now_ms + seconds(&mut random, 1, 5)),
            LifeStep::Labelled => {
                let wanted_ms = now_ms + hours(&mut random, &PICKUP_HOURS);
                let stopped = stopped_courier(config, self, wanted_ms);
                let late_ms = seconds(&mut random, 60, 7200);
                (
                    LifeStep::PickedUp,
                    stopped.map_or(wanted_ms, |trouble| trouble.end_ms + late_ms),
                )
            }
            LifeStep::PickedUp => {
                self.picked_up_ms = now_ms;
                self.delivered_ms = self.delivery(&mut random);
                (
                    LifeStep::InTransit,
                    now_ms + seconds(&mut random, 3600, 4 * 3600),
                )
            }
            LifeStep::InTransit => {
                let before_ms = seconds(&mut random, 2 * 3600, 5 * 3600);
                (LifeStep::OutForDelivery, self.delivered_ms - before_ms)
            }
            LifeStep::OutForDelivery => (LifeStep::Delivered, self.delivered_ms),
            LifeStep::Delivered if random.chance(REVIEW_SHARE) => (
                LifeStep::Reviewed,
                now_ms + seconds(&mut random, 600, 10 * 3600),
            ),
            LifeStep::Delivered | LifeStep::Cancelled | LifeStep::Reviewed => return None,
        };
        self.step_ms = next_ms;
        Some(next)
    }

    /// Who could not pay tries again, once the checkout lives, or gives up.
    fn after_failure(&self, config: &ShopConfig, random: &mut Random) -> (LifeStep, i64) {
        let patient = random.chance(0.5);
        let wait_ms = seconds(random, 20, 90);
        match dead_checkout(config, self.step_ms) {
            Some(trouble) if patient => (LifeStep::Paid, trouble.end_ms + wait_ms),
            None if patient => (LifeStep::Paid, self.step_ms + wait_ms),
            _ => (LifeStep::Cancelled, self.placed_ms + UNPAID_MS),
        }
    }

    /// When the parcel will be delivered: mostly within its promise, never in no time.
    fn delivery(&self, random: &mut Random) -> i64 {
        let promised_ms = self.promised_ms();
        let wanted_ms = if random.chance(LATE_SHARE) {
            promised_ms + seconds(random, 1800, 20 * 3600)
        } else {
            promised_ms - seconds(random, 3600, 30 * 3600)
        };
        wanted_ms.max(self.picked_up_ms + 14 * HOUR_MS)
    }
}

/// What a pack of a sku costs a buyer at a time.
fn price(config: &ShopConfig, assortment: &Assortment, sku: usize, at_ms: i64) -> i64 {
    let mistyped = config
        .troubles
        .iter()
        .any(|trouble| trouble.kind == TroubleKind::MistypedPrice { sku } && trouble.covers(at_ms));
    let price_minor = assortment.skus[sku].sale_minor;
    if mistyped {
        price_minor / 10
    } else {
        price_minor
    }
}

fn dead_checkout(config: &ShopConfig, at_ms: i64) -> Option<&Trouble> {
    config
        .troubles
        .iter()
        .find(|trouble| trouble.kind == TroubleKind::DeadCheckout && trouble.covers(at_ms))
}

fn stopped_courier<'a>(config: &'a ShopConfig, life: &Life, at_ms: i64) -> Option<&'a Trouble> {
    let kind = TroubleKind::CourierStopped {
        warehouse: usize::from(life.warehouse),
        courier: usize::from(life.courier),
    };
    config
        .troubles
        .iter()
        .find(|trouble| trouble.kind == kind && trouble.covers(at_ms))
}

fn seconds(random: &mut Random, from: i64, to: i64) -> i64 {
    random.between(from * SECOND_MS, to * SECOND_MS)
}

fn hours(random: &mut Random, table: &[(f64, f64)]) -> i64 {
    (random.quantile(table) * HOUR_MS as f64) as i64
}
