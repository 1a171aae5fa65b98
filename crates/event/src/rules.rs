//! What each message must be by its meaning: what is required, what cannot be negative, what fits
//! what. One function a message, called by the generated checks after those by type. They look at
//! one event alone; whether it fits the others is for the signals.

use std::borrow::Cow;

use crate::bounds::{
    CURVE_POINTS_MAX, CUSTOM_ENTRIES_MAX, CUSTOM_NAME_BYTES_MAX, CUSTOM_TEXT_BYTES_MAX, FLOAT_MAX,
    KEY_BYTES_MAX, LINES_MAX, OFFSET_S_MAX, ORDER_MINOR_MAX, PLAN_POINTS_MAX, QUANTITY_MAX,
    SKUS_MAX, UTC_OFFSET_MIN_MAX, is_key,
};
use crate::pb;
use crate::rejected::{Fault, Reason, quote};
use crate::views::{
    Catalog, Courier, CourierPlan, Custom, Feedback, Inventory, Meta, Money, Ops, Order, OrderLine,
    Plan, PlanPoint, SkuPlan, StaffPlan, Supplier, Visit,
};

type Checked = Result<(), Fault>;

#[inline]
fn given(name: &'static str, id: &str) -> Checked {
    match id.is_empty() {
        true => Err(Fault::missing(name, "expected an id")),
        false => Ok(()),
    }
}

#[inline]
fn known<E: Default + PartialEq>(name: &'static str, value: &E) -> Checked {
    match *value == E::default() {
        true => Err(Fault::missing(
            name,
            "expected a value other than UNSPECIFIED",
        )),
        false => Ok(()),
    }
}

#[inline]
fn not_negative(name: &'static str, value: impl Into<i64>) -> Checked {
    match value.into() {
        0.. => Ok(()),
        value => Err(Fault::invalid(
            name,
            format!("expected 0 or more, got {value}"),
        )),
    }
}

#[inline]
fn between(name: &'static str, value: impl Into<i64>, low: i64, high: i64) -> Checked {
    let value = value.into();
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Fault::invalid(
            name,
            format!("expected {low} to {high}, got {value}"),
        )),
    }
}

fn within(name: &'static str, value: impl Into<f64>, low: f64, high: f64) -> Checked {
    let value = value.into();
    match (low..=high).contains(&value) {
        true => Ok(()),
        false => Err(Fault::invalid(
            name,
            format!("expected {low} to {high}, got {value}"),
        )),
    }
}

fn at_most<T>(name: &'static str, list: &[T], max: usize) -> Checked {
    match list.len() <= max {
        true => Ok(()),
        false => {
            let what = format!("{} elements, at most {max} are allowed", list.len());
            Err(Fault::new(Reason::TooLarge, what).within(name))
        }
    }
}

fn currency(name: &'static str, code: &str) -> Checked {
    match code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        true => Ok(()),
        false => {
            let what = format!(
                "expected three upper-case letters (ISO 4217), got {}",
                quote(code)
            );
            Err(Fault::invalid(name, what))
        }
    }
}

pub(crate) fn meta(meta: &Meta<'_>) -> Checked {
    given("event_id", &meta.event_id)?;
    given("source", &meta.source)?;
    if meta.occurred_at.is_none() {
        return Err(Fault::missing("occurred_at", "expected a time"));
    }
    let offset_max = i64::from(UTC_OFFSET_MIN_MAX);
    between(
        "utc_offset_min",
        meta.utc_offset_min,
        -offset_max,
        offset_max,
    )
}

pub(crate) fn money(money: &Money<'_>) -> Checked {
    currency("currency_code", &money.currency_code)?;
    not_negative("minor_units", money.minor_units)
}

pub(crate) fn order_line(line: &OrderLine<'_>) -> Checked {
    given("sku_id", &line.sku_id)?;
    between("quantity", line.quantity, 1, QUANTITY_MAX)?;
    between("pack_units", line.pack_units, 0, QUANTITY_MAX)
}

pub(crate) fn order(order: &Order<'_>) -> Checked {
    known("type", &order.r#type)?;
    given("order_id", &order.order_id)?;
    not_negative("group_size_needed", order.group_size_needed)?;
    at_most("lines", &order.lines, LINES_MAX)?;
    let values = order.lines.iter().map(|line| {
        let price = line
            .unit_price
            .as_ref()
            .map_or(0, |price| price.minor_units);
        i128::from(price) * i128::from(line.quantity)
    });
    let value: i128 = values.sum();
    if value > i128::from(ORDER_MINOR_MAX) {
        let what = format!("expected at most {ORDER_MINOR_MAX} minor units in all, got {value}");
        return Err(Fault::invalid("lines", what));
    }
    Ok(())
}

pub(crate) fn inventory(inventory: &Inventory<'_>) -> Checked {
    known("type", &inventory.r#type)?;
    given("sku_id", &inventory.sku_id)?;
    not_negative("expected_qty", inventory.expected_qty)?;
    not_negative("received_qty", inventory.received_qty)?;
    not_negative("rejected_qty", inventory.rejected_qty)?;
    if inventory.r#type == pb::inventory::Type::Snapshot && inventory.levels.is_none() {
        return Err(Fault::missing("levels", "expected levels on a SNAPSHOT"));
    }
    Ok(())
}

pub(crate) fn courier(courier: &Courier<'_>) -> Checked {
    known("status", &courier.status)?;
    given("parcel_id", &courier.parcel_id)?;
    not_negative("items", courier.items)?;
    not_negative("weight_g", courier.weight_g)
}

pub(crate) fn feedback(feedback: &Feedback<'_>) -> Checked {
    known("kind", &feedback.kind)?;
    if feedback.thread_id.is_empty() && feedback.feedback_id.is_empty() {
        return Err(Fault::missing("thread_id", "expected it or a feedback_id"));
    }
    between("rating", feedback.rating, 0, 5)?;
    within("dsr_described", feedback.dsr_described, 0.0, 5.0)?;
    within("dsr_service", feedback.dsr_service, 0.0, 5.0)?;
    within("dsr_logistics", feedback.dsr_logistics, 0.0, 5.0)?;
    between("nps", feedback.nps, 0, 10)?;
    between("csat", feedback.csat, 0, 5)?;
    not_negative("media_count", feedback.media_count)?;
    within("topic_confidence", feedback.topic_confidence, 0.0, 1.0)?;
    within("sentiment", feedback.sentiment, -1.0, 1.0)?;
    between("urgency", feedback.urgency, 0, 3)
}

pub(crate) fn visit(visit: &Visit<'_>) -> Checked {
    known("type", &visit.r#type)?;
    given("campaign_id", &visit.campaign_id)?;
    not_negative("latency_ms", visit.latency_ms)?;
    not_negative("page_views", visit.page_views)?;
    not_negative("unique_visitors", visit.unique_visitors)?;
    not_negative("item_views", visit.item_views)?;
    not_negative("carts", visit.carts)?;
    not_negative("checkouts", visit.checkouts)
}

pub(crate) fn catalog(catalog: &Catalog<'_>) -> Checked {
    known("type", &catalog.r#type)?;
    given("sku_id", &catalog.sku_id)?;
    between("pack_units", catalog.pack_units, 0, QUANTITY_MAX)?;
    within("max_discount_ratio", catalog.max_discount_ratio, 0.0, 1.0)?;
    not_negative("limit_per_buyer", catalog.limit_per_buyer)
}

pub(crate) fn plan_point(point: &PlanPoint) -> Checked {
    let offset_max = i64::from(OFFSET_S_MAX);
    between("offset_s", point.offset_s, -offset_max, offset_max)?;
    within("orders", point.orders, 0.0, FLOAT_MAX)?;
    within("units", point.units, 0.0, FLOAT_MAX)?;
    within("visits", point.visits, 0.0, FLOAT_MAX)?;
    not_negative("gmv_minor", point.gmv_minor)
}

/// A curve is read by searching it, so its offsets must rise.
fn curve(name: &'static str, points: &[PlanPoint]) -> Checked {
    at_most(name, points, CURVE_POINTS_MAX)?;
    match points.is_sorted_by(|a, b| a.offset_s < b.offset_s) {
        true => Ok(()),
        false => Err(Fault::invalid(
            name,
            "expected each offset_s above the one before",
        )),
    }
}

pub(crate) fn sku_plan(plan: &SkuPlan<'_>) -> Checked {
    given("sku_id", &plan.sku_id)?;
    not_negative("planned_units", plan.planned_units)?;
    not_negative("sales_cap", plan.sales_cap)?;
    not_negative("safety_stock", plan.safety_stock)?;
    within("baseline_cvr", plan.baseline_cvr, 0.0, 1.0)?;
    curve("curve", &plan.curve)
}

pub(crate) fn courier_plan(plan: &CourierPlan<'_>) -> Checked {
    given("courier_id", &plan.courier_id)?;
    not_negative("parcels_per_day", plan.parcels_per_day)?;
    not_negative("priority", plan.priority)
}

pub(crate) fn staff_plan(plan: &StaffPlan<'_>) -> Checked {
    let offset_max = i64::from(OFFSET_S_MAX);
    between("offset_s", plan.offset_s, -offset_max, offset_max)?;
    not_negative("headcount", plan.headcount)?;
    within("tasks_per_hour", plan.tasks_per_hour, 0.0, FLOAT_MAX)?;
    not_negative("trained", plan.trained)
}

pub(crate) fn plan(plan: &Plan<'_>) -> Checked {
    known("type", &plan.r#type)?;
    given("campaign_id", &plan.campaign_id)?;
    if plan.r#type == pb::plan::Type::Upsert && plan.start.is_none() {
        return Err(Fault::missing("start", "expected a time on an UPSERT"));
    }
    if plan
        .start
        .zip(plan.end)
        .is_some_and(|(start, end)| end <= start)
    {
        return Err(Fault::invalid("end", "expected a time after start"));
    }
    let offset_max = i64::from(OFFSET_S_MAX);
    for offset in &plan.flash_offsets_s {
        between("flash_offsets_s", *offset, -offset_max, offset_max)?;
    }
    curve("curve", &plan.curve)?;
    within("forecast_cv", plan.forecast_cv, 0.0, 100.0)?;
    at_most("skus", &plan.skus, SKUS_MAX)?;
    let of_sku = |sku: &SkuPlan<'_>| match sku.curve.is_empty() {
        true => plan.curve.len(),
        false => sku.curve.len(),
    };
    let points = plan.curve.len() + plan.skus.iter().map(of_sku).sum::<usize>();
    if points > PLAN_POINTS_MAX {
        let what = format!(
            "{points} points, those of skus that follow the campaign's curve counted; at most \
             {PLAN_POINTS_MAX} are allowed: send the skus in several events"
        );
        return Err(Fault::new(Reason::TooLarge, what).within("skus"));
    }
    match plan.currency_code.is_empty() {
        true => Ok(()),
        false => currency("currency_code", &plan.currency_code),
    }
}

pub(crate) fn supplier(supplier: &Supplier<'_>) -> Checked {
    known("type", &supplier.r#type)?;
    given("supplier_id", &supplier.supplier_id)?;
    not_negative("qty", supplier.qty)?;
    for (_, score) in &supplier.scores {
        within("scores", *score, 0.0, 100.0)?;
    }
    Ok(())
}

pub(crate) fn ops(ops: &Ops<'_>) -> Checked {
    known("type", &ops.r#type)?;
    given("component", &ops.component)
}

/// The keys of a custom event's map, and how many there are.
fn keys<V>(name: &'static str, map: &[(Cow<'_, str>, V)]) -> Checked {
    if map.len() > CUSTOM_ENTRIES_MAX {
        let what = format!(
            "{} entries, at most {CUSTOM_ENTRIES_MAX} are allowed",
            map.len()
        );
        return Err(Fault::new(Reason::TooLarge, what).within(name));
    }
    match map.iter().find(|(key, _)| !is_key(key)) {
        Some((key, _)) => Err(Fault::invalid(
            name,
            format!(
                "expected a key of lower-case letters, digits and '_', from a letter on, at most \
                 {KEY_BYTES_MAX}, got {}",
                quote(key)
            ),
        )),
        None => Ok(()),
    }
}

pub(crate) fn custom(custom: &Custom<'_>) -> Checked {
    const NAME: &str = "lower-case letters, digits, '_', '.' or '-', at most";
    if custom.name.is_empty() {
        let expected = format!("expected {NAME} {CUSTOM_NAME_BYTES_MAX}");
        return Err(Fault::missing("name", &expected));
    }
    let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-');
    if custom.name.len() > CUSTOM_NAME_BYTES_MAX || !custom.name.bytes().all(is_letter) {
        let what = format!(
            "expected {NAME} {CUSTOM_NAME_BYTES_MAX}, got {}",
            quote(&custom.name)
        );
        return Err(Fault::invalid("name", what));
    }
    keys("entity", &custom.entity)?;
    keys("numbers", &custom.numbers)?;
    keys("texts", &custom.texts)?;
    let mut texts = custom.texts.iter();
    match texts.find(|(_, value)| value.len() > CUSTOM_TEXT_BYTES_MAX) {
        Some((key, value)) => {
            let what = format!(
                "{} bytes, at most {CUSTOM_TEXT_BYTES_MAX} are allowed",
                value.len()
            );
            let fault = Fault::new(Reason::TooLarge, what);
            Err(fault.of_key(key).within("texts"))
        }
        None => Ok(()),
    }
}
