//! The demo, and its screen in a browser.

use std::process::{Command, Stdio};

use fenghuo_tests::LIMIT;
use fenghuo_tests::installation::{Installation, Process};
use xtask::{debian, wait};

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

/// What stands between the element of this id and the next end of a tag of this name.
fn part<'a>(document: &'a str, id: &str, end: &str) -> &'a str {
    let from = document.split(&format!("id=\"{id}\"")).nth(1);
    let to = |rest: &'a str| rest.split(&format!("</{end}>")).next();
    from.and_then(to).unwrap_or_default()
}

/// The campaign, the courier's alert, and the chart with what was planned and what is paid.
fn shows_the_sale(document: &str) -> bool {
    let (alerts, chart) = (
        part(document, "alerts", "ol"),
        part(document, "chart", "svg"),
    );
    part(document, "campaign", "span").contains("double-11")
        && alerts.contains("WH-BJ")
        && alerts.contains("ZTO")
        && ["plan-line", "paid-line"].iter().all(|line| {
            let path = chart.split(line).nth(1).unwrap_or_default();
            path.split('>')
                .next()
                .is_some_and(|path| path.matches('L').count() > 5)
        })
}

#[test]
fn the_demo_finds_its_troubles_and_shows_them() {
    let installation = Installation::new().unwrap();
    let listen = installation.listen();
    let mut demo = installation
        .start(["demo", "--for", "40s", "--listen", &listen])
        .unwrap();
    // The two days before take as long as the machine needs for them, and a browser beside them makes
    // that longer.
    wait::until("the sale itself", 5 * LIMIT, || {
        demo.log().contains("now 19:58").then_some(())
    })
    .unwrap();
    demo.until("an alert", |demo| {
        let alerts = demo.json("/api/v1/alerts").ok()?;
        let entity = alerts["alerts"][0]["name"].as_str()?;
        (!entity.is_empty()).then_some(())
    })
    .unwrap();
    let mut last = String::new();
    let shown = demo.until("the screen to show the sale", |demo| {
        last = document(demo);
        shows_the_sale(&last).then_some(())
    });
    shown.unwrap_or_else(|error| panic!("{error}\n{last}"));

    let (status, log) = demo.wait().unwrap();
    assert!(status.success(), "{status}: {log}");
    let account = log.split("\ntrouble ").nth(1).unwrap_or_default();
    let troubles: Vec<&str> = account.lines().skip(1).take(4).collect();
    for signal in ["price.floor", "stock.", "ship.first_scan", "sales."] {
        let found = troubles.iter().find(|line| line.contains(signal));
        let line = found.unwrap_or_else(|| panic!("nothing by {signal}: {log}"));
        let unit = line.split_whitespace().last().unwrap_or_default();
        assert!(["s", "min", "h"].contains(&unit), "no delay in {line:?}");
    }
    assert!(!account.contains("not found"), "{log}");
}
