//! Who comes first: a folder without a shop, and the events by which it learns one.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use xtask::wait;

use super::receivers::below_floor;
use super::site::Site;
use super::{Attack, Finding, Settings};
use crate::shop::order;
use crate::{now_ms, rfc3339};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "wrong-first",
        done: "an event of another shop comes first, too far in the future to be taken, or with an unknown currency",
        expected: "honest events of the true shop are accepted afterwards, and paged",
        on_kafka: false,
        in_short: true,
        play: wrong_first,
    },
    Attack {
        name: "heartbeat-first",
        done: "a heartbeat whose time ends in Z comes first, then orders with +08:00",
        expected: "the time zone is +08:00",
        on_kafka: false,
        in_short: true,
        play: heartbeat_first,
    },
];

const YEAR_MS: i64 = 365 * 86_400_000;

fn empty(settings: &Settings, name: &str) -> Result<Site> {
    let mut site = Site::new(settings, name)?;
    site.forget_shop();
    site.configure("", &site.pager_alone())?;
    site.start()?;
    Ok(site)
}

/// First events that must settle nothing.
fn wrong() -> Vec<(&'static str, Value)> {
    let now_ms = now_ms();
    let mut future = order("future", "s", 5_000, now_ms + YEAR_MS);
    future["meta"]["shopId"] = json!("shop-24");
    let mut currency = order("currency", "s", 5_000, now_ms);
    currency["meta"]["shopId"] = json!("shop-24");
    currency["order"]["lines"][0]["unitPrice"]["currencyCode"] = json!("yuan");
    let mut shapeless = order("shapeless", "s", 5_000, now_ms);
    shapeless["meta"]["shopId"] = json!("shop-24");
    shapeless["order"]["lines"][0]["quantity"] = json!(-4);
    vec![
        ("future", future),
        ("currency", currency),
        ("quantity", shapeless),
    ]
}

fn wrong_first(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    for (name, event) in wrong() {
        let site = empty(settings, &format!("wrong-first-{name}"))?;
        let first = site.send(&[event])?;
        let honest = below_floor("honest", 1);
        let taken = site.send(&honest)?;
        finding.measure(format!(
            "{name}: first {} accepted, then {} of {}",
            first.accepted,
            taken.accepted,
            honest.len()
        ));
        finding.expect(
            taken.accepted == honest.len() as u64,
            format!("{name}: honest events were refused: {}", taken.body),
        );
        let came = site.pager.wait_for("\"honest-0\"", Duration::from_secs(5));
        finding.expect(
            came.is_some(),
            format!("{name}: the honest order was not paged"),
        );
    }
    Ok(finding)
}

fn heartbeat_first(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = empty(settings, "heartbeat-first")?;
    let now_ms = now_ms();
    let heartbeat = json!({
        "meta": {"event_id": "beat", "source": "monitor", "shop_id": "shop-42",
                 "occurred_at": rfc3339(now_ms)},
        "ops": {"type": "HEARTBEAT", "component": "erp"},
    });
    site.send(&[heartbeat])?;
    let mut local = order("local", "s", 5_000, now_ms);
    // The same instant, eight hours further by the wall of the shop.
    let wall = rfc3339(now_ms + 8 * 3_600_000).replace('Z', "+08:00");
    local["meta"]["occurredAt"] = json!(wall);
    site.send(&[local])?;
    let zone =
        |text: &str| text.contains("+08:00") || text.contains("28800") || text.contains("480");
    let seen = wait::until("the shop's time zone", Duration::from_secs(8), || {
        let picture = site
            .daemon()
            .ok()?
            .get("/api/v1/snapshot")
            .ok()?
            .json()
            .ok()?;
        let told: Vec<String> = [
            "time_zone",
            "utc_offset",
            "utc_offset_min",
            "utc_offset_ms",
            "offset_ms",
            "zone",
        ]
        .iter()
        .filter(|name| !picture[**name].is_null())
        .map(|name| picture[*name].to_string())
        .collect();
        told.iter().any(|text| zone(text)).then_some(told)
    });
    finding.measure(format!("time zone {:?}", seen.as_ref().ok()));
    finding.expect(seen.is_ok(), "the snapshot's time zone is not +08:00");
    Ok(finding)
}
