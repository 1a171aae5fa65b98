//! Orders of a CSV through `load`, Kafka and `run`, and through `replay`, against a naive count.
//!
//! The same is done with the UCI Online Retail set, in the file that FENGHUO_UCI names.

#![allow(clippy::disallowed_methods, reason = "the test's own setting")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fenghuo_tests::http::encoded;
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::oracle::{self, Counted};
use serde_json::Value;
use xtask::services::Kafka;

/// Rows of an answer; fewer than there are skus, so that pages are turned.
const PAGE_ROWS: usize = 500;

#[test]
fn a_csv_with_every_trap_gives_the_naive_count() {
    let installation = Installation::new().unwrap();
    let csv = installation.write("orders.csv", fixture()).unwrap();
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
    let mapping =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/mappings/uci-online-retail.toml");
    let mapping = mapping.to_str().unwrap();
    let csv = csv.to_str().unwrap();
    let kafka = Kafka::start().unwrap();
    let shop = "shop.id = \"uci\"\nshop.currency = \"GBP\"\nshop.time_zone = \"+00:00\"\n";
    installation.configure(&kafka.bootstrap(), shop).unwrap();

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
    let is_in = |found: &Counted| found.all.orders + found.all.cancelled_orders >= events;
    let found = daemon
        .until("the totals", |daemon| totals(daemon).ok().filter(is_in))
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

/// All pages of the daemon's totals.
fn totals(daemon: &Process) -> anyhow::Result<Counted> {
    let mut skus = Vec::new();
    let mut path = format!("/api/v1/totals?limit={PAGE_ROWS}");
    loop {
        let mut page = daemon.json(&path)?;
        if let Value::Array(rows) = page["skus"].take() {
            skus.extend(rows);
        }
        let Some(next) = page["next"].as_str() else {
            return Counted::of_rows(&page["total"], &skus);
        };
        path = format!("/api/v1/totals?limit={PAGE_ROWS}&after={}", encoded(next));
    }
}

/// Order lines as the UCI set has them, with each of its traps, the same at every run.
fn fixture() -> String {
    let mut csv = String::from(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n",
    );
    let mut state = 11_u64;
    // Knuth's multiplier; the high bits are random enough for a fixture.
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut row = |invoice: &str, sku: &str, quantity: i64, minute: u64, price: &str| {
        // Names with commas and quotes, and one with a line break, as exports have them.
        let name = [
            "PLAIN",
            "\"METAL SIGN, RED\"",
            "\"RECORD FRAME 7\"\" \"",
            "\"TWO\nLINES\"",
        ][minute as usize % 4];
        let (hour, of_hour) = (8 + minute / 60 % 12, minute % 60);
        let day = 1 + minute / 720;
        let at = format!("2010-12-{day:02} {hour:02}:{of_hour:02}:00");
        let _ = writeln!(
            csv,
            "{invoice},{sku},{name},{quantity},{at},{price},17850.0,United Kingdom"
        );
    };
    for invoice in 0..700_u64 {
        let number = (536_365 + invoice).to_string();
        // Rows of one invoice and minute stand together, as they do in the set.
        let mut at = invoice * 9;
        let is_cancelled = random(12) == 0;
        let number = if is_cancelled {
            format!("C{number}")
        } else {
            number
        };
        for line in 0..1 + random(8) {
            let code = 20_000 + random(900);
            // Codes that differ in case alone are different skus.
            let sku = match random(12) {
                0 => format!("{code}a"),
                1 => format!("{code}A"),
                _ => code.to_string(),
            };
            let quantity = 1 + random(24) as i64;
            let quantity = if is_cancelled { -quantity } else { quantity };
            let price = format!("{}.{}", random(20), random(100));
            // Some invoices go over a minute.
            at += u64::from(invoice % 17 == 0 && line == 3);
            row(&number, &sku, quantity, at, &price);
            if random(20) == 0 {
                // The same line again is sold again.
                row(&number, &sku, quantity, at, &price);
            }
        }
        match invoice % 7 {
            0 => row(&number, "22222", -3 * i64::from(!is_cancelled), at, "1.25"),
            1 => row(&number, "SAMPLES", 1, at, "0.001"),
            2 => row(&number, "gift", 1, at, "0.0"),
            _ => {}
        }
    }
    for (number, price) in [
        ("A563185", "11062.06"),
        ("A563186", "-11062.06"),
        ("A563187", "-1"),
    ] {
        row(number, "B", 1, 6_400, price);
    }
    for line in 0..1_114_u64 {
        row(
            "581492",
            &(30_000 + line % 800).to_string(),
            1,
            6_410,
            "2.46",
        );
    }
    csv
}
