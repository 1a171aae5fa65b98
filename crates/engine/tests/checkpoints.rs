//! A restart from checkpoints leads to what one life leads to, to the bit.

mod shop;

use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{Rules, State};
use fenghuo_engine::record::{AlertRecord, topic};
use fenghuo_engine::{Evaluate, Ingest, Set, Topology, TopologyConfig, View};
use fenghuo_event::{Stream, pb};
use fenghuo_log::{Error, Log, Runner, SessionSpec, Start, TopicPartition};
use fenghuo_signal::catalogue::File;
use fenghuo_signal::{Catalogue, ReadingState};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use shop::*;

/// Everything that people can see.
fn seen(view: &View) -> String {
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        view.readings(),
        view.totals(),
        view.charts(),
        view.open(),
        view.closed()
    )
}

/// Every alert record; of one partition and time in any order.
fn alerts(shop: &Shop) -> Vec<AlertRecord> {
    let mut session = shop
        .log
        .open(&SessionSpec {
            group: "reader".to_owned(),
            member: "reader".to_owned(),
            topics: vec![topic::ALERTS.to_owned()],
            start: Start::Earliest,
            low_latency: false,
        })
        .unwrap();
    let mut all = Vec::new();
    let alerts = TopicPartition::new(topic::ALERTS, 0);
    let mut each = |record: fenghuo_log::Record<'_>| {
        all.push(serde_json::from_slice(record.value.unwrap()).unwrap());
    };
    session.read(&alerts, 0, u64::MAX, &mut each).unwrap();
    all.sort_by(|a: &AlertRecord, b| {
        let key = |of: &AlertRecord| {
            let at = &of.transition;
            (at.at_ms, at.rule.clone(), at.entity.clone(), at.to.as_str())
        };
        key(a).cmp(&key(b))
    });
    all
}

/// Something happens in the shop: one of a few dozen skus is sold, sold too cheap, counted or
/// complained about.
fn happen(shop: &mut Shop, number: u64) {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z ^= z >> 29;
    let sku = format!("sku-{}", z % 40);
    let at_ms = shop.now_ms - (z >> 40) as i64 % 8_000;
    let id = format!("n{number}");
    match (z >> 8) % 20 {
        0 => shop.send_as(Stream::Catalog, floor(&sku, 1_500, 1), &id, at_ms),
        1 => {
            let low = order(pb::order::Type::Paid, &id, &sku, 1, 900);
            shop.send_as(Stream::Orders, low, &id, at_ms);
        }
        2 => {
            let gone = order(pb::order::Type::Cancelled, &id, &sku, 1, 2_000);
            shop.send_as(Stream::Orders, gone, &id, at_ms);
        }
        3 => {
            let levels = pb::InventoryLevels {
                on_hand: (z >> 16) as i64 % 60,
                ..pb::InventoryLevels::default()
            };
            let stock = pb::event::Body::Inventory(pb::Inventory {
                r#type: pb::inventory::Type::Snapshot.into(),
                sku_id: sku,
                location_id: format!("w{}", (z >> 32) % 2),
                levels: Some(levels),
                ..pb::Inventory::default()
            });
            shop.send_as(Stream::Inventory, stock, &id, at_ms);
        }
        _ => {
            let sold = order(
                pb::order::Type::Paid,
                &id,
                &sku,
                1 + (z >> 20) as i64 % 3,
                2_000,
            );
            shop.send_as(Stream::Orders, sold, &id, at_ms);
        }
    }
}

fn checkpointed() -> Shop {
    Shop::open_as(checkpoints())
}

fn checkpoints() -> TopologyConfig {
    let mut config = config();
    // One segment a second: whatever the second of a restart, segments are of every age.
    config.checkpoint_ms = Some(64_000);
    config
}

/// A measure with many panes, of which there is room for few.
const MANY_PANES: &str = r#"
[[measure]]
name = "orders"
about = "Orders, and what of them was paid."
stream = "orders"
by = ["sku"]
keep = [{ pane = "1s", for = "10m" }]
columns.all = { count = 'true' }
columns.paid = { count = 'type == "PAID"' }
columns.units = { sum = 'line.quantity * 1000000' }
columns.least = { sum = 'line.unit_price * 1000000' }

[[signal]]
name = "orders.paid"
about = "share of orders that are paid"
unit = "share"
by = ["sku"]
judge = "10s"
estimate = { share = "orders.paid / orders.all", window = "2m" }
"#;

fn little_room() -> TopologyConfig {
    let mut config = checkpoints();
    let file = File {
        name: "shop.toml".to_owned(),
        text: MANY_PANES.to_owned(),
    };
    let catalogue = Arc::new(Catalogue::compile(&[file]).unwrap_or_else(|wrong| panic!("{wrong}")));
    let rules = Rules::builtin(&catalogue.signal_names()).unwrap();
    config.set.put(Set::new(catalogue, Arc::new(rules)));
    // 48 bytes for the skus of a segment, besides 512 that are each sku's own.
    config.panes_bytes_max = 64 * 64;
    config
}

/// Panes that a cycle of checkpoints has surely covered are gone.
fn forget_old_panes(shop: &Shop, older_than: &mut Vec<Vec<u64>>) {
    let panes = |shard| TopicPartition::new(topic::PANES, shard);
    let highs = (0..3).map(|shard| shop.log.high(&panes(shard))).collect();
    older_than.push(highs);
    if older_than.len() > 70 {
        for (shard, high) in older_than.remove(0).into_iter().enumerate() {
            shop.log.forget(&panes(shard as u32), high);
        }
    }
}

/// A shop whose evaluate stage alone is restarted, so that the panes are those of one life.
struct Lives {
    shop: Shop,
    ingest: Runner<Ingest>,
    evaluate: Runner<Evaluate>,
    view: Arc<View>,
}

impl Lives {
    fn begin(config: TopologyConfig) -> Self {
        let shop = Shop::open_as(config);
        let view = Arc::new(View::new());
        Self {
            ingest: shop.config.ingest(&shop.log, &view, 0).unwrap(),
            evaluate: shop.config.evaluate(&shop.log, &view, 0).unwrap(),
            view,
            shop,
        }
    }

    fn restart(&mut self) {
        self.view = Arc::new(View::new());
        let Shop { config, log, .. } = &self.shop;
        self.evaluate = config.evaluate(log, &self.view, 0).unwrap();
    }

    fn pass(&mut self) {
        self.shop.now_ms += 1_000;
        let now_ms = self.shop.now_ms;
        self.shop.log.set_time(now_ms);
        // Assigned, read, and what there is.
        for _ in 0..4 {
            self.ingest.step(now_ms, Duration::ZERO).unwrap();
        }
        self.ingest.commit(now_ms).unwrap();
        for _ in 0..6 {
            self.evaluate.step(now_ms, Duration::ZERO).unwrap();
        }
    }
}

#[test]
fn a_restart_from_checkpoints_sees_what_one_life_sees() {
    lives_see_the_same(checkpoints, 20, &|_| {});
}

/// The oldest panes are cut, the same ones by a life that was broken off; what reaches behind them is
/// unknown.
#[test]
fn a_restart_cuts_the_panes_that_one_life_cuts() {
    lives_see_the_same(little_room, 60, &|view| {
        let entries = view.entries();
        let of = |name| entries.iter().find(|(at, _)| *at == name).unwrap().1;
        assert!(of("panes_cut") > 1_000, "{entries:?}");
        assert!(of("panes_bytes") <= 3 * 64 * 48, "{entries:?}");
        let readings = view.readings();
        let paid = readings
            .iter()
            .filter(|(signal, ..)| **signal == *"orders.paid");
        let unknown = paid.filter(|(.., told)| told.reading.state == ReadingState::Unknown);
        assert!(unknown.count() > 10);
    });
}

fn lives_see_the_same(config: fn() -> TopologyConfig, busy: usize, check: &dyn Fn(&View)) {
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 4,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = prop::collection::vec((0..busy, prop::bool::weighted(0.03)), 200..400);
    runner
        .run(&strategy, |seconds| {
            let (mut whole, mut broken) = (Lives::begin(config()), Lives::begin(config()));
            let mut highs = Vec::new();
            let (mut number, mut restarts) = (0, 0);
            for (events, restart) in seconds {
                for _ in 0..events {
                    number += 1;
                    happen(&mut whole.shop, number);
                    happen(&mut broken.shop, number);
                }
                whole.pass();
                if restart {
                    restarts += 1;
                    broken.restart();
                }
                broken.pass();
                forget_old_panes(&broken.shop, &mut highs);
            }
            broken.restart();
            whole.pass();
            broken.pass();
            prop_assert!(alerts(&whole.shop).len() > 20, "too little happens");
            let (ours, theirs) = (alerts(&broken.shop), alerts(&whole.shop));
            let mut pairs = ours.iter().zip(&theirs);
            let other = pairs.find(|(ours, theirs)| ours != theirs);
            prop_assert!(other.is_none(), "{:#?}", other);
            prop_assert_eq!(ours.len(), theirs.len());
            prop_assert_eq!(
                seen(&broken.view),
                seen(&whole.view),
                "after {} restarts",
                restarts
            );
            check(&whole.view);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_rule_that_is_gone_ends_its_episodes_and_a_new_one_judges_what_is_there() {
    let mut shop = checkpointed();
    shop.send(Stream::Catalog, floor("gel", 1_500, 1));
    shop.send(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "gel", 1, 900),
    );
    shop.pass(90);
    assert_eq!(shop.topology.view().open().len(), 1);

    let catalogue = Catalogue::built_in();
    let names = catalogue.signal_names();
    let others = "[[rule]]\nname = \"price-floor\"\nenabled = false\n\
                  [[rule]]\nname = \"any-low-price\"\nsignal = \"price.floor\"\n\
                  page = [{ read = \"value\", below = 1.0, clear = 1.0 }]\n\
                  summary = \"low\"\n";
    let rules = Rules::builtin(&names).unwrap();
    let rules = rules.with("others.toml", others, &names).unwrap();
    shop.goes_by(Set::new(catalogue, Arc::new(rules)));
    shop.restart();
    shop.pass(2);
    let said: Vec<(String, State)> = alerts(&shop)
        .into_iter()
        .map(|record| (record.transition.rule, record.transition.to))
        .collect();
    assert_eq!(
        said,
        [
            ("price-floor".to_owned(), State::Firing),
            ("price-floor".to_owned(), State::Resolved),
            ("any-low-price".to_owned(), State::Firing),
        ]
    );
    // And once more, with nothing changed, there is nothing to say.
    shop.restart();
    shop.pass(2);
    assert_eq!(alerts(&shop).len(), 3);
}

#[test]
fn a_state_of_a_newer_build_is_not_touched() {
    let mut shop = checkpointed();
    shop.send(Stream::Catalog, floor("gel", 1_500, 1));
    shop.pass(2);
    let newer = fenghuo_log::Append::new(
        TopicPartition::new(topic::STATE, 1),
        Some(b"rules".to_vec()),
        // Version 99.
        vec![0x08, 99],
    );
    shop.log.append(vec![newer]).unwrap();
    let mut again = Topology::open(&shop.config, &shop.log).unwrap();
    let error = again.settle(shop.now_ms + 1_000).unwrap_err().to_string();
    assert!(error.contains("version 99"), "{error}");
}

#[test]
fn records_that_retention_took_are_counted_and_paged_and_the_rest_is_read() {
    let mut shop = Shop::open();
    for number in 0..10 {
        let id = format!("o{number}");
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, &id, "gel", 1, 2_000),
        );
    }
    shop.pass(2);
    // Seven more while it is down, of which retention takes four.
    for number in 10..17 {
        let id = format!("o{number}");
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, &id, "gel", 1, 2_000),
        );
    }
    shop.log.forget(&TopicPartition::new("shop.orders", 0), 14);
    shop.restart();
    shop.pass(2);
    let view = shop.topology.view();
    let (_, totals) = view.totals().pop().unwrap();
    assert_eq!(totals.orders, 13);
    assert_eq!(view.holes(), 3, "one for each shard");
    let open = view.open();
    assert_eq!(open.len(), 1);
    assert_eq!(
        (&*open[0].rule, open[0].reading.value),
        ("source-lost", 4.0)
    );
    // After an hour without another loss it is over.
    shop.pass(3_700);
    assert_eq!(shop.topology.view().open(), []);
}

#[test]
fn a_source_that_was_made_anew_is_read_from_its_beginning() {
    let mut shop = Shop::open();
    let send = |shop: &mut Shop, number: u64| {
        let id = format!("o{number}");
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, &id, "gel", 1, 2_000),
        );
    };
    (0..10).for_each(|number| send(&mut shop, number));
    shop.pass(2);
    shop.log.make_anew(&TopicPartition::new("shop.orders", 0));
    (10..13).for_each(|number| send(&mut shop, number));
    shop.restart();
    shop.pass(2);
    let (_, totals) = shop.topology.view().totals().pop().unwrap();
    assert_eq!(totals.orders, 13);
    (13..15).for_each(|number| send(&mut shop, number));
    shop.pass(2);
    let (_, totals) = shop.topology.view().totals().pop().unwrap();
    assert_eq!(totals.orders, 15);
}

#[test]
fn what_came_before_a_newer_record_is_committed_and_it_is_not_skipped() {
    let mut shop = Shop::open();
    shop.send(Stream::Catalog, floor("gel", 1_500, 1));
    shop.pass(2);
    let newer = |shard| {
        let to = TopicPartition::new(topic::PANES, shard);
        // Version 99.
        fenghuo_log::Append::new(to, None, vec![0x08, 99])
    };
    shop.log.append((0..3).map(newer).collect()).unwrap();
    let high = shop.log.high(&TopicPartition::new(topic::PANES, 0));
    for _ in 0..2 {
        let error = shop.topology.settle(shop.now_ms + 1_000).unwrap_err();
        assert!(matches!(error, Error::Newer(_)), "{error}");
        let committed = shop.log.committed(&TopicPartition::new(topic::PANES, 0));
        assert_eq!(committed, Some(high - 1));
        shop.restart();
    }
}

#[test]
fn an_old_order_after_a_restart_is_judged_as_before_it() {
    for restart in [false, true] {
        let mut shop = checkpointed();
        shop.send(Stream::Catalog, floor("gel", 1_500, 1));
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, "o0", "other", 1, 2_000),
        );
        shop.pass(130);
        if restart {
            shop.restart();
            shop.pass(2);
        }
        let at_ms = shop.now_ms - 530_000;
        let low = order(pb::order::Type::Paid, "o1", "gel", 1, 150);
        shop.send_as(Stream::Orders, low, "o1", at_ms);
        shop.pass(2);
        assert_eq!(shop.topology.view().open().len(), 1, "restart: {restart}");
    }
}
