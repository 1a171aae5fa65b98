//! A shop's own measures, signals and rules, from its files alone: what the documentation says is done
//! word for word.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{http, now_ms, rfc3339};
use serde_json::{Value, json};
use xtask::wait;

const CATALOGUE: &str = include_str!("../../deploy/docs/catalogue.md");
const SCENARIOS: &str = include_str!("../../deploy/docs/scenarios.md");

/// A block of a page of the documentation that begins like this.
fn block<'p>(page: &'p str, fence: &str, begins: &str) -> Result<&'p str> {
    let begin = format!("\n{}", fence.trim_end_matches(char::is_alphabetic));
    let mut blocks = page.split(&begin).skip(1);
    let block = blocks.find_map(|block| {
        let (_, text) = block.split_once('\n')?;
        text.starts_with(begins).then_some(text)
    });
    block.with_context(|| format!("no block begins with {begins:?}"))
}

/// A payment by channel, refused for its coupon or not.
fn payment(number: u64, at_ms: i64, is_refused: bool) -> Value {
    let (kind, error) = match is_refused {
        true => ("PAYMENT_FAILED", "COUPON_EXPIRED"),
        false => ("PAID", ""),
    };
    json!({
        "meta": {
            "event_id": format!("e{number}"), "source": "erp", "shop_id": "42",
            "occurred_at": rfc3339(at_ms),
        },
        "order": {
            "type": kind, "order_id": format!("o{number}"), "channel": "web", "error_code": error,
            "lines": [{
                "sku_id": "mug", "quantity": 1,
                "unit_price": { "currency_code": "CNY", "minor_units": 1900 },
            }],
        },
    })
}

fn send(process: &Process, events: &[Value]) -> Result<()> {
    let mut lines = String::new();
    for event in events {
        writeln!(lines, "{event}")?;
    }
    let type_of = ("content-type", "application/x-ndjson");
    let answer = http::post(&process.url("/api/v1/events"), &[type_of], lines)?.json()?;
    ensure!(answer["accepted"] == events.len(), "{answer}");
    Ok(())
}

/// Sends a payment a second, every third one refused, until something is seen.
fn sell_until(
    process: &Process,
    number: &mut u64,
    what: &str,
    is_there: impl Fn(&Process) -> bool,
) -> Result<()> {
    let mut sent_ms = 0;
    wait::until(what, Duration::from_secs(120), || {
        if now_ms() - sent_ms >= 1_000 {
            sent_ms = now_ms();
            let is_refused = number.is_multiple_of(3);
            send(process, &[payment(*number, sent_ms, is_refused)]).ok()?;
            *number += 1;
        }
        is_there(process).then_some(())
    })
    .with_context(|| process.log())
}

fn open(process: &Process) -> Option<Vec<(String, String)>> {
    let alerts = process.json("/api/v1/alerts").ok()?;
    let open = alerts["alerts"].as_array()?.iter();
    let text = |alert: &Value, key: &str| alert[key].as_str().unwrap_or_default().to_owned();
    Some(
        open.map(|alert| (text(alert, "rule"), text(alert, "state")))
            .collect(),
    )
}

#[test]
fn a_shops_own_signal_is_checked_tested_counted_shown_and_paged() -> Result<()> {
    let installation = Installation::new()?;
    let listen = installation.listen();
    let config = |files: &str| {
        format!(
            "http.listen = {listen:?}\nlog.kind = \"embedded\"\n\n[catalogue]\nfiles = [{files}]\n"
        )
    };
    let coupons = block(CATALOGUE, "```toml", "# coupons.toml")?;
    installation.write("coupons.toml", coupons)?;
    installation.write("fenghuo.toml", config("\"coupons.toml\""))?;
    installation.write("coupons.md", block(SCENARIOS, "````markdown", "# Refused")?)?;
    installation.done(["check", "--config", "fenghuo.toml"])?;
    let tested = installation.done(["test", "--config", "fenghuo.toml", "coupons.md"])?;
    let told = String::from_utf8(tested.stdout)?;
    ensure!(told.ends_with("1 passed, 0 failed\n"), "{told}");
    let listed = installation.done(["signals", "--config", "fenghuo.toml"])?;
    let told = String::from_utf8(listed.stdout)?;
    ensure!(told.contains("payment.coupon_refused"), "{told}");

    // History, as a file.
    let at_ms = 1_794_326_400_000;
    let mut lines = String::new();
    for number in 0..600 {
        let at_ms = at_ms + 1_000 * number as i64;
        writeln!(lines, "{}", payment(number, at_ms, number % 3 == 0))?;
    }
    installation.write("history.jsonl", lines)?;
    let replayed = installation.done([
        "replay",
        "--config",
        "fenghuo.toml",
        "--report",
        "json",
        "history.jsonl",
    ])?;
    let report: Value = serde_json::from_slice(&replayed.stdout)?;
    let episode = &report["episodes"][0];
    ensure!(
        episode["rule"] == "coupon-refused" && episode["severity"] == "page",
        "{report}"
    );

    // The present.
    let process = installation.run()?;
    let mut number = 0;
    let now_ms = now_ms();
    let before: Vec<Value> = (0..120)
        .map(|at| payment(at, now_ms - 1_000 * (120 - at as i64), at % 3 == 0))
        .collect();
    send(&process, &before)?;
    number += 120;
    sell_until(&process, &mut number, "page", |process| {
        process
            .log()
            .contains("PAGE     coupon-refused channel=web")
    })?;
    let share = process.metric(
        "fenghuo_reading",
        &["payment.coupon_refused", "channel=web"],
    )?;
    ensure!((0.25..0.45).contains(&share), "{share}");
    let picture = process.json("/api/v1/snapshot")?;
    let tables = picture["tables"].as_array().context("no tables")?;
    let own = tables
        .iter()
        .find(|table| table["signal"] == "payment.coupon_refused");
    let own = own.context("not on the screen")?;
    ensure!(
        own["panel"] == "own" && own["title"]["zh-Hans"] == "优惠券支付被拒",
        "{own}"
    );
    let row = &own["rows"][0];
    ensure!(
        row["name"] == "web" && row["grade"] == "page" && row["reading"]["state"] == "ok",
        "{own}"
    );
    process.terminate()?;

    // It counts something else from now on: nothing of it is known, and nothing is resolved by that.
    let changed = coupons.replace("\"COUPON\"", "\"CARD\"");
    ensure!(changed != coupons);
    installation.write("coupons.toml", changed)?;
    let process = installation.run()?;
    sell_until(&process, &mut number, "unknown alert", |process| {
        open(process)
            .is_some_and(|open| open == [("coupon-refused".to_owned(), "unknown".to_owned())])
    })?;
    let log = process.log();
    ensure!(!log.contains("PAGE ") && !log.contains("RESOLVED"), "{log}");
    process.terminate()?;

    // Without the file its rule is gone, and its alert ends.
    installation.write("fenghuo.toml", config(""))?;
    let process = installation.run()?;
    process.until("the end of the alert", |process| {
        open(process)?.is_empty().then_some(())
    })?;
    process.terminate()?;
    Ok(())
}
