//! The stages and the board: Fenghuo's heart, as pure folds.
//!
//! [`Ingest`] turns messages into deltas, [`Evaluate`] deltas into readings and alerts,
//! [`Dispatch`] alerts into pages. Each is a [`fenghuo_log::Stage`] over one kind of partition and
//! runs alike on every log. They publish what is committed to the [`Board`]. Nothing here reads a
//! clock, opens a file or waits.

pub mod board;
pub mod rebase;
pub mod record;
pub mod route;

mod checkpoint;
mod dispatch;
mod evaluate;
mod home;
mod ingest;
mod letters;
mod playback;
mod set;
mod topology;

pub use board::{Board, Heard, Outcome};
pub use dispatch::{Dispatch, DispatchConfig};
pub use evaluate::{Evaluate, EvaluateConfig};
pub use home::PLAN_POINTS_MAX;
pub use ingest::kept::record as kept;
pub use ingest::{DuplicateBounds, Ingest, IngestConfig, Rewrite, SourceTopic, TrackerBounds};
pub use playback::Playback;
pub use route::{Route, Routes};
pub use set::{InForce, Set};
pub use topology::{Topology, TopologyConfig};
