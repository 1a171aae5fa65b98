//! What only time and other builds bring: a broker that is away, and a record from the future.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::pagerduty::PagerDuty;
use fenghuo_tests::{now_ms, producer, shop};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::{debian, wait};

const ROUTING_KEY: &str = "away567890123456789abcdef0123456";

/// How long the broker is away; FENGHUO_AWAY_S says otherwise, to try ten minutes by hand.
#[allow(
    clippy::disallowed_methods,
    reason = "a longer time is asked for by hand"
)]
fn away() -> Duration {
    let told = std::env::var("FENGHUO_AWAY_S").ok();
    Duration::from_secs(told.and_then(|told| told.parse().ok()).unwrap_or(20))
}

fn orders(kafka: &Kafka, ids: std::ops::Range<u32>, sku: &str, price_minor: i64) {
    let order = |id| shop::order(&format!("o-{id}"), sku, price_minor, now_ms());
    let orders: Vec<(String, Value)> = ids.map(|id| (format!("o-{id}"), order(id))).collect();
    producer::kcat(kafka, "shop.orders", &orders).unwrap();
}

fn until_orders(daemon: &Process, orders: i64) {
    let counted = daemon.until(&format!("{orders} orders"), |daemon| {
        let totals = daemon.json("/api/v1/totals").ok()?;
        (totals["total"]["orders"] == orders).then_some(())
    });
    counted.unwrap();
}

#[test]
fn a_broker_that_is_away_for_long_loses_nothing_and_resolves_nothing() {
    let mut kafka = Kafka::start().unwrap();
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
    let floor = shop::floor("8001", 1_800, now_ms());
    producer::kcat(&kafka, "shop.catalog", &[("8001".to_owned(), floor)]).unwrap();
    orders(&kafka, 0..3, "8001", 180);
    until_orders(&daemon, 3);
    let paged = daemon.until("the page and its outcome", |daemon| {
        let alerts = daemon.json("/api/v1/alerts").ok()?;
        let ended = alerts.pointer("/alerts/0/deliveries/0/ended_at")?;
        (!ended.is_null()).then_some(())
    });
    paged.unwrap();

    kafka.kill().unwrap();
    let away = away();
    let _ = wait::until::<()>("the time", away, || None);
    // It lives, says that it is not ready, and tells nobody that anything is over.
    assert!(!daemon.has_ended(), "{}", daemon.log());
    let ready = daemon.get("/-/ready").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert_eq!(daemon.get("/-/healthy").unwrap().status, 200);
    let resolved = |event: &Value| event["event_action"] == "resolve";
    assert!(!pagerduty.seen().taken.iter().any(resolved));
    kafka.start_again().unwrap();
    kafka.wait_until_up().unwrap();
    orders(&kafka, 3..103, "8003", 5_000);
    until_orders(&daemon, 103);
    let ready = daemon.until("the daemon to be ready", |daemon| {
        (daemon.get("/-/ready").ok()?.status == 200).then_some(())
    });
    ready.unwrap();
    let (status, log) = daemon.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");
    // One page, under one key, and nothing that took it back while the price still counted.
    let seen = pagerduty.seen();
    let triggers = seen
        .taken
        .iter()
        .filter(|event| event["event_action"] == "trigger");
    assert_eq!(triggers.count(), 1, "{:#?}", seen.taken);
}

#[test]
fn a_record_of_a_newer_build_is_left_to_a_newer_build() {
    let kafka = Kafka::start().unwrap();
    let installation = Installation::new().unwrap();
    installation.configure(&kafka.bootstrap(), "").unwrap();
    let mut daemon = installation.run().unwrap();
    orders(&kafka, 0..10, "8003", 5_000);
    until_orders(&daemon, 10);
    // A commit record that says nothing but that its form is of version 99.
    let mut child = Command::new(debian::kcat().unwrap())
        .args([
            "-P",
            "-b",
            &kafka.bootstrap(),
            "-t",
            "fenghuo.panes",
            "-p",
            "0",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[0x08, 99]).unwrap();
    assert!(child.wait().unwrap().success());

    let (status, log) = daemon.wait().unwrap();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("newer"), "{log}");
    // It was neither skipped nor set aside: whoever comes next meets it again.
    let mut next = installation
        .start(["run", "--config", "fenghuo.toml"])
        .unwrap();
    let (status, log) = next.wait().unwrap();
    assert_eq!(status.code(), Some(3), "{log}");
    let letters = fenghuo_tests::consumer::read(&kafka.bootstrap(), "fenghuo.dead-letter");
    assert_eq!(letters.unwrap(), []);
}
