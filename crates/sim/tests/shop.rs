//! The simulated shop judged by its events alone, as whoever watches it would.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use fenghuo_event::{Body, Event, Timestamp, decode, pb, to_json, to_protobuf};
use fenghuo_sim::{Shop, ShopConfig, Trouble, TroubleKind};
use pb::courier::Status;
use pb::order::Type;
use xxhash_rust::xxh3::Xxh3;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn calm(seed: u64) -> ShopConfig {
    ShopConfig {
        seed,
        orders_per_day: 3000.0,
        ..ShopConfig::default()
    }
}

fn troubled(seed: u64) -> ShopConfig {
    let calm = calm(seed);
    ShopConfig {
        troubles: Trouble::demo(&calm),
        ..calm
    }
}

/// The events of a shop in the order of the log, as a log would keep them.
fn run(config: &ShopConfig) -> Vec<(i64, Vec<u8>)> {
    Shop::new(config.clone())
        .map(|(at_ms, event)| (at_ms, to_protobuf(&event)))
        .collect()
}

// Most tests look at the same three sales, and running one is most of what they cost.
static CALM: LazyLock<Vec<(i64, Vec<u8>)>> = LazyLock::new(|| run(&calm(1)));
static TROUBLED: LazyLock<Vec<(i64, Vec<u8>)>> = LazyLock::new(|| run(&troubled(1)));
/// A sale that is watched until its parcels have come.
static DELIVERED: LazyLock<Vec<(i64, Vec<u8>)>> = LazyLock::new(|| {
    let until_ms = ShopConfig::default().end_ms + 84 * HOUR_MS;
    run(&ShopConfig {
        until_ms,
        ..calm(6)
    })
});

/// Hands each event over as a reader of the log would see it.
fn watch(events: &[(i64, Vec<u8>)], mut each: impl FnMut(i64, &Event<'_>)) {
    for (at_ms, bytes) in events {
        each(
            *at_ms,
            &decode(bytes, Some(b"application/protobuf")).unwrap(),
        );
    }
}

fn trouble(config: &ShopConfig, wanted: fn(&TroubleKind) -> bool) -> Trouble {
    config
        .troubles
        .iter()
        .copied()
        .find(|trouble| wanted(&trouble.kind))
        .unwrap()
}

fn ms(at: Option<Timestamp>) -> i64 {
    at.unwrap().0
}

fn digest(config: ShopConfig) -> u64 {
    let mut hash = Xxh3::new();
    for (at_ms, event) in Shop::new(config) {
        hash.update(&at_ms.to_le_bytes());
        hash.update(&to_protobuf(&event));
    }
    hash.digest()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let small = |config| {
        digest(ShopConfig {
            orders_per_day: 1000.0,
            ..config
        })
    };
    let once = small(troubled(3));
    assert_eq!(once, small(troubled(3)));
    assert_ne!(once, small(troubled(4)));
    assert_ne!(once, small(calm(3)));
}

#[test]
fn events_are_valid_in_both_encodings_unique_and_in_append_order() {
    let config = ShopConfig {
        orders_per_day: 1000.0,
        ..troubled(1)
    };
    let mut ids = BTreeSet::new();
    let mut last_ms = config.start_ms;
    for (at_ms, event) in Shop::new(config.clone()) {
        assert!(
            (last_ms..config.until_ms).contains(&at_ms),
            "{at_ms} after {last_ms}"
        );
        last_ms = at_ms;
        let (json, bytes) = (to_json(&event), to_protobuf(&event));
        let read = decode(json.as_bytes(), None).unwrap_or_else(|e| panic!("{}: {json}", e.detail));
        assert!(
            read == decode(&bytes, None).unwrap(),
            "{json} reads differently as protobuf"
        );
        assert!(
            ids.insert(read.meta.event_id.to_string()),
            "{json} came twice"
        );
        assert!(
            ms(read.meta.occurred_at) <= at_ms,
            "{json} was told before it happened"
        );
        assert!(
            ms(read.meta.occurred_at) >= at_ms - 2000,
            "{json} came late"
        );
        assert_eq!(ms(read.meta.recorded_at), at_ms);
    }
}

#[test]
fn plan_catalogue_and_stock_come_before_the_first_order() {
    let config = calm(1);
    let mut told = Vec::new();
    for (_, event) in Shop::new(config.clone()) {
        let name = match event.body.unwrap() {
            pb::event::Body::Plan(_) => "plan",
            pb::event::Body::Catalog(_) => "catalog",
            pb::event::Body::Supplier(_) => "supplier",
            pb::event::Body::Inventory(_) => "inventory",
            pb::event::Body::Order(_) => break,
            _ => continue,
        };
        match told.last_mut() {
            Some((last, count)) if *last == name => *count += 1,
            _ => told.push((name, 1)),
        }
    }
    let skus = config.skus;
    assert_eq!(
        told,
        [
            ("plan", 1),
            ("catalog", skus),
            ("supplier", 12),
            ("inventory", 2 * skus)
        ]
    );
}

#[test]
fn what_is_sold_follows_the_plan() {
    let config = ShopConfig {
        orders_per_day: 20_000.0,
        ..calm(2)
    };
    let mut planned_units = BTreeMap::new();
    let mut planned = BTreeMap::<i64, f64>::new();
    let mut orders = BTreeMap::<i64, f64>::new();
    let mut minutes = BTreeMap::<i64, f64>::new();
    let mut units = BTreeMap::<String, i64>::new();
    watch(&run(&config), |_, event| match &event.body {
        Body::Plan(plan) => {
            for point in &plan.curve {
                *planned.entry(i64::from(point.offset_s) / 3600).or_default() += point.orders;
            }
            for sku in &plan.skus {
                planned_units.insert(sku.sku_id.to_string(), sku.planned_units);
            }
        }
        Body::Order(order) if order.r#type == Type::Paid => {
            let paid_ms = ms(order.paid_at);
            *orders
                .entry((paid_ms - config.start_ms) / HOUR_MS)
                .or_default() += 1.0;
            *minutes
                .entry((paid_ms - config.flash_ms).div_euclid(MINUTE_MS))
                .or_default() += 1.0;
            for line in &order.lines {
                let sold = line.quantity * i64::from(line.pack_units);
                *units.entry(line.sku_id.to_string()).or_default() += sold;
            }
        }
        _ => {}
    });
    for (hour, planned) in planned {
        let sold = orders.get(&hour).copied().unwrap_or_default();
        // Five standard deviations of a count of dispersion 2, and what the lag of payment moves.
        let bound = 5.0 * (2.0 * planned).sqrt() + 0.02 * planned;
        assert!(
            (sold - planned).abs() < bound,
            "hour {hour}: {sold} of {planned}"
        );
    }
    let before: f64 = (-20..-10).map(|minute| minutes[&minute]).sum();
    let flash: f64 = (1..3).map(|minute| minutes[&minute]).sum();
    assert!(
        flash / 2.0 > 6.0 * before / 10.0,
        "no flash: {flash} in 2 min, {before} in 10"
    );
    for (sku, planned) in planned_units.into_iter().take(3) {
        let share = units[&sku] as f64 / planned as f64;
        assert!((0.85..1.15).contains(&share), "{sku}: {share} of its plan");
    }
}

#[test]
fn without_trouble_stock_lasts_and_its_levels_are_the_sum_of_what_was_told() {
    let mut committed = BTreeMap::<(String, String), i64>::new();
    let mut on_hand = BTreeMap::<(String, String), i64>::new();
    let mut shipments = 0;
    watch(&CALM, |_, event| match &event.body {
        Body::Order(order) => {
            let sign = match order.r#type {
                Type::Paid => 1,
                Type::Cancelled if order.paid_at.is_some() => -1,
                _ => return,
            };
            for line in &order.lines {
                let place = (line.sku_id.to_string(), line.warehouse_id.to_string());
                let units = line.quantity * i64::from(line.pack_units);
                *committed.entry(place).or_default() += sign * units;
            }
        }
        Body::Inventory(inventory) => {
            let place = (
                inventory.sku_id.to_string(),
                inventory.location_id.to_string(),
            );
            let levels = inventory.levels.as_ref().unwrap();
            if inventory.r#type == pb::inventory::Type::Ship {
                *committed.entry(place.clone()).or_default() += inventory.delta;
                *on_hand.get_mut(&place).unwrap() += inventory.delta;
                shipments += 1;
            } else {
                on_hand.insert(place.clone(), levels.on_hand);
            }
            assert_eq!(levels.on_hand, on_hand[&place]);
            assert_eq!(
                levels.committed,
                committed.get(&place).copied().unwrap_or_default()
            );
            assert!(levels.available > 0, "{place:?} ran short: {levels:?}");
        }
        _ => {}
    });
    assert!(shipments > 1000);
}

#[test]
fn closing_events_repeat_what_a_later_stage_would_have_to_join() {
    let mut placed = BTreeMap::new();
    let mut seen = BTreeSet::new();
    watch(&CALM, |_, event| {
        let Body::Order(order) = &event.body else {
            return;
        };
        seen.insert(order.r#type.as_str_name());
        let facts: Vec<(String, i64, i64, String)> = order
            .lines
            .iter()
            .map(|line| {
                let price = line.unit_price.as_ref().unwrap().minor_units;
                (
                    line.sku_id.to_string(),
                    line.quantity,
                    price,
                    line.warehouse_id.to_string(),
                )
            })
            .collect();
        assert!(!facts.is_empty());
        let facts = (ms(order.placed_at), facts);
        if order.r#type == Type::Placed {
            placed.insert(order.order_id.to_string(), facts);
            return;
        }
        assert_eq!(placed.get(order.order_id.as_ref()), Some(&facts));
        if matches!(order.r#type, Type::Paid | Type::Consigned) {
            assert_eq!(ms(order.ship_by) - ms(order.paid_at), 48 * HOUR_MS);
        }
    });
    let expect = ["PLACED", "PAID", "PAYMENT_FAILED", "CANCELLED", "CONSIGNED"];
    assert_eq!(seen, BTreeSet::from(expect));
}

#[test]
fn parcels_are_scanned_and_delivered_as_couriers_do() {
    let mut labelled = BTreeMap::new();
    let mut waits_ms = Vec::new();
    let (mut delivered, mut late) = (0, 0);
    watch(&DELIVERED, |_, event| {
        let Body::Courier(courier) = &event.body else {
            return;
        };
        let now_ms = ms(event.meta.occurred_at);
        match courier.status {
            Status::LabelCreated => {
                labelled.insert(courier.parcel_id.to_string(), now_ms);
            }
            Status::PickedUp => waits_ms.push(now_ms - labelled[courier.parcel_id.as_ref()]),
            Status::Delivered => {
                delivered += 1;
                late += i32::from(now_ms > ms(courier.promised_by));
            }
            _ => {}
        }
    });
    assert_eq!(
        waits_ms.len(),
        labelled.len(),
        "some parcels were never scanned"
    );
    waits_ms.sort_unstable();
    let median_h = waits_ms[waits_ms.len() / 2] as f64 / HOUR_MS as f64;
    assert!((2.8..3.2).contains(&median_h), "median {median_h} h");
    let within = waits_ms.partition_point(|wait| *wait <= 24 * HOUR_MS) as f64;
    let share = within / waits_ms.len() as f64;
    assert!((0.98..0.99).contains(&share), "{share} within 24 h");
    let share = f64::from(late) / f64::from(delivered);
    assert!((0.03..0.06).contains(&share), "{share} of {delivered} late");
}

#[test]
fn few_reviews_are_bad() {
    let (mut reviews, mut bad) = (0, 0);
    watch(&DELIVERED, |_, event| {
        let Body::Feedback(feedback) = &event.body else {
            return;
        };
        reviews += 1;
        bad += i32::from(feedback.rating <= 2);
    });
    let share = f64::from(bad) / f64::from(reviews);
    assert!(
        reviews > 1000 && (0.025..0.06).contains(&share),
        "{bad} of {reviews}"
    );
}

/// When lines were placed below the floor of their sku, and of which skus.
fn below_floor(events: &[(i64, Vec<u8>)]) -> (Vec<i64>, BTreeSet<String>) {
    let mut floors = BTreeMap::new();
    let (mut times_ms, mut skus) = (Vec::new(), BTreeSet::new());
    watch(events, |_, event| match &event.body {
        Body::Catalog(catalog) => {
            if let Some(floor) = &catalog.price_floor {
                floors.insert(catalog.sku_id.to_string(), floor.minor_units);
            }
        }
        Body::Order(order) if order.r#type == Type::Placed => {
            for line in &order.lines {
                let price_minor = line.unit_price.as_ref().unwrap().minor_units;
                if price_minor < floors[line.sku_id.as_ref()] {
                    times_ms.push(ms(order.placed_at));
                    skus.insert(line.sku_id.to_string());
                }
            }
        }
        _ => {}
    });
    (times_ms, skus)
}

#[test]
fn a_mistyped_price_sells_one_sku_below_its_floor() {
    let config = troubled(1);
    let trouble = trouble(&config, |kind| {
        matches!(kind, TroubleKind::MistypedPrice { .. })
    });
    let (times_ms, skus) = below_floor(&TROUBLED);
    assert_eq!(
        trouble.target(&config),
        format!("sku={}", skus.first().unwrap())
    );
    assert_eq!(skus.len(), 1);
    let (first_ms, last_ms) = (times_ms[0], *times_ms.last().unwrap());
    assert!(
        (0..10_000).contains(&(first_ms - trouble.start_ms)),
        "{first_ms}"
    );
    assert!(last_ms < trouble.end_ms);
    assert!(times_ms.len() > 200, "no swarm: {}", times_ms.len());
    assert!(
        below_floor(&CALM).0.is_empty(),
        "a calm sale sells below a floor"
    );
}

#[test]
fn a_stock_out_leaves_a_minute_and_is_oversold_then() {
    let config = troubled(1);
    let trouble = trouble(&config, |kind| matches!(kind, TroubleKind::StockOut { .. }));
    let (mut on_hand, mut committed, mut oversold_ms) = (BTreeMap::new(), 0, None);
    let (mut before, mut after) = (0, 0);
    watch(&TROUBLED, |at_ms, event| match &event.body {
        Body::Inventory(inventory)
            if trouble.target(&config) == format!("sku={}", inventory.sku_id) =>
        {
            let levels = inventory.levels.as_ref().unwrap();
            if at_ms < trouble.start_ms {
                before = levels.available.max(before);
            } else if inventory.r#type == pb::inventory::Type::Snapshot {
                after += levels.available;
            }
            on_hand.insert(inventory.location_id.to_string(), levels.on_hand);
            if inventory.r#type == pb::inventory::Type::Ship {
                committed += inventory.delta;
            }
        }
        Body::Order(order) if matches!(order.r#type, Type::Paid | Type::Cancelled) => {
            for line in &order.lines {
                if trouble.target(&config) == format!("sku={}", line.sku_id)
                    && order.paid_at.is_some()
                {
                    let units = line.quantity * i64::from(line.pack_units);
                    committed += if order.r#type == Type::Paid {
                        units
                    } else {
                        -units
                    };
                }
            }
            if oversold_ms.is_none() && committed > on_hand.values().sum() {
                oversold_ms = Some(at_ms);
            }
        }
        _ => {}
    });
    assert!(before > 20 * after, "{before} before, {after} after");
    let oversold_ms = oversold_ms.expect("never oversold");
    let delay_ms = oversold_ms - trouble.start_ms;
    assert!(
        (0..15 * MINUTE_MS).contains(&delay_ms),
        "oversold after {delay_ms} ms"
    );
}

#[test]
fn a_courier_that_stopped_gets_labels_and_scans_nothing() {
    let config = troubled(1);
    let trouble = trouble(&config, |kind| {
        matches!(kind, TroubleKind::CourierStopped { .. })
    });
    let mut counts = BTreeMap::<(String, bool, &str), u32>::new();
    watch(&TROUBLED, |_, event| {
        let Body::Courier(courier) = &event.body else {
            return;
        };
        let what = match courier.status {
            Status::LabelCreated => "label",
            Status::PickedUp => "scan",
            _ => return,
        };
        let pair = format!(
            "warehouse={},courier={}",
            courier.warehouse_id, courier.courier_id
        );
        let after = ms(event.meta.occurred_at) >= trouble.start_ms;
        *counts.entry((pair, after, what)).or_default() += 1;
    });
    let target = trouble.target(&config);
    let pairs: BTreeSet<String> = counts.keys().map(|(pair, ..)| pair.clone()).collect();
    assert_eq!(pairs.len(), 6);
    for pair in pairs {
        let count = |after, what| {
            counts
                .get(&(pair.clone(), after, what))
                .copied()
                .unwrap_or(0)
        };
        assert!(count(true, "label") > 50, "{pair}: few labels");
        assert!(count(false, "scan") > 50, "{pair}: few scans before");
        assert_eq!(count(true, "scan") == 0, pair == target, "{pair}");
    }
}

#[test]
fn a_dead_checkout_takes_orders_and_no_payments() {
    let config = troubled(1);
    let trouble = trouble(&config, |kind| *kind == TroubleKind::DeadCheckout);
    let mut counts = BTreeMap::<&str, u32>::new();
    let mut paid_after = 0;
    watch(&TROUBLED, |_, event| {
        let Body::Order(order) = &event.body else {
            return;
        };
        let now_ms = ms(event.meta.occurred_at);
        if (trouble.start_ms..trouble.end_ms).contains(&now_ms) {
            *counts.entry(order.r#type.as_str_name()).or_default() += 1;
        }
        if order.r#type == Type::Paid && (0..10_000).contains(&(now_ms - trouble.end_ms)) {
            paid_after += 1;
        }
    });
    assert_eq!(counts.get("PAID"), None);
    assert!(
        counts["PLACED"] > 100 && counts["PAYMENT_FAILED"] > 100,
        "{counts:?}"
    );
    assert!(paid_after > 0, "the checkout never came back");
}

#[test]
fn troubles_of_things_that_there_are_not_do_nothing() {
    let mut config = ShopConfig {
        skus: 3,
        orders_per_day: 500.0,
        ..calm(1)
    };
    let calm = digest(config.clone());
    config.troubles = [
        TroubleKind::MistypedPrice { sku: 3 },
        TroubleKind::StockOut { sku: 3 },
        TroubleKind::CourierStopped {
            warehouse: 9,
            courier: 0,
        },
    ]
    .map(|kind| Trouble {
        kind,
        start_ms: config.flash_ms,
        end_ms: config.end_ms,
    })
    .to_vec();
    assert_eq!(digest(config), calm);
}
