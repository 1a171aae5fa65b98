//! What is refused at the door: whether anybody is told, and whether it drives out what was taken.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use xtask::wait;

use super::probe::memory_mib;
use super::site::{MEMORY_MIB_MAX, PAGE_MS_MAX, Site};
use super::{Attack, Finding, Settings, pass};
use crate::chaos::random::Random;
use crate::now_ms;
use crate::shop::order;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "bad-lines",
        done: "hundreds of thousands of lines that are no events",
        expected: "each is counted by a metric and a line of the log tells of them; a warning stands; memory <= 1 GiB; a page within 2 s",
        on_kafka: true,
        in_short: true,
        play: bad_lines,
    },
    Attack {
        name: "no-room",
        done: "less is free on the disk than log.reserve, and somebody sends",
        expected: "507, /-/ready answers 503 and names the disk, a metric counts what was refused, somebody is paged",
        on_kafka: false,
        in_short: true,
        play: no_room,
    },
    Attack {
        name: "garbage-evicts",
        done: "log.bytes_max = 64MiB, real orders, then a million bad lines",
        expected: "every real order is still in the log",
        on_kafka: false,
        in_short: false,
        play: garbage_evicts,
    },
];

/// How long the daemon may take to bring its log below its bound.
const DROPPED_WITHIN: Duration = Duration::from_secs(75);
const LINES_AT_ONCE: usize = 20_000;

/// Lines that nobody can take, each another one.
fn garbage(from: usize, lines: usize) -> String {
    let line = |number| {
        format!("{{\"meta\":{{\"event_id\":\"bad-{number}\",\"source\":\"erp\"}},\"ordr\":{{}}}}\n")
    };
    (from..from + lines).map(line).collect()
}

/// Lines that nobody can take, and that packing makes no smaller.
fn noise(random: &mut Random, lines: usize) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const NUMBERS: usize = 32;
    let mut text = String::with_capacity(lines * (NUMBERS * 10 + 12));
    for _ in 0..lines {
        text.push_str("{\"noise\":\"");
        for _ in 0..NUMBERS {
            let number = random.number();
            let signs = (0..10).map(|at| SIGNS[(number >> (at * 6)) as usize % SIGNS.len()]);
            text.extend(signs.map(char::from));
        }
        text.push_str("\"}\n");
    }
    text
}

fn send_garbage(site: &Site, lines: usize) -> Result<u64> {
    let mut rejected = 0;
    for from in (0..lines).step_by(LINES_AT_ONCE) {
        let taken = site.send_body(garbage(from, LINES_AT_ONCE).as_bytes(), &[])?;
        rejected += taken.rejected;
    }
    Ok(rejected)
}

/// Every counter of the daemon, over all its labels.
fn counters(site: &Site) -> Result<BTreeMap<String, f64>> {
    let text = site.daemon()?.get("/metrics")?.body;
    let mut counters = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("fenghuo_")) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let value = line
            .rsplit_once(' ')
            .and_then(|(_, value)| value.parse::<f64>().ok());
        if name.ends_with("_total") {
            *counters.entry(name.to_owned()).or_default() += value.unwrap_or(0.0);
        }
    }
    Ok(counters)
}

fn bad_lines(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut site = Site::running(settings, "bad-lines", "")?;
    let rejected = send_garbage(&site, settings.pick(100_000, 400_000))?;
    let counted = || {
        let counters = counters(&site).ok()?;
        counters.into_iter().find(|(name, count)| {
            let is_it = ["reject", "refus", "letter", "intake"].iter();
            is_it.clone().any(|word| name.contains(word)) && *count >= rejected as f64
        })
    };
    let metric = wait::until("the metric", Duration::from_secs(10), counted);
    finding.measure(format!(
        "{rejected} rejected, metric {:?}",
        metric.as_ref().ok()
    ));
    finding.expect(
        metric.is_ok(),
        "no metric counts what was rejected at the door",
    );
    let words = ["letter", "reject", "refus"];
    let warned = wait::until("the condition", Duration::from_secs(10), || {
        site.ready_names(&words)
            .or_else(|| site.metric_names("fenghuo_condition", &words))
            .or_else(|| site.metric_names("fenghuo_alerts", &words))
    });
    finding.expect(warned.is_ok(), "no condition tells of what was rejected");
    let page = site.page_ms("after", Duration::from_secs(8))?;
    finding.expect(
        page.is_some_and(|ms| ms <= PAGE_MS_MAX),
        format!("a page after it took {page:?} ms"),
    );
    let (most, _) = memory_mib(site.daemon()?.id())?;
    finding.measure(format!("page {page:?} ms, {most} MiB"));
    finding.expect(most <= MEMORY_MIB_MAX, format!("memory reached {most} MiB"));
    let (_, log) = site.stop()?;
    let told = log.lines().find(|line| {
        let line = line.to_lowercase();
        line.contains("warn") && words.iter().any(|word| line.contains(word))
    });
    finding.expect(
        told.is_some(),
        "no line of the log tells of what was rejected",
    );
    Ok(finding)
}

fn no_room(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut site = Site::new(settings, "no-room")?;
    // No disk has that much left.
    site.configure("log.reserve = \"1048576MiB\"\n", &site.pager_alone())?;
    site.start_unready()?;
    let mut status = 0;
    for _ in 0..50 {
        status = site.send_body(b"{}\n", &[])?.status;
    }
    finding.measure(format!("answered {status}"));
    finding.expect(status == 507, format!("answered {status}"));
    let words = ["disk", "room", "space"];
    let ready = wait::until("it to be told", Duration::from_secs(10), || {
        site.ready_names(&words)
    });
    finding.measure(format!("told {}", ready.as_deref().unwrap_or("nothing")));
    finding.expect(
        ready.is_ok_and(|told| told.starts_with("503")),
        "/-/ready does not answer 503 and name the disk",
    );
    let before = counters(&site)?;
    for _ in 0..50 {
        site.send_body(b"{}\n", &[])?;
    }
    let after = counters(&site)?;
    let metric = after.iter().find(|(name, count)| {
        let is_about = ["refus", "reject"].iter().any(|word| name.contains(word));
        is_about && **count >= before.get(*name).unwrap_or(&0.0) + 50.0
    });
    finding.measure(format!("counted by {metric:?}"));
    finding.expect(metric.is_some(), "no metric counts what was refused");
    let paged = site.pager.wait_for("fenghuo.", Duration::from_secs(10));
    finding.expect(paged.is_some(), "nobody was paged");
    Ok(finding)
}

fn garbage_evicts(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut site = Site::running(settings, "garbage-evicts", "log.bytes_max = \"64MiB\"\n")?;
    let orders: usize = settings.pick(20_000, 66_000);
    let mut accepted = 0;
    for from in (0..orders).step_by(2_000) {
        let at_ms = now_ms();
        let events: Vec<Value> = (from..from + 2_000)
            .map(|number| {
                order(
                    &format!("real-{number}"),
                    &format!("s-{}", number % 50),
                    5_000,
                    at_ms,
                )
            })
            .collect();
        accepted += site.send(&events)?.accepted;
    }
    let mut random = Random::new(settings.seed);
    let mut rejected = 0;
    for _ in (0..settings.pick(300_000, 1_000_000)).step_by(LINES_AT_ONCE) {
        let body = noise(&mut random, LINES_AT_ONCE);
        rejected += site.send_body(body.as_bytes(), &[])?.rejected;
    }
    let page = site.page_ms("after", Duration::from_secs(20))?;
    // The daemon drops old records once a minute.
    pass(DROPPED_WITHIN);
    site.stop()?;
    let dumped = site
        .installation
        .done(["log", "dump", "--topic", "shop.orders"])?;
    let text = String::from_utf8_lossy(&dumped.stdout);
    let kept = text.lines().filter(|line| line.contains("real-")).count() as u64;
    finding.measure(format!(
        "{accepted} orders accepted, {rejected} lines rejected, {kept} orders kept; page {page:?} ms"
    ));
    finding.expect(
        kept == accepted,
        format!("{kept} of {accepted} orders are left"),
    );
    Ok(finding)
}
