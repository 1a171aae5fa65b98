//! Pages of the view against the whole lists that they are pages of.

use std::sync::Arc;

use fenghuo_alert::State;

use super::*;

fn reading(state: ReadingState, value: f64, n: u64) -> Published {
    let reading = Reading {
        state,
        value,
        lower: value,
        upper: value,
        surprise: 0.0,
        n,
    };
    Published { reading, at_ms: 7 }
}

fn sku(number: usize) -> Entity {
    Entity::one(Kind::SKU, &format!("s{number:03}"))
}

/// Readings of two signals about a hundred skus, and the orders of every second one.
fn view() -> View {
    let view = View::new();
    for number in 0..100 {
        let state = match number % 10 {
            8 => ReadingState::Insufficient,
            9 => ReadingState::Unknown,
            _ => ReadingState::Ok,
        };
        let published = reading(state, number as f64, 1000 - number as u64);
        view.publish_reading(&"stock.hours_of_cover".into(), sku(number), published);
        view.publish_reading(&"price.floor".into(), sku(number), published);
        if number % 2 == 0 {
            let orders = 10_000 + number as i64;
            let totals = Totals {
                orders,
                ..Totals::default()
            };
            view.publish_totals(sku(number), totals);
        }
    }
    view
}

fn transition(number: usize, severity: Severity, to: State) -> Transition {
    Transition {
        episode: format!("e{:04}", (number * 7919) % 10_000),
        rule: format!("rule-{}", number % 30),
        signal: "price.floor".to_owned(),
        entity: sku(number),
        from: State::Pending,
        to,
        severity,
        at_ms: number as i64,
        pending_at_ms: (number / 3) as i64,
        fired_at_ms: None,
        resolved_at_ms: None,
        reading: reading(ReadingState::Ok, 1.0, 1).reading,
        peak: 1.0,
        playbook: None,
        owner_role: None,
        labels: Arc::default(),
        summary: String::new(),
        campaign: None,
    }
}

#[test]
fn pages_of_readings_are_the_whole_list() {
    let view = view();
    let whole = view.readings_of("price.floor");
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map(|(entity, _): &(Entity, Published)| entity);
        let page = view.readings_after("price.floor", after, 7, &|_| true);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    assert_eq!(view.readings_count("price.floor"), 100);
    assert_eq!(view.readings_count("no.such"), 0);
}

#[test]
fn a_summary_names_the_traffic_and_adds_up_the_rest() {
    let summary = view().summary("price.floor", 3);
    let counts = summary.counts.map(|(_, count)| count);
    assert_eq!(counts, [80, 10, 10]);
    let named: Vec<_> = summary
        .top
        .iter()
        .map(|(entity, _)| entity.clone())
        .collect();
    // 98 is insufficient.
    assert_eq!(named, [sku(96), sku(94), sku(92)]);
    assert_eq!(summary.rest.0, 77);
    let all: f64 = (0..100).filter(|n| n % 10 < 8).sum::<usize>() as f64;
    assert_eq!(summary.rest.1, all - 282.0);
}

#[test]
fn ranked_readings_are_those_of_a_whole_sort() {
    let view = view();
    let rank = |_: &Entity, reading: &Reading| {
        (reading.state == ReadingState::Ok).then_some((-reading.value, reading.n))
    };
    let found = view.readings_ranked("price.floor", 3, &rank);
    let names: Vec<_> = found.into_iter().map(|(entity, _)| entity).collect();
    assert_eq!(names, [sku(0), sku(1), sku(2)]);
    let mut numbers = [f64::NAN, 1.5, -2.0, f64::INFINITY, -0.5, f64::NEG_INFINITY];
    numbers.sort_by_key(|number| ordered(*number));
    assert!(numbers[0].is_nan());
    assert_eq!(
        numbers[1..],
        [f64::NEG_INFINITY, -2.0, -0.5, 1.5, f64::INFINITY]
    );
}

#[test]
fn pages_of_alerts_and_episodes_are_the_whole_lists() {
    let view = View::new();
    for number in 0..300 {
        let severity = [Severity::Warn, Severity::Page][number % 2];
        let to = [State::Firing, State::Firing, State::Resolved][number % 3];
        view.publish_transition(transition(number, severity, to));
    }
    let mut alerts: Vec<Transition> = Vec::new();
    loop {
        let after = alerts.last().map(alert_place);
        let page = view.open_after(after.as_ref(), 11);
        if page.is_empty() {
            break;
        }
        alerts.extend(page);
    }
    assert_eq!(alerts, view.open());
    assert_eq!(alerts.len(), view.open_count());

    let mut episodes: Vec<Transition> = Vec::new();
    loop {
        let after = episodes.last().map(episode_place);
        let (page, count) = view.episodes_after(after.as_ref(), 11);
        assert_eq!(count, 300);
        if page.is_empty() {
            break;
        }
        episodes.extend(page);
    }
    assert_eq!(episodes.len(), 300);
    assert!(episodes.is_sorted_by(|a, b| episode_place(a) < episode_place(b)));
    assert_eq!(view.closed_newest(5)[..], view.closed()[..5]);
}

#[test]
fn a_storm_of_one_rule_does_not_hide_another() {
    let view = View::new();
    for number in 0..500 {
        let mut one = transition(number, Severity::Page, State::Firing);
        one.rule = "storm".to_owned();
        view.publish_transition(one);
    }
    let mut alone = transition(0, Severity::Page, State::Firing);
    (alone.rule, alone.episode) = ("alone".to_owned(), "alone".to_owned());
    view.publish_transition(alone);
    let groups = view.open_groups(24, 4);
    let shape: Vec<_> = groups
        .iter()
        .map(|group| (group.rule.as_str(), group.open, group.newest.len()))
        .collect();
    assert_eq!(shape, [("storm", 500, 4), ("alone", 1, 1)]);
    assert_eq!(view.open_groups(1, 4).len(), 1);
}

#[test]
fn what_is_refused_early_is_counted_once() {
    let view = View::new();
    view.count_refused(None, "malformed", 3);
    view.count_refused(Some(fenghuo_event::Stream::Orders), "other_shop", 2);
    assert_eq!(view.refused_unknown(), 3);
    assert_eq!(view.dead_letters(), [("malformed", 3), ("other_shop", 2)]);
    let orders = (
        fenghuo_event::Stream::Orders,
        super::super::Outcome::Rejected,
        2,
    );
    assert_eq!(view.events(), [orders]);
}
