//! All stages on the in-memory log, from messages to pages.

use std::sync::Arc;

use fenghuo_alert::{Rules, State};
use fenghuo_engine::record::{DeliveryOutcome, PageAction};
use fenghuo_engine::{
    DuplicateBounds, IngestConfig, Outcome, Route, Routes, SourceTopic, Topology, TopologyConfig,
    TrackerBounds,
};
use fenghuo_event::{Stream, pb};
use fenghuo_log::memory::MemoryLog;
use fenghuo_log::{Append, Log, Start, TopicPartition, TopicSpec};
use fenghuo_signal::{Entity, Kind, ReadingState, catalogue};

const START_MS: i64 = 1_794_398_400_000;

fn config() -> TopologyConfig {
    let topics = Stream::ALL
        .into_iter()
        .map(|stream| SourceTopic {
            name: format!("shop.{}", stream.topic()).into(),
            stream,
            lateness_ms: 5_000,
        })
        .collect();
    TopologyConfig {
        group: "fenghuo".to_owned(),
        instance: "test".to_owned(),
        ingest: IngestConfig {
            topics,
            shop: None,
            currency: Some("CNY".to_owned()),
            horizon_ms: 600_000,
            ahead_ms_max: 60_000,
            duplicates: DuplicateBounds {
                horizon_ms: 3_600_000,
                entries_max: 10_000,
            },
            trackers: TrackerBounds {
                entries_max: 10_000,
                closed_ms: 86_400_000,
            },
            panes_partitions: 3,
            seed: 7,
        },
        rules: Arc::new(Rules::builtin(&catalogue::names()).unwrap()),
        routes: Routes(vec![Route {
            channels: vec!["phone".to_owned()],
            ..Route::default()
        }]),
        entities_max: 10_000,
        behind_ms_max: 60_000,
        start: Start::Earliest,
        commit_ms: 50,
        batch_records_max: 10_000,
        panes_retention_ms: None,
    }
}

struct Shop {
    log: MemoryLog,
    topology: Topology,
    now_ms: i64,
    events: u64,
}

impl Shop {
    fn open() -> Self {
        let log = MemoryLog::new();
        let config = config();
        let specs: Vec<TopicSpec> = config
            .ingest
            .topics
            .iter()
            .map(|topic| TopicSpec {
                name: topic.name.to_string(),
                partitions: 2,
                compacted: false,
                retention_ms: None,
            })
            .collect();
        log.ensure(&specs).unwrap();
        let topology = Topology::open(&config, &log).unwrap();
        Self {
            log,
            topology,
            now_ms: START_MS,
            events: 0,
        }
    }

    /// Another life on the same log.
    fn restart(&mut self) {
        self.topology = Topology::open(&config(), &self.log).unwrap();
    }

    fn send(&mut self, stream: Stream, body: pb::event::Body) {
        self.events += 1;
        let at_ms = self.now_ms;
        let id = format!("e{}", self.events);
        self.send_as(stream, body, &id, at_ms);
    }

    fn send_as(&mut self, stream: Stream, body: pb::event::Body, id: &str, at_ms: i64) {
        let occurred_at = prost_types::Timestamp {
            seconds: at_ms.div_euclid(1_000),
            nanos: (at_ms.rem_euclid(1_000) * 1_000_000) as i32,
        };
        let meta = pb::Meta {
            event_id: id.to_owned(),
            source: "test".to_owned(),
            occurred_at: Some(occurred_at),
            ..pb::Meta::default()
        };
        let event = pb::Event {
            meta: Some(meta),
            body: Some(body),
        };
        self.send_bytes(stream, fenghuo_event::to_json(&event).into_bytes());
    }

    fn send_bytes(&mut self, stream: Stream, bytes: Vec<u8>) {
        self.log.set_time(self.now_ms);
        let to = TopicPartition::new(format!("shop.{}", stream.topic()), 0);
        self.log.append(vec![Append::new(to, None, bytes)]).unwrap();
    }

    /// Lets time pass, second by second.
    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            self.log.set_time(self.now_ms);
            self.topology.settle(self.now_ms).unwrap();
        }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        let events = self.topology.board().events();
        events
            .iter()
            .filter(|(_, found, _)| *found == outcome)
            .map(|(_, _, n)| n)
            .sum()
    }
}

fn order(
    kind: pb::order::Type,
    id: &str,
    sku: &str,
    quantity: i64,
    price_minor: i64,
) -> pb::event::Body {
    let line = pb::OrderLine {
        sku_id: sku.to_owned(),
        quantity,
        unit_price: Some(pb::Money {
            currency_code: "CNY".to_owned(),
            minor_units: price_minor,
        }),
        ..pb::OrderLine::default()
    };
    pb::event::Body::Order(pb::Order {
        r#type: kind.into(),
        order_id: id.to_owned(),
        campaign_id: "c1".to_owned(),
        lines: vec![line],
        ..pb::Order::default()
    })
}

fn floor(sku: &str, floor_minor: i64, pack_units: i32) -> pb::event::Body {
    pb::event::Body::Catalog(pb::Catalog {
        r#type: pb::catalog::Type::Upsert.into(),
        sku_id: sku.to_owned(),
        pack_units,
        price_floor: Some(pb::Money {
            currency_code: "CNY".to_owned(),
            minor_units: floor_minor,
        }),
        ..pb::Catalog::default()
    })
}

fn delivered(delivery_id: &str) -> DeliveryOutcome {
    DeliveryOutcome {
        delivery_id: delivery_id.to_owned(),
        delivered: true,
        attempts: 1,
        reason: None,
        at_ms: 0,
    }
}

#[test]
fn a_price_below_the_floor_is_paged_once_and_resolved_once() {
    for catalog_first in [true, false] {
        let mut shop = Shop::open();
        // Twenty a bottle, sold at twenty for six.
        let wrong = order(pb::order::Type::Paid, "o1", "gel", 1, 2_000);
        if catalog_first {
            shop.send(Stream::Catalog, floor("gel", 1_800, 6));
            shop.pass(1);
            shop.send(Stream::Orders, wrong);
        } else {
            shop.send(Stream::Orders, wrong);
            shop.pass(1);
            shop.send(Stream::Catalog, floor("gel", 1_800, 6));
        }
        shop.pass(1);
        let ready = shop.topology.dispatch().take_ready();
        assert_eq!(ready.len(), 1, "catalog first: {catalog_first}");
        assert_eq!(ready[0].alert.signal, "price.floor");
        assert_eq!(ready[0].alert.entity, Entity::one(Kind::Sku, "gel"));
        assert_eq!(ready[0].action, PageAction::Trigger);
        shop.topology
            .dispatch()
            .outcome(delivered(&ready[0].delivery_id));
        shop.pass(60);
        assert_eq!(
            shop.topology.dispatch().take_ready(),
            [],
            "nothing is told twice"
        );
        assert_eq!(shop.topology.board().open().len(), 1);

        shop.pass(3_600);
        let over = shop.topology.dispatch().take_ready();
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].action, PageAction::Resolve);
        assert_eq!(over[0].alert.episode, ready[0].alert.episode);
        assert_eq!(shop.topology.board().closed()[0].to, State::Resolved);
    }
}

/// Guards: an event that told of a price alone once took the floor away.
#[test]
fn a_changed_price_leaves_the_floor() {
    let mut shop = Shop::open();
    shop.send(Stream::Catalog, floor("gel", 1_800, 1));
    let changed = pb::Catalog {
        r#type: pb::catalog::Type::PriceChanged.into(),
        sku_id: "gel".to_owned(),
        ..pb::Catalog::default()
    };
    shop.send(Stream::Catalog, pb::event::Body::Catalog(changed));
    let wrong = order(pb::order::Type::Paid, "o1", "gel", 1, 100);
    shop.send(Stream::Orders, wrong);
    shop.pass(2);
    assert_eq!(shop.topology.dispatch().take_ready().len(), 1);
}

#[test]
fn every_message_has_one_outcome_and_totals_are_exact() {
    let mut shop = Shop::open();
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "a", 2, 500),
        "1",
        START_MS,
    );
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "a", 2, 500),
        "1",
        START_MS,
    );
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Cancelled, "o2", "a", 1, 500),
        "2",
        START_MS,
    );
    shop.send_bytes(Stream::Orders, b"{\"meta\":".to_vec());
    shop.send_as(
        Stream::Couriers,
        order(pb::order::Type::Paid, "o3", "a", 1, 1),
        "3",
        START_MS,
    );
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o4", "a", 1, 1),
        "4",
        START_MS + 61_000,
    );
    shop.pass(1);
    // An hour behind the newest: in the totals, not in the panes.
    shop.now_ms += 3_600_000;
    let now_ms = shop.now_ms;
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o5", "a", 1, 700),
        "5",
        now_ms,
    );
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o6", "a", 1, 300),
        "6",
        START_MS,
    );
    shop.pass(1);

    assert_eq!(shop.count(Outcome::Accepted), 3);
    assert_eq!(shop.count(Outcome::Duplicate), 1);
    assert_eq!(shop.count(Outcome::Late), 1);
    assert_eq!(shop.count(Outcome::Rejected), 3);
    let letters = shop.topology.board().dead_letters();
    assert_eq!(
        letters,
        [
            ("future", 1),
            ("late", 1),
            ("malformed", 1),
            ("wrong_topic", 1)
        ],
        "each with its reason"
    );
    let totals = shop.topology.board().totals();
    let of = |kind, name: &str| {
        let entity = Entity::one(kind, name);
        totals
            .iter()
            .find(|(found, _)| *found == entity)
            .map(|(_, totals)| *totals)
            .unwrap()
    };
    for totals in [
        of(Kind::Sku, "a"),
        of(Kind::Campaign, "c1"),
        of(Kind::Shop, ""),
    ] {
        assert_eq!(
            (totals.orders, totals.units, totals.revenue_minor),
            (3, 4, 2_000)
        );
        assert_eq!((totals.cancelled_orders, totals.cancelled_units), (1, 1));
        assert_eq!(totals.cancelled_revenue_minor, 500);
    }
}

#[test]
fn a_second_life_knows_what_the_first_knew_and_says_nothing_twice() {
    let mut shop = Shop::open();
    shop.send(Stream::Catalog, floor("gel", 1_800, 1));
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "gel", 1, 100),
        "1",
        START_MS,
    );
    shop.pass(2);
    let first = shop.topology.dispatch().take_ready();
    assert_eq!(first.len(), 1);
    let before = (shop.topology.board().totals(), shop.topology.board().open());

    // The page was committed and not known to be delivered: it is sent again under its key.
    shop.restart();
    shop.pass(1);
    assert_eq!(shop.topology.dispatch().take_ready(), first);
    shop.topology
        .dispatch()
        .outcome(delivered(&first[0].delivery_id));
    shop.pass(1);
    let after = (shop.topology.board().totals(), shop.topology.board().open());
    assert_eq!(after, before);

    shop.restart();
    shop.send_as(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "gel", 1, 100),
        "1",
        START_MS,
    );
    shop.pass(1);
    assert_eq!(
        shop.count(Outcome::Duplicate),
        1,
        "the duplicate set is warm"
    );
    assert_eq!(shop.topology.dispatch().take_ready(), []);
    assert_eq!(shop.topology.board().totals(), before.0);
}

#[test]
fn a_page_that_fails_falls_over_to_the_next_channel() {
    let mut config = config();
    config.routes.0[0].fallback = vec!["chat".to_owned()];
    let mut shop = Shop::open();
    shop.topology = Topology::open(&config, &shop.log).unwrap();
    shop.send(Stream::Catalog, floor("gel", 1_800, 1));
    shop.send(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "gel", 1, 100),
    );
    shop.pass(2);
    let first = shop.topology.dispatch().take_ready();
    assert_eq!(first[0].channel, "phone");
    let reason = Some("no answer".to_owned());
    let failed = DeliveryOutcome {
        delivered: false,
        reason,
        ..delivered(&first[0].delivery_id)
    };
    shop.topology.dispatch().outcome(failed);
    shop.pass(1);
    let second = shop.topology.dispatch().take_ready();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].channel, "chat");
    let deliveries = shop.topology.board().deliveries();
    let outcome = deliveries
        .iter()
        .find(|d| d.intent.channel == "phone")
        .unwrap()
        .outcome
        .clone();
    assert!(!outcome.unwrap().delivered, "the failure stays visible");
}

#[test]
fn a_silent_source_is_told_and_speaks_for_its_children() {
    let mut shop = Shop::open();
    for at in 0..600 {
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, &format!("o{at}"), "a", 1, 100),
        );
        shop.pass(1);
    }
    shop.pass(300);
    let open = shop.topology.board().open();
    let silence = open
        .iter()
        .find(|alert| alert.signal == "source.silence")
        .unwrap();
    assert_eq!(silence.entity, Entity::one(Kind::Source, "shop.orders"));
    let reading = shop
        .topology
        .board()
        .reading("source.silence", &silence.entity)
        .unwrap();
    assert!(reading.reading.value > 280.0, "{reading:?}");
    for at in 0..90 {
        let again = order(pb::order::Type::Paid, &format!("again{at}"), "a", 1, 100);
        shop.send(Stream::Orders, again);
        shop.pass(1);
    }
    assert!(
        shop.topology
            .board()
            .closed()
            .iter()
            .any(|alert| alert.signal == "source.silence")
    );
}

#[test]
fn what_was_never_told_reads_unknown() {
    let mut shop = Shop::open();
    shop.send(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "a", 1, 100),
    );
    shop.pass(30);
    let sku = Entity::one(Kind::Sku, "a");
    for signal in [
        "price.floor",
        "stock.available_to_promise",
        "stock.hours_of_cover",
        "sales.pace",
    ] {
        let published = shop.topology.board().reading(signal, &sku).unwrap();
        assert_eq!(published.reading.state, ReadingState::Unknown, "{signal}");
    }
    let inventory = pb::Inventory {
        r#type: pb::inventory::Type::Snapshot.into(),
        sku_id: "a".to_owned(),
        location_id: "w1".to_owned(),
        levels: Some(pb::InventoryLevels {
            on_hand: 10,
            ..pb::InventoryLevels::default()
        }),
        ..pb::Inventory::default()
    };
    shop.send(Stream::Inventory, pb::event::Body::Inventory(inventory));
    shop.pass(30);
    let published = shop
        .topology
        .board()
        .reading("stock.available_to_promise", &sku)
        .unwrap();
    assert_eq!(
        (published.reading.state, published.reading.value),
        (ReadingState::Ok, 9.0)
    );
}
