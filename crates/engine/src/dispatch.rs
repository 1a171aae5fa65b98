//! Dispatch: from alerts to pages. One active instance sees all alerts in one partition.
//!
//! Decides who is told of what: inhibition, routes, and what to do when a page could not be
//! delivered. It sends nothing: an intent is committed first and handed out after, so that a
//! crash can at worst repeat it under the same key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fenghuo_alert::{Rules, Severity, State as AlertState, Transition};
use fenghuo_log::{Append, Assigned, Broken, Progress, Record, Restore, Stage, TopicPartition};
use fenghuo_signal::Catalogue;

use crate::board::Board;
use crate::evaluate::{damaged, newer};
use crate::record::{
    AlertRecord, DeliveryOutcome, DeliveryRecord, Intent, PageAction, VERSION, topic,
};
use crate::route::Routes;

/// What dispatch is told.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// What is read, for which streams a signal rests on.
    pub catalogue: Arc<Catalogue>,
    /// Who is told of what.
    pub routes: Routes,
    /// The rules, for what inhibits them.
    pub rules: Arc<Rules>,
    /// Source topics, with their stream: an inhibiting silence counts for the signals that read
    /// the stream.
    pub topics: Vec<(Arc<str>, fenghuo_event::Stream)>,
}

/// How far one channel was told of an episode.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Severity that the last trigger told of.
    severity: Option<Severity>,
    /// A trigger that has no outcome yet.
    pending: BTreeSet<String>,
    /// Some trigger was delivered.
    delivered: bool,
    /// The resolve was decided.
    resolved: bool,
}

struct Episode {
    last: Transition,
    appended_ms: Option<i64>,
    told: BTreeMap<String, Told>,
    revision: u32,
}

impl Episode {
    /// Nothing is being tried, and whoever was told that it began was told that it is over.
    fn is_settled(&self) -> bool {
        self.told
            .values()
            .all(|told| told.pending.is_empty() && (!told.delivered || told.resolved))
    }
}

/// The stage.
pub struct Dispatch {
    config: DispatchConfig,
    board: Arc<Board>,
    now_ms: i64,
    episodes: BTreeMap<String, Episode>,
    intents: BTreeMap<String, Intent>,
    unsaid: Vec<DeliveryRecord>,
    said: Vec<DeliveryRecord>,
    ready: Vec<Intent>,
    assigned: bool,
    broken: Option<Broken>,
}

impl Dispatch {
    /// A stage that knows of no episode.
    pub fn new(config: DispatchConfig, board: Arc<Board>) -> Self {
        Self {
            config,
            board,
            now_ms: 0,
            episodes: BTreeMap::new(),
            intents: BTreeMap::new(),
            unsaid: Vec::new(),
            said: Vec::new(),
            ready: Vec::new(),
            assigned: false,
            broken: None,
        }
    }

    /// Sets the wall clock that intents are stamped with, Unix ms.
    pub fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Whether it has the alerts.
    pub fn is_assigned(&self) -> bool {
        self.assigned
    }

    /// Whether what it knew is committed again.
    pub fn is_restored(&self) -> bool {
        self.assigned && self.said.is_empty()
    }

    /// Pages that are committed and not yet handed out.
    pub fn take_ready(&mut self) -> Vec<Intent> {
        std::mem::take(&mut self.ready)
    }

    /// Triggers of open episodes that were delivered, one for each channel: for a receiver that
    /// forgets what it is not told again.
    pub fn delivered(&self) -> Vec<(String, Transition)> {
        let mut all = Vec::new();
        for episode in self.episodes.values() {
            for (channel, told) in &episode.told {
                if told.delivered && !told.resolved {
                    all.push((channel.clone(), episode.last.clone()));
                }
            }
        }
        all
    }

    /// Takes what became of a page.
    pub fn outcome(&mut self, outcome: DeliveryOutcome) {
        if self.settle(&outcome) {
            self.unsaid.push(DeliveryRecord::Outcome(outcome.clone()));
            self.follow_up(&outcome);
            self.intents.remove(&outcome.delivery_id);
        }
    }

    /// Notes an outcome; `false` where no such page is being tried.
    fn settle(&mut self, outcome: &DeliveryOutcome) -> bool {
        let Some(intent) = self.intents.get(&outcome.delivery_id) else {
            return false;
        };
        if let Some(episode) = self.episodes.get_mut(&intent.alert.episode)
            && let Some(told) = episode.told.get_mut(&intent.channel)
        {
            told.pending.remove(&outcome.delivery_id);
            told.delivered |= outcome.delivered && intent.action == PageAction::Trigger;
        }
        true
    }

    /// A page that was given up falls over to the next channel; a resolve that waited for its
    /// trigger is decided now.
    fn follow_up(&mut self, outcome: &DeliveryOutcome) {
        let Some(intent) = self.intents.get(&outcome.delivery_id).cloned() else {
            return;
        };
        let key = intent.alert.episode.clone();
        if !outcome.delivered
            && let Some((next, rest)) = intent.fallback.split_first()
        {
            let told = self
                .episodes
                .get(&key)
                .and_then(|episode| episode.told.get(next));
            let knows = told.is_some_and(|told| told.severity >= Some(intent.severity));
            // What is over needs no further page; its failure stays visible.
            if !knows && intent.action == PageAction::Trigger && self.is_firing(&key) {
                self.trigger(&key, next, rest.to_vec());
            }
        }
        if !self.is_firing(&key) {
            self.resolve(&key);
        }
    }

    fn is_firing(&self, key: &str) -> bool {
        self.episodes
            .get(key)
            .is_some_and(|episode| episode.last.to != AlertState::Resolved)
    }

    fn take(&mut self, record: AlertRecord) {
        let AlertRecord {
            transition,
            appended_ms,
            ..
        } = record;
        let key = transition.episode.clone();
        let over = transition.to == AlertState::Resolved;
        match self.episodes.get_mut(&key) {
            Some(episode) => {
                episode.last = transition;
                episode.appended_ms = appended_ms;
            }
            None => {
                let told = BTreeMap::new();
                let episode = Episode {
                    last: transition,
                    appended_ms,
                    told,
                    revision: 0,
                };
                self.episodes.insert(key.clone(), episode);
            }
        }
        if over {
            self.resolve(&key);
            // What it inhibited may be told now.
            let others: Vec<String> = self.episodes.keys().cloned().collect();
            for other in others {
                self.tell(&other);
            }
        } else {
            self.tell(&key);
        }
    }

    /// Decides the pages of an episode that fires, where it is not inhibited.
    fn tell(&mut self, key: &str) {
        let Some(episode) = self.episodes.get(key) else {
            return;
        };
        if episode.last.to != AlertState::Firing || self.is_inhibited(&episode.last) {
            return;
        }
        let severity = Some(episode.last.severity);
        let Some(route) = self.config.routes.route(&episode.last) else {
            return;
        };
        let (channels, fallback) = (route.channels.clone(), route.fallback.clone());
        let untold: Vec<String> = channels
            .into_iter()
            .filter(|channel| {
                episode
                    .told
                    .get(channel)
                    .is_none_or(|told| told.severity < severity)
            })
            .collect();
        if let Some(episode) = self.episodes.get_mut(key).filter(|_| !untold.is_empty()) {
            episode.revision += 1;
        }
        for channel in untold {
            self.trigger(key, &channel, fallback.clone());
        }
    }

    fn trigger(&mut self, key: &str, channel: &str, fallback: Vec<String>) {
        let Some(episode) = self.episodes.get_mut(key) else {
            return;
        };
        let delivery_id = delivery_id(key, &episode.revision.to_string(), channel);
        let told = episode.told.entry(channel.to_owned()).or_default();
        told.severity = Some(episode.last.severity);
        told.pending.insert(delivery_id.clone());
        let intent = Intent {
            delivery_id,
            channel: channel.to_owned(),
            action: PageAction::Trigger,
            severity: episode.last.severity,
            fallback,
            at_ms: self.now_ms,
            appended_ms: episode.appended_ms,
            alert: episode.last.clone(),
        };
        self.intend(intent);
    }

    /// Decides the resolves of an episode that is over, once nothing of it is being tried, and
    /// forgets it when all is said.
    fn resolve(&mut self, key: &str) {
        let Some(episode) = self.episodes.get_mut(key) else {
            return;
        };
        let mut intents = Vec::new();
        for (channel, told) in &mut episode.told {
            if told.delivered && !told.resolved && told.pending.is_empty() {
                told.resolved = true;
                intents.push(Intent {
                    delivery_id: delivery_id(key, "resolve", channel),
                    channel: channel.clone(),
                    action: PageAction::Resolve,
                    severity: episode.last.severity,
                    fallback: Vec::new(),
                    at_ms: self.now_ms,
                    appended_ms: episode.appended_ms,
                    alert: episode.last.clone(),
                });
            }
        }
        if episode.told.values().all(|told| told.pending.is_empty()) {
            self.episodes.remove(key);
        }
        for intent in intents {
            self.intend(intent);
        }
    }

    fn intend(&mut self, intent: Intent) {
        self.intents
            .insert(intent.delivery_id.clone(), intent.clone());
        self.unsaid.push(DeliveryRecord::Intent(Box::new(intent)));
    }

    /// Whether an alert that is at least as grave and fires now speaks for this one.
    fn is_inhibited(&self, alert: &Transition) -> bool {
        let Some((_, rule)) = self.config.rules.named(&alert.rule) else {
            return false;
        };
        rule.inhibited_by.iter().any(|by| {
            self.episodes.values().any(|other| {
                let other = &other.last;
                (other.rule == *by || other.signal == *by)
                    && speaks(other, alert)
                    && other.episode != alert.episode
                    && self.concerns(other, alert)
            })
        })
    }

    /// A silent source concerns the signals that read its stream; any other alert those that
    /// share no contradicting part of their entity.
    fn concerns(&self, by: &Transition, alert: &Transition) -> bool {
        if let Some(source) = by.entity.part("source") {
            let stream = self
                .config
                .topics
                .iter()
                .find(|(name, _)| &**name == source);
            let signal = self.config.catalogue.signal(&alert.signal);
            return match (stream, signal) {
                (Some((_, stream)), Some(signal)) => signal.streams.contains(stream),
                _ => false,
            };
        }
        let (first, second) = by.entity.kind.parts();
        [Some(first), second].into_iter().flatten().all(|part| {
            alert
                .entity
                .part(part)
                .is_none_or(|name| by.entity.part(part) == Some(name))
        })
    }

    fn restore_delivery(&mut self, record: DeliveryRecord) {
        match &record {
            DeliveryRecord::Intent(intent) => {
                let key = &intent.alert.episode;
                if let Some(episode) = self.episodes.get_mut(key) {
                    let told = episode.told.entry(intent.channel.clone()).or_default();
                    match intent.action {
                        PageAction::Trigger => {
                            told.severity = told.severity.max(Some(intent.severity));
                            told.pending.insert(intent.delivery_id.clone());
                            episode.revision += 1;
                        }
                        PageAction::Resolve => told.resolved = true,
                    }
                }
                self.intents
                    .insert(intent.delivery_id.clone(), (**intent).clone());
            }
            DeliveryRecord::Outcome(outcome) => {
                self.settle(outcome);
                self.intents.remove(&outcome.delivery_id);
            }
        }
        self.said.push(record);
    }
}

/// Whether an open alert is grave enough to speak for another: one as grave, or a silent source,
/// which takes from the other what it rests on.
fn speaks(by: &Transition, alert: &Transition) -> bool {
    let is_source = by.entity.part("source").is_some();
    match by.to {
        AlertState::Firing | AlertState::Recovering => is_source || by.severity >= alert.severity,
        AlertState::Unknown => is_source,
        _ => false,
    }
}

/// The key of a delivery: what a receiver knows a repeat by.
fn delivery_id(episode: &str, revision: &str, channel: &str) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(format!("{episode}\n{revision}\n{channel}").as_bytes());
    format!("{hash:032x}")
}

impl Stage for Dispatch {
    fn assign(&mut self, _index: usize, assigned: &Assigned, from: u64) -> Vec<Restore> {
        self.assigned = true;
        // The alerts first, so that the deliveries find the episodes they belong to.
        let alerts = Restore {
            partition: assigned.partition.clone(),
            from: assigned.low,
            to: from,
        };
        vec![
            alerts,
            Restore::all(TopicPartition::new(topic::DELIVERIES, 0)),
        ]
    }

    fn restore(&mut self, _index: usize, which: usize, record: Record<'_>) {
        let Some(value) = record.value else { return };
        if which == 0 {
            if let Ok(AlertRecord {
                transition,
                appended_ms,
                ..
            }) = serde_json::from_slice(value)
            {
                let key = transition.episode.clone();
                let told = BTreeMap::new();
                let episode = Episode {
                    last: transition,
                    appended_ms,
                    told,
                    revision: 0,
                };
                self.episodes.insert(key, episode);
            }
        } else if let Ok(delivery) = serde_json::from_slice(value) {
            self.restore_delivery(delivery);
        }
    }

    fn revoke(&mut self, _index: usize) {
        self.assigned = false;
        self.episodes.clear();
        self.intents.clear();
        self.ready.clear();
    }

    fn apply(&mut self, _index: usize, record: Record<'_>) {
        let Some(value) = record.value else { return };
        match serde_json::from_slice::<AlertRecord>(value) {
            Ok(alert) if alert.version <= VERSION => self.take(alert),
            Ok(alert) => {
                self.broken = Some(newer(topic::ALERTS, record.offset, alert.version));
            }
            Err(error) => self.broken = Some(damaged(topic::ALERTS, record.offset, &error)),
        }
    }

    fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    fn pending(&self) -> bool {
        !self.unsaid.is_empty() || !self.said.is_empty()
    }

    fn flush(&mut self, _at_ms: i64, _progress: &[Progress], appends: &mut Vec<Append>) {
        for record in self.unsaid.drain(..) {
            let key = match &record {
                DeliveryRecord::Intent(intent) => &intent.delivery_id,
                DeliveryRecord::Outcome(outcome) => &outcome.delivery_id,
            };
            let key = Some(key.clone().into_bytes());
            // A struct of texts and numbers always has a JSON form.
            if let Ok(value) = serde_json::to_vec(&record) {
                appends.push(Append::new(
                    TopicPartition::new(topic::DELIVERIES, 0),
                    key,
                    value,
                ));
            }
            self.said.push(record);
        }
    }

    fn committed(&mut self) {
        // What a restore brought back and is over, with nothing left to say.
        self.episodes
            .retain(|_, episode| episode.last.to != AlertState::Resolved || !episode.is_settled());
        for record in std::mem::take(&mut self.said) {
            match record {
                DeliveryRecord::Intent(intent) => {
                    self.board.publish_intent((*intent).clone());
                    // One that was settled before a restart is not sent again.
                    if self.intents.contains_key(&intent.delivery_id) {
                        self.ready.push(*intent);
                    }
                }
                DeliveryRecord::Outcome(outcome) => self.board.publish_outcome(outcome),
            }
        }
    }
}
