//! The stages and the view: Fenghuo's heart, as pure folds.
//!
//! [`Ingest`] turns messages into deltas, [`Evaluate`] deltas into readings and alerts,
//! [`Dispatch`] alerts into pages. Each is a [`fenghuo_log::Stage`] over one kind of partition and
//! runs alike on every log. They publish what is committed to the [`View`]. Nothing here reads a
//! clock, opens a file or waits.

pub mod rebase;
pub mod record;
pub mod route;
pub mod view;

mod dispatch;
mod evaluate;
mod ingest;
mod letters;
mod playback;
mod set;
mod topology;

pub use dispatch::{Dispatch, DispatchConfig};
pub use evaluate::shard::PLAN_POINTS_MAX;
pub use evaluate::{Evaluate, EvaluateConfig};
pub use ingest::kept::record as kept;
pub use ingest::{DuplicateBounds, Ingest, IngestConfig, Rewrite, SourceTopic, TrackerBounds};
pub use playback::Playback;
pub use route::{Route, Routes};
pub use set::{InForce, Set};
pub use topology::{Topology, TopologyConfig};
pub use view::{Heard, Outcome, View};
