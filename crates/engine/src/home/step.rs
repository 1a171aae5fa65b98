//! What becomes of a home when a clock was wrong: time goes back, and nothing is deaf by it.
//!
//! A clock that is ahead for a moment lets everything be judged as of a time that was not. What was
//! noted of that time is taken back here; what was counted stays.

use std::sync::Arc;

use fenghuo_signal::{Judge, Signal, State};

use super::{AT_ONCE, HISTORY_MS, Home, PANE_COUNTS_MS};

impl Home {
    /// Time went back with the record at `offset`: what lies ahead of it now is due at once, what
    /// was learnt from panes that are yet to come is forgotten, and no hold waits for its return.
    pub(super) fn step_back(&mut self, offset: u64) {
        let catalogue = Arc::clone(&self.config.catalogue);
        for (number, signal) in catalogue.signals().iter().enumerate() {
            let clock = match signal.streams.is_empty() {
                true => None,
                false => self.clocks.all(self.topics(signal)),
            };
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

    fn step_slot_back(&mut self, id: u32, at: usize) {
        let catalogue = Arc::clone(&self.config.catalogue);
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
        let all = self.config.catalogue.series();
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
