//! What is refused at the door, made visible: in the metrics, in the log, and as a condition.
//!
//! Owns the counts of events and requests that the intake over HTTP refused. It must never hold
//! more senders than [`SENDERS_MAX`], nor write more than one line of the log in
//! [`LOG_EVERY`]: whoever is refused decides how often.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fenghuo_alert::Severity;
use fenghuo_engine::View;
use fenghuo_event::Stream;

use crate::clock::Watch;
use crate::conditions::Condition;

/// The condition's name.
pub const CONDITION: &str = "intake.refusing";

/// A line of the log at most so often.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// What was refused is looked at over so many minutes.
const MINUTES: u64 = 5;
/// Senders that are told apart in a minute.
const SENDERS_MAX: usize = 64;
/// So many events refused are told, whatever share they are.
const EVENTS_MANY: u64 = 1_000;
/// So many are told where they are at least one in [`SHARE`].
const EVENTS_FEW: u64 = 10;
const SHARE: u64 = 20;
/// So many requests refused as a whole are told.
const REQUESTS_MANY: u64 = 20;

/// Words for requests that are refused, by status.
const REQUESTS: [(u16, &str); 9] = [
    (400, "cannot_split"),
    (401, "unauthorized"),
    (403, "forbidden"),
    (408, "too_slow"),
    (413, "too_large"),
    (415, "unsupported"),
    (429, "too_much"),
    (503, "unavailable"),
    (507, "disk_full"),
];

/// What was refused in a while.
#[derive(Clone, Debug, Default)]
struct Tally {
    accepted: u64,
    events: u64,
    requests: u64,
    reasons: BTreeMap<&'static str, u64>,
    senders: BTreeMap<Arc<str>, u64>,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.accepted += other.accepted;
        self.events += other.events;
        self.requests += other.requests;
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        for (sender, count) in &other.senders {
            self.sender(sender, *count);
        }
    }

    fn sender(&mut self, sender: &Arc<str>, count: u64) {
        if self.senders.len() < SENDERS_MAX || self.senders.contains_key(sender) {
            *self.senders.entry(Arc::clone(sender)).or_default() += count;
        }
    }

    fn is_empty(&self) -> bool {
        self.events == 0 && self.requests == 0
    }

    fn worst_reason(&self) -> &'static str {
        let worst = self.reasons.iter().max_by_key(|(_, count)| **count);
        worst.map_or("", |(reason, _)| reason)
    }

    fn worst_sender(&self) -> &str {
        let worst = self.senders.iter().max_by_key(|(_, count)| **count);
        worst.map_or("", |(sender, _)| sender)
    }

    /// Whether somebody should look.
    fn is_much(&self) -> bool {
        let is_share = self.events * SHARE >= self.accepted + self.events;
        self.events >= EVENTS_MANY
            || (self.events >= EVENTS_FEW && is_share)
            || self.requests >= REQUESTS_MANY
    }
}

#[derive(Debug)]
struct Inner {
    began: Watch,
    /// Minutes since the beginning, and what was refused in each.
    minutes: VecDeque<(u64, Tally)>,
    /// What no line of the log told yet.
    untold: Tally,
    told: Option<Watch>,
}

impl Inner {
    /// Adds to the minute that it is now.
    fn add(&mut self, minute: u64, tally: &Tally) {
        self.forget(minute);
        match self.minutes.back_mut() {
            Some((last, of)) if *last == minute => of.add(tally),
            _ => self.minutes.push_back((minute, tally.clone())),
        }
        if !tally.is_empty() {
            self.untold.add(tally);
        }
    }

    fn forget(&mut self, minute: u64) {
        let is_old = |first: &(u64, Tally)| first.0 + MINUTES <= minute;
        while self.minutes.front().is_some_and(is_old) {
            self.minutes.pop_front();
        }
    }

    fn condition(&mut self, minute: u64) -> Option<Condition> {
        self.forget(minute);
        let mut all = Tally::default();
        for (_, tally) in &self.minutes {
            all.add(tally);
        }
        all.is_much().then(|| Condition {
            name: CONDITION,
            about: String::new(),
            severity: Severity::Warn,
            blocks_ready: false,
            text: text(&all),
        })
    }

    fn log(&mut self) {
        let is_early = self.told.is_some_and(|told| told.elapsed() < LOG_EVERY);
        if is_early || self.untold.is_empty() {
            return;
        }
        let untold = std::mem::take(&mut self.untold);
        self.told = Some(Watch::start());
        tracing::warn!(
            events = untold.events,
            requests = untold.requests,
            reason = untold.worst_reason(),
            sender = untold.worst_sender(),
            "refused at the door"
        );
    }
}

fn text(all: &Tally) -> String {
    let sender = match all.worst_sender() {
        "" => String::new(),
        sender => format!(", mostly of {sender}"),
    };
    format!(
        "In the last {MINUTES} minutes {} of {} events and {} requests were refused at the door{sender}, \
         mostly for {}. `fenghuo dead-letter list` shows the events; mend what sends them.",
        all.events,
        all.accepted + all.events,
        all.requests,
        all.worst_reason(),
    )
}

/// What is refused at the door.
#[derive(Debug)]
pub struct Refusals {
    inner: Mutex<Inner>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                began: Watch::start(),
                minutes: VecDeque::new(),
                untold: Tally::default(),
                told: None,
            }),
        }
    }
}

/// Why a request was refused, as a word for the metrics.
fn word(status: u16) -> &'static str {
    let known = REQUESTS.iter().find(|(of, _)| *of == status);
    known.map_or("other", |(_, word)| word)
}

/// Tells the recorder what is counted, and lets every reason begin at 0.
pub fn describe() {
    metrics::describe_counter!(
        "fenghuo_intake_refused_total",
        "Requests with events that were refused as a whole, by reason."
    );
    for (_, reason) in REQUESTS {
        metrics::counter!("fenghuo_intake_refused_total", "reason" => reason).increment(0);
    }
}

impl Refusals {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, tally: &Tally) {
        let mut inner = self.lock();
        let minute = inner.began.elapsed().as_secs() / 60;
        inner.add(minute, tally);
        inner.log();
    }

    /// Events of a request that was taken: those that were accepted, and those that are dead letters
    /// now, by stream and reason. They are counted on the view as ingest counts its own.
    pub fn events(
        &self,
        view: &View,
        sender: &Arc<str>,
        accepted: u64,
        refused: &BTreeMap<(Option<Stream>, &'static str), u64>,
    ) {
        let mut tally = Tally {
            accepted,
            ..Tally::default()
        };
        for ((stream, reason), count) in refused {
            view.count_refused(*stream, reason, *count);
            tally.events += count;
            *tally.reasons.entry(reason).or_default() += count;
        }
        if tally.events > 0 {
            tally.sender(sender, tally.events);
        }
        self.add(&tally);
    }

    /// A request that was refused as a whole.
    pub fn request(&self, status: u16) {
        let reason = word(status);
        metrics::counter!("fenghuo_intake_refused_total", "reason" => reason).increment(1);
        self.add(&Tally {
            requests: 1,
            reasons: BTreeMap::from([(reason, 1)]),
            ..Tally::default()
        });
    }

    /// What there is to be told now, if anything; also writes the line of the log that is due.
    pub fn condition(&self) -> Option<Condition> {
        let mut inner = self.lock();
        inner.log();
        let minute = inner.began.elapsed().as_secs() / 60;
        inner.condition(minute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(accepted: u64, events: u64, requests: u64) -> Tally {
        let mut tally = Tally {
            accepted,
            events,
            requests,
            ..Tally::default()
        };
        tally.reasons.insert("malformed", events.max(requests));
        tally.sender(&"till-7".into(), events);
        tally
    }

    #[test]
    fn much_or_a_share_is_told_and_a_slip_is_not() {
        let cases = [
            (tally(0, 9, 0), false),
            (tally(0, 10, 0), true),
            (tally(190, 10, 0), true),
            (tally(191, 10, 0), false),
            (tally(10_000_000, 1_000, 0), true),
            (tally(0, 0, 19), false),
            (tally(0, 0, 20), true),
        ];
        for (tally, expected) in cases {
            assert_eq!(tally.is_much(), expected, "{tally:?}");
        }
    }

    #[test]
    fn a_condition_stands_for_minutes_and_names_reason_and_sender() {
        let refusals = Refusals::default();
        let mut inner = refusals.lock();
        inner.add(3, &tally(5, 7, 0));
        assert_eq!(inner.condition(3), None);
        inner.add(4, &tally(5, 7, 1));
        let condition = inner.condition(4).unwrap();
        assert_eq!(
            (condition.severity, condition.blocks_ready),
            (Severity::Warn, false)
        );
        for word in ["14 of 24", "1 requests", "malformed", "till-7"] {
            assert!(condition.text.contains(word), "{}", condition.text);
        }
        assert!(inner.condition(7).is_some());
        assert_eq!(inner.condition(8), None);
        assert_eq!(inner.condition(9), None);
    }

    #[test]
    fn senders_are_bounded() {
        let mut all = Tally::default();
        for number in 0..10 * SENDERS_MAX {
            all.sender(&number.to_string().into(), 1);
        }
        assert_eq!(all.senders.len(), SENDERS_MAX);
    }

    #[test]
    fn every_status_that_the_intake_answers_has_a_word() {
        assert_eq!(word(507), "disk_full");
        assert_eq!(word(418), "other");
    }
}
