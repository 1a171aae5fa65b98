//! Pace: a count against its plan, re-based to the day's level.
//!
//! The level follows what is usual today; the test asks how odd the last minute is, or what the last
//! minutes have summed up to. What is odd must not teach what is normal, so the level stands still
//! while the test is in doubt.

use crate::estimator::{Column, Estimator, Level, Named, Next, Read, Seen, State};
use crate::fact::PlanFact;
use crate::reading::Reading;
use crate::statistics::{self, count_surprise_low, count_variance, cusum_run_length};

pub(super) const MINUTE_MS: i64 = 60_000;

/// What the level is shrunk towards the plan by, in orders.
pub(super) const PRIOR: f64 = 20.0;
const DECAY: f64 = 0.93;
const WEIGHT_MAX: f64 = 200.0;
/// From here on the level is frozen: what is odd must not teach what is normal.
const ALARMING: f64 = 3.0;
const MINUTES_A_DAY: f64 = 1_440.0;
/// Orders from which on what they hold outweighs the guess of one pack.
const LEARNT_ORDERS: f64 = 10.0;

pub(crate) static NAMED: Named = Named {
    name: "pace",
    keys: &["pace", "so_far"],
    build: |arguments| {
        let orders = arguments.column("pace")?;
        let so_far = arguments.level("so_far", ["orders", "units"], false)?;
        Some(Box::new(Pace { orders, so_far }))
    },
};

#[derive(Debug)]
struct Pace {
    orders: Column,
    so_far: Level<2>,
}

/// Indices into the state.
mod level {
    pub(super) const ACTUAL: usize = 0;
    pub(super) const PLANNED: usize = 1;
    pub(super) const CUSUM: usize = 2;
    pub(super) const SURPRISE: usize = 3;
    pub(super) const REVISION: usize = 4;
    pub(super) const WIDTH: usize = 5;
}

fn ratio(state: &State) -> f64 {
    match (state.get(level::ACTUAL), state.get(level::PLANNED)) {
        (Some(actual), Some(planned)) => (PRIOR + actual) / (PRIOR + planned),
        _ => 1.0,
    }
}

impl Pace {
    /// Expected and actual orders of `[from_ms, to_ms)`. A plan that gives units alone is read in
    /// orders too: units come in lumps, and what comes in lumps is no count.
    fn counts(&self, seen: &Seen<'_>, plan: &PlanFact, from_ms: i64, to_ms: i64) -> (f64, f64) {
        let paid = seen.sum(self.orders, from_ms, to_ms) as f64;
        let (orders, units) = plan.expected(from_ms, to_ms);
        if plan.curve.iter().any(|point| point.orders > 0.0) {
            return (orders, paid);
        }
        let pack_units = seen.facts.pack_units() as f64;
        let [all_orders, all_packs] = seen.level(&self.so_far).unwrap_or_default();
        // A pack an order until there are orders to tell.
        let units_an_order =
            pack_units * (all_packs as f64 + LEARNT_ORDERS) / (all_orders as f64 + LEARNT_ORDERS);
        (units / units_an_order, paid)
    }
}

impl Estimator for Pace {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        !seen.facts.plans.is_empty()
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn advance(&self, seen: &Seen<'_>) -> State {
        let (from_ms, to_ms) = (seen.now_ms - MINUTE_MS, seen.now_ms);
        let Some(plan) = seen.facts.plan(from_ms) else {
            return State::new();
        };
        let revision = plan.revision as f64;
        let mut state = seen.state.clone();
        if state.get(level::REVISION) != Some(&revision) {
            // An edited plan begins a new level.
            state = State::from_elem(0.0, level::WIDTH);
            state[level::REVISION] = revision;
        }
        if !plan.is_running(from_ms) {
            state[level::SURPRISE] = 0.0;
            return state;
        }
        let (planned, actual) = self.counts(seen, plan, from_ms, to_ms);
        if planned <= 0.0 {
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

    fn read(&self, seen: &Seen<'_>) -> Read {
        let Some(plan) = seen.facts.plan(seen.now_ms - 1) else {
            return Read {
                reading: Reading::unknown(),
                next: Next::Touched,
            };
        };
        let (actual, planned) = match seen.state.as_slice() {
            [actual, planned, ..] => (*actual, *planned),
            _ => (0.0, 0.0),
        };
        let ratio = ratio(seen.state);
        let mut reading = Reading::exact(ratio, planned as u64);
        let half = 1.96 * (statistics::DISPERSION * actual).sqrt() / (PRIOR + planned);
        (reading.lower, reading.upper) = (ratio - half, ratio + half);
        reading.surprise = seen.state.get(level::SURPRISE).copied().unwrap_or(0.0);
        if plan.is_over(seen.now_ms) {
            let [paid, _] = seen.level(&self.so_far).unwrap_or_default();
            reading = all_sold(paid);
        } else if plan.in_grace(seen.now_ms - 1) || !plan.is_running(seen.now_ms - 1) {
            reading = reading.insufficient();
        }
        Read {
            reading,
            next: while_running(plan, seen.now_ms, MINUTE_MS),
        }
    }
}

/// A campaign that is over sells as planned: nothing. What fired while it ran can clear.
pub(super) fn all_sold(paid: i64) -> Reading {
    Reading::exact(1.0, paid.max(1_000).unsigned_abs())
}

/// Again in `width_ms` while the campaign runs, at its start before it, never after it.
pub(super) fn while_running(plan: &PlanFact, now_ms: i64, width_ms: i64) -> Next {
    if plan.is_over(now_ms) {
        Next::Touched
    } else {
        Next::At((now_ms + width_ms).max(plan.start_ms))
    }
}
