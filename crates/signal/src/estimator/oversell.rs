//! Oversell: what was promised of what there is, and sold of what was to be sold.

use crate::estimator::available::Stock;
use crate::estimator::{Arguments, Column, Estimator, Level, Named, Next, Read, View};
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
    fn applies(&self, view: &View<'_>) -> bool {
        self.stock.is_told(view)
    }

    fn read(&self, view: &View<'_>) -> Read {
        let next = Next::Touched;
        let Some(supply) = self.stock.supply(view) else {
            return Read {
                reading: Reading::unknown(),
                next,
            };
        };
        let committed = self.stock.committed(view).max(0);
        let mut share = committed as f64 / supply.max(1) as f64;
        if let Some(plan) = view
            .facts
            .plan(view.now_ms)
            .filter(|plan| plan.sales_cap > 0)
        {
            let [all] = view.level(&self.so_far).unwrap_or_default();
            let since = view.sum(self.sold, plan.start_ms, i64::MAX);
            let sold = since.min(all).wrapping_mul(view.facts.pack_units());
            share = share.max(sold as f64 / plan.sales_cap as f64);
        }
        let mut reading = Reading::exact(share, committed.unsigned_abs());
        reading.lower = committed.wrapping_sub(supply) as f64;
        reading.upper = reading.lower;
        Read { reading, next }
    }
}
