//! Dispatch: from alerts to pages. One active instance sees all alerts in one partition.
//!
//! Decides who is told of what: inhibition, routes, and what to do when a page could not be
//! delivered. It sends nothing: an intent is committed first and handed out after, so that a
//! crash can at worst repeat it under the same key.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_alert::{Severity, State as AlertState, Transition};
use fenghuo_log::{Append, Assigned, Broken, Progress, Record, Restore, Stage, TopicPartition};

use crate::evaluate::{damaged, newer};
use crate::record::{
    AlertRecord, DeliveryOutcome, DeliveryRecord, Intent, PageAction, VERSION, topic,
};
use crate::route::Routes;
use crate::set::{InForce, Set};
use crate::view::View;

mod inhibitors;

use inhibitors::Inhibitors;

/// What dispatch is told.
#[derive(Clone, Debug)]
pub struct DispatchConfig {
    /// Who is told of what.
    pub routes: Routes,
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
    pending: Vec<String>,
    /// Some trigger was delivered.
    delivered: bool,
    /// The resolve was decided.
    resolved: bool,
}

struct Episode {
    last: Arc<Transition>,
    appended_ms: Option<i64>,
    /// By channel, sorted: mostly one.
    told: Vec<(String, Told)>,
    revision: u32,
}

impl Episode {
    fn new(last: Transition, appended_ms: Option<i64>) -> Box<Self> {
        Box::new(Self {
            last: Arc::new(last),
            appended_ms,
            told: Vec::new(),
            revision: 0,
        })
    }

    fn told(&self, channel: &str) -> Option<&Told> {
        let at = self
            .told
            .binary_search_by(|(of, _)| of.as_str().cmp(channel));
        at.ok().map(|at| &self.told[at].1)
    }

    fn told_mut(&mut self, channel: &str) -> &mut Told {
        let found = self
            .told
            .binary_search_by(|(of, _)| of.as_str().cmp(channel));
        let at = found.unwrap_or_else(|at| {
            self.told.reserve_exact(1);
            self.told.insert(at, (channel.to_owned(), Told::default()));
            at
        });
        &mut self.told[at].1
    }

    /// Nothing is being tried, and whoever was told that it began was told that it is over.
    fn is_settled(&self) -> bool {
        self.told
            .iter()
            .all(|(_, told)| told.pending.is_empty() && (!told.delivered || told.resolved))
    }
}

/// The stage.
pub struct Dispatch {
    config: DispatchConfig,
    in_force: InForce,
    /// The rules, for what inhibits them, and what they read, for which streams it rests on.
    set: Arc<Set>,
    view: Arc<View>,
    now_ms: i64,
    episodes: BTreeMap<String, Box<Episode>>,
    inhibitors: Inhibitors,
    intents: BTreeMap<String, Arc<Intent>>,
    unsaid: Vec<DeliveryRecord>,
    said: Vec<DeliveryRecord>,
    ready: Vec<Arc<Intent>>,
    assigned: bool,
    broken: Option<Broken>,
}

impl Dispatch {
    /// A stage that knows of no episode.
    pub fn new(config: DispatchConfig, in_force: InForce, view: Arc<View>) -> Self {
        let set = in_force.get();
        Self {
            inhibitors: Inhibitors::new(&set.rules),
            config,
            in_force,
            set,
            view,
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
        self.take_up();
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
    pub fn take_ready(&mut self) -> Vec<Arc<Intent>> {
        std::mem::take(&mut self.ready)
    }

    /// Triggers of open episodes that were delivered, one for each channel: for a receiver that
    /// forgets what it is not told again.
    pub fn delivered(&self) -> Vec<(String, Arc<Transition>)> {
        let mut all = Vec::new();
        for episode in self.episodes.values() {
            for (channel, told) in &episode.told {
                if told.delivered && !told.resolved {
                    all.push((channel.clone(), Arc::clone(&episode.last)));
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
            if !outcome.delivered && self.is_undelivered(&outcome.delivery_id) {
                self.view.count_undelivered();
            }
            self.intents.remove(&outcome.delivery_id);
        }
    }

    /// Notes an outcome; `false` where no such page is being tried.
    fn settle(&mut self, outcome: &DeliveryOutcome) -> bool {
        let Some(intent) = self.intents.get(&outcome.delivery_id) else {
            return false;
        };
        if let Some(episode) = self.episodes.get_mut(&intent.alert.episode)
            && episode.told(&intent.channel).is_some()
        {
            let told = episode.told_mut(&intent.channel);
            told.pending.retain(|id| *id != outcome.delivery_id);
            told.pending.shrink_to_fit();
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
                .and_then(|episode| episode.told(next));
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

    /// Whether a trigger that failed was the last of its page: no channel was told, and none is being
    /// tried.
    fn is_undelivered(&self, delivery_id: &str) -> bool {
        let Some(intent) = self.intents.get(delivery_id) else {
            return false;
        };
        let episode = self.episodes.get(&intent.alert.episode);
        let mut told = episode.iter().flat_map(|episode| &episode.told);
        intent.action == PageAction::Trigger
            && told.all(|(_, told)| !told.delivered && told.pending.is_empty())
    }

    fn is_firing(&self, key: &str) -> bool {
        self.episodes
            .get(key)
            .is_some_and(|episode| episode.last.to != AlertState::Resolved)
    }

    /// Goes on by the set in force.
    fn take_up(&mut self) {
        let set = self.in_force.get();
        if set.number == self.set.number {
            return;
        }
        self.inhibitors = Inhibitors::new(&set.rules);
        self.set = set;
        self.find_held();
        self.tell_untold();
    }

    /// Tells of what fires, was told to nobody and is held back by nothing any more.
    fn tell_untold(&mut self) {
        let untold = self.episodes.iter().filter(|(_, episode)| {
            episode.told.is_empty() && episode.last.to == AlertState::Firing
        });
        let untold: Vec<String> = untold.map(|(key, _)| key.clone()).collect();
        for key in untold {
            self.tell(&key);
        }
    }

    fn take(&mut self, record: AlertRecord) {
        self.take_up();
        let AlertRecord {
            mut transition,
            appended_ms,
            ..
        } = record;
        self.set.rules.share(&mut transition);
        let key = transition.episode.clone();
        let over = transition.to == AlertState::Resolved;
        match over {
            true => self.inhibitors.close(&transition),
            false => self.inhibitors.open(&transition),
        }
        match self.episodes.get_mut(&key) {
            Some(episode) => {
                episode.last = Arc::new(transition);
                episode.appended_ms = appended_ms;
            }
            None => {
                let episode = Episode::new(transition, appended_ms);
                self.episodes.insert(key.clone(), episode);
            }
        }
        match over {
            true => self.resolve(&key),
            false => self.tell(&key),
        }
        // Whom it spoke for may be told now; where it still speaks for them, it is noted again.
        for other in self.inhibitors.release(&key) {
            self.tell(&other);
        }
    }

    /// Decides the pages of an episode that fires, where it is not inhibited.
    fn tell(&mut self, key: &str) {
        let Some(episode) = self.episodes.get(key) else {
            return;
        };
        if episode.last.to != AlertState::Firing {
            return;
        }
        if let Some(by) = self.inhibitor(&episode.last) {
            return self.inhibitors.hold(&by, key);
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
                    .told(channel)
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
        let severity = episode.last.severity;
        let told = episode.told_mut(channel);
        told.severity = Some(severity);
        told.pending.push(delivery_id.clone());
        let intent = Intent {
            delivery_id,
            channel: channel.to_owned(),
            action: PageAction::Trigger,
            severity: episode.last.severity,
            fallback,
            at_ms: self.now_ms,
            appended_ms: episode.appended_ms,
            alert: Arc::clone(&episode.last),
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
                    alert: Arc::clone(&episode.last),
                });
            }
        }
        if episode.told.iter().all(|(_, told)| told.pending.is_empty()) {
            self.episodes.remove(key);
        }
        for intent in intents {
            self.intend(intent);
        }
    }

    fn intend(&mut self, intent: Intent) {
        let intent = Arc::new(intent);
        self.intents
            .insert(intent.delivery_id.clone(), Arc::clone(&intent));
        self.unsaid.push(DeliveryRecord::Intent(intent));
    }

    /// The episode of an alert that is at least as grave, fires now, and speaks for this one.
    fn inhibitor(&self, alert: &Transition) -> Option<String> {
        let (_, rule) = self.set.rules.named(&alert.rule)?;
        let mut about = self.inhibitors.about(&rule.inhibited_by, &alert.entity);
        let found = about.find(|key| {
            let other = self.episodes.get(*key).map(|other| &other.last);
            other.is_some_and(|other| {
                speaks(other, alert)
                    && other.episode != alert.episode
                    && self.concerns(other, alert)
            })
        });
        found.map(str::to_owned)
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
            let signal = self.set.catalogue.signal(&alert.signal);
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

    /// Finds again who speaks for whom.
    fn find_held(&mut self) {
        for episode in self.episodes.values() {
            if episode.last.to != AlertState::Resolved {
                self.inhibitors.open(&episode.last);
            }
        }
        let held = self.episodes.values().filter_map(|episode| {
            let is_firing = episode.last.to == AlertState::Firing;
            let by = self.inhibitor(&episode.last).filter(|_| is_firing)?;
            Some((by, episode.last.episode.clone()))
        });
        for (by, key) in held.collect::<Vec<_>>() {
            self.inhibitors.hold(&by, &key);
        }
    }

    fn restore_delivery(&mut self, mut record: DeliveryRecord) {
        if let DeliveryRecord::Intent(intent) = &mut record
            && let Some(episode) = self.episodes.get(&intent.alert.episode)
            && *episode.last == *intent.alert
        {
            Arc::make_mut(intent).alert = Arc::clone(&episode.last);
        }
        match &record {
            DeliveryRecord::Intent(intent) => {
                let key = &intent.alert.episode;
                if let Some(episode) = self.episodes.get_mut(key) {
                    let told = episode.told_mut(&intent.channel);
                    match intent.action {
                        PageAction::Trigger => {
                            told.severity = told.severity.max(Some(intent.severity));
                            told.pending.push(intent.delivery_id.clone());
                            episode.revision += 1;
                        }
                        PageAction::Resolve => told.resolved = true,
                    }
                }
                self.intents
                    .insert(intent.delivery_id.clone(), Arc::clone(intent));
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
                mut transition,
                appended_ms,
                ..
            }) = serde_json::from_slice(value)
            {
                self.set.rules.share(&mut transition);
                let key = transition.episode.clone();
                self.episodes
                    .insert(key, Episode::new(transition, appended_ms));
            }
        } else if let Ok(delivery) = serde_json::from_slice(value) {
            self.restore_delivery(delivery);
        }
    }

    fn restored(&mut self, _index: usize, which: usize) -> Option<Restore> {
        if which == 1 {
            self.find_held();
            // The rules or the routes may be others than before.
            self.tell_untold();
        }
        None
    }

    fn revoke(&mut self, _index: usize) {
        self.assigned = false;
        self.episodes.clear();
        self.inhibitors.clear();
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
                    self.view.publish_intent(Arc::clone(&intent));
                    // One that was settled before a restart is not sent again.
                    if self.intents.contains_key(&intent.delivery_id) {
                        self.ready.push(intent);
                    }
                }
                DeliveryRecord::Outcome(outcome) => self.view.publish_outcome(outcome),
            }
        }
    }
}
