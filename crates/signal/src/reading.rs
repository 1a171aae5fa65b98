//! Readings: a signal at one instant.

use serde::{Deserialize, Serialize};

/// Whether a reading can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadingState {
    /// It can.
    Ok,
    /// Too small a sample, or a time in which the signal does not speak (the grace around a
    /// flash): shown so, fires nothing, clears nothing.
    Insufficient,
    /// Something that it needs has not been told or is missing: never read as zero or as resolved.
    Unknown,
}

impl ReadingState {
    /// As in the API and the readings file.
    pub const fn as_str(self) -> &'static str {
        match self {
            ReadingState::Ok => "ok",
            ReadingState::Insufficient => "insufficient",
            ReadingState::Unknown => "unknown",
        }
    }
}

/// A signal at one instant, in the signal's unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Whether it can be judged.
    pub state: ReadingState,
    /// The number itself.
    pub value: f64,
    /// Lower bound of what the sample supports; the value where the signal has no bound.
    pub lower: f64,
    /// Upper bound; the value where the signal has no bound.
    pub upper: f64,
    /// −log10 of the probability of something at least as odd, were all well; 0 where the signal
    /// makes no test. At most 300.
    pub surprise: f64,
    /// Sample count, in the signal's own terms (expected orders, parcels, reviews …).
    pub n: u64,
}

impl Reading {
    /// A number without bounds or test.
    pub fn exact(value: f64, n: u64) -> Self {
        Self {
            state: ReadingState::Ok,
            value,
            lower: value,
            upper: value,
            surprise: 0.0,
            n,
        }
    }

    /// Cannot be told.
    pub fn unknown() -> Self {
        Self {
            state: ReadingState::Unknown,
            ..Self::exact(0.0, 0)
        }
    }

    /// The same numbers, not to be judged.
    pub fn insufficient(self) -> Self {
        Self {
            state: ReadingState::Insufficient,
            ..self
        }
    }
}
