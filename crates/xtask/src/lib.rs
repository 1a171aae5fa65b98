//! Chores of the workspace as a library, so that tests can start the same services that
//! `cargo xtask services` starts.
//!
//! It must never be a dependency of a crate that ships: tests and the xtask binary only.

#![allow(
    clippy::disallowed_methods,
    reason = "chores run on the real machine: its clock, its environment, its processes"
)]

pub mod binary;
pub mod debian;
pub mod deploy;
pub mod fuzz;
pub mod generate;
pub mod keeper;
pub mod monitoring;
pub mod serve;
pub mod services;
pub mod simulate;
pub mod test;
pub mod tidy;
pub mod verdicts;
pub mod wait;
