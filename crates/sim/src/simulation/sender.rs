//! Pages on their way: what the daemon's sender and notifier do, in virtual time, and receivers
//! that write down what they are sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fenghuo_engine::Dispatch;
use fenghuo_engine::record::{DeliveryOutcome, Intent, PageAction};

use super::Violation;
use super::fault::Mood;

/// A page is tried for so long.
const DEADLINE_MS: i64 = 15_000;
/// Between two tries.
const RETRY_MS: i64 = 700;

/// A page being sent.
struct Sending {
    intent: Arc<Intent>,
    attempts: u32,
    deadline_ms: i64,
    /// When it is tried next, or when its answer comes.
    next_ms: i64,
    taken: bool,
}

/// What one process sends.
#[derive(Default)]
pub struct Sender {
    waiting: VecDeque<Arc<Intent>>,
    sending: Vec<Sending>,
    outcomes: Vec<DeliveryOutcome>,
}

impl Sender {
    /// Tells the stage what became of pages, and takes those that are ready.
    pub fn serve(&mut self, dispatch: &mut Dispatch, now_ms: i64) {
        dispatch.set_time(now_ms);
        for outcome in self.outcomes.drain(..) {
            dispatch.outcome(outcome);
        }
        if !dispatch.is_assigned() {
            self.waiting.clear();
        }
        self.waiting.extend(dispatch.take_ready());
    }

    /// Lets time pass for the pages on their way.
    pub fn pass(
        &mut self,
        now_ms: i64,
        mood: &dyn Fn(&str) -> Mood,
        receivers: &mut Receivers,
    ) -> Result<(), Violation> {
        while let Some(intent) = self.waiting.pop_front() {
            self.sending.push(Sending {
                intent,
                attempts: 0,
                deadline_ms: now_ms + DEADLINE_MS,
                next_ms: now_ms,
                taken: false,
            });
        }
        // Pages under one key leave one after another.
        let mut taken_turns: BTreeSet<(String, String)> = BTreeSet::new();
        let mut at = 0;
        while at < self.sending.len() {
            let sending = &mut self.sending[at];
            let turn = (
                sending.intent.channel.clone(),
                sending.intent.alert.episode.clone(),
            );
            if taken_turns.insert(turn)
                && let Some(outcome) = sending.go(now_ms, mood, receivers)?
            {
                self.outcomes.push(outcome);
                self.sending.remove(at);
                continue;
            }
            at += 1;
        }
        Ok(())
    }
}

impl Sending {
    fn go(
        &mut self,
        now_ms: i64,
        mood: &dyn Fn(&str) -> Mood,
        receivers: &mut Receivers,
    ) -> Result<Option<DeliveryOutcome>, Violation> {
        if now_ms < self.next_ms {
            return Ok(None);
        }
        if self.taken {
            return Ok(Some(self.outcome(true, None, now_ms)));
        }
        if self.attempts > 0 && now_ms > self.deadline_ms {
            return Ok(Some(self.outcome(false, Some("out of time"), now_ms)));
        }
        self.attempts += 1;
        receivers.sent(&self.intent)?;
        let (taken, answer) = match mood(&self.intent.channel) {
            Mood::Up => (true, Some(true)),
            Mood::Slow { ms } => {
                self.taken = true;
                self.next_ms = now_ms + ms;
                (true, None)
            }
            Mood::Failing => (false, None),
            Mood::Mute => (true, None),
            Mood::Refusing => (false, Some(false)),
        };
        if taken {
            receivers.took(&self.intent);
        }
        if answer.is_none() && !self.taken {
            self.next_ms = now_ms + RETRY_MS * i64::from(self.attempts);
        }
        Ok(answer.map(|delivered| {
            let reason = (!delivered).then_some("refused");
            self.outcome(delivered, reason, now_ms)
        }))
    }

    fn outcome(&self, delivered: bool, reason: Option<&str>, now_ms: i64) -> DeliveryOutcome {
        DeliveryOutcome {
            delivery_id: self.intent.delivery_id.clone(),
            delivered,
            attempts: self.attempts,
            reason: reason.map(str::to_owned),
            at_ms: now_ms,
        }
    }
}

/// What receivers saw.
#[derive(Default)]
pub struct Receivers {
    /// Keys by channel, episode, action and severity.
    keys: BTreeMap<(String, String, String), String>,
    /// Every key that was ever sent.
    pub sent: BTreeSet<String>,
    /// Every key that was ever taken.
    pub taken: BTreeSet<String>,
    resolved: BTreeSet<(String, String)>,
    triggered: BTreeSet<(String, String)>,
    /// Pages taken, with repeats.
    pub pages: usize,
}

impl Receivers {
    fn sent(&mut self, intent: &Intent) -> Result<(), Violation> {
        let place = (intent.channel.clone(), intent.alert.episode.clone());
        let what = match intent.action {
            PageAction::Trigger => format!("trigger {:?}", intent.severity),
            PageAction::Resolve => "resolve".to_owned(),
        };
        let key = (place.0.clone(), place.1.clone(), what.clone());
        let known = self.keys.entry(key).or_insert(intent.delivery_id.clone());
        if *known != intent.delivery_id {
            let detail = format!(
                "{what} of {} through {} is sent as {known} and as {}",
                place.1, place.0, intent.delivery_id
            );
            return Err(Violation::new("one key for a delivery", detail));
        }
        let is_first = self.sent.insert(intent.delivery_id.clone());
        match intent.action {
            PageAction::Trigger if is_first && self.resolved.contains(&place) => {
                let detail = format!("{what} of {} through {}", place.1, place.0);
                Err(Violation::new("no first trigger after the resolve", detail))
            }
            PageAction::Resolve if !self.triggered.contains(&place) => {
                let detail = format!("of {} through {}", place.1, place.0);
                Err(Violation::new("no resolve of what nobody was told", detail))
            }
            PageAction::Trigger => Ok(()),
            PageAction::Resolve => {
                self.resolved.insert(place);
                Ok(())
            }
        }
    }

    fn took(&mut self, intent: &Intent) {
        self.pages += 1;
        self.taken.insert(intent.delivery_id.clone());
        if intent.action == PageAction::Trigger {
            let place = (intent.channel.clone(), intent.alert.episode.clone());
            self.triggered.insert(place);
        }
    }
}
