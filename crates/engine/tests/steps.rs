//! A clock that is set while episodes are open: none ends by the step, and none is told twice.

mod shop;

use fenghuo_alert::{State, Transition};
use fenghuo_engine::record::{AlertRecord, topic};
use fenghuo_event::{Stream, pb};
use fenghuo_log::{Log, SessionSpec, Start, TopicPartition};
use fenghuo_window::Jump;

use shop::*;

const MINUTE_S: i64 = 60;
const HOUR_MS: i64 = 3_600_000;

/// A shop whose clock is set.
struct Stepped {
    shop: Shop,
    by_ms: i64,
}

impl Stepped {
    fn new(checkpoint_ms: Option<i64>) -> Self {
        let mut config = config();
        config.checkpoint_ms = checkpoint_ms;
        let mut shop = Shop::open_as(config);
        for sku in ["a", "b", "c"] {
            shop.send(Stream::Catalog, floor(sku, 1_800, 1));
        }
        let mut stepped = Self { shop, by_ms: 0 };
        stepped.trade(10 * MINUTE_S);
        stepped
    }

    /// The clock is set, and the step is followed.
    fn set(&mut self, by_ms: i64) {
        let further_ms = by_ms - self.by_ms;
        self.by_ms = by_ms;
        self.shop.now_ms += further_ms;
        let jump = Jump {
            to_ms: self.shop.now_ms,
            by_ms: further_ms,
        };
        let view = self.shop.topology.view();
        view.set_jump((further_ms > 0).then_some(jump));
    }

    fn sell(&mut self, sku: &str) {
        let wrong = order(pb::order::Type::Paid, sku, sku, 1, 100);
        self.shop.send(Stream::Orders, wrong);
    }

    /// Told by a sender whose clock was not set.
    fn sell_before(&mut self, sku: &str) {
        let wrong = order(pb::order::Type::Paid, sku, sku, 1, 100);
        let at_ms = self.shop.now_ms - self.by_ms;
        self.shop
            .send_as(Stream::Orders, wrong, &format!("before {sku}"), at_ms);
    }

    /// A sale at the right price each second.
    fn trade(&mut self, seconds: i64) {
        for _ in 0..seconds {
            let right = order(pb::order::Type::Paid, "o", "dear", 1, 9_000);
            self.shop.send(Stream::Orders, right);
            self.shop.pass(1);
        }
    }

    /// Every step of every alert, in order.
    fn steps(&self) -> Vec<Transition> {
        let spec = SessionSpec {
            group: "test".to_owned(),
            member: "test".to_owned(),
            topics: Vec::new(),
            start: Start::Earliest,
            low_latency: false,
        };
        let mut session = self.shop.log.open(&spec).unwrap();
        let mut steps = Vec::new();
        let of = TopicPartition::new(topic::ALERTS, 0);
        let mut each = |record: fenghuo_log::Record<'_>| {
            let record: AlertRecord = serde_json::from_slice(record.value.unwrap()).unwrap();
            steps.push(record.transition);
        };
        session.read(&of, 0, u64::MAX, &mut each).unwrap();
        steps
    }

    /// What was said of a sku's price.
    fn of(&self, sku: &str) -> Vec<State> {
        let steps = self.steps().into_iter();
        let of = steps.filter(|step| step.signal == "price.floor" && &*step.entity.first == sku);
        of.map(|step| step.to).collect()
    }
}

const FIRED: [State; 1] = [State::Firing];
const ENDED: [State; 3] = [State::Firing, State::Recovering, State::Resolved];

/// Guards: a step of an hour that was followed resolved what was open, and once the clock was set
/// back it fired again under another key.
#[test]
fn an_open_episode_outlives_a_step_and_is_told_once() {
    for by_ms in [60_000, HOUR_MS, 87_600 * HOUR_MS] {
        for (is_told, restarts) in [(false, false), (true, true)] {
            let story = format!("by {by_ms} ms, events: {is_told}, restarts: {restarts}");
            let mut shop = Stepped::new(restarts.then_some(2_000));
            shop.sell("a");
            shop.shop.pass(30);
            assert_eq!(shop.of("a"), FIRED, "{story}");
            shop.set(by_ms);
            if is_told {
                shop.sell("b");
            }
            for _ in 0..12 {
                shop.shop.pass(5);
                if restarts {
                    shop.shop.restart();
                }
            }
            assert_eq!(shop.of("a"), FIRED, "{story}");
            shop.set(0);
            shop.shop.pass(2 * MINUTE_S);
            shop.sell("c");
            shop.shop.pass(MINUTE_S);
            for sku in ["a", "c"] {
                assert_eq!(shop.of(sku), FIRED, "{story}: {sku}");
            }
            assert_eq!(shop.of("b"), FIRED[..usize::from(is_told)], "{story}");
            shop.shop.pass(20 * MINUTE_S);
            assert_eq!(shop.of("a"), ENDED, "{story}");
        }
    }
}

/// What is over ends under the new time as well: later than it would have, and never by the step.
#[test]
fn an_episode_ends_once_its_time_has_passed_after_a_step() {
    for (by_ms, within_s) in [(60_000, 12 * MINUTE_S), (HOUR_MS, 18 * MINUTE_S)] {
        let mut shop = Stepped::new(None);
        shop.sell("a");
        shop.shop.pass(30);
        shop.set(by_ms);
        shop.shop.pass(10 * MINUTE_S);
        assert_eq!(shop.of("a")[..1], FIRED, "by {by_ms}");
        assert!(!shop.of("a").contains(&State::Resolved), "by {by_ms}");
        shop.shop.pass(within_s - 10 * MINUTE_S);
        assert_eq!(shop.of("a"), ENDED, "by {by_ms}");
    }
}

/// One that recovers has as long to go as before.
#[test]
fn a_recovery_is_not_cut_short_by_a_step() {
    let mut shop = Stepped::new(None);
    shop.sell("a");
    shop.shop.pass(11 * MINUTE_S);
    assert_eq!(shop.of("a"), ENDED[..2]);
    shop.set(90_000);
    shop.shop.pass(40);
    assert_eq!(shop.of("a"), ENDED[..2]);
    shop.shop.pass(2 * MINUTE_S);
    assert_eq!(shop.of("a"), ENDED);
}

/// Guards: who told the true time beside one that told the wrong one was late, and not judged.
#[test]
fn a_sale_is_paged_by_whichever_time_it_is_told_after_a_step() {
    for by_ms in [60_000, HOUR_MS, 8 * HOUR_MS] {
        let mut shop = Stepped::new(None);
        shop.set(by_ms);
        shop.sell("a");
        shop.shop.pass(2);
        shop.sell_before("b");
        shop.shop.pass(2);
        shop.sell("c");
        shop.shop.pass(2);
        for sku in ["a", "b", "c"] {
            assert_eq!(shop.of(sku), FIRED, "by {by_ms}: {sku}");
        }
        shop.set(0);
        shop.shop.pass(5 * MINUTE_S);
        for sku in ["a", "b", "c"] {
            assert_eq!(shop.of(sku), FIRED, "by {by_ms}: {sku}");
        }
    }
}

/// Nothing falls due by the step: silence and drought are counted from it on, and told in their time.
#[test]
fn nothing_falls_due_by_a_step_and_a_silence_is_told_in_its_time() {
    let mut shop = Stepped::new(None);
    let before = shop.steps();
    shop.set(HOUR_MS);
    shop.shop.pass(5);
    shop.trade(5 * MINUTE_S);
    assert_eq!(shop.steps(), before);
    let is_silent = |shop: &Stepped| {
        let mut steps = shop.steps().into_iter();
        steps.any(|step| step.signal == "source.silence" && step.to == State::Firing)
    };
    assert!(!is_silent(&shop));
    shop.trade(15 * MINUTE_S);
    assert!(!is_silent(&shop));
    shop.shop.pass(5 * MINUTE_S);
    assert!(is_silent(&shop));
}
