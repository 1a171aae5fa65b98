//! A clock that is wrong for a while, and right again: nothing is deaf by it.

mod shop;

use fenghuo_engine::record::{Intent, PageAction};
use fenghuo_event::{Stream, pb};

use shop::*;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The jumps of a clock that must make nobody deaf.
const JUMPS_MS: [i64; 8] = [
    MINUTE_MS,
    -MINUTE_MS,
    HOUR_MS,
    -HOUR_MS,
    8 * HOUR_MS,
    -8 * HOUR_MS,
    87_600 * HOUR_MS,
    -87_600 * HOUR_MS,
];

/// Whose clock is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// That of the stages; the log's is another one, as on Kafka.
    Stages,
    /// That of the log.
    Log,
    /// Both, as in a folder.
    Machine,
    /// The shop's, too: everything is on one machine.
    Everything,
}

const ALL: [Wrong; 4] = [Wrong::Stages, Wrong::Log, Wrong::Machine, Wrong::Everything];

/// A shop beside whose true time there are wrong clocks.
struct Wronged {
    shop: Shop,
    true_ms: i64,
    wrong: Wrong,
    by_ms: i64,
    skus: usize,
}

impl Wronged {
    fn new(wrong: Wrong) -> Self {
        let mut config = config();
        config.checkpoint_ms = Some(2_000);
        let mut wronged = Self {
            shop: Shop::open_as(config),
            true_ms: START_MS,
            wrong,
            by_ms: 0,
            skus: 0,
        };
        for sku in 0..20 {
            wronged.say(Stream::Catalog, floor(&format!("sku{sku}"), 1_800, 1));
        }
        wronged.trade(30);
        wronged
    }

    fn log_ms(&self) -> i64 {
        let by_ms = if self.wrong == Wrong::Stages {
            0
        } else {
            self.by_ms
        };
        self.true_ms + by_ms
    }

    fn say(&mut self, stream: Stream, body: pb::event::Body) {
        self.shop.now_ms = self.log_ms();
        let by_ms = if self.wrong == Wrong::Everything {
            self.by_ms
        } else {
            0
        };
        let id = format!("{stream:?}{body:?}{}", self.true_ms);
        let id = format!(
            "{:x}",
            id.bytes()
                .fold(7_u64, |h, b| h.wrapping_mul(31) + u64::from(b))
        );
        self.shop.send_as(stream, body, &id, self.true_ms + by_ms);
    }

    /// A sale at the right price each second.
    fn trade(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.say(
                Stream::Orders,
                order(pb::order::Type::Paid, "o", "dear", 1, 9_000),
            );
            self.pass(1);
        }
    }

    fn pass(&mut self, seconds: usize) {
        for _ in 0..seconds {
            self.true_ms += SECOND_MS;
            let by_ms = if self.wrong == Wrong::Log {
                0
            } else {
                self.by_ms
            };
            self.shop.log.set_time(self.log_ms());
            self.shop.topology.settle(self.true_ms + by_ms).unwrap();
        }
    }

    fn pages(&mut self) -> Vec<std::sync::Arc<Intent>> {
        let pages = self.shop.topology.dispatch().take_ready();
        for page in &pages {
            let delivered = delivered(&page.delivery_id);
            self.shop.topology.dispatch().outcome(delivered);
        }
        pages
    }

    /// A sale below the floor: the seconds until it is paged, of five.
    fn sale_is_paged(&mut self) -> Option<usize> {
        let sku = format!("sku{}", self.skus);
        self.skus += 1;
        self.pages();
        let wrong = order(pb::order::Type::Paid, &sku, &sku, 1, 100);
        self.say(Stream::Orders, wrong);
        self.is_paged(&sku)
    }

    /// The seconds until a page about a sku, of five.
    fn is_paged(&mut self, sku: &str) -> Option<usize> {
        (1..=5).find(|_| {
            self.pass(1);
            let is_it = |page: &std::sync::Arc<Intent>| {
                page.action == PageAction::Trigger
                    && page.alert.signal == "price.floor"
                    && page.alert.entity.first == sku
            };
            self.pages().iter().any(is_it)
        })
    }
}

/// Guards: after a jump of an hour for four seconds nothing was paged for an hour, over restarts
/// too.
#[test]
fn a_sale_below_the_floor_is_paged_while_a_clock_is_wrong_and_after() {
    for wrong in ALL {
        for jump_ms in JUMPS_MS {
            for restarts in [false, true] {
                let story = format!("{wrong:?} by {jump_ms} ms, restarts: {restarts}");
                let mut shop = Wronged::new(wrong);
                assert!(shop.sale_is_paged().is_some(), "{story}: before");
                shop.by_ms = jump_ms;
                shop.trade(2);
                if restarts {
                    shop.shop.restart();
                }
                // Behind the log, every event lies in its future and is refused; that is told.
                let is_refused =
                    jump_ms <= -MINUTE_MS && matches!(wrong, Wrong::Log | Wrong::Machine);
                let told = shop.sale_is_paged();
                // What a new life finds in the log may be a backlog, and what is years old is
                // history: it is judged once the clock is right.
                let is_judged = told.is_some() || is_refused || restarts || jump_ms > 24 * HOUR_MS;
                assert!(is_judged, "{story}: while it is wrong");
                shop.by_ms = 0;
                if restarts {
                    shop.shop.restart();
                }
                if told.is_none() && !is_refused {
                    assert!(shop.is_paged("sku1").is_some(), "{story}: once it is right");
                }
                for again in 0..3 {
                    assert!(shop.sale_is_paged().is_some(), "{story}: {again} after");
                }
            }
        }
    }
}

/// What runs on closed panes goes on as well: a silence is told.
#[test]
fn a_silence_is_told_after_a_clock_was_wrong() {
    for wrong in ALL {
        for jump_ms in [HOUR_MS, -HOUR_MS, 87_600 * HOUR_MS, -87_600 * HOUR_MS] {
            let story = format!("{wrong:?} by {jump_ms} ms");
            let mut shop = Wronged::new(wrong);
            shop.trade(300);
            shop.by_ms = jump_ms;
            shop.trade(4);
            shop.by_ms = 0;
            shop.trade(240);
            let silent = |shop: &Wronged| {
                let open = shop.shop.topology.view().open();
                let is_it = |alert: &&fenghuo_alert::Transition| {
                    alert.signal == "source.silence" && &*alert.entity.first == "shop.orders"
                };
                open.iter().any(|alert| is_it(&alert))
            };
            assert!(!silent(&shop), "{story}: it speaks");
            shop.pass(300);
            assert!(silent(&shop), "{story}: it is silent");
        }
    }
}
