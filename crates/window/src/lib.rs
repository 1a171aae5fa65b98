//! Panes, levels, cohorts and watermarks over integers.
//!
//! This crate owns how increments are combined, merged, kept and summed. Everything it merges is
//! a commutative monoid of 64-bit integers (sums wrap; minimum; maximum), so any order of merging
//! gives the same numbers to the bit; a register alone is ordered, by its source. It knows no
//! shop: entities are a type parameter, series are described to it. Times are milliseconds since
//! the Unix epoch.

pub mod checked;
mod clock;
mod combine;
mod history;
mod panes;
mod ring;
mod series;

pub use checked::Jump;
pub use clock::{Clock, Clocks, FUTURE_MS, STEP_MS, SourceState};
pub use combine::{Combiner, Row};
pub use history::{Dump, History};
pub use panes::Panes;
pub use series::{Merge, Series, Shape, Tier, Values};
