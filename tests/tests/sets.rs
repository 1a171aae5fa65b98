//! Instances with different files end with one set of catalogue and rules, told by all of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{LIMIT, consumer, now_ms, producer, shop};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::wait;

/// A rule of a shop's own over a signal that is built in, with this limit.
fn rules(above: f64) -> String {
    format!(
        "[[rule]]\nname = \"low-price\"\nsignal = \"price.floor\"\n\
         page = [{{ read = \"value\", below = {above:?}, clear = {above:?} }}]\nsummary = \"low\"\n"
    )
}

/// A catalogue of a shop's own: orders that were paid, by channel.
const OWN: &str = r#"
[[measure]]
name = "paid_by_channel"
about = "Orders that were paid."
stream = "orders"
when = 'type == "PAID"'
by = ["channel"]
keep = [{ pane = "10s", for = "15m" }]
columns.paid = { count = 'true' }

[[signal]]
name = "own.paid"
about = "orders that were paid"
unit = "orders"
by = ["channel"]
judge = "event"
estimate = { flag = "paid_by_channel.paid", window = "5m" }
"#;

fn configure(of: &Installation, kafka: &Kafka, instance: &str, files: &[&str]) -> Result<()> {
    let group = format!(
        "[kafka]\nbootstrap = [{:?}]\ninstance = {instance:?}\n",
        kafka.bootstrap()
    );
    let own = match files.contains(&"own.toml") {
        true => "[catalogue]\nfiles = [\"own.toml\"]\n",
        false => "",
    };
    let rules: Vec<&&str> = files.iter().filter(|file| **file != "own.toml").collect();
    let text = format!(
        "http.listen = {:?}\n{group}{own}[rules]\nfiles = {rules:?}\n",
        of.listen()
    );
    of.write("fenghuo.toml", text).map(drop)
}

/// Number and hash of what an instance goes by.
fn goes_by(process: &Process) -> Option<(u64, String)> {
    let signals = process.json("/api/v1/signals").ok()?;
    let hash = signals["hash"].as_str()?.to_owned();
    Some((signals["set"].as_u64()?, hash))
}

/// Whether it tells that its files are not in force.
fn is_superseded(process: &Process) -> Option<bool> {
    let stands = process.metric("fenghuo_condition", &["name=\"set.superseded\""]);
    Some(stands.ok()? > 0.0)
}

/// Waits until each goes by this set, and tells whether its files are in force.
fn until_all(processes: &[(&Process, bool)], number: u64) -> Result<String> {
    let found = wait::until(&format!("set {number} everywhere"), LIMIT, || {
        let mut hashes = Vec::new();
        for (process, superseded) in processes {
            let (found, hash) = goes_by(process)?;
            (found == number && is_superseded(process)? == *superseded).then_some(())?;
            hashes.push(hash);
        }
        hashes.dedup();
        (hashes.len() == 1).then(|| hashes.remove(0))
    });
    found.with_context(|| {
        let logs = processes.iter().map(|(process, _)| process.log());
        logs.collect::<Vec<_>>().join("\n=====\n")
    })
}

/// Every transition of the rules that tells of a price, by rule, sku and state.
fn steps(kafka: &Kafka) -> Result<BTreeMap<(String, String, String), usize>> {
    let mut steps = BTreeMap::new();
    for record in consumer::read(&kafka.bootstrap(), "fenghuo.alerts")? {
        let record: Value = serde_json::from_str(&record.value)?;
        let record = &record["transition"];
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let sku = record["entity"]["sku"].as_str().unwrap_or_default();
        *steps
            .entry((text("rule"), sku.to_owned(), text("to")))
            .or_insert(0) += 1;
    }
    Ok(steps)
}

#[test]
fn instances_with_different_files_end_with_one_set_and_lose_nothing() -> Result<()> {
    let kafka = Kafka::start()?;
    let (first, second) = (Installation::new()?, Installation::new()?);
    for of in [&first, &second] {
        of.write("old.toml", rules(0.9))?;
        of.write("new.toml", rules(0.5))?;
        of.write("own.toml", OWN)?;
    }
    let mut sold = 0;
    let mut sell = |sku: &str, count: u32, price_minor: i64| -> Result<()> {
        let orders: Vec<(String, Value)> = (sold..sold + count)
            .map(|id| {
                let id = format!("o-{id}");
                let order = shop::order(&id, sku, price_minor, now_ms());
                (id, order)
            })
            .collect();
        sold += count;
        producer::kcat(&kafka, "shop.orders", &orders)
    };
    let orders_of = |process: &Process| {
        let totals = process.json("/api/v1/totals").ok()?;
        totals["total"]["orders"].as_u64()
    };

    configure(&first, &kafka, "a", &["old.toml"])?;
    let a = first.run()?;
    let old = until_all(&[(&a, false)], 1)?;
    for sku in ["9001", "9002", "9003"] {
        let floor = shop::floor(sku, 1_000, now_ms());
        producer::kcat(&kafka, "shop.catalog", &[(sku.to_owned(), floor)])?;
    }
    sell("9001", 20, 5_000)?;

    // A second one comes with other files: both go by those, and the first one says so.
    configure(&second, &kafka, "b", &["new.toml", "own.toml"])?;
    let b = second.run()?;
    let new = until_all(&[(&a, true), (&b, false)], 2)?;
    ensure!(old != new);
    let ready = a.get("/-/ready")?;
    ensure!(
        ready.status == 200 && ready.body.contains("set.superseded"),
        "{}",
        ready.body
    );
    // 0.8 of its floor: low by the old rule alone; 0.4: low by both.
    sell("9002", 3, 800)?;
    sell("9003", 3, 400)?;

    // The rolling update goes on: the first one has the new files as well.
    let (status, log) = a.terminate()?;
    ensure!(status.success(), "{log}");
    configure(&first, &kafka, "a", &["new.toml", "own.toml"])?;
    let a = first.run()?;
    ensure!(until_all(&[(&a, false), (&b, false)], 2)? == new);

    // One that is started with the files of before changes nothing.
    let (status, log) = b.terminate()?;
    ensure!(status.success(), "{log}");
    configure(&second, &kafka, "b", &["old.toml"])?;
    let b = second.run()?;
    ensure!(until_all(&[(&a, false), (&b, true)], 2)? == new);

    // Going back is a command, for both.
    let listed = first.done(["set", "use", "1", "--config", "fenghuo.toml"])?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(
        listed.contains("(in force)") && listed.lines().count() == 4,
        "{listed}"
    );
    ensure!(until_all(&[(&a, true), (&b, false)], 3)? == old);
    sell("9002", 3, 800)?;

    // Every order was counted once, and every rule judged what came while it was in force.
    let counted = wait::until("every order", LIMIT, || {
        let all = [orders_of(&a), orders_of(&b)];
        let most = all.into_iter().flatten().max()?;
        (most == u64::from(sold)).then_some(most)
    });
    counted.with_context(|| a.log())?;
    let low = |sku: &str, to: &str| ("low-price".to_owned(), sku.to_owned(), to.to_owned());
    let found = wait::until("what was low", LIMIT, || {
        let steps = steps(&kafka).ok()?;
        let is_there = |key| steps.contains_key(&key);
        (is_there(low("9002", "firing")) && is_there(low("9003", "firing"))).then_some(steps)
    });
    let steps = found.with_context(|| a.log())?;
    ensure!(steps[&low("9003", "firing")] == 1, "{steps:?}");
    ensure!(steps[&low("9002", "firing")] == 1, "{steps:?}");
    ensure!(!steps.contains_key(&low("9001", "firing")), "{steps:?}");
    for process in [a, b] {
        let (status, log) = process.terminate()?;
        ensure!(status.success(), "{log}");
    }
    Ok(())
}
