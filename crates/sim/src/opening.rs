//! What the shop tells before its first order: plan, catalogue, suppliers, stock.
//!
//! Owns the plan as an event and the stock that goes with it. It must never depend on chance, but
//! for what the assortment drew.

use fenghuo_event::pb;
use fenghuo_event::pb::event::Body;

use crate::assortment::{Assortment, COURIERS, Sku, WAREHOUSE_SHARES, WAREHOUSES};
use crate::demand::Curve;
use crate::events;
use crate::life::{DELIVER_SLA_MS, SHIP_SLA_MS};
use crate::stock::Stock;
use crate::{CONVERSION, HOUR_MS, OPENING_MS, ShopConfig};

const SUPPLIERS: usize = 12;

/// Walks through what is told at the start, evenly over [`OPENING_MS`].
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    told: usize,
    skus: usize,
    total: usize,
}

impl Opening {
    pub(crate) fn new(config: &ShopConfig, assortment: &Assortment) -> Self {
        debug_assert!(config.start_ms <= config.flash_ms);
        let skus = assortment.skus.len();
        Self {
            told: 0,
            skus,
            total: 1 + skus + SUPPLIERS + skus * WAREHOUSES.len(),
        }
    }

    /// The next thing told, and when.
    pub(crate) fn next(
        &mut self,
        config: &ShopConfig,
        assortment: &Assortment,
        curve: &Curve,
        stock: &[[Stock; WAREHOUSES.len()]],
    ) -> Option<(i64, Body)> {
        let number = self.told;
        if number == self.total {
            return None;
        }
        self.told += 1;
        let at_ms = config.start_ms + OPENING_MS * number as i64 / self.total as i64;
        let suppliers_from = 1 + self.skus;
        let stock_from = suppliers_from + SUPPLIERS;
        let body = match number {
            0 => plan(config, assortment, curve),
            n if n < suppliers_from => events::catalog(&assortment.skus[n - 1]),
            n if n < stock_from => events::supplier(n - suppliers_from),
            n => {
                let (sku, warehouse) = (
                    (n - stock_from) / WAREHOUSES.len(),
                    (n - stock_from) % WAREHOUSES.len(),
                );
                events::snapshot(&assortment.skus[sku], warehouse, &stock[sku][warehouse])
            }
        };
        Some((at_ms, body))
    }
}

/// Base units of a sku that the sale is planned to sell.
fn planned_units(config: &ShopConfig, curve: &Curve, sku: &Sku) -> f64 {
    curve.expected(config.start_ms, config.end_ms) * sku.units_per_order
}

/// Base units of a sku that are kept in hand.
fn safety_stock(planned_units: f64) -> i64 {
    (planned_units / 100.0) as i64
}

/// Enough of everything: the whole plan and, at the busiest time, hours of it to spare, so that a
/// shop without trouble never runs short.
pub(crate) fn stock(
    config: &ShopConfig,
    assortment: &Assortment,
    curve: &Curve,
) -> Vec<[Stock; WAREHOUSES.len()]> {
    let busiest = curve.expected(config.flash_ms, config.flash_ms + HOUR_MS / 2) * 2.0;
    assortment
        .skus
        .iter()
        .map(|sku| {
            let planned = planned_units(config, curve, sku);
            let spare = 4.0 * busiest * sku.units_per_order + 120.0 * f64::from(sku.pack_units);
            std::array::from_fn(|warehouse| Stock {
                on_hand: ((planned * 1.1 + spare) * WAREHOUSE_SHARES[warehouse]) as i64,
                committed: 0,
                safety_stock: (safety_stock(planned) as f64 * WAREHOUSE_SHARES[warehouse]) as i64,
            })
        })
        .collect()
}

fn plan(config: &ShopConfig, assortment: &Assortment, curve: &Curve) -> Body {
    let revenue = assortment.revenue_per_order();
    let units: f64 = assortment.skus.iter().map(|sku| sku.units_per_order).sum();
    // Each flash minute is one point, and so is each quarter of an hour elsewhere.
    let points: Vec<(i32, f64)> = curve
        .pieces()
        .iter()
        .filter(|piece| piece.start_ms >= config.start_ms)
        .map(|piece| {
            (
                ((piece.start_ms - config.start_ms) / 1000) as i32,
                piece.orders,
            )
        })
        .collect();
    let skus = sku_plans(config, assortment, curve, &points);
    let curve = points
        .iter()
        .map(|(offset_s, orders)| pb::PlanPoint {
            offset_s: *offset_s,
            orders: neat(*orders),
            units: neat(orders * units),
            visits: neat(orders / CONVERSION),
            gmv_minor: (orders * revenue) as i64,
        })
        .collect();
    Body::Plan(pb::Plan {
        r#type: pb::plan::Type::Upsert as i32,
        campaign_id: config.campaign_id.clone(),
        name: "双十一预热与秒杀".to_owned(),
        start: Some(events::timestamp(config.start_ms)),
        end: Some(events::timestamp(config.end_ms)),
        flash_offsets_s: vec![((config.flash_ms - config.start_ms) / 1000) as i32],
        curve,
        forecast_cv: 0.15,
        skus,
        couriers: couriers(config),
        ship_sla: Some(duration(SHIP_SLA_MS)),
        first_scan_sla: Some(duration(24 * HOUR_MS)),
        deliver_sla: Some(duration(DELIVER_SLA_MS)),
        currency_code: events::CURRENCY.to_owned(),
        ..Default::default()
    })
}

fn sku_plans(
    config: &ShopConfig,
    assortment: &Assortment,
    curve: &Curve,
    points: &[(i32, f64)],
) -> Vec<pb::SkuPlan> {
    assortment
        .skus
        .iter()
        .enumerate()
        .map(|(rank, sku)| {
            let planned = planned_units(config, curve, sku);
            let own = if rank < config.sku_curves {
                points
            } else {
                &[]
            };
            pb::SkuPlan {
                sku_id: sku.id.clone(),
                planned_units: planned as i64 + 1,
                sales_cap: (planned * 2.0) as i64 + 200,
                safety_stock: safety_stock(planned),
                curve: own
                    .iter()
                    .map(|(offset_s, orders)| pb::PlanPoint {
                        offset_s: *offset_s,
                        units: neat(orders * sku.units_per_order),
                        ..Default::default()
                    })
                    .collect(),
                baseline_cvr: CONVERSION,
                hero: rank == 0,
                ..Default::default()
            }
        })
        .collect()
}

/// Plans are written with few decimals, and few decimals read the same in every encoding.
fn neat(expected: f64) -> f64 {
    (expected * 1000.0).round() / 1000.0
}

fn couriers(config: &ShopConfig) -> Vec<pb::CourierPlan> {
    let mut plans = Vec::new();
    for (warehouse_id, _) in WAREHOUSES {
        for (rank, courier_id) in COURIERS.iter().enumerate() {
            plans.push(pb::CourierPlan {
                courier_id: (*courier_id).to_owned(),
                warehouse_id: warehouse_id.to_owned(),
                parcels_per_day: (config.orders_per_day / COURIERS.len() as f64) as i64 + 1,
                priority: if rank == 0 { 1 } else { 2 },
            });
        }
    }
    plans
}

fn duration(length_ms: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: length_ms / 1000,
        nanos: 0,
    }
}
