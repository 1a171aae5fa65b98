//! HTTP: metrics, health, the API and the screen, all read from the view.
//!
//! Owns who may ask and how much; it must never change what the stages know, nor let a request
//! wait for them. Only GET is answered, but for the events that are handed in.

mod api;
mod bounds;
mod budget;
mod door;
mod episode;
mod events;
mod exposition;
mod guard;
mod lane;
mod live;
mod metrics;
mod page;
mod query;
mod recorder;
mod server;
mod shape;
mod snapshot;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use fenghuo_engine::{InForce, View};
use fenghuo_notify::Secret;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;

use crate::conditions::Conditions;
use crate::identity::Identity;
use crate::intake::Intake;

pub use recorder::recorder;
pub use server::serve;

/// Asks whether all is well; the error tells a person what is not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What is shown, and to whom.
pub struct Shown {
    /// Connections at a time, where the process may have few files open.
    pub connections_max: usize,
    /// What is counted and read, and what a reading is graded by.
    pub set: InForce,
    /// What the stages know.
    pub view: Arc<View>,
    /// What shop this is.
    pub identity: Arc<Identity>,
    /// What a request must carry. Without one only a loopback listener is served.
    pub token: Option<Secret>,
    /// Where people reach it, if that is not where it listens.
    pub public_url: Option<String>,
    /// What takes events in, where they are taken over HTTP.
    pub intake: Option<Arc<Intake>>,
    /// What senders of events must carry. Without one only this machine is served.
    pub intake_token: Option<Secret>,
    /// `/metrics` needs no token.
    pub metrics_open: bool,
    /// The time in the shop, Unix ms: of the machine, or of a simulation.
    pub now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// Whether it works through what comes.
    pub ready: Check,
    /// What is wrong with the process itself.
    pub conditions: Arc<Conditions>,
    /// Whether it is worth keeping alive.
    pub healthy: Check,
    /// The partitions that this process holds.
    pub held: Arc<dyn Fn() -> Vec<Held> + Send + Sync>,
    /// Where the others are; asked of the brokers.
    pub elsewhere: Arc<dyn Fn() -> Result<Vec<Elsewhere>, String> + Send + Sync>,
    /// Partitions of the panes in all: the view holds what this process has of them.
    pub panes_partitions: usize,
    /// What the process measures of itself.
    pub prometheus: PrometheusHandle,
    /// Most entries of each bounded map.
    pub limits: Vec<(&'static str, u64)>,
    /// Entities that keep their names in the metrics of one signal.
    pub top_entities: usize,
}

/// A partition that this process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The stage that reads it.
    pub stage: &'static str,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Records that the stage has yet to read; absent while what was known is being restored.
    pub behind: Option<u64>,
}

/// What another process of the group holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// The stage.
    pub stage: &'static str,
    /// The name under which the brokers know the process: its instance and, where it has one, its
    /// public address.
    pub instance: String,
    /// Where it connects from.
    pub host: String,
    /// Topics and partitions.
    pub partitions: Vec<(String, u32)>,
}
