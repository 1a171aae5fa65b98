//! What is wrong with the clock of this machine, or with that of the log.
//!
//! Nothing is decided here: [`crate::clock`] knows whether its clock was set, and the view what
//! events and records say beside it.

use std::collections::VecDeque;

use fenghuo_alert::Severity;
use fenghuo_engine::view::Heard;

use super::Condition;
use crate::clock::{Standing, Verdict};

/// The conditions that are looked for here.
pub const NAMES: [&str; 4] = [
    "clock.behind",
    "clock.ahead",
    "clock.stepped",
    "clock.broker",
];

/// What was heard longer ago says nothing of now.
const HEARD_WITHIN_MS: i64 = 30_000;

/// Clocks of two machines that differ by more are not kept by a time service.
const DIFFER_MS_MAX: i64 = 5_000;

/// So many events that are refused one after the other, with none taken in between, speak of this
/// clock; fewer may be those of one sender.
const REFUSED_MIN: u32 = 3;

/// Events that are told by so much later than they are allowed to be are no live shop's, or the
/// clock is ahead.
const BEHIND_MS_MAX: i64 = 600_000;

/// Events of a shop that runs are told with delays that differ by less than this.
const AGES_DIFFER_MS: i64 = 60_000;

/// Ages that are kept.
const AGES_MAX: usize = 64;

const ADVICE: &str = "Set the machine's clock by NTP, and see that its hardware clock is in UTC";

/// What is to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// What stands between the machine's clock and the time that is written.
    pub standing: Option<Standing>,
    /// What was heard of the shop's time, and of the log's.
    pub heard: Heard,
    /// Whether how old events are changes faster than time passes: then a history is loaded, and no
    /// clock is wrong.
    pub is_history: bool,
    /// The longest time that a source may be late, ms.
    pub lateness_ms: i64,
    /// How far an event may lie ahead of the log, ms.
    pub ahead_ms_max: i64,
    /// Whether the log keeps a time of its own.
    pub is_elsewhere: bool,
    /// Now, Unix ms.
    pub now_ms: i64,
}

/// How old the events were that were heard lately.
#[derive(Debug, Default)]
pub struct Ages {
    /// Number of the last commit that was seen.
    commits: u64,
    /// When it was seen, and how old its event was, ms; the newest last.
    seen: VecDeque<(i64, i64)>,
}

impl Ages {
    /// Takes what was heard, and says whether a history is loaded: events of a shop that runs stay as
    /// old as the clock is wrong, those of a history become newer, or come as they please.
    pub fn is_history(&mut self, heard: Heard, now_ms: i64) -> bool {
        if std::mem::replace(&mut self.commits, heard.commits) != heard.commits
            && let Some(occurred_ms) = heard.occurred_ms
        {
            self.seen
                .push_back((now_ms, now_ms.saturating_sub(occurred_ms)));
        }
        let is_past = |(at_ms, _): &(i64, i64)| (now_ms - at_ms).abs() > HEARD_WITHIN_MS;
        while self.seen.len() > AGES_MAX || self.seen.front().is_some_and(is_past) {
            self.seen.pop_front();
        }
        let ages = || self.seen.iter().map(|(_, age_ms)| *age_ms);
        let (least, most) = (ages().min().unwrap_or(0), ages().max().unwrap_or(0));
        most.saturating_sub(least) > AGES_DIFFER_MS
    }
}

/// What is wrong.
pub fn conditions(look: &Look) -> Vec<Condition> {
    let mut all = Vec::new();
    all.extend(look.standing.map(set));
    let is_fresh = |at_ms: i64| (look.now_ms - at_ms).abs() <= HEARD_WITHIN_MS;
    let is_known = |name: &str, all: &[Condition]| all.iter().any(|known| known.name == name);
    let refused = look.heard.ahead.filter(|(_, at_ms)| is_fresh(*at_ms));
    let refused = refused.filter(|_| look.heard.ahead_count >= REFUSED_MIN);
    if let Some((ahead_ms, _)) = refused.filter(|_| !is_known("clock.behind", &all)) {
        let by = span(ahead_ms);
        let text = format!(
            "Events are refused since they lie {by} ahead of the log's clock: that clock is behind, or the \
             sender's is ahead. {ADVICE}, and send the events again."
        );
        all.push(condition("clock.behind", Severity::Page, true, text));
    }
    let late_ms = look.heard.occurred_ms.map(|at_ms| look.now_ms - at_ms);
    let late_ms = late_ms.filter(|late_ms| *late_ms > look.lateness_ms + BEHIND_MS_MAX);
    let late_ms = late_ms.filter(|_| is_fresh(look.heard.at_ms) && !look.is_history);
    if let Some(late_ms) = late_ms
        && !is_known("clock.ahead", &all)
    {
        let by = span(late_ms);
        let text = format!(
            "The events that come in are {by} old: this machine's clock is ahead, or what is sent is a \
             history. {ADVICE}; a history needs nothing, and this ends once it is loaded."
        );
        all.push(condition("clock.ahead", Severity::Warn, false, text));
    }
    let differs = look.heard.log_ahead.filter(|_| look.is_elsewhere);
    let differs = differs.filter(|(_, at_ms)| is_fresh(*at_ms));
    if let Some((by_ms, _)) = differs.filter(|(by_ms, _)| by_ms.abs() > DIFFER_MS_MAX) {
        let severity = match by_ms.abs() > look.ahead_ms_max / 2 {
            true => Severity::Page,
            false => Severity::Warn,
        };
        let side = if by_ms > 0 { "ahead of" } else { "behind" };
        let text = format!(
            "The records of the brokers are stamped {} {side} this machine's clock. Set the clocks of \
             both by NTP, and see that their hardware clocks are in UTC.",
            span(by_ms.abs())
        );
        all.push(condition("clock.broker", severity, false, text));
    }
    all
}

/// The clock of this machine was set.
fn set(standing: Standing) -> Condition {
    let Standing { by_ms, verdict } = standing;
    let by = span(by_ms.saturating_abs());
    let (name, side) = match by_ms > 0 {
        true => ("clock.ahead", "ahead of"),
        false => ("clock.behind", "behind"),
    };
    match verdict {
        Verdict::Open => {
            let text = format!(
                "This machine's clock was set: it is {by} {side} the time that went on from what was \
                 written last, which is kept until events agree with the clock or it has stayed so for \
                 a while. {ADVICE}."
            );
            condition(name, Severity::Page, true, text)
        }
        Verdict::Wrong => {
            let text = format!(
                "This machine's clock is {by} {side} the time that events tell: it is not followed. \
                 {ADVICE}."
            );
            condition(name, Severity::Page, true, text)
        }
        Verdict::Followed => {
            let text = format!(
                "This machine's clock was set by {by} {}, and is followed. Nothing that is open ends by \
                 that. See that the clock is right now.",
                if by_ms > 0 { "forward" } else { "back" }
            );
            condition("clock.stepped", Severity::Warn, false, text)
        }
    }
}

fn condition(
    name: &'static str,
    severity: Severity,
    blocks_ready: bool,
    text: String,
) -> Condition {
    Condition {
        name,
        about: String::new(),
        severity,
        blocks_ready,
        text,
    }
}

/// A time in its two largest units.
fn span(ms: i64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_794_398_400_000;
    const HOUR_MS: i64 = 3_600_000;

    fn quiet() -> Look {
        Look {
            standing: None,
            heard: Heard {
                commits: 1,
                occurred_ms: Some(NOW_MS - 1_000),
                at_ms: NOW_MS,
                ..Heard::default()
            },
            is_history: false,
            lateness_ms: 5_000,
            ahead_ms_max: 60_000,
            is_elsewhere: true,
            now_ms: NOW_MS,
        }
    }

    fn names(look: &Look) -> Vec<(&'static str, Severity, bool)> {
        let all = conditions(look).into_iter();
        let names = all.map(|one| (one.name, one.severity, one.blocks_ready));
        names.collect()
    }

    #[test]
    fn a_clock_that_was_set_is_told_with_what_to_do() {
        for (by_ms, name) in [(8 * HOUR_MS, "clock.ahead"), (-HOUR_MS, "clock.behind")] {
            for verdict in [Verdict::Open, Verdict::Wrong] {
                let standing = Some(Standing { by_ms, verdict });
                let look = Look {
                    standing,
                    ..quiet()
                };
                assert_eq!(names(&look), [(name, Severity::Page, true)]);
                let text = &conditions(&look)[0].text;
                assert!(text.contains("NTP") && text.contains("UTC"), "{text}");
            }
            let standing = Some(Standing {
                by_ms,
                verdict: Verdict::Followed,
            });
            let look = Look {
                standing,
                ..quiet()
            };
            assert_eq!(names(&look), [("clock.stepped", Severity::Warn, false)]);
        }
        assert_eq!(names(&quiet()), []);
    }

    #[test]
    fn a_history_that_is_loaded_is_no_clock_that_is_ahead() {
        let play = |age_ms: &dyn Fn(i64) -> i64| {
            let mut ages = Ages::default();
            let mut told = 0;
            for second in 0..120 {
                let now_ms = NOW_MS + second * 1_000;
                let mut look = quiet();
                look.now_ms = now_ms;
                look.heard.commits = second as u64 + 1;
                look.heard.at_ms = now_ms;
                look.heard.occurred_ms = Some(now_ms - age_ms(second));
                look.is_history = ages.is_history(look.heard, now_ms);
                told += usize::from(!names(&look).is_empty());
            }
            told
        };
        // An hour of history a second, from a month ago; and one in no order.
        assert!(play(&|second| (720 - second) * HOUR_MS) <= 2);
        assert!(play(&|second| (2 + second * 7 % 11) * HOUR_MS) <= 2);
        // A clock that is ahead by an hour, and events that are told within some seconds.
        assert_eq!(play(&|second| HOUR_MS + second * 7 % 11 * 1_000), 120);
        assert_eq!(play(&|_| 2_000), 0);
    }

    #[test]
    fn what_events_and_brokers_say_is_told_while_it_is_new() {
        let mut look = quiet();
        look.heard.ahead = Some((8 * HOUR_MS, NOW_MS - 2_000));
        look.heard.ahead_count = REFUSED_MIN - 1;
        assert_eq!(names(&look), [], "one sender may be ahead");
        look.heard.ahead_count = REFUSED_MIN;
        assert_eq!(names(&look), [("clock.behind", Severity::Page, true)]);
        look.heard.ahead = Some((8 * HOUR_MS, NOW_MS - 60_000));
        assert_eq!(names(&look), []);
        look.heard.occurred_ms = Some(NOW_MS - 8 * HOUR_MS);
        assert_eq!(names(&look), [("clock.ahead", Severity::Warn, false)]);
        look.lateness_ms = 24 * HOUR_MS;
        assert_eq!(names(&look), [], "its exports are late by a day");
        for (by_ms, severity) in [(20_000, Severity::Warn), (-HOUR_MS, Severity::Page)] {
            look.heard.log_ahead = Some((by_ms, NOW_MS));
            assert_eq!(names(&look), [("clock.broker", severity, false)]);
        }
        look.is_elsewhere = false;
        assert_eq!(names(&look), []);
    }
}
