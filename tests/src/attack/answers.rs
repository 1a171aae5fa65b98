//! Answers that grow with what is known.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::probe::{Probe, Times, memory_mib};
use super::receivers::below_floor;
use super::site::{HEALTH_MS_MAX, MEMORY_MIB_MAX, PAGE_MS_MAX, Site};
use super::{Attack, Finding, Settings, pass, wire};

pub(super) const ATTACKS: &[Attack] = &[Attack {
    name: "large-answers",
    done: "tens of thousands of open alerts; the lists and the metrics are asked for, by many who do not read",
    expected: "no answer is larger than 1 MB, and each list has a way on; /metrics p99 <= 200 ms; memory <= 1 GiB; health p99 <= 100 ms",
    on_kafka: false,
    in_short: false,
    play: large_answers,
}];

const BYTES_MAX: usize = 1_000_000;
const METRICS_MS_MAX: u64 = 200;
const WITHIN: Duration = Duration::from_secs(20);
const LISTS: [&str; 5] = [
    "/api/v1/alerts",
    "/api/v1/episodes",
    "/api/v1/readings",
    "/api/v1/deliveries",
    "/api/v1/totals",
];

/// How a reader of a list is told that there is more.
fn has_way_on(body: &Value) -> bool {
    let names = ["next", "cursor", "after", "more", "next_cursor"];
    names.iter().any(|name| !body[name].is_null())
}

fn large_answers(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::running(settings, "large-answers", "")?;
    let skus = settings.pick(5_000, 40_000);
    for part in below_floor("many", skus).chunks(5_000) {
        site.send(part)?;
    }
    let last = format!("\"many-{}\"", skus - 1);
    let known = site.pager.wait_for(&last, Duration::from_secs(60));
    finding.measure(format!(
        "{skus} alerts, the last one paged: {}",
        known.is_some()
    ));
    let to = site.address()?;
    let probe = Probe::start(to)?;
    for path in LISTS {
        let answer = wire::get(to, path, WITHIN);
        let body = answer
            .text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body);
        finding.measure(format!(
            "{path}: {} bytes in {} ms",
            body.len(),
            answer.took.as_millis()
        ));
        finding.expect(
            answer.status == 200 && body.len() <= BYTES_MAX,
            format!("{path} answers {} with {} bytes", answer.status, body.len()),
        );
        if path == "/api/v1/alerts" {
            let told = site.daemon()?.get(path)?;
            let is_linked = told.json().is_ok_and(|body| has_way_on(&body));
            finding.expect(
                is_linked || answer.text.to_lowercase().contains("\r\nlink:"),
                format!("{path} has no way to what it left out"),
            );
        }
    }
    let mut times = Vec::new();
    for number in 0..settings.pick(10, 30) {
        times.push(wire::get(to, "/metrics", WITHIN).took.as_millis() as u64);
        site.page_ms(&format!("meanwhile-{number}"), Duration::from_secs(5))?;
    }
    let metrics = Times::new(times);
    finding.measure(format!("/metrics {metrics}"));
    finding.expect(
        metrics.percentile(99) <= METRICS_MS_MAX,
        format!("/metrics took {metrics}"),
    );
    unread(&mut finding, &site)?;
    let health = probe.finish();
    finding.measure(format!("health {health}"));
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    Ok(finding)
}

/// Many ask for the largest lists and read nothing.
fn unread(finding: &mut Finding, site: &Site) -> Result<()> {
    let to = site.address()?;
    let mut streams = Vec::new();
    for _ in 0..24 {
        let mut stream = wire::connect(to, Duration::from_secs(2))?;
        let asked = "GET /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        std::io::Write::write_all(&mut stream, asked.as_bytes())?;
        streams.push(stream);
    }
    pass(Duration::from_secs(3));
    let page = site.page_ms("unread", Duration::from_secs(5))?;
    finding.expect(
        page.is_some_and(|ms| ms <= PAGE_MS_MAX),
        format!("a page took {page:?} ms"),
    );
    let (most, now) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!("24 unread: {most} MiB at most, {now} MiB now"));
    finding.expect(most <= MEMORY_MIB_MAX, format!("memory reached {most} MiB"));
    drop(streams);
    Ok(())
}
