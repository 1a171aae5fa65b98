//! A price below its floor, told by foreign producers, becomes one page and one resolve.

use fenghuo_tests::installation::Installation;
use fenghuo_tests::pagerduty::{PagerDuty, Seen};
use fenghuo_tests::shop::{FLOOR_RULE, REMEMBERED_MS, floor, order};
use fenghuo_tests::{LIMIT, now_ms, producer};
use serde_json::Value;
use xtask::monitoring::Alertmanager;
use xtask::services::Kafka;
use xtask::wait;

const ROUTING_KEY: &str = "0123456789abcdef0123456789ABCDEF";

/// How much of that is left when the order is told: the time between page and resolve.
const LEFT_MS: i64 = 20_000;

fn of<'a>(seen: &'a Seen, sku: &str) -> Vec<&'a Value> {
    let component = format!("sku={sku}");
    let is_it = |event: &&Value| event["payload"]["component"] == component.as_str();
    seen.taken.iter().filter(is_it).collect()
}

#[test]
fn a_price_below_its_floor_is_paged_once_and_resolved() {
    let kafka = Kafka::start().unwrap();
    let alertmanager = Alertmanager::start().unwrap();
    // The first two tries fail, which must not become two pages.
    let pagerduty = PagerDuty::start(ROUTING_KEY, 2).unwrap();
    let installation = Installation::new().unwrap();
    installation.write("pagerduty.key", ROUTING_KEY).unwrap();
    installation.write("rules.toml", FLOOR_RULE).unwrap();
    let config = format!(
        r#"
shop.id = "shop-42"
rules.files = ["rules.toml"]
http.public_url = "https://fenghuo.example/"
[[channel]]
name = "pager"
type = "pagerduty"
url = {:?}
routing_key_file = "pagerduty.key"
backoff_min = "50ms"
[[channel]]
name = "alertmanager"
type = "alertmanager"
urls = ["http://{}"]
refresh = "1s"
[[route]]
severity = ["page"]
signal = ["price.*"]
channels = ["pager", "alertmanager"]
"#,
        pagerduty.url(),
        alertmanager.address(),
    );
    installation.configure(&kafka.bootstrap(), &config).unwrap();
    let daemon = installation.run().unwrap();

    let at_ms = now_ms() - REMEMBERED_MS + LEFT_MS;
    let floors = ["8001", "8002"].map(|sku| (sku.to_owned(), floor(sku, 1_800, at_ms)));
    producer::kcat(&kafka, "shop.catalog", &floors).unwrap();
    let order = |id: &str, sku, price_minor| (id.to_owned(), order(id, sku, price_minor, at_ms));
    producer::kcat(&kafka, "shop.orders", &[order("o-1", "8001", 1_800)]).unwrap();
    daemon
        .until("a price at its floor", |daemon| {
            let path = "/api/v1/readings?signal=price.floor&entity=sku%3D8001";
            let reading = &daemon.json(path).ok()?["readings"][0];
            (reading["value"].as_f64()? == 1.0).then_some(())
        })
        .unwrap();

    // Through kcat one sku, twice, and through Kafka's own producer another.
    let bad = [order("o-2", "8001", 180), order("o-3", "8001", 180)];
    producer::kcat(&kafka, "shop.orders", &bad).unwrap();
    producer::console(&kafka, "shop.orders", &[order("o-4", "8002", 900)]).unwrap();

    let firing = wait::until("Alertmanager to know both", LIMIT, || {
        alertmanager
            .alerts()
            .ok()
            .filter(|alerts| alerts.len() == 2)
    });
    let firing = firing.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    for alert in &firing {
        assert_eq!(alert["status"]["state"], "active", "{alert}");
        assert_eq!(alert["labels"]["alertname"], "price-floor");
        assert_eq!(alert["labels"]["severity"], "page");
    }

    let seen = wait::until("a page and a resolve of each", LIMIT * 2, || {
        let seen = pagerduty.seen();
        (seen.taken.len() >= 4 || !seen.violations.is_empty()).then_some(seen)
    });
    let seen =
        seen.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", pagerduty.seen(), daemon.log()));
    assert_eq!(seen.violations, [""; 0]);
    for (sku, value) in [("8001", 0.1), ("8002", 0.5)] {
        let [trigger, resolve] = of(&seen, sku)[..] else {
            panic!("{sku}: {:#?}", seen.taken);
        };
        check_page(trigger, resolve, value);
    }
    // The tries that failed were for these pages, under the same keys.
    assert_eq!(seen.failed.len(), 2);
    for failed in &seen.failed {
        assert!(
            seen.taken
                .iter()
                .any(|taken| taken["dedup_key"] == failed["dedup_key"])
        );
    }

    let gone = wait::until("Alertmanager to have them resolved", LIMIT, || {
        alertmanager.alerts().ok().filter(Vec::is_empty)
    });
    gone.unwrap_or_else(|error| panic!("{error}: {:?}", alertmanager.alerts()));
    daemon
        .until(
            "both episodes resolved and all that was sent acknowledged",
            |daemon| {
                let episodes = daemon.json("/api/v1/episodes").ok()?;
                is_all_delivered(&episodes["episodes"]).then_some(())
            },
        )
        .unwrap_or_else(|error| {
            panic!("{error}\n{}", daemon.get("/api/v1/episodes").unwrap().body)
        });
    let (status, log) = daemon.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains(ROUTING_KEY), "the key is in the log");
    assert_eq!(pagerduty.seen().taken.len(), 4, "paged again");
}

/// Two resolved episodes, each triggered and resolved through both channels.
fn is_all_delivered(episodes: &Value) -> bool {
    let is_delivered = |episode: &Value| {
        let deliveries = episode["deliveries"].as_array();
        episode["state"] == "resolved"
            && deliveries.is_some_and(|all| {
                all.len() == 4 && all.iter().all(|one| one["outcome"] == "delivered")
            })
    };
    let episodes = episodes.as_array();
    episodes.is_some_and(|all| all.len() == 2 && all.iter().all(is_delivered))
}

fn check_page(trigger: &Value, resolve: &Value, value: f64) {
    assert_eq!(trigger["event_action"], "trigger");
    assert_eq!(resolve["event_action"], "resolve");
    assert_eq!(trigger["dedup_key"], resolve["dedup_key"]);
    let payload = &trigger["payload"];
    assert_eq!(payload["severity"], "critical");
    assert_eq!(payload["source"], "shop-42");
    assert_eq!(payload["class"], "price.floor");
    let summary = payload["summary"].as_str().unwrap();
    assert!(summary.contains(&value.to_string()), "{summary}");
    let details = &payload["custom_details"];
    assert_eq!(details["reading"]["value"], value, "{details}");
    assert_eq!(details["playbook"], "price-below-floor");
    assert_eq!(details["owner_role"], "pricing");
    assert_eq!(trigger["client"], "Fenghuo");
    let link = trigger["links"][0]["href"].as_str().unwrap();
    assert!(link.starts_with("https://fenghuo.example/"), "{link}");
}
