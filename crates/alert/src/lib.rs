//! Rules and the alert state machine.
//!
//! This crate owns what a rule is, how it is read from TOML, and how an alert moves from one state
//! to the next as readings come in. It must never read a clock: event time is an argument.

mod error;
mod grade;
mod machine;
mod parse;
mod reader;
mod rule;
mod summary;

pub use error::{Problem, RuleError};
pub use grade::{Grade, Graded};
pub use machine::{Alert, Origin, State, Transition};
pub use rule::{Field, Filter, Limit, Rule, Rules, Severity, Side};
pub use summary::Summary;
