//! The demo, and its screen in a browser.

use std::process::{Command, Stdio};

use fenghuo_tests::installation::{Installation, Process};
use xtask::{debian, wait};

use fenghuo_tests::LIMIT;

/// The page's document after its scripts have run for a while, as the browser has it.
fn document(daemon: &Process) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(debian::chromium().unwrap());
    browser
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
        ])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--lang=en"])
        .args([
            "--window-size=1920,1080",
            "--virtual-time-budget=4000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(daemon.url("/"))
        .stderr(Stdio::null());
    let output = browser.output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demo_finds_its_troubles_and_shows_them() {
    let installation = Installation::new().unwrap();
    let listen = installation.listen();
    let mut demo = installation
        .start(["demo", "--for", "15s", "--listen", &listen])
        .unwrap();
    demo.until("an alert", |demo| {
        let alerts = demo.json("/api/v1/alerts").ok()?;
        let entity = alerts["alerts"][0]["name"].as_str()?;
        (!entity.is_empty()).then_some(())
    })
    .unwrap();
    let page = wait::until("the screen to show the sale", LIMIT, || {
        let page = document(&demo);
        page.contains("double-11").then_some(page)
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", demo.log()));
    assert!(
        page.contains("<svg") && page.contains("<path"),
        "no chart in {page}"
    );
    assert!(
        page.contains("ship.first_scan")
            || page.contains("warehouse,courier")
            || page.contains("WH-"),
        "no alert in {page}"
    );

    let (status, log) = demo.wait().unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("not found"), "{log}");
    let account = log.split("\ntrouble ").nth(1).unwrap_or_default();
    for (signal, count) in [
        ("price.floor", 1),
        ("stock.", 1),
        ("ship.first_scan", 1),
        ("sales.", 1),
    ] {
        let lines = account.lines().skip(1).take(4);
        let found: Vec<&str> = lines.filter(|line| line.contains(signal)).collect();
        assert_eq!(found.len(), count, "{signal}: {log}");
        for line in found {
            let unit = line.split_whitespace().last().unwrap_or_default();
            assert!(["s", "min", "h"].contains(&unit), "no delay in {line:?}");
        }
    }
}
