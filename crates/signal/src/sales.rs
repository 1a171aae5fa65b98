//! Sales: what is paid, against the plan re-based to the day's level.

use std::borrow::Cow;

use fenghuo_event::{Order, OrderLine, Stream, pb};
use hashbrown::HashSet;

use crate::catalogue::{Judge, Next, Read, Signal, State, View};
use crate::entity::{EntityRef, Kind};
use crate::fact::PlanFact;
use crate::fold::{Fold, one};
use crate::reading::Reading;
use crate::series::{SALES, TOTALS};
use crate::statistics::{self, count_surprise_low, count_variance, cusum_run_length};

const MINUTE_MS: i64 = 60_000;

/// Lines from which on distinct skus are told apart by a set instead of by looking back.
const LINES_FEW: usize = 16;

/// Calls `each` for every sku of an order with its units and revenue, each sku once.
fn each_sku<'a>(lines: &'a [OrderLine<'_>], each: &mut dyn FnMut(&'a str, bool, i64, i64)) {
    let mut seen: Option<HashSet<&str, foldhash::fast::FixedState>> = None;
    for (at, line) in lines.iter().enumerate() {
        let sku: &str = &line.sku_id;
        let first = if lines.len() <= LINES_FEW {
            !lines[..at]
                .iter()
                .any(|before| before.sku_id == line.sku_id)
        } else {
            seen.get_or_insert_default().insert(sku)
        };
        let price_minor = line
            .unit_price
            .as_ref()
            .map_or(0, |price| price.minor_units);
        each(
            sku,
            first,
            line.quantity,
            price_minor.wrapping_mul(line.quantity),
        );
    }
}

/// Folds an order event into sales and totals.
pub(crate) fn fold(order: &Order<'_>, at_ms: i64, out: &mut Fold<'_>) {
    use pb::order::Type;
    match order.r#type {
        Type::Paid => paid(order, at_ms, out),
        Type::Cancelled => cancelled(order, out),
        Type::Placed => {
            for entity in entities(order) {
                if let Some(cell) = out.cell(&TOTALS, entity, 0) {
                    cell[6] += 1;
                }
            }
        }
        _ => {}
    }
}

/// What an order counts for, beside its skus.
fn entities<'a>(order: &'a Order<'_>) -> impl Iterator<Item = EntityRef<'a>> {
    let named = [
        (Kind::Campaign, &order.campaign_id),
        (Kind::Channel, &order.channel),
    ];
    named
        .into_iter()
        .filter(|(_, name): &(Kind, &Cow<'_, str>)| !name.is_empty())
        .map(|(kind, name)| one(kind, name))
        .chain([one(Kind::Shop, "")])
}

fn paid(order: &Order<'_>, at_ms: i64, out: &mut Fold<'_>) {
    let (mut all_units, mut all_revenue_minor) = (0_i64, 0_i64);
    each_sku(&order.lines, &mut |sku, first, units, revenue_minor| {
        all_units = all_units.wrapping_add(units);
        all_revenue_minor = all_revenue_minor.wrapping_add(revenue_minor);
        let values = [i64::from(first), units, revenue_minor];
        out.add(&SALES, one(Kind::Sku, sku), at_ms, &values);
        add_paid(one(Kind::Sku, sku), &values, at_ms, out);
    });
    let values = [1, all_units, all_revenue_minor];
    for entity in entities(order) {
        if entity.kind != Kind::Shop {
            out.add(&SALES, entity, at_ms, &values);
        }
        add_paid(entity, &values, at_ms, out);
    }
}

fn add_paid(entity: EntityRef<'_>, values: &[i64; 3], at_ms: i64, out: &mut Fold<'_>) {
    if let Some(cell) = out.cell(&TOTALS, entity, 0) {
        for (into, value) in cell.iter_mut().zip(values) {
            *into = into.wrapping_add(*value);
        }
        cell[7] = cell[7].max(at_ms);
    }
}

fn cancelled(order: &Order<'_>, out: &mut Fold<'_>) {
    let (mut all_units, mut all_revenue_minor) = (0_i64, 0_i64);
    let mut add = |entity: EntityRef<'_>, orders: i64, units: i64, revenue_minor: i64| {
        if let Some(cell) = out.cell(&TOTALS, entity, 0) {
            cell[3] += orders;
            cell[4] = cell[4].wrapping_add(units);
            cell[5] = cell[5].wrapping_add(revenue_minor);
        }
    };
    each_sku(&order.lines, &mut |sku, first, units, revenue_minor| {
        all_units = all_units.wrapping_add(units);
        all_revenue_minor = all_revenue_minor.wrapping_add(revenue_minor);
        add(one(Kind::Sku, sku), i64::from(first), units, revenue_minor);
    });
    for entity in entities(order) {
        add(entity, 1, all_units, all_revenue_minor);
    }
}

/// `sales.pace`.
pub(crate) static PACE: Signal = Signal {
    name: "sales.pace",
    unit: "ratio to plan",
    about: "paid orders against the plan: the day's level, and how odd the last minute is",
    formula: "level r = (20 + sum w*actual) / (20 + sum w*plan), decay 0.93 a minute, a minute's weight capped at 200 \
              expected, frozen while alarming; surprise: the last minute's count against plan*r in a negative binomial \
              with variance 2m + (0.15m)^2, or the CUSUM of standardised residuals with allowance 0.25*e/sd as -log10 \
              of its chance in a day, whichever is larger; units of a plan without orders are turned into orders by the sku's own units an order; \
              insufficient from 1 min before to 3 min after a flash; n: expected orders that the level rests on",
    kinds: &[Kind::Campaign, Kind::Sku, Kind::Channel],
    streams: &[Stream::Orders],
    touched_by: &[&SALES],
    judge: Judge::ClosedPane {
        width_ms: MINUTE_MS,
    },
    advance: Some(advance_level),
    read: read_pace,
};

/// Indices into the state of [`advance_level`].
mod level {
    pub(super) const ACTUAL: usize = 0;
    pub(super) const PLANNED: usize = 1;
    pub(super) const CUSUM: usize = 2;
    pub(super) const SURPRISE: usize = 3;
    pub(super) const REVISION: usize = 4;
    pub(super) const WIDTH: usize = 5;
}

/// What the level is shrunk towards the plan by.
const PRIOR: f64 = 20.0;
const DECAY: f64 = 0.93;
const WEIGHT_MAX: f64 = 200.0;
/// From here on the level is frozen: what is odd must not teach what is normal.
const ALARMING: f64 = 3.0;
const MINUTES_A_DAY: f64 = 1_440.0;
/// Orders from which on what they hold outweighs the guess of one pack.
const LEARNT_ORDERS: f64 = 10.0;

fn ratio(state: &State) -> f64 {
    match (state.get(level::ACTUAL), state.get(level::PLANNED)) {
        (Some(actual), Some(planned)) => (PRIOR + actual) / (PRIOR + planned),
        _ => 1.0,
    }
}

/// Expected and actual orders of `[from_ms, to_ms)`. A plan that gives units alone is read in
/// orders too: units come in lumps, and what comes in lumps is no count.
fn counts(view: &View<'_>, plan: &PlanFact, from_ms: i64, to_ms: i64) -> (f64, f64) {
    let paid = view.history.sum(&SALES, from_ms, to_ms)[0] as f64;
    let (orders, units) = plan.expected(from_ms, to_ms);
    if plan.curve.iter().any(|point| point.orders > 0.0) {
        return (orders, paid);
    }
    let pack_units = view.facts.pack_units() as f64;
    let (all_orders, all_packs) = match view.history.amount(&TOTALS) {
        Some([orders, packs, ..]) => (*orders as f64, *packs as f64),
        _ => (0.0, 0.0),
    };
    // A pack an order until there are orders to tell.
    let units_an_order = pack_units * (all_packs + LEARNT_ORDERS) / (all_orders + LEARNT_ORDERS);
    (units / units_an_order, paid)
}

fn advance_level(view: &View<'_>) -> State {
    let (from_ms, to_ms) = (view.now_ms - MINUTE_MS, view.now_ms);
    let Some(plan) = view.facts.plan(from_ms) else {
        return State::new();
    };
    let revision = plan.revision as f64;
    let mut state = view.state.clone();
    if state.get(level::REVISION) != Some(&revision) {
        // An edited plan begins a new level.
        state = State::from_elem(0.0, level::WIDTH);
        state[level::REVISION] = revision;
    }
    let (planned, actual) = counts(view, plan, from_ms, to_ms);
    if !plan.is_running(from_ms) || planned <= 0.0 {
        state[level::SURPRISE] = 0.0;
        return state;
    }
    if plan.in_grace(from_ms) {
        return state;
    }
    let expected = planned * ratio(&state);
    let deviation = count_variance(expected).sqrt();
    let allowance = 0.25 * expected / deviation;
    let z = (actual - expected) / deviation;
    // Beyond this the CUSUM says no more, and it must be able to come down again.
    let most =
        ((1e8 * MINUTES_A_DAY * 2.0 * allowance * allowance).ln() / (2.0 * allowance)).max(0.0);
    state[level::CUSUM] = (state[level::CUSUM] - z - allowance).clamp(0.0, most);
    let by_cusum = (cusum_run_length(state[level::CUSUM], allowance) / MINUTES_A_DAY).log10();
    let by_count = count_surprise_low(actual as u64, expected);
    state[level::SURPRISE] = by_count.max(by_cusum).clamp(0.0, statistics::SURPRISE_MAX);
    if state[level::SURPRISE] < ALARMING {
        let weight = (WEIGHT_MAX / planned).min(1.0);
        state[level::ACTUAL] = DECAY * state[level::ACTUAL] + weight * actual;
        state[level::PLANNED] = DECAY * state[level::PLANNED] + weight * planned;
    }
    state
}

fn read_pace(view: &View<'_>) -> Read {
    let Some(plan) = view.facts.plan(view.now_ms - 1) else {
        return Read {
            reading: Reading::unknown(),
            next: Next::Touched,
        };
    };
    let (actual, planned) = match view.state.as_slice() {
        [actual, planned, ..] => (*actual, *planned),
        _ => (0.0, 0.0),
    };
    let ratio = ratio(view.state);
    let mut reading = Reading::exact(ratio, planned as u64);
    let half = 1.96 * (statistics::DISPERSION * actual).sqrt() / (PRIOR + planned);
    (reading.lower, reading.upper) = (ratio - half, ratio + half);
    reading.surprise = view.state.get(level::SURPRISE).copied().unwrap_or(0.0);
    if is_over(plan, view.now_ms) {
        reading = all_sold(view);
    } else if plan.in_grace(view.now_ms - 1) || !plan.is_running(view.now_ms - 1) {
        reading = reading.insufficient();
    }
    Read {
        reading,
        next: while_running(plan, view.now_ms, MINUTE_MS),
    }
}

fn is_over(plan: &PlanFact, now_ms: i64) -> bool {
    plan.stopped || now_ms >= plan.end_ms
}

/// A campaign that is over sells as planned: nothing. What fired while it ran can clear.
fn all_sold(view: &View<'_>) -> Reading {
    let paid = view.history.amount(&TOTALS).map_or(0, |totals| totals[0]);
    Reading::exact(1.0, paid.max(1_000).unsigned_abs())
}

/// Again in `width_ms` while the campaign runs, at its start before it, never after it.
fn while_running(plan: &PlanFact, now_ms: i64, width_ms: i64) -> Next {
    if is_over(plan, now_ms) {
        Next::Touched
    } else {
        Next::At((now_ms + width_ms).max(plan.start_ms))
    }
}

/// `sales.drought`.
pub(crate) static DROUGHT: Signal = Signal {
    name: "sales.drought",
    unit: "share of the alarm level",
    about: "orders expected since the last paid one, against what a campaign of this size may see by chance",
    formula: "lambda = integral of plan*r since the last paid order (r: the level of the half hour before it, at most 1); \
              value = lambda / \
              (ln(0.69*N / 0.001) / ln 2) for a campaign of N planned orders; surprise = lambda*log10(2): \
              p = 2^-lambda at dispersion 2; n: expected orders lambda; insufficient around a flash",
    kinds: &[Kind::Campaign],
    streams: &[Stream::Orders],
    touched_by: &[&SALES],
    judge: Judge::ClosedPane { width_ms: 1_000 },
    advance: None,
    read: read_drought,
};

fn read_drought(view: &View<'_>) -> Read {
    let now_ms = view.now_ms;
    let Some(plan) = view.facts.plan(now_ms) else {
        return Read {
            reading: Reading::unknown(),
            next: Next::Touched,
        };
    };
    let next = while_running(plan, now_ms, 1_000);
    if is_over(plan, now_ms) {
        return Read {
            reading: Reading {
                value: 0.0,
                lower: 0.0,
                upper: 0.0,
                ..all_sold(view)
            },
            next,
        };
    }
    let (planned, _) = plan.expected(plan.start_ms, plan.end_ms);
    if !plan.is_running(now_ms) || planned <= 0.0 {
        return Read {
            reading: Reading::exact(0.0, 0).insufficient(),
            next,
        };
    }
    let last_paid_ms = view
        .history
        .amount(&TOTALS)
        .map_or(i64::MIN, |totals| view.honest_ms(totals[7], &SALES));
    let since_ms = last_paid_ms.max(plan.start_ms).max(view.begun_ms);
    let level = recent_level(view, plan, since_ms);
    let expected = plan.expected(since_ms, now_ms.max(since_ms)).0 * level;
    let alarm = (0.69 * planned / 0.001).max(2.0).ln() / std::f64::consts::LN_2;
    let mut reading = Reading::exact(expected / alarm, expected as u64);
    reading.surprise = (expected * 2.0_f64.log10()).min(statistics::SURPRISE_MAX);
    if plan.in_grace(now_ms) {
        reading = reading.insufficient();
    }
    Read { reading, next }
}

/// The level of the half hour before the drought began, shrunk towards the plan.
fn recent_level(view: &View<'_>, plan: &PlanFact, until_ms: i64) -> f64 {
    let until_ms = until_ms - until_ms.rem_euclid(MINUTE_MS);
    let from_ms = (until_ms - 30 * MINUTE_MS).max(plan.start_ms);
    let sold = view.history.sum(&SALES, from_ms, until_ms)[0] as f64;
    let planned = plan.expected(from_ms, until_ms).0;
    // No more than planned: a good half hour must not make the next quiet minute a drought.
    ((PRIOR + sold) / (PRIOR + planned)).min(1.0)
}
