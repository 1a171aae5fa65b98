//! Drought: what was expected since the last one, where none came.

use crate::estimator::pace::{MINUTE_MS, PRIOR, all_sold, while_running};
use crate::estimator::{Arguments, Column, Estimator, Level, Named, Next, Read, Seen};
use crate::fact::PlanFact;
use crate::reading::Reading;
use crate::statistics;

const LEVEL_MS: i64 = 30 * MINUTE_MS;

pub(crate) static NAMED: Named = Named {
    name: "drought",
    keys: &["drought", "so_far"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let count = arguments.column("drought")?;
        let so_far = arguments.level("so_far", ["orders", "last_paid"], false)?;
        arguments.check_kept("drought", count, LEVEL_MS)?;
        Some(Box::new(Drought { count, so_far }))
    },
};

#[derive(Debug)]
struct Drought {
    count: Column,
    so_far: Level<2>,
}

impl Drought {
    /// The level of the half hour before the drought began, shrunk towards the plan.
    fn recent_level(&self, seen: &Seen<'_>, plan: &PlanFact, until_ms: i64) -> f64 {
        let until_ms = until_ms - until_ms.rem_euclid(MINUTE_MS);
        let from_ms = (until_ms - LEVEL_MS).max(plan.start_ms);
        let sold = seen.sum(self.count, from_ms, until_ms) as f64;
        let planned = plan.expected(from_ms, until_ms).0;
        // No more than planned: a good half hour must not make the next quiet minute a drought.
        ((PRIOR + sold) / (PRIOR + planned)).min(1.0)
    }
}

impl Estimator for Drought {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        !seen.facts.plans.is_empty()
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let now_ms = seen.now_ms;
        let Some(plan) = seen.facts.plan(now_ms) else {
            return Read {
                reading: Reading::unknown(),
                next: Next::Touched,
            };
        };
        let next = while_running(plan, now_ms, 1_000);
        let [paid, last_paid_ms] = seen.level(&self.so_far).unwrap_or([0, i64::MIN]);
        if plan.is_over(now_ms) {
            let reading = Reading {
                value: 0.0,
                lower: 0.0,
                upper: 0.0,
                ..all_sold(paid)
            };
            return Read { reading, next };
        }
        let (planned, _) = plan.expected(plan.start_ms, plan.end_ms);
        if !plan.is_running(now_ms) || planned <= 0.0 {
            return Read {
                reading: Reading::exact(0.0, 0).insufficient(),
                next,
            };
        }
        let last_paid_ms = seen.honest_ms(last_paid_ms, self.count);
        let since_ms = last_paid_ms.max(plan.start_ms).max(seen.begun_ms);
        let level = self.recent_level(seen, plan, since_ms);
        let expected = plan.expected(since_ms, now_ms.max(since_ms)).0 * level;
        let alarm = (0.69 * planned / 0.001).max(2.0).ln() / std::f64::consts::LN_2;
        let mut reading = Reading::exact(expected / alarm, expected as u64);
        reading.surprise = (expected * 2.0_f64.log10()).min(statistics::SURPRISE_MAX);
        if plan.in_grace(now_ms) {
            reading = reading.insufficient();
        }
        Read { reading, next }
    }
}
