//! The readings file: what the view shows, at equal distances of event time.
//!
//! Owns its form and its instants: the whole multiples of the distance, and the end. It must never
//! round a number: each is written so that reading it gives the same number again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use fenghuo_engine::View;
use fenghuo_event::Timestamp;
use fenghuo_signal::ReadingState;

/// The columns.
const HEADER: [&str; 8] = [
    "at", "signal", "entity", "value", "lower", "upper", "n", "state",
];

/// A readings file that is being written.
pub struct Readings<W: Write> {
    out: csv::Writer<W>,
    every_ms: i64,
    next_ms: i64,
    written_ms: Option<i64>,
}

impl Readings<BufWriter<File>> {
    /// Makes the file; what stood in it is gone.
    pub fn create(path: &Path, every_ms: i64) -> anyhow::Result<Self> {
        Ok(Self::new(super::create(path)?, every_ms)?)
    }
}

impl<W: Write> Readings<W> {
    /// Begins with the header.
    pub fn new(out: W, every_ms: i64) -> csv::Result<Self> {
        let mut out = csv::Writer::from_writer(out);
        out.write_record(HEADER)?;
        Ok(Self {
            out,
            every_ms,
            next_ms: i64::MAX,
            written_ms: None,
        })
    }

    /// Time begins: the first instant is the first multiple that does not lie before it.
    pub fn begin(&mut self, at_ms: i64) {
        let past_ms = at_ms.rem_euclid(self.every_ms);
        self.next_ms = at_ms - past_ms + if past_ms > 0 { self.every_ms } else { 0 };
    }

    /// The next instant, if it comes no later than `to_ms`.
    pub fn due_by(&self, to_ms: i64) -> Option<i64> {
        Some(self.next_ms).filter(|next_ms| *next_ms <= to_ms)
    }

    /// Whether an instant was written.
    pub fn is_written(&self, at_ms: i64) -> bool {
        self.written_ms == Some(at_ms)
    }

    /// Writes a line for every reading on the view. A number that is not known is left empty.
    pub fn write(&mut self, at_ms: i64, view: &View) -> csv::Result<()> {
        let at = Timestamp(at_ms).to_string();
        for (signal, entity, published) in view.readings() {
            let reading = published.reading;
            // Rust writes the shortest text that reads as the same number.
            let number = |number: f64| match reading.state {
                ReadingState::Unknown => String::new(),
                ReadingState::Ok | ReadingState::Insufficient => number.to_string(),
            };
            self.out.write_record([
                &at,
                &*signal,
                &entity.to_string(),
                &number(reading.value),
                &number(reading.lower),
                &number(reading.upper),
                &reading.n.to_string(),
                reading.state.as_str(),
            ])?;
        }
        self.written_ms = Some(at_ms);
        if at_ms >= self.next_ms {
            self.next_ms += self.every_ms;
        }
        Ok(())
    }

    /// Ends the file.
    pub fn end(self) -> std::io::Result<W> {
        self.out.into_inner().map_err(|error| {
            let error: &std::io::Error = error.error();
            std::io::Error::new(error.kind(), error.to_string())
        })
    }
}
