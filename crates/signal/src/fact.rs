//! Facts: what the shop tells of a sku or a campaign, as opposed to what is counted.
//!
//! A fact replaces the one before it, in the order of its source. What was never told stays
//! `None`, so that a signal reads `Unknown` and never zero.

use fenghuo_event::{Catalog, Plan, pb};
use smallvec::SmallVec;

use crate::entity::Entity;
use crate::kind::Kind;

/// Plans of one entity that are kept at most; the one that ends first makes room.
pub const PLANS_MAX: usize = 8;

/// One fact, as it travels in the log.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Fact {
    /// What the catalogue says of a sku.
    #[prost(message, tag = "10")]
    Catalog(CatalogFact),
    /// What a plan says of a campaign or of a sku in it.
    #[prost(message, tag = "11")]
    Plan(PlanFact),
}

/// What the catalogue says of a sku.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CatalogFact {
    /// Base units in a pack; 0 = not told, what was told before stays.
    #[prost(int64, tag = "1")]
    pub pack_units: i64,
    /// Lowest allowed price of a base unit, minor units.
    #[prost(int64, optional, tag = "2")]
    pub price_floor_minor: Option<i64>,
}

/// What a plan says of a campaign or of a sku in it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PlanFact {
    /// The campaign.
    #[prost(string, tag = "1")]
    pub campaign_id: String,
    /// It begins, Unix ms.
    #[prost(int64, tag = "2")]
    pub start_ms: i64,
    /// It ends, Unix ms.
    #[prost(int64, tag = "3")]
    pub end_ms: i64,
    /// Starts of flashes, Unix ms.
    #[prost(int64, repeated, tag = "4")]
    pub flashes_ms: Vec<i64>,
    /// What is expected, in order of time.
    #[prost(message, repeated, tag = "5")]
    pub curve: Vec<Point>,
    /// Planned base units of the sku; 0 = not given.
    #[prost(int64, tag = "6")]
    pub planned_units: i64,
    /// Most units of the sku that may be sold; 0 = no cap.
    #[prost(int64, tag = "7")]
    pub sales_cap: i64,
    /// Units of the sku that are not to be promised.
    #[prost(int64, tag = "8")]
    pub safety_stock: i64,
    /// Time to replenish the sku, ms; 0 = not given.
    #[prost(int64, tag = "9")]
    pub lead_ms: i64,
    /// The campaign was ended or paused: nothing is expected.
    #[prost(bool, tag = "10")]
    pub stopped: bool,
    /// Tells one edition of the plan from another.
    #[prost(uint32, tag = "11")]
    pub revision: u32,
}

/// What is expected from here to the next point, or to the end of the campaign.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Point {
    /// From here, Unix ms.
    #[prost(int64, tag = "1")]
    pub at_ms: i64,
    /// Paid orders.
    #[prost(double, tag = "2")]
    pub orders: f64,
    /// Sold units.
    #[prost(double, tag = "3")]
    pub units: f64,
}

impl PlanFact {
    /// Expected orders and units in `[from_ms, to_ms)`.
    pub fn expected(&self, from_ms: i64, to_ms: i64) -> (f64, f64) {
        let (mut orders, mut units) = (0.0, 0.0);
        if self.stopped {
            return (orders, units);
        }
        // Points are in order: begin at the one that holds `from_ms`.
        let first = self
            .curve
            .partition_point(|point| point.at_ms <= from_ms)
            .saturating_sub(1);
        for (at, point) in self.curve.iter().enumerate().skip(first) {
            if point.at_ms >= to_ms {
                break;
            }
            let next_ms = self
                .curve
                .get(at + 1)
                .map_or(self.end_ms, |next| next.at_ms);
            let span_ms = next_ms - point.at_ms;
            let overlap_ms = next_ms.min(to_ms) - point.at_ms.max(from_ms);
            if span_ms > 0 && overlap_ms > 0 {
                let share = overlap_ms as f64 / span_ms as f64;
                orders += point.orders * share;
                units += point.units * share;
            }
        }
        (orders, units)
    }

    /// Whether `at_ms` lies in the grace around a flash, in which statistical signals are silent:
    /// from a minute before to three minutes after.
    pub fn in_grace(&self, at_ms: i64) -> bool {
        self.flashes_ms
            .iter()
            .any(|flash| (flash - 60_000..flash + 180_000).contains(&at_ms))
    }

    /// Whether nothing more is expected from `at_ms` on.
    pub fn is_over(&self, at_ms: i64) -> bool {
        self.stopped || at_ms >= self.end_ms
    }

    /// Whether the campaign runs at `at_ms`.
    pub fn is_running(&self, at_ms: i64) -> bool {
        !self.stopped && (self.start_ms..self.end_ms).contains(&at_ms)
    }
}

/// All facts of one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// What the catalogue says.
    pub catalog: Option<CatalogFact>,
    /// Its plans, one a campaign.
    pub plans: SmallVec<[Box<PlanFact>; 1]>,
}

impl Facts {
    /// Takes a fact, which replaces the one before.
    pub fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Catalog(mut catalog) => {
                if catalog.pack_units == 0 {
                    catalog.pack_units = self.pack_units();
                }
                self.catalog = Some(catalog);
            }
            Fact::Plan(plan) => {
                let mut kept = self.plans.iter();
                match kept.position(|kept| kept.campaign_id == plan.campaign_id) {
                    Some(at) => *self.plans[at] = plan,
                    None => {
                        if self.plans.len() >= PLANS_MAX {
                            let first = (0..PLANS_MAX).min_by_key(|at| self.plans[*at].end_ms);
                            self.plans.remove(first.unwrap_or(0));
                        }
                        self.plans.push(Box::new(plan));
                    }
                }
            }
        }
    }

    /// Points of all its plans.
    pub fn points(&self) -> usize {
        self.plans.iter().map(|plan| plan.curve.len()).sum()
    }

    /// Every fact, to be taken again.
    pub fn all(&self) -> impl Iterator<Item = Fact> {
        let catalog = self.catalog.clone().map(Fact::Catalog);
        let plans = self.plans.iter();
        let plans = plans.map(|plan| Fact::Plan((**plan).clone()));
        catalog.into_iter().chain(plans)
    }

    /// The plan that counts at `at_ms`: the running one that ends first, else the next one, else
    /// the last one.
    pub fn plan(&self, at_ms: i64) -> Option<&PlanFact> {
        let plans = || self.plans.iter().map(Box::as_ref);
        let running = plans()
            .filter(|plan| plan.is_running(at_ms))
            .min_by_key(|plan| plan.end_ms);
        let next = plans()
            .filter(|plan| plan.start_ms > at_ms)
            .min_by_key(|plan| plan.start_ms);
        running
            .or(next)
            .or_else(|| plans().max_by_key(|plan| plan.end_ms))
    }

    /// Base units in a pack, as far as the catalogue tells.
    pub fn pack_units(&self) -> i64 {
        self.catalog
            .as_ref()
            .map_or(1, |catalog| catalog.pack_units.max(1))
    }
}

/// The fact in a catalogue event. An event that tells of a price alone says nothing of the floor.
pub(crate) fn of_catalog(catalog: &Catalog<'_>) -> Option<(Entity, Fact)> {
    let is_whole = catalog.r#type == pb::catalog::Type::Upsert;
    if !is_whole && catalog.price_floor.is_none() {
        return None;
    }
    let fact = CatalogFact {
        pack_units: if is_whole {
            i64::from(catalog.pack_units).max(1)
        } else {
            0
        },
        price_floor_minor: catalog.price_floor.as_ref().map(|floor| floor.minor_units),
    };
    Some((Entity::one(Kind::SKU, &catalog.sku_id), Fact::Catalog(fact)))
}

/// The facts in a plan event: one of the campaign and one of each sku. Every plan event repeats
/// the whole plan.
pub(crate) fn of_plan(plan: &Plan<'_>, take: &mut dyn FnMut(Entity, Fact)) {
    let stopped = matches!(plan.r#type, pb::plan::Type::Ended | pb::plan::Type::Paused);
    let start_ms = plan.start.map_or(0, |start| start.0);
    let end_ms = plan.end.map_or(i64::MAX, |end| end.0);
    let points = |curve: &[fenghuo_event::PlanPoint]| -> Vec<Point> {
        let mut points: Vec<Point> = curve
            .iter()
            .map(|point| Point {
                at_ms: start_ms.saturating_add(i64::from(point.offset_s) * 1_000),
                orders: point.orders,
                units: point.units,
            })
            .collect();
        points.sort_by_key(|point| point.at_ms);
        points
    };
    let curve = points(&plan.curve);
    let campaign = PlanFact {
        campaign_id: plan.campaign_id.to_string(),
        start_ms,
        end_ms,
        flashes_ms: plan
            .flash_offsets_s
            .iter()
            .map(|offset| start_ms.saturating_add(i64::from(*offset) * 1_000))
            .collect(),
        curve,
        stopped,
        ..PlanFact::default()
    };
    let (all_orders, all_units) = campaign
        .curve
        .iter()
        .fold((0.0, 0.0), |(orders, units), point| {
            (orders + point.orders, units + point.units)
        });
    for sku in &plan.skus {
        let mut curve = points(&sku.curve);
        if curve.is_empty() && all_orders.max(all_units) > 0.0 {
            // Without a curve of its own, a sku follows its campaign's.
            let share = sku.planned_units as f64
                / if all_units > 0.0 {
                    all_units
                } else {
                    all_orders
                };
            curve = campaign
                .curve
                .iter()
                .map(|point| {
                    let shape = if all_units > 0.0 {
                        point.units
                    } else {
                        point.orders
                    };
                    Point {
                        at_ms: point.at_ms,
                        orders: 0.0,
                        units: shape * share,
                    }
                })
                .collect();
        }
        let fact = PlanFact {
            curve,
            planned_units: sku.planned_units,
            sales_cap: sku.sales_cap,
            safety_stock: sku.safety_stock,
            lead_ms: sku.replenish_lead.map_or(0, |lead| lead.0),
            ..campaign.clone()
        };
        take(
            Entity::one(Kind::SKU, &sku.sku_id),
            Fact::Plan(revised(fact)),
        );
    }
    take(
        Entity::one(Kind::CAMPAIGN, &plan.campaign_id),
        Fact::Plan(revised(campaign)),
    );
}

/// Stamps a plan with a number made from its content.
fn revised(mut plan: PlanFact) -> PlanFact {
    let bytes = prost::Message::encode_to_vec(&plan);
    plan.revision = xxhash_rust::xxh3::xxh3_64(&bytes) as u32;
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_integrated_over_parts_of_its_points() {
        let point = |at_ms, orders| Point {
            at_ms,
            orders,
            units: 2.0 * orders,
        };
        let plan = PlanFact {
            end_ms: 300,
            curve: vec![point(0, 10.0), point(100, 40.0), point(200, 0.0)],
            ..PlanFact::default()
        };
        assert_eq!(plan.expected(50, 150), (25.0, 50.0));
        assert_eq!(plan.expected(-50, 1_000), (50.0, 100.0));
        assert_eq!(plan.expected(250, 1_000), (0.0, 0.0));
    }
}
