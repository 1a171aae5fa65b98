//! A terminal that stopped: standard output or standard error that nobody reads.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::wait;

use super::probe::Probe;
use super::receivers::below_floor;
use super::site::{HEALTH_MS_MAX, PAGE_MS_MAX, Site, route};
use super::{Attack, Finding, Settings, wire};
use crate::http;
use crate::now_ms;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "blocked-stdout",
        done: "pages are lines on a standard output that nobody reads, until it is full",
        expected: "health p99 <= 100 ms, pages of another channel p99 <= 2 s, and SIGTERM ends it within its deadline + 2 s",
        on_kafka: true,
        in_short: true,
        play: blocked_stdout,
    },
    Attack {
        name: "blocked-stderr",
        done: "--log debug writes to a standard error that nobody reads, until it is full",
        expected: "the same",
        on_kafka: true,
        in_short: false,
        play: blocked_stderr,
    },
];

/// The deadline of shutdown that is configured, and what may come on top.
const DEADLINE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(2);
const ASKED_WITHIN: Duration = Duration::from_secs(3);

/// A daemon whose outputs are pipes that nobody reads. It is killed with this value.
struct Unread(Child);

impl Unread {
    fn has_ended_within(&mut self, within: Duration) -> bool {
        let child = &mut self.0;
        wait::until("it to end", within, || child.try_wait().transpose()).is_ok()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Where it has ended by itself there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn blocked_stdout(settings: &Settings) -> Result<Finding> {
    blocked(
        settings,
        "blocked-stdout",
        &["run", "--config", "fenghuo.toml"],
    )
}

fn blocked_stderr(settings: &Settings) -> Result<Finding> {
    let arguments = ["--log", "debug", "run", "--config", "fenghuo.toml"];
    blocked(settings, "blocked-stderr", &arguments)
}

fn blocked(settings: &Settings, name: &str, arguments: &[&str]) -> Result<Finding> {
    let mut finding = Finding::default();
    let site = Site::new(settings, name)?;
    let log =
        "[[channel]]\nname = \"lines\"\ntype = \"log\"\nrate_per_minute = 60000\nburst = 10000\n";
    let tables = format!(
        "[shutdown]\ndeadline = \"{}s\"\n{log}{}{}",
        DEADLINE.as_secs(),
        route("entity = { sku = \"noise-*\" }", "lines"),
        site.pager_alone()
    );
    site.configure("", &tables)?;
    let child = site
        .installation
        .fenghuo(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting fenghuo")?;
    let mut daemon = Unread(child);
    let to = site.address()?;
    wait::until("the daemon to be ready", Duration::from_secs(60), || {
        (wire::get(to, "/-/ready", ASKED_WITHIN).status == 200).then_some(())
    })?;
    let probe = Probe::start(to)?;
    // 64 KiB of pipe take some 600 lines of pages.
    for part in below_floor("noise", settings.pick(1_500, 4_000)).chunks(1_000) {
        let body: String = part.iter().map(|event| format!("{event}\n")).collect();
        wire::exchange(to, &wire::post_bytes("", body.as_bytes()), ASKED_WITHIN * 3);
    }
    let mut pages = Vec::new();
    for number in 0..10 {
        let sku = format!("heard-{number}");
        let events = below_floor(&sku, 1);
        let body: String = events.iter().map(|event| format!("{event}\n")).collect();
        let began_ms = now_ms();
        let url = format!("http://{to}/api/v1/events");
        // A daemon that hangs does not answer, which is what is measured.
        let _ = http::post(&url, &[("content-type", "application/x-ndjson")], body);
        let came = site.pager.wait_for(&format!("\"{sku}-0\""), ASKED_WITHIN);
        pages.push(came.map_or(60_000, |at_ms| (at_ms - began_ms).max(0) as u64));
        if pages.iter().filter(|&&ms| ms == 60_000).count() == 2 {
            break;
        }
    }
    let pages = super::probe::Times::new(pages);
    let health = probe.finish();
    finding.measure(format!("health {health}, pages {pages}"));
    finding.expect(
        health.percentile(99) <= HEALTH_MS_MAX,
        format!("health took {health}"),
    );
    finding.expect(
        pages.percentile(99) <= PAGE_MS_MAX,
        format!("pages of another channel took {pages} (60000 is never)"),
    );
    let asked = Instant::now();
    let id = daemon.0.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status()?;
    let ended = daemon.has_ended_within(DEADLINE + SLACK);
    finding.measure(format!(
        "SIGTERM took {:.1} s",
        asked.elapsed().as_secs_f64()
    ));
    finding.expect(ended, "SIGTERM did not end it within its deadline + 2 s");
    Ok(finding)
}
