//! A catalogue that changes while the history goes on: what was not counted yet is unknown, never zero.

mod shop;

use std::sync::Arc;

use fenghuo_alert::{Rules, State};
use fenghuo_engine::record::topic;
use fenghuo_engine::{Outcome, Set, View};
use fenghuo_event::{Stream, pb};
use fenghuo_log::{Log as _, TopicPartition};
use fenghuo_signal::catalogue::File;
use fenghuo_signal::{Catalogue, Entity, Kind, ReadingState};

use shop::*;

const RULES: &str = r#"
[[rule]]
name = "refused"
signal = "payment.refused"
page = [{ read = "value", above = 0.3, clear = 0.2 }]
least_sample = 20
keep_firing = "1m"
"#;

/// Refused payments by channel, of those whose error begins like this.
fn refused(begins: &str) -> Arc<Catalogue> {
    let text = format!(
        r#"
[[measure]]
name = "payment"
about = "Payments tried, and refused."
stream = "orders"
when = 'type in ["PAID", "PAYMENT_FAILED"]'
by = ["channel"]
keep = [{{ pane = "10s", for = "15m" }}]
columns.tried = {{ count = 'true' }}
columns.refused = {{ count = 'type == "PAYMENT_FAILED" && error_code.startsWith("{begins}")' }}

[[signal]]
name = "payment.refused"
about = "share of payments that were refused"
unit = "share"
by = ["channel"]
judge = "10s"
estimate = {{ share = "payment.refused / payment.tried", window = "5m" }}
"#
    );
    let file = File {
        name: "shop.toml".to_owned(),
        text,
    };
    Arc::new(Catalogue::compile(&[file]).unwrap_or_else(|wrong| panic!("{wrong}")))
}

/// Goes on with another catalogue.
fn restart(shop: &mut Shop, catalogue: &Arc<Catalogue>) {
    shop.goes_by(set(catalogue));
    shop.restart();
}

/// The set of a catalogue, with the built-in rules and, where it has the signal, its own.
fn set(catalogue: &Arc<Catalogue>) -> Set {
    let names = catalogue.signal_names();
    let rules = Rules::builtin(&names).unwrap();
    let rules = match names.contains(&"payment.refused") {
        true => rules.with("rules.toml", RULES, &names).unwrap(),
        false => rules,
    };
    Set::new(Arc::clone(catalogue), Arc::new(rules))
}

/// One payment a second, every other one refused for an expired coupon.
fn sell(shop: &mut Shop, seconds: u64) {
    for second in 0..seconds {
        let kind = match second % 2 {
            0 => pb::order::Type::Paid,
            _ => pb::order::Type::PaymentFailed,
        };
        let id = format!("o{}-{second}", shop.now_ms);
        let pb::event::Body::Order(mut body) = order(kind, &id, "mug", 1, 2_000) else {
            unreachable!("an order is one");
        };
        body.channel = "app".to_owned();
        if kind == pb::order::Type::PaymentFailed {
            body.error_code = "COUPON_EXPIRED".to_owned();
        }
        shop.send(Stream::Orders, pb::event::Body::Order(body));
        shop.pass(1);
    }
}

fn reading(shop: &Shop) -> Option<(ReadingState, f64)> {
    let app = Entity::one(Kind::CHANNEL, "app");
    let published = shop.topology.view().reading("payment.refused", &app)?;
    Some((published.reading.state, published.reading.value))
}

fn alerts(shop: &Shop) -> Vec<(String, State)> {
    let open = shop.topology.view().open().into_iter();
    let refused = open.filter(|last| last.rule == "refused");
    refused.map(|last| (last.episode, last.to)).collect()
}

#[test]
fn a_measure_is_unknown_until_its_window_was_counted() {
    // Of checkpoints of every age, so that the old and the new meet in one restart.
    for checkpoint_ms in [64_000, 640_000] {
        let mut shop = Shop::open_as(fenghuo_engine::TopologyConfig {
            checkpoint_ms: Some(checkpoint_ms),
            ..config()
        });
        sell(&mut shop, 600);
        assert_eq!(reading(&shop), None);

        // The shop's own file is new.
        let all = refused("COUPON");
        restart(&mut shop, &all);
        sell(&mut shop, 120);
        let (state, _) = reading(&shop).unwrap();
        assert_eq!(state, ReadingState::Unknown, "{checkpoint_ms:?}");
        assert_eq!(alerts(&shop), []);
        sell(&mut shop, 240);
        let (state, share) = reading(&shop).unwrap();
        assert_eq!(state, ReadingState::Ok);
        assert!((share - 0.5).abs() < 0.02, "{share}");
        let open = alerts(&shop);
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].1, State::Firing);

        // The same file after a restart goes on as if there had been none.
        restart(&mut shop, &all);
        sell(&mut shop, 20);
        assert_eq!(reading(&shop).unwrap().0, ReadingState::Ok);
        assert_eq!(alerts(&shop), open);

        // It counts something else now: nothing of it is known, and nothing is resolved by that.
        restart(&mut shop, &refused("CARD"));
        sell(&mut shop, 120);
        assert_eq!(reading(&shop).unwrap().0, ReadingState::Unknown);
        let now = alerts(&shop);
        let expected = (&open[0].0, State::Unknown);
        assert_eq!((&now[0].0, now[0].1), expected, "{checkpoint_ms}");
        sell(&mut shop, 360);
        assert_eq!(reading(&shop).unwrap(), (ReadingState::Ok, 0.0));
        assert_eq!(alerts(&shop), []);

        // Going back is no way to have counted it meanwhile.
        restart(&mut shop, &all);
        sell(&mut shop, 120);
        assert_eq!(reading(&shop).unwrap().0, ReadingState::Unknown);
        sell(&mut shop, 240);
        assert_eq!(reading(&shop).unwrap().0, ReadingState::Ok);
        let again = alerts(&shop);
        assert_eq!(again.len(), 1);
        assert_ne!(again[0].0, open[0].0);

        // Without the file its rule is gone, and what it paged about ends.
        restart(&mut shop, &Catalogue::built_in());
        sell(&mut shop, 20);
        assert_eq!(alerts(&shop), []);
    }
}

#[test]
fn a_measure_that_was_there_from_the_first_record_on_is_known_at_once() {
    let mut shop = Shop::open();
    restart(&mut shop, &refused("COUPON"));
    sell(&mut shop, 60);
    assert_eq!(reading(&shop).unwrap().0, ReadingState::Ok);
}

/// Every transition that the log holds, as JSON.
fn said(shop: &Shop) -> Vec<String> {
    let mut said = Vec::new();
    let mut session = shop
        .log
        .open(&fenghuo_log::SessionSpec {
            group: "reader".to_owned(),
            member: "reader".to_owned(),
            topics: Vec::new(),
            start: fenghuo_log::Start::Earliest,
            low_latency: false,
        })
        .unwrap();
    let of = TopicPartition::new(topic::ALERTS, 0);
    let mut each = |record: fenghuo_log::Record<'_>| {
        let value = record.value.unwrap_or_default();
        said.push(String::from_utf8_lossy(value).into_owned());
    };
    session.read(&of, 0, u64::MAX, &mut each).unwrap();
    said
}

#[test]
fn a_set_is_taken_up_while_it_runs_and_a_fold_from_the_beginning_meets_it_where_it_was() {
    let mut shop = Shop::open_as(fenghuo_engine::TopologyConfig {
        checkpoint_ms: None,
        ..config()
    });
    shop.goes_by(set(&refused("COUPON")));
    shop.restart();
    sell(&mut shop, 360);
    assert_eq!(alerts(&shop).len(), 1);
    // Another measure under the same name, and then none at all: without a restart.
    shop.goes_by(set(&refused("CARD")));
    sell(&mut shop, 120);
    assert_eq!(reading(&shop).unwrap().0, ReadingState::Unknown);
    sell(&mut shop, 360);
    assert_eq!(reading(&shop).unwrap(), (ReadingState::Ok, 0.0));
    shop.goes_by(set(&Catalogue::built_in()));
    sell(&mut shop, 60);
    assert_eq!(reading(&shop), None, "what nobody reads is shown nowhere");
    shop.goes_by(set(&refused("COUPON")));
    sell(&mut shop, 420);
    assert_eq!(alerts(&shop).len(), 1);
    let first = said(&shop);
    assert!(first.len() >= 5, "{first:#?}");

    // Another group reads all panes again, and decides the same, whatever is in force by then.
    let again = fenghuo_engine::TopologyConfig {
        group: "again".to_owned(),
        ..shop.config.clone()
    };
    let view = Arc::new(View::new());
    let mut runner = again.evaluate(&shop.log, &view, 0).unwrap();
    for _ in 0..20_000 {
        runner.step(shop.now_ms, std::time::Duration::ZERO).unwrap();
    }
    let all = said(&shop);
    assert_eq!(all[first.len()..], first[..]);
}

/// A log of an earlier build has no topic of custom events. Once it is there, and a file counts them,
/// they are read from the first one on, each once, and what was known before stays.
#[test]
fn a_log_that_is_older_than_custom_events_takes_them_up() {
    let whole = fenghuo_engine::TopologyConfig {
        checkpoint_ms: Some(64_000),
        ..config()
    };
    let mut former = whole.clone();
    let topics = &mut former.ingest.topics;
    topics.retain(|topic| topic.stream != Stream::Custom);
    let mut shop = Shop::open_as(former);
    restart(&mut shop, &refused("COUPON"));
    sell(&mut shop, 400);
    let before = (reading(&shop).unwrap(), alerts(&shop));

    let topic = fenghuo_log::TopicSpec {
        name: "shop.custom".to_owned(),
        partitions: 2,
        compacted: false,
        retention_ms: None,
    };
    fenghuo_log::Log::ensure(&shop.log, &[topic]).unwrap();
    shop.config.ingest.topics = whole.ingest.topics.clone();
    shop.restart();
    sell(&mut shop, 20);
    // Nobody counts custom events yet, and none has come: nothing waits for them.
    assert_eq!(reading(&shop).unwrap().0, before.0.0);
    assert_eq!(alerts(&shop), before.1);

    let page = include_str!("../../../deploy/docs/catalogue.md");
    let mut blocks = page.split("```toml\n").skip(1);
    let file = blocks.find(|block| block.starts_with("# machines.toml"));
    let (text, _) = file.unwrap().split_once("```").unwrap();
    let (text, _) = text.split_once("[[rule]]").unwrap();
    let file = File {
        name: "machines.toml".to_owned(),
        text: text.to_owned(),
    };
    let machines = Catalogue::compile(&[file]).unwrap_or_else(|wrong| panic!("{wrong}"));
    restart(&mut shop, &Arc::new(machines));
    for second in 0..400 {
        let celsius = if second % 4 == 0 { 260.0 } else { 240.0 };
        let body = pb::event::Body::Custom(pb::Custom {
            name: "oven.temperature".to_owned(),
            entity: [("machine".to_owned(), "m7".to_owned())].into(),
            numbers: [("celsius".to_owned(), celsius)].into(),
            ..pb::Custom::default()
        });
        let (id, now_ms) = (format!("m7-{second}"), shop.now_ms);
        shop.send_as(Stream::Custom, body.clone(), &id, now_ms);
        shop.send_as(Stream::Custom, body, &id, now_ms);
        shop.pass(1);
        if second == 200 {
            shop.restart();
        }
    }
    // Of this life, which began half-way.
    let counts = [Outcome::Accepted, Outcome::Duplicate].map(|outcome| shop.count(outcome));
    assert_eq!(counts, [199, 199]);
    let view = shop.topology.view();
    let oven = Entity::one(Kind::named("machine").unwrap(), "m7");
    let published = view.reading("oven.too_hot", &oven).unwrap();
    assert_eq!(published.reading.state, ReadingState::Ok);
    assert!((published.reading.value - 0.25).abs() < 0.01);
    assert!(
        published.reading.n.abs_diff(300) <= 12,
        "{}",
        published.reading.n
    );
}
