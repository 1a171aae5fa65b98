//! Every check sees the fault that it is there for, and nothing in a good run.

use serde_json::json;

use super::*;
use crate::chaos::plan::Trouble;
use crate::chaos::shown::Available;
use crate::chaos::traffic::Told;
use crate::oracle::Count;
use crate::webhook::Hook;

fn transition(episode: &str, from: &str, to: &str) -> Value {
    json!({"version": 1, "transition": {
        "episode": episode, "rule": "price-floor", "entity": {"kind": "sku", "sku": "dip-0000"},
        "from": from, "to": to, "pending_at_ms": 5,
    }})
}

fn intent(id: &str, channel: &str, action: &str) -> Value {
    json!({"intent": {
        "delivery_id": id, "channel": channel, "action": action, "severity": "page",
        "alert": {"episode": "e1"},
    }})
}

fn outcome(id: &str) -> Value {
    json!({"outcome": {"delivery_id": id, "delivered": true}})
}

fn event(key: &str, action: &str) -> Value {
    json!({
        "dedup_key": key, "event_action": action, "payload": {"component": "sku=dip-0000"},
    })
}

fn hook(id: &str, kind: &str) -> Hook {
    Hook {
        id: id.to_owned(),
        kind: kind.to_owned(),
        data: json!({"dedup_key": "e1"}),
        at_ms: 0,
    }
}

fn letter(reason: &str, offset: &str) -> Record {
    let headers = [
        ("reason", reason),
        ("topic", "shop.orders"),
        ("partition", "3"),
        ("offset", offset),
    ];
    Record {
        offset: 0,
        at_ms: 0,
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        value: String::new(),
    }
}

/// A run in which one sku had one trouble and all went well.
fn good() -> (Ledger, Found) {
    let count = Count {
        orders: 3,
        units: 4,
        ..Count::default()
    };
    let mut sold = Counted {
        all: count,
        ..Counted::default()
    };
    sold.skus.insert("dip-0000".to_owned(), count);
    let ledger = Ledger {
        sold: sold.clone(),
        available: [("dip-0000".to_owned(), 7)].into(),
        wrong: 1,
        late: 1,
        messages: [("shop.orders", 5)].into(),
        troubles: [(
            "dip-0000".to_owned(),
            Told {
                trouble: Trouble::Dip,
                from_ms: 0,
                to_ms: 1,
            },
        )]
        .into(),
        ..Ledger::default()
    };
    let row = json!({"id": "e1", "name": "sku=dip-0000", "state": "resolved"});
    let found = Found {
        shown: Shown {
            sold,
            available: [("dip-0000".to_owned(), Available::new(7.0))].into(),
            episodes: vec![vec![row]],
            ..Shown::default()
        },
        alerts: vec![
            transition("e1", "pending", "firing"),
            transition("e1", "firing", "recovering"),
            transition("e1", "recovering", "resolved"),
        ],
        deliveries: vec![
            intent("d1", "pager", "trigger"),
            intent("d2", "hook", "trigger"),
            outcome("d1"),
            outcome("d2"),
            intent("d3", "pager", "resolve"),
            intent("d4", "hook", "resolve"),
            outcome("d3"),
            outcome("d4"),
        ],
        unseen: BTreeSet::new(),
        letters: vec![letter("late", "1"), letter("wrong_topic", "2")],
        messages: [("shop.orders", 5)].into(),
        pager: pagerduty::Seen {
            taken: vec![event("e1", "trigger"), event("e1", "resolve")],
            ..pagerduty::Seen::default()
        },
        hook: webhook::Seen {
            taken: vec![hook("d2", "alert.firing"), hook("d4", "alert.resolved")],
            ..webhook::Seen::default()
        },
    };
    (ledger, found)
}

/// The names of the checks that fail after something was broken.
fn failing(broken: impl FnOnce(&mut Ledger, &mut Found)) -> Vec<&'static str> {
    let (mut ledger, mut found) = good();
    broken(&mut ledger, &mut found);
    let checks = checks(&ledger, &found);
    let failing = checks.iter().filter(|check| !check.problems.is_empty());
    failing.map(|check| check.name).collect()
}

/// What is broken, and the check that must tell.
type Break = (&'static str, fn(&mut Ledger, &mut Found));

#[test]
fn a_good_run_is_good_and_repeats_under_one_key_are_no_fault() {
    assert_eq!(failing(|_, _| {}), [""; 0]);
    let repeated = |_: &mut Ledger, found: &mut Found| {
        found.pager.taken.insert(1, event("e1", "trigger"));
        found.hook.taken.push(hook("d2", "alert.firing"));
        assert_eq!(
            repeats(found),
            Repeats {
                repeated: 2,
                after_resolve: 1,
                given_up: 0
            }
        );
    };
    assert_eq!(failing(repeated), [""; 0]);
}

#[test]
fn every_fault_is_seen() {
    const BREAKS: [Break; 23] = [
        ("sent", |_, found| {
            found.messages.insert("shop.orders", 4);
        }),
        ("totals", |_, found| found.shown.sold.all.orders += 1),
        ("totals", |ledger, _| ledger.sold.all.units += 1),
        ("totals", |_, found| found.shown.sold.skus.clear()),
        ("levels", |ledger, _| {
            ledger.available.insert("dip-0000".to_owned(), 8);
        }),
        ("levels", |_, found| found.shown.available.clear()),
        ("set aside", |_, found| {
            let again = found.letters[1].clone();
            found.letters.push(again);
        }),
        ("set aside", |_, found| {
            found.letters.pop();
        }),
        ("skipped", |_, found| found.shown.holes = 1.0),
        // Decided twice: a step again, one out of order, one out of nothing, one after the
        // end, and a second episode.
        ("decided twice", |_, found| {
            let again = found.alerts[0].clone();
            found.alerts.insert(1, again);
        }),
        ("decided twice", |_, found| found.alerts.swap(1, 2)),
        ("decided twice", |_, found| {
            found.alerts.remove(0);
        }),
        ("decided twice", |_, found| {
            found.alerts.push(transition("e1", "resolved", "firing"));
        }),
        ("decided twice", |_, found| {
            found
                .alerts
                .insert(1, transition("e2", "pending", "firing"));
        }),
        ("every trouble", |_, found| found.alerts.clear()),
        ("every trouble", |ledger, _| ledger.troubles.clear()),
        ("every trouble", |_, found| {
            found.unseen.insert("dip-0000".to_owned());
            found.alerts.pop();
        }),
        ("shown of an episode", |_, found| {
            found.shown.episodes[0][0]["state"] = json!("firing");
        }),
        ("decided once", |_, found| {
            found.deliveries.push(intent("d5", "pager", "trigger"));
            found.deliveries.push(outcome("d5"));
        }),
        ("decided once", |_, found| {
            found.deliveries.push(outcome("d4"));
        }),
        ("decided once", |_, found| {
            found.deliveries.pop();
        }),
        ("arrived", |_, found| {
            found.hook.taken.pop();
        }),
        ("arrived", |_, found| {
            found.pager.taken.push(event("e2", "trigger"));
        }),
    ];
    for (number, (name, broken)) in BREAKS.into_iter().enumerate() {
        let failing = failing(broken);
        assert!(
            failing.iter().any(|check| check.contains(name)),
            "{number}: {name} was not among {failing:?}"
        );
    }
}

#[test]
fn a_run_is_settled_when_all_is_over_and_told() {
    let (_, found) = good();
    assert!(is_settled(&found.alerts, &found.deliveries));
    let last = found.deliveries.len() - 1;
    assert!(!is_settled(&found.alerts, &found.deliveries[..last]));
    assert!(!is_settled(&found.alerts[..2], &found.deliveries));
}
