//! Order lines in the form of the UCI Online Retail set, and what the daemon makes of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::http::encoded;
use crate::installation::Process;
use crate::oracle::Counted;

/// Rows of an answer; fewer than there are skus, so that pages are turned.
pub const PAGE_ROWS: usize = 500;

/// What the config of its shop says.
pub const SHOP: &str = "shop.id = \"uci\"\nshop.currency = \"GBP\"\nshop.time_zone = \"+00:00\"\n";

/// What its columns mean.
pub fn mapping() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/mappings/uci-online-retail.toml")
}

/// All pages of the daemon's totals.
pub fn totals(daemon: &Process) -> Result<Counted> {
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
pub fn fixture() -> String {
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
