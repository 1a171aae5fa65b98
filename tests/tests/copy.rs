//! A shop outgrows its folder: the history moves to Kafka, and nobody is paged for it.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fenghuo_embedded::EmbeddedLog;
use fenghuo_log::TopicPartition;
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::pagerduty::PagerDuty;
use fenghuo_tests::shop::{FLOOR_RULE, REMEMBERED_MS};
use fenghuo_tests::{LIMIT, consumer, http, now_ms, producer, rfc3339, shop};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::wait;

const ROUTING_KEY: &str = "copy0123456789abcdef01234567890a";

/// Orders in the folder; FENGHUO_COPY_ORDERS says otherwise, to try millions by hand. And how much of
/// a price's memory is left when it is told, in ms: as long as the move takes, and a while.
#[allow(
    clippy::disallowed_methods,
    reason = "a larger folder is asked for by hand"
)]
fn size() -> (u32, i64) {
    let told = std::env::var("FENGHUO_COPY_ORDERS").ok();
    match told.and_then(|told| told.parse().ok()) {
        Some(orders) => (orders, 300_000),
        None => (300_000, 180_000),
    }
}

/// Parcels in the folder: more than a note could tell the places of one by one.
const PARCELS: u32 = 30_000;

struct Shop {
    kafka: Kafka,
    pagerduty: PagerDuty,
    installation: Installation,
}

impl Shop {
    fn open() -> Result<Self> {
        let shop = Self {
            kafka: Kafka::start()?,
            pagerduty: PagerDuty::start(ROUTING_KEY, 0)?,
            installation: Installation::new()?,
        };
        shop.installation.write("key", ROUTING_KEY)?;
        shop.installation.write("rules.toml", FLOOR_RULE)?;
        shop.installation
            .write("fenghuo.toml", shop.config("log.kind = \"embedded\""))?;
        let kafka = format!(
            "kafka.bootstrap = [{:?}]\nintake.http = true",
            shop.kafka.bootstrap()
        );
        shop.installation.write("kafka.toml", shop.config(&kafka))?;
        Ok(shop)
    }

    fn config(&self, log: &str) -> String {
        format!(
            "http.listen = {:?}\n{log}\nshop.id = \"shop-42\"\nrules.files = [\"rules.toml\"]\n\
             [[channel]]\nname = \"pager\"\ntype = \"pagerduty\"\nurl = {:?}\n\
             routing_key_file = \"key\"\n\
             [[route]]\nseverity = [\"page\"]\nchannels = [\"pager\"]\n",
            self.installation.listen(),
            self.pagerduty.url(),
        )
    }

    fn run_on_kafka(&self) -> Result<Process> {
        let process = self.installation.start(["run", "--config", "kafka.toml"])?;
        process.until("the daemon to be ready", |process| {
            let answer = process.get("/-/ready").ok()?;
            (answer.status == 200).then_some(())
        })?;
        Ok(process)
    }

    /// What a command says that must fail.
    fn refused(&self, arguments: &[&str]) -> Result<String> {
        let (status, told) = self.installation.start(arguments)?.wait()?;
        ensure!(!status.success(), "{arguments:?} went well: {told}");
        Ok(told)
    }

    fn refuses(&self, arguments: &[&str], why: &str) -> Result<()> {
        let told = self.refused(arguments)?;
        ensure!(
            told.contains(why),
            "{arguments:?}: expected {why:?} in {told}"
        );
        Ok(())
    }

    /// Actions and keys of all that was sent.
    fn pages(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let taken = self.pagerduty.seen().taken;
        let told = taken.iter();
        told.map(|event| (text(&event["event_action"]), text(&event["dedup_key"])))
            .collect()
    }
}

fn post(daemon: &Process, lines: &str) -> Result<Value> {
    let headers = [("content-type", "application/x-ndjson")];
    let answer = http::post(&daemon.url("/api/v1/events"), &headers, lines)?;
    ensure!(answer.status == 200, "{answer:?}");
    answer.json()
}

fn orders(ids: Range<u32>) -> String {
    let at_ms = now_ms();
    let order = |id: u32| {
        shop::order(
            &format!("o-{id}"),
            &format!("{}", 5_000 + id % 500),
            5_000,
            at_ms,
        )
    };
    ids.map(|id| format!("{}\n", order(id))).collect()
}

fn until_orders(daemon: &Process, orders: u32) -> Result<Value> {
    daemon.until(&format!("{orders} orders"), |daemon| {
        let totals = daemon.json("/api/v1/totals").ok()?;
        (totals["total"]["orders"] == orders).then_some(totals)
    })
}

/// Open episodes, by what names them for good.
fn open(daemon: &Process) -> Result<Vec<Value>> {
    let alerts = daemon.json("/api/v1/alerts")?;
    let alerts = alerts["alerts"].as_array().context("no alerts")?;
    let mut rows: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            let fields = [
                "id",
                "rule",
                "entity",
                "severity",
                "pending_at",
                "fired_at",
                "peak",
            ];
            fields.map(|field| alert[field].clone()).to_vec().into()
        })
        .collect();
    rows.sort_by_key(Value::to_string);
    Ok(rows)
}

fn parcel(id: u32, status: &str) -> Value {
    let occurred_at = rfc3339(now_ms());
    serde_json::json!({
        "meta": {"event_id": format!("{id}-{status}"), "source": "tms", "occurred_at": occurred_at},
        "courier": {"status": status, "parcel_id": format!("p-{id}"), "courier_id": "sf"},
    })
}

/// Parcels of which every other one is told of again: what is kept of them has a gap between any two.
fn parcels(daemon: &Process, count: u32) -> Result<()> {
    const BATCH: u32 = 1_000;
    for first in (1..count).step_by(BATCH as usize) {
        let labelled = (first..first + BATCH).map(|id| parcel(id, "LABEL_CREATED"));
        let before = first.saturating_sub(BATCH);
        let scanned = (before..first).filter(|id| id % 2 == 1);
        let scanned = scanned.map(|id| parcel(id, "PICKED_UP"));
        let lines: String = labelled
            .chain(scanned)
            .map(|event| format!("{event}\n"))
            .collect();
        post(daemon, &lines)?;
    }
    Ok(())
}

/// A folder with orders, two prices too low, parcels, and a message that nobody understands; its
/// daemon ends as soon as the last is answered.
fn fill(shop: &Shop) -> Result<(Value, Vec<Value>)> {
    let (count, left_ms) = size();
    let daemon = shop.installation.run()?;
    for first in (0..count).step_by(5_000) {
        post(&daemon, &orders(first..count.min(first + 5_000)))?;
    }
    parcels(&daemon, PARCELS)?;
    let at_ms = now_ms() - REMEMBERED_MS + left_ms;
    let mut lines = String::new();
    for sku in ["8001", "8002"] {
        lines += &format!("{}\n", shop::floor(sku, 1_800, at_ms));
        lines += &format!(
            "{}\n",
            shop::order(&format!("cheap-{sku}"), sku, 180, at_ms)
        );
    }
    // It is refused by ingest: its letter names its place.
    let future = shop::order("future", "5000", 5_000, now_ms() + 86_400_000);
    let parcel = parcel(0, "LABEL_CREATED");
    lines += &format!("{future}\n{parcel}\nno event\n");
    let answer = post(&daemon, &lines)?;
    ensure!(
        answer["accepted"] == 5 && answer["rejected"] == 2,
        "{answer}"
    );
    let totals = until_orders(&daemon, count + 2)?;
    wait::until("two pages", LIMIT, || {
        (shop.pages().len() == 2).then_some(())
    })?;
    let open = open(&daemon)?;
    // What is answered right before the end is judged all the same.
    let last = post(&daemon, &orders(count..count + 1_000))?;
    ensure!(last["accepted"] == 1_000, "{last}");
    let (status, log) = daemon.terminate()?;
    ensure!(status.code() == Some(0), "{log}");
    ensure!(
        open.len() == 2 && totals["total"]["orders"] == count + 2,
        "{open:?} {totals}"
    );
    Ok((totals, open))
}

/// Half of the events are gone, as retention takes them.
fn forget_half(folder: &Path) -> Result<()> {
    let log = EmbeddedLog::open(folder)?;
    for (topic, partitions) in log.topics()? {
        if !topic.starts_with("shop.") {
            continue;
        }
        for partition in 0..partitions {
            let of = TopicPartition::new(topic.as_str(), partition);
            log.forget(&of, log.high(&of) / 2)?;
        }
    }
    Ok(log.sync()?)
}

/// Kills a copy once it has brought something, and before it is whole.
fn kill_midway(shop: &Shop, config: &str) -> Result<()> {
    let copy = shop.installation.start(["log", "copy", "--to", config])?;
    copy.until("a copy to have brought something", |copy| {
        copy.log().contains(" records; ").then_some(())
    })?;
    drop(copy);
    shop.refuses(&["run", "--config", config], "take it up again")
}

fn moves(retention: bool) -> Result<()> {
    let shop = Shop::open()?;
    let (totals, before) = fill(&shop)?;
    let pages = shop.pages();
    let folder = shop.installation.path("fenghuo-data");
    if retention {
        forget_half(&folder)?;
        // Streams that were never told are not read there.
        let config = std::fs::read_to_string(shop.installation.path("kafka.toml"))?;
        let streams = r#"topics.streams = ["orders", "catalog", "couriers"]"#;
        shop.installation
            .write("kafka.toml", format!("{streams}\n{config}"))?;
    } else {
        refusals(&shop)?;
    }
    for _ in 0..2 {
        kill_midway(&shop, "kafka.toml")?;
    }
    let copied = shop
        .installation
        .done(["log", "copy", "--to", "kafka.toml"])?;
    println!("{}", String::from_utf8_lossy(&copied.stdout));
    shop.refuses(
        &["log", "copy", "--to", "kafka.toml"],
        "copied into these topics already",
    )?;

    let daemon = shop.run_on_kafka()?;
    let (count, _) = size();
    let after = until_orders(&daemon, count + 1_002)?;
    let units = |totals: &Value| totals["total"]["units"].as_i64();
    ensure!(
        units(&after) == units(&totals).map(|units| units + 1_000),
        "{after} {totals}"
    );
    ensure!(open(&daemon)? == before, "{:?} {before:?}", open(&daemon)?);
    ensure!(shop.pages() == pages, "{:?} {pages:?}", shop.pages());

    // What was told before is known here too.
    let again = post(&daemon, &orders(count + 990..count + 1_010))?;
    ensure!(again["accepted"] == 20, "{again}");
    until_orders(&daemon, count + 1_012)?;
    daemon.until("the duplicates", |daemon| {
        let duplicates = daemon.metric("fenghuo_events_total", &["duplicate"]).ok()?;
        (duplicates == 10.0).then_some(())
    })?;
    let lost = daemon.metric("fenghuo_source_holes_total", &[])?;
    ensure!(lost == 0.0, "{lost} holes");

    // What clears resolves the page that was sent from the folder.
    let resolved = wait::until("both resolves", LIMIT * 6, || {
        let pages = shop.pages();
        (pages.len() >= 4).then_some(pages)
    })?;
    ensure!(
        resolved[..2] == pages[..] && resolved.len() == 4,
        "{resolved:?}"
    );
    let keys = |pages: &[(String, String)], action: &str| {
        let mut keys: Vec<String> = pages
            .iter()
            .filter(|page| page.0 == action)
            .map(|page| page.1.clone())
            .collect();
        keys.sort_unstable();
        keys
    };
    ensure!(
        keys(&resolved, "trigger") == keys(&resolved, "resolve"),
        "{resolved:?}"
    );

    let (status, log) = daemon.terminate()?;
    ensure!(status.code() == Some(0), "{log}");
    let letters =
        shop.installation
            .done(["dead-letter", "list", "--config", "kafka.toml", "--json"])?;
    let letters = String::from_utf8(letters.stdout)?;
    letters_name_their_messages(&shop, &letters)?;
    // The folder is as it was.
    shop.installation.done(["log", "verify"])?;
    ensure!(
        shop.pagerduty.seen().violations.is_empty(),
        "{:?}",
        shop.pagerduty.seen().violations
    );
    Ok(())
}

/// The letter of ingest says where its message is now.
fn letters_name_their_messages(shop: &Shop, letters: &str) -> Result<()> {
    let rows: Vec<Value> = letters
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(rows.len() == 2, "{letters}");
    let future = rows
        .iter()
        .find(|row| row["reason"] == "future")
        .context("no letter")?;
    let offset = future["origin"]["offset"].as_u64().context("no offset")?;
    let partition = future["origin"]["partition"]
        .as_u64()
        .context("no partition")?;
    let messages = consumer::read(&shop.kafka.bootstrap(), "shop.orders")?;
    let of_future = messages
        .iter()
        .filter(|message| message.value.contains("\"future\""));
    let found: Vec<_> = of_future.map(|message| message.offset).collect();
    ensure!(
        found == [offset],
        "{found:?}, and the letter says {partition}@{offset}"
    );
    Ok(())
}

/// What must be right before anything is copied.
fn refusals(shop: &Shop) -> Result<()> {
    let with = |name: &str, text: &str| {
        let config = std::fs::read_to_string(shop.installation.path("kafka.toml"))?;
        shop.installation.write(name, format!("{text}\n{config}"))
    };
    let copy = |config: &str, why: &str| shop.refuses(&["log", "copy", "--to", config], why);
    copy("fenghuo.toml", "keeps its log in a folder")?;
    with("panes.toml", "topics.panes_partitions = 3")?;
    copy("panes.toml", "set panes_partitions = ")?;
    with("names.toml", "topics.prefix = \"other.\"")?;
    copy("names.toml", "which the config does not read")?;
    let other = std::fs::read_to_string(shop.installation.path("kafka.toml"))?;
    shop.installation
        .write("other.toml", other.replace("shop-42", "shop-43"))?;
    copy("other.toml", "set id = \"shop-42\" in [shop]")?;

    // Nothing may lie there already.
    let event = ("o".to_owned(), shop::order("o", "5000", 5_000, now_ms()));
    let taken = Kafka::start()?;
    let config = std::fs::read_to_string(shop.installation.path("kafka.toml"))?;
    let config = config.replace(&shop.kafka.bootstrap(), &taken.bootstrap());
    shop.installation.write("taken.toml", config)?;
    topic(
        &taken,
        &["--create", "--topic", "shop.orders", "--partitions", "4"],
    )?;
    let sent = std::slice::from_ref(&event);
    producer::kcat(&taken, "shop.orders", sent)?;
    copy("taken.toml", "is not empty")?;

    // Nor may anything come in between.
    topic(&taken, &["--delete", "--topic", "shop.orders"])?;
    kill_midway(shop, "taken.toml")?;
    producer::kcat(&taken, "shop.orders", sent)?;
    copy("taken.toml", "somebody else has written to shop.orders")?;
    topic(&taken, &["--delete", "--topic", "shop.couriers"])?;
    copy(
        "taken.toml",
        "it was deleted; delete the topics there, fenghuo.copy among them",
    )
}

fn topic(kafka: &Kafka, arguments: &[&str]) -> Result<()> {
    let done = kafka
        .tool("org.apache.kafka.tools.TopicCommand")
        .args(["--bootstrap-server", &kafka.bootstrap()])
        .args(arguments)
        .output()?;
    ensure!(done.status.success(), "{done:?}");
    Ok(())
}

#[test]
fn a_history_moves_to_kafka_though_its_copy_is_killed_twice() -> Result<()> {
    moves(false)
}

#[test]
fn a_history_moves_whose_events_are_half_gone() -> Result<()> {
    moves(true)
}
