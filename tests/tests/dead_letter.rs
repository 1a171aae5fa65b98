//! What could not be taken is shown, and goes back once mended: each letter once, and only what
//! would be taken now.

use std::process::Command;

use fenghuo_tests::installation::{Installation, Process};
use fenghuo_tests::{now_ms, producer, shop};
use serde_json::Value;
use xtask::services::Kafka;
use xtask::{debian, wait};

fn until_orders(daemon: &Process, orders: i64) {
    let found = daemon.until(&format!("{orders} orders"), |daemon| {
        let totals = daemon.json("/api/v1/totals").ok()?;
        (totals["total"]["orders"] == orders).then_some(())
    });
    found.unwrap();
}

fn until_letters(daemon: &Process, reason: &str, letters: f64) {
    let found = daemon.until(&format!("{letters} letters of {reason}"), |daemon| {
        let label = format!("reason=\"{reason}\"");
        let found = daemon
            .metric("fenghuo_dead_letters_total", &[&label])
            .ok()?;
        (found == letters).then_some(())
    });
    found.unwrap();
}

fn dead_letter(installation: &Installation, arguments: &[&str]) -> String {
    let mut all = vec!["dead-letter", arguments[0], "--config", "fenghuo.toml"];
    all.extend(&arguments[1..]);
    let output = installation.done(all).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A message whose key, value and content type are as large as the broker takes them, which
/// together with what a dead letter adds is more.
fn monsters(kafka: &Kafka, installation: &Installation) {
    let (key, value) = ("k".repeat(130_000), "{".repeat(900_000));
    let line = installation
        .write("monster", format!("{key}\t{value}"))
        .unwrap();
    let small = installation.write("small", "k\t{").unwrap();
    let content_type = format!("content-type={}", "x".repeat(100_000));
    for (file, header) in [(&line, None), (&small, Some(&content_type))] {
        let mut kcat = Command::new(debian::kcat().unwrap());
        kcat.args(["-P", "-b", &kafka.bootstrap(), "-t", "shop.orders"])
            .args(["-X", "message.max.bytes=1048588", "-K", "\t", "-l"]);
        if let Some(header) = header {
            kcat.args(["-H", header]);
        }
        let status = kcat.arg(file).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

#[test]
fn dead_letters_are_shown_and_go_back_once_mended() {
    let kafka = Kafka::start().unwrap();
    let installation = Installation::new().unwrap();
    let bootstrap = kafka.bootstrap();
    // The shop of the events is shop-42.
    installation
        .configure(&bootstrap, "shop.id = \"shop-41\"")
        .unwrap();
    let daemon = installation.run().unwrap();
    let orders: Vec<(String, Value)> = (0..25)
        .map(|id| format!("o-{id}"))
        .map(|id| (id.clone(), shop::order(&id, "8001", 5_000, now_ms())))
        .collect();
    producer::kcat(&kafka, "shop.orders", &orders).unwrap();
    producer::kcat(
        &kafka,
        "shop.orders",
        &[("o-x".to_owned(), Value::from("\u{1b}[2J"))],
    )
    .unwrap();
    producer::kcat(&kafka, "shop.inventory", &orders[..1]).unwrap();
    monsters(&kafka, &installation);
    until_letters(&daemon, "other_shop", 25.0);
    until_letters(&daemon, "wrong_topic", 1.0);
    until_letters(&daemon, "malformed", 2.0);
    until_letters(&daemon, "unsupported_encoding", 1.0);

    let listed = dead_letter(&installation, &["list", "--limit", "3"]);
    assert!(
        listed.contains("29 dead letters, the newest 3 of them shown: "),
        "{listed}"
    );
    assert!(listed.contains("other_shop 25"), "{listed}");
    assert!(!listed.contains('\u{1b}'), "{listed:?}");
    let json = dead_letter(
        &installation,
        &["list", "--json", "--reason", "wrong_topic"],
    );
    let json: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(json["origin"]["topic"], "shop.inventory");
    assert_eq!(json["replayed"], false);
    assert!(
        json["excerpt"].as_str().unwrap().starts_with("{\"meta\""),
        "{json}"
    );
    let none = dead_letter(
        &installation,
        &["list", "--reason", "late", "--since", "1h"],
    );
    assert_eq!(none, "no dead letters\n");

    // Nothing is mended yet.
    let told = dead_letter(&installation, &["replay", "--dry-run"]);
    assert!(
        told.ends_with("1 cut: the message or its key is no longer whole\n28 still bad\n"),
        "{told}"
    );
    assert!(daemon.terminate().unwrap().0.success());

    installation
        .configure(&bootstrap, "shop.id = \"shop-42\"")
        .unwrap();
    let daemon = installation.run().unwrap();
    let told = dead_letter(&installation, &["replay", "--dry-run"]);
    assert!(
        told.contains("\n25 would be re-submitted\n3 still bad\n"),
        "{told}"
    );
    let told = dead_letter(&installation, &["replay"]);
    assert!(told.contains("3 still bad\n"), "{told}");
    assert!(told.contains("\n25 re-submitted\n"), "{told}");
    until_orders(&daemon, 25);

    let told = dead_letter(&installation, &["replay"]);
    assert!(
        told.ends_with("25 re-submitted before\n3 still bad\n"),
        "{told}"
    );
    let json = dead_letter(&installation, &["list", "--json", "--reason", "other_shop"]);
    let marked = json.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["replayed"] == true
    });
    assert_eq!(marked.count(), 25);
    // What comes after shows that nothing more was on its way.
    let more = shop::order("o-more", "8001", 5_000, now_ms());
    producer::kcat(&kafka, "shop.orders", &[("o-more".to_owned(), more)]).unwrap();
    until_orders(&daemon, 26);
    let duplicates = daemon
        .metric("fenghuo_events_total", &["duplicate"])
        .unwrap();
    assert_eq!(duplicates, 0.0);
    let (status, log) = daemon.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{log}");

    let refused = installation.fenghuo(["dead-letter", "list", "--config", "nowhere.toml"]);
    let ended = wait::until("it to end", fenghuo_tests::LIMIT, {
        let mut child = { refused }.spawn().unwrap();
        move || child.try_wait().transpose()
    });
    assert_eq!(ended.unwrap().unwrap().code(), Some(78));
}
