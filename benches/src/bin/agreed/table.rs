//! What was measured, beside what is aimed at.

use std::fmt;

/// Rows in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    /// Adds what was measured of a part; without a target, `target` is empty.
    pub fn row(&mut self, part: &str, measure: &str, value: f64, target: &str) {
        // A count is shown whole, everything else with the digits that mean something.
        let value = match value {
            value if value == value.trunc() && value.abs() >= 10.0 => format!("{value:.0}"),
            value if value.abs() >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.3}"),
        };
        let texts = [part, measure, &value, target];
        self.rows.push(texts.map(str::to_owned));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["part", "measure", "value", "target"].map(str::to_owned);
        let all = || std::iter::once(&head).chain(&self.rows);
        let width = |at: usize| all().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let [part, measure, value] = [width(0), width(1), width(2)];
        for [a, b, c, d] in all() {
            writeln!(f, "{a:part$}  {b:measure$}  {c:>value$}  {d}")?;
        }
        Ok(())
    }
}
