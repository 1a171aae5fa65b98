//! What the instances show over HTTP, put together.
//!
//! Each shows what it holds, and may still show what it held: of two rows about the same thing the
//! one that knows more holds, and the other is counted as old. What counts too much is never taken
//! for old.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::installation::Process;
use crate::oracle::{Count, Counted};

/// Rows that one answer may have; more than there are.
const ROWS: usize = 10_000;

/// What was shown at one time.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Totals.
    pub sold: Counted,
    /// Units that can still be promised, by sku, as the instance says that knows most of the sku.
    pub available: BTreeMap<String, Available>,
    /// Episodes of each instance.
    pub episodes: Vec<Vec<Value>>,
    /// Rows that another instance knew better.
    pub old: usize,
    /// Ranges of source offsets that nobody counted, as the instances tell.
    pub holes: f64,
}

/// What can still be promised of a sku.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Available {
    /// Orders of the sku that the instance knew.
    known: i64,
    /// When it was read.
    at: String,
    /// Units.
    pub units: f64,
}

impl Available {
    /// So many units, by whoever knows anything.
    pub fn new(units: f64) -> Self {
        Self {
            units,
            ..Self::default()
        }
    }
}

impl Shown {
    /// Asks all of them.
    pub fn of<'a>(processes: impl IntoIterator<Item = &'a Process>) -> Result<Self> {
        let mut shown = Self::default();
        for process in processes {
            let totals = process.json(&format!("/api/v1/totals?limit={ROWS}"))?;
            if !totals["total"].is_null() {
                let count = Count::of_row(&totals["total"])?;
                let old = &mut shown.old;
                take(&mut shown.sold.all, count, old);
            }
            let mut known_here = BTreeMap::new();
            for row in rows(&totals, "skus")? {
                let sku = row["sku"].as_str().context("a row without sku")?;
                let count = Count::of_row(row)?;
                known_here.insert(sku.to_owned(), events(&count));
                let known = shown.sold.skus.entry(sku.to_owned());
                let known = known.or_default();
                take(known, count, &mut shown.old);
            }
            let readings = process.json(&format!(
                "/api/v1/readings?signal=stock.available_to_promise&kind=sku&limit={ROWS}"
            ))?;
            for row in rows(&readings, "readings")? {
                shown.reading(row, &known_here)?;
            }
            let episodes = process.json(&format!("/api/v1/episodes?limit={ROWS}"))?;
            shown.episodes.push(rows(&episodes, "episodes")?.clone());
            shown.holes += process.metric("fenghuo_source_holes_total", &[])?;
        }
        Ok(shown)
    }

    fn reading(&mut self, row: &Value, known_here: &BTreeMap<String, i64>) -> Result<()> {
        let sku = row["entity"]["sku"].as_str().context("no sku")?;
        let Some(units) = row["value"].as_f64() else {
            return Ok(());
        };
        let found = Available {
            known: known_here.get(sku).copied().unwrap_or(0),
            at: row["at"].as_str().unwrap_or_default().to_owned(),
            units,
        };
        let best = self.available.entry(sku.to_owned()).or_default();
        // Times of one form and zone: the later text is the later time.
        if (found.known, &found.at) >= (best.known, &best.at) {
            *best = found;
        }
        Ok(())
    }
}

/// How much a count has seen.
fn events(count: &Count) -> i64 {
    count.orders + count.cancelled_orders
}

fn rows<'a>(answer: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    answer[name]
        .as_array()
        .with_context(|| format!("no {name} in {answer}"))
}

/// Keeps the count that knows of more events.
fn take(known: &mut Count, count: Count, old: &mut usize) {
    let is_first = *known == Count::default();
    *old += usize::from(!is_first && *known != count);
    if events(&count) > events(known) {
        *known = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_that_knows_more_holds_and_the_other_is_old() {
        let count = |orders| Count {
            orders,
            ..Count::default()
        };
        for (first, second, holds, is_old) in
            [(5, 7, 7, 1), (7, 5, 7, 1), (7, 7, 7, 0), (0, 7, 7, 0)]
        {
            let (mut known, mut old) = (Count::default(), 0);
            take(&mut known, count(first), &mut old);
            take(&mut known, count(second), &mut old);
            assert_eq!((known.orders, old), (holds, is_old), "{first} {second}");
        }
    }
}
