//! The signal catalogue: events to deltas and trackers, panes to readings.

pub mod entity;
pub mod reading;

pub use entity::{Entity, EntityRef, Kind, ParseEntityError};
pub use reading::{Reading, ReadingState};
