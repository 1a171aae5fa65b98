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

/// Of +08:00.
const ZONE_MIN: i64 = 480;
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
    // Without the heartbeat it is learned: else the attack would prove nothing.
    for with_heartbeat in [false, true] {
        let site = empty(settings, &format!("heartbeat-first-{with_heartbeat}"))?;
        let now_ms = now_ms();
        if with_heartbeat {
            let heartbeat = json!({
                "meta": {"event_id": "beat", "source": "monitor", "shop_id": "shop-42",
                         "occurred_at": rfc3339(now_ms)},
                "ops": {"type": "HEARTBEAT", "component": "erp"},
            });
            site.send(&[heartbeat])?;
        }
        // The same instant, eight hours further by the wall of the shop.
        let wall = rfc3339(now_ms + ZONE_MIN * 60_000).replace('Z', "+08:00");
        let mut local = order("local", "s", 5_000, now_ms);
        local["meta"] = json!({
            "event_id": "local", "source": "erp", "shop_id": "shop-42", "occurred_at": wall,
        });
        site.send(&[local])?;
        let mut last = Value::Null;
        let seen = wait::until("the shop's time zone", Duration::from_secs(5), || {
            let picture = site.daemon().ok()?.json("/api/v1/snapshot").ok()?;
            last = picture["utc_offset_min"].clone();
            (last == ZONE_MIN).then_some(())
        });
        let first = if with_heartbeat { "heartbeat" } else { "order" };
        finding.measure(format!("{first} first: utc_offset_min {last}"));
        finding.expect(
            seen.is_ok(),
            format!("{first} first: utc_offset_min is {last}"),
        );
    }
    Ok(finding)
}
