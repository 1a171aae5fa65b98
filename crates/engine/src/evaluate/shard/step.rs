//! What becomes of a shard when a clock was set: nothing is deaf by it, and nothing ends by it.
//!
//! A clock that is set forward, rightly or not, lets no time pass: what counts time goes on as if
//! there had been no step.
//!
//! A clock that is ahead for a moment lets everything be judged as of a time that was not. What was
//! noted of that time is taken back here; what was counted stays.

use std::sync::Arc;

use fenghuo_signal::{Entity, Judge, Kind, Signal, State};
use fenghuo_window::{Clock, Clocks, Jump};

use super::{AT_ONCE, HISTORY_MS, PANE_COUNTS_MS, Shard};

/// After a step forward nothing is ended for as long as the step, and no longer than this: what
/// deterministic rules look at lies in windows of ten minutes.
const HELD_MS_MAX: i64 = 15 * 60_000;

/// After a step back nothing is ended for so long: until all who commit tell the time that is lower.
const SETTLED_MS: i64 = 15_000;

/// What a signal's time was before a step, what it is now, and how much of that did not pass.
#[derive(Clone, Copy)]
struct Leap {
    before_ms: i64,
    now_ms: i64,
    by_ms: i64,
}

impl Shard {
    /// The record at `offset` was written after a step forward that is followed. No time has passed
    /// for whatever counts it: what is due goes on to be due as long after now as it was, holds go on
    /// for as long as they would have, and nothing is ended by what fell out of a window.
    pub(super) fn step_forward(&mut self, jump: Jump, before: &Clocks, offset: u64) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let sources: Vec<Entity> = before
            .states()
            .map(|(topic, ..)| Entity::one(Kind::SOURCE, topic))
            .collect();
        let mut is_over = false;
        for (number, signal) in catalogue.signals().iter().enumerate() {
            // The clock of a signal with streams is that of any entity.
            let of = match signal.streams.is_empty() {
                true => &sources[..],
                false => &sources[..sources.len().min(1)],
            };
            let leaps = of.iter();
            let leaps = leaps.filter_map(|entity| self.leap(jump, before, signal, entity));
            let Some(now_ms) = leaps.clone().map(|leap| leap.now_ms).max() else {
                continue;
            };
            let by_ms = leaps.map(|leap| leap.by_ms).max().unwrap_or(0);
            is_over = true;
            let begun_ms = match signal.judge {
                Judge::EachDelta => now_ms,
                // The pane in which it happened is not whole.
                Judge::ClosedPane { width_ms } => ceil(now_ms, width_ms),
            };
            self.begun_ms[number] = Some(begun_ms);
            self.held_ms[number] = Some(now_ms.saturating_add(by_ms.min(HELD_MS_MAX)));
        }
        if !is_over {
            return;
        }
        for id in 0..self.entries.len() as u32 {
            if self.is_covered(id, offset) {
                continue;
            }
            for at in 0..self.entries[id as usize].slots.len() {
                let entry = &self.entries[id as usize];
                let signal = &catalogue.signals()[entry.slots[at].signal];
                if let Some(leap) = self.leap(jump, before, signal, &entry.entity) {
                    self.step_slot_forward(id, at, signal, leap);
                }
            }
        }
    }

    /// How a signal's time passed over a step; `None` where it did not.
    fn leap(&self, jump: Jump, before: &Clocks, signal: &Signal, entity: &Entity) -> Option<Leap> {
        let of = |clock: Clock| match signal.judge {
            Judge::EachDelta => clock.open_ms,
            Judge::ClosedPane { .. } => clock.closed_ms,
        };
        let reached = |clocks: &Clocks| match signal.streams.is_empty() {
            true => clocks.reached([&*entity.first]),
            false => clocks.reached(self.topics(signal)),
        };
        let (before_ms, now_ms) = (of(reached(before)?), of(reached(&self.clocks)?));
        let by_ms = jump.within(before_ms, now_ms, self.clocks.lateness_ms());
        (by_ms > 0).then_some(Leap {
            before_ms,
            now_ms,
            by_ms,
        })
    }

    fn step_slot_forward(&mut self, id: u32, at: usize, signal: &Signal, leap: Leap) {
        let slot = &mut self.entries[id as usize].slots[at];
        for (_, alert) in &mut slot.alerts {
            alert.step_forward(leap.by_ms);
        }
        let is_between = |due_ms: &i64| (leap.before_ms..leap.now_ms).contains(due_ms);
        if let Some(due_ms) = slot.due_ms.filter(is_between) {
            let due_ms = due_ms.saturating_add(leap.by_ms);
            slot.due_ms = None;
            let due_ms = match signal.judge {
                Judge::EachDelta => due_ms,
                Judge::ClosedPane { width_ms } => ceil(due_ms, width_ms),
            };
            self.schedule(id, at, due_ms);
        }
        self.note_changed(id);
    }

    /// Time went back with the record at `offset`: what lies ahead of it now is due at once, what
    /// was learnt from panes that are yet to come is forgotten, and no hold waits for its return.
    pub(super) fn step_back(&mut self, offset: u64) {
        let catalogue = Arc::clone(&self.set.catalogue);
        for (number, signal) in catalogue.signals().iter().enumerate() {
            let ahead_ms = self.newest_clock_ms(signal);
            let held_ms = self.held_ms[number];
            let held_ms = held_ms.filter(|held| *held <= ahead_ms.saturating_add(HELD_MS_MAX));
            // Others who commit may yet tell the time from before.
            let settled_ms = ahead_ms.saturating_add(SETTLED_MS);
            self.held_ms[number] = held_ms.max(Some(settled_ms));
            let clock = match signal.streams.is_empty() {
                true => None,
                false => self.clocks.all(self.topics(signal)),
            };
            if signal.streams.is_empty() {
                self.begun_ms[number] = None;
            }
            if let (Some(clock), Some(begun_ms)) = (clock, self.begun_ms[number].as_mut()) {
                *begun_ms = (*begun_ms).min(clock.closed_ms);
            }
        }
        for id in 0..self.entries.len() as u32 {
            if self.is_covered(id, offset) {
                continue;
            }
            for at in 0..self.entries[id as usize].slots.len() {
                self.step_slot_back(id, at);
            }
        }
    }

    /// The time of what was last seen of any source of a signal.
    fn newest_clock_ms(&self, signal: &Signal) -> i64 {
        let open = |clock: Option<Clock>| clock.map(|clock| clock.open_ms);
        let newest_ms = match signal.streams.is_empty() {
            true => {
                let sources = self.clocks.states().map(|(topic, ..)| topic);
                sources
                    .filter_map(|source| open(self.clocks.source(source)))
                    .max()
            }
            false => open(self.clocks.all(self.topics(signal))),
        };
        newest_ms.unwrap_or(i64::MIN)
    }

    fn step_slot_back(&mut self, id: u32, at: usize) {
        let catalogue = Arc::clone(&self.set.catalogue);
        let entry = &self.entries[id as usize];
        let signal = &catalogue.signals()[entry.slots[at].signal];
        let Some(clock) = self.clock(signal, &entry.entity) else {
            return;
        };
        let now_ms = match signal.judge {
            Judge::EachDelta => clock.open_ms,
            Judge::ClosedPane { .. } => clock.closed_ms,
        };
        let is_ahead = |noted: Option<i64>| noted.is_some_and(|noted| noted > now_ms);
        let slot = &mut self.entries[id as usize].slots[at];
        let judged_ms = slot.reading.map(|(_, at_ms)| at_ms);
        if let Some((_, at_ms)) = &mut slot.reading {
            *at_ms = (*at_ms).min(now_ms);
        }
        if is_ahead(slot.advanced_ms) {
            slot.state = State::new();
            slot.advanced_ms = None;
        }
        for (_, alert) in &mut slot.alerts {
            alert.step_back(now_ms);
        }
        if is_ahead(slot.due_ms) || is_ahead(judged_ms) {
            self.schedule(id, at, AT_ONCE);
            self.note_changed(id);
        }
    }

    /// When a signal is read of which a pane has just changed: now, or, where the clock is far ahead
    /// of that pane, while the pane still counts. Panes of long ago are history.
    pub(super) fn pane_time(&self, id: u32, signal: &Signal, now_ms: i64) -> i64 {
        let history = &self.entries[id as usize].history;
        let all = self.set.catalogue.series();
        let touched_by = signal.touched_by.iter();
        let paned = touched_by
            .map(|series| &all[usize::from(*series)])
            .filter(|series| series.is_paned());
        let newest_ms = paned
            .filter_map(|series| history.panes(series)?.newest_ms())
            .max();
        match newest_ms {
            Some(newest_ms) if newest_ms > now_ms - HISTORY_MS => {
                now_ms.min(newest_ms + PANE_COUNTS_MS)
            }
            _ => now_ms,
        }
    }
}

/// The next whole multiple of a width.
fn ceil(at_ms: i64, width_ms: i64) -> i64 {
    let ceiled = at_ms.saturating_add(width_ms - 1);
    ceiled - ceiled.rem_euclid(width_ms)
}
