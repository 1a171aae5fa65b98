//! HTTP: metrics, health, the API and the screen, all read from the board.
//!
//! Owns who may ask and how much; it must never change what the stages know, nor let a request
//! wait for them. Only GET is answered.

mod api;
mod episode;
mod exposition;
mod guard;
mod live;
mod metrics;
mod query;
mod recorder;
mod server;
mod shape;
mod snapshot;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use fenghuo_engine::Board;
use fenghuo_notify::Secret;
use metrics_exporter_prometheus::PrometheusHandle;

pub use recorder::recorder;
pub use server::serve;

/// Asks whether all is well; the error tells a person what is not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is shown, and to whom.
pub struct Shown {
    /// What the stages know.
    pub board: Arc<Board>,
    /// The shop's id.
    pub shop: String,
    /// Its currency, ISO 4217, where one is told.
    pub currency: Option<String>,
    /// Its time zone, minutes east of UTC.
    pub utc_offset_min: i32,
    /// What a request must carry. Without one only a loopback listener is served.
    pub token: Option<Secret>,
    /// `/metrics` needs no token.
    pub metrics_open: bool,
    /// The time in the shop, Unix ms: of the machine, or of a simulation.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Whether it works through what comes.
    pub ready: Check,
    /// Whether it is worth keeping alive.
    pub healthy: Check,
    /// How far each stage is behind.
    pub lag: Arc<dyn Fn() -> Vec<Lag> + Send + Sync>,
    /// What the process measures of itself.
    pub prometheus: PrometheusHandle,
    /// Most entries of each bounded map.
    pub limits: Vec<(&'static str, u64)>,
    /// Entities that keep their names in the metrics of one signal.
    pub top_entities: usize,
}

/// Records that a stage has yet to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The stage.
    pub stage: &'static str,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// How many.
    pub records: u64,
}
