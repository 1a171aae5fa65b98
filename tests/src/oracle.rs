//! A naive count over a CSV of order lines, under the rules of its mapping.
//!
//! It shares no code with what it checks, and never takes a shortcut that the rules do not say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What is counted, of the shop or of a sku.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Paid orders.
    pub orders: i64,
    /// Paid units.
    pub units: i64,
    /// Paid revenue in minor units.
    pub revenue_minor: i64,
    /// Cancelled orders.
    pub cancelled_orders: i64,
    /// Cancelled units.
    pub cancelled_units: i64,
    /// Cancelled revenue in minor units.
    pub cancelled_revenue_minor: i64,
}

impl Count {
    /// A row of `/api/v1/totals` or of a replay's report.
    pub fn of_row(row: &Value) -> Result<Self> {
        let field = |name: &str| {
            row[name]
                .as_i64()
                .with_context(|| format!("{name} is no whole number in {row}"))
        };
        Ok(Self {
            orders: field("orders")?,
            units: field("units")?,
            revenue_minor: field("revenue_minor")?,
            cancelled_orders: field("cancelled_orders")?,
            cancelled_units: field("cancelled_units")?,
            cancelled_revenue_minor: field("cancelled_revenue_minor")?,
        })
    }

    fn line(&mut self, units: i64, price_minor: i64, cancelled: bool) {
        let (all_units, revenue_minor) = if cancelled {
            (&mut self.cancelled_units, &mut self.cancelled_revenue_minor)
        } else {
            (&mut self.units, &mut self.revenue_minor)
        };
        *all_units += units;
        *revenue_minor += units * price_minor;
    }

    fn order(&mut self, cancelled: bool) {
        if cancelled {
            self.cancelled_orders += 1;
        } else {
            self.orders += 1;
        }
    }
}

/// A whole file's count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Everything.
    pub all: Count,
    /// By sku.
    pub skus: BTreeMap<String, Count>,
    /// Rows that no order takes.
    pub rejected: u64,
    /// Rows that are no orders.
    pub skipped: u64,
}

impl Counted {
    /// What `/api/v1/totals` or a replay's report says: the row of the shop and those of skus.
    pub fn of_rows<'a>(all: &Value, skus: impl IntoIterator<Item = &'a Value>) -> Result<Self> {
        let skus = skus.into_iter().map(|row| {
            let sku = row["sku"].as_str().context("a row without sku")?;
            Ok((sku.to_owned(), Count::of_row(row)?))
        });
        Ok(Self {
            all: Count::of_row(all)?,
            skus: skus.collect::<Result<_>>()?,
            ..Self::default()
        })
    }

    /// Whether as much is in this as in another count: of the shop, and of all skus together, which lie
    /// in other panes partitions than the shop's row and may be behind it.
    pub fn has_all_of(&self, other: &Self) -> bool {
        let units = |of: &Self| -> i64 {
            let skus = of.skus.values();
            skus.map(|sku| sku.units + sku.cancelled_units).sum()
        };
        self.all.orders >= other.all.orders
            && self.all.cancelled_orders >= other.all.cancelled_orders
            && units(self) >= units(other)
    }

    /// Compares what was sold, and tells the first sku that differs.
    ///
    /// # Panics
    /// When anything differs.
    pub fn assert_same_sales(&self, found: &Self) {
        for (sku, count) in &self.skus {
            assert_eq!(found.skus.get(sku), Some(count), "sku {sku:?}");
        }
        let extra: Vec<_> = found
            .skus
            .keys()
            .filter(|sku| !self.skus.contains_key(*sku))
            .collect();
        assert!(extra.is_empty(), "skus that were never sold: {extra:?}");
        assert_eq!(found.all, self.all, "the shop");
    }
}

/// Counts a file with the columns of the UCI Online Retail set, plain or gzip.
pub fn count(path: &Path) -> Result<Counted> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut reader = csv::Reader::from_reader(reader);
    let mut counted = Counted::default();
    let mut orders: BTreeSet<(String, String)> = BTreeSet::new();
    let mut sold: BTreeSet<(String, String, String)> = BTreeSet::new();
    for row in reader.byte_records() {
        let row = row?;
        let field = |index: usize| String::from_utf8_lossy(row.get(index).unwrap_or_default());
        let (invoice, sku, at) = (field(0), field(1), field(4));
        if invoice.starts_with('A') {
            counted.skipped += 1;
            continue;
        }
        let cancelled = invoice.starts_with('C');
        let written: i64 = field(3)
            .parse()
            .with_context(|| format!("quantity in {row:?}"))?;
        let quantity = if cancelled { written.abs() } else { written };
        let Some(price_minor) = minor(&field(5)).filter(|_| quantity > 0 && !sku.is_empty()) else {
            counted.rejected += 1;
            continue;
        };
        let of_sku = counted.skus.entry(sku.clone().into_owned()).or_default();
        of_sku.line(quantity, price_minor, cancelled);
        counted.all.line(quantity, price_minor, cancelled);
        let order = (invoice.into_owned(), at.into_owned());
        if sold.insert((order.0.clone(), order.1.clone(), sku.into_owned())) {
            of_sku.order(cancelled);
        }
        if orders.insert(order) {
            counted.all.order(cancelled);
        }
    }
    Ok(counted)
}

/// Pounds as pence; nothing where pence cannot hold them, or below zero.
fn minor(pounds: &str) -> Option<i64> {
    let (whole, part) = pounds.split_once('.').unwrap_or((pounds, ""));
    let (pence, rest) = part.split_at(part.len().min(2));
    if whole.starts_with('-') || rest.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let pence: i64 = format!("{pence:0<2}").parse().ok()?;
    Some(whole * 100 + pence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pounds_are_pence_or_nothing() {
        for (pounds, pence) in [
            ("2.1", Some(210)),
            ("0.0", Some(0)),
            ("13541.33", Some(1_354_133)),
            ("2.500", Some(250)),
            ("7", Some(700)),
            ("0.001", None),
            ("-11062.06", None),
        ] {
            assert_eq!(minor(pounds), pence, "{pounds}");
        }
    }
}
