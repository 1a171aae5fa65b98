//! What waits for one channel, and who goes first.
//!
//! A page goes before warnings and before news that something is over. Each of the two kinds has
//! places of its own, so neither a storm of warnings nor a channel that stands still can hold back
//! a page of another channel, or of this one. Of many pages the last one and the first one go in turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fenghuo_alert::Severity;
use fenghuo_engine::record::{Intent, PageAction};

use crate::clock::Watch;

/// Pages of one kind that a channel is handed at a time; the others wait here.
const SENDING_MAX: usize = 500;

/// A page that waits, and since when.
struct Waiting {
    intent: Arc<Intent>,
    since: Watch,
}

/// Triggers of pages; then warnings and the ends of pages; then the ends of warnings.
const CLASSES: usize = 3;

/// What waits for one channel.
#[derive(Default)]
pub struct Queue {
    waiting: [VecDeque<Waiting>; CLASSES],
    /// The last page that was taken out came last of all.
    was_newest: bool,
    /// Triggers of pages that are being sent, and all else that is.
    sending: [Arc<Sending>; 2],
}

/// What is being sent: since when it waits, by the number of its place.
#[derive(Default)]
struct Sending {
    held: Mutex<(u64, BTreeMap<u64, Watch>)>,
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Watch>)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> usize {
        self.lock().1.len()
    }

    fn take(self: &Arc<Self>, since: Watch) -> Place {
        let mut held = self.lock();
        held.0 += 1;
        let number = held.0;
        held.1.insert(number, since);
        Place(Arc::clone(self), number)
    }
}

/// A place among those that are being sent, until it is dropped.
pub struct Place(Arc<Sending>, u64);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().1.remove(&self.1);
    }
}

fn class_of(intent: &Intent) -> usize {
    match (intent.action, intent.severity) {
        (PageAction::Trigger, Severity::Page) => 0,
        (PageAction::Trigger, Severity::Warn) | (PageAction::Resolve, Severity::Page) => 1,
        (PageAction::Resolve, Severity::Warn) => 2,
    }
}

impl Queue {
    /// Takes one in, behind those of its class.
    pub fn push(&mut self, intent: Arc<Intent>) {
        let since = Watch::start();
        self.waiting[class_of(&intent)].push_back(Waiting { intent, since });
    }

    /// The next one for which there is a place.
    pub fn pop(&mut self) -> Option<(Arc<Intent>, Place)> {
        for class in 0..CLASSES {
            let sending = &self.sending[class.min(1)];
            if self.waiting[class].is_empty() || sending.len() >= SENDING_MAX {
                continue;
            }
            self.was_newest = class == 0 && !self.was_newest;
            let next = match self.was_newest {
                true => self.waiting[class].pop_back()?,
                false => self.waiting[class].pop_front()?,
            };
            return Some((next.intent, sending.take(next.since)));
        }
        None
    }

    /// Those that have waited for longer than `is_too_long` lets them, and wait no more.
    pub fn expired(&mut self, is_too_long: impl Fn(&Intent, &Watch) -> bool) -> Vec<Arc<Intent>> {
        let mut expired = Vec::new();
        for waiting in &mut self.waiting {
            // In place: there may be many, and this is looked at all the time.
            for _ in 0..waiting.len() {
                let Some(one) = waiting.pop_front() else {
                    break;
                };
                match is_too_long(&one.intent, &one.since) {
                    true => expired.push(one.intent),
                    false => waiting.push_back(one),
                }
            }
        }
        expired
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.waiting.iter_mut().for_each(VecDeque::clear);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// How many are being sent.
    pub fn sending(&self) -> usize {
        self.sending.iter().map(|sending| sending.len()).sum()
    }

    /// Triggers of pages that have waited for longer than `time`, here or while they are being sent.
    pub fn late(&self, time: Duration) -> usize {
        let sending = self.sending[0].lock();
        let sending = sending.1.values();
        let waiting = self.waiting[0].iter().map(|waiting| &waiting.since);
        let all = sending.chain(waiting);
        all.filter(|since| since.elapsed() > time).count()
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Duration;

    use fenghuo_alert::{State, Transition};
    use fenghuo_signal::{Entity, Reading};

    use super::*;

    pub fn intent(id: &str, action: PageAction, severity: Severity, fallback: &[&str]) -> Intent {
        Intent {
            delivery_id: id.to_owned(),
            channel: "hook".to_owned(),
            action,
            severity,
            fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
            at_ms: 0,
            appended_ms: None,
            alert: Arc::new(Transition {
                episode: id.to_owned(),
                rule: "r".to_owned(),
                signal: "s".to_owned(),
                entity: Entity::shop(),
                from: State::Inactive,
                to: State::Firing,
                severity,
                at_ms: 0,
                pending_at_ms: 0,
                fired_at_ms: Some(0),
                resolved_at_ms: None,
                reading: Reading::exact(1.0, 1),
                peak: 1.0,
                playbook: None,
                owner_role: None,
                labels: Default::default(),
                summary: String::new(),
                campaign: None,
            }),
        }
    }

    #[test]
    fn pages_go_first_and_have_places_of_their_own() {
        let mut queue = Queue::default();
        for number in 0..2 * SENDING_MAX {
            let id = format!("warn {number}");
            queue.push(Arc::new(intent(
                &id,
                PageAction::Trigger,
                Severity::Warn,
                &[],
            )));
        }
        let mut places = Vec::new();
        while let Some((_, place)) = queue.pop() {
            places.push(place);
        }
        assert_eq!(places.len(), SENDING_MAX);
        queue.push(Arc::new(intent(
            "over",
            PageAction::Resolve,
            Severity::Page,
            &[],
        )));
        queue.push(Arc::new(intent(
            "page",
            PageAction::Trigger,
            Severity::Page,
            &[],
        )));
        let (page, _place) = queue.pop().unwrap();
        assert_eq!(page.delivery_id, "page");
        assert!(queue.pop().is_none());
        drop(places);
        assert_eq!(
            queue.pop().unwrap().0.delivery_id,
            format!("warn {SENDING_MAX}")
        );
        assert_eq!(queue.waiting(), SENDING_MAX);
    }

    #[test]
    fn the_newest_and_the_oldest_page_go_in_turn_and_late_ones_are_counted() {
        let mut queue = Queue::default();
        for number in 0..4 {
            let id = number.to_string();
            let page = intent(&id, PageAction::Trigger, Severity::Page, &[]);
            queue.push(Arc::new(page));
        }
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let ids: Vec<&str> = taken.iter().map(|(one, _)| &*one.delivery_id).collect();
        assert_eq!(ids, ["3", "0", "2", "1"]);
        queue.push(Arc::new(intent(
            "4",
            PageAction::Trigger,
            Severity::Page,
            &[],
        )));
        assert_eq!(queue.late(Duration::ZERO), 5);
        assert_eq!(queue.late(Duration::from_secs(60)), 0);
        drop(taken);
        assert_eq!(queue.late(Duration::ZERO), 1);
    }

    #[test]
    fn what_waits_too_long_is_given_back() {
        let mut queue = Queue::default();
        queue.push(Arc::new(intent(
            "a",
            PageAction::Trigger,
            Severity::Page,
            &["other"],
        )));
        queue.push(Arc::new(intent(
            "b",
            PageAction::Trigger,
            Severity::Page,
            &[],
        )));
        let expired = queue.expired(|intent, since| {
            !intent.fallback.is_empty() && since.elapsed() >= Duration::ZERO
        });
        assert_eq!(expired.len(), 1);
        assert_eq!((&*expired[0].delivery_id, queue.waiting()), ("a", 1));
    }
}
