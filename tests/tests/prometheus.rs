//! Prometheus scrapes the daemon, and every query of the dashboard finds data.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use fenghuo_sim::{Shop, ShopConfig, Trouble};
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{LIMIT, now_ms, producer, rfc3339, shop};
use serde_json::{Value, json};
use xtask::monitoring::Prometheus;
use xtask::services::Kafka;
use xtask::{debian, deploy, wait};

/// How long after its flash the sale is looked at: past the minutes in which sales cannot be
/// judged, within those in which the price is wrong.
const AFTER_FLASH_MS: i64 = 6 * 60_000;

const HOUR_MS: i64 = 3_600_000;

/// Events that are told twice.
const REPEATED: usize = 100;

/// Everything that a small shop told in the two days before now, as JSON lines in the order in
/// which it was told.
fn two_days() -> Vec<String> {
    let mut config = ShopConfig {
        skus: 20,
        orders_per_day: 2_000.0,
        ..ShopConfig::for_flash(now_ms() - AFTER_FLASH_MS)
    };
    config.until_ms = now_ms();
    config.troubles = Trouble::demo(&config);
    let mut told: Vec<(i64, String)> = parcels(&config);
    told.extend(Shop::new(config).map(|(at_ms, event)| (at_ms, fenghuo_event::to_json(&event))));
    told.sort_by_key(|(at_ms, _)| *at_ms);
    told.into_iter().map(|(_, line)| line).collect()
}

/// Parcels that were promised within a day: the sale's own are promised for later than now.
fn parcels(config: &ShopConfig) -> Vec<(i64, String)> {
    let parcel = |number: i64, status: &str, at_ms: i64| {
        let parcel = format!("express-{number}");
        let event = json!({
            "meta": {
                "event_id": format!("{parcel}-{status}"), "source": "express",
                "shop_id": config.shop_id, "occurred_at": rfc3339(at_ms),
            },
            "courier": {
                "status": status, "parcel_id": parcel, "courier_id": "EMS",
                "promised_by": rfc3339(now_ms() - 4 * HOUR_MS),
            },
        });
        (at_ms, event.to_string())
    };
    let life = |number| {
        let labelled_ms = now_ms() - 28 * HOUR_MS;
        let delivered_ms = now_ms() - (2 + number % 10) * HOUR_MS;
        [
            parcel(number, "LABEL_CREATED", labelled_ms),
            parcel(number, "DELIVERED", delivered_ms),
        ]
    };
    (0..100).flat_map(life).collect()
}

/// A signal of the shop's own, which has a panel too.
const OWN: &str = r#"
[[measure]]
name = "own_paid"
about = "Orders paid."
stream = "orders"
when = 'type == "PAID"'
by = ["campaign"]
keep = [{ pane = "10s", for = "3h" }]
columns.orders = { count = 'true' }

[[signal]]
name = "own.paid"
about = "orders paid in an hour"
unit = "orders"
by = ["campaign"]
judge = "event"
estimate = { flag = "own_paid.orders", window = "1h" }
"#;

#[test]
fn every_query_of_the_dashboard_finds_data() {
    let kafka = Kafka::start().unwrap();
    let installation = Installation::new().unwrap();
    // Nobody answers at this address, so that pages of warnings stay undelivered.
    let config = r#"
[[channel]]
name = "terminal"
type = "log"
[[channel]]
name = "nobody"
type = "webhook"
url = "http://127.0.0.1:9/"
unsigned = true
deadline = "1s"
[[route]]
signal = ["price.*"]
channels = ["terminal", "nobody"]
[[route]]
channels = ["terminal"]
[catalogue]
files = ["own.toml"]
"#;
    installation.write("own.toml", OWN).unwrap();
    installation.configure(&kafka.bootstrap(), config).unwrap();
    let daemon = installation.run().unwrap();
    let scrape = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: fenghuo, \
         static_configs: [{{ targets: ['{}'] }}] }}]\n",
        installation.listen()
    );
    let prometheus = Prometheus::start(&scrape).unwrap();
    wait::until("two scrapes", LIMIT, || {
        let scrapes = prometheus
            .query("count_over_time(fenghuo_ready[1m]) >= 2")
            .ok()?;
        (!scrapes.is_empty()).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", prometheus.log()));

    let lines = two_days();
    installation
        .write("events.jsonl", lines.join("\n"))
        .unwrap();
    // The newest again: an event is known for an hour of the log's time.
    let repeated = &lines[lines.len() - REPEATED..];
    installation
        .write("again.jsonl", repeated.join("\n"))
        .unwrap();
    for file in ["events.jsonl", "again.jsonl"] {
        installation
            .done(["load", "--config", "fenghuo.toml", file])
            .unwrap();
    }
    let broken = [("k".to_owned(), Value::from("no event"))];
    producer::kcat(&kafka, "shop.orders", &broken).unwrap();
    daemon
        .until("all that was loaded", |daemon| {
            let read = daemon.metric("fenghuo_events_total", &[]).ok()?;
            (read as usize > lines.len() + REPEATED).then_some(())
        })
        .unwrap();
    assert_eq!(outcome(&daemon, "rejected"), 1.0);
    assert!(outcome(&daemon, "duplicate") >= REPEATED as f64);

    every_query(&prometheus, &daemon, &kafka);
    promtool_accepts(&daemon);
    let (status, log) = daemon.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");
}

fn outcome(daemon: &Process, outcome: &str) -> f64 {
    let label = format!("outcome={outcome:?}");
    daemon.metric("fenghuo_events_total", &[&label]).unwrap()
}

fn every_query(prometheus: &Prometheus, daemon: &Process, kafka: &Kafka) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = deploy::dashboard_queries(&root).unwrap();
    let all = missing.len();
    // Of what was never lost there is no reading; retention that takes records is tried elsewhere.
    missing.retain(|query| !query.expr.contains("source.lost"));
    assert_eq!(all - missing.len(), 1);
    assert!(all > 20, "{all} queries");
    // Events go on coming, as they do in a shop, for what is counted by the minute.
    let mut id = 0;
    let found = wait::until("data for every query", LIMIT, || {
        id += 1;
        let order = shop::order(&format!("late-{id}"), "extra", 5_000, now_ms());
        producer::kcat(kafka, "shop.orders", &[(format!("late-{id}"), order)]).ok()?;
        missing.retain(|query| {
            !prometheus
                .query(&query.expr)
                .is_ok_and(|found| has_number(&found))
        });
        missing.is_empty().then_some(())
    });
    if let Err(error) = found {
        let metrics = daemon.get("/metrics").unwrap().body;
        panic!("{error}: {missing:#?}\n{metrics}");
    }
}

/// Whether at least one series has a value: a quantile of nothing is NaN.
fn has_number(series: &[Value]) -> bool {
    series.iter().any(|series| {
        let value = series["value"][1]
            .as_str()
            .and_then(|value| value.parse().ok());
        value.is_some_and(f64::is_finite)
    })
}

fn promtool_accepts(daemon: &Process) {
    let mut promtool = Command::new(debian::promtool().unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let metrics = daemon.get("/metrics").unwrap().body;
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(metrics.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
}
