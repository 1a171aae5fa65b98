//! How long a restart takes with a large shop behind it. By hand: it takes minutes, gigabytes and a
//! quiet machine.

#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::{Duration, Instant};

use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{now_ms, rfc3339};
use xtask::services::Kafka;
use xtask::wait;

/// Parcels, and skus.
const PARCELS: u64 = 1_000_000;
const SKUS: u64 = 100_000;
/// What a parcel's courier says of it; one parcel in ten also arrives.
const STEPS: [&str; 8] = [
    "LABEL_CREATED",
    "PICKED_UP",
    "IN_TRANSIT",
    "ARRIVED_HUB",
    "DEPARTED_HUB",
    "IN_TRANSIT",
    "ARRIVED_DEST_CITY",
    "OUT_FOR_DELIVERY",
];
/// A cycle of checkpoints, as it is configured here, and a bit of the next one.
const CYCLE: Duration = Duration::from_secs(75);
/// All of it must be read by then.
const WITHIN: Duration = Duration::from_secs(30 * 60);

fn write(installation: &Installation) -> u64 {
    let path = installation.path("events.jsonl");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let begun_ms = now_ms() - 3_600_000;
    let promised = rfc3339(now_ms() + 2 * 86_400_000);
    let mut line = String::new();
    let mut events = 0;
    for sku in 0..SKUS {
        let at = rfc3339(begun_ms);
        line.clear();
        let _ = writeln!(
            line,
            r#"{{"meta":{{"event_id":"o{sku}","source":"shop","occurred_at":"{at}"}},"order":{{"type":"PAID","order_id":"o{sku}","campaign_id":"double-11","lines":[{{"sku_id":"sku-{sku:06}","quantity":1,"unit_price":{{"currency_code":"CNY","minor_units":1999}}}}]}}}}"#
        );
        out.write_all(line.as_bytes()).unwrap();
        events += 1;
    }
    for (at, status) in STEPS.iter().chain(&["DELIVERED"]).enumerate() {
        let told = rfc3339(begun_ms + at as i64 * 60_000);
        for parcel in (0..PARCELS).step_by(if at == STEPS.len() { 10 } else { 1 }) {
            let (courier, warehouse) = (parcel % 4, parcel % 3);
            line.clear();
            let _ = writeln!(
                line,
                r#"{{"meta":{{"event_id":"p{parcel}-{at}","source":"courier","occurred_at":"{told}"}},"courier":{{"status":"{status}","parcel_id":"parcel-{parcel:09}","courier_id":"c{courier}","warehouse_id":"w{warehouse}","origin_region":"BJ","dest_region":"SH","promised_by":"{promised}"}}}}"#
            );
            out.write_all(line.as_bytes()).unwrap();
            events += 1;
        }
    }
    out.flush().unwrap();
    events
}

fn taken(daemon: &Process) -> f64 {
    daemon.metric("fenghuo_events_total", &[]).unwrap_or(0.0)
}

#[test]
#[ignore = "takes minutes, gigabytes and a quiet machine"]
fn a_restart_with_a_million_open_parcels() {
    let kafka = Kafka::start().unwrap();
    let installation = Installation::new().unwrap();
    installation
        .configure(&kafka.bootstrap(), "evaluate.checkpoint = \"1m\"\n")
        .unwrap();
    let events = write(&installation);
    let watch = Instant::now();
    installation
        .done(["load", "--config", "fenghuo.toml", "events.jsonl"])
        .unwrap();
    println!(
        "load: {events} events in {:.1} s",
        watch.elapsed().as_secs_f64()
    );
    std::fs::remove_file(installation.path("events.jsonl")).unwrap();

    let watch = Instant::now();
    let mut daemon = installation
        .start(["run", "--config", "fenghuo.toml"])
        .unwrap();
    let all = wait::until("all events", WITHIN, || {
        (taken(&daemon) as u64 >= events).then_some(())
    });
    all.unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()));
    println!("run: read in {:.1} s", watch.elapsed().as_secs_f64());
    let totals = daemon.json("/api/v1/totals?limit=3").unwrap();
    assert_eq!(totals["total"]["orders"], SKUS);
    // A whole cycle of checkpoints, and a bit of the next one.
    let watch = Instant::now();
    let cycle = wait::until("a cycle of checkpoints", CYCLE * 2, || {
        (watch.elapsed() > CYCLE).then_some(())
    });
    cycle.unwrap();
    daemon.signal("KILL").unwrap();
    daemon.wait().unwrap();

    let watch = Instant::now();
    let daemon = installation.run().unwrap();
    println!(
        "killed and started again: ready after {:.1} s, {:.0} trackers",
        watch.elapsed().as_secs_f64(),
        daemon
            .metric("fenghuo_view_entries", &["map=\"trackers\""])
            .unwrap()
    );
    assert_eq!(daemon.json("/api/v1/totals?limit=3").unwrap(), totals);
}
