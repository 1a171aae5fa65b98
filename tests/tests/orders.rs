//! Orders of a CSV through `load`, Kafka and `run`, and through `replay`, against a naive count.
//!
//! The same is done with the UCI Online Retail set, in the file that FENGHUO_UCI names.

#![allow(clippy::disallowed_methods, reason = "the test's own setting")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use fenghuo_tests::installation::Installation;
use fenghuo_tests::oracle::{self, Counted};
use fenghuo_tests::uci::{self, PAGE_ROWS, totals};
use serde_json::Value;
use xtask::services::Kafka;

#[test]
fn a_csv_with_every_trap_gives_the_naive_count() {
    let installation = Installation::new().unwrap();
    let csv = installation.write("orders.csv", uci::fixture()).unwrap();
    let counted = oracle::count(&csv).unwrap();
    // The fixture has what it is made for.
    assert!(counted.skus.len() > PAGE_ROWS, "{}", counted.skus.len());
    assert!(counted.rejected >= 100 && counted.skipped == 3);
    assert!(counted.all.cancelled_orders > 20);
    through_kafka_and_replay(&installation, &csv, &counted);
}

#[test]
#[ignore = "needs the UCI Online Retail set; FENGHUO_UCI names its file"]
fn the_uci_orders_give_the_naive_count() {
    let csv = std::env::var_os("FENGHUO_UCI").expect("FENGHUO_UCI names the file");
    let csv = PathBuf::from(csv);
    let installation = Installation::new().unwrap();
    let counted = oracle::count(&csv).unwrap();
    println!("{:?}, {} skus", counted.all, counted.skus.len());
    println!("{} rejected, {} skipped", counted.rejected, counted.skipped);
    through_kafka_and_replay(&installation, &csv, &counted);
}

fn through_kafka_and_replay(installation: &Installation, csv: &Path, counted: &Counted) {
    let mapping = uci::mapping();
    let mapping = mapping.to_str().unwrap();
    let csv = csv.to_str().unwrap();
    let kafka = Kafka::start().unwrap();
    installation
        .configure(&kafka.bootstrap(), uci::SHOP)
        .unwrap();

    let start = Instant::now();
    let load = [
        "load",
        "--config",
        "fenghuo.toml",
        "--csv",
        "orders",
        mapping,
        csv,
    ];
    let told = String::from_utf8(installation.done(load).unwrap().stderr).unwrap();
    println!("load: {:.1} s", start.elapsed().as_secs_f64());
    for rows in [counted.rejected, counted.skipped] {
        assert!(
            told.contains(&format!(": {rows}\n")) || told.ends_with(&format!(": {rows}\n")),
            "{rows}: {told}"
        );
    }

    let start = Instant::now();
    let daemon = installation.run().unwrap();
    let events = counted.all.orders + counted.all.cancelled_orders;
    daemon
        .until("all orders", |daemon| {
            let read = daemon
                .metric("fenghuo_events_total", &["stream=\"orders\""])
                .ok()?;
            (read as i64 >= events).then_some(())
        })
        .unwrap();
    println!(
        "run, from its start to the last order: {:.1} s",
        start.elapsed().as_secs_f64()
    );
    let of = |outcome: &str| {
        let label = format!("outcome={outcome:?}");
        daemon.metric("fenghuo_events_total", &[&label]).unwrap() as i64
    };
    // Every event counts, on time or late, and none was taken for another.
    assert_eq!(of("accepted") + of("late"), events);
    assert_eq!(of("rejected") + of("duplicate"), 0);
    // The counts of ingest are ahead of evaluate's totals, by no more than a commit.
    let found = daemon
        .until("the totals", |daemon| {
            let found = totals(daemon).ok()?;
            found.has_all_of(counted).then_some(found)
        })
        .unwrap();
    counted.assert_same_sales(&found);
    let (status, log) = daemon.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");

    let start = Instant::now();
    let replay = [
        "replay", "--report", "json", "--csv", "orders", mapping, csv,
    ];
    let report = installation.done(replay).unwrap().stdout;
    println!("replay: {:.1} s", start.elapsed().as_secs_f64());
    let report: Value = serde_json::from_slice(&report).unwrap();
    let totals = &report["totals"];
    let skus = totals["skus"].as_array().unwrap();
    counted.assert_same_sales(&Counted::of_rows(&totals["shop"], skus).unwrap());
}
