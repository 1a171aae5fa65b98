//! Oversell: what was promised of what there is, and sold of what was to be sold.

use crate::estimator::available::Stock;
use crate::estimator::{Arguments, Column, Estimator, Level, Named, Next, Read, Seen};
use crate::reading::Reading;

pub(crate) static NAMED: Named = Named {
    name: "oversell",
    keys: &["oversell", "committed", "sold", "so_far"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        Some(Box::new(Oversell {
            stock: Stock::build(arguments, "oversell")?,
            sold: arguments.looked_at("sold")?,
            so_far: arguments.level("so_far", ["units"], false)?,
        }))
    },
};

#[derive(Debug)]
struct Oversell {
    stock: Stock,
    sold: Column,
    so_far: Level<1>,
}

impl Estimator for Oversell {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        self.stock.is_told(seen)
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let next = Next::Touched;
        let Some(supply) = self.stock.supply(seen) else {
            return Read {
                reading: Reading::unknown(),
                next,
            };
        };
        let committed = self.stock.committed(seen).max(0);
        let mut share = committed as f64 / supply.max(1) as f64;
        if let Some(plan) = seen
            .facts
            .plan(seen.now_ms)
            .filter(|plan| plan.sales_cap > 0)
        {
            let [all] = seen.level(&self.so_far).unwrap_or_default();
            let since = seen.sum(self.sold, plan.start_ms, i64::MAX);
            let sold = since.min(all).wrapping_mul(seen.facts.pack_units());
            share = share.max(sold as f64 / plan.sales_cap as f64);
        }
        let mut reading = Reading::exact(share, committed.unsigned_abs());
        reading.lower = committed.wrapping_sub(supply) as f64;
        reading.upper = reading.lower;
        Read { reading, next }
    }
}
