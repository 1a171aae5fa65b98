//! All stages on the in-memory log, from messages to pages.

mod shop;

use fenghuo_alert::State;
use fenghuo_engine::record::{DeliveryOutcome, PageAction};
use fenghuo_engine::{Outcome, Topology};
use fenghuo_event::{Stream, pb};
use fenghuo_signal::{Entity, Kind, ReadingState};

use shop::*;

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
        assert_eq!(ready[0].alert.entity, Entity::one(Kind::SKU, "gel"));
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
        assert_eq!(shop.topology.view().open().len(), 1);

        shop.pass(3_600);
        let over = shop.topology.dispatch().take_ready();
        assert_eq!(over.len(), 1);
        assert_eq!(over[0].action, PageAction::Resolve);
        assert_eq!(over[0].alert.episode, ready[0].alert.episode);
        assert_eq!(shop.topology.view().closed()[0].to, State::Resolved);
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
    let letters = shop.topology.view().dead_letters();
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
    let totals = shop.topology.view().totals();
    let of = |kind, name: &str| {
        let entity = Entity::one(kind, name);
        totals
            .iter()
            .find(|(found, _)| *found == entity)
            .map(|(_, totals)| *totals)
            .unwrap()
    };
    for totals in [
        of(Kind::SKU, "a"),
        of(Kind::CAMPAIGN, "c1"),
        of(Kind::SHOP, ""),
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
    let before = (shop.topology.view().totals(), shop.topology.view().open());

    // The page was committed and not known to be delivered: it is sent again under its key.
    shop.restart();
    shop.pass(1);
    assert_eq!(shop.topology.dispatch().take_ready(), first);
    shop.topology
        .dispatch()
        .outcome(delivered(&first[0].delivery_id));
    shop.pass(1);
    let after = (shop.topology.view().totals(), shop.topology.view().open());
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
    assert_eq!(shop.topology.view().totals(), before.0);
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
    let deliveries = shop.topology.view().deliveries();
    let outcome = deliveries
        .iter()
        .find(|d| d.intent.channel == "phone")
        .unwrap()
        .outcome
        .clone();
    assert!(!outcome.unwrap().delivered, "the failure stays visible");
    assert_eq!(shop.topology.view().undelivered(), 0, "the next one may do");
    let failed = DeliveryOutcome {
        delivered: false,
        ..delivered(&second[0].delivery_id)
    };
    shop.topology.dispatch().outcome(failed);
    assert_eq!(shop.topology.view().undelivered(), 1, "it reached nobody");
}

#[test]
fn a_page_that_one_of_two_channels_took_reached_somebody() {
    let mut config = config();
    config.routes.0[0].channels.push("chat".to_owned());
    for is_first_taken in [true, false] {
        let mut shop = Shop::open();
        shop.topology = Topology::open(&config, &shop.log).unwrap();
        shop.send(Stream::Catalog, floor("gel", 1_800, 1));
        shop.send(
            Stream::Orders,
            order(pb::order::Type::Paid, "o1", "gel", 1, 100),
        );
        shop.pass(2);
        let ready = shop.topology.dispatch().take_ready();
        assert_eq!(ready.len(), 2);
        for (at, intent) in ready.iter().enumerate() {
            let outcome = DeliveryOutcome {
                delivered: (at == 0) == is_first_taken,
                ..delivered(&intent.delivery_id)
            };
            shop.topology.dispatch().outcome(outcome);
        }
        assert_eq!(shop.topology.view().undelivered(), 0);
    }
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
    let open = shop.topology.view().open();
    let silence = open
        .iter()
        .find(|alert| alert.signal == "source.silence")
        .unwrap();
    assert_eq!(silence.entity, Entity::one(Kind::SOURCE, "shop.orders"));
    let reading = shop
        .topology
        .view()
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
            .view()
            .closed()
            .iter()
            .any(|alert| alert.signal == "source.silence")
    );
}

#[test]
fn nothing_is_read_of_what_was_never_told() {
    let mut shop = Shop::open();
    shop.send(
        Stream::Orders,
        order(pb::order::Type::Paid, "o1", "a", 1, 100),
    );
    shop.pass(30);
    let sku = Entity::one(Kind::SKU, "a");
    for signal in [
        "price.floor",
        "stock.available_to_promise",
        "stock.hours_of_cover",
        "sales.pace",
    ] {
        let published = shop.topology.view().reading(signal, &sku);
        assert_eq!(published, None, "{signal}");
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
        .view()
        .reading("stock.available_to_promise", &sku)
        .unwrap();
    assert_eq!(
        (published.reading.state, published.reading.value),
        (ReadingState::Ok, 9.0)
    );
}
