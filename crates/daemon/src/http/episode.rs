//! Episodes and deliveries, as the API and the screen show them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fenghuo_alert::{Severity, State, Transition};
use fenghuo_engine::record::PageAction;
use fenghuo_engine::view::Delivery;
use fenghuo_signal::{Entity, Reading};
use serde::Serialize;

use super::shape::time;

/// One life of an alert.
#[derive(Serialize)]
pub(super) struct EpisodeRow {
    id: String,
    rule: String,
    signal: String,
    entity: Entity,
    /// The entity as text.
    name: String,
    severity: Severity,
    pub(super) state: State,
    pending_at: Option<String>,
    fired_at: Option<String>,
    resolved_at: Option<String>,
    /// When the last step was made.
    changed_at: Option<String>,
    peak: f64,
    reading: Reading,
    summary: String,
    playbook: Option<String>,
    owner_role: Option<String>,
    campaign: Option<String>,
    labels: Arc<BTreeMap<String, String>>,
    deliveries: Vec<DeliveryRow>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Standing {
    /// It is being tried.
    Sending,
    /// The receiver took it.
    Delivered,
    /// It was given up.
    Failed,
}

/// One page through one channel.
#[derive(Clone, Serialize)]
pub(super) struct DeliveryRow {
    delivery_id: String,
    episode: String,
    channel: String,
    action: PageAction,
    severity: Severity,
    pub(super) outcome: Standing,
    attempts: u32,
    reason: Option<String>,
    decided_at: Option<String>,
    ended_at: Option<String>,
}

impl DeliveryRow {
    pub(super) fn new(delivery: Delivery) -> Self {
        let Delivery { intent, outcome } = delivery;
        let standing = match &outcome {
            None => Standing::Sending,
            Some(outcome) if outcome.delivered => Standing::Delivered,
            Some(_) => Standing::Failed,
        };
        Self {
            delivery_id: intent.delivery_id.clone(),
            episode: intent.alert.episode.clone(),
            channel: intent.channel.clone(),
            action: intent.action,
            severity: intent.severity,
            outcome: standing,
            attempts: outcome.as_ref().map_or(0, |outcome| outcome.attempts),
            ended_at: outcome.as_ref().and_then(|outcome| time(outcome.at_ms)),
            reason: outcome.and_then(|outcome| outcome.reason),
            decided_at: time(intent.at_ms),
        }
    }
}

/// Deliveries by the episode that they are about.
pub(super) fn by_episode(deliveries: Vec<Delivery>) -> HashMap<String, Vec<DeliveryRow>> {
    let mut by_episode: HashMap<String, Vec<DeliveryRow>> = HashMap::new();
    for row in deliveries.into_iter().map(DeliveryRow::new) {
        by_episode.entry(row.episode.clone()).or_default().push(row);
    }
    by_episode
}

impl EpisodeRow {
    pub(super) fn new(last: Transition, deliveries: &HashMap<String, Vec<DeliveryRow>>) -> Self {
        Self {
            deliveries: deliveries.get(&last.episode).cloned().unwrap_or_default(),
            name: last.entity.to_string(),
            state: last.to,
            pending_at: time(last.pending_at_ms),
            fired_at: last.fired_at_ms.and_then(time),
            resolved_at: last.resolved_at_ms.and_then(time),
            changed_at: time(last.at_ms),
            id: last.episode,
            rule: last.rule,
            signal: last.signal,
            entity: last.entity,
            severity: last.severity,
            peak: last.peak,
            reading: last.reading,
            summary: last.summary,
            playbook: last.playbook,
            owner_role: last.owner_role,
            campaign: last.campaign,
            labels: last.labels,
        }
    }
}
