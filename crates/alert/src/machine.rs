//! The alert state machine: one rule for one entity, judged reading by reading.
//!
//! Owns the states, the episodes and their ids. Must never read a clock or look at another alert:
//! time is an argument, and inhibition, grouping and silences come after it.
//!
//! ```text
//! Inactive ─beyond─> Pending ─held─> Firing ─all clear─> Recovering ─keep_firing─> Resolved
//!     ^                 │              ^  ^                 │   │                (then Inactive)
//!     └──no more beyond─┘              │  └──beyond again───┘   │
//!                                      └──────> Unknown <───────┘
//! ```
//!
//! What each reading does:
//! - **Beyond** a limit: strictly past it. Holds are timed limit by limit, from the first reading
//!   beyond it, and any reading that is not beyond it ends the hold: "two minutes in a row" means
//!   that. A relapse from Recovering or Unknown needs no hold: it is the same trouble.
//! - **Clear**: no limit is beyond, and each one of the episode's severity or less is within its
//!   `clear`. Limits of a higher severity were never reached and need no more than not to be beyond.
//! - **Between**: an open episode keeps its state, and a recovery starts over with the next clear
//!   reading, so that `keep_firing` is a time without a break.
//! - **Insufficient** (also: fewer than the rule's least sample): changes nothing. It neither
//!   fires nor clears, and breaks no hold, since it says nothing against it.
//! - **Unknown** (also: NaN): an open episode becomes Unknown and is never resolved from there
//!   without a known reading; `keep_firing` then runs anew. A pending alert stays pending, but
//!   its holds start over: what was not seen was not held.
//!
//! Pending is silent both ways, in and out: most of it comes to nothing, and the row shows it.
//! The first written step of an episode is the one to Firing.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_signal::{Entity, Kind, Reading, ReadingState};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::rule::{Field, Rule, Severity};
use crate::summary::Facts;

/// Where an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No trouble.
    #[default]
    Inactive,
    /// Beyond a limit, but not for as long as it must hold.
    Pending,
    /// Trouble.
    Firing,
    /// Clear again, but not for long enough.
    Recovering,
    /// Over. An alert is never left in this state: it is that of the last transition.
    Resolved,
    /// An episode is open and its reading cannot be told.
    Unknown,
}

impl State {
    /// As in metrics and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Inactive => "inactive",
            State::Pending => "pending",
            State::Firing => "firing",
            State::Recovering => "recovering",
            State::Resolved => "resolved",
            State::Unknown => "unknown",
        }
    }
}

/// The place in the log of what is being judged; it makes episode ids unique and repeatable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The panes partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
}

/// One step of an alert, as written to `fenghuo.alerts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// The episode's id, 32 hex digits. It never changes and never repeats.
    pub episode: String,
    /// The rule.
    pub rule: String,
    /// The signal that it reads.
    pub signal: String,
    /// The entity.
    pub entity: Entity,
    /// The state before.
    pub from: State,
    /// The state after. From Firing to Firing the severity rose.
    pub to: State,
    /// The highest severity reached in the episode.
    pub severity: Severity,
    /// When, in event time, Unix ms.
    pub at_ms: i64,
    /// When the episode began, Unix ms.
    pub pending_at_ms: i64,
    /// When it first fired, Unix ms.
    pub fired_at_ms: Option<i64>,
    /// When it was resolved, Unix ms; `None` while it is open.
    pub resolved_at_ms: Option<i64>,
    /// The reading that did it.
    pub reading: Reading,
    /// The number that the limit that fired reads, where it was furthest beyond that limit since
    /// the episode began.
    pub peak: f64,
    /// The playbook to open.
    pub playbook: Option<String>,
    /// The role that answers for it.
    pub owner_role: Option<String>,
    /// The rule's labels, which all its episodes share.
    pub labels: Arc<BTreeMap<String, String>>,
    /// What happened, as plain text.
    pub summary: String,
    /// The campaign, where the entity is one. Who knows the campaign of another entity fills it in.
    pub campaign: Option<String>,
}

/// What one limit has seen in an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Since when the readings have been beyond it without a break, Unix ms.
    beyond_since_ms: Option<i64>,
    /// The worst number since the episode began.
    worst: Option<f64>,
}

/// One life of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Episode {
    id: String,
    state: State,
    severity: Severity,
    pending_at_ms: i64,
    fired_at_ms: Option<i64>,
    /// Since when the readings have been clear without a break, Unix ms.
    clear_since_ms: Option<i64>,
    /// Whether it was recovering when it became unknown.
    was_recovering: bool,
    /// Whether the last reading could be judged; if not, no time runs out.
    is_told: bool,
    /// The limit that fired.
    leader: usize,
    /// By limit of the rule.
    seen: Vec<Seen>,
}

/// The row of one rule for one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// When it was last judged; time does not go back.
    at_ms: Option<i64>,
    /// When the last episode was resolved.
    resolved_at_ms: Option<i64>,
    // Boxed, as almost every row of a large shop has none.
    episode: Option<Box<Episode>>,
}

impl Alert {
    /// Where the alert is: never Resolved.
    pub fn state(&self) -> State {
        self.episode
            .as_ref()
            .map_or(State::Inactive, |episode| episode.state)
    }

    /// The highest severity of the open episode; `None` when inactive or pending.
    pub fn severity(&self) -> Option<Severity> {
        self.episode
            .as_ref()
            .filter(|e| e.fired_at_ms.is_some())
            .map(|e| e.severity)
    }

    /// The id of the open or pending episode.
    pub fn episode(&self) -> Option<&str> {
        self.episode.as_ref().map(|episode| episode.id.as_str())
    }

    /// When the open or pending episode began, Unix ms.
    pub fn pending_at_ms(&self) -> Option<i64> {
        self.episode.as_ref().map(|episode| episode.pending_at_ms)
    }

    /// Whether the row says nothing that a new one would not say from `at_ms` on: it may then be
    /// dropped.
    pub fn is_idle(&self, at_ms: i64) -> bool {
        self.episode.is_none() && self.at_ms.is_none_or(|last| last < at_ms)
    }

    /// Judges one reading at event time `at_ms`, and returns the step that it caused. A time
    /// before that of the last reading is taken as that time.
    pub fn judge(
        &mut self,
        rule: &Rule,
        entity: &Entity,
        reading: &Reading,
        at_ms: i64,
        origin: Origin,
    ) -> Option<Transition> {
        let at_ms = self.at_ms.map_or(at_ms, |last| last.max(at_ms));
        self.at_ms = Some(at_ms);
        let reading = taken(rule, reading);
        if let Some(episode) = &mut self.episode {
            // The rule was edited: what its limits have seen no longer fits, the episode does.
            if episode.seen.len() != rule.limits.len() {
                episode.seen = vec![Seen::default(); rule.limits.len()];
                episode.leader = 0;
            }
            episode.is_told = reading.state == ReadingState::Ok;
        }
        match reading.state {
            ReadingState::Insufficient => None,
            ReadingState::Unknown => self.lose(rule, entity, &reading, at_ms),
            ReadingState::Ok => self.weigh(rule, entity, &reading, at_ms, origin),
        }
    }

    /// When a hold or `keep_firing` runs out if the reading stays as it is, Unix ms: the alert is
    /// to be judged again then. Always after the time of the last judgement.
    pub fn next_due_ms(&self, rule: &Rule) -> Option<i64> {
        let episode = self.episode.as_ref().filter(|episode| episode.is_told)?;
        let fired = episode.fired_at_ms.is_some();
        let holds = rule
            .limits
            .iter()
            .zip(&episode.seen)
            .filter_map(|(limit, seen)| {
                let rises = !fired || limit.severity > episode.severity;
                seen.beyond_since_ms
                    .filter(|_| rises)
                    .map(|since| since.saturating_add(limit.hold_ms))
            });
        let recovery = episode
            .clear_since_ms
            .map(|ms| ms.saturating_add(rule.keep_firing_ms));
        holds.chain(recovery).min()
    }

    /// Ends an episode whose rule watches the entity no more, and returns the step if people were
    /// told of it.
    pub fn close(&mut self, rule: &Rule, entity: &Entity, at_ms: i64) -> Option<Transition> {
        let at_ms = self.at_ms.map_or(at_ms, |last| last.max(at_ms));
        let mut episode = self.episode.take()?;
        self.at_ms = Some(at_ms);
        self.resolved_at_ms = Some(at_ms);
        episode.fired_at_ms?;
        let from = episode.go(State::Resolved);
        Some(episode.transition(rule, entity, &Reading::unknown(), from, at_ms))
    }

    /// The clock stepped back to `at_ms`: nothing that was noted lies behind it any more, so that
    /// what is held or cleared from now on counts from now on.
    pub fn step_back(&mut self, at_ms: i64) {
        let not_after = |noted: &mut Option<i64>| *noted = noted.map(|noted| noted.min(at_ms));
        not_after(&mut self.at_ms);
        not_after(&mut self.resolved_at_ms);
        if let Some(episode) = &mut self.episode {
            episode.pending_at_ms = episode.pending_at_ms.min(at_ms);
            not_after(&mut episode.fired_at_ms);
            not_after(&mut episode.clear_since_ms);
            for seen in &mut episode.seen {
                not_after(&mut seen.beyond_since_ms);
            }
        }
    }

    /// The clock stepped forward by so much: no such time has passed, so that what is held or cleared
    /// goes on as long as it would have.
    pub fn step_forward(&mut self, by_ms: i64) {
        let Some(episode) = &mut self.episode else {
            return;
        };
        let later = |noted: &mut Option<i64>| *noted = noted.map(|ms| ms.saturating_add(by_ms));
        later(&mut episode.clear_since_ms);
        for seen in &mut episode.seen {
            later(&mut seen.beyond_since_ms);
        }
    }

    /// An unknown reading.
    fn lose(
        &mut self,
        rule: &Rule,
        entity: &Entity,
        reading: &Reading,
        at_ms: i64,
    ) -> Option<Transition> {
        let episode = self.episode.as_mut()?;
        episode.clear_since_ms = None;
        for seen in &mut episode.seen {
            seen.beyond_since_ms = None;
        }
        match episode.state {
            State::Firing | State::Recovering => {
                episode.was_recovering = episode.state == State::Recovering;
                let from = episode.go(State::Unknown);
                Some(episode.transition(rule, entity, reading, from, at_ms))
            }
            _ => None,
        }
    }

    /// A reading that can be judged.
    fn weigh(
        &mut self,
        rule: &Rule,
        entity: &Entity,
        reading: &Reading,
        at_ms: i64,
        origin: Origin,
    ) -> Option<Transition> {
        if self.episode.is_none() {
            if !rule.is_beyond(reading) {
                return None;
            }
            // An id must never repeat, so one millisecond cannot hold an end and a beginning.
            let ended = self.resolved_at_ms.map(|ms| ms.saturating_add(1));
            let begun = ended.map_or(at_ms, |ended| ended.max(at_ms));
            self.at_ms = Some(begun);
            self.episode = Some(Box::new(Episode::begin(rule, entity, begun, origin)));
        }
        let at_ms = self.at_ms.unwrap_or(at_ms);
        let episode = self.episode.as_mut()?;
        let to = episode.next(rule, reading, at_ms)?;
        if to == State::Inactive {
            self.episode = None;
            return None;
        }
        let from = match episode.go(to) {
            // Without a hold the alert was never seen pending.
            State::Pending if episode.pending_at_ms == at_ms => State::Inactive,
            from => from,
        };
        let transition = episode.transition(rule, entity, reading, from, at_ms);
        if to == State::Resolved {
            self.resolved_at_ms = Some(at_ms);
            self.episode = None;
        }
        Some(transition)
    }
}

impl Episode {
    fn begin(rule: &Rule, entity: &Entity, at_ms: i64, origin: Origin) -> Episode {
        Episode {
            id: episode_id(rule, entity, at_ms, origin),
            state: State::Pending,
            severity: Severity::Warn,
            pending_at_ms: at_ms,
            fired_at_ms: None,
            clear_since_ms: None,
            was_recovering: false,
            is_told: true,
            leader: 0,
            seen: vec![Seen::default(); rule.limits.len()],
        }
    }

    fn go(&mut self, to: State) -> State {
        std::mem::replace(&mut self.state, to)
    }

    /// Takes in a reading that can be judged, and returns the state to go to; `None` is to stay and
    /// say nothing.
    fn next(&mut self, rule: &Rule, reading: &Reading, at_ms: i64) -> Option<State> {
        let held = self.observe(rule, reading, at_ms);
        let is_pending = self.state == State::Pending;
        if rule.is_beyond(reading) {
            self.clear_since_ms = None;
            let rise = held.filter(|(_, severity)| is_pending || *severity > self.severity);
            if let Some((leader, severity)) = rise {
                self.leader = leader;
                self.severity = severity;
                self.fired_at_ms.get_or_insert(at_ms);
            }
            let is_silent = matches!(self.state, State::Pending | State::Firing);
            return (rise.is_some() || !is_silent).then_some(State::Firing);
        }
        if is_pending {
            return Some(State::Inactive);
        }
        if self.is_clear(rule, reading) {
            let since = *self.clear_since_ms.get_or_insert(at_ms);
            if at_ms.saturating_sub(since) >= rule.keep_firing_ms {
                return Some(State::Resolved);
            }
            return (self.state != State::Recovering).then_some(State::Recovering);
        }
        self.clear_since_ms = None;
        let before = if self.was_recovering {
            State::Recovering
        } else {
            State::Firing
        };
        (self.state == State::Unknown).then_some(before)
    }

    /// Times every limit, and returns the first held one of the highest severity.
    fn observe(&mut self, rule: &Rule, reading: &Reading, at_ms: i64) -> Option<(usize, Severity)> {
        let mut held: Option<(usize, Severity)> = None;
        for (index, (limit, seen)) in rule.limits.iter().zip(&mut self.seen).enumerate() {
            let x = limit.read.of(reading);
            seen.worst = Some(seen.worst.map_or(x, |worst| limit.worse(worst, x)));
            if !limit.is_beyond(reading) {
                seen.beyond_since_ms = None;
                continue;
            }
            let since = *seen.beyond_since_ms.get_or_insert(at_ms);
            let is_held = at_ms.saturating_sub(since) >= limit.hold_ms;
            if is_held && held.is_none_or(|(_, severity)| limit.severity > severity) {
                held = Some((index, limit.severity));
            }
        }
        held
    }

    /// Whether every limit up to the severity reached is clear; none is beyond already.
    fn is_clear(&self, rule: &Rule, reading: &Reading) -> bool {
        let mut ladder = rule
            .limits
            .iter()
            .filter(|limit| limit.severity <= self.severity);
        ladder.all(|limit| limit.is_clear(reading))
    }

    fn transition(
        &self,
        rule: &Rule,
        entity: &Entity,
        reading: &Reading,
        from: State,
        at_ms: i64,
    ) -> Transition {
        let limit = rule.limits.get(self.leader);
        let read = limit.map_or(Field::Value, |limit| limit.read);
        let seen = self.seen.get(self.leader).and_then(|seen| seen.worst);
        let peak = seen.unwrap_or_else(|| read.of(reading));
        let summary = limit.map(|limit| {
            let severity = self.severity;
            let mut text = rule.summary.render(&Facts {
                rule,
                entity,
                reading,
                severity,
                limit,
                peak,
            });
            // Many are kept for as long as the episode is open.
            text.shrink_to_fit();
            text
        });
        Transition {
            episode: self.id.clone(),
            rule: rule.name.clone(),
            signal: rule.signal.clone(),
            entity: entity.clone(),
            from,
            to: self.state,
            severity: self.severity,
            at_ms,
            pending_at_ms: self.pending_at_ms,
            fired_at_ms: self.fired_at_ms,
            resolved_at_ms: (self.state == State::Resolved).then_some(at_ms),
            reading: *reading,
            peak,
            playbook: rule.playbook.clone(),
            owner_role: rule.owner_role.clone(),
            labels: Arc::clone(&rule.labels),
            summary: summary.unwrap_or_default(),
            campaign: entity.part(Kind::CAMPAIGN.name()).map(str::to_owned),
        }
    }
}

/// The reading as this rule takes it: too small a sample is insufficient, NaN is unknown, and an
/// infinite number is the largest there is, since JSON has none.
pub(crate) fn taken(rule: &Rule, reading: &Reading) -> Reading {
    let mut reading = *reading;
    for x in [
        &mut reading.value,
        &mut reading.lower,
        &mut reading.upper,
        &mut reading.surprise,
    ] {
        if x.is_nan() {
            reading.state = ReadingState::Unknown;
            *x = 0.0;
        } else {
            *x = x.clamp(f64::MIN, f64::MAX);
        }
    }
    if reading.state == ReadingState::Ok && reading.n < rule.least_sample {
        reading.state = ReadingState::Insufficient;
    }
    reading
}

/// The id of the episode of this rule and entity that began then and there.
fn episode_id(rule: &Rule, entity: &Entity, pending_at_ms: i64, origin: Origin) -> String {
    let mut hash = Xxh3::new();
    // Rule names hold no zero byte and what follows the entity is of one length, so no two inputs
    // run together.
    hash.update(rule.name.as_bytes());
    hash.update(&[0]);
    hash.update(entity.to_string().as_bytes());
    hash.update(&pending_at_ms.to_le_bytes());
    hash.update(&origin.partition.to_le_bytes());
    hash.update(&origin.offset.to_le_bytes());
    format!("{:032x}", hash.digest128())
}
