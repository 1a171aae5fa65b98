//! What must hold for any readings at any times.

use std::collections::HashSet;

use fenghuo_alert::{Alert, Origin, Rule, Rules, Severity, State, Transition};
use fenghuo_signal::{Entity, Kind, Reading, ReadingState};
use proptest::prelude::*;

fn rule() -> Rule {
    let text = r#"
        [[rule]]
        name = "r"
        signal = "s"
        warn = [{ read = "value", above = 2, clear = 1 }, { read = "surprise", above = 3, clear = 1, hold = "3s" }]
        page = [{ read = "value", above = 4, clear = 2, hold = "2s" }]
        keep_firing = "4s"
        least_sample = 2
    "#;
    Rules::parse("r.toml", text, &["s"])
        .unwrap()
        .get(0)
        .unwrap()
        .clone()
}

fn readings() -> impl Strategy<Value = Vec<(i64, Reading)>> {
    let number = prop_oneof![8 => (0..6_i32).prop_map(f64::from), 1 => Just(f64::NAN)];
    let state = prop_oneof![
        8 => Just(ReadingState::Ok),
        1 => Just(ReadingState::Insufficient),
        1 => Just(ReadingState::Unknown)
    ];
    let reading =
        (state, number.clone(), number, 1..8_u64).prop_map(|(state, value, surprise, n)| Reading {
            state,
            surprise,
            ..Reading::exact(value, n)
        });
    prop::collection::vec((-1_000..3_000_i64, reading), 1..80)
}

/// Judges the readings, each so much later, and returns each with what it wrote.
fn run(rule: &Rule, readings: &[(i64, Reading)]) -> Vec<(Reading, Option<Transition>)> {
    let entity = Entity::one(Kind::SKU, "A1");
    let mut alert = Alert::default();
    let mut at_ms = 0;
    let mut steps = Vec::new();
    for (offset, (later_ms, reading)) in readings.iter().enumerate() {
        at_ms += later_ms;
        let origin = Origin {
            partition: 0,
            offset: offset as u64,
        };
        let before = alert.state();
        let step = alert.judge(rule, &entity, reading, at_ms, origin);
        if let Some(step) = &step {
            let shown = if step.to == State::Resolved {
                State::Inactive
            } else {
                step.to
            };
            assert_eq!(alert.state(), shown);
            let silent = before == State::Pending && step.from == State::Inactive;
            assert!(step.from == before || silent);
        }
        if let Some(due_ms) = alert.next_due_ms(rule) {
            assert!(due_ms > at_ms, "due at {due_ms}, judged at {at_ms}");
        }
        steps.push((*reading, step));
    }
    steps
}

fn is_known(reading: &Reading) -> bool {
    let numbers = [
        reading.value,
        reading.lower,
        reading.upper,
        reading.surprise,
    ];
    reading.state == ReadingState::Ok && !numbers.iter().any(|x| x.is_nan())
}

proptest! {
    #[test]
    fn only_a_known_reading_fires_or_resolves(readings in readings()) {
        for (reading, step) in run(&rule(), &readings) {
            if let Some(step) = step {
                prop_assert_eq!(step.to == State::Unknown, !is_known(&reading));
                prop_assert!(reading.n >= 2 || step.to == State::Unknown);
            }
        }
    }

    #[test]
    fn episodes_follow_one_another_and_severity_never_falls(readings in readings()) {
        let mut open: Option<Transition> = None;
        let mut ids = HashSet::new();
        for step in run(&rule(), &readings).into_iter().filter_map(|(_, step)| step) {
            match &open {
                None => {
                    prop_assert!(matches!(step.from, State::Inactive | State::Pending));
                    prop_assert_eq!(step.to, State::Firing);
                    prop_assert!(ids.insert(step.episode.clone()), "an id came twice");
                }
                Some(last) => {
                    prop_assert_eq!(&step.episode, &last.episode);
                    prop_assert_eq!(step.from, last.to);
                    prop_assert!(step.severity >= last.severity);
                    prop_assert!(step.at_ms >= last.at_ms);
                    prop_assert!(step.peak >= last.peak || step.severity > last.severity);
                    prop_assert!(step.from != step.to || step.severity > last.severity);
                }
            }
            prop_assert_eq!(step.resolved_at_ms.is_some(), step.to == State::Resolved);
            prop_assert!(step.fired_at_ms.is_some_and(|fired| fired >= step.pending_at_ms));
            open = (step.to != State::Resolved).then_some(step);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_steps(readings in readings()) {
        let once = run(&rule(), &readings).into_iter().filter_map(|(_, step)| step);
        let again = run(&rule(), &readings).into_iter().filter_map(|(_, step)| step);
        prop_assert!(once.eq(again));
    }

    /// The naive model: hold and severity from the whole past of the readings, each time anew.
    #[test]
    fn it_fires_when_a_limit_has_been_held(values in prop::collection::vec(0..6_i32, 1..40)) {
        let readings: Vec<_> =
            values.iter().map(|value| (1_000, Reading::exact(f64::from(*value), 5))).collect();
        let first = run(&rule(), &readings).into_iter().position(|(_, step)| step.is_some());
        prop_assert_eq!(first, values.iter().position(|value| *value > 2));
        let paged = run(&rule(), &readings)
            .into_iter()
            .position(|(_, step)| step.is_some_and(|step| step.severity == Severity::Page));
        let held = values.windows(3).position(|three| three.iter().all(|value| *value > 4));
        prop_assert_eq!(paged, held.map(|start| start + 2));
    }
}
