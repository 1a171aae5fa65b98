//! A daemon that was away: what was acknowledged before or meanwhile is judged as of when it was.

mod shop;

use fenghuo_alert::State;
use fenghuo_engine::record::{AlertRecord, topic};
use fenghuo_event::{Stream, pb};
use fenghuo_log::{Log, SessionSpec, Start, TopicPartition};

use shop::*;

const MINUTE_S: i64 = 60;

fn sell(shop: &mut Shop, sku: &str, price_minor: i64) {
    let order = order(pb::order::Type::Paid, sku, sku, 1, price_minor);
    shop.send(Stream::Orders, order);
}

/// What was said of a sku's price.
fn told(shop: &Shop, sku: &str) -> Vec<State> {
    let spec = SessionSpec {
        group: "test".to_owned(),
        member: "test".to_owned(),
        topics: Vec::new(),
        start: Start::Earliest,
        low_latency: false,
    };
    let mut session = shop.log.open(&spec).unwrap();
    let mut states = Vec::new();
    for partition in 0..3 {
        let of = TopicPartition::new(topic::ALERTS, partition);
        let mut each = |record: fenghuo_log::Record<'_>| {
            let record: AlertRecord = serde_json::from_slice(record.value.unwrap()).unwrap();
            let step = record.transition;
            if step.signal == "price.floor" && &*step.entity.first == sku {
                states.push(step.to);
            }
        };
        let _ = session.read(&of, 0, u64::MAX, &mut each);
    }
    states
}

/// Guards: a sale below the floor that was not read before the process was killed was never paged
/// where it was started again later than the window of the signal.
#[test]
fn a_sale_that_was_not_read_before_a_kill_is_paged_however_long_it_takes_to_start_again() {
    for checkpoint_ms in [None, Some(2_000)] {
        for away_s in [0, 400, 700, 1_200, 3_600, 7_200, 23 * 3_600, 6 * 86_400] {
            let mut config = config();
            config.checkpoint_ms = checkpoint_ms;
            let mut shop = Shop::open_as(config);
            for sku in ["a", "b"] {
                shop.send(Stream::Catalog, floor(sku, 1_800, 1));
            }
            sell(&mut shop, "dear", 9_000);
            shop.pass(5 * MINUTE_S);
            sell(&mut shop, "a", 100);
            shop.now_ms += 30_000;
            sell(&mut shop, "b", 100);
            shop.now_ms += away_s * 1_000;
            shop.restart();
            shop.pass(5);
            for sku in ["a", "b"] {
                let told = told(&shop, sku);
                assert_eq!(told.first(), Some(&State::Firing), "{away_s} s: {sku}");
            }
        }
    }
}

/// Guards: where what is read at once spans more time than a signal looks back, the later sales hid
/// the earlier ones.
#[test]
fn a_sale_is_paged_also_where_sales_at_the_right_price_were_read_with_it() {
    let hours = [0, 1, 5, 30];
    let mut shop = Shop::open();
    let names: Vec<String> = (0..hours.len()).map(|at| format!("sku-{at}")).collect();
    for sku in &names {
        shop.send(Stream::Catalog, floor(sku, 1_800, 1));
    }
    shop.pass(5);
    // Nobody reads for a day and a half.
    let began_ms = shop.now_ms;
    for hour in 0..36 {
        for (sku, wrong_at) in names.iter().zip(hours) {
            shop.now_ms = began_ms + hour * 3_600_000;
            let price_minor = if hour == wrong_at { 100 } else { 1_900 };
            sell(&mut shop, sku, price_minor);
        }
    }
    shop.restart();
    shop.pass(5);
    for sku in &names {
        let told = told(&shop, sku);
        assert_eq!(told.first(), Some(&State::Firing), "{sku}");
        assert_eq!(told.last(), Some(&State::Resolved), "{sku}");
        let fired = told.iter().filter(|state| **state == State::Firing);
        assert_eq!(fired.count(), 1, "{sku}: {told:?}");
    }
}
