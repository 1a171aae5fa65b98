//! Available to promise: what is on hand, less everything that it is promised to.

use crate::estimator::{Arguments, Estimator, Level, Named, Next, Read, Seen};
use crate::reading::Reading;

/// Share of announced stock that is counted on while nothing is known of the supplier: the mean
/// of a Beta(9, 1), a supplier's score before its first delivery.
const INCOMING_CONFIDENCE: f64 = 0.9;

pub(crate) static NAMED: Named = Named {
    name: "available",
    keys: &["available", "committed"],
    build: |arguments| {
        let stock = Stock::build(arguments, "available")?;
        Some(Box::new(Available { stock }))
    },
};

#[derive(Debug)]
struct Available {
    stock: Stock,
}

/// What is there and what is promised of it.
#[derive(Debug)]
pub(super) struct Stock {
    levels: Level<6>,
    committed: Level<2>,
}

impl Stock {
    /// From the measure that `key` names, and `committed`.
    pub(super) fn build(arguments: &Arguments<'_, '_, '_>, key: &str) -> Option<Self> {
        let columns = [
            "on_hand",
            "reserved",
            "safety",
            "damaged",
            "quality_control",
            "incoming",
        ];
        Some(Self {
            levels: arguments.level(key, columns, true)?,
            committed: arguments.level("committed", ["base_units", "packs"], true)?,
        })
    }

    /// Base units promised to buyers and not yet sent.
    pub(super) fn committed(&self, seen: &Seen<'_>) -> i64 {
        let [base_units, packs] = seen.level(&self.committed).unwrap_or_default();
        base_units.wrapping_add(packs.wrapping_mul(seen.facts.pack_units()))
    }

    /// Base units on hand and incoming; `None` while nothing was told.
    pub(super) fn supply(&self, seen: &Seen<'_>) -> Option<i64> {
        let [on_hand, _, _, _, _, incoming] = seen.level(&self.levels)?;
        Some(on_hand.wrapping_add(incoming))
    }

    /// Base units that can still be promised; `None` while nothing was told.
    pub(super) fn available(&self, seen: &Seen<'_>) -> Option<f64> {
        let [
            on_hand,
            reserved,
            safety,
            damaged,
            quality_control,
            incoming,
        ] = seen.level(&self.levels)?;
        let planned_safety = seen
            .facts
            .plan(seen.now_ms)
            .map_or(0, |plan| plan.safety_stock);
        let sure = on_hand
            .wrapping_sub(self.committed(seen))
            .wrapping_sub(reserved)
            .wrapping_sub(safety.max(planned_safety))
            .wrapping_sub(damaged)
            .wrapping_sub(quality_control);
        Some(sure as f64 + (incoming as f64 * INCOMING_CONFIDENCE).floor())
    }

    /// Whether anything was told of it.
    pub(super) fn is_told(&self, seen: &Seen<'_>) -> bool {
        seen.level(&self.levels).is_some()
    }
}

impl Estimator for Available {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        self.stock.is_told(seen)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let reading = match self.stock.available(seen) {
            Some(units) => Reading::exact(units, 1),
            None => Reading::unknown(),
        };
        Read {
            reading,
            next: Next::Touched,
        }
    }
}
