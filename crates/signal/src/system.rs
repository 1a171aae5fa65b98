//! Systems: whether what Fenghuo hears from is still speaking.

use fenghuo_window::{Combiner, Panes, Series};

use crate::catalogue::{Judge, Next, Read, Signal, View};
use crate::entity::{Entity, Kind};
use crate::fold::one;
use crate::reading::Reading;
use crate::series::{ARRIVALS, ARRIVED, LOST};

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

/// Counts events of a source that fell into one second. `late` ones are in the level alone.
pub fn fold_arrivals(
    cells: &mut Combiner<Entity>,
    source: &str,
    at_ms: i64,
    events: i64,
    late: bool,
) {
    let entity = one(Kind::Source, source);
    if !late {
        cells.cell(&ARRIVALS, entity, at_ms)[0] += events;
    }
    cells.merge(&ARRIVED, entity, 0, &[events, at_ms, at_ms]);
}

/// `source.silence`.
pub(crate) static SOURCE_SILENCE: Signal = Signal {
    name: "source.silence",
    unit: "seconds",
    about: "how long a source has been silent while events were due",
    formula: "seconds since the newest event once at least 10 were expected since, else 0; expected hour by hour: the \
              lowest of the rate before the silence (of 10 min, or of an hour, whichever has events \
              in 10 panes of 10 s, the two busiest left out; else none), the same hour of the day before and, with 7 days of \
              history, of the week before; n: events expected",
    kinds: &[Kind::Source],
    streams: &[],
    touched_by: &[&ARRIVED],
    judge: Judge::ClosedPane {
        width_ms: SECOND_MS,
    },
    advance: None,
    read: read_silence,
};

/// Events counted in `[from_ms, to_ms)`.
fn arrivals(view: &View<'_>, from_ms: i64, to_ms: i64) -> f64 {
    static SERIES: &Series = &ARRIVALS;
    view.history.sum(SERIES, from_ms, to_ms)[0] as f64
}

fn read_silence(view: &View<'_>) -> Read {
    let now_ms = view.now_ms;
    let Some([_, first_ms, last_ms]) = view.history.amount(&ARRIVED) else {
        return Read {
            reading: Reading::unknown(),
            next: Next::Touched,
        };
    };
    // Of what was told under a clock that was far behind no pane is kept either.
    let oldest_ms = view.history.panes(&ARRIVALS).and_then(Panes::oldest_ms);
    let first_ms = oldest_ms.map_or(*first_ms, |oldest| oldest.max(*first_ms));
    let last_ms = view.honest_ms(*last_ms, &ARRIVALS);
    let silent_ms = (now_ms - last_ms).max(0);
    let recent_a_ms = recent_rate(view, first_ms, last_ms);
    let expected = expected(view, first_ms, last_ms, recent_a_ms);
    let seconds = if expected >= EXPECTED_MIN {
        silent_ms as f64 / 1e3
    } else {
        0.0
    };
    // The longer the silence the less a second adds; before ten are due nothing can be told.
    let until_due_ms = if recent_a_ms > 0.0 && expected < EXPECTED_MIN {
        ((EXPECTED_MIN / recent_a_ms) as i64 - silent_ms).clamp(SECOND_MS, HOUR_MS)
    } else {
        (silent_ms / 60).clamp(SECOND_MS, MINUTE_MS)
    };
    let reading = Reading::exact(seconds, expected as u64);
    Read {
        reading,
        next: Next::At(now_ms + until_due_ms),
    }
}

/// `source.lost`.
pub(crate) static SOURCE_LOST: Signal = Signal {
    name: "source.lost",
    unit: "records",
    about: "records that retention deleted before they were read",
    formula: "records between the last offset read and the first one still there, summed over the last hour; n: the same",
    kinds: &[Kind::Source],
    streams: &[],
    touched_by: &[&LOST],
    judge: Judge::EachDelta,
    advance: None,
    read: read_lost,
};

fn read_lost(view: &View<'_>) -> Read {
    static SERIES: &Series = &LOST;
    let records = view
        .history
        .sum(SERIES, view.now_ms - HOUR_MS, view.now_ms + MINUTE_MS)[0];
    let reading = Reading::exact(records as f64, records.unsigned_abs());
    let next = match records {
        0 => Next::Touched,
        _ => Next::At(view.now_ms + MINUTE_MS),
    };
    Read { reading, next }
}

/// Events a millisecond before the silence: over 10 minutes, or an hour where those were few. A
/// source that speaks in bursts leads to no expectation, so the busiest panes are left out.
fn recent_rate(view: &View<'_>, first_ms: i64, last_ms: i64) -> f64 {
    let end_ms = last_ms - last_ms.rem_euclid(PANE_MS) + PANE_MS;
    let Some(panes) = view.history.panes(&ARRIVALS) else {
        return 0.0;
    };
    for span_ms in [10 * MINUTE_MS, HOUR_MS] {
        let span_ms = (end_ms - first_ms).clamp(MINUTE_MS, span_ms);
        let mut events: Vec<i64> = panes
            .cells(&ARRIVALS, end_ms - span_ms, end_ms)
            .map(|(_, cell)| cell[0])
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
fn expected(view: &View<'_>, first_ms: i64, last_ms: i64, recent_a_ms: f64) -> f64 {
    let now_ms = view.now_ms;
    let mut expected = 0.0;
    let mut from_ms = last_ms.max(now_ms - HOURS_MAX * HOUR_MS);
    while from_ms < now_ms {
        let hour_ms = from_ms - from_ms.rem_euclid(HOUR_MS);
        let to_ms = (hour_ms + HOUR_MS).min(now_ms);
        let mut rate_a_ms = recent_a_ms;
        for before_ms in [DAY_MS, 7 * DAY_MS] {
            let then_ms = hour_ms - before_ms;
            if then_ms >= first_ms {
                let then = arrivals(view, then_ms, then_ms + HOUR_MS) / HOUR_MS as f64;
                rate_a_ms = rate_a_ms.min(then);
            }
        }
        expected += rate_a_ms * (to_ms - from_ms) as f64;
        from_ms = to_ms;
    }
    expected
}
