//! The messages of the simulated shop.
//!
//! Owns how a step looks as an event: every fact that a later stage would have to join is
//! repeated. It must never decide what happens.

use fenghuo_event::pb;
use fenghuo_event::pb::event::Body;

use crate::ShopConfig;
use crate::assortment::{Assortment, COURIERS, REGIONS, Sku, WAREHOUSES};
use crate::life::{Bought, Life, LifeStep, SHIP_SLA_MS};
use crate::random::{Random, mix};
use crate::stock::Stock;

/// The shop's currency.
pub(crate) const CURRENCY: &str = "CNY";

/// Different buyers that come to the shop.
const BUYERS: i64 = 200_000;

/// What reviewers write: of few stars, and of many.
const COMPLAINTS: [&str; 4] = [
    "包装破了,漏了一半",
    "和描述不一样,失望",
    "质量太差,不会再买",
    "少发了一件,客服不理",
];
const PRAISES: [&str; 4] = ["很好,会回购", "物流快,包装好", "性价比高", "家人都喜欢"];

pub(crate) fn timestamp(at_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at_ms.div_euclid(1000),
        nanos: (at_ms.rem_euclid(1000) * 1_000_000) as i32,
    }
}

pub(crate) fn money(minor_units: i64) -> pb::Money {
    pb::Money {
        currency_code: CURRENCY.to_owned(),
        minor_units,
    }
}

/// Sixteen hex digits that stand for a salted hash.
fn hash(number: u64) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = mix(number);
    (0..16)
        .map(|place| char::from(DIGITS[(bits >> (60 - 4 * place)) as usize & 15]))
        .collect()
}

/// A step of a life as an event.
pub(crate) fn life_event(
    config: &ShopConfig,
    assortment: &Assortment,
    stock: &[[Stock; 2]],
    life: &Life,
    step: LifeStep,
) -> Body {
    use pb::courier::Status;
    use pb::order::Type;
    match step {
        LifeStep::Placed => order(config, assortment, life, Type::Placed),
        LifeStep::PaymentFailed => order(config, assortment, life, Type::PaymentFailed),
        LifeStep::Paid => order(config, assortment, life, Type::Paid),
        LifeStep::Cancelled => order(config, assortment, life, Type::Cancelled),
        LifeStep::Consigned => order(config, assortment, life, Type::Consigned),
        LifeStep::Shipped => {
            let bought = life.bought()[usize::from(life.shipped) - 1];
            ship(assortment, stock, life, bought)
        }
        LifeStep::Labelled => courier(config, life, Status::LabelCreated),
        LifeStep::PickedUp => courier(config, life, Status::PickedUp),
        LifeStep::InTransit => courier(config, life, Status::InTransit),
        LifeStep::OutForDelivery => courier(config, life, Status::OutForDelivery),
        LifeStep::Delivered => courier(config, life, Status::Delivered),
        LifeStep::Reviewed => review(config, assortment, life),
    }
}

fn order_id(life: &Life) -> String {
    format!("o{:08}", life.number)
}

fn campaign_id(config: &ShopConfig, life: &Life) -> String {
    if life.in_campaign {
        config.campaign_id.clone()
    } else {
        String::new()
    }
}

fn buyer(config: &ShopConfig, life: &Life) -> u64 {
    Random::new(config.seed ^ mix(life.number)).between(0, BUYERS) as u64
}

fn order(config: &ShopConfig, assortment: &Assortment, life: &Life, kind: pb::order::Type) -> Body {
    let warehouse = WAREHOUSES[usize::from(life.warehouse)].0;
    let mut total_minor = 0;
    let mut list_minor = 0;
    let lines = life
        .bought()
        .iter()
        .map(|bought| {
            let sku = &assortment.skus[bought.sku as usize];
            total_minor += bought.price_minor * i64::from(bought.packs);
            list_minor += sku.list_minor * i64::from(bought.packs);
            pb::OrderLine {
                sku_id: sku.id.clone(),
                quantity: i64::from(bought.packs),
                pack_units: sku.pack_units,
                unit_price: Some(money(bought.price_minor)),
                list_price: Some(money(sku.list_minor)),
                warehouse_id: warehouse.to_owned(),
                ..Default::default()
            }
        })
        .collect();
    let paid_at = (life.paid_ms > 0).then(|| timestamp(life.paid_ms));
    let (initiator, reason_code, error_code) = match kind {
        pb::order::Type::PaymentFailed => (pb::order::Party::System, "", "GATEWAY_TIMEOUT"),
        pb::order::Type::Cancelled if paid_at.is_some() => {
            (pb::order::Party::Buyer, "changed_mind", "")
        }
        pb::order::Type::Cancelled => (pb::order::Party::System, "unpaid", ""),
        _ => (pb::order::Party::Unspecified, "", ""),
    };
    let buyer = buyer(config, life);
    Body::Order(pb::Order {
        r#type: kind as i32,
        order_id: order_id(life),
        campaign_id: campaign_id(config, life),
        channel: ["app", "live", "search"][(mix(life.number) % 3) as usize].to_owned(),
        buyer_id_hash: hash(buyer),
        address_hash: hash(buyer ^ 0xadd << 32),
        ship_region: REGIONS[usize::from(life.region)].0.to_owned(),
        lines,
        total: Some(money(total_minor)),
        discount_total: Some(money(list_minor - total_minor)),
        ship_by: paid_at
            .is_some()
            .then(|| timestamp(life.paid_ms + SHIP_SLA_MS)),
        deliver_by: paid_at.is_some().then(|| timestamp(life.promised_ms())),
        placed_at: Some(timestamp(life.placed_ms)),
        paid_at,
        initiator: initiator as i32,
        reason_code: reason_code.to_owned(),
        error_code: error_code.to_owned(),
        ..Default::default()
    })
}

fn ship(assortment: &Assortment, stock: &[[Stock; 2]], life: &Life, bought: Bought) -> Body {
    let sku = &assortment.skus[bought.sku as usize];
    let warehouse = usize::from(life.warehouse);
    Body::Inventory(pb::Inventory {
        r#type: pb::inventory::Type::Ship as i32,
        sku_id: sku.id.clone(),
        location_id: WAREHOUSES[warehouse].0.to_owned(),
        delta: -i64::from(bought.packs) * i64::from(sku.pack_units),
        levels: Some(stock[bought.sku as usize][warehouse].levels()),
        order_id: order_id(life),
        ..Default::default()
    })
}

/// The levels of a sku at a warehouse, as a count or an export tells them.
pub(crate) fn snapshot(sku: &Sku, warehouse: usize, stock: &Stock) -> Body {
    Body::Inventory(pb::Inventory {
        r#type: pb::inventory::Type::Snapshot as i32,
        sku_id: sku.id.clone(),
        location_id: WAREHOUSES[warehouse].0.to_owned(),
        levels: Some(stock.levels()),
        ..Default::default()
    })
}

fn courier(config: &ShopConfig, life: &Life, status: pb::courier::Status) -> Body {
    let (warehouse_id, origin) = WAREHOUSES[usize::from(life.warehouse)];
    Body::Courier(pb::Courier {
        status: status as i32,
        parcel_id: format!("p{:08}", life.number),
        courier_id: COURIERS[usize::from(life.courier)].to_owned(),
        service_level: "standard".to_owned(),
        order_ids: vec![order_id(life)],
        warehouse_id: warehouse_id.to_owned(),
        origin_region: origin.to_owned(),
        dest_region: REGIONS[usize::from(life.region)].0.to_owned(),
        promised_by: Some(timestamp(life.promised_ms())),
        items: life.bought().iter().map(|bought| bought.packs as i32).sum(),
        campaign_id: campaign_id(config, life),
        paid_at: Some(timestamp(life.paid_ms)),
        ..Default::default()
    })
}

fn review(config: &ShopConfig, assortment: &Assortment, life: &Life) -> Body {
    let mut random = Random::new(mix(config.seed ^ mix(life.number << 8 | 0xff)));
    let rating = 1 + random.weighted(&[0.025, 0.04, 0.10, 0.30, 1.0]) as i32;
    let texts = if rating <= 2 { COMPLAINTS } else { PRAISES };
    let feedback_id = format!("f{:08}", life.number);
    let buyer = buyer(config, life);
    Body::Feedback(pb::Feedback {
        kind: pb::feedback::Kind::Review as i32,
        phase: pb::feedback::Phase::Opened as i32,
        thread_id: feedback_id.clone(),
        feedback_id,
        customer_id_hash: hash(buyer),
        address_hash: hash(buyer ^ 0xadd << 32),
        verified_purchase: true,
        order_id: order_id(life),
        sku_id: assortment.skus[life.bought()[0].sku as usize].id.clone(),
        courier_id: COURIERS[usize::from(life.courier)].to_owned(),
        warehouse_id: WAREHOUSES[usize::from(life.warehouse)].0.to_owned(),
        campaign_id: campaign_id(config, life),
        rating,
        text: texts[random.between(0, 4) as usize].to_owned(),
        language: "zh".to_owned(),
        ..Default::default()
    })
}

/// Everything about a sku.
pub(crate) fn catalog(sku: &Sku) -> Body {
    Body::Catalog(pb::Catalog {
        r#type: pb::catalog::Type::Upsert as i32,
        sku_id: sku.id.clone(),
        title: sku.title.clone(),
        category: sku.category.to_owned(),
        pack_units: sku.pack_units,
        list_price: Some(money(sku.list_minor)),
        sale_price: Some(money(sku.sale_minor)),
        unit_cost: Some(money(sku.cost_minor)),
        // The floor is for a base unit.
        price_floor: Some(money(sku.floor_minor / i64::from(sku.pack_units))),
        primary_supplier_id: sku.supplier_id.clone(),
        ..Default::default()
    })
}

/// A new price of a sku.
pub(crate) fn price_changed(sku: &Sku, sale_minor: i64) -> Body {
    Body::Catalog(pb::Catalog {
        r#type: pb::catalog::Type::PriceChanged as i32,
        sku_id: sku.id.clone(),
        sale_price: Some(money(sale_minor)),
        changed_by: "operator-7".to_owned(),
        ..Default::default()
    })
}

/// A supplier is known.
pub(crate) fn supplier(number: usize) -> Body {
    Body::Supplier(pb::Supplier {
        r#type: pb::supplier::Type::Profile as i32,
        supplier_id: format!("sup{}", number + 1),
        ..Default::default()
    })
}

/// A part of the shop is alive.
pub(crate) fn heartbeat(component: &str, site: &str) -> Body {
    Body::Ops(pb::Ops {
        r#type: pb::ops::Type::Heartbeat as i32,
        component: component.to_owned(),
        site: site.to_owned(),
        ..Default::default()
    })
}

/// The traffic of one span, added up.
pub(crate) fn visits(campaign_id: &str, start_ms: i64, length_ms: i64, visits: i64) -> Body {
    Body::Visit(pb::Visit {
        r#type: pb::visit::Type::Aggregate as i32,
        campaign_id: campaign_id.to_owned(),
        channel: "app".to_owned(),
        window_start: Some(timestamp(start_ms)),
        window: Some(prost_types::Duration {
            seconds: length_ms / 1000,
            nanos: 0,
        }),
        page_views: visits * 3,
        unique_visitors: visits,
        item_views: visits * 2,
        carts: visits / 8,
        checkouts: visits / 20,
        ..Default::default()
    })
}
