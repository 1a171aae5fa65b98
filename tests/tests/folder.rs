//! A shop without Kafka: one binary and one folder, as somebody new meets them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{http, now_ms, shop};
use serde_json::Value;

fn installation() -> Result<Installation> {
    let installation = Installation::new()?;
    let listen = installation.listen();
    let text = format!("http.listen = {listen:?}\nlog.kind = \"embedded\"\n");
    installation.write("fenghuo.toml", text)?;
    Ok(installation)
}

/// Does what the greeting says, word for word.
fn first_events(process: &Process) -> Result<Value> {
    let log = process.until("the greeting", |process| {
        let log = process.log();
        log.contains("\nEND\n").then_some(log)
    })?;
    let begin = log.find("curl ").context("no command in the greeting")?;
    let end = log.find("\nEND\n").context("no end of the command")? + "\nEND\n".len();
    let done = Command::new("sh")
        .arg("-c")
        .arg(&log[begin..end])
        .output()?;
    ensure!(done.status.success(), "{done:?}");
    serde_json::from_slice(&done.stdout).with_context(|| format!("{done:?}"))
}

fn orders(process: &Process) -> Result<i64> {
    let totals = process.json("/api/v1/totals")?;
    Ok(totals["total"]["orders"].as_i64().unwrap_or(0))
}

/// A process that took over has the order and its open alert, and says nothing again.
fn knows_all_and_pages_nobody(process: &Process) -> Result<()> {
    ensure!(orders(process)? == 1, "{}", orders(process)?);
    let alerts = process.json("/api/v1/alerts")?;
    let open = alerts["alerts"].as_array().map(Vec::len);
    ensure!(open == Some(1), "{alerts}");
    let log = process.log();
    ensure!(!log.contains("PAGE "), "paged again: {log}");
    Ok(())
}

#[test]
fn the_greeting_leads_to_a_page_and_a_kill_loses_nothing() -> Result<()> {
    let installation = installation()?;
    let process = installation.run()?;
    let answer = first_events(&process)?;
    ensure!(
        answer["accepted"] == 2 && answer["rejected"] == 0,
        "{answer}"
    );
    process.until("the page in the terminal", |process| {
        let log = process.log();
        log.contains("PAGE     price-floor sku=tea-500g")
            .then_some(())
    })?;
    let readings = process.json("/api/v1/readings?signal=price.floor")?;
    ensure!(readings["readings"][0]["value"] == 0.1, "{readings}");
    let picture = process.json("/api/v1/snapshot")?;
    ensure!(
        picture["shop"] == "my-shop" && picture["currency"] == "CNY",
        "{picture}"
    );

    process.until("the outcome of the page", |process| {
        let alerts = process.json("/api/v1/alerts").ok()?;
        (!alerts.pointer("/alerts/0/deliveries/0/ended_at")?.is_null()).then_some(())
    })?;

    // A copy while it runs, and a restart from it beside the other.
    installation.done(["log", "backup", "copy"])?;
    let beside = Installation::new()?;
    let copy = installation.path("copy");
    let listen = beside.listen();
    let text =
        format!("http.listen = {listen:?}\nlog.kind = \"embedded\"\nlog.folder = {copy:?}\n");
    beside.write("fenghuo.toml", text)?;
    let restarted = beside.run()?;
    knows_all_and_pages_nobody(&restarted)?;
    restarted.terminate()?;

    // Another process is told who has the folder.
    let other = installation.fenghuo(["log", "verify"]).output()?;
    let told = String::from_utf8_lossy(&other.stderr).into_owned();
    let holder = format!("process {}", process.id());
    ensure!(!other.status.success() && told.contains(&holder), "{told}");

    // kill -9.
    drop(process);
    let process = installation.run()?;
    knows_all_and_pages_nobody(&process)?;
    process.terminate()?;

    let verified = installation.done(["log", "verify"])?;
    let told = String::from_utf8(verified.stdout)?;
    ensure!(told.contains("fenghuo-data is whole"), "{told}");
    let dumped = installation.done(["log", "dump", "--topic", "fenghuo.alerts"])?;
    let first = String::from_utf8(dumped.stdout)?;
    let first: Value = serde_json::from_str(first.lines().next().context("no alert")?)?;
    ensure!(
        first["value"]["transition"]["rule"] == "price-floor",
        "{first}"
    );
    Ok(())
}

#[test]
fn files_are_sent_to_a_daemon_over_http() -> Result<()> {
    let installation = installation()?;
    let process = installation.run()?;
    let order = |id: u32| {
        format!(
            r#"{{"meta":{{"event_id":"{id}","source":"erp","shop_id":"42","occurred_at":"2026-11-11T20:00:00+08:00"}},"order":{{"type":"PAID","order_id":"{id}"}}}}"#
        )
    };
    let lines: Vec<String> = (0..25_000).map(order).collect();
    let text = format!("{}\nno event\n", lines.join("\n"));
    installation.write("orders.jsonl", text)?;
    let to = process.url("");
    // The second time changes nothing.
    for _ in 0..2 {
        let loaded = installation.done(["load", "orders.jsonl", "--to", &to])?;
        let told = String::from_utf8(loaded.stderr)?;
        ensure!(told.contains("loaded 25000 events"), "{told}");
        ensure!(told.contains("orders.jsonl:25001"), "{told}");
    }
    process.until("25,000 orders", |process| {
        (orders(process).ok()? == 25_000).then_some(())
    })?;
    let counted = process.until("the duplicates", |process| {
        let duplicates = process
            .metric("fenghuo_events_total", &["duplicate"])
            .ok()?;
        (duplicates == 25_000.0).then_some(())
    });
    counted?;
    process.terminate()?;
    Ok(())
}

#[test]
fn without_room_nothing_is_taken_in_and_what_was_taken_is_judged() -> Result<()> {
    let installation = installation()?;
    let process = installation.run()?;
    first_events(&process)?;
    process.terminate()?;
    // No disk has that much left.
    let config = installation.path("fenghuo.toml");
    let roomy = std::fs::read_to_string(&config)?;
    std::fs::write(&config, format!("{roomy}log.reserve = \"1048576MiB\"\n"))?;
    let process = installation.run()?;
    let url = process.url("/api/v1/events");
    let headers = [("content-type", "application/x-ndjson")];
    let answer = http::post(&url, &headers, "{}")?;
    ensure!(
        answer.status == 507 && answer.body.contains("MiB are kept"),
        "{answer:?}"
    );
    ensure!(orders(&process)? == 1, "{}", orders(&process)?);
    ensure!(process.get("/-/healthy")?.status == 200, "not healthy");
    process.terminate()?;
    Ok(())
}

fn lines(ids: std::ops::Range<u32>) -> String {
    let order = |id: u32| {
        shop::order(
            &format!("o-{id}"),
            &format!("s-{}", id % 50),
            5_000,
            now_ms(),
        )
    };
    ids.map(|id| format!("{}\n", order(id))).collect()
}

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

#[test]
fn on_a_disk_that_is_full_nothing_is_told_that_is_not_kept_and_it_goes_on_by_itself() -> Result<()>
{
    const BATCH: u32 = 2_000;
    let mut installation = installation()?;
    installation.limit_files(12 << 20);
    let process = installation.run()?;
    let url = process.url("/api/v1/events");
    let (mut taken, mut refused) = (0, None);
    for batch in 0..500 {
        let body = lines(batch * BATCH..(batch + 1) * BATCH);
        let answer = http::post(&url, &NDJSON, &body)?;
        if answer.status != 200 {
            refused = Some((answer, body));
            break;
        }
        taken += BATCH;
    }
    let (answer, body) = refused.context("a file of 12 MiB took a million orders")?;
    ensure!(
        answer.status == 503 && answer.body.contains("send them again"),
        "{answer:?}"
    );
    ensure!(taken > 0, "nothing was taken");
    process.until("the fault to be told", |process| {
        let healthy = process.get("/-/healthy").ok()?;
        (healthy.status == 503 && healthy.body.contains("too large")).then_some(())
    })?;
    // What was taken is known, and no more.
    ensure!(
        orders(&process)? <= i64::from(taken),
        "{}",
        orders(&process)?
    );

    process.unlimit_files()?;
    process.until("it to go on", |process| {
        let answer = http::post(&url, &NDJSON, &body).ok()?;
        let healthy = process.get("/-/healthy").ok()?;
        (answer.status == 200 && healthy.status == 200).then_some(())
    })?;
    let all = i64::from(taken + BATCH);
    process.until("every order once", |process| {
        (orders(process).ok()? == all).then_some(())
    })?;
    let (status, log) = process.terminate()?;
    ensure!(status.success(), "{log}");
    installation.done(["log", "verify"])?;
    Ok(())
}

#[test]
fn letters_of_a_folder_are_shown_and_go_back_once_mended() -> Result<()> {
    let installation = installation()?;
    let process = installation.run()?;
    let url = process.url("/api/v1/events");
    // The first one says what shop it is, and it is the wrong one.
    let wrong = lines(0..1).replace("shop-42", "shop-24");
    ensure!(http::post(&url, &NDJSON, wrong)?.status == 200);
    let answer = http::post(&url, &NDJSON, lines(1..4))?.json()?;
    ensure!(answer["rejected"] == 3, "{answer}");
    let held = installation
        .fenghuo(["dead-letter", "list", "--data", "fenghuo-data"])
        .output()?;
    let told = String::from_utf8_lossy(&held.stderr).into_owned();
    ensure!(!held.status.success() && told.contains("process"), "{told}");
    process.terminate()?;

    let dead_letter = |arguments: &[&str]| -> Result<String> {
        let output = installation.done([&["dead-letter"], arguments].concat())?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let listed = dead_letter(&["list", "--data", "fenghuo-data"])?;
    ensure!(listed.contains("3 dead letters: other_shop 3"), "{listed}");
    // As the folder knows its shop they would be refused again.
    let replayed = dead_letter(&["replay", "--data", "fenghuo-data"])?;
    ensure!(replayed.contains("3 still bad"), "{replayed}");
    let config = std::fs::read_to_string(installation.path("fenghuo.toml"))?;
    installation.write("fenghuo.toml", format!("{config}shop.id = \"shop-42\"\n"))?;
    let replayed = dead_letter(&["replay", "--config", "fenghuo.toml"])?;
    ensure!(replayed.contains("3 re-submitted"), "{replayed}");
    let replayed = dead_letter(&["replay", "--config", "fenghuo.toml"])?;
    ensure!(replayed.contains("3 re-submitted before"), "{replayed}");

    let process = installation.run()?;
    process.until("the orders that were mended", |process| {
        (orders(process).ok()? == 4).then_some(())
    })?;
    process.terminate()?;
    Ok(())
}
