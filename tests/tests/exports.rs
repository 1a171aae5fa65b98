//! A list that is exported again and again, cut, grown and turned round, and the same orders from
//! many senders at once: the count is that of the list, each time.
//!
//! The same is done with the UCI Online Retail set, in the file that FENGHUO_UCI names.

#![allow(clippy::disallowed_methods, reason = "the test's own setting")]

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::oracle::{self, Counted};
use fenghuo_tests::{http, uci};
use serde_json::Value;

/// How long a file has to rest; longer than it takes until the next version is there.
const SETTLE: &str = "15s";

/// Senders at once, and events in a batch.
const SENDERS: usize = 8;
const BATCH: usize = 1_000;

fn installation() -> Result<Installation> {
    let installation = Installation::new()?;
    std::fs::create_dir(installation.path("exports"))?;
    let config = format!(
        "http.listen = {:?}\nlog.kind = \"embedded\"\n{}\
         [intake]\nwatch = \"exports\"\nmappings = [{:?}]\nsettle = {SETTLE:?}\n",
        installation.listen(),
        uci::SHOP,
        uci::mapping(),
    );
    installation.write("fenghuo.toml", config)?;
    Ok(installation)
}

/// The same rows with the last order first; the rows of one order stay in theirs.
fn newest_first(csv: &str) -> Result<Vec<u8>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>()?;
    let (header, rows) = rows.split_first().context("no header")?;
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header)?;
    let is_same = |a: &csv::StringRecord, b: &csv::StringRecord| a[0] == b[0] && a[4] == b[4];
    let orders: Vec<&[csv::StringRecord]> = rows.chunk_by(is_same).collect();
    for row in orders.into_iter().rev().flatten() {
        writer.write_record(row)?;
    }
    writer.into_inner().context("writing the rows")
}

fn until_counted(daemon: &Process, counted: &Counted) -> Result<()> {
    daemon.until("all orders of the list", |daemon| {
        let found = uci::totals(daemon).ok()?;
        found.has_all_of(counted).then_some(())
    })?;
    counted.assert_same_sales(&uci::totals(daemon)?);
    Ok(())
}

/// Rows that were read from files, as the log tells.
fn has_read(daemon: &Process, times: usize) -> Result<()> {
    daemon.until("a version to be read", |daemon| {
        let log = daemon.log();
        (log.matches("read from files").count() > times).then_some(())
    })
}

fn gives_the_naive_count(csv: &str, counted: &Counted) -> Result<()> {
    let installation = installation()?;
    let daemon = installation.run()?;

    // One file that grows: cut in the middle of a line and of an order, then of another, then whole.
    for share in [3, 7, 10] {
        let mut end = csv.len() * share / 10;
        while share < 10 && (!csv.is_char_boundary(end) || csv.as_bytes()[end - 1] == b'\n') {
            end += 1;
        }
        let reads = daemon.log().matches("read from files").count();
        installation.write("exports/orders.csv", &csv[..end])?;
        has_read(&daemon, reads)?;
    }
    until_counted(&daemon, counted)?;
    let events = counted.all.orders + counted.all.cancelled_orders;

    // The same list turned round, under another name: nothing of it is new but one order at its
    // end, which shows that all of it was read.
    let mut turned = newest_first(csv)?;
    turned.extend_from_slice(
        b"999999,one-more,X,1,2011-12-10 12:00:00,1.00,17850.0,United Kingdom\n",
    );
    installation.write("exports/最新在前.csv", turned)?;
    daemon.until("one more order", |daemon| {
        let all = uci::totals(daemon).ok()?.all;
        (all.orders + all.cancelled_orders > events).then_some(())
    })?;
    let mut found = uci::totals(&daemon)?;
    let one_more = found.skus.remove("one-more").context("no such sku")?;
    found.all.orders -= one_more.orders;
    found.all.units -= one_more.units;
    found.all.revenue_minor -= one_more.revenue_minor;
    counted.assert_same_sales(&found);
    let (status, log) = daemon.terminate()?;
    ensure!(status.success(), "{log}");

    let events = events_of(&installation)?;
    ensure!(events.len() as i64 == counted.all.orders + counted.all.cancelled_orders + 1);
    from_many_senders(events, counted)
}

/// What lies in the orders' topic.
fn events_of(installation: &Installation) -> Result<Vec<Vec<u8>>> {
    let dumped = installation.done(["log", "dump", "--topic", "shop.orders"])?;
    let rows = std::str::from_utf8(&dumped.stdout)?.lines();
    rows.map(|row| {
        let row: Value = serde_json::from_str(row)?;
        let event = row["value"]["base64"].as_str().context("no protobuf")?;
        Ok(BASE64.decode(event)?)
    })
    .collect()
}

/// Eight senders at once, in no order, and a third of the batches twice.
fn from_many_senders(mut events: Vec<Vec<u8>>, counted: &Counted) -> Result<()> {
    events.retain(|event| !String::from_utf8_lossy(event).contains("one-more"));
    let mut chance = 7_u64;
    let mut below = |count: usize| {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (chance >> 33) as usize % count
    };
    for at in (1..events.len()).rev() {
        events.swap(at, below(at + 1));
    }
    let mut batches: Vec<&[Vec<u8>]> = events.chunks(BATCH.min(events.len() / 30)).collect();
    let again: Vec<&[Vec<u8>]> = batches.iter().copied().step_by(3).collect();
    let repeated: usize = again.iter().map(|batch| batch.len()).sum();
    for batch in again {
        let at = below(batches.len() + 1);
        batches.insert(at, batch);
    }

    let installation = installation()?;
    let daemon = installation.run()?;
    let url = daemon.url("/api/v1/events");
    let post = |batch: &[Vec<u8>]| -> Result<()> {
        let mut body = Vec::new();
        for event in batch {
            prost::encode_length_delimiter(event.len(), &mut body)?;
            body.extend_from_slice(event);
        }
        let protobuf = [("content-type", "application/x-protobuf")];
        let answer = http::post(&url, &protobuf, body)?;
        ensure!(answer.status == 200, "{answer:?}");
        let answer = answer.json()?;
        ensure!(answer["accepted"] == batch.len(), "{answer}");
        Ok(())
    };
    std::thread::scope(|scope| {
        let sender = |number: usize| {
            let own = batches.iter().skip(number).step_by(SENDERS);
            own.copied().try_for_each(&post)
        };
        let senders: Vec<_> = (0..SENDERS)
            .map(|number| scope.spawn(move || sender(number)))
            .collect();
        senders.into_iter().try_for_each(|sender| {
            sender
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a sender failed"))
        })
    })?;
    until_counted(&daemon, counted)?;
    daemon.until("the duplicates", |daemon| {
        let found = daemon.metric("fenghuo_events_total", &["duplicate"]).ok()?;
        (found == repeated as f64).then_some(())
    })?;
    let (status, log) = daemon.terminate()?;
    ensure!(status.success(), "{log}");
    Ok(())
}

#[test]
fn a_list_in_growing_versions_and_from_many_senders_gives_the_naive_count() -> Result<()> {
    let installation = Installation::new()?;
    let csv = uci::fixture();
    let counted = oracle::count(&installation.write("orders.csv", &csv)?)?;
    gives_the_naive_count(&csv, &counted)
}

#[test]
#[ignore = "needs the UCI Online Retail set; FENGHUO_UCI names its file"]
fn the_uci_list_gives_the_naive_count() -> Result<()> {
    let path =
        PathBuf::from(std::env::var_os("FENGHUO_UCI").context("FENGHUO_UCI names the file")?);
    let counted = oracle::count(&path)?;
    let file = std::fs::File::open(&path)?;
    let mut csv = String::new();
    if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut csv)?;
    } else {
        std::io::BufReader::new(file).read_to_string(&mut csv)?;
    }
    gives_the_naive_count(&csv, &counted)
}
