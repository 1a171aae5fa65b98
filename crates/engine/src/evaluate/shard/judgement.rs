//! The judgement: which readings are due, what they say, and which alerts they move.
//!
//! Owns the order in which what is due is read, and the times as of which it is. It must never scan:
//! what is not due is not looked at.

use std::cell::Cell;
use std::cmp::Reverse;
use std::sync::Arc;

use fenghuo_alert::Alert;
use fenghuo_signal::{Judge, Kind, Next, Read, Reading, ReadingState, Seen, Signal};
use fenghuo_window::{Clock, Series};
use smallvec::SmallVec;

use super::counted::Since;
use super::{AT_ONCE, AT_PANE, Decision, Entry, HISTORY_MS, PANE_COUNTS_MS, Place, Shard};

/// Closed panes that a signal takes in at once when it was asleep; what lies before is skipped.
const ADVANCE_MAX: i64 = 180;

/// Of a jump of time no more than this is judged instant by instant: what was due before it is
/// judged once.
const JUMP_MS_MAX: i64 = 2 * 86_400_000;

impl Shard {
    /// Judges every slot of a signal that is due by its clock, in order of time.
    ///
    /// While a source that the signal rests on lags, nothing is judged: what is over when it has
    /// caught up is nobody's trouble any more. Then each slot is judged once, as things are.
    pub(super) fn judge_due(&mut self, number: usize, place: Place, decisions: &mut Vec<Decision>) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let signal = &catalogue.signals()[number];
        // Who has told nothing since the clock was set forward is not behind by that.
        let is_held = self.held_ms[number].is_some_and(|held_ms| place.at_ms < held_ms);
        let jump_ms = if is_held { place.jump_ms } else { 0 };
        let behind_ms = self.config.behind_ms_max.saturating_add(jump_ms);
        let keeps_up = |shard: &Self, source: &str| shard.clocks.keep_up([source], behind_ms);
        let was_muted = self.muted[number];
        if self.begun_ms[number].is_none() && !signal.streams.is_empty() {
            let clock = self.clocks.all(self.topics(signal));
            self.begun_ms[number] = clock.map(|clock| clock.closed_ms);
        }
        if !signal.streams.is_empty() {
            let muted = !self.clocks.keep_up(self.topics(signal), behind_ms);
            self.muted[number] = muted;
            if muted {
                return;
            }
        }
        let mut later: SmallVec<[Reverse<(i64, u32)>; 4]> = SmallVec::new();
        while let Some(Reverse((due_ms, id))) = self.queues[number].peek().copied() {
            let Some(at) = self.entries[id as usize]
                .slots
                .iter()
                .position(|s| s.signal == number)
            else {
                self.queues[number].pop();
                continue;
            };
            if self.entries[id as usize].slots[at].due_ms != Some(due_ms) {
                // Scheduled anew since.
                self.queues[number].pop();
                continue;
            }
            if self.is_covered(id, place.offset) {
                self.queues[number].pop();
                later.push(Reverse((due_ms, id)));
                continue;
            }
            let entity = &self.entries[id as usize].entity;
            let own_source = signal.streams.is_empty();
            let clock = self
                .clock(signal, entity)
                .filter(|_| !own_source || keeps_up(self, &entity.first));
            let now_ms = match (signal.judge, clock) {
                (Judge::EachDelta, Some(clock)) => clock.open_ms,
                (Judge::ClosedPane { .. }, Some(clock)) => clock.closed_ms,
                (_, None) => i64::MIN,
            };
            if clock.is_none() || due_ms > now_ms {
                if !own_source {
                    // All slots of the signal share its clock.
                    break;
                }
                self.queues[number].pop();
                later.push(Reverse((due_ms, id)));
                continue;
            }
            self.queues[number].pop();
            let Some(clock) = clock else { continue };
            let is_at_once = due_ms <= AT_ONCE || was_muted;
            if let Judge::EachDelta = signal.judge {
                self.drop_history(id, at, now_ms);
            }
            let unjudged_ms = self.entries[id as usize].slots[at].unjudged_ms();
            let at_ms = match signal.judge {
                // What is over by now was true all the same.
                Judge::EachDelta if due_ms == AT_PANE => {
                    unjudged_ms.map_or(now_ms, |unjudged_ms| unjudged_ms.min(now_ms))
                }
                Judge::EachDelta if is_at_once && is_held => {
                    // What was told by the time before the step, before what it is held against.
                    let pane_ms = self.pane_time(id, signal, now_ms);
                    let is_new = pane_ms >= now_ms.saturating_sub(place.jump_ms);
                    if is_new { pane_ms } else { now_ms }
                }
                Judge::EachDelta if is_at_once => now_ms,
                Judge::ClosedPane { width_ms } if is_at_once => {
                    now_ms - now_ms.rem_euclid(width_ms)
                }
                // However far time has jumped: what was due in between is judged as of then.
                Judge::EachDelta => {
                    let due_ms = due_ms.max(now_ms - JUMP_MS_MAX);
                    unjudged_ms.map_or(due_ms, |unjudged_ms| unjudged_ms.min(due_ms))
                }
                Judge::ClosedPane { width_ms } => {
                    let earliest_ms = now_ms - JUMP_MS_MAX;
                    due_ms.max(earliest_ms - earliest_ms.rem_euclid(width_ms))
                }
            };
            self.judge(id, at, at_ms, clock, place, decisions);
            self.note_judged(id, at, at_ms, now_ms);
        }
        self.queues[number].extend(later);
    }

    /// Whether a signal is judged at each delta of a series.
    pub(super) fn is_read_at_each(&self, series: u16) -> bool {
        let signals = self.set.catalogue.signals();
        let mut touched = self.set.catalogue.touched_by(series).iter();
        touched.any(|number| signals[usize::from(*number)].judge == Judge::EachDelta)
    }

    /// A pane that begins at `start_ms` comes: what was not judged yet and may not be seen any more
    /// beside it is judged now, also while a source lags.
    pub(super) fn judge_before(
        &mut self,
        id: u32,
        series: u16,
        start_ms: i64,
        place: Place,
        decisions: &mut Vec<Decision>,
    ) {
        let catalogue = Arc::clone(&self.set.catalogue);
        for number in catalogue.touched_by(series) {
            let signal = &catalogue.signals()[usize::from(*number)];
            let Ok(at) = self.entries[id as usize].find_slot(signal.number) else {
                continue;
            };
            let is_beyond =
                |unjudged_ms: &i64| start_ms - unjudged_ms >= signal.reach_ms - PANE_COUNTS_MS;
            loop {
                self.drop_history(id, at, place.at_ms);
                let slot = &self.entries[id as usize].slots[at];
                let Some(unjudged_ms) = slot.unjudged_ms().filter(is_beyond) else {
                    break;
                };
                // Nothing else was passed meanwhile.
                let clock = Clock {
                    closed_ms: unjudged_ms,
                    open_ms: unjudged_ms,
                };
                self.judge(id, at, unjudged_ms, clock, place, decisions);
                self.note_judged(id, at, unjudged_ms, i64::MAX);
            }
        }
    }

    fn drop_history(&mut self, id: u32, at: usize, now_ms: i64) {
        let slot = &mut self.entries[id as usize].slots[at];
        let before_ms = now_ms.saturating_sub(HISTORY_MS);
        slot.unjudged.retain(|start_ms| *start_ms > before_ms);
    }

    /// A slot was read as of a time, of which it is `now_ms`: what that reading did not see is read
    /// as well.
    fn note_judged(&mut self, id: u32, at: usize, at_ms: i64, now_ms: i64) {
        let slot = &mut self.entries[id as usize].slots[at];
        let is_unseen = |start_ms: &i64| at_ms < now_ms && start_ms + PANE_COUNTS_MS > at_ms;
        slot.unjudged.retain(is_unseen);
        slot.unjudged.shrink_to_fit();
        if let Some(unjudged_ms) = slot.unjudged_ms() {
            self.schedule(id, at, unjudged_ms);
        }
    }

    /// Reads a slot as of a time, and tells its alerts, whose time never goes back.
    fn judge(
        &mut self,
        id: u32,
        at: usize,
        read_ms: i64,
        clock: Clock,
        place: Place,
        decisions: &mut Vec<Decision>,
    ) {
        let rules = Arc::clone(&self.set.rules);
        let catalogue = Arc::clone(&self.set.catalogue);
        let series = catalogue.series();
        let number = self.entries[id as usize].slots[at].signal;
        let signal = &catalogue.signals()[number];
        let judged_ms = self.entries[id as usize].slots[at].reading;
        let at_ms = match (signal.judge, judged_ms) {
            (Judge::EachDelta, Some((_, judged_ms))) => read_ms.max(judged_ms),
            _ => read_ms,
        };
        let not_yet = self.not_yet(signal, at_ms);
        let mut begun_ms = self.begun_ms[number].unwrap_or(i64::MIN);
        if let Since::At(since_ms) = self.since(number) {
            begun_ms = begun_ms.max(since_ms);
        }
        let heard = Heard { clock, begun_ms };
        let entry = &mut self.entries[id as usize];
        let read = match not_yet {
            Some(read) => read,
            None => {
                advance(entry, at, signal, series, read_ms, heard);
                let seen = seen(entry, at, series, read_ms, heard);
                let read = signal.estimator.read(&seen);
                match (signal.judge, seen.short_ms.get()) {
                    (Judge::ClosedPane { .. }, short_ms @ 1..) => Read {
                        reading: Reading::unknown(),
                        next: Next::At(at_ms.saturating_add(short_ms)),
                    },
                    // What is judged at each event was seen, whatever else was cut.
                    _ => read,
                }
            }
        };
        let campaign = match entry.entity.kind {
            Kind::CAMPAIGN => Some(entry.entity.first.to_string()),
            _ => entry.facts.plan(at_ms).map(|plan| plan.campaign_id.clone()),
        };
        let Entry { entity, slots, .. } = entry;
        let slot = &mut slots[at];
        slot.reading = Some((read.reading, at_ms));
        slot.is_new = true;
        // What fell out of the window by a step of the clock says nothing.
        let held_ms = self.held_ms[slot.signal].filter(|held_ms| at_ms < *held_ms);
        let is_statistical = matches!(signal.judge, Judge::ClosedPane { .. });
        let mut again_ms = match read.next {
            Next::At(next_ms) => Some(next_ms),
            Next::Touched => None,
        };
        for (rule_index, rule) in rules.for_signal(&signal.name) {
            if !rule.watches(entity) {
                continue;
            }
            let alert = match slot
                .alerts
                .iter()
                .position(|(index, _)| *index == rule_index)
            {
                Some(found) => &mut slot.alerts[found].1,
                // A row is made when there is something to remember.
                None if !rule.is_beyond(&read.reading) => continue,
                None => {
                    slot.alerts.reserve_exact(1);
                    slot.alerts.push((rule_index, Alert::default()));
                    let last = slot.alerts.len() - 1;
                    &mut slot.alerts[last].1
                }
            };
            let mut reading = read.reading;
            let says_little = is_statistical || !rule.is_beyond(&reading);
            if reading.state == ReadingState::Ok && says_little && held_ms.is_some() {
                reading.state = ReadingState::Insufficient;
            }
            let judged = alert.judge(rule, entity, &reading, at_ms, place.origin);
            if let Some(mut transition) = judged {
                transition.campaign = campaign.clone();
                decisions.push(Decision {
                    transition,
                    appended_ms: place.appended_ms,
                });
            }
            again_ms = [again_ms, alert.next_due_ms(rule)]
                .into_iter()
                .flatten()
                .min();
        }
        // What was said too little of is read again once more can be said.
        let again_ms = [again_ms, held_ms].into_iter().flatten().min();
        slot.due_ms = None;
        if let Some(again_ms) = again_ms {
            let due_ms = match signal.judge {
                Judge::EachDelta => again_ms.max(at_ms + 1),
                Judge::ClosedPane { width_ms } => {
                    let ceiled = again_ms.saturating_add(width_ms - 1);
                    (ceiled - ceiled.rem_euclid(width_ms)).max(at_ms + width_ms)
                }
            };
            self.schedule(id, at, due_ms);
        }
        self.note_changed(id);
    }
}

/// What was heard of a signal's sources.
#[derive(Clone, Copy)]
struct Heard {
    clock: Clock,
    begun_ms: i64,
}

fn seen<'a>(
    entry: &'a Entry,
    at: usize,
    series: &'a [Series],
    now_ms: i64,
    heard: Heard,
) -> Seen<'a> {
    Seen {
        entity: &entry.entity,
        history: &entry.history,
        series,
        facts: &entry.facts,
        state: &entry.slots[at].state,
        now_ms,
        begun_ms: heard.begun_ms,
        clock: heard.clock,
        short_ms: Cell::new(0),
    }
}

/// Takes every pane that closed since the last time into the signal's state, in order.
fn advance(
    entry: &mut Entry,
    at: usize,
    signal: &Signal,
    series: &[Series],
    at_ms: i64,
    heard: Heard,
) {
    let (true, Judge::ClosedPane { width_ms }) = (signal.estimator.is_sequential(), signal.judge)
    else {
        return;
    };
    let earliest_ms = (at_ms - ADVANCE_MAX * width_ms).max(heard.begun_ms);
    // On the grid of the panes.
    let earliest_ms = at_ms - (at_ms - earliest_ms).max(0) / width_ms * width_ms;
    let from_ms = entry.slots[at]
        .advanced_ms
        .unwrap_or(earliest_ms)
        .max(earliest_ms);
    let mut end_ms = from_ms + width_ms;
    while end_ms <= at_ms {
        let state = signal
            .estimator
            .advance(&seen(entry, at, series, end_ms, heard));
        entry.slots[at].state = state;
        end_ms += width_ms;
    }
    entry.slots[at].advanced_ms = Some(at_ms);
}
