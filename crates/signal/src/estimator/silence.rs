//! Silence: how long nothing came while something was due.

use crate::estimator::{Arguments, Column, Estimator, Level, Named, Next, Read, Seen};
use crate::reading::Reading;

const SECOND_MS: i64 = 1_000;
const PANE_MS: i64 = 10 * SECOND_MS;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Expected events without one from which a silence is told.
const EXPECTED_MIN: f64 = 10.0;
/// Panes of 10 s that are left out of a rate: a bulk load is over in less.
const BUSIEST_PANES: usize = 2;
/// Silence is counted hour by hour no further back than this.
const HOURS_MAX: i64 = 72;

pub(crate) static NAMED: Named = Named {
    name: "silence",
    keys: &["silence", "so_far"],
    build: |arguments: &Arguments<'_, '_, '_>| {
        let events = arguments.looked_at("silence")?;
        let so_far = arguments.level("so_far", ["first", "last"], true)?;
        arguments.check_kept("silence", events, 8 * DAY_MS)?;
        Some(Box::new(Silence { events, so_far }))
    },
};

#[derive(Debug)]
struct Silence {
    events: Column,
    so_far: Level<2>,
}

impl Silence {
    /// Events a millisecond before the silence: over 10 minutes, or an hour where those were few. A
    /// source that speaks in bursts leads to no expectation, so the busiest panes are left out.
    fn recent_rate(&self, seen: &Seen<'_>, first_ms: i64, last_ms: i64) -> f64 {
        let end_ms = last_ms - last_ms.rem_euclid(PANE_MS) + PANE_MS;
        let Some((panes, series)) = seen.panes(self.events) else {
            return 0.0;
        };
        for span_ms in [10 * MINUTE_MS, HOUR_MS] {
            let span_ms = (end_ms - first_ms).clamp(MINUTE_MS, span_ms);
            let mut events: Vec<i64> = panes
                .cells(series, end_ms - span_ms, end_ms)
                .map(|(_, cell)| cell[self.events.field])
                .collect();
            events.sort_unstable();
            events.truncate(events.len().saturating_sub(BUSIEST_PANES));
            if events.len() as f64 >= EXPECTED_MIN {
                return events.iter().sum::<i64>() as f64 / span_ms as f64;
            }
        }
        0.0
    }

    /// Events expected between the last one and now.
    fn expected(&self, seen: &Seen<'_>, first_ms: i64, last_ms: i64, recent_a_ms: f64) -> f64 {
        let now_ms = seen.now_ms;
        let mut expected = 0.0;
        // What is the lowest of several is nothing where one of them is.
        if recent_a_ms <= 0.0 {
            return expected;
        }
        let mut from_ms = last_ms.max(now_ms - HOURS_MAX * HOUR_MS);
        while from_ms < now_ms {
            let hour_ms = from_ms - from_ms.rem_euclid(HOUR_MS);
            let to_ms = (hour_ms + HOUR_MS).min(now_ms);
            let mut rate_a_ms = recent_a_ms;
            for before_ms in [DAY_MS, 7 * DAY_MS] {
                let then_ms = hour_ms - before_ms;
                if then_ms >= first_ms {
                    let then = seen.sum(self.events, then_ms, then_ms + HOUR_MS) as f64;
                    rate_a_ms = rate_a_ms.min(then / HOUR_MS as f64);
                }
            }
            expected += rate_a_ms * (to_ms - from_ms) as f64;
            from_ms = to_ms;
        }
        expected
    }
}

impl Estimator for Silence {
    fn applies(&self, seen: &Seen<'_>) -> bool {
        seen.level(&self.so_far).is_some()
    }

    fn read(&self, seen: &Seen<'_>) -> Read {
        let now_ms = seen.now_ms;
        let Some([first_ms, last_ms]) = seen.level(&self.so_far) else {
            return Read {
                reading: Reading::unknown(),
                next: Next::Touched,
            };
        };
        // Of what was told under a clock that was far behind no pane is kept either.
        let oldest_ms = seen
            .panes(self.events)
            .and_then(|(panes, series)| panes.oldest_ms(series));
        let first_ms = oldest_ms.map_or(first_ms, |oldest| oldest.max(first_ms));
        // A step of the clock is no silence.
        let last_ms = seen.honest_ms(last_ms, self.events);
        let heard_ms = last_ms;
        let last_ms = last_ms.max(seen.begun_ms.min(now_ms));
        let silent_ms = (now_ms - last_ms).max(0);
        let recent_a_ms = self.recent_rate(seen, first_ms, heard_ms);
        let expected = self.expected(seen, first_ms, last_ms, recent_a_ms);
        let seconds = if expected >= EXPECTED_MIN {
            silent_ms as f64 / 1e3
        } else {
            0.0
        };
        let reading = Reading::exact(seconds, expected as u64);
        if recent_a_ms <= 0.0 {
            // Nothing is expected until something comes.
            return Read {
                reading,
                next: Next::Touched,
            };
        }
        // The longer the silence the less a second adds; before ten are due nothing can be told.
        let until_due_ms = if expected < EXPECTED_MIN {
            // No sooner than at the rate before the silence, which the base can only lower.
            (((EXPECTED_MIN - expected) / recent_a_ms) as i64).clamp(SECOND_MS, HOUR_MS)
        } else {
            (silent_ms / 60).clamp(SECOND_MS, MINUTE_MS)
        };
        Read {
            reading,
            next: Next::At(now_ms + until_due_ms),
        }
    }
}
