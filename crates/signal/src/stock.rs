//! Stock: what is on hand and what is promised, from two streams.

use fenghuo_event::{Inventory, Order, Stream, pb};

use crate::catalogue::{Judge, Next, Read, Signal, View};
use crate::entity::Kind;
use crate::fold::{Fold, one, pair};
use crate::reading::Reading;
use crate::series::{COMMITTED, SALES, STOCK, STOCK_TOTAL, TOTALS};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const PANE_MS: i64 = 10_000;

/// Share of announced stock that is counted on while nothing is known of the supplier: the mean
/// of a Beta(9, 1), a supplier's score before its first delivery.
const INCOMING_CONFIDENCE: f64 = 0.9;

/// A sell-out is as planned once this share of the plan was to be sold by then. Counted along the
/// plan's curve and not by the clock: a flash at the end of a campaign sells most of it.
const PLANNED_SHARE: f64 = 0.9;

/// More hours of cover than this are not told apart.
const COVER_HOURS_MAX: f64 = 1e6;

/// What a paid order commits, and a consigned or cancelled one sets free.
pub(crate) fn fold_order(order: &Order<'_>, out: &mut Fold<'_>) {
    use pb::order::Type;
    let sign = match order.r#type {
        Type::Paid => 1,
        Type::Consigned => -1,
        // An order that was never paid never committed anything.
        Type::Cancelled if order.paid_at.is_some() => -1,
        _ => return,
    };
    for line in &order.lines {
        let packs = sign * line.quantity;
        let values = match i64::from(line.pack_units) {
            0 => [0, packs],
            pack_units => [packs.wrapping_mul(pack_units), 0],
        };
        out.add(&COMMITTED, one(Kind::Sku, &line.sku_id), 0, &values);
        if !line.warehouse_id.is_empty() {
            let entity = pair(Kind::SkuLocation, &line.sku_id, &line.warehouse_id);
            out.add(&COMMITTED, entity, 0, &values);
        }
    }
}

/// Absolute levels replace what was known; a change without levels is added to it.
pub(crate) fn fold_inventory(inventory: &Inventory<'_>, out: &mut Fold<'_>) {
    use pb::inventory::Type;
    let entity = pair(Kind::SkuLocation, &inventory.sku_id, &inventory.location_id);
    if let Some(levels) = &inventory.levels {
        let values = [
            levels.on_hand,
            levels.reserved,
            levels.safety_stock,
            levels.damaged,
            levels.quality_control,
            levels.incoming,
        ];
        out.cells.set(&STOCK, entity, &values);
        return;
    }
    match inventory.r#type {
        Type::Reserve | Type::Release => out.add(&STOCK, entity, 0, &[0, inventory.delta]),
        Type::InboundExpected | Type::InboundChanged | Type::InboundCancelled => {
            out.add(&STOCK, entity, 0, &[0, 0, 0, 0, 0, inventory.delta]);
        }
        // What a channel was told is no stock of its own.
        Type::ChannelStockSet | Type::Unspecified => {}
        _ => out.add(&STOCK, entity, 0, &[inventory.delta]),
    }
}

/// Base units promised to buyers and not yet sent.
fn committed(view: &View<'_>) -> i64 {
    let [base_units, packs] = match view.history.amount(&COMMITTED) {
        Some([base_units, packs]) => [*base_units, *packs],
        _ => [0, 0],
    };
    base_units.wrapping_add(packs.wrapping_mul(view.facts.pack_units()))
}

/// The stock of the entity, field by field; `None` while nothing was told.
fn stock<'a>(view: &View<'a>) -> Option<&'a [i64]> {
    let series = if view.entity.kind == Kind::Sku {
        &STOCK_TOTAL
    } else {
        &STOCK
    };
    view.history.amount(series)
}

fn available_to_promise(view: &View<'_>) -> Option<f64> {
    let [
        on_hand,
        reserved,
        safety,
        damaged,
        quality_control,
        incoming,
        ..,
    ] = *stock(view)?
    else {
        return None;
    };
    let planned_safety = view
        .facts
        .plan(view.now_ms)
        .map_or(0, |plan| plan.safety_stock);
    let sure = on_hand
        - committed(view)
        - reserved
        - safety.max(planned_safety)
        - damaged
        - quality_control;
    Some(sure as f64 + (incoming as f64 * INCOMING_CONFIDENCE).floor())
}

/// `stock.available_to_promise`.
pub(crate) static AVAILABLE_TO_PROMISE: Signal = Signal {
    name: "stock.available_to_promise",
    unit: "base units",
    about: "what can still be sold and sent",
    formula: "on_hand - committed (paid, neither consigned nor cancelled) - reserved - safety - damaged - in quality \
              control + 0.9 * incoming; safety is the larger of the inventory's and the plan's",
    kinds: &[Kind::Sku, Kind::SkuLocation],
    streams: &[Stream::Orders, Stream::Inventory],
    touched_by: &[&STOCK, &STOCK_TOTAL, &COMMITTED],
    judge: Judge::ClosedPane { width_ms: PANE_MS },
    advance: None,
    read: |view| {
        let reading = match available_to_promise(view) {
            Some(units) => Reading::exact(units, 1),
            None => Reading::unknown(),
        };
        Read {
            reading,
            next: Next::Touched,
        }
    },
};

/// `stock.hours_of_cover`.
pub(crate) static HOURS_OF_COVER: Signal = Signal {
    name: "stock.hours_of_cover",
    unit: "hours",
    about: "how long what can be promised lasts",
    formula: "available to promise / max(units paid in the last 30 min * 2, units planned for the next hour), at most \
              1e6; lower: that less the time to replenish; upper: that, or 1e9 where by the time of the sell-out 90 % \
              of the planned units were to be sold, so that it is as planned; n: units sold in the last 30 min",
    kinds: &[Kind::Sku],
    streams: &[Stream::Orders, Stream::Inventory],
    touched_by: &[&STOCK_TOTAL, &COMMITTED, &SALES],
    judge: Judge::ClosedPane { width_ms: PANE_MS },
    advance: None,
    read: read_cover,
};

fn read_cover(view: &View<'_>) -> Read {
    let Some(available) = available_to_promise(view) else {
        return Read {
            reading: Reading::unknown(),
            next: Next::Touched,
        };
    };
    let now_ms = view.now_ms;
    let pack_units = view.facts.pack_units();
    let sold =
        view.history.sum(&SALES, now_ms - 30 * MINUTE_MS, now_ms)[1].wrapping_mul(pack_units);
    let plan = view
        .facts
        .plan(now_ms)
        .filter(|plan| plan.is_running(now_ms));
    let planned = plan.map_or(0.0, |plan| plan.expected(now_ms, now_ms + HOUR_MS).1);
    let an_hour = (2.0 * sold as f64).max(planned);
    let hours = if an_hour > 0.0 {
        (available / an_hour).clamp(0.0, COVER_HOURS_MAX)
    } else {
        COVER_HOURS_MAX
    };
    let mut reading = Reading::exact(hours, sold.max(0).unsigned_abs());
    if let Some(plan) = plan {
        reading.lower = hours - plan.lead_ms as f64 / HOUR_MS as f64;
        let out_ms = now_ms.saturating_add((hours.min(COVER_HOURS_MAX) * HOUR_MS as f64) as i64);
        let (_, until_out) = plan.expected(plan.start_ms, out_ms);
        let (_, whole) = plan.expected(plan.start_ms, plan.end_ms);
        if whole > 0.0 && until_out >= PLANNED_SHARE * whole {
            reading.upper = 1e9;
        }
    }
    let next = if an_hour > 0.0 {
        Next::At(now_ms + MINUTE_MS)
    } else {
        Next::Touched
    };
    Read { reading, next }
}

/// `stock.oversell`.
pub(crate) static OVERSELL: Signal = Signal {
    name: "stock.oversell",
    unit: "share",
    about: "what was sold of what there is, and of what was to be sold",
    formula: "value: the larger of committed / (on_hand + incoming) and sold since the plan's start / sales cap; lower \
              and upper: base units committed beyond on_hand + incoming; n: base units committed",
    kinds: &[Kind::Sku],
    streams: &[Stream::Orders, Stream::Inventory],
    touched_by: &[&STOCK_TOTAL, &COMMITTED],
    judge: Judge::ClosedPane { width_ms: PANE_MS },
    advance: None,
    read: read_oversell,
};

fn read_oversell(view: &View<'_>) -> Read {
    let next = Next::Touched;
    let Some([on_hand, _, _, _, _, incoming, ..]) = stock(view) else {
        return Read {
            reading: Reading::unknown(),
            next,
        };
    };
    let (committed, supply) = (committed(view).max(0), on_hand + incoming);
    let mut share = committed as f64 / supply.max(1) as f64;
    if let Some(plan) = view
        .facts
        .plan(view.now_ms)
        .filter(|plan| plan.sales_cap > 0)
    {
        let totals = view.history.amount(&TOTALS).map_or(0, |totals| totals[1]);
        let since = view.history.sum(&SALES, plan.start_ms, i64::MAX)[1];
        let sold = since.min(totals).wrapping_mul(view.facts.pack_units());
        share = share.max(sold as f64 / plan.sales_cap as f64);
    }
    let mut reading = Reading::exact(share, committed.unsigned_abs());
    reading.lower = (committed - supply) as f64;
    reading.upper = reading.lower;
    Read { reading, next }
}
