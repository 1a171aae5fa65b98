//! Maps that are full.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use xtask::wait;

use super::probe::memory_mib;
use super::site::{MEMORY_MIB_MAX, PAGE_MS_MAX, Site};
use super::{Attack, Finding, Settings};
use crate::{now_ms, rfc3339};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "full-maps",
        done: "far more skus of stock alone than evaluate.entities_max; then new skus are sold below their floor",
        expected: "each is paged (p99 <= 2 s), and what is refused is named by /-/ready and the metrics",
        on_kafka: true,
        in_short: true,
        play: full_maps,
    },
    Attack {
        name: "large-plans",
        done: "plan events with thousands of points and skus each, far more of both than there are places",
        expected: "new skus below their floor are paged (p99 <= 2 s); memory <= 1 GiB",
        on_kafka: true,
        in_short: false,
        play: large_plans,
    },
];

/// The fewest places that a config may give.
const ENTITIES_MAX: usize = 1_000;
const PARTITIONS: usize = 4;
const KEYS: &str = "evaluate.entities_max = 1000\n";
const WORDS: [&str; 3] = ["entit", "full", "maps"];

fn stock(sku: &str, at_ms: i64) -> Value {
    json!({
        "meta": {"event_id": format!("s-{sku}"), "source": "wms", "shop_id": "shop-42",
                 "occurred_at": rfc3339(at_ms)},
        "inventory": {"type": "SNAPSHOT", "sku_id": sku, "location_id": "wh-1",
                      "levels": {"on_hand": 100}},
    })
}

fn full_maps(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "full-maps", KEYS)?;
    let skus = ENTITIES_MAX * PARTITIONS * settings.pick(2, 10);
    let at_ms = now_ms();
    let fillers: Vec<Value> = (0..skus)
        .map(|number| stock(&format!("filler-{number}"), at_ms))
        .collect();
    let mut accepted = 0;
    for part in fillers.chunks(4_000) {
        accepted += site.send(part)?.accepted;
    }
    is_paged_and_told(&mut finding, &site, true)?;
    finding.measure(format!(
        "{accepted} of {skus} fillers accepted for {} places",
        ENTITIES_MAX * PARTITIONS
    ));
    Ok(finding)
}

fn is_paged_and_told(finding: &mut Finding, site: &Site, is_told: bool) -> Result<()> {
    if is_told {
        let ready = wait::until("it to be told", Duration::from_secs(15), || {
            site.ready_names(&WORDS)
        });
        finding.measure(format!("told {}", ready.as_deref().unwrap_or("nothing")));
        finding.expect(ready.is_ok(), "/-/ready does not name the map that is full");
        let metric = site.metric_names("fenghuo_condition", &WORDS);
        finding.expect(metric.is_some(), "no fenghuo_condition names the map");
    }
    let pages = site.pages("new", 20, Duration::from_secs(5))?;
    finding.measure(format!("pages of new skus {pages}"));
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages of new skus took {pages} (5000 is never)"),
    );
    let (most, _) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!("{most} MiB"));
    finding.expect(most <= MEMORY_MIB_MAX, format!("{most} MiB"));
    Ok(())
}

/// A plan with as many points and skus as a message takes.
fn plan(number: usize, points: usize, skus: usize) -> Value {
    let at_ms = now_ms();
    let curve: Vec<Value> = (0..points)
        .map(|point| json!({"offset_s": point, "orders": 1.0, "units": 1.0}))
        .collect();
    let skus: Vec<Value> = (0..skus)
        .map(|sku| json!({"sku_id": format!("p{number}-{sku}"), "planned_units": 1}))
        .collect();
    json!({
        "meta": {"event_id": format!("plan-{number}"), "source": "planner", "shop_id": "shop-42",
                 "occurred_at": rfc3339(at_ms)},
        "plan": {"type": "UPSERT", "campaign_id": format!("c-{number}"),
                 "start": rfc3339(at_ms), "end": rfc3339(at_ms + 86_400_000),
                 "currency_code": "CNY", "curve": curve, "skus": skus},
    })
}

fn large_plans(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "large-plans", KEYS)?;
    let (mut accepted, mut rejected) = (0, 0);
    for number in 0..settings.pick(20, 100) {
        let taken = site.send(&[plan(number, 16, 4_000)])?;
        accepted += taken.accepted;
        rejected += taken.rejected;
    }
    for part in 0..settings.pick(10, 100) {
        let plans: Vec<Value> = (0..20)
            .map(|one| plan(1_000 + part * 20 + one, 4_096, 0))
            .collect();
        let taken = site.send(&plans)?;
        accepted += taken.accepted;
        rejected += taken.rejected;
    }
    finding.measure(format!("{accepted} plans accepted, {rejected} rejected"));
    is_paged_and_told(&mut finding, &site, false)?;
    Ok(finding)
}
