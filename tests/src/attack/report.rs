//! The table that a run ends with.
//!
//! It must never judge: a row held where nothing stands against it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Characters of one fault that are shown.
const FAULT_CHARS_MAX: usize = 600;

/// One attack and what became of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// What was done.
    pub done: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// Numbers.
    pub measured: Vec<String>,
    /// What did not hold.
    pub faults: Vec<String>,
    /// Why it was not played.
    pub skipped: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (&self.skipped, self.faults.is_empty()) {
            (_, false) => "NOT HELD",
            (Some(_), true) => "skipped",
            (None, true) => "held",
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.took.as_secs_f64();
        writeln!(f, "{:<9} {} ({took:.1} s)", self.verdict(), self.name)?;
        writeln!(f, "          done      {}", self.done)?;
        writeln!(f, "          expected  {}", self.expected)?;
        for measured in &self.measured {
            writeln!(f, "          measured  {measured}")?;
        }
        if let Some(why) = &self.skipped {
            writeln!(f, "          skipped   {why}")?;
        }
        for fault in &self.faults {
            let shown: String = fault.chars().take(FAULT_CHARS_MAX).collect();
            writeln!(f, "          fault     {shown}")?;
        }
        Ok(())
    }
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order in which they were played.
    pub rows: Vec<Row>,
    /// Where the logs of the daemons are.
    pub logs: PathBuf,
}

impl Report {
    /// Whether nothing speaks against it.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.faults.is_empty())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        writeln!(f, "{:<9} {:<18} measured", "verdict", "attack")?;
        for row in &self.rows {
            let measured = row.measured.join("; ");
            writeln!(f, "{:<9} {:<18} {measured}", row.verdict(), row.name)?;
        }
        let count = |verdict| {
            let rows = self.rows.iter();
            rows.filter(|row| row.verdict() == verdict).count()
        };
        writeln!(
            f,
            "{} held, {} NOT HELD, {} skipped; logs in {}",
            count("held"),
            count("NOT HELD"),
            count("skipped"),
            self.logs.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_verdict_and_a_reason_to_skip_is_none() {
        let mut row = Row {
            name: "a",
            done: "b",
            expected: "c",
            measured: vec![],
            faults: vec![],
            skipped: None,
            took: Duration::ZERO,
        };
        assert_eq!(row.verdict(), "held");
        row.skipped = Some("no root".to_owned());
        assert_eq!(row.verdict(), "skipped");
        row.faults.push("it fell".to_owned());
        assert_eq!(row.verdict(), "NOT HELD");
        let report = Report {
            rows: vec![row],
            logs: PathBuf::new(),
        };
        assert!(!report.is_good());
    }
}
