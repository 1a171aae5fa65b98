//! Who finds room where there is little: what is sold and priced, whatever else was sent before;
//! and what found none is told by name.

mod told;

use std::collections::BTreeMap;

use fenghuo_engine::{Topology, TopologyConfig, View};
use fenghuo_event::{Stream, pb};
use fenghuo_log::{Append, Log, TopicPartition};

const START_MS: i64 = 1_794_398_400_000;
const STREAMS: [Stream; 4] = [
    Stream::Orders,
    Stream::Inventory,
    Stream::Catalog,
    Stream::Plans,
];

fn config(entities_max: usize) -> TopologyConfig {
    let mut config = told::config(&STREAMS);
    config.ingest.panes_partitions = 1;
    config.entities_max = entities_max;
    config
}

fn event(id: &str, body: pb::event::Body) -> Append {
    let meta = pb::Meta {
        event_id: id.to_owned(),
        source: "test".to_owned(),
        occurred_at: Some(fenghuo_event::Timestamp(START_MS).into()),
        ..Default::default()
    };
    let to = TopicPartition::new(format!("shop.{}", body.stream().topic()), 0);
    let event = pb::Event {
        meta: Some(meta),
        body: Some(body),
    };
    let value = fenghuo_event::to_protobuf(&event);
    let mut append = Append::new(to, Some(b"key".to_vec()), value);
    append
        .headers
        .push(("content-type", b"application/protobuf".to_vec()));
    append
}

fn money(minor_units: i64) -> Option<pb::Money> {
    Some(pb::Money {
        currency_code: "CNY".to_owned(),
        minor_units,
    })
}

/// A plan of skus that nobody ever sold.
fn plan(id: &str, skus: usize, points: usize) -> Append {
    let sku = |number| pb::SkuPlan {
        sku_id: format!("{id}-{number}"),
        planned_units: 1,
        ..Default::default()
    };
    let point = |number: usize| pb::PlanPoint {
        offset_s: number as i32,
        orders: 1.0,
        ..Default::default()
    };
    let plan = pb::Plan {
        r#type: pb::plan::Type::Upsert.into(),
        campaign_id: id.to_owned(),
        start: Some(fenghuo_event::Timestamp(START_MS).into()),
        curve: (0..points).map(point).collect(),
        skus: (0..skus).map(sku).collect(),
        ..Default::default()
    };
    event(id, pb::event::Body::Plan(plan))
}

/// A new sku with a floor, and an order below it.
fn sold_below_its_floor(sku: &str) -> Vec<Append> {
    let catalog = pb::Catalog {
        r#type: pb::catalog::Type::Upsert.into(),
        sku_id: sku.to_owned(),
        pack_units: 1,
        price_floor: money(4_900),
        ..Default::default()
    };
    let order = pb::Order {
        r#type: pb::order::Type::Paid.into(),
        order_id: format!("order-{sku}"),
        lines: vec![pb::OrderLine {
            sku_id: sku.to_owned(),
            quantity: 1,
            pack_units: 1,
            unit_price: money(490),
            ..Default::default()
        }],
        ..Default::default()
    };
    vec![
        event(&format!("floor-{sku}"), pb::event::Body::Catalog(catalog)),
        event(&format!("order-{sku}"), pb::event::Body::Order(order)),
    ]
}

fn paged(view: &View) -> Vec<String> {
    let open = view.open();
    let floor = open.iter().filter(|open| open.signal == "price.floor");
    floor.map(|open| open.entity.to_string()).collect()
}

fn entries(topology: &Topology) -> BTreeMap<&'static str, u64> {
    topology.view().entries().into_iter().collect()
}

#[test]
fn what_is_sold_and_priced_finds_room_after_a_flood_of_plans() {
    let (config, log) = (config(300), told::log(&STREAMS, START_MS));
    let mut topology = Topology::open(&config, &log).unwrap();
    for flood in 0..4 {
        let flood = plan(&format!("p\u{202e}{flood}"), 250, 1);
        log.append(vec![flood]).unwrap();
    }
    topology.settle(START_MS + 1_000).unwrap();
    assert_eq!(
        entries(&topology)["entities"],
        201,
        "two thirds, and the topic itself"
    );
    let refused = topology.view().refused();
    assert!(
        refused
            .iter()
            .any(|name| name.starts_with("sku=p\\u{202e}")),
        "{refused:?}"
    );

    let skus: Vec<String> = (0..20).map(|number| format!("new-{number:02}")).collect();
    log.append(
        skus.iter()
            .flat_map(|sku| sold_below_its_floor(sku))
            .collect(),
    )
    .unwrap();
    topology.settle(START_MS + 2_000).unwrap();
    let expected: Vec<String> = skus.iter().map(|sku| format!("sku={sku}")).collect();
    let mut pages = paged(topology.view());
    pages.sort();
    assert_eq!(pages, expected);

    // Another life gives the same places to the same ones.
    drop(topology);
    let mut again = Topology::open(&config, &log).unwrap();
    again.settle(START_MS + 3_000).unwrap();
    let mut pages = paged(again.view());
    pages.sort();
    assert_eq!(pages, expected);
}

#[test]
fn lanes_and_campaigns_leave_two_thirds_to_skus() {
    let (config, log) = (config(300), told::log(&STREAMS, START_MS));
    let mut topology = Topology::open(&config, &log).unwrap();
    let flood = (0..1_000).map(|number| plan(&format!("c{number}"), 0, 1));
    log.append(flood.collect()).unwrap();
    topology.settle(START_MS + 1_000).unwrap();
    assert_eq!(entries(&topology)["entities"], 101);
    log.append(vec![plan("real", 150, 1)]).unwrap();
    topology.settle(START_MS + 2_000).unwrap();
    assert_eq!(entries(&topology)["entities"], 201);
}

#[test]
fn plans_have_a_bounded_number_of_points_together() {
    let (config, log) = (config(10_000), told::log(&STREAMS, START_MS));
    let mut topology = Topology::open(&config, &log).unwrap();
    // 74 skus with 4,000 points each, and the campaign.
    for number in 0..4 {
        log.append(vec![plan(&format!("c{number}"), 74, 4_000)])
            .unwrap();
        topology.settle(START_MS + 1_000 * (number + 1)).unwrap();
    }
    let held = entries(&topology);
    assert!(held["plan_points"] <= fenghuo_engine::PLAN_POINTS_MAX as u64);
    assert!(held["plan_points"] > fenghuo_engine::PLAN_POINTS_MAX as u64 - 4_000);
    assert!(held["plan_points_refused"] > 100, "{held:?}");
}

#[test]
fn one_plan_event_cannot_carry_more_points_than_a_bound() {
    let value = plan("c", 100, 4_000).value.unwrap();
    let error = fenghuo_event::decode(&value, Some(b"application/protobuf")).unwrap_err();
    assert!(error.detail.contains("points"), "{error:?}");
    let value = plan("c", 5_000, 1).value.unwrap();
    assert!(fenghuo_event::decode(&value, Some(b"application/protobuf")).is_err());
    let value = plan("c", 74, 4_000).value.unwrap();
    assert!(fenghuo_event::decode(&value, Some(b"application/protobuf")).is_ok());
}
