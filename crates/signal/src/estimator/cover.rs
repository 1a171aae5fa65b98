//! Cover: how long a level lasts at the rate at which it goes, or is planned to go.

use crate::estimator::available::Stock;
use crate::estimator::{Arguments, Column, Estimator, Named, Next, Read, Seen};
use crate::reading::Reading;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// A sell-out is as planned once this share of the plan was to be sold by then. Counted along the
/// plan's curve and not by the clock: a flash at the end of a campaign sells most of it.
const PLANNED_SHARE: f64 = 0.9;

/// More hours of cover than this are not told apart.
const COVER_HOURS_MAX: f64 = 1e6;

pub(crate) static NAMED: Named = Named {
    name: "cover",
    keys: &["cover", "committed", "sold", "window"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let stock = Stock::build(arguments, "cover")?;
        let sold = arguments.column("sold")?;
        let window_ms = arguments.window_ms("window", 30 * MINUTE_MS)?;
        arguments.check_kept("window", sold, window_ms)?;
        Some(Box::new(Cover {
            stock,
            sold,
            window_ms,
        }))
    },
};

#[derive(Debug)]
struct Cover {
    stock: Stock,
    sold: Column,
    window_ms: i64,
}

impl Estimator for Cover {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        self.stock.is_told(seen)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let Some(available) = self.stock.available(seen) else {
            return Read {
                reading: Reading::unknown(),
                next: Next::Touched,
            };
        };
        let now_ms = seen.now_ms;
        let pack_units = seen.facts.pack_units();
        let sold = seen.sum(self.sold, now_ms - self.window_ms, now_ms);
        let sold = sold.wrapping_mul(pack_units);
        let plan = seen
            .facts
            .plan(now_ms)
            .filter(|plan| plan.is_running(now_ms));
        let planned = plan.map_or(0.0, |plan| plan.expected(now_ms, now_ms + HOUR_MS).1);
        let windows_an_hour = HOUR_MS as f64 / self.window_ms as f64;
        let an_hour = (windows_an_hour * sold as f64).max(planned);
        let hours = if an_hour > 0.0 {
            (available / an_hour).clamp(0.0, COVER_HOURS_MAX)
        } else {
            COVER_HOURS_MAX
        };
        let mut reading = Reading::exact(hours, sold.max(0).unsigned_abs());
        if let Some(plan) = plan {
            reading.lower = hours - plan.lead_ms as f64 / HOUR_MS as f64;
            let out_ms =
                now_ms.saturating_add((hours.min(COVER_HOURS_MAX) * HOUR_MS as f64) as i64);
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
}
