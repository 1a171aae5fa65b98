//! Readings in, states and transitions out, as tables.
//!
//! A row is `time reading | state, what was written, when to judge again`. The table is run and
//! rewritten with what came out; a difference is shown whole.

use std::fmt::Write as _;

use fenghuo_alert::{Alert, Origin, Rule, Rules, Transition};
use fenghuo_signal::{Entity, Kind, Reading};

fn rule(keys: &str) -> Rule {
    let text = format!("[[rule]]\nname = \"r\"\nsignal = \"s\"\n{keys}");
    let rules = Rules::parse("test.toml", &text, &["s"]).unwrap();
    rules.get(0).unwrap().clone()
}

fn seconds(text: &str) -> i64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

/// `value=0.5 surprise=7 n=3`, `unknown`, `insufficient value=1`.
fn reading(text: &str) -> Reading {
    let mut reading = Reading::exact(0.0, 1_000);
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("value", x)) => reading.value = x.parse().unwrap(),
            Some(("lower", x)) => reading.lower = x.parse().unwrap(),
            Some(("upper", x)) => reading.upper = x.parse().unwrap(),
            Some(("surprise", x)) => reading.surprise = x.parse().unwrap(),
            Some(("n", x)) => reading.n = x.parse().unwrap(),
            None if word == "unknown" => reading = Reading::unknown(),
            None if word == "insufficient" => reading = reading.insufficient(),
            _ => panic!("{word} is no part of a reading"),
        }
    }
    reading
}

fn run(rule: &Rule, story: &str) -> (String, Vec<Transition>) {
    let entity = Entity::one(Kind::CAMPAIGN, "d11");
    let mut alert = Alert::default();
    let (mut out, mut transitions) = (String::new(), Vec::new());
    for (row, line) in story
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        let said = line.split_once('|').unwrap().0.trim();
        let (time, words) = said.split_once(' ').unwrap();
        let origin = Origin {
            partition: 0,
            offset: row as u64,
        };
        let step = alert.judge(
            rule,
            &entity,
            &reading(words),
            seconds(time) * 1_000,
            origin,
        );
        write!(out, "{said} | {}", alert.state().as_str()).unwrap();
        if let Some(step) = step {
            let (from, to) = (step.from.as_str(), step.to.as_str());
            write!(
                out,
                ", {from}>{to} {} peak {}",
                step.severity.as_str(),
                step.peak
            )
            .unwrap();
            transitions.push(step);
        }
        if let Some(due_ms) = alert.next_due_ms(rule) {
            write!(out, ", due {}s", due_ms / 1_000).unwrap();
        }
        out.push('\n');
    }
    (out, transitions)
}

#[track_caller]
fn check(keys: &str, story: &str) -> Vec<Transition> {
    let (actual, transitions) = run(&rule(keys), story);
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    let expected: String = lines
        .map(|line| {
            let (said, came) = line.split_once('|').unwrap();
            format!("{} | {}\n", said.trim(), came.trim())
        })
        .collect();
    assert_eq!(actual, expected, "\n{actual}");
    transitions
}

#[test]
fn a_hold_is_without_a_break_and_keep_firing_too() {
    let steps = check(
        r#"warn = [{ read = "value", below = 0.8, clear = 0.9 }]
           hold = "60s"
           keep_firing = "600s""#,
        "0s    value=1    | inactive
         10s   value=0.7  | pending, due 70s
         40s   value=0.85 | inactive
         50s   value=0.7  | pending, due 110s
         109s  value=0.6  | pending, due 110s
         110s  value=0.7  | firing, pending>firing warn peak 0.6
         120s  value=0.5  | firing
         130s  value=0.85 | firing
         140s  value=0.9  | recovering, firing>recovering warn peak 0.5, due 740s
         200s  value=0.85 | recovering
         300s  value=0.95 | recovering, due 900s
         400s  value=0.79 | firing, recovering>firing warn peak 0.5
         500s  value=1    | recovering, firing>recovering warn peak 0.5, due 1100s
         1100s value=1    | inactive, recovering>resolved warn peak 0.5
         1101s value=0.7  | pending, due 1161s",
    );
    assert!(steps.iter().all(|step| step.episode == steps[0].episode));
    assert!(steps.iter().all(|step| step.pending_at_ms == 50_000));
    assert!(steps.iter().all(|step| step.fired_at_ms == Some(110_000)));
    let resolved: Vec<_> = steps.iter().map(|step| step.resolved_at_ms).collect();
    assert_eq!(resolved, [None, None, None, None, Some(1_100_000)]);
    assert_eq!(steps[0].campaign.as_deref(), Some("d11"));
}

#[test]
fn without_a_hold_it_fires_at_once_and_without_keep_firing_it_is_over_at_once() {
    let steps = check(
        r#"page = [{ read = "value", below = 1 }]"#,
        "0s value=1    | inactive
         1s value=0.99 | firing, inactive>firing page peak 0.99
         2s value=1    | inactive, firing>resolved page peak 0.99
         3s value=0.5  | firing, inactive>firing page peak 0.5",
    );
    assert_eq!(steps[0].pending_at_ms, 1_000);
    assert_eq!(steps[0].fired_at_ms, Some(1_000));
    assert_ne!(steps[0].episode, steps[2].episode);
}

#[test]
fn severity_rises_within_the_episode_and_each_limit_has_its_own_hold() {
    let steps = check(
        r#"warn = [{ read = "value", below = 0.8, clear = 0.9 }, { read = "surprise", above = 3, clear = 1.5, hold = "60s" }]
           page = [{ read = "surprise", above = 6, clear = 3, hold = "10s" }]
           keep_firing = "60s""#,
        "0s   value=1 surprise=7   | pending, due 10s
         5s   value=1 surprise=4   | pending, due 60s
         60s  value=1 surprise=4   | firing, pending>firing warn peak 7
         70s  value=0.5 surprise=9 | firing, due 80s
         80s  value=0.5 surprise=9 | firing, firing>firing page peak 9
         90s  value=1 surprise=4   | firing
         100s value=1 surprise=1   | recovering, firing>recovering page peak 9, due 160s
         110s value=0.7 surprise=1 | firing, recovering>firing page peak 9
         120s value=1 surprise=1   | recovering, firing>recovering page peak 9, due 180s
         180s value=1 surprise=1   | inactive, recovering>resolved page peak 9",
    );
    assert!(steps.iter().all(|step| step.episode == steps[0].episode));
}

#[test]
fn a_page_limit_that_was_never_reached_must_only_not_be_beyond() {
    check(
        r#"warn = [{ read = "value", above = 10, clear = 5 }]
           page = [{ read = "lower", above = 10, clear = 1, hold = "60s" }]"#,
        "0s value=11 lower=0  | firing, inactive>firing warn peak 11
         1s value=4 lower=11  | firing, due 61s
         2s value=4 lower=9   | inactive, firing>resolved warn peak 11",
    );
}

#[test]
fn unknown_is_never_resolved_and_recovery_starts_anew() {
    check(
        r#"warn = [{ read = "value", above = 10, clear = 5 }]
           keep_firing = "60s""#,
        "0s    unknown   | inactive
         1s    value=11  | firing, inactive>firing warn peak 11
         2s    unknown   | unknown, firing>unknown warn peak 11
         3s    value=NaN | unknown
         900s  unknown   | unknown
         901s  value=7   | firing, unknown>firing warn peak 11
         902s  value=4   | recovering, firing>recovering warn peak 11, due 962s
         950s  unknown   | unknown, recovering>unknown warn peak 11
         970s  value=7   | recovering, unknown>recovering warn peak 11
         971s  unknown   | unknown, recovering>unknown warn peak 11
         980s  value=5   | recovering, unknown>recovering warn peak 11, due 1040s
         990s  unknown   | unknown, recovering>unknown warn peak 11
         1000s value=12  | firing, unknown>firing warn peak 12",
    );
}

#[test]
fn time_unknown_is_no_clear_time() {
    check(
        r#"warn = [{ read = "value", above = 10, clear = 5 }]
           keep_firing = "60s""#,
        "0s   value=11 | firing, inactive>firing warn peak 11
         10s  value=1  | recovering, firing>recovering warn peak 11, due 70s
         20s  unknown  | unknown, recovering>unknown warn peak 11
         80s  value=1  | recovering, unknown>recovering warn peak 11, due 140s
         140s value=1  | inactive, recovering>resolved warn peak 11",
    );
}

#[test]
fn what_was_not_seen_was_not_held() {
    check(
        r#"warn = [{ read = "value", above = 10 }]
           hold = "60s""#,
        "0s   value=11 | pending, due 60s
         30s  unknown  | pending
         70s  value=11 | pending, due 130s
         130s value=11 | firing, pending>firing warn peak 11",
    );
}

#[test]
fn an_insufficient_reading_changes_nothing() {
    check(
        r#"warn = [{ read = "value", above = 10, clear = 5 }]
           hold = "60s"
           keep_firing = "60s"
           least_sample = 30"#,
        "0s   value=11 n=29         | inactive
         1s   insufficient value=11 | inactive
         2s   value=11 n=30         | pending, due 62s
         30s  value=0 n=29          | pending
         70s  value=11 n=30         | firing, pending>firing warn peak 11
         80s  value=0 n=29          | firing
         90s  value=0 n=30          | recovering, firing>recovering warn peak 11, due 150s
         100s value=99 n=29         | recovering
         160s value=0 n=0           | recovering
         170s value=0 n=30          | inactive, recovering>resolved warn peak 11",
    );
}

#[test]
fn time_does_not_go_back() {
    let steps = check(
        r#"warn = [{ read = "value", above = 10 }]
           hold = "60s""#,
        "100s value=11 | pending, due 160s
         0s   value=11 | pending, due 160s
         160s value=11 | firing, pending>firing warn peak 11
         120s value=1  | inactive, firing>resolved warn peak 11",
    );
    assert_eq!(steps[1].at_ms, 160_000);
}

/// Guards against an id that repeats when an episode ends and the next begins in one commit.
#[test]
fn an_end_and_a_beginning_in_one_millisecond_have_two_ids() {
    let rule = rule(r#"page = [{ read = "value", below = 1 }]"#);
    let entity = Entity::one(Kind::SKU, "A1");
    let origin = Origin {
        partition: 3,
        offset: 9,
    };
    let mut alert = Alert::default();
    let mut judge = |value| alert.judge(&rule, &entity, &Reading::exact(value, 1), 1_000, origin);
    let (first, over, second) = (judge(0.5), judge(1.5), judge(0.5));
    let (first, over, second) = (first.unwrap(), over.unwrap(), second.unwrap());
    assert_eq!(first.episode, over.episode);
    assert_ne!(second.episode, first.episode);
    assert_eq!(second.at_ms, 1_001);
    assert_eq!(alert.episode(), Some(second.episode.as_str()));
}

/// The id is a promise to everyone who stored one: this is what it was when it was first made.
#[test]
fn the_id_of_an_episode_never_changes() {
    let rule = rule(r#"page = [{ read = "value", below = 1 }]"#);
    let entity = Entity::pair(Kind::COURIER_LANE, "SF", "BJ>SH");
    let step = |entity: &Entity, at_ms, partition, offset| {
        let reading = Reading::exact(0.0, 1);
        let mut alert = Alert::default();
        alert
            .judge(&rule, entity, &reading, at_ms, Origin { partition, offset })
            .unwrap()
            .episode
    };
    let id = step(&entity, 1_000, 1, 2);
    assert_eq!(id, "1bd21f477a8add77124469c48adfda47");
    for other in [
        step(&Entity::one(Kind::COURIER, "SF"), 1_000, 1, 2),
        step(&entity, 1_001, 1, 2),
        step(&entity, 1_000, 2, 2),
        step(&entity, 1_000, 1, 3),
    ] {
        assert_ne!(other, id);
    }
}

#[test]
fn a_row_goes_on_after_a_restart_and_after_an_edit_of_its_rule() {
    let before = rule(r#"warn = [{ read = "value", above = 10 }]"#);
    let entity = Entity::one(Kind::SKU, "A1");
    let mut alert = Alert::default();
    let fired = alert.judge(
        &before,
        &entity,
        &Reading::exact(11.0, 1),
        0,
        Origin::default(),
    );
    let row = serde_json::to_string(&alert).unwrap();
    let mut alert: Alert = serde_json::from_str(&row).unwrap();
    let after = rule(
        r#"warn = [{ read = "lower", above = 20 }]
           page = [{ read = "value", above = 20 }]"#,
    );
    let over = alert.judge(
        &after,
        &entity,
        &Reading::exact(11.0, 1),
        5,
        Origin::default(),
    );
    let (fired, over) = (fired.unwrap(), over.unwrap());
    assert_eq!(over.episode, fired.episode);
    assert_eq!(over.to, fenghuo_alert::State::Resolved);
    assert!(alert.is_idle(6) && !alert.is_idle(5));
}

#[test]
fn a_transition_survives_json() {
    let rule = rule(
        r#"page = [{ read = "value", above = 10 }]
           labels = { area = "stock" }
           playbook = "p"
           owner_role = "o""#,
    );
    let entity = Entity::one(Kind::CAMPAIGN, "d11");
    let reading = Reading {
        value: f64::INFINITY,
        ..Reading::exact(1.0, 1)
    };
    let step = Alert::default()
        .judge(&rule, &entity, &reading, 7, Origin::default())
        .unwrap();
    let json = serde_json::to_string(&step).unwrap();
    assert_eq!(serde_json::from_str::<Transition>(&json).unwrap(), step);
    insta::assert_snapshot!(serde_json::to_string_pretty(&step).unwrap());
}
