//! Stopped and started again: nothing is lost, and nobody is paged twice.

use std::net::TcpStream;

use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::pagerduty::PagerDuty;
use fenghuo_tests::{LIMIT, now_ms, producer, shop};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::wait;

const ROUTING_KEY: &str = "restart0123456789abcdef012345678";

/// Episodes that are open, once there are so many.
fn open(daemon: &Process, count: usize) -> Vec<Value> {
    let found = daemon.until("open alerts", |daemon| {
        let alerts = daemon.json("/api/v1/alerts").ok()?;
        let alerts = alerts["alerts"].as_array()?.clone();
        (alerts.len() == count).then_some(alerts)
    });
    found.unwrap()
}

fn until_orders(daemon: &Process, orders: i64) -> Value {
    let found = daemon.until(&format!("{orders} orders"), |daemon| {
        let totals = daemon.json("/api/v1/totals").ok()?;
        (totals["total"]["orders"] == orders).then_some(totals)
    });
    found.unwrap()
}

fn until_triggers(pagerduty: &PagerDuty, count: usize, daemon: &Process) -> Vec<Value> {
    let found = wait::until("pages", LIMIT, || {
        let taken = pagerduty.seen().taken;
        (taken.len() >= count).then_some(taken)
    });
    let taken = found.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    assert_eq!(taken.len(), count, "{taken:#?}");
    assert!(taken.iter().all(|event| event["event_action"] == "trigger"));
    taken
}

#[test]
fn a_restart_loses_nothing_and_pages_nobody_again() {
    let kafka = Kafka::start().unwrap();
    let pagerduty = PagerDuty::start(ROUTING_KEY, 0).unwrap();
    let installation = Installation::new().unwrap();
    installation.write("key", ROUTING_KEY).unwrap();
    let config = format!(
        "[[channel]]\nname = \"pager\"\ntype = \"pagerduty\"\nurl = {:?}\nrouting_key_file = \"key\"\n\
         [[route]]\nseverity = [\"page\"]\nchannels = [\"pager\"]\n",
        pagerduty.url()
    );
    installation.configure(&kafka.bootstrap(), &config).unwrap();
    let daemon = installation.run().unwrap();
    let orders = |ids: std::ops::Range<u32>, sku: &str, price_minor: i64| {
        let order = |id| shop::order(&format!("o-{id}"), sku, price_minor, now_ms());
        let orders: Vec<(String, Value)> = ids.map(|id| (format!("o-{id}"), order(id))).collect();
        producer::kcat(&kafka, "shop.orders", &orders).unwrap();
    };
    for sku in ["8001", "8002"] {
        let floor = shop::floor(sku, 1_800, now_ms());
        producer::kcat(&kafka, "shop.catalog", &[(sku.to_owned(), floor)]).unwrap();
    }
    orders(0..200, "8003", 5_000);
    orders(200..203, "8001", 180);
    let [before] = &open(&daemon, 1)[..] else {
        panic!("one alert was waited for");
    };
    let totals_before = until_orders(&daemon, 203);
    let first_page = until_triggers(&pagerduty, 1, &daemon).remove(0);
    let (status, log) = daemon.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    // Nothing listens any more.
    assert!(TcpStream::connect(installation.listen()).is_err());

    let daemon = installation.run().unwrap();
    let totals_after = until_orders(&daemon, 203);
    assert_eq!(totals_after, totals_before);
    let [after] = &open(&daemon, 1)[..] else {
        panic!("one alert was waited for");
    };
    for field in ["id", "pending_at", "fired_at", "entity", "severity", "peak"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(first_page["dedup_key"], after["id"]);

    // What is told while it is down counts once it is up, and another trouble is paged: behind
    // that page there is none that was still to come.
    let (status, log) = daemon.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    orders(203..300, "8003", 5_000);
    orders(300..302, "8002", 180);
    let daemon = installation.run().unwrap();
    until_orders(&daemon, 302);
    open(&daemon, 2);
    let pages = until_triggers(&pagerduty, 2, &daemon);
    assert_eq!(pages[1]["payload"]["component"], "sku=8002");

    a_mistake_starts_nothing(&installation, &kafka);
    let (status, log) = daemon.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(pagerduty.seen().violations, [""; 0]);
}

/// A daemon that would bind the address of the running one could not; this one does not try.
fn a_mistake_starts_nothing(installation: &Installation, kafka: &Kafka) {
    installation
        .configure(&kafka.bootstrap(), "[ingest]\ncomit = \"50ms\"\n")
        .unwrap();
    let mut process = installation
        .start(["run", "--config", "fenghuo.toml"])
        .unwrap();
    let (status, log) = process.wait().unwrap();
    assert_eq!(status.code(), Some(78), "{log}");
    for told in ["fenghuo.toml", "ingest", "comit", "commit"] {
        assert!(log.contains(told), "no {told} in {log}");
    }
    assert!(!log.to_lowercase().contains("in use"), "{log}");
}
