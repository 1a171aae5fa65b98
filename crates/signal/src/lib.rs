//! The signal catalogue: events to deltas and trackers, panes to readings.
//!
//! This crate owns what is watched and by which formula. The catalogue is data ([`Catalogue`]):
//! measures say what is counted of which events about which entities, signals say which estimator
//! reads it. Rust holds the compiler of it ([`catalogue`]), the language of its filters and values
//! ([`expression`]), the estimators ([`estimator`]) and the lives that are followed ([`life`]).
//! Everything is a pure function of what was counted and told; it must never read a clock, nor keep
//! anything of its own.

pub mod catalogue;
pub mod document;
pub mod entity;
pub mod estimator;
pub mod expression;
pub mod fact;
pub mod kind;
pub mod life;
pub mod program;
pub mod reading;
pub mod statistics;

mod shown;

pub use catalogue::{Catalogue, Judge, Measure, Signal};
pub use entity::{Entity, EntityRef, ParseEntityError};
pub use estimator::{Next, Read, Seen, State};
pub use fact::{Fact, Facts};
pub use kind::{Kind, KindError};
pub use life::parcel::Parcel;
pub use program::{Fold, Program, life_key};
pub use reading::{Reading, ReadingState};
pub use shown::{is_invisible, shown};
