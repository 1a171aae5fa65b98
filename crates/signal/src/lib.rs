//! The signal catalogue: events to deltas and trackers, panes to readings.
//!
//! This crate owns what is watched and by which formula: for each domain one file that folds its
//! events ([`fold`]) and reads its signals ([`catalogue`]). Everything is a pure function of what
//! was counted and told; it must never read a clock, nor keep anything of its own.

pub mod catalogue;
pub mod entity;
pub mod expression;
pub mod fact;
pub mod reading;
pub mod series;
pub mod statistics;

mod feedback;
mod fold;
mod parcel;
mod price;
mod sales;
mod shown;
mod stock;
mod system;

pub use catalogue::{Judge, Next, Read, Signal, State, View};
pub use entity::{Entity, EntityRef, Kind, ParseEntityError};
pub use fact::{Fact, Facts};
pub use fold::{Fold, fold, tracker_key};
pub use parcel::Parcel;
pub use reading::{Reading, ReadingState};
pub use shown::shown;
pub use system::fold_arrivals;
